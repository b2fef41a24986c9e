"""A node joins by state sync, behind real CometBFT: from snapshots of two nodes, of which one lies, and after kill -9.

The engine's light client asks where it would ask in production: `POST /v1/engine` of two nodes' API servers.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.abci_process import STORE
from integration.engine_network import (
    BINARY,
    CHAIN_ID,
    Member,
    Network,
    publish,
    publish_many,
    require_engine,
    wait_for,
)
from integration.node_network import Process
from onecode.node.blocks import load_block, load_first, load_header, load_proven, load_state
from onecode.node.config import NodeConfig
from onecode.node.engine_home import StateSync
from onecode.node.engine_window import EngineWindow
from onecode.node.http import HttpLimits, HttpServer
from onecode.node.restore import restoring
from onecode.node.routes import Router
from onecode.node.snapshots import Shelf
from onecode.node.store import ReaderStore, open_reader
from onecode.proof.header import header_hash
from onecode.proof.map import Section
from onecode.registry.map import load
from onecode.registry.store import Table
from unit.registry.world import Merchant

RECORDS, BATCH = 2_000, 200
SNAPSHOTS_MS = 2_000
TRUST_HEIGHT = 2
JOIN_S = 90.0
REFUSED = "is not the one that the snapshot names"


@pytest.fixture
def directory() -> Iterator[Path]:
    require_engine()
    with tempfile.TemporaryDirectory(prefix="net-") as short:
        yield Path(short)


@contextmanager
def windows(members: list[Member], directory: Path) -> Iterator[list[str]]:
    """The API servers of these members, as far as the light client asks them; their URLs."""
    loop, servers, urls = asyncio.new_event_loop(), [], []

    async def open_one(member: Member) -> str:
        config = NodeConfig(
            chain_id=CHAIN_ID,
            data_dir=directory,
            genesis=member.genesis,
            node_id=member.name,
            engine="cometbft",
            engine_rpc_port=member.rpc_port,
        )
        router = Router()
        router.add_async("POST", "/v1/engine", EngineWindow(config).ask)
        server = HttpServer(router, HttpLimits())
        servers.append(server)
        return f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}/v1/engine"

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        urls = [asyncio.run_coroutine_threadsafe(open_one(member), loop).result(10) for member in members]
        yield urls
    finally:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def send(member: Member, transaction: bytes) -> None:
    """Hand a transaction to the pool, as soon as it takes one."""

    def taken() -> bool:
        try:
            answer = member.rpc("broadcast_tx_sync", tx=base64.b64encode(transaction).decode("ascii"))
        except OSError:
            return False
        assert "error" in answer or answer["result"]["code"] == 0, answer
        return "result" in answer or "exists in cache" in str(answer)

    wait_for(taken, "a pool that takes transactions", 30)


def height_of(reader: ReaderStore) -> int:
    with reader.snapshot() as view:
        return load_state(view).height


def has(reader: ReaderStore, merchant: Merchant) -> bool:
    with reader.snapshot() as view:
        return load(view, Section.MERCHANTS, merchant.id) is not None


@pytest.mark.timeout(600)
def test_join_from_a_liar_and_an_honest_node_and_after_kill(directory: Path) -> None:
    network = Network(directory, 2, clients=1, others=2)
    honest, liar, joiner, observer = network.members
    platform = network.platforms[0]
    lie_file, enough_file = directory / "lie", directory / "enough"
    for member in network.members:
        member.script = "state_sync_process.py"
    making = {"snapshots_ms": SNAPSHOTS_MS, "enough_file": str(enough_file)}
    honest.options |= making
    liar.options |= making | {"lie_file": str(lie_file)}
    joiner.options |= {"pause_ms": 100}
    readers: list[ReaderStore] = []
    try:
        honest.start()
        liar.start()
        source = honest.reader()
        readers.append(source)
        merchants = [Merchant(f"m{number}") for number in range(RECORDS)]
        for number in range(RECORDS // BATCH):
            some = merchants[number * BATCH : (number + 1) * BATCH]
            send(honest, publish_many(platform, some, number + 1))
            wait_for(lambda some=some: has(source, some[-1]), "the records", 60)  # a block each
        written = height_of(source)
        shelves = [Shelf(member.directory / "snapshots") for member in (honest, liar)]
        offered = offer_the_same(shelves, enough_file, source, written)
        with source.snapshot() as view:
            trusted = load_header(view, TRUST_HEIGHT)
            assert trusted is not None
        lie_file.touch()
        with windows([honest, liar], directory) as urls:
            sync = StateSync(tuple(urls), TRUST_HEIGHT, header_hash(trusted.signed.header))
            for _ in range(3):  # an engine takes a snapshot from those who have offered it: perhaps not from the liar
                join(network, joiner, sync, written, readers)
                if REFUSED in joiner.log.read_text("utf-8"):
                    break
                joiner.kill("both")
                readers.pop().close()
                for left in (joiner.store, joiner.home, joiner.log):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            check_joined(source, readers[-1], merchants, written)
            check_liar_named(joiner, liar, honest)
            lie_file.unlink()
            observe(directory, network, observer, sync, merchants[0])
        check_follows(network, joiner, readers[-1], platform)
        assert [shelf.offered(offered) for shelf in shelves] == [shelves[0].offered(offered)] * 2  # byte for byte
    except BaseException:
        for member in network.members:
            if member.log.exists():
                print(member.name, member.node_id, member.log.read_text("utf-8", "replace")[:12000])
        raise
    finally:
        network.stop()
        for reader in readers:
            reader.close()


def offer_the_same(shelves: list[Shelf], enough_file: Path, source: ReaderStore, written: int) -> int:
    """Wait until both nodes offer one snapshot, made after height `written`, and none is newer; returns its height."""

    def newest() -> int:
        return max(set(shelves[0].heights()) & set(shelves[1].heights()), default=0)

    wait_for(lambda: newest() > written, "snapshots", 60)
    enough_file.touch()
    before = height_of(source)
    wait_for(lambda: height_of(source) > before + 3, "headers above the snapshot", 60)
    for shelf in shelves:
        for height in shelf.heights():
            if height not in shelves[0].heights() or height not in shelves[1].heights():
                shelf.remove(height)
    return newest()


def join(network: Network, joiner: Member, sync: StateSync, written: int, readers: list[ReaderStore]) -> None:
    """Start the joiner, kill it in the middle of restoring, start it again, and wait until it follows the chain."""
    joiner.write(network.genesis, network.members, state_sync=sync)
    joiner.start()
    reader = joiner.reader()
    readers.append(reader)

    def half() -> bool:
        with reader.snapshot() as view:
            return restoring(view) and load_state(view).height == 0

    wait_for(half, "a restoration under way", JOIN_S)
    time.sleep(0.3)
    joiner.kill("both")
    with reader.snapshot() as view:
        assert restoring(view)
        assert (load_state(view).height, load_proven(view)) == (0, None)  # nothing half is ever served
    joiner.write(network.genesis, network.members, state_sync=sync)
    joiner.start()

    def joined() -> bool:
        with reader.snapshot() as view:
            return load_state(view).height > written and load_proven(view) is not None and not restoring(view)

    wait_for(joined, "the joined node", JOIN_S)


def check_joined(source: ReaderStore, reader: ReaderStore, merchants: list[Merchant], written: int) -> None:
    """The joiner has the state of the chain without its blocks."""
    with reader.snapshot() as view:
        first, state = load_first(view), load_state(view)
        assert first > written > 1
        assert load_block(view, first - 1) is None
        assert all(load(view, Section.MERCHANTS, merchant.id) for merchant in merchants)
        mine = {table: dict(view.scan(table)) for table in (Table.LINKS, Table.ENVELOPES)}
    wait_for(lambda: height_of(source) >= state.height, "the same height")
    with source.snapshot() as view:
        block = load_block(view, state.height)
        assert block is not None
        assert block.app_hash == state.app_hash
        assert mine == {table: dict(view.scan(table)) for table in (Table.LINKS, Table.ENVELOPES)}


def check_liar_named(joiner: Member, liar: Member, honest: Member) -> None:
    refused = [line for line in joiner.log.read_text("utf-8").splitlines() if REFUSED in line]
    assert refused
    assert all(f"from {liar.node_id} " in line for line in refused)
    assert not any(honest.node_id in line for line in refused)


def observe(directory: Path, network: Network, observer: Member, sync: StateSync, merchant: Merchant) -> None:
    """A whole node without a vote joins by its configuration, serves what it has and says what it has not."""
    key = directory / "observer.key"
    key.touch(0o600)
    key.write_text(observer.node_key.seed.hex(), "ascii")
    config = {
        "chain_id": CHAIN_ID,
        "data_dir": "observer",
        "genesis": "genesis.json",
        "node_id": "observer",
        "engine": "cometbft",
        "engine_binary": str(BINARY),
        "engine_node_key": key.name,
        "engine_rpc_port": observer.rpc_port,
        "engine_listen": observer.address,
        "engine_peers": ",".join(f"{one.node_id}@{one.address}" for one in network.members[:2]),
        "engine_one_machine": True,
        "state_sync_servers": ", ".join(server.removesuffix("/v1/engine") for server in sync.servers),
        "state_sync_trust_height": sync.trust_height,
        "state_sync_trust_hash": sync.trust_hash.hex(),
        "api_port": 0,
        "workers": 1,
        "heartbeat_ms": 1_000,
        "store_map_bytes": 1 << 30,
        "snapshot_interval_ms": 0,
    }
    (directory / "observer.json").write_text(json.dumps(config), "utf-8")
    process = Process("onecode.node", str(directory / "observer.json"))
    try:
        with httpx.Client(base_url=process.said["url"], timeout=20) as client:
            transaction = publish(network.platforms[0], Merchant("too early"), 999_999)
            headers = {"content-type": "application/cbor"}
            early = client.post("/v1/transactions", content=transaction, headers=headers)
            assert early.status_code == 503
            assert early.json()["code"] in ("engine.stopped", "node.writer_down")  # never judged without a state
            wait_for(lambda: client.get("/v1/health").json().get("healthy"), "a healthy observer", JOIN_S)
            first = client.get("/v1/status").json()["first_block"]
            assert first > sync.trust_height
            absent = client.get(f"/v1/headers/{first - 1}")
            assert (absent.status_code, absent.json()["code"]) == (404, "node.header_absent")
            assert client.get(f"/v1/headers/{first}").status_code == 200
            asked = client.post("/v1/engine", json={"id": 1, "method": "commit", "params": {"height": str(first)}})
            assert asked.json()["result"]["signed_header"]["header"]["height"] == str(first)
    finally:
        process.stop()
    reader = open_reader(directory / "observer" / "store", STORE)
    assert has(reader, merchant)
    reader.close()


def check_follows(network: Network, joiner: Member, reader: ReaderStore, platform: Any) -> None:
    """It goes on with the chain, also after a restart without state sync."""
    new = Merchant("after the join")
    send(network.members[0], publish(platform, new, 1_000_000))
    wait_for(lambda: has(reader, new), "a later record", 30)
    before = height_of(reader)
    joiner.kill("both")
    joiner.write(network.genesis, network.members)
    joiner.start()
    wait_for(lambda: height_of(reader) > before + 1, "later blocks after a restart", 60)
