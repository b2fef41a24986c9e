"""The lagging writer as an engine drives it: what is visible when, and what a restart finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onecode.errors import Misconfigured
from onecode.node.blocks import State, load_block, load_first, load_header, load_place, load_proven, load_state
from onecode.node.store import StoreConfig, WriterStore, open_writer
from onecode.node.writer import BlockWriter
from onecode.proof.header import BlockId, Commit, CommitVote, Header, SignedHeader, Validator, ValidatorSet, VoteFlag
from onecode.proof.map import Section
from onecode.registry.map import load
from onecode.registry.store import Reader, Table
from onecode.wire import sha256
from plain_machine import TAKEN, PlainMachine

VALIDATORS = ValidatorSet(validators=(Validator(public_key=bytes(32), power=1),))
NO_BLOCK = BlockId(hash=b"", parts_total=0, parts_hash=b"")


def signed(height: int, app_hash: bytes) -> SignedHeader:
    """A header as an engine gives it; the writer reads its height and app hash alone."""
    header = Header(
        block_version=11,
        app_version=1,
        chain_id="some-chain",
        height=height,
        time_ns=height,
        last_block_id=NO_BLOCK,
        last_commit_hash=b"",
        data_hash=b"",
        validators_hash=bytes(32),
        next_validators_hash=bytes(32),
        consensus_hash=b"",
        app_hash=app_hash,
        last_results_hash=b"",
        evidence_hash=b"",
        proposer_address=bytes(20),
    )
    commit = Commit(height=height, round=0, block_id=NO_BLOCK, votes=(CommitVote(flag=VoteFlag.ABSENT),))
    return SignedHeader(header=header, commit=commit)


def opened(path: Path, **options: Any) -> tuple[WriterStore, BlockWriter]:
    store = open_writer(path, StoreConfig(map_bytes=16 << 20))
    return store, BlockWriter(store, PlainMachine(store))


def visible(store: WriterStore) -> tuple[int, bytes | None, int | None]:
    """Height of the newest snapshot, the value of `a` in it, and the height of the header that proves it."""

    def look(view: Reader) -> tuple[int, bytes | None, int | None]:
        proven = load_proven(view)
        return load_state(view).height, load(view, Section.ALIASES, b"a"), proven and proven.signed.header.height

    with store.snapshot() as view:
        return look(view)


def test_a_block_is_seen_when_the_next_one_proves_it(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    genesis_hash = writer.init_chain({b"born": b"1"})
    assert visible(store) == (0, None, None)
    writer.decided(signed(1, genesis_hash), VALIDATORS)
    assert visible(store) == (0, None, 1)  # the genesis is served as soon as block 1 is decided
    first = writer.finalize(1, 1000, [b"a=1"]).app_hash
    assert writer.info() == State(0, genesis_hash)
    assert visible(store) == (0, None, 1)
    writer.decided(signed(2, first), VALIDATORS)
    assert visible(store) == (1, b"1", 2)
    assert writer.info() == State(1, first)
    second = writer.finalize(2, 2000, [b"a=2", b"b=2"]).app_hash
    assert visible(store) == (1, b"1", 2)
    writer.decided(signed(3, second), VALIDATORS)
    assert visible(store) == (2, b"1", 3)
    with store.snapshot() as view:
        block, header = load_block(view, 2), load_header(view, 3)
        assert block is not None and header is not None
        assert block.transactions == (b"a=2", b"b=2")
        assert [result.code for result in block.results] == [TAKEN, 0]
        assert (block.time_ms, block.app_hash) == (2000, second)
        assert header.signed == signed(3, second) and header.validators == VALIDATORS
        assert load_block(view, 3) is None and load_header(view, 4) is None
    store.close()


def test_a_restart_finds_the_committed_block_and_replays_the_open_one(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({})
    first = writer.finalize(1, 1, [b"a=1"]).app_hash
    writer.decided(signed(2, first), VALIDATORS)
    second = writer.finalize(2, 2, [b"b=1"]).app_hash
    store.close()  # with block 2 open
    store, writer = opened(tmp_path)
    assert writer.info() == State(1, first)
    assert visible(store) == (1, b"1", 2)
    assert writer.finalize(2, 2, [b"b=1"]).app_hash == second
    store.close()


def test_a_death_before_block_1_leaves_nothing(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({b"born": b"1"})
    store.close()
    store, writer = opened(tmp_path)
    assert writer.info().height == 0
    once = writer.init_chain({b"born": b"1"})
    assert writer.init_chain({b"born": b"1"}) == once  # an engine may ask again in one life
    store.close()


def test_replay_without_headers_goes_on_unproven(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({})
    writer.finalize(1, 1, [b"a=1"])
    writer.finalize(2, 2, [b"b=1"])  # the engine's headers are out of reach: block 1 is committed all the same
    assert visible(store) == (1, b"1", None)
    third = writer.finalize(3, 3, [b"c=1"]).app_hash
    writer.decided(signed(3, writer.info().app_hash), VALIDATORS)  # late: kept, and visible with the next commit
    assert visible(store) == (2, b"1", None)
    writer.decided(signed(4, third), VALIDATORS)
    assert visible(store) == (3, b"1", 4)
    with store.snapshot() as view:
        assert load_header(view, 3) is not None
    store.close()


def test_a_header_that_comes_after_a_replay_proves_what_is_durable(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({})
    first = writer.finalize(1, 1, [b"a=1"]).app_hash
    second = writer.finalize(2, 2, [b"b=1"]).app_hash
    assert visible(store) == (1, b"1", None)
    writer.prove_committed(signed(2, first), VALIDATORS)
    assert visible(store) == (1, b"1", 2)
    assert (writer.info(), writer.executed) == (State(1, first), State(2, second))
    third = writer.finalize(3, 3, [b"c=1", b"b=2"])  # the open block was executed again, once
    assert [result.code for result in third.results] == [0, TAKEN]
    with store.snapshot() as view:
        assert load(view, Section.ALIASES, b"b") == b"1"
    store.close()


def test_a_late_header_of_another_state_halts(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({})
    writer.finalize(1, 1, [b"a=1"])
    writer.finalize(2, 2, [b"b=1"])
    with pytest.raises(Misconfigured) as caught:
        writer.prove_committed(signed(2, b"\xff" * 32), VALIDATORS)
    assert caught.value.code == "node.app_hash"
    assert visible(store) == (1, b"1", None)
    with pytest.raises(Misconfigured) as caught:
        writer.finalize(3, 3, [])
    assert caught.value.code == "node.halted"
    store.close()


def test_two_blocks_in_one_commit(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({})
    first = writer.finalize(1, 1, [b"a=1"]).app_hash
    writer.decided(signed(2, first), VALIDATORS, commit=False)
    second = writer.finalize(2, 2, [b"b=1"]).app_hash
    assert visible(store) == (0, None, None)
    writer.decided(signed(3, second), VALIDATORS)
    assert visible(store) == (2, b"1", 3)
    store.close()


def test_disagreement_and_gaps_halt(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({})
    writer.finalize(1, 1, [b"a=1"])
    with pytest.raises(Misconfigured) as caught:
        writer.decided(signed(2, b"\xff" * 32), VALIDATORS)
    assert caught.value.code == "node.app_hash"
    with pytest.raises(Misconfigured) as caught:
        writer.finalize(2, 2, [])
    assert caught.value.code == "node.halted"
    assert visible(store) == (0, None, None)
    store.close()
    store, writer = opened(tmp_path)
    with pytest.raises(Misconfigured) as caught:
        writer.finalize(2, 2, [])
    assert caught.value.code == "node.height"
    store.close()


def test_a_chain_is_begun_once(tmp_path: Path) -> None:
    store, writer = opened(tmp_path)
    writer.init_chain({})
    writer.decided(signed(2, writer.finalize(1, 1, []).app_hash), VALIDATORS)
    with pytest.raises(Misconfigured) as caught:
        writer.init_chain({})
    assert caught.value.code == "node.chain_exists"
    store.close()


def test_a_full_store_halts_even_if_the_application_swallows_it(tmp_path: Path) -> None:
    class Swallows(PlainMachine):
        def execute(self, height: int, time_ms: int, transactions: Any) -> Any:
            try:
                for number in range(10_000):
                    self.writer.put(Table.ENVELOPES, b"%d" % number, bytes(2000))
            except Misconfigured:
                pass
            return super().execute(height, time_ms, ())

    store = open_writer(tmp_path, StoreConfig(map_bytes=1 << 20))
    writer = BlockWriter(store, Swallows(store))
    with pytest.raises(Misconfigured) as caught:
        writer.init_chain({})
        writer.finalize(1, 1, [])
    assert caught.value.code == "store.map_full"
    with pytest.raises(Misconfigured) as caught:
        writer.check(b"a=1", 1)
    assert caught.value.code == "node.halted"
    store.close()


def test_old_blocks_and_headers_are_forgotten_with_their_transactions(tmp_path: Path) -> None:
    store = open_writer(tmp_path, StoreConfig(map_bytes=16 << 20))
    writer = BlockWriter(store, PlainMachine(store))  # an archive at first

    def run(until: int) -> None:
        state = writer.executed
        for height in range(state.height + 1, until + 1):
            transactions = [b"k%d=1" % height, b"k1=1"]  # the second one is a replay of the first block's
            state = State(height, writer.finalize(height, height, transactions).app_hash)
            writer.decided(signed(height + 1, state.app_hash), VALIDATORS)

    writer.decided(signed(1, writer.init_chain({})), VALIDATORS)
    run(60)
    with store.snapshot() as view:
        assert load_first(view) == 1 and load_header(view, 1) is not None
        assert load_place(view, sha256(b"k1=1")) == (1, 0)  # where it succeeded, not where it was refused
        assert load_place(view, sha256(b"k60=1")) == (60, 0)
    writer = BlockWriter(store, PlainMachine(store), keep_blocks=10)
    run(61)
    with store.snapshot() as view:
        assert load_first(view) == 17  # a bounded number with each block
        assert load_place(view, sha256(b"k1=1")) is None
    run(70)
    with store.snapshot() as view:
        assert load_first(view) == 61
        heights = [height for height in range(1, 72) if load_block(view, height) is not None]
        assert heights == list(range(61, 71))
        assert [height for height in range(1, 72) if load_header(view, height)] == list(range(61, 72))
        assert load_place(view, sha256(b"k60=1")) is None and load_place(view, sha256(b"k61=1")) == (61, 0)
        assert load_proven(view) is not None
    store.close()
