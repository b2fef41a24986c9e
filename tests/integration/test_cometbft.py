"""The registry behind real CometBFT: blocks, proofs, kill -9 of either process, replay, and four validators."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise, product
from pathlib import Path

import httpx
import pytest

from integration.abci_process import STORE
from integration.engine_network import (
    BINARY,
    CHAIN_ID,
    HEARTBEAT_MS,
    Load,
    Member,
    Network,
    publish,
    require_engine,
    wait_for,
)
from integration.node_network import Process
from onecode.host.clock import now_ms
from onecode.node.blocks import load_block, load_header, load_proven, load_state, stored_result
from onecode.node.solo_chain import data_hash, results_hash
from onecode.node.store import open_writer
from onecode.proof.header import header_hash
from onecode.proof.leaves import LinkList, Role
from onecode.proof.light import Trust, require_fresh, trusted_state, verify_header
from onecode.proof.map import Section, verify_presence, verify_roots
from onecode.query.messages import HeaderView, MemberView
from onecode.query.requests import MEMBER_HEADER, member_header
from onecode.registry.application import Application
from onecode.registry.genesis import Genesis
from onecode.registry.map import load, prove, section_roots
from onecode.registry.narrowing import NARROWING_HEADER, Narrowing, parse_narrowing
from onecode.registry.results import Result
from onecode.registry.store import MemoryStore, Table
from onecode.registry.transactions import Kind, RecordWithdraw, SignerKind, Withdrawal, build_transaction
from onecode.schema import parse
from unit.registry.world import PAY, Merchant, Platform

ROUNDS = 6


@pytest.fixture
def directory() -> Iterator[Path]:
    require_engine()
    with tempfile.TemporaryDirectory(prefix="net-") as short:  # a Unix socket's path is at most 107 bytes
        yield Path(short)


@pytest.mark.timeout(600)  # the build of the engine included
def test_one_validator_under_kill(directory: Path) -> None:
    network = Network(directory, 1, clients=4)
    member, moments = network.members[0], random.Random(5)
    network.start()
    reader = member.reader()
    load_of_publishes = Load(network, member, reader)
    try:
        for number in range(ROUNDS):
            load_of_publishes.wait_for_more(8)
            time.sleep(moments.uniform(0, 0.3))
            member.kill(("application", "engine", "both")[number % 3])
            member.start()
            if number % 2:  # once more while it starts
                time.sleep(moments.uniform(0, 1.0))
                member.kill("both")
                member.start()
        load_of_publishes.wait_for_more(8)
        load_of_publishes.stop()
        wait_for(lambda: _headers_are_whole(reader), "every header in the store")
        with reader.snapshot() as view:
            proven = load_proven(view)
            assert proven is not None
            first = load_header(view, 1)
            assert first is not None
        trust = Trust(trusted_state(first.signed.header, first.validators))
        require_fresh(verify_header(proven.signed, proven.validators, trust, now_ms()), now_ms())
    finally:
        load_of_publishes.stop()
        network.stop()
        reader.close()
    assert len(load_of_publishes.acknowledged) >= 8 * ROUNDS
    check_store(member, network.genesis, load_of_publishes)


@pytest.mark.timeout(600)
def test_a_crash_before_between_and_after_finalize_block_and_commit(directory: Path) -> None:
    network = Network(directory, 1, clients=4)
    member = network.members[0]
    network.start()
    reader = member.reader()
    load_of_publishes = Load(network, member, reader)
    try:
        for call, when in product(("FINALIZE_BLOCK", "COMMIT"), ("before", "after")):
            load_of_publishes.wait_for_more(4)
            member.kill("both")
            member.options["crash"] = [call, when, 5]  # after the handshake, under load
            member.start()
            wait_for(lambda: member.application is not None and member.application.poll() is not None, "the crash")
            assert member.application is not None and member.application.returncode == -signal.SIGKILL
            member.kill("both")
            del member.options["crash"]
            member.start()
        load_of_publishes.wait_for_more(4)
        load_of_publishes.stop()
        wait_for(lambda: _headers_are_whole(reader), "every header in the store")
    finally:
        load_of_publishes.stop()
        network.stop()
        reader.close()
    check_store(member, network.genesis, load_of_publishes)


def _headers_are_whole(reader) -> bool:  # type: ignore[no-untyped-def]
    with reader.snapshot() as view:
        newest = load_state(view).height + 1
        return all(load_header(view, height) is not None for height in range(1, newest + 1))


def check_store(member: Member, genesis: Genesis, published: Load) -> None:
    """Replay the stored blocks into memory: the same hashes, under headers that verify and hang together."""
    store = open_writer(member.store, STORE)
    replayed = MemoryStore()
    application = Application(replayed, CHAIN_ID)
    app_hash = application.init_chain(genesis)
    with store.snapshot() as view:
        state = load_state(view)
        headers = [load_header(view, height) for height in range(1, state.height + 2)]
        heights: dict[bytes, int] = {}
        for height in range(1, state.height + 1):
            block, header, after = load_block(view, height), headers[height - 1], headers[height]
            assert block is not None and header is not None and after is not None
            assert header.signed.header.app_hash == app_hash  # of the state before this block
            assert header.signed.header.data_hash == data_hash(block.transactions)
            assert header.signed.header.time_ns // 1_000_000 == block.time_ms
            outcome = application.execute(height, block.time_ms, block.transactions)
            assert tuple(map(stored_result, outcome.results)) == block.results
            assert after.signed.header.last_results_hash == results_hash(outcome.results)
            app_hash = outcome.app_hash
            assert app_hash == block.app_hash
            for transaction, result in zip(block.transactions, block.results, strict=True):
                assert (result.code, transaction in heights) == (Result.OK, False)
                heights[transaction] = height
        for transaction, height in published.acknowledged:
            assert heights.get(transaction) == height
        for table in (Table.NODES, Table.VALUES, Table.LINKS, Table.ENVELOPES):
            assert dict(view.scan(table)) == replayed.tables[table]

        first, newest = headers[0], load_proven(view)
        assert first is not None and newest is not None and newest == headers[-1]
        trust = Trust(trusted_state(first.signed.header, first.validators))
        for last, this in pairwise(headers):
            assert last is not None and this is not None
            assert this.signed.header.last_block_id.hash == header_hash(last.signed.header)
            verify_header(this.signed, this.validators, trust, now_ms())
        roots = section_roots(view)
        verify_roots(roots, newest.signed.header.app_hash)
        for merchant in published.published:
            leaf = load(view, Section.MERCHANTS, merchant)
            assert leaf is not None
            verify_presence(roots, Section.MERCHANTS, merchant, leaf, prove(view, Section.MERCHANTS, merchant))
    store.close()


@pytest.mark.timeout(600)
def test_four_validators_with_one_down(directory: Path) -> None:
    network = Network(directory, 4, clients=3)
    network.start()
    reader = network.members[0].reader()
    load_of_publishes = Load(network, network.members[0], reader)
    try:
        load_of_publishes.wait_for_more(10)
        network.members[3].kill("both")
        load_of_publishes.wait_for_more(10)  # three of four go on
        network.members[3].start()
        load_of_publishes.wait_for_more(10)
        load_of_publishes.stop()
        reader.close()  # LMDB opens an environment once in a process
        newest = max(height for _, height in load_of_publishes.acknowledged)
        _wait_for_all(network, newest)
        network.stop()
        shutil.rmtree(network.members[3].store)  # the engine replays it all, from genesis on
        network.start()
        _wait_for_all(network, newest + 1)
    finally:
        load_of_publishes.stop()
        network.stop()
    for member in network.members:
        check_store(member, network.genesis, load_of_publishes)


@pytest.mark.timeout(600)
def test_an_idle_chain_makes_heartbeats_and_nothing_else(directory: Path) -> None:
    watched_ms, bound_ms = 8 * HEARTBEAT_MS, 5 * HEARTBEAT_MS
    network = Network(directory, 4, clients=1)
    network.start()
    readers = [member.reader() for member in network.members]
    try:
        wait_for(lambda: all(_height(reader) > 2 for reader in readers), "the first heartbeats")
        begin, until_ms, ages_ms = _height(readers[0]), now_ms() + watched_ms, []
        while now_ms() < until_ms:
            ages_ms += [now_ms() - _newest_signed_ms(reader) for reader in readers]
            time.sleep(0.1)
        end = _height(readers[0])
        with readers[0].snapshot() as view:
            blocks = [load_block(view, height) for height in range(begin + 1, end + 1)]
    finally:
        for reader in readers:
            reader.close()
        network.stop()
    assert max(ages_ms) < bound_ms
    assert 2 <= len(blocks) <= watched_ms // HEARTBEAT_MS + 1
    assert all(block is not None and not block.transactions for block in blocks)


def _newest_signed_ms(reader) -> int:  # type: ignore[no-untyped-def]
    with reader.snapshot() as view:
        proven, first = load_proven(view), load_header(view, 1)
    assert proven is not None and first is not None
    trust = Trust(trusted_state(first.signed.header, first.validators))
    return verify_header(proven.signed, proven.validators, trust, now_ms()).signed_ms


def _wait_for_all(network: Network, height: int) -> None:
    """Every member at this height at least, with every header up to its own."""
    for member in network.members:
        reader = member.reader()
        wait_for(lambda reader=reader: _height(reader) >= height, f"{member.name} at height {height}")
        wait_for(lambda reader=reader: _headers_are_whole(reader), f"every header in the store of {member.name}")
        reader.close()


def _height(reader) -> int:  # type: ignore[no-untyped-def]
    with reader.snapshot() as view:
        return load_state(view).height


class RunningNode:
    """A whole node with the engine `cometbft`: supervisor, writer, engine, query workers; no enclave."""

    def __init__(self, directory: Path, network: Network, workers: int = 1) -> None:
        self.platform, self.member = network.platforms[0], network.members[0]
        self.directory = directory
        for name, key in (("validator", self.member.validator_key), ("node", self.member.node_key)):
            path = directory / f"{name}.key"
            path.touch(0o600)
            path.write_text(key.seed.hex(), "ascii")
        config = {
            "chain_id": CHAIN_ID,
            "data_dir": "data",
            "genesis": "genesis.json",
            "validator_key": "validator.key",
            "node_id": "node-1",
            "engine": "cometbft",
            "engine_binary": str(BINARY),
            "engine_node_key": "node.key",
            "engine_rpc_port": self.member.rpc_port,
            "engine_listen": self.member.address,
            "api_port": 0,
            "workers": workers,
            "heartbeat_ms": 1_000,
            "store_map_bytes": 1 << 30,
            "restart_delay_ms_min": 100,
        }
        (directory / "config.json").write_text(json.dumps(config), "utf-8")
        self.process = Process("onecode.node", str(directory / "config.json"))
        self.client = httpx.Client(base_url=self.process.said["url"], timeout=20)
        self.numbers = count(1)

    @property
    def writer(self) -> int:
        state = json.loads((self.directory / "data" / "running.json").read_text("utf-8"))
        return int(state["pids"]["writer"] or 0)

    def engine(self) -> int:
        children = Path(f"/proc/{self.writer}/task/{self.writer}/children").read_text("ascii").split()
        return int(children[0])

    def submit(self, transaction: bytes, wait: str = "proven") -> httpx.Response:
        headers = {"content-type": "application/cbor"}
        return self.client.post(f"/v1/transactions?wait={wait}", content=transaction, headers=headers)

    def decide(self) -> tuple[str, int]:
        """Hash and height of a publication that was just acknowledged as decided."""
        number = next(self.numbers)
        transaction = publish(self.platform, Merchant(f"m{number}"), number)
        answer = self.submit(transaction, "decided")
        while answer.status_code != 200:  # while the writer or the engine is away
            time.sleep(0.02)
            answer = self.submit(transaction, "decided")
        assert (answer.json()["code"], type(answer.json()["proven"])) == (0, bool)
        return answer.json()["hash"], answer.json()["height"]

    def shown(self, merchant: Merchant) -> tuple[bool, Narrowing | None]:
        """Whether a member is shown a link of the merchant, and what is said to be decided; on a connection of its own,
        so by any of the workers."""
        path = f"/v1/members/merchants/{merchant.id.hex()}"
        key = self.platform.keys[Role.TRANSACTION]
        headers = {MEMBER_HEADER: member_header(CHAIN_ID, self.platform.id, key, "GET", path, b"", now_ms())}
        answer = httpx.get(self.process.said["url"] + path, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        links = parse(MemberView, answer.content).merchant.links
        said = answer.headers.get(NARROWING_HEADER)
        linked = links is not None and bool(parse(LinkList, links).links)
        return linked, None if said is None else parse_narrowing(said)

    def kill(self, who: str) -> None:
        """kill -9 of `writer`, `engine` or `both`."""
        engine, writer = self.engine(), self.writer
        for process, named in ((engine, "engine"), (writer, "writer")):
            if who in (named, "both"):
                os.kill(process, signal.SIGKILL)

    def publish(self) -> bytes:
        """Publish a merchant, trying again while the node cannot."""
        number = next(self.numbers)
        transaction = publish(self.platform, Merchant(f"m{number}"), number)
        wait_for(lambda: self.submit(transaction).status_code == 200, "a decided transaction")
        return transaction

    def header(self, trust: Trust | None) -> HeaderView:
        view = parse(HeaderView, self.client.get("/v1/headers/latest").content)
        trust = trust or Trust(trusted_state(view.header.header, view.validators))
        require_fresh(verify_header(view.header, view.validators, trust, now_ms()), now_ms())
        return view


@pytest.mark.timeout(600)
def test_a_node_with_the_engine(directory: Path) -> None:
    node = RunningNode(directory, Network(directory, 1, clients=1))
    try:
        first = node.publish()
        again = node.submit(first)  # the pool has had it, the store knows what became of it
        assert (again.status_code, again.json()["height"] > 0) == (200, True)
        view = node.header(None)
        trust = Trust(trusted_state(view.header.header, view.validators))
        refused = node.submit(first[:-1])
        assert refused.status_code == 400
        engine = node.engine()
        os.kill(engine, signal.SIGKILL)
        node.publish()
        os.kill(node.writer, signal.SIGKILL)
        node.publish()
        assert node.header(trust).header.header.height > view.header.header.height
        engine = node.engine()
        assert node.process.stop() == 0
        assert not Path(f"/proc/{engine}").exists()
    finally:
        node.process.stop(signal.SIGKILL)


@pytest.mark.timeout(600)
def test_what_was_acknowledged_as_decided_outlives_kill_9_right_after_the_answer(directory: Path) -> None:
    node = RunningNode(directory, Network(directory, 1, clients=1))
    decided: list[tuple[str, int]] = []
    before_proof = 0
    try:
        for number in range(9):
            node.publish()  # all processes are there again
            decided.append(node.decide())
            node.kill(("writer", "engine", "both")[number % 3])
            answer = node.client.get(f"/v1/transactions/{decided[-1][0]}").json()
            assert (answer["status"] in ("decided", "proven"), answer["height"]) == (True, decided[-1][1])
            before_proof += answer["status"] == "decided"
        node.publish()
        for hashed, height in decided:
            answer = node.client.get(f"/v1/transactions/{hashed}").json()
            assert (answer["status"], answer["height"], answer["code"]) == ("proven", height, 0)
        assert before_proof  # else nothing was killed while its proof was on its way
        assert node.process.stop() == 0
    finally:
        node.process.stop(signal.SIGKILL)


@pytest.mark.timeout(600)
def test_whoever_asks_after_the_answer_learns_what_was_decided(directory: Path) -> None:
    """Either the link is proven to be gone, or the decided block that ends it is named: no payment would be taken."""
    node = RunningNode(directory, Network(directory, 1, clients=1), workers=2)
    told = 0
    try:
        for _ in range(20):
            node.publish()
            merchant = Merchant(f"m{next(node.numbers) - 1}")
            assert node.shown(merchant) == (True, None)
            transaction = withdraw(node.platform, merchant, next(node.numbers))
            with ThreadPoolExecutor(1) as sending:
                answering = sending.submit(node.submit, transaction, "decided")
                linked, narrowing = True, None
                while linked:
                    answered = answering.done()
                    linked, narrowing = node.shown(merchant)
                    if linked and narrowing is None:
                        assert not answered  # neither proven nor said: a payment would be taken
                    elif linked:
                        told += 1
                        assert narrowing.ended == (node.platform.id,)
                        assert narrowing.height == answering.result().json()["height"]
            assert answering.result().json()["code"] == 0
        assert told  # else all was proven before anybody asked
    finally:
        node.process.stop(signal.SIGKILL)


def withdraw(platform: Platform, merchant: Merchant, nonce: int) -> bytes:
    return build_transaction(
        CHAIN_ID,
        Kind.RECORD_WITHDRAW,
        RecordWithdraw(items=(Withdrawal(merchant=merchant.id, service=PAY, version=1),)),
        signer=platform.id,
        signer_kind=SignerKind.PLATFORM,
        key=platform.keys[Role.TRANSACTION],
        nonce=nonce,
        valid_until_ms=now_ms() + 60_000,
    )
