"""What members get from a real node: transactions and their proofs, blocks, the stream of changes; and operators."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.node_network import CBOR, Merchant, Network, start, wait_until
from onecode.host.clock import now_ms
from onecode.node.solo_chain import data_hash
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.proof.transaction import VerifiedTransaction, verify_transaction_proof
from onecode.query.messages import BLOCK_BYTES_MAX, BlockView, HeaderView, TransactionStatus, TransactionView
from onecode.registry.transactions import Kind, PlatformEpoch, RecordPublish
from onecode.schema import parse
from onecode.wire import sha256

PROOF = {"accept": "application/cbor"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    network = start(tmp_path_factory.mktemp("members"), enclave_config=None, streams_max=2, address_connections_max=40)
    try:
        yield network
    finally:
        network.stop()


def publication(network: Network, name: str, *more: str) -> bytes:
    items = tuple(Merchant(one).publication(network.a) for one in (name, *more))
    return network.a.transaction(Kind.RECORD_PUBLISH, RecordPublish(items=items))


def refusal(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def verified(view: TransactionView, transaction: bytes, anchor: HeaderView) -> VerifiedTransaction:
    """Everything checked, from a header that is trusted."""
    assert view.proof is not None
    trust = Trust(trusted_state(anchor.header.header, anchor.validators))
    header = verify_header(view.proof.header, view.proof.validators, trust, now_ms())
    return verify_transaction_proof(view.proof, transaction, header)


def test_a_transaction_is_waited_for_and_proven(network: Network) -> None:
    anchor = parse(HeaderView, network.get("/v1/headers/latest").content)
    raw = publication(network, "proven", "proven too")
    response = network.client.post("/v1/transactions?wait=proven", content=raw, headers=CBOR | PROOF)
    assert response.headers["content-type"] == "application/cbor"
    view = parse(TransactionView, response.content)
    assert view.status == TransactionStatus.PROVEN and view.hash == sha256(raw)
    found = verified(view, raw, anchor)
    assert (found.height, found.code, found.item_codes) == (view.height, 0, (0, 0))
    path = f"/v1/transactions/{view.hash.hex()}"
    assert parse(TransactionView, network.get(path, headers=PROOF).content) == view
    plain = network.get(path).json()
    assert (plain["status"], plain["height"], plain["name"]) == ("proven", view.height, "ok")
    again = network.submit(raw)
    assert refusal(again) == (409, "transaction.declined") and again.json()["result"] == "nonce"
    assert network.get(path).json() == plain  # what it did the first time


def test_an_unknown_transaction_and_a_wrong_hash(network: Network) -> None:
    unknown = network.get(f"/v1/transactions/{'00' * 32}")
    assert (unknown.status_code, unknown.json()["status"]) == (200, "unknown")
    view = parse(TransactionView, network.get(f"/v1/transactions/{'00' * 32}", headers=PROOF).content)
    assert (view.status, view.proof) == (TransactionStatus.UNKNOWN, None)
    assert refusal(network.get("/v1/transactions/00")) == (400, "http.parameter")


def test_a_batch_refused_before_any_block_names_its_items(network: Network) -> None:
    items = (
        Merchant("no consent").publication(network.a, consented=False),
        Merchant("far").publication(network.a, 9_999),
    )
    response = network.submit(network.a.transaction(Kind.RECORD_PUBLISH, RecordPublish(items=items)))
    assert refusal(response) == (409, "transaction.declined")
    body = response.json()
    assert body["result"] == "items-failed"
    assert [one["name"] for one in body["items"]] == ["consent-missing", "version"]


def test_a_block_is_the_headers(network: Network) -> None:
    raw = publication(network, "in a block")
    height = network.submit(raw).json()["height"]
    path = f"/v1/members/blocks/{height}"
    response = network.get(path, headers=network.b.member("GET", path))
    view = parse(BlockView, response.content, size_max=BLOCK_BYTES_MAX)
    assert view.encoded() == response.content
    assert view.header.header.height == height and raw in view.transactions
    assert view.header.header.data_hash == data_hash(view.transactions)
    assert [result.code for result in view.results] == [0]
    assert [event["event"] for event in json.loads(view.results[0].events)] == ["MerchantBorn", "RecordPublished"]
    assert refusal(network.get(path)) == (401, "request.member")
    later = "/v1/members/blocks/999999"
    assert refusal(network.get(later, headers=network.b.member("GET", later))) == (404, "node.block_absent")


class Reader(threading.Thread):
    """Reads a member's event stream until `stop`; `lines` are those with transactions, `seen` is the newest height."""

    def __init__(self, network: Network, from_height: int) -> None:
        super().__init__(daemon=True)
        self.network, self.path = network, f"/v1/members/events?from_height={from_height}"
        self.lines: list[dict[str, Any]] = []
        self.seen = 0
        self.halt = threading.Event()
        self.start()

    def run(self) -> None:
        headers = self.network.b.member("GET", self.path)
        with self.network.client.stream("GET", self.path, headers=headers) as response:
            assert response.headers["content-type"] == "application/x-ndjson"
            for text in response.iter_lines():
                line = json.loads(text)
                self.seen = line["height"]
                if line["transactions"]:
                    self.lines.append(line)
                if self.halt.is_set():
                    return


def test_changes_are_streamed_and_resumed(network: Network) -> None:
    first = network.submit(publication(network, "streamed 1")).json()["height"]
    reader = Reader(network, first)
    second = network.submit(publication(network, "streamed 2"))
    wait_until(lambda: len(reader.lines) == 2)
    assert [line["height"] for line in reader.lines] == [first, second.json()["height"]]
    change = reader.lines[1]["transactions"][0]
    assert change["hash"] == second.json()["hash"] and change["name"] == "ok"
    assert [event["event"] for event in change["events"]] == ["MerchantBorn", "RecordPublished"]
    third = network.submit(publication(network, "streamed 3")).json()["height"]
    again = Reader(network, second.json()["height"] + 1)
    wait_until(lambda: [line["height"] for line in again.lines] == [third])
    wait_until(lambda: again.seen > third)  # a line while nothing changes
    reader.halt.set()
    again.halt.set()


def test_streams_are_bounded(network: Network) -> None:
    path = "/v1/members/events"
    with contextlib.ExitStack() as stack:
        headers = network.a.member("GET", path)
        opened = [stack.enter_context(network.client.stream("GET", path, headers=headers)) for _ in range(6)]
        refused = [response for response in opened if response.status_code != 200]
        assert refused  # two workers, two streams each, at most
        for response in refused:
            response.read()
            assert refusal(response) == (429, "http.streams")


def test_who_may_not_read_changes(network: Network) -> None:
    path = "/v1/members/events?from_height=999999"
    assert refusal(network.get(path, headers=network.b.member("GET", path))) == (404, "node.block_absent")
    path = "/v1/members/events?from_height=x"
    assert refusal(network.get(path, headers=network.b.member("GET", path))) == (400, "http.parameter")
    assert refusal(network.get("/v1/members/events")) == (401, "request.member")
    assert refusal(network.get("/v1/members/events", headers={"onecode-observer": "!"})) == (400, "request.header")


def test_the_network_in_words(network: Network) -> None:
    said = network.get("/v1/network.json").json()
    assert said["chain_id"] == network.config["chain_id"] and said["services"] == ["pay"]
    assert [member["name"] for member in said["members"]] != [] and all(m["active"] for m in said["members"])
    assert said["validators"][0]["key"] == network.validator.public.hex()
    assert len(said["genesis_hash"]) == 64 and said["parameters"]["freeze_platforms"] == 2


def metrics(network: Network) -> dict[str, float]:
    response = network.get("/v1/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_are_of_all_workers(network: Network) -> None:
    def answered() -> float:
        return metrics(network)['onecode_http_answers_total{route="GET /v1/health",status="200"}']

    before = answered()
    for _ in range(20):  # each on a new connection, so that both workers are met
        assert httpx.get(f"{network.client.base_url}/v1/health").status_code == 200
    assert answered() == before + 20
    refused = metrics(network)['onecode_refused_total{reason="http.parameter"}']
    network.get("/v1/headers/x")
    now = metrics(network)
    assert now['onecode_refused_total{reason="http.parameter"}'] == refused + 1
    assert now["onecode_enclave_up"] == 0 and now["onecode_writer_up"] == 1
    assert now['onecode_transactions_total{outcome="succeeded"}'] >= 4
    assert now['onecode_transactions_total{outcome="refused"}'] >= 2
    assert 0 < now["onecode_store_used_bytes"] < now["onecode_store_map_bytes"] == 1 << 30
    assert now["onecode_header_age_ms"] < 5_000 and now["onecode_queue_length"] == 0
    text = network.get("/v1/metrics").text
    assert network.a.id.hex() not in text and Merchant("proven").id.hex() not in text


def test_the_openapi_document_is_served(network: Network, root: Path) -> None:
    served = network.get("/v1/openapi.json").json()
    assert served == json.loads((root / "docs" / "openapi" / "node.json").read_text("utf-8"))


def test_connections_of_one_address_are_bounded(network: Network) -> None:
    url = httpx.URL(str(network.client.base_url))
    clients = [httpx.Client(base_url=url) for _ in range(100)]
    try:
        answers = [client.get("/v1/health") for client in clients]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert refused and {refusal(one) for one in refused} == {(429, "http.connections")}
        assert all(one.headers["retry-after"] == "1" for one in refused)
        assert len(answers) - len(refused) >= 30
    finally:
        for client in clients:
            client.close()


def test_old_blocks_are_forgotten(tmp_path: Path) -> None:
    network = start(tmp_path, enclave_config=None, workers=1, heartbeat_ms=20, keep_blocks=100)
    try:
        raw = network.b.transaction(Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=1))
        path = f"/v1/transactions/{network.submit(raw).json()['hash']}"
        assert network.get(path).json()["status"] == "proven"
        wait_until(lambda: network.get(path).json()["status"] == "unknown")
        first = network.status()["first_block"]
        assert first > 1 and network.status()["height"] - first <= 101
        assert refusal(network.get("/v1/headers/1")) == (404, "node.header_absent")
        assert network.get(f"/v1/headers/{first + 50}").status_code == 200
        gone = "/v1/members/events?from_height=1"
        assert refusal(network.get(gone, headers=network.a.member("GET", gone))) == (404, "node.block_absent")
        assert network.submit(raw).json()["result"] == "nonce"  # forgotten, and still not played again
        time.sleep(0.1)
        assert network.get("/v1/health").status_code == 200
    finally:
        network.stop()
