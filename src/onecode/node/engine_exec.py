"""Becomes the engine, after asking the kernel to end it with its parent.

Usage: `python -m onecode.node.engine_exec PARENT BINARY ARGUMENTS`, PARENT being the process id of who starts it.
A step of its own, since a process with threads must run nothing between fork and exec.
"""

from __future__ import annotations

import os
import sys

from onecode.node.child import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 # the engine, named by the node
