"""Bytes to and from a server, bounded in time and size; every failure is one of the error tree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from onecode.errors import Malformed, OnecodeError, Unreachable, Untrusted, answer_error, json_object
from onecode.wire import FRAME_BYTES_MAX

CBOR = "application/cbor"


async def fetch_bytes(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    timeout_ms: int = 5_000,
    worth: Callable[[OnecodeError], OnecodeError] = lambda refusal: refusal,
) -> bytes:
    """The body of a 2xx answer, at most 1 MiB. Raises what a problem body describes (as `worth` makes it), or what is
    wrong with the answer itself: `Unreachable`, `Malformed`."""
    data = bytearray()
    plain = {**(headers or {}), "accept-encoding": "identity"}
    try:
        # A server that drips bytes is held to the same time as one that is silent.
        async with (
            asyncio.timeout(timeout_ms / 1000),
            http.stream(method, url, content=body, headers=plain, timeout=None) as response,
        ):
            packed = response.headers.get("content-encoding", "identity") != "identity"
            if packed:  # a kilobyte can unpack to a gigabyte
                raise Unreachable("http.answer_encoding", "the answer is compressed, which was not asked for")
            async for piece in response.aiter_bytes():
                data += piece
                if len(data) > FRAME_BYTES_MAX:
                    raise Malformed("http.too_large", f"the server sent more than {FRAME_BYTES_MAX} bytes", status=413)
    except (TimeoutError, httpx.TimeoutException):
        raise Unreachable("http.timeout", f"no answer within {timeout_ms} ms", status=408) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable("http.unreachable", f"the server could not be reached: {type(error).__name__}") from None
    if response.is_success:
        return bytes(data)
    raise worth(answer_error(response.status_code, bytes(data)))


def unproven(error: OnecodeError) -> OnecodeError:
    """What a node's own refusal is worth to a wallet: it may be unable to answer, but a "no" needs proof."""
    if isinstance(error, Unreachable):
        return error
    return Untrusted("node.refused", f"the node refused without proof ({error.code}); ask another node")


def parse_json(data: bytes) -> dict[str, Any]:
    """A JSON object of untrusted bytes."""
    value = json_object(data)
    if value is None:
        raise Malformed("http.json", "the server's answer is no JSON object")
    return value


def hex_field(body: dict[str, Any], name: str) -> bytes:
    """The bytes of a hex field of a JSON object."""
    value = body.get(name)
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        raise Malformed("http.hex", f"the field {name} is not hex", field=name) from None
