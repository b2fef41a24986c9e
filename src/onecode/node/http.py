"""A small HTTP/1.1 server: one protocol object a connection, no task a request.

A handler gets a request and a function to answer it with, now or later; an answer that comes after its client left is
dropped. Requests of one connection are answered in their order. Everything a client can make grow has a limit.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from onecode.node.buckets import Buckets
from onecode.node.connection import Connection, HttpLimits
from onecode.node.metrics import Meter
from onecode.node.routes import Handler

__all__ = ["Connection", "HttpLimits", "HttpServer"]


class HttpServer:
    """All connections of one process. `start`, then `stop`."""

    def __init__(self, handler: Handler, limits: HttpLimits, meter: Meter | None = None) -> None:
        self.handler = handler
        self.limits = limits
        self.meter = meter
        self.addresses: Counter[str] = Counter()  # connections of each
        self.buckets = Buckets(limits.address_requests_per_s, limits.address_burst)
        self.connections: set[Connection] = set()
        self.loop = asyncio.get_running_loop()
        self.stopping = False
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, sharing the port with the node's other workers; returns the port."""
        self._server = await self.loop.create_server(
            lambda: Connection(self), host, port, reuse_port=True, backlog=1024
        )
        self._sweep()
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_ms: int) -> None:
        """Take no more connections, let running requests end, then cut what is left."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        until = self.loop.time() + grace_ms / 1000
        for connection in list(self.connections):
            connection.close_when_idle()
        while self.connections and self.loop.time() < until:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)  # what is cut hears of it in the loop's next turn
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        for connection in list(self.connections):
            connection.check_time(self.loop.time())
        delay_s = min(1.0, self.limits.request_timeout_ms / 4000, self.limits.idle_timeout_ms / 4000)
        self._sweeper = self.loop.call_later(delay_s, self._sweep)
