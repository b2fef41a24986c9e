"""The application's end of the engine's socket: four connections (consensus, mempool, query, snapshot), answered by one
thread, because the store's open write transaction belongs to one, and all four look at it.

A second thread only reads: an engine that cannot write, because the application executes, spins meanwhile on a timer
of 20 ns, which took seven tenths of its processor time in batches of 500 records (ADR 20). Answers are kept until the
engine asks for them with `Flush`. The engine ends when its application goes away, and the application when its
engine does: a supervisor starts both again, and the handshake replays what the application lacks.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from onecode.errors import Malformed, Misconfigured, OnecodeError, Unreachable
from onecode.node.abci_messages import MESSAGE_BYTES_MAX, Method, exception, parse_request, read_uvarint, response

CONNECTIONS = 4
RECEIVE_BYTES = 256 << 10
SEND_TIMEOUT_S = 10.0
IDLE_S = 0.2
PENDING_BYTES_MAX = 32 << 20  # read and not answered: a recheck sends the whole pool at once


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


class _Pending:
    """Requests that were read and not answered, in the order in which they came; bounded in bytes."""

    def __init__(self) -> None:
        self._requests: deque[tuple[_Connection, bytes] | Exception] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = threading.Condition()

    def put(self, connection: _Connection, requests: list[bytes]) -> None:
        """Add requests; returns once there is room for more."""
        with self._changed:
            self._requests.extend((connection, request) for request in requests)
            self._bytes += sum(map(len, requests))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._bytes <= PENDING_BYTES_MAX or self._ended)

    def fail(self, error: Exception) -> None:
        """Nothing more can be read: raised by `get` after all that came before."""
        with self._changed:
            self._requests.append(error)
            self._changed.notify_all()

    def end(self) -> None:
        """Forget what waits; from now on there is nothing to get, and always room."""
        with self._changed:
            self._requests.clear()
            self._ended = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return self._ended

    def get(self, timeout_s: float) -> tuple[_Connection, bytes] | None:
        """The next request; None if none has come in time, or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._ended, timeout_s)
            if not self._requests:
                return None
            found = self._requests.popleft()
            if isinstance(found, Exception):
                raise found
            self._bytes -= len(found[1])
            self._changed.notify_all()
            return found


class AbciServer:
    """Serves one engine on a Unix socket, once. `serve` runs on the store's thread; `stop` from any."""

    def __init__(self, path: Path, handler: AbciHandler) -> None:
        """Listens when it returns; only this user may connect. `Misconfigured` if the socket cannot be made."""
        self._handler = handler
        self._selector = selectors.DefaultSelector()
        self._stopping, self._stopped = socket.socketpair()
        self._connections: list[_Connection] = []
        self._pending = _Pending()
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
        reading = threading.Thread(target=self._read, name="abci reading", daemon=True)
        reading.start()
        try:
            while not self._pending.ended:
                found = self._pending.get(IDLE_S)
                if found is not None:
                    self._answer(*found)
                elif not self._pending.ended:
                    self._handler.idle()
        finally:
            self.stop()
            self._pending.end()
            reading.join()
            self._close()

    def _read(self) -> None:
        """The second thread: reads until `stop`, or until the engine goes away."""
        try:
            while not self._pending.ended:
                for key, _ in self._selector.select():
                    if key.fileobj is self._stopped:
                        self._pending.end()
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._pending.put(key.data, key.data.receive())
        except Exception as error:  # it is the serving thread that must end for it
            self._pending.fail(error)

    def _accept(self) -> None:
        connected, _ = self._listener.accept()
        connected.settimeout(SEND_TIMEOUT_S)
        connection = _Connection(connected)
        self._connections.append(connection)
        self._selector.register(connected, selectors.EVENT_READ, connection)
        if len(self._connections) == CONNECTIONS:  # they are the engine's, and nobody else has to do here
            self._selector.unregister(self._listener)
            self._listener.close()

    def _answer(self, connection: _Connection, request: bytes) -> None:
        method, message = parse_request(request)
        if method == Method.FLUSH:
            connection.reply(response(method, b""), flush=True)
            return
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
