"""What was done and seen while faults went on, and whether it fits together: a log of operations and its checker.

Times are milliseconds of one machine's clock, taken before the call and after its answer. What the chain did is read at
the end from its blocks. Every rule is sound: what it reports cannot be explained by a slow answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import IO

Key = tuple[str, str]  # merchant, platform; both in hex


class Did(StrEnum):
    PUBLISH = "publish"
    WITHDRAW = "withdraw"  # by the platform
    UNLINK = "unlink"  # by the merchant


class Verdict(StrEnum):
    OK = "ok"  # a write: acknowledged. a query: a verified record. a payment: taken
    ABSENT = "absent"  # a query: proven that there is none. a payment: refused for it
    UNKNOWN = "unknown"  # a write or payment whose outcome was not told
    REFUSED = "refused"  # a write that the chain refused; an answer that the wallet did not believe
    NONE = "none"  # no answer


@dataclass(frozen=True, slots=True)
class Write:
    """A publication, withdrawal or unlink that somebody asked for. `version` where it is known."""

    did: Did
    merchant: str
    platform: str
    version: int | None
    invoked_ms: int
    answered_ms: int
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """What a wallet made of one question. version, height and signed_ms are of a record that it accepted."""

    wallet: str
    merchant: str
    platform: str
    invoked_ms: int
    answered_ms: int
    verdict: Verdict
    version: int | None = None
    height: int | None = None
    signed_ms: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that a wallet tried. proven: the height whose state the platform's own node proved before."""

    merchant: str
    platform: str
    version: int
    proven: int
    invoked_ms: int
    answered_ms: int
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a block did to a link."""

    height: int
    did: Did
    merchant: str
    platform: str
    version: int | None

    @property
    def key(self) -> Key:
        return self.merchant, self.platform


@dataclass(frozen=True, slots=True)
class NodeEnd:
    """A node at the end: its app hashes by height, and the live versions in its state."""

    app_hashes: Mapping[int, str]
    live: Mapping[Key, int]


@dataclass(slots=True)
class History:
    """The log; appended from several threads, and written to `file` line by line where there is one."""

    file: IO[str] | None = None
    writes: list[Write] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, one: Write | Query | Payment) -> None:
        with self._lock:
            if isinstance(one, Write):
                self.writes.append(one)
            elif isinstance(one, Query):
                self.queries.append(one)
            else:
                self.payments.append(one)
            if self.file is not None:
                self.file.write(json.dumps({"kind": type(one).__name__.lower(), **asdict(one)}) + "\n")

    def acknowledged(self) -> int:
        return sum(one.verdict is Verdict.OK for one in self.writes)


class Chain:
    """The links as the decided blocks made them."""

    def __init__(self, decided: Iterable[Decided]) -> None:
        self.decided = sorted(decided, key=lambda one: one.height)
        self._of: dict[Key, list[Decided]] = {}
        for one in self.decided:
            self._of.setdefault(one.key, []).append(one)

    def of(self, key: Key) -> Sequence[Decided]:
        return self._of.get(key, ())

    def version_at(self, key: Key, height: int) -> int | None:
        """The live version in the state after block `height`."""
        live: int | None = None
        for one in self.of(key):
            if one.height <= height:
                live = one.version if one.did is Did.PUBLISH else None
        return live

    def end(self) -> dict[Key, int]:
        """All live versions after the last block."""
        newest = {key: self.version_at(key, 1 << 62) for key in self._of}
        return {key: version for key, version in newest.items() if version is not None}


def check(history: History, decided: Iterable[Decided], nodes: Mapping[str, NodeEnd], bound_ms: int) -> list[str]:
    """Every breach of a rule, in words. bound_ms: how old a header a wallet accepts."""
    chain = Chain(decided)
    return [
        *lost_writes(history, chain, nodes),
        *wrong_answers(history, chain),
        *stale_answers(history, chain, bound_ms),
        *wrong_payments(history, chain),
        *different_hashes(nodes),
        *going_back(history, chain),
    ]


def lost_writes(history: History, chain: Chain, nodes: Mapping[str, NodeEnd]) -> list[str]:
    """1. What was acknowledged was decided. 2. Every node ends with exactly what was decided."""
    faults = []
    for write in history.writes:
        if write.verdict is not Verdict.OK:
            continue
        done = chain.of((write.merchant, write.platform))
        if write.did is Did.PUBLISH:
            found = any(one.did is Did.PUBLISH and one.version == write.version for one in done)
        else:
            found = any(one.did is write.did and write.version in (None, one.version) for one in done)
        if not found:
            faults.append(f"lost: {write.did} of {write.merchant[:8]} version {write.version} was acknowledged")
    end = chain.end()
    for name, node in nodes.items():
        for key in sorted(end.keys() | node.live.keys()):
            if end.get(key) != node.live.get(key):
                faults.append(f"{name} ends with {node.live.get(key)} for {key[0][:8]}, decided was {end.get(key)}")
    return faults


def wrong_answers(history: History, chain: Chain) -> list[str]:
    """3. A record that a wallet accepted under header h is the live one after block h - 1."""
    return [
        f"{one.wallet} accepted version {one.version} of {one.merchant[:8]} under header {one.height}"
        for one in history.queries
        if one.verdict is Verdict.OK
        and one.height is not None
        and chain.version_at((one.merchant, one.platform), one.height - 1) != one.version
    ]


def stale_answers(history: History, chain: Chain, bound_ms: int) -> list[str]:
    """4. No wallet accepts a header older than the bound. 5. Nor, asked later than the bound after a withdrawal was
    acknowledged, the record that it ended; 6. nor takes for absent what was acknowledged so long before."""
    faults = []
    for one in history.queries:
        if one.verdict is Verdict.OK and one.signed_ms is not None and one.signed_ms < one.invoked_ms - bound_ms:
            faults.append(f"{one.wallet} accepted a header {one.invoked_ms - one.signed_ms} ms old")
    ended, published = _ended(history, chain), _published(history)
    for one in history.queries:
        key = (one.merchant, one.platform)
        if one.verdict is Verdict.OK and one.version is not None:
            at_ms = ended.get((key, one.version))
            if at_ms is not None and one.invoked_ms > at_ms + bound_ms:
                faults.append(
                    f"{one.wallet} accepted version {one.version} of {one.merchant[:8]} {one.invoked_ms - at_ms} ms "
                    "after its end was acknowledged"
                )
        elif one.verdict is Verdict.ABSENT and any(
            at_ms + bound_ms < one.invoked_ms and not _may_have_ended(history, key, at_ms, one.answered_ms)
            for at_ms in published.get(key, ())
        ):
            faults.append(f"{one.wallet} took {one.merchant[:8]} for absent, which was published")
    return faults


def _ended(history: History, chain: Chain) -> dict[tuple[Key, int], int]:
    """When the end of a version was acknowledged: its withdrawal or unlink, by the version that was live then."""
    found: dict[tuple[Key, int], int] = {}
    for write in history.writes:
        if write.did is Did.PUBLISH or write.verdict is not Verdict.OK:
            continue
        key = (write.merchant, write.platform)
        for one in chain.of(key):
            if one.did is write.did:
                live = chain.version_at(key, one.height - 1)
                if live is not None and write.version in (None, live):
                    found[key, live] = min(write.answered_ms, found.get((key, live), write.answered_ms))
    return found


def _published(history: History) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = {}
    for write in history.writes:
        if write.did is Did.PUBLISH and write.verdict is Verdict.OK:
            found.setdefault((write.merchant, write.platform), []).append(write.answered_ms)
    return found


def _may_have_ended(history: History, key: Key, after_ms: int, before_ms: int) -> bool:
    """Whether any withdrawal or unlink, acknowledged or not, was under way between two moments."""
    return any(
        write.did is not Did.PUBLISH
        and (write.merchant, write.platform) == key
        and write.invoked_ms <= before_ms
        and (write.answered_ms >= after_ms or write.verdict is not Verdict.OK)
        for write in history.writes
    )


def wrong_payments(history: History, chain: Chain) -> list[str]:
    """7. A platform whose own node has decided the end of a link takes no payment by it."""
    faults = []
    for one in history.payments:
        key = (one.merchant, one.platform)
        ends = [done.height for done in chain.of(key) if done.did is not Did.PUBLISH]
        if one.verdict is Verdict.OK and any(
            height <= one.proven and chain.version_at(key, height - 1) == one.version for height in ends
        ):
            faults.append(f"a payment to {one.merchant[:8]} was taken after height {one.proven} was decided")
    return faults


def different_hashes(nodes: Mapping[str, NodeEnd]) -> list[str]:
    """8. All nodes have one app hash at each height that they have."""
    known: dict[int, tuple[str, str]] = {}
    faults = []
    for name, node in nodes.items():
        for height, app_hash in node.app_hashes.items():
            first, other = known.setdefault(height, (name, app_hash))
            if other != app_hash:
                faults.append(f"app hash of height {height}: {first} and {name} differ")
    return faults


def going_back(history: History, chain: Chain) -> list[str]:
    """9. Versions of a link only rise. 10. A wallet never goes back behind a header that it accepted."""
    faults = []
    newest: dict[Key, int] = {}
    for one in chain.decided:
        if one.did is Did.PUBLISH and one.version is not None:
            if one.version <= newest.get(one.key, 0):
                faults.append(f"version {one.version} of {one.merchant[:8]} was published after {newest[one.key]}")
            newest[one.key] = one.version
    heights: dict[str, int] = {}
    for seen in sorted(history.queries, key=lambda one: one.answered_ms):
        if seen.height is None or seen.verdict is not Verdict.OK:
            continue
        if seen.height < heights.get(seen.wallet, 0):
            faults.append(f"{seen.wallet} went back from header {heights[seen.wallet]} to {seen.height}")
        heights[seen.wallet] = max(seen.height, heights.get(seen.wallet, 0))
    return faults


def longest_gap_ms(times_ms: Iterable[int], begin_ms: int, end_ms: int) -> int:
    """The longest time without a success between two moments: what a publisher or payer saw as an outage."""
    inside = [begin_ms, *sorted(one for one in times_ms if begin_ms <= one <= end_ms), end_ms]
    return max(later - earlier for earlier, later in pairwise(inside))


def opened(path: Path) -> History:
    """A history that is kept in a file too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return History(path.open("w", encoding="utf-8", buffering=1))
