"""Connections that a slow or loud client cannot hold: bounds that uvicorn alone does not set.

The head of a request must arrive within the request's time and fit into `header_bytes_max`; the body's time and size
are bounded where it is read (`http.py`). More requests at one time than `connections_max` are answered with 503.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from onecode.errors import Unreachable
from onecode.platform.http import problem_response

RETRY_AFTER_MS = 1_000


def bounded_protocol(head_timeout_ms: int) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1 protocol, which closes a connection whose next request's head takes too long to arrive."""

    class BoundedProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._forget()

        def _watch(self) -> None:
            """The clock runs while a head is awaited, from the end of the request before."""
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(head_timeout_ms / 1000, self._close)

        def _forget(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _close(self) -> None:
            self._deadline = None
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

    return BoundedProtocol


class Bounded:
    """The application, for at most `requests_max` requests at one time."""

    def __init__(self, app: ASGIApp, requests_max: int) -> None:
        self._app = app
        self._free = requests_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if self._free <= 0:
            error = Unreachable("http.busy", "too many requests at one time: try again", retry_after_ms=RETRY_AFTER_MS)
            return await problem_response(error)(scope, receive, send)
        self._free -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1
