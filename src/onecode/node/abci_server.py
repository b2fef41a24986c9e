"""The application's end of the engine's socket: four connections (consensus, mempool, query, snapshot), one thread.

One thread, because the store's open write transaction belongs to one, and all four look at it. Answers are kept until
the engine asks for them with `Flush`. The engine ends when its application goes away, and the application when its
engine does: a supervisor starts both again, and the handshake replays what the application lacks.
"""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from onecode.errors import Malformed, Misconfigured, OnecodeError, Unreachable
from onecode.node.abci_messages import MESSAGE_BYTES_MAX, Method, exception, parse_request, read_uvarint, response

CONNECTIONS = 4
RECEIVE_BYTES = 256 << 10
SEND_TIMEOUT_S = 10.0
IDLE_S = 0.2


class AbciHandler(Protocol):
    """`onecode.node.abci_application.AbciApplication`."""

    def answer(self, method: int, message: bytes) -> bytes:
        """The response's message. Whatever it raises ends the server."""
        ...

    def idle(self) -> None:
        """Called when the engine has asked nothing for a while. Whatever it raises ends the server."""
        ...


class _Connection:
    """One stream of requests, and the responses that wait for `Flush`."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._received = bytearray()
        self._waiting: list[bytes] = []

    def receive(self) -> list[bytes]:
        """Requests that are whole; raises `Unreachable` when the engine has gone."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            raise Unreachable("abci.engine_gone", "the engine closed its connection: start it and the node again")
        self._received += data
        requests, at = [], 0
        while (found := read_uvarint(self._received, at)) is not None:
            size, begin = found
            if size > MESSAGE_BYTES_MAX:
                raise Malformed("abci.too_large", f"a message of the engine has {size} bytes")
            if begin + size > len(self._received):
                break
            at = begin + size
            requests.append(bytes(self._received[begin:at]))
        del self._received[:at]
        return requests

    def reply(self, framed: bytes, *, flush: bool) -> None:
        self._waiting.append(framed)
        if flush:
            data = b"".join(self._waiting)
            self._waiting.clear()
            try:
                self.socket.sendall(data)
            except OSError as error:
                raise Unreachable("abci.engine_gone", f"the engine does not take answers: {error}") from error


class AbciServer:
    """Serves one engine on a Unix socket, once. `serve` runs on the store's thread; `stop` from any."""

    def __init__(self, path: Path, handler: AbciHandler) -> None:
        """Listens when it returns; only this user may connect. `Misconfigured` if the socket cannot be made."""
        self._handler = handler
        self._selector = selectors.DefaultSelector()
        self._stopping, self._stopped = socket.socketpair()
        self._connections: list[_Connection] = []
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        old_mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
            self._listener.listen(CONNECTIONS)
        except OSError as error:
            self._listener.close()
            raise Misconfigured("abci.socket", f"cannot listen on {path}: {error}", field="abci_socket") from error
        finally:
            os.umask(old_mask)

    def stop(self) -> None:
        """Have `serve` return after the request at hand."""
        with suppress(OSError):
            self._stopping.send(b"x")

    def serve(self) -> None:
        """Answer until `stop`. Raises `Unreachable` when the engine goes away, and whatever the handler raises, after
        the engine was told."""
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._stopped, selectors.EVENT_READ, None)
        try:
            while True:
                ready = self._selector.select(IDLE_S)
                if not ready:
                    self._handler.idle()
                for key, _ in ready:
                    if key.fileobj is self._stopped:
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._answer(key.data)
        finally:
            self._close()

    def _accept(self) -> None:
        connected, _ = self._listener.accept()
        connected.settimeout(SEND_TIMEOUT_S)
        connection = _Connection(connected)
        self._connections.append(connection)
        self._selector.register(connected, selectors.EVENT_READ, connection)
        if len(self._connections) == CONNECTIONS:  # they are the engine's, and nobody else has to do here
            self._selector.unregister(self._listener)
            self._listener.close()

    def _answer(self, connection: _Connection) -> None:
        for request in connection.receive():
            method, message = parse_request(request)
            if method == Method.FLUSH:
                connection.reply(response(method, b""), flush=True)
                continue
            try:
                answer = self._handler.answer(method, message)
            except Exception as error:
                detail = str(error) if isinstance(error, OnecodeError) else "the application failed inside"
                with suppress(Unreachable):
                    connection.reply(exception(detail), flush=True)
                raise
            connection.reply(response(method, answer), flush=False)

    def _close(self) -> None:
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()
        for each in (self._listener, self._stopping, self._stopped):
            each.close()
