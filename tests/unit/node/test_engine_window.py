"""What may be asked of a node's engine from outside: three questions, written anew, and nothing else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from onecode.errors import Declined, Malformed, Misconfigured, OnecodeError, Unreachable
from onecode.node.config import NodeConfig
from onecode.node.engine_window import EngineWindow, parse_request
from onecode.node.routes import Request, Response

ASKED = {"jsonrpc": "2.0", "id": 7, "method": "commit", "params": {"height": "12"}}


class FakeEngine(BaseHTTPRequestHandler):
    """An engine's RPC port, for what this module hands on."""

    answer = b'{"jsonrpc":"2.0","id":7,"result":{}}'
    asked: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(500)  # as CometBFT does where it refuses; its body says why
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), FakeEngine)
    threading.Thread(target=server.serve_forever).start()
    FakeEngine.asked = []
    yield server.server_port
    server.shutdown()
    server.server_close()


def window(port: int, engine: str = "cometbft") -> EngineWindow:
    return EngineWindow(
        NodeConfig(
            chain_id="c", data_dir=Path("/x"), genesis=Path("/x"), node_id="n", engine=engine, engine_rpc_port=port
        )
    )


def ask(asked: EngineWindow, body: bytes) -> Response:
    request = Request("POST", "/v1/engine", {}, body, keep_alive=True, parameters={})
    return asyncio.run(asked.ask(request))


def test_an_answer_is_handed_on_as_it_is(engine: int) -> None:
    response = ask(window(engine), json.dumps(ASKED).encode())
    assert (response.status, response.body) == (200, FakeEngine.answer)
    assert FakeEngine.asked == [ASKED]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"params": {"height": 12}}, {"height": "12"}),
        ({"params": {}}, {}),
        ({"params": None}, {}),
        ({"method": "validators", "params": {"height": "1", "page": "2", "per_page": "100"}}, None),
        ({"method": "consensus_params", "params": {"height": None}}, {}),
    ],
)
def test_what_the_light_client_asks_is_written_anew(changes: dict[str, Any], asked: dict[str, str] | None) -> None:
    given = ASKED | changes
    found = json.loads(parse_request(json.dumps(given).encode()))
    assert found == given | {"params": given["params"] if asked is None else asked}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (json.dumps([ASKED]).encode(), "body"),
        (json.dumps(ASKED).encode() + b" " * 2_000, "body"),
        (b"[" * 1_000, "body"),
        *(
            (json.dumps(ASKED | changes).encode(), field)
            for changes, field in (
                ({"method": "broadcast_tx_sync", "params": {"tx": "AA=="}}, "method"),
                ({"method": "unsafe_flush_mempool"}, "method"),
                ({"method": "broadcast_evidence"}, "method"),
                ({"method": None}, "method"),
                ({"id": "7"}, "id"),
                ({"id": True}, "id"),
                ({"id": -2}, "id"),
                ({"params": {"height": "12", "prove": True}}, "params"),
                ({"params": {"per_page": "1"}}, "params"),
                ({"params": ["12"]}, "params"),
                ({"params": {"height": "0x12"}}, "params.height"),
                ({"params": {"height": "-1"}}, "params.height"),
                ({"params": {"height": "1" * 20}}, "params.height"),
                ({"params": {"height": True}}, "params.height"),
                ({"params": {"height": 1.5}}, "params.height"),
                ({"params": {"height": "١"}}, "params.height"),
            )
        ),
    ],
)
def test_nothing_else_is_asked(body: bytes, field: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse_request(body)
    assert (raised.value.code, raised.value.field) == ("engine.request", field)


def test_without_an_engine_and_with_one_that_is_none(engine: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(ASKED).encode()
    monkeypatch.setattr(FakeEngine, "answer", b"<html>")
    outcomes: list[tuple[EngineWindow, type[OnecodeError], str]] = [
        (window(engine, "solo"), Declined, "node.no_engine"),
        (window(1), Unreachable, "engine.unreachable"),
        (window(engine), Misconfigured, "engine.answer"),
    ]
    for asked, kind, code in outcomes:
        with pytest.raises(kind) as raised:
            ask(asked, body)
        assert raised.value.code == code


def test_only_so_many_at_once(engine: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onecode.node.engine_window.IN_FLIGHT_MAX", 0)
    with pytest.raises(Unreachable) as raised:
        ask(window(engine), json.dumps(ASKED).encode())
    assert raised.value.code == "node.busy"
