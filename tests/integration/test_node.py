"""A real node: every route and its errors, under load, and what dies and comes back."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.node_network import CBOR, CHAIN_ID, Merchant, Network, Platform, Process, alive, key, start, wait_until
from onecode.host.clock import now_ms
from onecode.proof.governance import ENCLAVE_POLICY_KEY, EnclavePolicy
from onecode.proof.leaves import MerchantEntry
from onecode.proof.light import Trust, VerifiedHeader, require_fresh, trusted_state, verify_header
from onecode.proof.map import Section, verify_absence, verify_presence, verify_roots
from onecode.query.messages import Alias, HeaderView, LeafView, MemberView, NetworkView, Query
from onecode.query.requests import member_header
from onecode.query.verify import verify_enclave, verify_platforms, verify_policy, verify_records, verify_state
from onecode.registry.transactions import Kind, PlatformEpoch, RecordPublish
from onecode.schema import parse
from onecode.wire import SigningKey

NOODLES = Merchant("noodles")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    network = start(tmp_path_factory.mktemp("node"))
    try:
        network.attest()
        network.publish(network.a, NOODLES.publication(network.a))
        network.publish(network.b, NOODLES.publication(network.b))
        yield network
    finally:
        network.stop()


def query_key(network: Network) -> bytes:
    return network.network().enclaves[0].query_key


def verified(view: NetworkView | LeafView | MemberView | HeaderView) -> VerifiedHeader:
    """The view's header, trusted for the test's sake, with all signatures checked."""
    trust = Trust(trusted_state(view.header.header, view.validators))
    header = verify_header(view.header, view.validators, trust, now_ms())
    require_fresh(header, now_ms())
    return header


def refusal(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


# --- reads


def test_the_network_view_is_proven(network: Network) -> None:
    view = network.network()
    verify_roots(view.roots, verified(view).header.app_hash)
    platforms = verify_platforms(view.platforms, view.roots, {})
    assert {leaf.name for leaf in platforms.values()} == {"A", "B"}
    policy = verify_policy(view.roots, view.policy, view.policy_proof)
    attested = {given.platform: given for given in view.enclaves}
    assert attested.keys() == {network.a.id, network.b.id}
    for platform, given in attested.items():
        leaf = verify_enclave(given, view.roots, platform, policy, now_ms(), now_ms())
        assert leaf.node_id == "node-1"


def test_headers_by_height(network: Network) -> None:
    latest = parse(HeaderView, network.get("/v1/headers/latest").content)
    verified(latest)
    height = latest.header.header.height
    before = parse(HeaderView, network.get(f"/v1/headers/{height - 1}").content)
    trust = Trust(trusted_state(before.header.header, before.validators))
    assert verify_header(latest.header, latest.validators, trust, now_ms()).header.height == height
    assert refusal(network.get(f"/v1/headers/{height + 1000}")) == (404, "node.header_absent")
    assert refusal(network.get("/v1/headers/-1")) == (400, "http.parameter")


def test_a_newer_header_can_be_waited_for(network: Network) -> None:
    height = parse(HeaderView, network.get("/v1/headers/latest").content).header.header.height
    assert parse(HeaderView, network.get("/v1/headers/latest?above=1").content).header.header.height >= height
    newer = parse(HeaderView, network.get(f"/v1/headers/latest?above={height}", timeout=60).content)
    verified(newer)
    assert newer.header.header.height > height  # the heartbeat is shorter than the wait
    far = parse(HeaderView, network.get("/v1/headers/latest?above=999999999", timeout=5).content)  # waits for nothing
    assert far.header.header.height >= newer.header.header.height
    assert refusal(network.get("/v1/headers/latest?above=-1")) == (400, "http.parameter")


def test_a_leaf_is_proven_present_or_absent(network: Network) -> None:
    def leaf(section: Section, leaf_key: bytes) -> LeafView:
        path = f"/v1/leaves/{section.name.lower()}/{leaf_key.hex()}"
        view = parse(LeafView, network.get(path).content)
        assert (view.section, view.key) == (section, leaf_key)
        verify_roots(view.roots, verified(view).header.app_hash)
        return view

    policy = leaf(Section.GOVERNANCE, ENCLAVE_POLICY_KEY)
    verify_presence(policy.roots, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, policy.leaf or b"", policy.proof)
    assert parse(EnclavePolicy, policy.leaf or b"").measurements
    absent = leaf(Section.PLATFORMS, b"x" * 20)
    assert absent.leaf is None
    verify_absence(absent.roots, Section.PLATFORMS, b"x" * 20, absent.proof)


def test_members_read_merchants(network: Network) -> None:
    path = f"/v1/members/merchants/{NOODLES.id.hex()}?service=pay"
    view = parse(MemberView, network.get(path, headers=network.b.member("GET", path)).content)
    verify_roots(view.roots, verified(view).header.app_hash)
    entry = view.merchant.entry or b""
    verify_presence(view.roots, Section.MERCHANTS, NOODLES.id, entry, view.merchant.proof)
    assert parse(MerchantEntry, entry).services[0].service == "pay"
    assert len(view.envelopes) == 2 and len(view.platforms) == 2
    absent = f"/v1/members/merchants/{'00' * 20}"
    assert parse(MemberView, network.get(absent, headers=network.a.member("GET", absent)).content).envelopes == ()
    leaf = f"/v1/leaves/merchants/{NOODLES.id.hex()}"
    assert parse(LeafView, network.get(leaf, headers=network.a.member("GET", leaf)).content).leaf == entry


def test_who_is_no_member_is_refused(network: Network) -> None:
    path = f"/v1/members/merchants/{NOODLES.id.hex()}?service=pay"
    signer, a = network.a.keys, network.a.id

    def signed(platform: bytes, by: SigningKey, path: str = path, at_ms: int | None = None) -> dict[str, str]:
        at_ms = now_ms() if at_ms is None else at_ms
        return {"onecode-member": member_header(CHAIN_ID, platform, by, "GET", path, b"", at_ms)}

    transaction = next(signer[role] for role in signer if role.name == "TRANSACTION")
    assert network.get(path, headers=signed(a, transaction)).status_code == 200
    assert refusal(network.get(path)) == (401, "request.member")
    assert refusal(network.get(path, headers={"onecode-member": "!"})) == (400, "request.header")
    assert refusal(network.get(path, headers=signed(b"x" * 20, transaction))) == (401, "request.platform")
    assert refusal(network.get(path, headers=signed(a, key("a stranger")))) == (401, "platform.key_unknown")
    assert refusal(network.get(path, headers=signed(a, transaction, "/v1/other"))) == (401, "signature.bad")
    old_ms = now_ms() - 120_000
    assert refusal(network.get(path, headers=signed(a, transaction, path, old_ms))) == (401, "request.time")
    for section in ("merchants", "aliases"):
        assert refusal(network.get(f"/v1/leaves/{section}/{NOODLES.id.hex()}")) == (401, "request.member")


def test_paths_that_are_not_there(network: Network) -> None:
    assert refusal(network.get("/v1/nothing")) == (404, "http.path")
    assert refusal(network.get("/v1/query")) == (405, "http.method")
    assert refusal(network.get("/v1/leaves/secrets/00")) == (404, "http.parameter")
    assert refusal(network.get("/v1/leaves/platforms/XY")) == (400, "http.parameter")
    assert refusal(network.get("/v1/members/merchants/00")) == (400, "http.parameter")


def test_status_and_health(network: Network) -> None:
    status = network.status()
    assert status["chain_id"] == CHAIN_ID and status["platforms"] == 2
    assert status["enclave"]["up"] and status["enclave"]["simulated"] is True
    assert {lease["platform"] for lease in status["enclave"]["leases"]} == {network.a.id.hex(), network.b.id.hex()}
    assert network.get("/v1/health").json()["healthy"] is True


# --- queries


def test_a_query_is_answered_and_verifies(network: Network) -> None:
    clear, secret, answer, result = network.ask(network.a, query_key(network), merchant=NOODLES.id)
    assert answer.header is not None and answer.validators is not None
    trust = Trust(trusted_state(answer.header.header, answer.validators))
    header = verify_header(answer.header, answer.validators, trust, now_ms())
    assert answer.height == header.header.height
    platforms = verify_platforms(answer.platforms, answer.roots, {})
    state = verify_state(clear, header, answer.roots, answer.aliases, answer.merchant, platforms)
    records = verify_records(
        state, CHAIN_ID, result, secret.query_id, secret.mode, secret.accepted, network.a.id, now_ms()
    )
    assert records[0].record.display_name == "Noodle House"
    assert len(state.links) == 2 and len(result.opened) == 1


def test_an_answer_leaves_out_what_the_wallet_has(network: Network) -> None:
    root = network.network().roots.root(Section.PLATFORMS)
    for _ in range(10):  # until no header comes in between
        height = network.network().header.header.height
        _, _, answer, result = network.ask(
            network.a, query_key(network), merchant=NOODLES.id, have_height=height, have_platforms_root=root
        )
        if answer.height == height:
            break
    assert result.refusal is None and len(result.opened) == 1
    assert answer.header is None and answer.validators is None and answer.platforms is None
    _, _, other, _ = network.ask(network.a, query_key(network), merchant=NOODLES.id, have_platforms_root=b"x" * 32)
    assert other.platforms is not None and len(other.platforms) == 2


def test_absence_is_proven_and_the_refusal_sealed(network: Network) -> None:
    _, _, answer, result = network.ask(network.a, query_key(network), merchant=b"x" * 20)
    assert result.refusal == "merchant.absent"
    assert answer.merchant is not None and answer.merchant.entry is None
    verify_absence(answer.roots, Section.MERCHANTS, b"x" * 20, answer.merchant.proof)
    aliases = (Alias(guid="com.example", values=("1", "2")), Alias(guid="com.other", values=("3",)))
    _, _, answer, result = network.ask(network.a, query_key(network), aliases=aliases)
    assert result.refusal == "alias.absent"
    assert answer.merchant is None and [given.leaf for given in answer.aliases or ()] == [None, None]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"query_key": b"k" * 32}, (400, "query.enclave_unknown")),
        ({"chain_id": "solo-other"}, (401, "query.chain")),
        ({"protocol": 9}, (400, "query.protocol")),
        ({"merchant": None}, (400, "query.subject")),
        ({"aliases": (Alias(guid="a", values=("1",)),)}, (400, "query.subject")),
    ],
)
def test_what_the_host_refuses(network: Network, changes: dict[str, Any], refused: tuple[int, str]) -> None:
    given, _, query = network.query(network.a, query_key(network), merchant=NOODLES.id)
    clear = dataclasses.replace(given, **changes)
    sent = Query(clear=clear.encoded(), suite=query.suite, sealed=query.sealed)
    assert refusal(network.client.post("/v1/query", content=sent.encoded(), headers=CBOR)) == refused


def test_bodies_that_are_no_query(network: Network) -> None:
    def post(body: bytes, headers: dict[str, str] = CBOR) -> tuple[int, str]:
        return refusal(network.client.post("/v1/query", content=body, headers=headers))

    assert post(b"") == (400, "wire.truncated")
    assert post(b"\xff") == (400, "wire.not_canonical")
    assert post(b"\xa0") == (400, "wire.field_missing")
    assert post(b"x" * 9000) == (413, "wire.too_large")
    assert post(b"x" * 600_000) == (413, "http.body_too_large")
    assert post(b"\xa0", {"content-type": "application/json"}) == (415, "http.media_type")


def test_a_seal_that_does_not_open_is_refused_openly(network: Network) -> None:
    _, _, query = network.query(network.a, query_key(network), merchant=NOODLES.id)
    broken = dataclasses.replace(query, sealed=query.sealed[:-1] + bytes((query.sealed[-1] ^ 1,)))
    response = network.client.post("/v1/query", content=broken.encoded(), headers=CBOR)
    assert refusal(response) == (401, "seal.broken")


# --- transactions


def test_transactions_and_their_refusals(network: Network) -> None:
    def epoch(epoch_min: int, **changes: Any) -> bytes:
        return network.b.transaction(Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=epoch_min), **changes)

    first = epoch(0)
    refused = network.submit(first)
    assert refusal(refused) == (409, "transaction.declined")
    assert refused.json()["result"] == "epoch-not-raised"
    merchant = Merchant("transactions")
    decided = network.publish(network.a, merchant.publication(network.a))
    assert (decided["code"], decided["name"], decided["items"]) == (0, "ok", [{"code": 0, "name": "ok"}])
    again = RecordPublish(items=(merchant.publication(network.b), merchant.publication(network.b, 7)))
    mixed = network.submit(network.b.transaction(Kind.RECORD_PUBLISH, again), "proven").json()
    assert (mixed["code"], [one["name"] for one in mixed["items"]]) == (0, ["ok", "version"])
    assert network.network().header.header.height > mixed["height"]
    nobody = network.submit(merchant_free(network.a), "none").json()
    assert nobody["height"] is None and nobody["code"] is None and len(nobody["hash"]) == 64

    assert refusal(network.submit(b"\xff")) == (400, "transaction.malformed")
    stranger = epoch(2, key=key("a stranger"))
    assert refusal(network.submit(stranger)) == (401, "transaction.untrusted")
    assert refusal(network.submit(epoch(2, valid_until_ms=now_ms() - 1))) == (409, "transaction.declined")
    assert refusal(network.submit(b"")) == (413, "transaction.size")
    assert refusal(network.submit(first, "ever")) == (400, "http.parameter")
    assert refusal(network.client.post("/v1/transactions", content=first)) == (415, "http.media_type")


def merchant_free(platform: Platform) -> bytes:
    """A transaction that nothing else in this module depends on."""
    item = Merchant("nobody waits").publication(platform)
    return platform.transaction(Kind.RECORD_PUBLISH, RecordPublish(items=(item,)))


def test_queries_while_blocks_are_written(network: Network) -> None:
    """Every query of six clients is answered while blocks come as fast as they can."""
    writing = threading.Event()
    written: list[dict[str, Any]] = []

    def write() -> None:
        number = 0
        while not writing.is_set():
            number += 1
            written.append(network.publish(network.a, Merchant(f"busy {number}").publication(network.a)))

    faults: list[Any] = []
    asked_key = query_key(network)

    def ask(device: SigningKey) -> None:
        for _ in range(100):
            try:
                _, _, _, result = network.ask(network.b, asked_key, device, merchant=NOODLES.id)
                if result.refusal is not None or len(result.opened) != 1:
                    faults.append((result.refusal, result.detail))
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=ask, args=(key(f"device {number}"),)) for number in range(6)]
    writer = threading.Thread(target=write)
    for thread in [writer, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    writing.set()
    writer.join()
    assert faults == [] and len(written) > 5


# --- what dies


def test_an_enclave_that_dies_comes_back_with_another_key(network: Network) -> None:
    old = query_key(network)
    os.kill(state_of(network)["pids"]["enclave"], signal.SIGKILL)
    _, _, query = network.query(network.a, old, merchant=NOODLES.id)
    refused = {"node.enclave_down", "query.enclave_unknown"}

    def post() -> httpx.Response:
        return network.client.post("/v1/query", content=query.encoded(), headers=CBOR)

    code = wait_until(lambda: (refused & {post().json().get("code")}) if post().status_code != 200 else None)
    assert code <= refused
    wait_until(lambda: len(network.leases()) == 2)
    wait_until(lambda: refusal(post()) == (400, "query.enclave_unknown"))
    new = wait_until(lambda: [one.query_key for one in network.network().enclaves if one.query_key != old])[0]
    _, _, _, result = network.ask(network.a, new, merchant=NOODLES.id)
    assert len(result.opened) == 1


def test_a_worker_and_the_writer_come_back(network: Network) -> None:
    before = state_of(network)["pids"]
    height = network.status()["height"]
    for pid in (before["workers"][0], before["writer"]):
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        pids = state_of(network)["pids"]
        return pids["writer"] not in (None, before["writer"]) and pids["workers"][0] not in (None, before["workers"][0])

    wait_until(back)
    wait_until(lambda: network.get("/v1/health").status_code == 200)
    wait_until(lambda: network.status()["height"] > height)
    merchant = Merchant("after")
    assert network.publish(network.a, merchant.publication(network.a))["code"] == 0
    _, _, _, result = network.ask(network.a, query_key(network), merchant=merchant.id)
    assert len(result.opened) == 1


def test_keys_are_renewed_and_a_key_service_that_was_away_is_asked_again(tmp_path: Path) -> None:
    network = start(tmp_path, workers=1, relay_retry_ms_max=500)
    try:
        network.attest(lease_ms=1_500)

        def ends() -> dict[str, int]:
            return {lease["platform"]: lease["expires_ms"] for lease in network.leases()}

        a, b = network.a.id.hex(), network.b.id.hex()
        first = ends()
        wait_until(lambda: ends()[a] > first[a] and ends()[b] > first[b])
        assert min(ends().values()) > now_ms()  # renewed before the end
        network.services.pop().stop()  # B's
        wait_until(lambda: ends()[b] < now_ms())
        assert ends()[a] > now_ms()  # A is not held up
        network.start_key_service(network.b)
        wait_until(lambda: ends()[b] > now_ms())
    finally:
        network.stop()


def state_of(network: Network) -> dict[str, Any]:
    return dict(json.loads((network.directory / "data" / "running.json").read_text()))


def all_pids(said: dict[str, Any]) -> list[int]:
    return [said["pid"], said["pids"]["writer"], *said["pids"]["workers"]]


def test_the_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    network = start(tmp_path, enclave_config=None)
    assert network.node is not None
    pids = all_pids(network.node.said)
    network.node.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)))
    network.start()  # on the same store
    _, _, query = network.query(network.a, b"k" * 32, merchant=NOODLES.id)
    response = network.client.post("/v1/query", content=query.encoded(), headers=CBOR)
    assert refusal(response) == (503, "node.enclave_down")
    assert response.headers["retry-after"] == "1"
    assert network.network().enclaves == ()
    pids = all_pids(network.node.said)
    assert network.node.stop() == 0
    assert not any(map(alive, pids)) and not (tmp_path / "data" / "running.json").exists()


def test_an_operator_is_told_what_to_change(tmp_path: Path) -> None:
    network = Network(tmp_path, (1, 2), enclave_config=None)
    config = tmp_path / "config.json"

    def run(**options: Any) -> tuple[int, str]:
        config.write_text(json.dumps(network.config | options))
        done = subprocess.run(
            [sys.executable, "-m", "onecode.node", str(config)], capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stderr

    code, said = run(woorkers=2)
    assert code == 6 and "config.unknown" in said and "woorkers" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = run(api_port=taken.getsockname()[1])
        assert code == 6 and "node.port" in said
    code, said = run(genesis="nowhere.json")
    assert code == 6 and "node.genesis" in said
    (tmp_path / "validator.key").chmod(0o644)
    code, said = run()
    assert code == 6 and "node.key_mode" in said


def test_one_store_has_one_node(tmp_path: Path) -> None:
    network = start(tmp_path, enclave_config=None)
    try:
        config = tmp_path / "second.json"
        config.write_text(json.dumps(network.config | {"api_port": 0}))
        with pytest.raises(AssertionError, match="ended with 6"):
            Process("onecode.node", str(config))
        assert network.get("/v1/health").status_code == 200
    finally:
        network.stop()
