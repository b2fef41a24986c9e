"""What a key service of another platform may answer the node."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from onecode.errors import Unreachable
from onecode.node.relay import Relay


class Packed(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield gzip.compress(gzip.compress(bytes(1000)))


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_a_compressed_answer_is_refused_before_it_is_unpacked(encoding: str) -> None:
    """A kilobyte that is packed twice unpacks to a gigabyte in one piece, in the node's own process."""
    asked = list[str]()

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["accept-encoding"])
        return httpx.Response(200, headers={"content-encoding": encoding}, stream=Packed())

    async def run() -> bytes:
        nothing: Any = SimpleNamespace(relay_timeout_ms=5_000)
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            return await Relay(nothing, nothing, nothing, client)._post("http://keys/v1/challenge", b"{}", "text/plain")

    with pytest.raises(Unreachable) as caught:
        asyncio.run(run())
    assert (caught.value.code, asked) == ("http.answer_encoding", ["identity"])
