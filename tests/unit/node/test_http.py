"""The HTTP server over real sockets: order, limits, slow clients and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from onecode.errors import Declined
from onecode.node.buckets import ADDRESSES_MAX, Buckets, address_group
from onecode.node.http import HttpLimits, HttpServer
from onecode.node.metrics import Board, Meter, exposition, worker_families
from onecode.node.routes import Reply, Request, Response, Router, Streaming
from onecode.node.streams import Channel

DEFAULTS = HttpLimits()
Talk = Callable[[HttpServer, int, list[Reply]], Awaitable[None]]


def run(talk: Talk, limits: HttpLimits = DEFAULTS) -> None:
    """Serve a few routes, and talk to them."""

    async def main() -> None:
        held: list[Reply] = []
        router = Router()
        router.add("POST", "/echo", lambda request, reply: reply(Response(200, request.body)))
        router.add("GET", "/held", lambda request, reply: held.append(reply))
        router.add("GET", "/large", lambda request, reply: reply(Response(200, b"x" * 4_000_000)))
        router.add("GET", "/broken", lambda request, reply: reply(1 / 0))  # type: ignore[arg-type]
        router.add("GET", "/items/{name}/of/{kind}", _parameters)
        router.add_async("GET", "/later", _later)
        router.add_async("GET", "/declined", _declined)
        server = HttpServer(router, limits)
        port = await server.start("127.0.0.1", 0)
        try:
            await asyncio.wait_for(talk(server, port, held), 20)
        finally:
            await server.stop(100)
        assert not server.connections

    uvloop.run(main())


def _parameters(request: Request, reply: Reply) -> None:
    reply(Response(200, json.dumps([request.parameters, request.query("q")]).encode()))


async def _later(request: Request) -> Response:
    await asyncio.sleep(0.02)
    return Response(200, b"later")


async def _declined(request: Request) -> Response:
    raise Declined("test.no", "no", field="x")


def post(body: bytes, more: bytes = b"") -> bytes:
    return b"POST /echo HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n%s" % (more, len(body), body)


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nhost: x\r\n%s\r\n" % (path, more)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @staticmethod
    async def connect(port: int) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 23))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in head[1:-2])
        body = await self.reader.readexactly(int(headers[b"content-length"]))
        return int(head[0].split()[1]), headers, body

    async def refusal(self) -> tuple[int, str]:
        status, headers, body = await self.answer()
        assert headers[b"content-type"] == b"application/problem+json"
        return status, json.loads(body)["code"]

    async def closed(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


def test_a_request_in_single_bytes_is_whole() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(b"body of it", b"x-long: value\r\n"):
            client.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await client.answer())[::2] == (200, b"body of it")
        client.send(get(b"/items/a/of/b?q=1%202&r=3"))
        assert json.loads((await client.answer())[2]) == [{"name": "a", "kind": "b"}, "1 2"]

    run(talk)


def test_a_trailer_says_nothing_and_a_header_stands_once() -> None:
    """A trailer or a second line could put words into a head that something before us has checked."""

    async def talk(server: HttpServer, port: int, _: list[Reply]) -> None:
        head = b"POST /echo HTTP/1.1\r\nhost: x\r\n"
        chunked = head + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nonecode-member: smuggled\r\n\r\n"
        twice = head + b"onecode-member: one\r\nOnecode-Member: two\r\ncontent-length: 2\r\n\r\nhi"
        for data, code in ((chunked, "http.trailer"), (twice, "http.header_twice")):
            client = await Client.connect(port)
            client.send(data)
            answer = await asyncio.wait_for(client.reader.read(), 5)
            assert b" 400 " in answer.split(b"\r\n")[0] and code.encode() in answer

    run(talk)


def test_waiting_bodies_take_bounded_room() -> None:
    """While an answer is held, a client that pipelines large bodies is not read any further."""
    limits = HttpLimits(body_bytes_max=100_000)

    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(get(b"/held"))
        for _ in range(30):
            client.send(post(b"x" * 90_000))
        await asyncio.sleep(0.3)
        (connection,) = server.connections
        assert connection._queued_bytes <= 100_000 + 90_000 + (1 << 18)  # one body more, and one read of the loop
        assert len(connection._queue) < 8
        held[0](Response(200, b"at last"))
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 31:
            answers += await asyncio.wait_for(client.reader.read(1 << 20), 5)

    run(talk, limits)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(get(b"/held") + get(b"/later") + b"".join(post(b"%d" % number) for number in range(500)))
        await asyncio.sleep(0.1)
        assert len(held) == 1
        held[0](Response(200, b"held"))
        held[0](Response(200, b"a second answer to one request is dropped"))
        bodies = [(await client.answer())[2] for _ in range(502)]
        assert bodies == [b"held", b"later", *[b"%d" % number for number in range(500)]]

    run(talk)


def test_a_chunked_body_is_read_and_bounded() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        head = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        client.send(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer())[2] == b"abcde"
        client.send(head + b"64\r\n" + b"x" * 100 + b"\r\n1\r\ny\r\n0\r\n\r\n")
        assert await client.refusal() == (413, "http.body_too_large")
        assert await client.closed()

    run(talk, HttpLimits(body_bytes_max=100))


def test_an_oversized_body_is_refused_before_it_is_sent() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(post(b"first"))
        client.send(b"POST /echo HTTP/1.1\r\ncontent-length: 101\r\nexpect: 100-continue\r\n\r\n")
        assert (await client.answer())[2] == b"first"
        assert await client.refusal() == (413, "http.body_too_large")
        assert await client.closed()

    run(talk, HttpLimits(body_bytes_max=100))


def test_a_client_that_sends_all_of_an_oversized_body_reads_the_refusal() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(post(b"x" * 3_000_000))
        assert await client.refusal() == (413, "http.body_too_large")
        client.writer.close()

    run(talk, HttpLimits(body_bytes_max=100))


def test_expect_continue_is_answered() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(b"POST /echo HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        assert (await client.answer())[2] == b"ab"

    run(talk)


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (b"nonsense\r\n\r\n", (400, "http.malformed")),
        (b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", (400, "http.malformed")),
        (b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", (400, "http.malformed")),
        (get(b"/held", b"x: " + b"y" * 20_000 + b"\r\n"), (413, "http.head_too_large")),
        (get(b"/held", b"".join(b"x%d: y\r\n" % n for n in range(100))), (413, "http.head_too_large")),
        (get(b"/" + b"x" * 20_000), (413, "http.head_too_large")),
    ],
)
def test_what_is_no_request_ends_the_connection(sent: bytes, refused: tuple[int, str]) -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(sent)
        assert await client.refusal() == refused
        assert await client.closed()

    run(talk)


def test_a_head_that_never_ends_is_refused() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(20):
            client.send(b"y" * 1_000)
            await asyncio.sleep(0.005)
        assert await client.refusal() == (413, "http.head_too_large")

    run(talk)


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (get(b"/nothing"), (404, "http.path")),
        (get(b"/items//of/b"), (404, "http.path")),
        (get(b"/echo"), (405, "http.method")),
        (get(b"/broken"), (500, "http.internal")),
        (get(b"/declined"), (409, "test.no")),
        (get(b"/items/a/of/b?q=1&q=2"), (400, "http.parameter")),
    ],
)
def test_a_refused_request_leaves_the_connection_open(sent: bytes, refused: tuple[int, str]) -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(sent + post(b"still here"))
        assert await client.refusal() == refused
        assert (await client.answer())[2] == b"still here"

    run(talk)


def test_a_connection_that_is_not_kept_is_closed_after_its_answer() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(post(b"only", b"connection: close\r\n"))
        status, headers, body = await client.answer()
        assert (status, headers[b"connection"], body) == (200, b"close", b"only")
        assert await client.closed()

    run(talk)


def test_a_client_that_only_stopped_sending_gets_its_answer() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(get(b"/later"))
        client.writer.write_eof()
        assert (await client.answer())[2] == b"later"
        assert await client.closed()

    run(talk)


def test_a_slow_client_is_told_so_and_an_idle_one_is_let_go() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        slow, idle = await Client.connect(port), await Client.connect(port)
        slow.send(post(b"x" * 50)[:-10])
        idle.send(post(b"done"))
        assert (await idle.answer())[2] == b"done"
        assert await slow.refusal() == (408, "http.timeout")
        assert await slow.closed()
        assert await idle.closed()

    run(talk, HttpLimits(request_timeout_ms=200, idle_timeout_ms=400))


def test_a_client_that_leaves_before_its_answer_hurts_nobody() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        leaver, other = await Client.connect(port), await Client.connect(port)
        leaver.send(get(b"/held"))
        while not held:
            await asyncio.sleep(0.01)
        leaver.writer.transport.abort()
        await asyncio.sleep(0.05)
        held[0](Response(200, b"too late" * 1_000_000))
        while len(server.connections) > 1:
            await asyncio.sleep(0.01)
        held[0](Response(200, b"much too late"))
        other.send(post(b"well"))
        assert (await other.answer())[2] == b"well"

    run(talk)


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined] # the kernel's buffer fills
        client.send(get(b"/large") * 20)
        await asyncio.sleep(0.1)
        assert len(server.connections) == 1
        while server.connections:
            await asyncio.sleep(0.02)

    run(talk, HttpLimits(request_timeout_ms=300))


def test_a_connection_too_many_is_refused() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        first = await Client.connect(port)
        first.send(post(b"1"))
        await first.answer()
        second = await Client.connect(port)
        assert await second.refusal() == (503, "http.connections")
        assert await second.closed()

    run(talk, HttpLimits(connections_max=1))


def test_an_address_has_a_bucket() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        client = await Client.connect(port)
        client.send(post(b"x") * 4)
        statuses = [await client.answer() for _ in range(4)]
        assert [status for status, _, _ in statuses] == [200, 200, 200, 429]
        assert statuses[3][1][b"retry-after"] == b"1"
        other = await Client.connect(port)
        other.send(post(b"x"))
        assert (await other.refusal()) == (429, "http.rate")

    run(talk, HttpLimits(address_requests_per_s=1, address_burst=3))


def test_stopping_lets_a_running_request_end() -> None:
    async def talk(server: HttpServer, port: int, held: list[Reply]) -> None:
        busy, idle = await Client.connect(port), await Client.connect(port)
        busy.send(get(b"/later"))
        idle.send(post(b"x"))
        await idle.answer()
        await server.stop(2_000)
        assert (await busy.answer())[1][b"connection"] == b"close"
        assert await idle.closed()
        with pytest.raises(OSError):
            await Client.connect(port)

    run(talk)


def test_a_bucket_fills_again_and_the_table_is_bounded() -> None:
    buckets = Buckets(per_s=10, burst=2)
    assert [buckets.wait_s("a", 0.0) for _ in range(2)] == [0.0, 0.0]
    assert buckets.wait_s("a", 0.0) == pytest.approx(0.1)
    assert buckets.wait_s("a", 0.1) == 0.0
    assert buckets.wait_s("b", 0.1) == 0.0
    for number in range(ADDRESSES_MAX + 10):
        buckets.wait_s(str(number), 1.0)
    assert len(buckets._levels) <= ADDRESSES_MAX
    assert Buckets(per_s=0, burst=0).wait_s("a", 0.0) == 0.0


@pytest.mark.parametrize(
    ("address", "group"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("fe80::1%eth0", "fe80::"), ("::x", "::x")],
)
def test_an_ipv6_site_is_one_address(address: str, group: str) -> None:
    assert address_group(address) == group


# --- streams and counting


def serve_stream(
    talk: Callable[[HttpServer, int, list[str]], Awaitable[None]],
    source: Callable[[Channel], Coroutine[Any, Any, None]],
    limits: HttpLimits = DEFAULTS,
    meter: Meter | None = None,
) -> list[str]:
    """Serve one stream at /stream; returns what was noted when it ended."""
    noted: list[str] = []

    async def main() -> None:
        router = Router()
        streaming = Streaming(b"text/plain", source, lambda: noted.append("done"))
        router.add("GET", "/stream", lambda request, reply: reply(streaming))
        server = HttpServer(router, limits, meter)
        port = await server.start("127.0.0.1", 0)
        try:
            await asyncio.wait_for(talk(server, port, noted), 20)
        finally:
            await server.stop(100)
        assert not server.connections and not server.addresses

    uvloop.run(main())
    return noted


async def _three(channel: Channel) -> None:
    for part in (b"one", b"two", b"three"):
        await channel.send(part)
        await asyncio.sleep(0.01)


def test_a_stream_is_chunked_and_the_connections_last() -> None:
    async def talk(server: HttpServer, port: int, noted: list[str]) -> None:
        client = await Client.connect(port)
        client.send(get(b"/stream") + get(b"/stream"))
        text = await client.reader.read()
        head, _, body = text.partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head and b"connection: close" in head
        assert body == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
        old = await Client.connect(port)
        old.send(b"GET /stream HTTP/1.0\r\n\r\n")
        assert (await old.reader.read()).partition(b"\r\n\r\n")[2] == b"onetwothree"

    assert serve_stream(talk, _three) == ["done", "done"]


def test_a_reader_that_is_slow_holds_the_stream_up_and_is_cut() -> None:
    sent = 0

    async def endless(channel: Channel) -> None:
        nonlocal sent
        while True:
            await channel.send(b"x" * 10_000)
            sent += 10_000
            await asyncio.sleep(0)

    async def talk(server: HttpServer, port: int, noted: list[str]) -> None:
        client = await Client.connect(port)
        client.writer.transport.pause_reading()
        client.send(get(b"/stream"))
        await asyncio.sleep(0.2)
        before = sent
        await asyncio.sleep(0.1)
        assert sent == before < 10_000_000  # nothing more is made than what the kernel takes
        while server.connections:
            await asyncio.sleep(0.02)

    assert serve_stream(talk, endless, HttpLimits(request_timeout_ms=500)) == ["done"]


def test_a_stream_ends_when_its_client_leaves_or_the_server_stops_or_it_breaks() -> None:
    async def waiting(channel: Channel) -> None:
        await channel.send(b"begun")
        await asyncio.sleep(60)

    async def leave(server: HttpServer, port: int, noted: list[str]) -> None:
        client = await Client.connect(port)
        client.send(get(b"/stream"))
        await client.reader.readuntil(b"begun")
        client.writer.transport.abort()
        while not noted:
            await asyncio.sleep(0.01)

    async def stop(server: HttpServer, port: int, noted: list[str]) -> None:
        client = await Client.connect(port)
        client.send(get(b"/stream"))
        await client.reader.readuntil(b"begun\r\n")
        await server.stop(1_000)
        assert await client.reader.read() == b"0\r\n\r\n"

    async def broken(channel: Channel) -> None:
        await channel.send(b"begun")
        raise ZeroDivisionError

    async def cut(server: HttpServer, port: int, noted: list[str]) -> None:
        client = await Client.connect(port)
        client.send(get(b"/stream"))
        with contextlib.suppress(ConnectionResetError):
            assert not (await client.reader.read()).endswith(b"0\r\n\r\n")  # the client can tell

    assert serve_stream(leave, waiting) == ["done"]
    assert serve_stream(stop, waiting) == ["done"]
    assert serve_stream(cut, broken) == ["done"]


def test_connections_of_one_address_are_bounded_and_counted() -> None:
    board = Board(worker_families(["GET /stream"]))

    async def talk(server: HttpServer, port: int, noted: list[str]) -> None:
        first, second = await Client.connect(port), await Client.connect(port)
        third = await Client.connect(port)
        assert await third.refusal() == (429, "http.connections")
        assert await third.closed()
        first.writer.close()
        while server.addresses["127.0.0.1"] > 1:
            await asyncio.sleep(0.01)
        second.send(get(b"/stream"))
        assert (await second.reader.read()).endswith(b"0\r\n\r\n")
        fourth = await Client.connect(port)
        fourth.send(get(b"/nowhere"))
        assert await fourth.refusal() == (404, "http.path")

    serve_stream(talk, _three, HttpLimits(address_connections_max=2), Meter(board, -2))
    text = exposition(board.families, board.values())
    assert 'onecode_http_answers_total{route="GET /stream",status="200"} 1\n' in text
    assert 'onecode_refused_total{reason="http.connections"} 1\n' in text
    assert 'onecode_refused_total{reason="http.path"} 1\n' in text
