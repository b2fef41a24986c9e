"""Child processes: what dies or hangs is started again, what cannot work is not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from onecode.errors import Misconfigured
from onecode.node.supervision import Child

pytestmark = pytest.mark.clock

BEATING = (
    "import time\nprint('{\"ready\": true}', flush=True)\nwhile True:\n  print('{}', flush=True); time.sleep(0.02)"
)
SILENT = "import time\nprint('{\"ready\": true}', flush=True)\ntime.sleep(60)"


def run(source: str, act: Callable[[Child], Awaitable[None]], hung_timeout_ms: int = 400) -> Counter[str]:
    counts: Counter[str] = Counter()

    async def main() -> None:
        def count(what: str, name: str) -> None:
            counts[what] += 1

        child = Child("worker", [sys.executable, "-c", source], (10, 50), hung_timeout_ms=hung_timeout_ms, count=count)
        keeping = asyncio.create_task(child.keep())
        try:
            await asyncio.wait_for(act(child), 20)
        finally:
            await child.stop(2_000)
            await asyncio.wait_for(keeping, 5)

    asyncio.run(main())
    return counts


async def started(child: Child) -> int:
    await child.ready.wait()
    assert child.pid is not None
    return child.pid


async def replaced(child: Child, pid: int) -> None:
    while child.pid in (None, pid) or not child.ready.is_set():
        await asyncio.sleep(0.01)


def test_a_stopped_child_is_ended_and_started_again() -> None:
    async def act(child: Child) -> None:
        pid = await started(child)
        await asyncio.sleep(0.8)
        assert child.pid == pid  # while it beats nothing happens to it
        os.kill(pid, signal.SIGSTOP)
        await replaced(child, pid)

    assert run(BEATING, act) == {"hung_total": 1, "restarts_total": 1}


def test_a_child_without_a_beat_hangs_unless_somebody_else_has_seen_it_move() -> None:
    async def act(child: Child) -> None:
        pid = await started(child)
        for _ in range(20):
            child.beat()
            await asyncio.sleep(0.04)
        assert child.pid == pid
        await replaced(child, pid)

    assert run(SILENT, act) == {"hung_total": 1, "restarts_total": 1}


def test_a_child_that_dies_is_started_again() -> None:
    async def act(child: Child) -> None:
        pid = await started(child)
        os.kill(pid, signal.SIGKILL)
        await replaced(child, pid)

    assert run(BEATING, act) == {"restarts_total": 1}


def test_a_child_that_cannot_work_is_not_started_again() -> None:
    async def main() -> None:
        arguments: list[Any] = [sys.executable, "-c", f"raise SystemExit({Misconfigured.exit_code})"]
        child = Child("worker", arguments, (10, 50), hung_timeout_ms=1_000)
        with pytest.raises(Misconfigured, match="cannot work"):
            await child.keep()

    asyncio.run(asyncio.wait_for(main(), 20))
