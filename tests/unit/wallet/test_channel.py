"""Servers that answer badly end in the error tree, in bounded time and memory."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from onecode.errors import Declined, Malformed, Misconfigured, OnecodeError, Unreachable, Untrusted
from onecode.wallet.channel import fetch_bytes, hex_field, parse_json, unproven
from onecode.wire import FRAME_BYTES_MAX


def fetched(handler: Callable[[httpx.Request], httpx.Response]) -> bytes:
    async def run() -> bytes:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
            return await fetch_bytes(http, "GET", "http://node/v1/network")

    return asyncio.run(run())


def failing(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error("failed", request=request)

    return handler


@pytest.mark.parametrize(
    ("handler", "branch", "code"),
    [
        (failing(httpx.ConnectError), Unreachable, "http.unreachable"),
        (failing(httpx.ReadTimeout), Unreachable, "http.timeout"),
        (lambda _: httpx.Response(200, content=bytes(FRAME_BYTES_MAX + 1)), Malformed, "http.too_large"),
        (lambda _: httpx.Response(302, headers={"location": "http://elsewhere"}), Unreachable, "http.status"),
        (lambda _: httpx.Response(502, content=b"<html>"), Unreachable, "http.status"),
        (lambda _: httpx.Response(500, json=["no problem body"]), Unreachable, "http.status"),
        (
            lambda _: httpx.Response(409, json=Declined("payment.funds", "too little").problem()),
            Declined,
            "payment.funds",
        ),
    ],
)
def test_a_bad_answer_ends_in_the_error_tree(
    handler: Callable[[httpx.Request], httpx.Response], branch: type[OnecodeError], code: str
) -> None:
    with pytest.raises(branch) as caught:
        fetched(handler)
    assert caught.value.code == code


def test_what_is_wrong_with_an_answer_is_named_and_a_refusal_is_worth_what_it_proves() -> None:
    async def run(response: httpx.Response) -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: response)) as http:
            await fetch_bytes(http, "GET", "http://node/v1/network", worth=unproven)

    for content, status, code in (
        (bytes(FRAME_BYTES_MAX + 1), 200, "http.too_large"),
        (json.dumps(Malformed("http.too_large", "believe me").problem()).encode(), 400, "node.refused"),
    ):
        with pytest.raises(OnecodeError) as caught:
            asyncio.run(run(httpx.Response(status, content=content)))
        assert caught.value.code == code


def test_a_server_that_drips_bytes_is_held_to_the_time() -> None:
    class Drip(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.01)
                yield b"x"

    async def run() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Drip()))
        async with httpx.AsyncClient(transport=transport) as http:
            await fetch_bytes(http, "GET", "http://node/v1/network", timeout_ms=60)

    with pytest.raises(Unreachable) as caught:
        asyncio.run(run())
    assert caught.value.code == "http.timeout"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate", "br", "zstd"])
def test_a_compressed_answer_is_refused_before_it_is_unpacked(encoding: str) -> None:
    """A kilobyte that is packed twice unpacks to a gigabyte in one piece."""
    raw = gzip.compress(gzip.compress(bytes(FRAME_BYTES_MAX // 2)))
    seen = list[str]()

    class Packed(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield raw

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["accept-encoding"])
        return httpx.Response(200, headers={"content-encoding": encoding}, stream=Packed())

    with pytest.raises(Unreachable) as caught:
        fetched(handler)
    assert (caught.value.code, seen) == ("http.answer_encoding", ["identity"])


def test_an_answer_of_the_largest_size_passes() -> None:
    assert len(fetched(lambda _: httpx.Response(200, content=bytes(FRAME_BYTES_MAX)))) == FRAME_BYTES_MAX


@pytest.mark.parametrize("kind", [Declined, Untrusted, Malformed, Misconfigured])
def test_a_nodes_own_no_is_worth_nothing(kind: type[OnecodeError]) -> None:
    assert isinstance(unproven(kind("merchant.absent", "no")), Untrusted)


def test_a_node_may_say_that_it_cannot_answer() -> None:
    error = Unreachable("enclave.busy", "later", retry_after_ms=100)
    assert unproven(error) is error


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff", b'"text"'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse_json(data)
    assert caught.value.code == "http.json"


def test_a_field_that_is_not_hex_is_refused() -> None:
    with pytest.raises(Malformed) as caught:
        hex_field({"receipt": "zz"}, "receipt")
    assert caught.value.code == "http.hex"
