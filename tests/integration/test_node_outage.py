"""A node with two query workers and two enclave workers: every pair answers, and what dies or hangs is replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.node_network import CBOR, CHAIN_ID, Merchant, Network, alive, key, start, wait_until
from integration.test_node import state_of
from onecode.query.messages import Answer
from onecode.query.sealing import open_result
from onecode.schema import parse
from onecode.wire import sha256

NOODLES = Merchant("noodles")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = start(tmp_path, workers=2, enclave_workers=2, hung_timeout_ms=1_500)
    try:
        network.attest()
        network.publish(network.a, NOODLES.publication(network.a))
        yield network
    finally:
        network.stop()


def query_key(network: Network) -> bytes:
    return network.network().enclaves[0].query_key


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def all_of(state: dict[str, Any], name: str) -> list[int]:
    """The running processes of one kind, and the one that is not there as itself: nobody's id."""
    found = state["pids"][name]
    return [one for one in (found if isinstance(found, list) else [found]) if one is not None]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def ask_once(network: Network, client: httpx.Client, asked_key: bytes, device: str) -> int:
    """Ask over the client's connection; how many records came."""
    _, secret, query = network.query(network.a, asked_key, key(device), merchant=NOODLES.id)
    response = client.post("/v1/query", content=query.encoded(), headers=CBOR)
    assert response.status_code == 200, response.text
    answer = parse(Answer, response.content)
    return len(open_result(CHAIN_ID, answer.sealed, secret.reply_key, sha256(query.clear)).opened)


def test_every_pair_of_workers_answers(network: Network) -> None:
    """The kernel spreads connections over the workers, a worker its queries over the enclave's: all take part."""
    asked_key = query_key(network)
    pids = state_of(network)["pids"]
    parts = [*pids["workers"], *children_of(pids["enclave"])]
    assert len(parts) == 4
    before = [cpu_ticks(pid) for pid in parts]
    for number in range(16):
        with httpx.Client(base_url=network.client.base_url) as client:
            assert [ask_once(network, client, asked_key, f"{number}/{n}") for n in range(24)] == [1] * 24
    assert all(after > first for first, after in zip(before, map(cpu_ticks, parts), strict=True))
    text = network.get("/v1/metrics").text
    assert 'onecode_http_answers_total{route="POST /v1/query",status="200"} 384\n' in text
    assert "onecode_query_seconds_count 384\n" in text
    assert "onecode_enclave_up 2\n" in text


def test_an_enclave_that_loses_a_worker_begins_again(network: Network) -> None:
    old = query_key(network)
    enclave = state_of(network)["pids"]["enclave"]
    family = [enclave, *children_of(enclave)]
    os.kill(family[1], signal.SIGKILL)
    began = time.monotonic()
    _, _, query = network.query(network.a, old, merchant=NOODLES.id)

    def post() -> httpx.Response:
        return network.client.post("/v1/query", content=query.encoded(), headers=CBOR)

    def outage() -> httpx.Response | None:
        answer = post()
        return answer if answer.status_code == 503 else None

    down = wait_until(outage)
    assert down.json()["code"] == "node.enclave_down" and int(down.headers["retry-after"]) >= 1
    wait_until(lambda: not any(map(alive, family)))
    new = wait_until(lambda: [one.query_key for one in network.network().enclaves if one.query_key != old])[0]

    def answered() -> bool:
        _, _, _, result = network.ask(network.a, new, merchant=NOODLES.id)
        return len(result.opened) == 1

    wait_until(answered)
    outage_s = time.monotonic() - began
    print(f"outage after the death of an enclave worker: {outage_s:.1f} s")
    assert outage_s < 15
    assert 'onecode_restarts_total{process="enclave"} 1\n' in network.get("/v1/metrics").text


def test_what_stands_still_is_replaced(network: Network) -> None:
    """A stopped query worker, writer and enclave worker: each is noticed, ended and started again."""
    for name in ("workers", "writer", "enclave"):
        pids = state_of(network)["pids"]
        pid = pids["workers"][0] if name == "workers" else pids[name]
        stopped = children_of(pid)[0] if name == "enclave" else pid
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda pid=pid: not alive(pid))
        wait_until(lambda name=name, pid=pid: pid not in all_of(state_of(network), name))
    wait_until(lambda: network.client.get("/v1/health").status_code == 200)
    wait_until(lambda: len(network.leases()) == 2)
    text = network.get("/v1/metrics").text
    for name in ("worker", "writer", "enclave"):
        assert f'onecode_hung_total{{process="{name}"}} 1\n' in text
    assert network.publish(network.a, Merchant("after").publication(network.a))["code"] == 0
