"""What other organisations' engines may ask of ours: signed headers, validators and consensus parameters, for the light
client of a node that joins by state sync.

The engine's own RPC gives control of its pool and stays on loopback. Here a request is parsed, made anew from what is
allowed, and the engine's answer handed on as it is: the one who asks verifies it (docs/spec/snapshots.md).
"""

from __future__ import annotations

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from onecode.errors import Declined, Malformed, Misconfigured, Unreachable, json_object
from onecode.node.config import NodeConfig
from onecode.node.routes import Request, Response

METHODS = {"commit": ("height",), "consensus_params": ("height",), "validators": ("height", "page", "per_page")}
REQUEST_BYTES_MAX = 1_024
ANSWER_BYTES_MAX = 8 << 20
NUMBER_CHARS_MAX = 19  # of an int64
IN_FLIGHT_MAX = 16  # of one worker; the engine decides blocks meanwhile
THREADS = 2


class EngineWindow:
    """The route of one worker. Threads, since the engine's RPC is asked seldom and not by an event loop."""

    def __init__(self, config: NodeConfig) -> None:
        self._port = config.engine_rpc_port if config.engine == "cometbft" else None
        self._timeout_s = config.enclave_timeout_ms / 1000
        self._in_flight = 0
        self._threads = ThreadPoolExecutor(THREADS, "engine-window")

    async def ask(self, request: Request) -> Response:
        """Answer one JSON-RPC request, in the engine's own words, its refusals included."""
        if self._port is None:
            raise Declined("node.no_engine", "this node runs without an engine: nobody joins its chain", status=404)
        wanted = parse_request(request.body)
        if self._in_flight >= IN_FLIGHT_MAX:
            raise Unreachable("node.busy", "the node has all it can do: ask again or another one", retry_after_ms=1_000)
        self._in_flight += 1
        try:
            loop = asyncio.get_running_loop()
            return Response(200, await loop.run_in_executor(self._threads, self._fetch, self._port, wanted))
        finally:
            self._in_flight -= 1

    def _fetch(self, port: int, wanted: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self._timeout_s)
        try:
            connection.request("POST", "/", wanted, {"content-type": "application/json"})
            body = connection.getresponse().read(ANSWER_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable("engine.unreachable", "the node's engine does not answer: ask another node") from error
        finally:
            connection.close()
        if len(body) > ANSWER_BYTES_MAX or json_object(body) is None:
            raise Misconfigured("engine.answer", "what answers at its port is no engine", field="engine_rpc_port")
        return body


def parse_request(body: bytes) -> bytes:
    """An untrusted JSON-RPC request, written anew: one of `METHODS` with decimal numbers and nothing else."""
    given = json_object(body) if len(body) <= REQUEST_BYTES_MAX else None
    if given is None:
        raise Malformed("engine.request", f"send one JSON-RPC request, at most {REQUEST_BYTES_MAX} bytes", field="body")
    method = given.get("method")
    if type(method) is not str or method not in METHODS:
        raise Malformed("engine.request", f"the method is one of {', '.join(METHODS)}", field="method")
    number = given.get("id", -1)
    if type(number) is not int or not -1 <= number < 1 << 53:
        raise Malformed("engine.request", "the id is a number", field="id")
    parameters = given.get("params") or {}
    if type(parameters) is not dict or not set(parameters) <= set(METHODS[method]):
        raise Malformed("engine.request", f"{method} takes {', '.join(METHODS[method])}", field="params")
    numbers = {name: _number(name, value) for name, value in parameters.items() if value is not None}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": numbers}).encode("ascii")


def _number(name: str, value: Any) -> str:
    text = str(value) if type(value) is int else value
    if type(text) is not str or not (text.isascii() and text.isdecimal() and len(text) <= NUMBER_CHARS_MAX):
        raise Malformed("engine.request", f"{name} is a decimal number", field=f"params.{name}")
    return text
