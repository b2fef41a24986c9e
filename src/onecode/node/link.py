"""A connection to another process of the node over a Unix socket: framed requests out, replies matched by id.

All frames of one turn of the loop leave in one write. The connection comes back by itself; what was asked on a broken
one fails as `Unreachable`. Frames: `enclave/frames.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onecode.enclave.frames import FrameKind, Refusal, unpack
from onecode.errors import BRANCHES, Misconfigured, OnecodeError, Unreachable
from onecode.schema import parse
from onecode.wire import FRAME_BYTES_MAX

RECONNECT_S_MIN, RECONNECT_S_MAX = 0.05, 1.0

Done = Callable[[bytes | OnecodeError], None]

log = logging.getLogger(__name__)


def frame_bytes(request_id: int, kind: int, payload: bytes) -> bytes:
    """One frame, as `enclave.frames.pack` lays it out, for any kind."""
    if len(payload) + 1 > FRAME_BYTES_MAX:
        raise Misconfigured("node.frame", f"{len(payload)} bytes are too many for a frame between the node's processes")
    return b"%s%s%c%s" % ((len(payload) + 1).to_bytes(4, "big"), request_id.to_bytes(4, "big"), kind, payload)


def refusal_error(payload: bytes) -> OnecodeError:
    """The error that a frame of kind ERROR holds."""
    refusal = parse(Refusal, payload, path="refusal")
    kinds: dict[str, type[OnecodeError]] = {kind.branch: kind for kind in BRANCHES}
    return kinds.get(refusal.branch, Unreachable)(refusal.code, refusal.detail)


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """in_flight_max: requests without a reply. timeout_ms: how long a reply may take."""

    in_flight_max: int
    timeout_ms: int


class Link:
    """One connection, made again whenever it breaks. `down` is the error of everything asked meanwhile."""

    def __init__(
        self,
        path: Path,
        limits: LinkLimits,
        down: Callable[[], OnecodeError],
        on_up: Callable[[Link], None] | None = None,
    ) -> None:
        self._path = path
        self._limits = limits
        self._down = down
        self._on_up = on_up
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._waiting: dict[int, tuple[Done, float]] = {}  # by request id: whom to tell, until when
        self._next_id = 0
        self._task: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()

    @property
    def up(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Connect, and stay connected."""
        self._task = self._loop.create_task(self._keep())
        self._sweep()

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._transport is not None:
            self._transport.abort()
        self._fail_all()

    def send(self, kind: int, payload: bytes, done: Done) -> None:
        """Ask; `done` is called once, later, with the reply or the error. Raises `Unreachable` at once if it cannot."""
        if not self.up:
            raise self._down()
        if len(self._waiting) >= self._limits.in_flight_max:
            raise Unreachable("node.busy", "the node has all it can do: ask again or another one", retry_after_ms=1_000)
        self._next_id = request_id = (self._next_id + 1) & 0xFFFFFFFF
        frame = frame_bytes(request_id, kind, payload)
        self._waiting[request_id] = (done, self._loop.time() + self._limits.timeout_ms / 1000)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    async def call(self, kind: int, payload: bytes) -> bytes:
        """Ask and wait for the reply; its error is raised."""
        future: asyncio.Future[bytes] = self._loop.create_future()

        def done(reply: bytes | OnecodeError) -> None:
            if future.done():
                return
            if isinstance(reply, OnecodeError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.send(kind, payload, done)
        return await future

    # --- the connection

    async def _keep(self) -> None:
        delay_s = RECONNECT_S_MIN
        while True:
            try:
                self._lost.clear()
                await self._loop.create_unix_connection(lambda: _Protocol(self), str(self._path))
                delay_s = RECONNECT_S_MIN
                await self._lost.wait()
            except OSError:
                delay_s = min(2 * delay_s, RECONNECT_S_MAX)
            await asyncio.sleep(delay_s)

    def connected(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        if self._on_up is not None:
            self._on_up(self)

    def disconnected(self) -> None:
        self._transport = None
        self._fail_all()
        self._lost.set()

    def replied(self, request_id: int, kind: int, payload: bytes) -> None:
        waiting = self._waiting.pop(request_id, None)
        if waiting is None:
            return  # it came too late
        self._tell(waiting[0], payload if kind == FrameKind.OK else refusal_error(payload))

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _fail_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._out.clear()
        for done, _ in waiting.values():
            self._tell(done, self._down())

    def _tell(self, done: Done, reply: bytes | OnecodeError) -> None:
        try:
            done(reply)
        except Exception:  # one caller's fault must not cost the others the connection
            log.exception("a reply could not be handed on")

    def _sweep(self) -> None:
        now_s = self._loop.time()
        late = [request_id for request_id, (_, until) in self._waiting.items() if until < now_s]
        for request_id in late:
            done, _ = self._waiting.pop(request_id)
            self._tell(done, Unreachable("node.timeout", "a part of the node took too long: ask again or another one"))
        self._sweeper = self._loop.call_later(min(1.0, self._limits.timeout_ms / 4000), self._sweep)


class _Protocol(asyncio.Protocol):
    def __init__(self, link: Link) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._link.connected(transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        try:
            frames, self._buffer = unpack(self._buffer + data if self._buffer else data)
            for request_id, kind, payload in frames:
                self._link.replied(request_id, kind, payload)
        except OnecodeError as error:
            log.error("a process of this node sent what is no frame: %s", error)
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.disconnected()
