"""The registry behind ABCI without an engine: headers that come late, the pool around a block, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from onecode.errors import Malformed, Misconfigured, OnecodeError, Unreachable
from onecode.node.abci_application import AbciApplication
from onecode.node.abci_messages import Method, read_fields
from onecode.node.blocks import State, load_first, load_header, load_proven, load_state
from onecode.node.solo_chain import data_hash
from onecode.node.store import StoreConfig, WriterStore, open_writer
from onecode.node.writer import BlockWriter
from onecode.proof.governance import DEFAULT_PARAMETERS, ObserverLeaf, ProposalKind
from onecode.proof.header import (
    BlockId,
    Commit,
    CommitVote,
    Header,
    SignedHeader,
    Validator,
    ValidatorSet,
    VoteFlag,
    header_hash,
)
from onecode.proof.leaves import PlatformNode
from onecode.proof.protobuf import bytes_field, message_field, timestamp, varint_field
from onecode.registry.application import Application
from onecode.registry.results import Result
from onecode.registry.transactions import Kind, PlatformNodes
from unit.registry.world import CHAIN, START_MS, World

VALIDATORS = ValidatorSet(validators=(Validator(public_key=bytes(32), power=1),))
CONFIGURED = "c0" * 20
NO_BLOCK = BlockId(hash=b"", parts_total=0, parts_hash=b"")


class Engine:
    """Stands for the engine: decides blocks, and answers for their headers while it is `up`."""

    def __init__(self, path: Path) -> None:
        self.world = World()
        self.path, self.up, self.asked = path, True, 0
        self.clock_ms, self.keep_blocks = START_MS, 0
        self.blocks: list[tuple[SignedHeader, tuple[bytes, ...]]] = []
        self.told: list[tuple[str, int]] = []  # what became of blocks, in order
        self.open()

    def open(self) -> None:
        self.store: WriterStore = open_writer(self.path, StoreConfig(map_bytes=64 << 20))
        with self.store.snapshot() as view:
            self.height = load_state(view).height
        application = Application(self.store, CHAIN, height=self.height)
        self.application = AbciApplication(
            store=self.store,
            writer=BlockWriter(self.store, application, self.keep_blocks),
            application=application,
            genesis=self.world.genesis,
            headers=self,
            clock_ms=lambda: self.clock_ms,
            configured_peers=(CONFIGURED,),
            on_decided=lambda block: self.told.append(("decided", block.height)),
            on_durable=lambda block, proven: self.told.append(("proven" if proven else "durable", block.height)),
        )

    def close(self) -> None:
        self.store.rollback()
        self.store.close()

    def header(self, height: int) -> tuple[SignedHeader, ValidatorSet]:
        self.asked += 1
        if not self.up:
            raise Unreachable("engine.unreachable", "down")
        return self.blocks[height - 1][0], VALIDATORS

    def init_chain(self) -> bytes:
        request = bytes_field(2, CHAIN.encode()) + varint_field(6, 1)
        answer = read_fields(self.application.answer(Method.INIT_CHAIN, request))
        assert len(answer[2]) == len(self.world.platforms)  # the validators are the registry's
        return last(answer[3])

    def decide(self, app_hash: bytes, *transactions: bytes) -> None:
        height = len(self.blocks) + 1
        header = Header(
            block_version=11,
            app_version=1,
            chain_id=CHAIN,
            height=height,
            time_ns=(START_MS + height) * 1_000_000,
            last_block_id=NO_BLOCK,
            last_commit_hash=bytes(32),
            data_hash=data_hash(transactions),
            validators_hash=bytes(32),
            next_validators_hash=bytes(32),
            consensus_hash=bytes(32),
            app_hash=app_hash,
            last_results_hash=bytes(32),
            evidence_hash=bytes(32),
            proposer_address=bytes(20),
        )
        commit = Commit(height=height, round=0, block_id=NO_BLOCK, votes=(CommitVote(flag=VoteFlag.ABSENT),))
        self.blocks.append((SignedHeader(header=header, commit=commit), transactions))

    def finalize(self, height: int) -> bytes:
        signed, transactions = self.blocks[height - 1]
        request = b"".join(message_field(1, one) for one in transactions)
        request += bytes_field(4, header_hash(signed.header)) + varint_field(5, height)
        request += message_field(6, timestamp(signed.header.time_ns))
        return last(read_fields(self.application.answer(Method.FINALIZE_BLOCK, request))[5])

    def block(self, app_hash: bytes, *transactions: bytes) -> bytes:
        self.decide(app_hash, *transactions)
        app_hash = self.finalize(len(self.blocks))
        self.retain_height = read_fields(self.application.answer(Method.COMMIT, b"")).get(3, [0])[0]
        return app_hash

    def admits(self, node_id: str) -> bool:
        request = bytes_field(2, b"/p2p/filter/id/" + node_id.encode())
        return 1 not in read_fields(self.application.answer(Method.QUERY, request))

    def check(self, transaction: bytes, *, recheck: bool = False) -> int:
        request = bytes_field(1, transaction) + varint_field(2, int(recheck))
        code = read_fields(self.application.answer(Method.CHECK_TX, request)).get(1, [0])[0]
        assert isinstance(code, int)
        return code


def last(values: list[int | bytes]) -> bytes:
    value = values[-1]
    assert isinstance(value, bytes)
    return value


def code_of(engine: Engine, method: int, message: bytes) -> str:
    with pytest.raises(OnecodeError) as raised:
        engine.application.answer(method, message)
    return raised.value.code


def test_a_block_is_durable_with_the_header_that_proves_it(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    app_hash = engine.block(engine.block(engine.init_chain()))
    with engine.store.snapshot() as view:
        assert load_state(view).height == 1
        assert load_proven(view) is not None
    info = read_fields(engine.application.answer(Method.INFO, b""))
    assert (info[4], info[5]) == ([1], [app_hash])
    engine.close()


def test_a_block_is_told_as_decided_once_it_is_executed_and_as_durable_with_the_next(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    app_hash = engine.block(engine.init_chain())
    assert engine.told == [("decided", 1)]
    app_hash = engine.block(app_hash)
    assert engine.told == [("decided", 1), ("proven", 1), ("decided", 2)]
    engine.close()
    engine.told.clear()
    engine.open()
    engine.finalize(2)  # the engine gives it again: nobody waits here for block 1, which an earlier process executed
    assert engine.told == [("decided", 2)]
    engine.up = False
    engine.block(app_hash)
    assert engine.told == [("decided", 2), ("durable", 2), ("decided", 3)]
    engine.close()


def test_headers_that_a_replay_went_by_are_fetched_later(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    app_hash = engine.init_chain()
    for _ in range(3):
        app_hash = engine.block(app_hash)
    engine.close()
    engine.up = False
    engine.open()
    for _ in range(2):
        engine.decide(app_hash)
    for height in (3, 4, 5):  # as the handshake gives them
        assert engine.finalize(height) == app_hash
    with engine.store.snapshot() as view:
        assert load_state(view).height == 4
        assert load_proven(view) is None  # nothing is served from it
    engine.application.idle()  # its RPC is still down
    engine.up = True
    engine.application.idle()
    with engine.store.snapshot() as view:
        assert load_state(view).height == 4
        assert load_proven(view) is not None  # without waiting for another block
    asked = engine.asked
    engine.application.idle()
    assert engine.asked == asked
    engine.block(app_hash)
    with engine.store.snapshot() as view:
        assert load_state(view).height == 5
        assert load_proven(view) is not None
    engine.block(app_hash)
    with engine.store.snapshot() as view:
        assert all(load_header(view, height) is not None for height in range(1, 8))
    asked = engine.asked
    engine.block(app_hash)
    assert engine.asked == asked + 1  # nothing is fetched twice
    engine.close()


def test_the_pool_around_a_block(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    app_hash = engine.block(engine.init_chain())
    world, (platform, *_) = engine.world, engine.world.platforms
    first = world.publish(platform, world.first(world.merchants[0], platform))
    second = world.publish(platform, world.publication(world.merchants[0], 2))
    assert engine.check(second) != Result.OK
    assert [engine.check(first), engine.check(second)] == [Result.OK, Result.OK]  # the second sees the first
    assert engine.check(first) == Result.NONCE
    engine.decide(app_hash, first)
    engine.finalize(2)
    third = world.publish(platform, world.first(world.merchants[1], platform))
    assert engine.check(third) == Result.OK  # between FinalizeBlock and Commit
    assert engine.check(third) == Result.NONCE
    engine.application.answer(Method.COMMIT, b"")
    assert [engine.check(one, recheck=True) for one in (second, third)] == [Result.OK, Result.OK]
    engine.close()


def test_proposals_hold_what_succeeds(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.block(engine.init_chain())
    world, (platform, *_) = engine.world, engine.world.platforms
    good = world.publish(platform, world.first(world.merchants[0], platform))
    request = varint_field(1, 1 << 20) + message_field(2, b"junk") + message_field(2, good) + varint_field(5, 2)
    request += message_field(6, timestamp(START_MS * 1_000_000))
    assert read_fields(engine.application.answer(Method.PREPARE_PROPOSAL, request)) == {1: [good]}
    accept, reject = b"\x08\x01", b"\x08\x02"
    assert engine.application.answer(Method.PROCESS_PROPOSAL, message_field(1, good)) == accept
    both = message_field(1, good) + message_field(1, b"junk")
    assert engine.application.answer(Method.PROCESS_PROPOSAL, both) == reject
    engine.close()


def test_another_chain_or_other_validators_are_refused(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    other = bytes_field(2, b"other") + varint_field(6, 1)
    assert code_of(engine, Method.INIT_CHAIN, other) == "engine.genesis"
    validator = message_field(4, message_field(1, bytes_field(1, bytes(32))) + varint_field(2, 10))
    request = bytes_field(2, CHAIN.encode()) + varint_field(6, 1)
    assert code_of(engine, Method.INIT_CHAIN, request + validator) == "engine.validators"
    engine.close()


def test_a_header_of_another_engine_stops_the_node(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    app_hash = engine.init_chain()
    engine.decide(app_hash)
    signed, _ = engine.blocks[0]
    other = dataclasses.replace(signed, header=dataclasses.replace(signed.header, time_ns=1))
    request = bytes_field(4, header_hash(other.header)) + varint_field(5, 1) + message_field(6, timestamp(1))
    with pytest.raises(Misconfigured) as raised:
        engine.application.answer(Method.FINALIZE_BLOCK, request)
    assert raised.value.code == "engine.other"
    engine.close()


def test_what_is_not_there_yet_is_said(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    answer = engine.application.answer
    assert read_fields(answer(Method.QUERY, bytes_field(2, b"/store")))[1] == [1]
    assert answer(Method.LIST_SNAPSHOTS, b"") == answer(Method.LOAD_SNAPSHOT_CHUNK, b"") == b""
    assert answer(Method.OFFER_SNAPSHOT, b"") == b"\x08\x04"  # REJECT_FORMAT: there is no format 0
    assert answer(Method.APPLY_SNAPSHOT_CHUNK, b"") == b"\x08\x02"  # ABORT: nothing was offered
    with pytest.raises(Malformed) as raised:
        answer(18, b"")  # ExtendVote
    assert raised.value.code == "abci.method"
    engine.close()


def test_the_genesis_is_served_with_the_first_header(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    genesis_hash = engine.init_chain()
    engine.block(genesis_hash)
    with engine.store.snapshot() as view:
        assert load_state(view) == State(0, genesis_hash)
        proven = load_proven(view)
        assert proven is not None and proven.signed.header.height == 1
    engine.close()
    engine.open()  # it died before block 1 was durable, and the engine begins again
    info = read_fields(engine.application.answer(Method.INFO, b""))
    assert (info.get(4), info[5]) == (None, [genesis_hash])
    assert engine.init_chain() == genesis_hash
    assert engine.finalize(1) == genesis_hash
    engine.close()
    engine.open()
    engine.application._genesis = World(platforms=2).genesis
    request = bytes_field(2, CHAIN.encode()) + varint_field(6, 1)
    assert code_of(engine, Method.INIT_CHAIN, request) == "node.chain_exists"
    engine.close()


def test_the_engine_forgets_what_the_store_has_forgotten(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.keep_blocks = 20
    engine.close()
    engine.open()
    app_hash = engine.init_chain()
    retained = []
    for _ in range(60):
        app_hash = engine.block(app_hash)
        with engine.store.snapshot() as view:
            assert engine.retain_height <= min(load_first(view), load_state(view).height)
        retained.append(engine.retain_height)
    assert retained[-1] == 40 and set(retained) == {0, 10, 20, 30, 40}
    engine.close()


def test_the_engine_keeps_what_the_store_has_no_header_of(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.keep_blocks = 20
    engine.close()
    engine.up = False
    engine.open()
    app_hash = engine.init_chain()
    for _ in range(30):
        app_hash = engine.block(app_hash)
    engine.up = True  # from here on headers are fetched, from the lowest that the store keeps
    app_hash = engine.block(app_hash)
    assert engine.retain_height == 0  # they are not durable yet
    for _ in range(4):
        app_hash = engine.block(app_hash)
    with engine.store.snapshot() as view:
        first = load_first(view)
        assert all(load_header(view, height) is not None for height in range(first, 35))
    assert engine.retain_height == first - first % 10
    engine.close()


def test_an_archive_forgets_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    app_hash = engine.init_chain()
    for _ in range(40):
        app_hash = engine.block(app_hash)
        assert engine.retain_height == 0
    engine.close()


def test_peers_are_the_nodes_of_the_map(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    world, (one, two, *_) = engine.world, engine.world.platforms
    address = bytes_field(2, b"/p2p/filter/addr/10.0.0.1:26656")
    assert 1 not in read_fields(engine.application.answer(Method.QUERY, address))
    assert engine.admits(CONFIGURED) and not engine.admits("aa" * 20)  # before there is a state at all
    app_hash = engine.block(engine.init_chain())
    nodes = PlatformNodes(nodes=(PlatformNode(node_id="aa" * 20, url="https://one.example"),))
    app_hash = engine.block(app_hash, world.platform_call(one, Kind.PLATFORM_NODES, nodes))
    assert engine.admits("aa" * 20) and engine.admits(CONFIGURED) and not engine.admits("bb" * 20)

    observer = ObserverLeaf(key=two.root.public, effective_ms=0)
    app_hash = decide_proposal(engine, app_hash, ProposalKind.OBSERVER_ADMIT, node_id="bb" * 20, observer=observer)
    assert not engine.admits("bb" * 20)  # before the delay
    engine.clock_ms += DEFAULT_PARAMETERS.governance_delay_ms + 60_000
    assert engine.admits("bb" * 20)
    app_hash = decide_proposal(engine, app_hash, ProposalKind.OBSERVER_ADMIT, node_id="bb" * 20)
    assert not engine.admits("bb" * 20)

    nodes = PlatformNodes(nodes=(*nodes.nodes, PlatformNode(node_id=CONFIGURED, url="https://two.example")))
    app_hash = engine.block(app_hash, world.platform_call(one, Kind.PLATFORM_NODES, nodes))
    decide_proposal(engine, app_hash, ProposalKind.PLATFORM_SUSPEND, platform=one.id)
    assert not engine.admits("aa" * 20)
    assert not engine.admits(CONFIGURED)  # the map knows whose it is, so the configuration does not matter
    engine.close()


def decide_proposal(engine: Engine, app_hash: bytes, kind: ProposalKind, **fields: Any) -> bytes:
    world = engine.world
    proposal = world.proposal(kind, **fields)
    calls = [world.submit(world.platforms[0], proposal)]
    calls += [world.approve(one, proposal) for one in world.platforms[1:]]
    return engine.block(app_hash, *calls)
