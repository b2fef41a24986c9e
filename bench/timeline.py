"""The steps of the engine's consensus as they happen, from its own event stream: where a transaction's time goes."""

from __future__ import annotations

import base64
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SUBSCRIBE = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"query": "tm.event='NewRoundStep'"}}
_TEXT, _CLOSE, _PING, _PONG, _MASKED, _LAST = 1, 8, 9, 10, 0x80, 0x80
SPANS = (
    ("sent to round begun: HTTP, writer, check, gossip", "sent", "propose"),
    ("proposal made, gossiped, checked", "propose", "prevote"),
    ("prevotes", "prevote", "precommit"),
    ("precommits: decided", "precommit", "commit"),
    ("executed, and timeout_commit", "commit", "next propose"),
    ("next block, empty, decided: its header proves", "next propose", "next commit"),
    ("header fetched, commit with fsync, answered", "next commit", "answered"),
)


def frame_bytes(payload: bytes, kind: int = _TEXT) -> bytes:
    """A WebSocket frame (RFC 6455, section 5.2) from a client: masked, here with zeros; up to 65,535 bytes."""
    size = len(payload)
    length = bytes((_MASKED | size,)) if size < 126 else bytes((_MASKED | 126,)) + size.to_bytes(2, "big")
    return bytes((_LAST | kind,)) + length + bytes(4) + payload


def parse_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Kind and payload of the first frame of a server, and the bytes behind it; None while it is not whole."""
    if len(data) < 2:
        return None
    size, at = data[1] & 0x7F, 2
    if size > 125:
        at = 4 if size == 126 else 10
        if len(data) < at:
            return None
        size = int.from_bytes(data[2:at], "big")
    if len(data) < at + size:
        return None
    return data[0] & 0x0F, data[at : at + size], data[at + size :]


class Steps:
    """When one engine entered each step of each height, in `time.perf_counter` seconds; the first round counts."""

    def __init__(self, rpc_port: int) -> None:
        self.seen: dict[tuple[int, str], float] = {}
        self._socket = socket.create_connection(("127.0.0.1", rpc_port))
        nonce = base64.b64encode(os.urandom(16)).decode("ascii")
        head = f"GET /websocket HTTP/1.1\r\nHost: 127.0.0.1:{rpc_port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self._socket.sendall(head.encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive()
        status, _, self._left = answer.partition(b"\r\n\r\n")
        if b" 101 " not in status.splitlines()[0]:
            raise RuntimeError(f"the engine gives no events: {status[:200]!r}")
        self._socket.sendall(frame_bytes(json.dumps(_SUBSCRIBE).encode("utf-8")))
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the engine closed its event stream")
        return data

    def _read(self) -> None:
        try:
            while True:
                found = parse_frame(self._left)
                if found is None:
                    self._left += self._receive()
                    continue
                kind, payload, self._left = found
                if kind == _CLOSE:
                    return
                if kind == _PING:
                    self._socket.sendall(frame_bytes(payload, _PONG))
                elif kind == _TEXT:
                    self._note(payload)
        except OSError:
            return

    def _note(self, payload: bytes) -> None:
        now_s = time.perf_counter()
        value = json.loads(payload).get("result", {}).get("data", {}).get("value", {})
        if "step" in value:
            name = str(value["step"]).removeprefix("RoundStep").lower()
            self.seen.setdefault((int(value["height"]), name), now_s)

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Timed:
    """One transaction: when it was sent and answered, in `time.perf_counter` seconds, and its height."""

    sent_s: float
    answered_s: float
    height: int


def spans_ms(seen: Mapping[tuple[int, str], float], sent: Sequence[Timed]) -> list[tuple[str, float]]:
    """The median of each span of what `Steps` has seen; transactions of which a step was not seen are left out."""
    found: list[list[float]] = []
    for one in sent:
        at = {"sent": one.sent_s, "answered": one.answered_s}
        for before, height in (("", one.height), ("next ", one.height + 1)):
            for name in ("propose", "prevote", "precommit", "commit"):
                when = seen.get((height, name))
                if when is not None:
                    at[before + name] = when
        if all(begin in at and end in at for _, begin, end in SPANS):
            found.append([1000 * (at[end] - at[begin]) for _, begin, end in SPANS])
    if not found:
        return []
    columns = zip(*found, strict=True)
    return [(name, statistics.median(times)) for (name, *_), times in zip(SPANS, columns, strict=True)]
