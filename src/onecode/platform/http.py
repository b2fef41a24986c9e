"""Requests and answers of the platform's API: limits, tokens, JSON, and errors as RFC 9457."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from onecode.errors import Malformed, Misconfigured, OnecodeError, Unreachable, Untrusted
from onecode.platform.devices import DeviceCall
from onecode.query.requests import DEVICE_HEADER

PROBLEM = "application/problem+json"
CBOR = "application/cbor"
JSON = "application/json"
INT_PARAMETER_DIGITS_MAX = 18

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One whole request. path: as it stood, with the query string; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str]  # of the path and of the query string
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The decoded JSON body; a name twice in an object is refused, since two readers could see two values."""
        try:
            return json.loads(self.body, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            raise Malformed("http.json", "the body is not JSON in UTF-8", field="body") from None

    def integer(self, name: str, default: int) -> int:
        """A parameter that is a whole number from 0 up."""
        text = self.parameters.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= INT_PARAMETER_DIGITS_MAX):
            raise Malformed("http.parameter", f"the parameter {name} is a whole number from 0 up", field=name)
        return int(text)

    def bearer(self) -> str:
        """The token of `Authorization: Bearer`."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Untrusted("http.token", "give a header Authorization: Bearer with your token", field="authorization")
        return token.strip()

    def require_bearer(self, expected: str) -> None:
        """Raise unless the bearer token is the expected one."""
        given = self.bearer().encode("utf-8", "replace")
        if not hmac.compare_digest(given, expected.encode("utf-8")):
            raise Untrusted("http.token", "the token is not the right one", field="authorization")

    def device_call(self) -> DeviceCall:
        """The request as its device signed it."""
        proof = self.headers.get(DEVICE_HEADER)
        if proof is None:
            raise Untrusted("device.unsigned", f"the request needs the header {DEVICE_HEADER}", field=DEVICE_HEADER)
        return DeviceCall(self.method, self.path, self.body, proof, self.headers.get("idempotency-key"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise Malformed("http.json_twice", "a name stands twice in a JSON object", field="body")
    return table


async def read_call(request: Request, body_bytes_max: int) -> Call:
    """The whole request, its body up to the limit."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > body_bytes_max:
            raise Malformed("http.body_too_large", f"a body has at most {body_bytes_max} bytes here", status=413)
        chunks.append(chunk)
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
    parameters = dict(request.query_params)
    if len(parameters) != len(request.query_params.multi_items()):
        raise Malformed("http.parameter", "a parameter stands more than once in the query string", field="query")
    parameters |= request.path_params
    return Call(request.method, path, dict(request.headers), parameters, b"".join(chunks))


def json_response(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return Response(body, status, media_type=JSON)


def problem_response(error: OnecodeError, **more: str) -> Response:
    """The RFC 9457 answer for an error; `more` headers."""
    headers = {} if error.retry_after_ms is None else {"retry-after": str(-(-error.retry_after_ms // 1000))}
    headers |= more
    return Response(json.dumps(error.problem()).encode("utf-8"), error.status, headers, PROBLEM)


def endpoint(
    handler: Callable[[Call], Awaitable[Response]], body_bytes_max: int, timeout_ms: int
) -> Callable[[Request], Awaitable[Response]]:
    """A Starlette endpoint around `handler`: limits, time, errors. What was booked stays booked after a timeout."""

    async def answer(request: Request) -> Response:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                call = await read_call(request, body_bytes_max)
            async with asyncio.timeout(timeout_ms / 1000):
                return await handler(call)
        except OnecodeError as error:
            return problem_response(error)
        except TimeoutError:
            return problem_response(Unreachable("http.timeout", "the request took too long: try it again", status=408))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            log.exception("a handler failed")
            return problem_response(
                Misconfigured("http.internal", "the platform failed inside; its operator finds why in the log")
            )

    return answer


async def answer_http_error(_: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    if status == 405:
        allowed = (error.headers or {}) if isinstance(error, HTTPException) else {}
        return problem_response(Malformed("http.method", "this path has no such method", status=405), **allowed)
    return problem_response(Malformed("http.path", "there is no such path", status=404))
