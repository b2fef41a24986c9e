"""Buckets: bursts, refill, misses dearer than hits, one device's tokens are its own."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain_world import NOW_MS, World
from onecode.enclave import shared
from onecode.enclave.buckets import HITS, ISSUER, MISSES, Buckets
from onecode.enclave.replay import SeenQueries
from onecode.errors import Unreachable, Untrusted

DEVICE, OTHER, PLATFORM = b"d" * 32, b"o" * 32, b"p" * 20


def hits_until_refused(buckets: Buckets, now_ms: int) -> int:
    for count in range(10_000):
        try:
            buckets.count_hits(DEVICE, 1, now_ms)
        except Unreachable as error:
            assert error.status == 429 and error.retry_after_ms is not None and error.retry_after_ms > 0
            return count
    raise AssertionError("never refused")


def test_a_burst_then_a_steady_rate() -> None:
    buckets = Buckets()
    assert hits_until_refused(buckets, NOW_MS) == HITS.burst
    assert hits_until_refused(buckets, NOW_MS + 60_000) == HITS.tokens
    assert hits_until_refused(buckets, NOW_MS + 86_400_000) == HITS.burst


def test_misses_run_out_sooner_than_hits() -> None:
    buckets = Buckets()
    for _ in range(MISSES.burst):
        buckets.admit(DEVICE, PLATFORM, NOW_MS)
        buckets.count_miss(DEVICE, NOW_MS)
    with pytest.raises(Unreachable) as caught:
        buckets.admit(DEVICE, PLATFORM, NOW_MS)
    assert caught.value.code == "query.rate"
    assert caught.value.retry_after_ms == 10_000
    buckets.admit(OTHER, PLATFORM, NOW_MS)
    buckets.admit(DEVICE, PLATFORM, NOW_MS + 10_000)


def test_a_platform_has_a_limit_over_all_its_devices() -> None:
    buckets = Buckets()
    for number in range(ISSUER.burst):
        buckets.admit(number.to_bytes(32, "big"), PLATFORM, NOW_MS)
    with pytest.raises(Unreachable):
        buckets.admit(b"fresh" * 6, PLATFORM, NOW_MS)
    buckets.admit(b"fresh" * 6, b"q" * 20, NOW_MS)


def test_room_is_made_by_forgetting_full_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "RUN_SLOTS", 3)
    buckets = Buckets(slots=1)
    for number in range(3):
        buckets.count_hits(bytes([number]) * 32, 1, NOW_MS)
    with pytest.raises(Unreachable) as caught:
        buckets.count_hits(b"new" * 10, 1, NOW_MS)
    assert caught.value.code == "enclave.busy"
    buckets.count_hits(b"new" * 10, 1, NOW_MS + 201_000)


def test_workers_share_one_bucket() -> None:
    """A host cannot multiply a device's tokens by sending its queries to another worker."""
    buckets = Buckets()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, hits_until_refused(buckets, NOW_MS).to_bytes(2, "big"))
        os._exit(0)
    os.waitpid(child, 0)
    assert int.from_bytes(os.read(reading, 2), "big") == HITS.burst
    assert hits_until_refused(buckets, NOW_MS) == 0


def test_workers_share_the_ids_of_queries() -> None:
    seen = SeenQueries(60_000)
    child = os.fork()
    if child == 0:
        seen.add(b"id", NOW_MS)
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(Untrusted) as caught:
        seen.add(b"id", NOW_MS + 60_000)
    assert caught.value.code == "query.replayed"
    seen.add(b"another", NOW_MS - 3_600_000)
    seen.add(b"id", NOW_MS + 180_000)


def test_a_clock_that_swings_fills_no_bucket_twice() -> None:
    buckets, taken = Buckets(), 0
    for swing in range(500):
        now_ms = NOW_MS + (59_000 if swing % 2 else -59_000)
        try:
            buckets.count_hits(DEVICE, 1, now_ms)
            taken += 1
        except Unreachable:
            pass
    assert taken <= HITS.burst + 2 * HITS.tokens


def test_a_clock_set_back_forgets_no_id() -> None:
    seen = SeenQueries(60_000)
    seen.add(b"id", NOW_MS + 130_000)
    with pytest.raises(Untrusted):
        seen.add(b"id", NOW_MS)
    seen.add(b"now", NOW_MS)
    with pytest.raises(Untrusted):
        seen.add(b"now", NOW_MS + 130_000)


def test_looking_takes_no_slot() -> None:
    """A platform over its rate must not fill the table with new devices."""
    buckets = Buckets()
    for number in range(ISSUER.burst):
        buckets.admit(number.to_bytes(32, "big"), PLATFORM, NOW_MS)
    assert buckets._table.find(HITS.name + (5).to_bytes(32, "big")) is None
    assert buckets._table.find(MISSES.name + (5).to_bytes(32, "big")) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50_000)), max_size=100))
def test_an_id_is_never_forgotten_inside_its_window(steps: list[tuple[int, int]]) -> None:
    seen, last, now_ms = SeenQueries(60_000), dict[int, int](), NOW_MS
    for number, wait_ms in steps:
        now_ms += wait_ms
        try:
            seen.add(bytes([number]), now_ms)
        except Untrusted:
            assert now_ms - last[number] < 120_000
        else:
            assert number not in last or now_ms - last[number] >= 60_000
            last[number] = now_ms


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 4)), max_size=300))
def test_no_schedule_takes_more_than_burst_and_rate(steps: list[tuple[int, int]]) -> None:
    buckets, now_ms, taken = Buckets(), NOW_MS, 0
    for wait_ms, tokens in steps:
        now_ms += wait_ms
        try:
            buckets.count_hits(DEVICE, tokens, now_ms)
            taken += tokens
        except Unreachable:
            pass
    assert taken <= HITS.burst + (now_ms - NOW_MS) * HITS.tokens // HITS.period_ms


def test_the_enclave_refuses_a_harvester_by_a_sealed_answer() -> None:
    world = World()
    enclave = world.ready_enclave()
    codes = []
    for number in range(MISSES.burst + 1):
        query = world.query(enclave, world.a, query_id=number.to_bytes(16, "big"), accepted=(world.c.id,))
        codes.append(world.opened(enclave.answer(world.asked(query), NOW_MS), query).refusal)
    assert codes == ["platform.absent"] * MISSES.burst + ["query.rate"]
