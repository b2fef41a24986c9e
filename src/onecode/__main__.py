"""`python -m onecode`: the same as the command `onecode`."""

from __future__ import annotations

import sys

from onecode.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
