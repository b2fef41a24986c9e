"""Counters that the node's processes share: one small file a process, memory-mapped, added up by whoever is asked.

Every series has its place from the start, so to count is one addition in memory, the set of labels is bounded, and no
label can ever name a merchant or a payer. Counters outlive a process that is started again; gauges begin at zero.
Text format: Prometheus 0.0.4.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onecode.wire import sha256

TEXT = b"text/plain; version=0.0.4"
STATUSES = (200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 500, 503)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
OTHER = "other"
REASONS = (
    "enclave.header_unknown",
    "http.body_too_large",
    "http.connections",
    "http.head_too_large",
    "http.malformed",
    "http.media_type",
    "http.method",
    "http.parameter",
    "http.path",
    "http.rate",
    "http.streams",
    "http.timeout",
    "node.busy",
    "node.enclave_behind",
    "node.enclave_down",
    "node.not_ready",
    "node.timeout",
    "node.writer_down",
    "query.chain",
    "query.enclave_unknown",
    "request.member",
    "request.observer",
    "request.platform",
    "request.suspended",
    "request.time",
    "seal.broken",
    "signature.bad",
    "transaction.declined",
    "transaction.malformed",
    "transaction.quota",
    "transaction.untrusted",
    "wire.too_large",
    OTHER,
)
PROCESSES = ("writer", "worker", "enclave")
HEAD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without the prefix, its kind, and the labels of each series, written out."""

    name: str
    kind: str
    text: str
    series: tuple[str, ...] = ("",)


class Board:
    """The numbers of one process in a file, or of this process alone without one."""

    def __init__(self, families: Sequence[Family], path: Path | None = None) -> None:
        self.families = families
        self._start = {}
        size = 0
        for family in families:
            self._start[family.name] = size
            size += len(family.series)
        layout = sha256(repr(families).encode("utf-8"))
        memory: mmap.mmap | bytearray = bytearray(HEAD_BYTES + 8 * size)
        if path is not None:
            memory = _mapped(path, HEAD_BYTES + 8 * size, layout)
        self._slots = memoryview(memory)[HEAD_BYTES:].cast("Q")
        for family in families:
            if family.kind == "gauge":
                for slot in range(len(family.series)):
                    self._slots[self._start[family.name] + slot] = 0

    def place(self, name: str) -> int:
        """Where a family begins; its series follow one another."""
        return self._start[name]

    def add(self, slot: int, amount: int = 1) -> None:
        self._slots[slot] += amount

    def set(self, slot: int, value: int) -> None:
        self._slots[slot] = value

    def values(self) -> list[int]:
        return list(self._slots)


def _mapped(path: Path, size: int, layout: bytes) -> mmap.mmap:
    """The file of `path` in memory; one of another layout begins again."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(file).st_size != size or os.pread(file, HEAD_BYTES, 0) != layout:
            os.ftruncate(file, 0)
            os.ftruncate(file, size)
            os.pwrite(file, layout, 0)
        return mmap.mmap(file, size)
    finally:
        os.close(file)


def read_boards(families: Sequence[Family], paths: Iterable[Path]) -> list[int]:
    """The sums over the files that are there and of this layout."""
    count = sum(len(family.series) for family in families)
    layout = sha256(repr(families).encode("utf-8"))
    sums = [0] * count
    for path in paths:
        try:
            raw = path.read_bytes()
        except OSError:
            continue
        if raw[:HEAD_BYTES] == layout and len(raw) == HEAD_BYTES + 8 * count:
            sums = [a + b for a, b in zip(sums, memoryview(raw)[HEAD_BYTES:].cast("Q"), strict=True)]
    return sums


def read_board(families: Sequence[Family], path: Path) -> dict[str, int]:
    """The first series of each family in one file; zeros where it is not there."""
    values, at, found = read_boards(families, [path]), 0, {}
    for family in families:
        found[family.name] = values[at]
        at += len(family.series)
    return found


def exposition(families: Sequence[Family], values: Sequence[int]) -> str:
    """The families with their values in the text format. A histogram's series are its buckets, sum (µs) and count."""
    lines: list[str] = []
    at = 0
    for family in families:
        name = f"onecode_{family.name}"
        lines += [f"# HELP {name} {family.text}", f"# TYPE {name} {family.kind}"]
        count = len(family.series)
        if family.kind == "histogram":
            lines += _histogram(name, values[at : at + count])
        else:
            lines += [f"{name}{labels} {values[at + place]}" for place, labels in enumerate(family.series)]
        at += count
    return "\n".join(lines) + "\n"


def _histogram(name: str, values: Sequence[int]) -> list[str]:
    *buckets, micros, count = values
    lines, below = [], 0
    for bound, number in zip(SECONDS, buckets, strict=True):
        below += number
        lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
    return [*lines, f'{name}_bucket{{le="+Inf"}} {count}', f"{name}_sum {micros / 1e6}", f"{name}_count {count}"]


# --- what each process counts ----------------------------------------------------------------------------------------


def worker_families(routes: Sequence[str]) -> tuple[Family, ...]:
    """A query worker's; `routes` are the router's labels."""
    answers = tuple(f'{{route="{route}",status="{status}"}}' for route in routes for status in STATUSES)
    return (
        Family("http_answers_total", "counter", "Answers by route and status.", answers),
        Family(
            "refused_total",
            "counter",
            "Refusals by the machine code of the error tree.",
            tuple(f'{{reason="{reason}"}}' for reason in REASONS),
        ),
        Family(
            "query_seconds", "histogram", "Queries from the whole request to the answer.", ("",) * (len(SECONDS) + 2)
        ),
        Family("connections", "gauge", "Open connections."),
        Family("streams", "gauge", "Open event streams."),
        Family("queries_in_flight", "gauge", "Queries that wait for the enclave."),
    )


WRITER = (
    Family(
        "transactions_total",
        "counter",
        "Transactions by what became of them here.",
        tuple(f'{{outcome="{one}"}}' for one in ("succeeded", "failed", "refused", "unknown")),
    ),
    Family("transactions_in_flight", "gauge", "Transactions that were handed to the writer and have no result yet."),
    Family("queue_length", "gauge", "Transactions that wait for a block."),
)
ENGINE = (
    Family("engine_starts_total", "counter", "Starts of the engine, one with each start of the writer."),
    Family("engine_asked_ms", "gauge", "When the engine last answered, in milliseconds since the epoch."),
    Family("engine_height", "gauge", "Height of the engine's newest block."),
    Family("engine_first_block", "gauge", "Lowest height whose block the engine has."),
    Family("engine_peers", "gauge", "Peers that the engine is connected to."),
    Family("engine_lag_blocks", "gauge", "Blocks by which the furthest peer is ahead."),
    Family("engine_catching_up", "gauge", "Whether the engine fetches old blocks before it takes part."),
    Family("engine_validator_power", "gauge", "Power of the engine's vote; 0 of an observer."),
)
ENGINE_UP = Family("engine_up", "gauge", "Whether the engine answers.")
SUPERVISOR = (
    Family(
        "restarts_total",
        "counter",
        "Processes that ended and were started again.",
        tuple(f'{{process="{one}"}}' for one in PROCESSES),
    ),
    Family(
        "hung_total",
        "counter",
        "Processes that were ended because they did not move.",
        tuple(f'{{process="{one}"}}' for one in PROCESSES),
    ),
)


class Meter:
    """Counts what a worker answers. Called for each answer: additions only."""

    def __init__(self, board: Board, timed_route: int) -> None:
        """`timed_route` is the number of the route that the histogram is of."""
        self.board = board
        self._timed = timed_route
        self._statuses = {status: place for place, status in enumerate(STATUSES)}
        self._answers = board.place("http_answers_total")
        self._refused = board.place("refused_total")
        self._reasons = {reason: self._refused + place for place, reason in enumerate(REASONS)}
        self._seconds = board.place("query_seconds")

    def answered(self, route: int, status: int, code: str, seconds: float) -> None:
        """One answer. `route` -1: of no route; `code`: the error's, or empty."""
        add = self.board.add
        if route >= 0:
            add(self._answers + route * len(STATUSES) + self._statuses[status])
        if code:
            add(self._reasons.get(code, self._refused + len(REASONS) - 1))
        if route == self._timed:
            place = bisect_left(SECONDS, seconds)
            if place < len(SECONDS):
                add(self._seconds + place)
            add(self._seconds + len(SECONDS), int(seconds * 1e6))
            add(self._seconds + len(SECONDS) + 1)
