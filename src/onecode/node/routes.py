"""Requests, responses, and which handler serves a path.

A handler gets a request and a function to answer it with, now or later: what answers at once needs no task. Handlers
that wait are coroutines, and run as tasks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from onecode.errors import Malformed, Misconfigured, OnecodeError
from onecode.node.streams import Channel

CBOR = b"application/cbor"
JSON = b"application/json"
PROBLEM = b"application/problem+json"

log = logging.getLogger(__name__)


class Response(NamedTuple):
    status: int
    body: bytes
    content_type: bytes = JSON
    headers: bytes = b""  # further header lines, each with its CRLF
    code: str = ""  # of the error it tells


class Streaming(NamedTuple):
    """An answer in parts: `run` sends them, and the answer ends with it. `done` is called then, whatever happened."""

    content_type: bytes
    run: Callable[[Channel], Coroutine[Any, Any, None]]
    done: Callable[[], None]


Reply = Callable[[Response | Streaming], None]


@dataclass(slots=True)
class Request:
    """One whole request. `target` is path and query string as they stood; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    parameters: dict[str, str]  # what a route's pattern found in the path
    route: int = -1  # the number of the route that was found

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def query(self, name: str) -> str | None:
        """The one value of a parameter of the query string."""
        found = [value for key, value in parse_qsl(self.target.partition("?")[2]) if key == name]
        if len(found) > 1:
            raise Malformed("http.parameter", f"the parameter {name} stands more than once", field=name)
        return found[0] if found else None


Handler = Callable[[Request, Reply], None]
AsyncHandler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter for the OpenAPI document. where: path, query or header; schema: as JSON Schema has it."""

    name: str
    where: str
    text: str
    schema: dict[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the OpenAPI document says of a route.

    answers: media type and what it holds, of status 200. refusals: statuses beside those that any route may give.
    body: what a body of `application/cbor` holds. json_body: the schema of a body of JSON. members: signed by a member
    or an observer.
    """

    text: str
    answers: tuple[tuple[bytes, dict[str, Any]], ...]
    refusals: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: str | None = None
    json_body: dict[str, Any] | None = None
    members: bool = False


def json_response(status: int, value: Any, content_type: bytes = JSON) -> Response:
    return Response(status, json.dumps(value, separators=(",", ":")).encode("utf-8"), content_type)


def problem(error: OnecodeError, extra: dict[str, Any] | None = None) -> Response:
    """The RFC 9457 answer for an error, with `Retry-After` where it is known."""
    response = json_response(error.status, error.problem() | (extra or {}), PROBLEM)._replace(code=error.code)
    if error.retry_after_ms is None:
        return response
    return response._replace(headers=b"retry-after: %d\r\n" % -(-error.retry_after_ms // 1000))


def internal(error: Exception) -> Response:
    """The answer for an error that nobody foresaw; its text stays in the log."""
    log.error("a handler failed", exc_info=error)
    return problem(Misconfigured("http.internal", "the node failed inside; its operator finds why in the log"))


class Router:
    """Handlers by method and path; a pattern's `{name}` matches one segment."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, str, About | None]] = []  # method and pattern, in the order of their numbers
        self._exact: dict[str, dict[str, tuple[int, Handler]]] = {}
        self._patterns: list[tuple[list[str], dict[str, tuple[int, Handler]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def labels(self) -> list[str]:
        """A name for each route, by its number."""
        return [f"{method} {pattern}" for method, pattern, _ in self.routes]

    def add(self, method: str, pattern: str, handler: Handler, about: About | None = None) -> None:
        entry = (len(self.routes), handler)
        self.routes.append((method, pattern, about))
        if "{" not in pattern:
            self._exact.setdefault(pattern, {})[method] = entry
            return
        segments = pattern.split("/")
        for known, methods in self._patterns:
            if known == segments:
                methods[method] = entry
                return
        self._patterns.append((segments, {method: entry}))

    def add_async(self, method: str, pattern: str, handler: AsyncHandler, about: About | None = None) -> None:
        self.add(method, pattern, partial(self._start, handler), about)

    def __call__(self, request: Request, reply: Reply) -> None:
        methods = self._exact.get(request.path) or self._match(request)
        if methods is None:
            raise Malformed("http.path", "there is no such path", status=404)
        entry = methods.get(request.method)
        if entry is None:
            raise Malformed("http.method", f"use {' or '.join(sorted(methods))} on this path", status=405)
        request.route = entry[0]
        entry[1](request, reply)

    def _match(self, request: Request) -> dict[str, tuple[int, Handler]] | None:
        given = request.path.split("/")
        for segments, methods in self._patterns:
            if len(segments) == len(given) and all(
                wanted == found or (wanted[:1] == "{" and found) for wanted, found in zip(segments, given, strict=True)
            ):
                request.parameters = {
                    wanted[1:-1]: found for wanted, found in zip(segments, given, strict=True) if wanted[:1] == "{"
                }
                return methods
        return None

    def _start(self, handler: AsyncHandler, request: Request, reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(self._run(handler, request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _run(handler: AsyncHandler, request: Request, reply: Reply) -> None:
        try:
            reply(await handler(request))
        except OnecodeError as error:
            reply(problem(error))
        except Exception as error:
            reply(internal(error))


# --- what handlers read from a request -------------------------------------------------------------------------------


def require_cbor(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/cbor":
        raise Malformed("http.media_type", "send the body as application/cbor", field="content-type", status=415)


def hex_bytes(text: str, field: str, least: int, most: int) -> bytes:
    """Bytes in lower-case hex, of a length from `least` to `most`."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if raw.hex() != text or not least <= len(raw) <= most:
        raise Malformed("http.parameter", f"{field} is lower-case hex of {least} to {most} bytes", field=field)
    return raw


def uint(text: str, field: str) -> int:
    """A decimal number of at most 18 digits."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise Malformed("http.parameter", f"{field} is a decimal number", field=field)
    return int(text)
