"""What the node's own engine answers, and what something else at its port does."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from onecode.errors import OnecodeError
from onecode.node.engine_rpc import EngineRpc, EngineStatus
from onecode.proof.comet_json import signed_header_to_rpc, validators_to_rpc
from vectors.proof_chain import make_header, signed_by, validator_set

NAMES = [1, 2, 3]
MEMBERS = validator_set(NAMES)


@contextmanager
def engine(answers: dict[str, Any]) -> Iterator[tuple[EngineRpc, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(request["method"])
            body = json.dumps(answers.get(request["method"], {"error": "no"})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    rpc = EngineRpc(server.server_port)
    try:
        yield rpc, asked
    finally:
        rpc.close()
        server.shutdown()
        thread.join()
        server.server_close()


def answers(height: int = 5) -> dict[str, Any]:
    signed = signed_by(make_header(height, MEMBERS), NAMES)
    validators = validators_to_rpc(MEMBERS)
    return {
        "commit": {"result": {"signed_header": signed_header_to_rpc(signed), "canonical": False}},
        "validators": {"result": {"validators": validators, "total": str(len(validators))}},
    }


def code_of(rpc: EngineRpc, height: int = 5) -> str:
    with pytest.raises(OnecodeError) as raised:
        rpc.header(height)
    return raised.value.code


def test_a_header_and_its_validators() -> None:
    with engine(answers()) as (rpc, asked):
        for _ in range(2):
            signed, validators = rpc.header(5)
            assert (signed.header.height, validators) == (5, MEMBERS)
    assert asked == ["commit", "validators", "commit"]  # they had not changed


def test_what_is_no_engine() -> None:
    with engine(answers()) as (rpc, _):
        assert code_of(rpc, 6) == "engine.header"
    with engine({"commit": {"result": []}}) as (rpc, _):
        assert code_of(rpc) == "engine.answer"
    with engine({"commit": "?"}) as (rpc, _):
        assert code_of(rpc) == "engine.answer"
    with engine({}) as (rpc, _):
        assert code_of(rpc) == "engine.refused"


def test_nobody_answers() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert code_of(EngineRpc(held.getsockname()[1])) == "engine.unreachable"


def test_a_transaction_is_taken_refused_or_known() -> None:
    for answer, expected in (({"result": {"code": 0}}, 0), ({"result": {"code": 7}}, 7)):
        with engine({"broadcast_tx_sync": answer}) as (rpc, _):
            assert rpc.submit(b"a") == expected
    cached = {"error": {"code": -32603, "message": "Internal error", "data": "tx already exists in cache"}}
    with engine({"broadcast_tx_sync": cached}) as (rpc, _):
        assert rpc.submit(b"a") is None
    for wrong in ({"error": {"data": "mempool is full"}}, {"result": {"code": "0"}}, {"result": {}}):
        with engine({"broadcast_tx_sync": wrong}) as (rpc, _), pytest.raises(OnecodeError) as raised:
            rpc.submit(b"a")
        assert raised.value.code == ("engine.refused" if "error" in wrong else "engine.answer")


STATUS = {
    "sync_info": {"latest_block_height": "9", "earliest_block_height": "3", "catching_up": False},
    "validator_info": {"voting_power": "10"},
}


def test_how_the_engine_stands() -> None:
    peers = [{"peer_state": {"round_state": {"height": height}}} for height in ("11", "999", "12")]
    given = {
        "status": {"result": STATUS},
        "net_info": {"result": {"n_peers": "3"}},
        "dump_consensus_state": {"result": {"peers": peers}},
    }
    with engine(given) as (rpc, _):
        assert rpc.status() == EngineStatus(height=9, first_block=3, catching_up=False, power=10, peers=3)
        assert rpc.furthest_peer() == 12  # one alone may lie
    with engine({"dump_consensus_state": {"result": {"peers": peers[:1]}}}) as (rpc, _):
        assert rpc.furthest_peer() == 11
    with engine({"dump_consensus_state": {"result": {"peers": None}}}) as (rpc, _):
        assert rpc.furthest_peer() == 0


@pytest.mark.parametrize("given", [{}, {"sync_info": {}}, STATUS | {"validator_info": {"voting_power": "x"}}])
def test_a_status_that_is_none(given: dict[str, Any]) -> None:
    with engine({"status": {"result": given}, "net_info": {"result": {"n_peers": "0"}}}) as (rpc, _):
        with pytest.raises(OnecodeError) as raised:
            rpc.status()
        assert raised.value.code == "engine.answer"
