"""What every process of a node does alike: end with its parent, say when it is ready, stop when told."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1
BEAT_S = 0.5


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that happens. `parent` is the parent's id."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit(1)


async def keep_beating() -> None:
    """Show the parent for ever that this process moves. A parent that does not read loses only these."""
    os.set_blocking(sys.stdout.fileno(), False)
    while True:
        with suppress(BlockingIOError):
            os.write(sys.stdout.fileno(), b"{}\n")
        await asyncio.sleep(BEAT_S)


def say_ready(**more: Any) -> None:
    """Tell whoever reads this process's output that it works now: one line of JSON."""
    sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), **more}) + "\n")
    sys.stdout.flush()


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event
