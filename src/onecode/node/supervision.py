"""Child processes: started, watched, started again when they die, ended when told. Only what was started here."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from onecode.errors import Misconfigured

HEALTHY_S = 30.0  # a child that ran so long starts again without delay

log = logging.getLogger(__name__)


class Child:
    """One process that is to run for as long as `keep` does.

    A child says that it is ready with a line of JSON on its output. It is started again when it ends, after a delay
    that doubles each time; one that ends with the exit code of `Misconfigured` is not: its operator must act.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        delays_ms: tuple[int, int],
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self._arguments = arguments
        self._delays_ms = delays_ms
        self._before = before
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep(self) -> None:
        """Start the process, again and again, until `stop`. Raises `Misconfigured` if it says that it cannot work."""
        delay_ms, delay_ms_max = self._delays_ms
        loop = asyncio.get_running_loop()
        while not self._stopping:
            if self._before is not None:
                await self._before()
            started_s = loop.time()
            code = await self._run_once()
            if self._stopping:
                return
            if code == Misconfigured.exit_code:
                raise Misconfigured("node.child", f"the node's {self.name} cannot work: see its message above")
            if loop.time() - started_s > HEALTHY_S:
                delay_ms = self._delays_ms[0]
            log.warning("the node's %s ended with code %s; starting it again in %d ms", self.name, code, delay_ms)
            await asyncio.sleep(delay_ms / 1000)
            delay_ms = min(2 * delay_ms, delay_ms_max)

    async def _run_once(self) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a key press in the terminal reaches the supervisor alone
        )
        try:
            if process.stdout is not None:
                async for line in process.stdout:
                    if _says_ready(line):
                        self.ready.set()
                        self._on_change()
            return await process.wait()
        finally:
            self.ready.clear()
            if process.returncode is None:  # cancelled
                with suppress(ProcessLookupError):
                    process.kill()

    async def stop(self, grace_ms: int) -> None:
        """End the process: asked first, then forced."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace_ms / 1000)
        except TimeoutError:
            log.warning("the node's %s did not end when asked; ending it", self.name)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _says_ready(line: bytes) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("ready") is True
