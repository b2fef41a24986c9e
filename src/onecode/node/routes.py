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

CBOR = b"application/cbor"
JSON = b"application/json"
PROBLEM = b"application/problem+json"

log = logging.getLogger(__name__)


class Response(NamedTuple):
    status: int
    body: bytes
    content_type: bytes = JSON
    headers: bytes = b""  # further header lines, each with its CRLF


Reply = Callable[[Response], None]


@dataclass(slots=True)
class Request:
    """One whole request. `target` is path and query string as they stood; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    parameters: dict[str, str]  # what a route's pattern found in the path

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


def json_response(status: int, value: Any, content_type: bytes = JSON) -> Response:
    return Response(status, json.dumps(value, separators=(",", ":")).encode("utf-8"), content_type)


def problem(error: OnecodeError, extra: dict[str, Any] | None = None) -> Response:
    """The RFC 9457 answer for an error, with `Retry-After` where it is known."""
    response = json_response(error.status, error.problem() | (extra or {}), PROBLEM)
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
        self._exact: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[list[str], dict[str, Handler]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        if "{" not in pattern:
            self._exact.setdefault(pattern, {})[method] = handler
            return
        segments = pattern.split("/")
        for known, methods in self._patterns:
            if known == segments:
                methods[method] = handler
                return
        self._patterns.append((segments, {method: handler}))

    def add_async(self, method: str, pattern: str, handler: AsyncHandler) -> None:
        self.add(method, pattern, partial(self._start, handler))

    def __call__(self, request: Request, reply: Reply) -> None:
        methods = self._exact.get(request.path) or self._match(request)
        if methods is None:
            raise Malformed("http.path", "there is no such path", status=404)
        handler = methods.get(request.method)
        if handler is None:
            raise Malformed("http.method", f"use {' or '.join(sorted(methods))} on this path", status=405)
        handler(request, reply)

    def _match(self, request: Request) -> dict[str, Handler] | None:
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
