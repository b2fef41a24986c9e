"""When a snapshot is made, and by whom: the writer's end of the process that makes them.

The height is chosen by the blocks' own times, so that all nodes with the same interval make the same snapshots, and one
who joins can fetch its chunks from several. The maker looks at the store while that height is the newest: it has until
the next block but one is decided, and the writer waits for its look, at most `LOOK_S`, and never for its work.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from onecode.node.snapshots import Shelf
from onecode.node.store import StoreConfig
from onecode.registry.chunks import CHUNK_BYTES

LOOK_S = 1.0
MAKE_S = 7_200.0  # what the maker looks at is not used again: the store must not grow for ever

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """directory: where snapshots lie. interval_ms: of block time between two; 0 makes none. kept: how many stay.
    chunk_bytes: as on every other node, or the snapshots are not the same."""

    directory: Path
    interval_ms: int
    kept: int = 2
    chunk_bytes: int = CHUNK_BYTES


class SnapshotMaker:
    """One process that makes snapshots of one store, one after another. All calls on one thread; `close` ends it."""

    def __init__(self, options: SnapshotOptions, store_path: Path, store_config: StoreConfig) -> None:
        self._options = options
        self.shelf = Shelf(options.directory)
        self._command = [
            *(sys.executable, "-m", "onecode.node.snapshot_making", str(store_path), str(store_config.map_bytes)),
            *(str(options.directory), str(options.kept), str(options.chunk_bytes), str(os.getpid())),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_s: float | None = None  # since when the maker has not looked
        self._begun_s = 0.0
        self._busy = False
        self._said = b""

    def start(self) -> None:
        """Start the process, so that it is ready when a height is due. Where none are made, none are kept: the engine
        would keep all blocks above them."""
        if not self._options.interval_ms:
            self.shelf.clear_unfinished()
            for height in self.shelf.heights():
                self.shelf.remove(height)
        elif self._process is None or self._process.poll() is not None:
            self._busy, self._asked_s, self._said = False, None, b""
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def committed(self, height: int, before_ms: int, time_ms: int) -> None:
        """`height` is now the newest that can be read: ask for a snapshot if its time is in another interval than that
        of the block before it."""
        interval_ms = self._options.interval_ms
        if not interval_ms or before_ms // interval_ms == time_ms // interval_ms:
            return
        self._listen(0)
        if self._process is None or self._process.poll() is not None:
            log.warning("the process that makes snapshots has ended: it is started again")
            self.start()
        if self._busy or self._process is None or self._process.stdin is None:
            log.warning("no snapshot of height %d: the last one is still being made", height)
            return
        try:
            self._process.stdin.write(b"%d\n" % height)
        except OSError as error:
            log.warning("no snapshot of height %d: %s", height, error)
            return
        self._busy, self._asked_s = True, time.monotonic()
        self._begun_s = self._asked_s

    def settle(self) -> None:
        """Before the next commit: wait until the maker has looked at what it was asked for. One that takes longer than
        `MAKE_S` is ended."""
        while self._busy and self._listen(0):
            pass
        if self._busy and time.monotonic() - self._begun_s > MAKE_S:
            log.warning("a snapshot is not made in %d s: it is given up, so that the store does not grow", MAKE_S)
            self.close()
            self.start()
        while self._asked_s is not None:
            left_s = self._asked_s + LOOK_S - time.monotonic()
            if left_s <= 0 or not self._listen(left_s):
                log.warning("the process that makes snapshots did not look in time")
                self._asked_s = None

    def wait(self, timeout_s: float) -> None:
        """Wait until what was asked for is made, or has failed."""
        until_s = time.monotonic() + timeout_s
        while self._busy and time.monotonic() < until_s:
            self._listen(until_s - time.monotonic())

    def close(self) -> None:
        """End the process; what it has half made is removed when it starts again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def _listen(self, timeout_s: float) -> bool:
        """Take what the maker says; whether it said anything."""
        process = self._process
        if process is None or process.stdout is None or not select.select([process.stdout], [], [], timeout_s)[0]:
            return False
        said = os.read(process.stdout.fileno(), 4096)
        if not said:
            self._busy, self._asked_s = False, None
            return False
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "replace"))
        return True

    def _take(self, line: str) -> None:
        what, _, detail = line.partition(" ")
        if what == "open":
            self._asked_s = None
        else:
            self._busy = False
            log.log(logging.INFO if what == "made" else logging.WARNING, "snapshot: %s %s", what, detail)
