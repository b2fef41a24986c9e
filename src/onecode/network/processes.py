"""Child processes that say on one line of JSON that they are ready, each with a log file; stopped by their own pid.

Start them from the main thread: the kernel ends some of them when the thread that started them ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from onecode.errors import Unreachable

STOP_GRACE_MS = 8_000
LOG_LINES_SHOWN = 3
LOG_BYTES_SHOWN = 4 * 1024  # of a log that may be as large as the disk
NO_PROXY = "127.0.0.1,localhost"  # the processes speak to each other directly, whatever the machine's proxy is


class Child:
    """One process of the network. `name` is for people and for the log file's name."""

    def __init__(self, name: str, module: str, config: Path, log: Path) -> None:
        """Start `python -m MODULE CONFIG`; everything it writes goes to `log`, the ready line too."""
        self.name = name
        self._log = log
        self._ready: Future[dict[str, Any]] = Future()
        with open(log, "ab", opener=_own) as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "onecode.network.child", str(os.getpid()), module, str(config)],
                env={**os.environ, "NO_PROXY": NO_PROXY},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a ctrl-C in the terminal reaches the parent alone, which stops them in order
            )
        threading.Thread(target=self._read, name=f"read-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self._process.poll()

    def wait_ready(self, until_s: float) -> dict[str, Any]:
        """The ready line; `Unreachable` if the process ends first or `until_s` (monotonic) passes."""
        try:
            return self._ready.result(max(0.0, until_s - time.monotonic()))
        except FutureTimeoutError:
            raise Unreachable(
                "network.not_ready", f"{self.name} was not ready in time; see {self._log}", field=self.name
            ) from None

    def send_stop(self) -> None:
        """Ask the process to end; `wait_stopped` follows."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait_stopped(self, until_s: float) -> None:
        """Wait for its end, and kill it if that comes not before `until_s` (monotonic)."""
        try:
            self._process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with stream, self._log.open("ab") as log:
            for line in stream:
                log.write(line)
                log.flush()
                self._accept(line)
        self._process.wait()
        self._settle(Unreachable("network.process_ended", f"{self.name} ended: {self._last_words()}", field=self.name))

    def _accept(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        if isinstance(said, dict) and said.get("ready") is True:
            self._settle(said)

    def _settle(self, outcome: dict[str, Any] | Unreachable) -> None:
        try:
            if isinstance(outcome, Unreachable):
                self._ready.set_exception(outcome)
            else:
                self._ready.set_result(outcome)
        except InvalidStateError:
            return  # it was ready before

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - LOG_BYTES_SHOWN))
                lines = log.read(LOG_BYTES_SHOWN).decode("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        said = " | ".join(lines[-LOG_LINES_SHOWN:])
        return f"exit code {self._process.poll()}: {said or 'it said nothing'} (all of it in {self._log})"


def _own(path: str, flags: int) -> int:
    """Open a file that only its owner may read where it is made."""
    return os.open(path, flags, 0o600)


def end_on_signals() -> None:
    """Let SIGINT and SIGTERM end this process as ctrl-C does, so that it stops its children; a shell may have SIGINT
    ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def stop_children(children: Iterable[Child], grace_ms: int = STOP_GRACE_MS) -> None:
    """Stop all at once and wait for all; what does not end within the grace is killed."""
    listed = list(children)
    for child in listed:
        child.send_stop()
    until_s = time.monotonic() + grace_ms / 1000
    for child in listed:
        child.wait_stopped(until_s)


def kill_tree(pid: int, timeout_ms: int = STOP_GRACE_MS) -> None:
    """kill -9 of a process that was started here and of all that it has started; returns when they are gone."""
    pids = [pid, *(child for child, _ in _descendants(pid))]
    for one in pids:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    until_s = time.monotonic() + timeout_ms / 1000
    while any(map(_runs, pids)):
        if time.monotonic() > until_s:
            raise Unreachable("network.not_killed", f"processes of {pid} do not end")
        time.sleep(0.01)


def node_processes(supervisor: int) -> dict[str, int]:
    """The processes of a node by what they are, told from how they were started."""
    found, workers, enclave_workers = {"supervisor": supervisor}, count(), count()
    for pid, parent in _descendants(supervisor):
        words = _command(pid)
        if parent == found.get("enclave"):
            found[f"enclave-worker-{next(enclave_workers)}"] = pid
        elif "onecode.enclave" in words:
            found["enclave"] = pid
        elif "writer" in words:
            found["writer"] = pid
        elif "worker" in words:
            found[f"worker-{next(workers)}"] = pid
        elif parent == found.get("writer"):
            found["engine"] = pid
    return found


def _descendants(pid: int) -> list[tuple[int, int]]:
    """All processes that this one has started, and they in turn, each with its parent; parents first."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _stat(int(stat.parent.name))
        if fields is not None:
            parents[int(stat.parent.name)] = int(fields[1])
    found = [(pid, 0)]
    for one, _ in found:
        found += sorted((child, parent) for child, parent in parents.items() if parent == one)
    return found[1:]


def _stat(pid: int) -> list[str] | None:
    """State, parent and what follows in /proc; None for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _runs(pid: int) -> bool:
    fields = _stat(pid)
    return fields is not None and fields[0] != "Z"


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", errors="replace").split("\0")
    except OSError:
        return []
