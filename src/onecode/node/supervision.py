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
        hung_timeout_ms: int,
        before: Callable[[], Awaitable[None]] | None = None,
        on_change: Callable[[], None] = lambda: None,
        count: Callable[[str, str], None] = lambda what, name: None,
    ) -> None:
        """hung_timeout_ms: how long a ready process may be without a beat before it is ended; whatever it writes to its
        output is one. `count` is called with `restarts_total` or `hung_total` and the name."""
        self.name = name
        self.ready = asyncio.Event()
        self._arguments = arguments
        self._delays_ms = delays_ms
        self._before = before
        self._on_change = on_change
        self._count = count
        self._hung_s = hung_timeout_ms / 1000
        self._beat_s = 0.0
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
            self._count("restarts_total", self.name)
            await asyncio.sleep(delay_ms / 1000)
            delay_ms = min(2 * delay_ms, delay_ms_max)

    async def _run_once(self) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a key press in the terminal reaches the supervisor alone
        )
        watching = asyncio.create_task(self._watch(process))
        try:
            if process.stdout is not None:
                async for line in process.stdout:
                    self.beat()
                    if _says_ready(line):
                        self.ready.set()
                        self._on_change()
            return await process.wait()
        finally:
            watching.cancel()
            self.ready.clear()
            if process.returncode is None:  # cancelled
                with suppress(ProcessLookupError):
                    process.kill()

    def beat(self) -> None:
        """The process has shown that it moves."""
        self._beat_s = asyncio.get_running_loop().time()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """End the process when it hangs: a reader of the store that stands still keeps pages that are never used again.
        Where this process itself was held up, nobody is judged by that time."""
        loop, tick_s = asyncio.get_running_loop(), self._hung_s / 10
        looked_s = loop.time()
        while True:
            await asyncio.sleep(tick_s)
            late_s = loop.time() - looked_s - tick_s
            looked_s = loop.time()
            if late_s > tick_s:
                self._beat_s = looked_s
            if self.ready.is_set() and not self._stopping and looked_s - self._beat_s > self._hung_s:
                log.warning("the node's %s does not move; ending it", self.name)
                self._count("hung_total", self.name)
                with suppress(ProcessLookupError):
                    process.kill()
                return

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
