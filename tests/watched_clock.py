"""Tells whether a test reads the time of day: by the program's one clock, or in a program that it starts."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from onecode.host import clock


class _Watched:
    """The module `time` for the one clock."""

    thread, reads = 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time_ns(self) -> int:
        self.reads += threading.get_ident() == self.thread  # what a server of other tests reads is not this test's
        return time.time_ns()


def _watch_children(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and str(arguments[0]) == sys.executable:
        _watched.reads += 1


_watched = _Watched()
clock.time = _watched  # type: ignore[assignment]
sys.addaudithook(_watch_children)


def begin() -> int:
    """A test begins on this thread; the number of reads before it."""
    _watched.thread = threading.get_ident()
    return _watched.reads


def reads() -> int:
    return _watched.reads
