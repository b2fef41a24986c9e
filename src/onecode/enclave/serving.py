"""What the enclave's processes do with frames: the parent all but queries, a worker headers and queries."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from onecode.attest.release import SealedGrant
from onecode.enclave.core import Enclave
from onecode.enclave.frames import (
    EnclaveQuery,
    EvidenceRequest,
    FrameKind,
    HeaderUpdate,
    HeldGrant,
    PlatformsPart,
    Refusal,
    pack,
    unpack,
)
from onecode.errors import Malformed, OnecodeError
from onecode.host.clock import now_ms
from onecode.query.messages import HeaderView
from onecode.schema import parse

Handler = Callable[[int, bytes], bytes]
ACK = b"+"


def control_handler(enclave: Enclave, workers: Sequence[socket.socket]) -> Handler:
    """The parent's: headers, status, evidence, grants. A grant is answered when every worker has its keys."""

    def handle(kind: int, payload: bytes) -> bytes:
        if kind == FrameKind.HEADER:
            enclave.accept_header(parse(HeaderUpdate, payload, path="frame"), now_ms())
            return b""
        if kind == FrameKind.BETWEEN:
            enclave.accept_between(parse(HeaderView, payload, path="frame"), now_ms())
            return b""
        if kind == FrameKind.PLATFORMS:
            enclave.accept_platforms(parse(PlatformsPart, payload, path="frame"))
            return b""
        if kind == FrameKind.STATUS:
            return enclave.status().encoded()
        if kind == FrameKind.EVIDENCE:
            return enclave.make_evidence(parse(EvidenceRequest, payload, path="frame"), now_ms()).encoded()
        if kind == FrameKind.GRANT:
            held = enclave.accept_grant(parse(SealedGrant, payload, path="frame"), now_ms())
            for worker in workers:
                _hand_over(worker, held.encoded())
            return b""
        raise Malformed("frame.kind", f"frame kind {kind} is not for this socket of the enclave", field="kind")

    return handle


def _hand_over(worker: socket.socket, held: bytes) -> None:
    """Give a worker its keys. One that does not take them would answer wrongly for ever: then all begin again."""
    try:
        worker.sendall(pack(0, FrameKind.HOLD, held))
        taken = worker.recv(1) == ACK
    except OSError:
        taken = False
    if not taken:
        os._exit(1)


def worker_handler(enclave: Enclave, tell_parent: Callable[[bytes], None]) -> Handler:
    """A worker's: queries, and headers, which it verifies itself and tells the parent of.

    `tell_parent` does not block: the parent may be waiting for this worker.
    """

    def handle(kind: int, payload: bytes) -> bytes:
        if kind == FrameKind.QUERY:
            return enclave.answer(parse(EnclaveQuery, payload, path="frame"), now_ms())
        if kind == FrameKind.HEADER:
            enclave.accept_header(parse(HeaderUpdate, payload, path="frame"), now_ms())
            tell_parent(pack(0, FrameKind.HEADER, payload))
            return b""
        if kind == FrameKind.BETWEEN:
            enclave.accept_between(parse(HeaderView, payload, path="frame"), now_ms())
            tell_parent(pack(0, FrameKind.BETWEEN, payload))
            return b""
        if kind == FrameKind.PLATFORMS:
            enclave.accept_platforms(parse(PlatformsPart, payload, path="frame"))
            tell_parent(pack(0, FrameKind.PLATFORMS, payload))
            return b""
        if kind == FrameKind.STATUS:
            return enclave.status().encoded()
        raise Malformed("frame.kind", f"frame kind {kind} is not for this socket of the enclave", field="kind")

    return handle


def reply(handle: Handler, kind: int, payload: bytes) -> tuple[FrameKind, bytes]:
    """One frame's reply. Every error goes back as a `Refusal`; an unexpected one without its text."""
    try:
        return FrameKind.OK, handle(kind, payload)
    except OnecodeError as error:
        refusal = Refusal(branch=error.branch, code=error.code, detail=error.message[:300])
    except Exception as error:  # the text of an unexpected error might hold what must not leave
        refusal = Refusal(branch="Misconfigured", code="enclave.internal", detail=type(error).__name__)
    return FrameKind.ERROR, refusal.encoded()


class _Frames(asyncio.Protocol):
    """Frames of one connection; `answer` gives the bytes that go back, and all of one read leave in one write.

    `lost` is called when the other side is gone.
    """

    def __init__(self, answer: Callable[[int, int, bytes], bytes], lost: Callable[[], None] | None = None) -> None:
        self._answer = answer
        self._lost = lost
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        try:
            frames, self._buffer = unpack(self._buffer + data if self._buffer else data)
        except OnecodeError:
            transport.abort()
            return
        replies = b"".join([self._answer(number, kind, payload) for number, kind, payload in frames])
        if replies and not transport.is_closing():
            transport.write(replies)

    def connection_lost(self, error: Exception | None) -> None:
        if self._lost is not None:
            self._lost()


def _host(handle: Handler) -> Callable[[], _Frames]:
    """Connections of the host: each frame is answered."""
    return lambda: _Frames(lambda number, kind, payload: pack(number, *reply(handle, kind, payload)))


async def serve_worker(enclave: Enclave, listener: socket.socket, orders: socket.socket, news: socket.socket) -> None:
    """Answer queries until the process is ended. `orders` brings grants; headers go on to the parent by `news`."""

    def hold(_: int, __: int, payload: bytes) -> bytes:
        enclave.hold(parse(HeldGrant, payload, path="frame"))
        return ACK

    loop = asyncio.get_running_loop()
    to_parent, _ = await loop.create_unix_connection(asyncio.Protocol, sock=news)
    server = await loop.create_unix_server(_host(worker_handler(enclave, to_parent.write)), sock=listener)
    try:  # a server that nothing holds is closed by the next garbage collection
        await loop.create_unix_connection(lambda: _Frames(hold), sock=orders)
        await loop.create_future()
    finally:
        server.close()


async def serve_parent(
    enclave: Enclave, listener: socket.socket, orders: Sequence[socket.socket], news: Sequence[socket.socket]
) -> int:
    """Serve the control socket until told to stop (0), or until a worker ends (1)."""

    handle = control_handler(enclave, orders)

    def follow(_: int, kind: int, payload: bytes) -> bytes:
        with suppress(OnecodeError):  # another worker may have brought a newer one
            handle(kind, payload)
        return b""

    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(code: int) -> None:
        if not stopped.done():
            stopped.set_result(code)

    for one in news:
        await loop.create_unix_connection(lambda: _Frames(follow, lambda: stop(1)), sock=one)
    server = await loop.create_unix_server(_host(handle), sock=listener)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, 0)
    sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), "simulated": True}) + "\n")
    sys.stdout.flush()
    try:
        return await stopped
    finally:
        server.close()
