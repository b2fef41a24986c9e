"""One request and its answer, with one deadline for all of it: a server that trickles holds nobody.

The client's own timeout is for each connect, read and write, and starts anew with every byte; so a timer ends the
connection itself when the exchange's time is over. Looking up a name is bounded by the resolver, not here.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import httpx

from onecode.errors import Unreachable

CONNECTED = "connection.connect_tcp.complete"  # httpcore's name of the event, in the request's extension `trace`


class _Deadline:
    """Ends the connections of one exchange when its time is over."""

    def __init__(self, timeout_ms: int) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(timeout_ms / 1000, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for kept in self._sockets:
                kept.close()
            self._sockets.clear()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Keep a second handle of a new connection: it stays valid when TLS takes the first one over."""
        if event != CONNECTED:
            return
        with self._lock:
            self._sockets.append(info["return_value"].get_extra_info("socket").dup())
            if self.is_over:
                self._shut()

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            self._shut()

    def _shut(self) -> None:
        for kept in self._sockets:
            try:
                kept.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side was faster
                continue


def exchange(client: httpx.Client, request: httpx.Request, timeout_ms: int, bytes_max: int | None) -> tuple[int, bytes]:
    """Status and body of the answer; without `bytes_max` the body is not read. Redirects are not followed.

    The request takes a connection of its own. Raises `Unreachable` where the answer is not there in time, is larger
    than `bytes_max` or compressed; `httpx.HTTPError` for all else that keeps it from arriving.
    """
    data = bytearray()
    with _Deadline(timeout_ms) as deadline:
        request.headers["connection"] = "close"  # a connection that was kept would be unknown to the deadline
        request.headers["accept-encoding"] = "identity"
        request.extensions = {**request.extensions, "trace": deadline.trace}
        try:
            response = client.send(request, stream=True, follow_redirects=False)
            try:
                if bytes_max is not None:
                    if response.headers.get("content-encoding", "identity") != "identity":
                        raise Unreachable("http.answer_encoding", "the answer is compressed, which was not asked for")
                    for piece in response.iter_bytes():
                        data += piece
                        if len(data) > bytes_max:
                            raise Unreachable("http.answer_size", "the answer is too large")
            finally:
                response.close()
        except httpx.HTTPError as error:
            if not deadline.is_over:
                raise
            raise Unreachable("http.deadline", "the answer was not there in time") from error
        if deadline.is_over:  # a body that ends with its connection looks whole
            raise Unreachable("http.deadline", "the answer was not there in time")
    return response.status_code, bytes(data)
