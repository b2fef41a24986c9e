"""The checker of the fault tests finds each breach in a history made by hand, and none in an honest one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from network.history import Decided, Did, History, NodeEnd, Payment, Query, Verdict, Write, check, longest_gap_ms

M, P = "aa" * 20, "bb" * 20
BOUND_MS = 30_000


def write(did: Did, version: int | None, invoked_ms: int, **changes: Any) -> Write:
    one = Write(did, M, P, version, invoked_ms, invoked_ms + 100, Verdict.OK)
    return dataclasses.replace(one, **changes)


def query(
    invoked_ms: int, verdict: Verdict, version: int | None = None, height: int | None = None, **more: Any
) -> Query:
    signed_ms = more.pop("signed_ms", invoked_ms - 1_000 if verdict is Verdict.OK else None)
    return Query("w", M, P, invoked_ms, invoked_ms + 50, verdict, version, height, signed_ms, **more)


def payment(version: int, proven: int, verdict: Verdict) -> Payment:
    return Payment(M, P, version, proven, 20_000, 20_050, verdict)


CHAIN = (
    Decided(5, Did.PUBLISH, M, P, 1),
    Decided(9, Did.PUBLISH, M, P, 2),
    Decided(20, Did.WITHDRAW, M, P, 2),
    Decided(30, Did.PUBLISH, M, P, 3),
    Decided(40, Did.UNLINK, M, P, None),
)
WRITES = (
    write(Did.PUBLISH, 1, 1_000),
    write(Did.PUBLISH, 2, 5_000, verdict=Verdict.UNKNOWN),
    write(Did.WITHDRAW, 2, 10_000),
    write(Did.PUBLISH, 3, 60_000),
    write(Did.UNLINK, None, 120_000),
)
HASHES = {height: f"{height:02x}" for height in range(1, 42)}
HONEST_QUERIES = (
    query(2_000, Verdict.OK, 1, 6),
    query(2_100, Verdict.OK, 1, 9),  # under header 9 the state is that after block 8
    query(6_000, Verdict.OK, 2, 10),
    query(11_000, Verdict.OK, 2, 20),  # within the bound after the withdrawal, under an older header
    query(12_000, Verdict.ABSENT),
    query(50_000, Verdict.ABSENT),
    query(100_000, Verdict.OK, 3, 31),
    query(200_000, Verdict.ABSENT),
    query(200_100, Verdict.REFUSED, why="header.stale"),
    query(200_200, Verdict.NONE),
)
NODES = {name: NodeEnd(HASHES, {}) for name in ("one", "two")}


def found(
    writes: tuple[Write, ...] = WRITES,
    queries: tuple[Query, ...] = HONEST_QUERIES,
    payments: tuple[Payment, ...] = (payment(2, 19, Verdict.OK), payment(2, 20, Verdict.ABSENT)),
    decided: tuple[Decided, ...] = CHAIN,
    nodes: dict[str, NodeEnd] | None = None,
) -> list[str]:
    history = History()
    for one in (*writes, *queries, *payments):
        history.add(one)
    return check(history, decided, nodes or NODES, BOUND_MS)


def test_an_honest_history_has_no_breach() -> None:
    assert found() == []


def one_fault(faults: list[str], words: str) -> None:
    assert len(faults) == 1 and words in faults[0], faults


@pytest.mark.parametrize("lost", [0, 2, 4], ids=["a publication", "a withdrawal", "an unlink"])
def test_an_acknowledged_write_that_was_never_decided(lost: int) -> None:
    decided = {0: CHAIN[1:], 2: (*CHAIN[:2], *CHAIN[3:]), 4: CHAIN[:4]}[lost]
    live = {(M, P): 3} if lost == 4 else {}
    nodes = {name: NodeEnd(HASHES, live) for name in NODES}
    one_fault(found(queries=(), payments=(), decided=decided, nodes=nodes), "lost")


def test_one_that_was_not_acknowledged_may_be_missing() -> None:
    decided = (CHAIN[0], *CHAIN[2:])
    writes = (WRITES[0], dataclasses.replace(WRITES[1], verdict=Verdict.UNKNOWN), *WRITES[2:])
    queries = tuple(one for one in HONEST_QUERIES if one.version != 2)
    assert found(writes=writes, queries=queries, payments=(), decided=decided) == []


@pytest.mark.parametrize("live", [{(M, P): 3}, {("cc" * 20, P): 1}], ids=["one too many", "an unknown one"])
def test_a_node_that_ends_in_another_state(live: dict[tuple[str, str], int]) -> None:
    one_fault(found(nodes={"one": NODES["one"], "two": NodeEnd(HASHES, live)}), "two ends with")


def test_a_node_that_lacks_a_record() -> None:
    decided = CHAIN[:4]
    nodes = {"one": NodeEnd(HASHES, {(M, P): 3}), "two": NodeEnd(HASHES, {})}
    one_fault(found(writes=WRITES[:4], queries=HONEST_QUERIES[:7], decided=decided, nodes=nodes), "two ends with None")


@pytest.mark.parametrize(
    ("version", "height"),
    [(1, 5), (1, 10), (2, 9), (2, 21), (3, 41), (7, 31)],
    ids=["before it was", "replaced", "too early", "withdrawn", "unlinked", "never was"],
)
def test_a_record_that_was_not_live_under_its_header(version: int, height: int) -> None:
    one_fault(found(queries=(query(10_000, Verdict.OK, version, height),)), f"accepted version {version}")


def test_a_header_older_than_the_bound() -> None:
    assert found(queries=(query(50_000, Verdict.OK, 2, 20, signed_ms=20_000),))
    faults = found(queries=(query(30_000, Verdict.OK, 1, 6, signed_ms=-1),))
    one_fault(faults, "accepted a header 30001 ms old")


@pytest.mark.parametrize(("version", "height", "acknowledged_ms"), [(2, 20, 10_100), (3, 40, 120_100)])
def test_a_record_accepted_too_long_after_its_end(version: int, height: int, acknowledged_ms: int) -> None:
    in_time = query(acknowledged_ms + BOUND_MS, Verdict.OK, version, height)
    assert found(queries=(in_time,)) == []
    late = query(acknowledged_ms + BOUND_MS + 1, Verdict.OK, version, height)
    one_fault(found(queries=(late,)), "after its end was acknowledged")


def test_an_end_that_was_not_acknowledged_bounds_nothing() -> None:
    writes = (*WRITES[:2], dataclasses.replace(WRITES[2], verdict=Verdict.UNKNOWN), *WRITES[3:])
    assert found(writes=writes, queries=(query(55_000, Verdict.OK, 2, 20),)) == []


def test_a_record_taken_for_absent() -> None:
    one_fault(found(queries=(query(100_000, Verdict.ABSENT),)), "took aaaaaaaa for absent")
    assert found(queries=(query(119_990, Verdict.ABSENT),)) == []  # the unlink was under way


@pytest.mark.parametrize(("version", "proven"), [(2, 20), (2, 25), (3, 40)])
def test_a_payment_after_the_block_was_decided(version: int, proven: int) -> None:
    one_fault(found(payments=(payment(version, proven, Verdict.OK),)), "a payment")
    assert found(payments=(payment(version, proven, Verdict.UNKNOWN),)) == []


def test_two_app_hashes() -> None:
    other = NodeEnd(HASHES | {7: "ff"}, {})
    one_fault(found(nodes={"one": NODES["one"], "two": other}), "app hash of height 7")
    pruned = NodeEnd({height: HASHES[height] for height in range(30, 42)}, {})
    assert found(nodes={"one": NODES["one"], "two": pruned}) == []


def test_versions_that_fall() -> None:
    decided = (*CHAIN, Decided(41, Did.PUBLISH, M, P, 3))
    nodes = {name: NodeEnd(HASHES, {(M, P): 3}) for name in NODES}
    one_fault(found(queries=(), decided=decided, nodes=nodes), "version 3")


def test_a_wallet_that_goes_back() -> None:
    queries = (query(2_000, Verdict.OK, 1, 8), query(2_100, Verdict.OK, 1, 6))
    one_fault(found(queries=queries), "went back from header 8 to 6")


def test_gaps() -> None:
    assert longest_gap_ms([10, 300, 320], 0, 1_000) == 680
    assert longest_gap_ms([], 0, 1_000) == 1_000
    assert longest_gap_ms([-5, 1_500], 0, 1_000) == 1_000
