"""Links between a node's processes over real sockets: order, bounds, broken connections; and the enclave's port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from onecode.enclave.frames import EnclaveStatus, FrameKind, Refusal, pack, unpack
from onecode.errors import Declined, Misconfigured, OnecodeError, Unreachable
from onecode.node.enclave_port import EnclavePort
from onecode.node.link import Link, LinkLimits, frame_bytes, refusal_error
from onecode.node.view import Head
from onecode.proof.header import SignedHeader
from onecode.wire import FRAME_BYTES_MAX

Answer = Callable[[int, int, bytes], bytes | None]


class Peer:
    """The other process: answers frames as told, and can be stopped."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path, self.answer = path, answer
        self.reads: list[int] = []  # frames of each read
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        left = b""
        while data := await reader.read(1 << 20):
            frames, left = unpack(left + data)
            self.reads.append(len(frames))
            for frame in frames:
                reply = self.answer(*frame)
                if reply is not None:
                    writer.write(reply)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), 20)

    uvloop.run(bounded())


def down() -> OnecodeError:
    return Unreachable("test.down", "down")


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


def echo(request_id: int, kind: int, payload: bytes) -> bytes | None:
    return pack(request_id, FrameKind.OK, bytes((kind,)) + payload)


def test_requests_of_one_turn_leave_in_one_write(tmp_path: Path) -> None:
    async def main() -> None:
        peer = Peer(tmp_path / "s", echo)
        await peer.start()
        link = Link(peer.path, LinkLimits(100, 5_000), down)
        link.start()
        await until(lambda: link.up)
        replies = await asyncio.gather(*(link.call(FrameKind.QUERY, b"%d" % number) for number in range(50)))
        assert replies == [b"\x06%d" % number for number in range(50)]
        assert peer.reads == [50] and link.in_flight == 0
        await link.stop()
        await peer.stop()

    run(main)


def test_a_broken_connection_fails_what_waits_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        silent = Peer(tmp_path / "s", lambda *_: None)
        ups: list[Link] = []
        link = Link(silent.path, LinkLimits(100, 5_000), down, ups.append)
        with pytest.raises(Unreachable, match="down"):
            link.send(FrameKind.QUERY, b"", lambda _: None)
        link.start()
        await asyncio.sleep(0.05)
        assert not link.up
        await silent.start()
        await until(lambda: link.up)
        waiting = [asyncio.ensure_future(link.call(FrameKind.QUERY, b"")) for _ in range(3)]
        await asyncio.sleep(0.05)
        await silent.stop()
        for one in waiting:
            with pytest.raises(Unreachable, match="down"):
                await one
        peer = Peer(tmp_path / "s", echo)
        await peer.start()
        await until(lambda: link.up)
        assert await link.call(FrameKind.QUERY, b"x") == b"\x06x"
        assert len(ups) == 2
        await link.stop()
        await peer.stop()

    run(main)


def test_a_link_is_bounded_in_number_and_time(tmp_path: Path) -> None:
    async def main() -> None:
        late: list[int] = []
        peer = Peer(tmp_path / "s", lambda request_id, kind, payload: late.append(request_id))
        await peer.start()
        link = Link(peer.path, LinkLimits(2, 200), down)
        link.start()
        await until(lambda: link.up)
        waiting = [asyncio.ensure_future(link.call(FrameKind.QUERY, b"")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Unreachable) as caught:
            link.send(FrameKind.QUERY, b"", lambda _: None)
        assert (caught.value.code, caught.value.retry_after_ms) == ("node.busy", 1_000)
        for one in waiting:
            with pytest.raises(Unreachable) as timeout:
                await one
            assert timeout.value.code == "node.timeout"
        peer.writers[0].write(b"".join(pack(request_id, FrameKind.OK, b"late") for request_id in late))
        peer.answer = echo
        assert await link.call(FrameKind.QUERY, b"x") == b"\x06x"
        await link.stop()
        await peer.stop()

    run(main)


def test_errors_and_faulty_callers_stay_with_their_request(tmp_path: Path) -> None:
    refusal = Refusal(branch="Declined", code="test.no", detail="no").encoded()

    async def main() -> None:
        def answer(request_id: int, kind: int, payload: bytes) -> bytes | None:
            return pack(request_id, FrameKind.ERROR, refusal) if payload == b"no" else echo(request_id, kind, payload)

        peer = Peer(tmp_path / "s", answer)
        await peer.start()
        link = Link(peer.path, LinkLimits(10, 5_000), down)
        link.start()
        await until(lambda: link.up)
        link.send(FrameKind.QUERY, b"a", lambda reply: 1 / 0)  # type: ignore[arg-type, return-value]
        with pytest.raises(Declined, match="no"):
            await link.call(FrameKind.QUERY, b"no")
        with pytest.raises(Misconfigured):
            link.send(FrameKind.QUERY, bytes(FRAME_BYTES_MAX), lambda _: None)
        assert link.in_flight == 0
        peer.answer = lambda *_: b"\xff" * 20  # no frame: the connection is given up, and made again
        with pytest.raises(Unreachable, match="down"):
            await link.call(FrameKind.QUERY, b"x")
        peer.answer = echo
        await until(lambda: link.up)
        assert await link.call(FrameKind.QUERY, b"x") == b"\x06x"
        await link.stop()
        await peer.stop()

    run(main)


def test_a_frame_is_the_enclaves() -> None:
    assert frame_bytes(7, FrameKind.GRANT, b"abc") == pack(7, FrameKind.GRANT, b"abc")
    assert isinstance(refusal_error(Refusal(branch="Odd", code="a.b", detail="c").encoded()), Unreachable)


# --- the enclave's port


def head(height: int, platforms_root: bytes = b"r" * 32) -> Head:
    """Only what the port looks at."""
    empty: SignedHeader = None  # type: ignore[assignment]
    parts = {"header": b"\x01", "validators": b"\x02", "roots": b"\x03", "policy": b"\x40", "policy_proof": b"\xa0"}
    return Head(
        height=height,
        signed=empty,
        validator_set=empty,  # type: ignore[arg-type]
        section_roots=empty,  # type: ignore[arg-type]
        platforms_root=platforms_root,
        platforms={b"p": b"\xa0"},
        leaves={},
        **parts,
    )


def test_the_enclave_is_told_of_each_header_once_and_of_platforms_when_they_change(tmp_path: Path) -> None:
    status = EnclaveStatus(
        query_key=b"k" * 32,
        kind="software",
        measurement=b"m" * 48,
        node_id="n",
        height=4,
        platforms_root=b"r" * 32,
        leases=(),
        trusted_height=4,
    )
    told: list[bytes] = []
    heard: list[OnecodeError | None] = []
    overtaken = Refusal(branch="Untrusted", code="header.not_higher", detail="x").encoded()
    refused = Refusal(branch="Untrusted", code="header.stale", detail="x").encoded()

    def answer(request_id: int, kind: int, payload: bytes) -> bytes | None:
        if kind == FrameKind.STATUS:
            return pack(request_id, FrameKind.OK, status.encoded())
        told.append(payload)
        error = {6: overtaken, 7: refused}.get(len(told))
        return pack(request_id, FrameKind.OK if error is None else FrameKind.ERROR, error or b"")

    async def main() -> None:
        peer = Peer(tmp_path / "s", answer)
        port = EnclavePort(peer.path, LinkLimits(10, 5_000), lambda height: None)
        port.follow(head(3))
        with pytest.raises(Unreachable, match="enclave"):
            port.require_up()
        await peer.start()
        port.link.start()
        await until(lambda: port.up)
        assert port.require_up() == status and told == []  # it knows height 3

        async def follow(newer: Head) -> None:
            port.follow(newer)
            await until(lambda: port.link.in_flight == 0)

        for newer in (head(5), head(5), head(6), head(7, b"s" * 32), head(8, b"s" * 32), head(9)):
            await follow(newer)
        with_platforms = b"\xa6\x01\x01\x02\x02\x03\x03\x04\x81\xa0\x05\x40\x06\xa0"
        without = b"\xa5\x01\x01\x02\x02\x03\x03\x05\x40\x06\xa0"
        assert told == [without, without, with_platforms, without, with_platforms]
        assert port.knows(9)
        with pytest.raises(Unreachable, match="does not follow"):
            port.wait(heard.append)  # nothing is being told
        port.follow(head(10))
        port.wait(heard.append)
        assert heard == [] and not port.knows(10)
        await follow(head(10))  # overtaken by another worker: whoever waits looks at the store again
        assert heard == [None] and not port.knows(10)
        port.follow(head(11))  # refused for another reason: told again later, with everything
        port.wait(heard.append)
        await follow(head(11))
        assert [getattr(one, "code", None) for one in heard] == [None, "node.enclave_behind"]
        await follow(head(11))
        assert len(told) == 7
        port._retry_at_s = 0
        await follow(head(11))
        assert told[7:] == [with_platforms] and port.knows(11)
        await port.link.stop()
        await peer.stop()

    run(main)
