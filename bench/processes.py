"""Child processes of a measurement: started here, ready when they say so on one line of JSON, ended by their own id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

STOP_S = 8.0


class Child:
    """`python -m MODULE ARGUMENTS`, as a context: leaving it ends the process. log: where its messages go, to be shown
    if it is not ready."""

    def __init__(self, module: str, *arguments: str, quiet: bool = False, log: Path | None = None) -> None:
        self._log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else log.open("wb") if log is not None else None,
            text=True,
        )
        self.said: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self) -> dict[str, Any]:
        """The ready line."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            said = self._log.read_text("utf-8", "replace")[-2_000:] if self._log is not None else ""
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}\n{said}")
        self.said = json.loads(line)
        return self.said

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def write_private(path: Path, data: bytes) -> Path:
    """A file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    return path
