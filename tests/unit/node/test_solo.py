"""The network of one validator: what is acknowledged, what its headers say, what a restart finds."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onecode.errors import Misconfigured, Unreachable
from onecode.node.blocks import StoredHeader, load_block, load_header, load_proven, load_state
from onecode.node.solo import Included, Solo, SoloConfig
from onecode.node.solo_chain import NO_BLOCK, commit_hash, data_hash
from onecode.node.store import StoreConfig, open_writer
from onecode.proof.header import header_hash, merkle_root
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.proof.map import Section, verify_presence, verify_roots
from onecode.registry.application import TransactionResult
from onecode.registry.map import prove, section_roots
from onecode.wire import SigningKey, sha256
from plain_machine import FAILED, MALFORMED, QUOTA, TAKEN, PlainMachine

KEY = SigningKey.from_seed(b"k" * 32)
START_MS = 1_800_000_000_000
SLOW = SoloConfig(heartbeat_ms=3_600_000)


class Clock:
    """A clock that tests set; it may stand still or go back."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def solo(path: Path, clock: Callable[[], int], config: SoloConfig = SLOW, **options: Any) -> Solo:
    store = open_writer(path, StoreConfig(map_bytes=64 << 20))
    machine = options.pop("machine", PlainMachine)(store)
    settings: dict[str, Any] = {"key": KEY, "chain_id": "solo-test", "genesis": {b"born": b"1"}}
    try:
        made = Solo(store=store, application=machine, clock_ms=clock, config=config, **{**settings, **options})
    except Misconfigured:
        store.close()
        raise
    made.store = store  # type: ignore[attr-defined]
    return made


def newest(made: Solo) -> StoredHeader:
    with made.store.snapshot() as view:  # type: ignore[attr-defined]
        found = load_proven(view)
    assert found is not None
    return found


def headers(made: Solo) -> list[StoredHeader]:
    with made.store.snapshot() as view:  # type: ignore[attr-defined]
        return [h for height in range(1, 10_000) if (h := load_header(view, height)) is not None]


def test_an_acknowledged_transaction_is_durable_and_proven(tmp_path: Path) -> None:
    clock = Clock()
    made = solo(tmp_path, clock)
    made.start()
    clock.now_ms += 5
    included = made.enqueue(b"a=1").result(10)
    assert included.result.code == 0 and included.height is not None
    with made.store.snapshot() as view:  # type: ignore[attr-defined]
        header, block = load_proven(view), load_block(view, included.height)
        assert header is not None and block is not None
        assert (header.signed.header.height, load_state(view).height) == (included.height + 1, included.height)
        assert (block.transactions, block.time_ms) == ((b"a=1",), included.time_ms)
        roots = section_roots(view)
        verify_roots(roots, header.signed.header.app_hash)
        verify_presence(roots, Section.ALIASES, b"a", b"1", prove(view, Section.ALIASES, b"a"))
    made.stop()


def test_every_header_verifies_and_names_the_one_before(tmp_path: Path) -> None:
    clock = Clock()
    made = solo(tmp_path, clock)
    made.start()
    for number in range(5):
        clock.now_ms += (7, 0, -50, 1000, 3)[number]  # standing still and going back included
        made.enqueue(b"k%d=v" % number).result(10)
    chain = headers(made)
    assert [h.signed.header.height for h in chain] == list(range(1, len(chain) + 1)) and len(chain) == 12
    trust = Trust(trusted_state(chain[0].signed.header, chain[0].validators))
    assert chain[0].signed.header.last_block_id == NO_BLOCK
    for last, this in itertools.pairwise(chain):
        header = this.signed.header
        verified = verify_header(this.signed, this.validators, trust, clock.now_ms)
        trust = replace(trust, state=verified)
        assert header.time_ns > last.signed.header.time_ns
        assert verified.signed_ms >= header.time_ns // 1_000_000
        assert header.last_block_id == last.signed.commit.block_id
        assert header.last_block_id.hash == header.last_block_id.parts_hash == header_hash(last.signed.header)
        assert header.last_block_id.parts_total == 1
        assert header.last_commit_hash == commit_hash(last.signed.commit)
        with made.store.snapshot() as view:  # type: ignore[attr-defined]
            block = load_block(view, header.height)
            before = load_block(view, header.height - 1)
        assert before is not None and header.app_hash == before.app_hash
        if block is not None:
            assert header.data_hash == data_hash(block.transactions)
            assert header.data_hash == merkle_root([sha256(tx) for tx in block.transactions])
    made.stop()


def test_many_blocks_do_not_carry_time_ahead_of_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    made = solo(tmp_path, clock)
    made.start()
    times = [made.enqueue(b"k%d=v" % number).result(10).time_ms for number in range(30)]
    assert set(times) == {START_MS}
    signed = newest(made).signed
    assert START_MS * 1_000_000 < signed.header.time_ns < START_MS * 1_000_000 + 1_000
    made.stop()


def test_a_restart_serves_the_newest_header_and_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    made = solo(tmp_path, clock)
    made.start()
    made.enqueue(b"a=1").result(10)
    before = newest(made)
    made.stop()
    store = open_writer(tmp_path, StoreConfig(map_bytes=64 << 20))
    with store.snapshot() as view:  # before anything runs
        assert load_proven(view) == before
    store.close()
    clock.now_ms += 60_000
    made = solo(tmp_path, clock)
    made.start()
    fresh = newest(made).signed
    assert fresh.header.height == before.signed.header.height + 1  # same block, not a second one of its height
    assert fresh.header.last_block_id.hash == header_hash(before.signed.header)
    assert fresh.commit.votes[0].timestamp_ns == clock.now_ms * 1_000_000
    assert made.enqueue(b"a=1").result(10) == Included(None, None, TransactionResult(TAKEN))
    assert made.enqueue(b"b=1").result(10).result.code == 0
    chain = headers(made)
    assert [h.signed.header.height for h in chain] == list(range(1, len(chain) + 1))
    made.stop()


def test_refused_failed_and_repeated_transactions(tmp_path: Path) -> None:
    made = solo(tmp_path, Clock())
    made.start()
    futures = [made.enqueue(tx) for tx in (b"a=1", b"nonsense", b"!x=1", b"a=1", b"a=2", b"born=2")]
    outcomes = [future.result(10) for future in futures]
    assert [outcome.result.code for outcome in outcomes] == [
        0,
        MALFORMED,
        FAILED,
        outcomes[3].result.code,
        TAKEN,
        TAKEN,
    ]
    assert [outcome.height is None for outcome in outcomes[:3]] == [False, True, False]
    assert outcomes[3].result.code in (0, TAKEN)  # same bytes: one transaction, in the same block or refused after it
    assert made.enqueue(b"a=1").result(10).result.code == TAKEN
    made.stop()


def test_waiting_transactions_share_blocks_and_quotas_make_them_wait(tmp_path: Path) -> None:
    gate = threading.Event()

    class Gated(PlainMachine):
        def prepare(self, height: int, time_ms: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]:
            gate.wait(10)
            return super().prepare(height, time_ms, candidates, bytes_max)

    made = solo(tmp_path, Clock(), machine=Gated)
    made.start()
    futures = [made.enqueue(b"k%d=1" % number) for number in range(100)]
    slow = [made.enqueue(b"~k%d=1" % number) for number in range(2 * QUOTA + 1)]
    gate.set()
    heights = {future.result(10).height for future in futures}
    assert len(heights) <= 2  # the first may have been taken alone
    assert len({future.result(10).height for future in slow}) == 3
    made.stop()


def test_a_full_queue_says_so_and_stopping_answers_all(tmp_path: Path) -> None:
    gate, entered = threading.Event(), threading.Event()

    class Gated(PlainMachine):
        def prepare(self, height: int, time_ms: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]:
            entered.set()
            gate.wait(10)
            return super().prepare(height, time_ms, candidates, bytes_max)

    made = solo(tmp_path, Clock(), replace(SLOW, queue_max=3), machine=Gated)
    made.start()
    first = made.enqueue(b"a=1")
    entered.wait(10)
    waiting = [made.enqueue(b"w%d=1" % number) for number in range(3)]
    with pytest.raises(Unreachable) as caught:
        made.enqueue(b"b=1")
    assert (caught.value.code, caught.value.status) == ("solo.queue_full", 429)
    stopper = threading.Thread(target=made.stop)
    stopper.start()
    while not made._queue.stopping:
        stopper.join(0.01)
    gate.set()
    stopper.join(10)
    assert first.result(10).result.code == 0
    for future in waiting:
        with pytest.raises(Unreachable):
            future.result(10)
    with pytest.raises(Unreachable):
        made.enqueue(b"c=1")


def test_heartbeats_go_on_by_themselves_and_through_a_flood_of_refusals(tmp_path: Path) -> None:
    heights: list[int] = []
    beat = threading.Event()

    def on_block(height: int) -> None:
        heights.append(height)
        if len(heights) >= 4:
            beat.set()

    made = solo(tmp_path, Clock(), replace(SLOW, heartbeat_ms=10), on_block=on_block)
    made.start()
    assert beat.wait(10)
    beat.clear()
    heights.clear()
    while not beat.is_set():
        assert made.enqueue(b"nonsense").result(10).height is None
    app_hashes = {h.signed.header.app_hash for h in headers(made)}
    made.stop()
    assert heights == list(range(heights[0], heights[0] + len(heights)))
    assert len(app_hashes) == 1  # empty blocks change nothing


def test_submit_from_an_event_loop_survives_a_client_that_leaves(tmp_path: Path) -> None:
    made = solo(tmp_path, Clock())
    made.start()

    async def clients() -> list[Included]:
        leaving = asyncio.ensure_future(made.submit(b"left=1"))
        await asyncio.sleep(0)
        leaving.cancel()
        return await asyncio.gather(*[made.submit(b"k%d=1" % number) for number in range(20)])

    assert [included.result.code for included in asyncio.run(clients())] == [0] * 20
    assert made.enqueue(b"left=2").result(10).result.code == TAKEN
    made.stop()


def test_a_failure_inside_halts_and_says_that_the_outcome_is_unknown(tmp_path: Path) -> None:
    class Breaks(PlainMachine):
        def execute(self, height: int, time_ms: int, transactions: Sequence[bytes]) -> Any:
            if b"break=1" in transactions:
                raise MemoryError
            return super().execute(height, time_ms, transactions)

    made = solo(tmp_path, Clock(), machine=Breaks)
    made.start()
    made.enqueue(b"a=1").result(10)
    with pytest.raises(Unreachable) as caught:
        made.enqueue(b"break=1").result(10)
    assert caught.value.code == "solo.unknown"
    with pytest.raises(Misconfigured) as halted:
        made.wait(10_000)
    assert halted.value.code == "store.memory"
    with pytest.raises(Unreachable):
        made.enqueue(b"b=1")
    made.stop()
    made = solo(tmp_path, Clock())
    made.start()
    assert made.enqueue(b"break=1").result(10).result.code == 0
    made.stop()


def test_a_store_of_another_chain_or_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        solo(tmp_path, Clock(), chain_id="onecode-1")
    assert caught.value.code == "solo.chain_id"
    made = solo(tmp_path, Clock())
    made.start()
    made.stop()
    for options, code in (
        ({"chain_id": "solo-other"}, "solo.chain_other"),
        ({"key": SigningKey.from_seed(b"x" * 32)}, "solo.key_other"),
    ):
        made = solo(tmp_path, Clock(), **options)
        with pytest.raises(Misconfigured) as caught:
            made.start()
        assert caught.value.code == code
        made.stop()
