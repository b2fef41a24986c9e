"""A streamed answer: parts that are sent as the client reads, so that nothing is kept for a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from onecode.errors import Unreachable


class Channel:
    """The server's end of one streamed answer. One coroutine writes to it."""

    def __init__(self, write: Callable[[bytes], None], *, chunked: bool) -> None:
        self._write = write
        self._chunked = chunked
        self._room = asyncio.Event()
        self._room.set()
        self._gone = False
        self.task: asyncio.Task[None] | None = None

    async def send(self, part: bytes) -> None:
        """Send a part that is not empty, once the client has read enough of those before; raises when it has left."""
        await self._room.wait()
        if self._gone:
            raise Unreachable("http.gone", "the client has left")
        self._write(b"%x\r\n%s\r\n" % (len(part), part) if self._chunked else part)

    def end(self) -> None:
        """Tell the client that the answer is whole."""
        if self._chunked and not self._gone:
            self._write(b"0\r\n\r\n")

    # --- the connection's calls

    def pause(self) -> None:
        self._room.clear()

    def resume(self) -> None:
        self._room.set()

    def lose(self) -> None:
        """The client has left."""
        self._gone = True
        self._room.set()
        self.close()

    def close(self) -> None:
        """End the answer as soon as its writer is interrupted."""
        if self.task is not None:
            self.task.cancel()
