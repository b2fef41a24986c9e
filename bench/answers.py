"""Answers a second and processor time an answer: Onecode beside what a team would build instead, in one run.

Rounds are interleaved, so that what else the machine does falls on all; figures are medians over the rounds, and a
ratio is taken within each round. Every row has two server processes of its kind, each on its own port (Onecode: a node
with two workers and an enclave of two), but for the last, which has one of each. In every round of Onecode a
sample of answers goes through all that a wallet checks: a refusal is sealed, so the load generator cannot see one.
"""

from __future__ import annotations

import secrets
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path

import httpx

from bench import postgres
from bench.figures import Figure, figure, show
from bench.load import Measured, measure, read_bodies
from bench.nodes import Served, free_port, start_node
from bench.processes import Child
from bench.queries import Run, check_answer, pending, run_of, write_lookups, write_queries
from bench.servers import PATH
from bench.state import State
from bench.world import LINKS_A_MERCHANT
from onecode.query.messages import MatchMode
from onecode.wire import decode, encode

PROCESSES = 2
LOOKUPS = 20_000
DEVICES_CACHED = 1_000  # an enclave lets each open 60 records a minute, and 120 at once
SAMPLE_EVERY = 50
CHECKED_A_ROUND = 40
PROBES = 10  # queries after a round of `wrk`, which keeps no answers
SPARE = 1.35  # queries made, over those that the last round would have used
FIRST_RATE = 3_000
OPENED = {MatchMode.NODE: 1, MatchMode.WALLET: 2}


@dataclass(slots=True)
class Row:
    """One line of the table, with what its rounds gave."""

    name: str
    targets: list[tuple[int, Path]]
    groups: dict[str, list[int]]
    runs: list[Run] = field(default_factory=list)  # Onecode: one a target
    rounds: list[Measured] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [one.rate for one in self.rounds]

    def median(self, name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in self.rounds))

    def cpu_us(self, group: str) -> float:
        return statistics.median(one.cpu_us.get(group, 0.0) for one in self.rounds)

    @property
    def servers_us(self) -> list[float]:
        """Processor time an answer in all server processes, each round."""
        return [sum(us for name, us in one.cpu_us.items() if name != "load") for one in self.rounds]


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int = 3
    seconds: float = 2.5
    connections: int = 32
    allow_wrk: bool = True


class Answers:
    """One state's measurement. `directory` for files; `pool` makes queries."""

    def __init__(self, state: State, directory: Path, pool: Pool, options: Options) -> None:
        self._state = state
        self._directory = directory
        self._pool = pool
        self._options = options
        self._stack = ExitStack()
        self.answer_bytes: dict[str, int] = {}

    def measure(self) -> list[Row]:
        """All rows, measured."""
        with self._stack:
            rows = self._rows()
            for number in range(self._options.rounds):
                for row in rows:
                    self._round(row, number)
        return rows

    # --- who answers

    def _rows(self) -> list[Row]:
        node = start_node(self._stack, self._state, self._directory / "node", PROCESSES)
        small = start_node(self._stack, self._state, self._directory / "small", 1)
        onecode = [
            self._onecode("Onecode, match at the node", node, MatchMode.NODE, 0),
            self._onecode("Onecode, match in the wallet", node, MatchMode.WALLET, 0),
            self._onecode("Onecode, node, credentials cached", node, MatchMode.NODE, DEVICES_CACHED),
            self._onecode("Onecode, node, one process of each", small, MatchMode.NODE, 0),
        ]
        size = self._first_answer(onecode[0])
        self._first_answer(onecode[1])
        lookups = self._directory / "lookups"
        write_lookups(lookups, onecode[0].runs[0], LOOKUPS)
        queries = self._directory / "queries-memory"
        write_queries(queries, onecode[0].runs[0].again(b"memory"), 1_000, self._pool)
        rows = [
            self._plain("memory, the same bytes: the limit", "memory", str(size), queries),
            self._plain("SQLite, nothing proven", "sqlite", str(self._state.sqlite), lookups),
        ]
        if postgres.installed():
            rows.append(self._postgres(lookups))
        return rows + onecode

    def _plain(self, name: str, kind: str, source: str, bodies: Path, more: Sequence[int] = ()) -> Row:
        ports = [free_port() for _ in range(PROCESSES)]
        children = [self._stack.enter_context(Child("bench.servers", kind, str(port), source)) for port in ports]
        for child in children:
            child.wait_ready()
        if kind != "memory":
            self._check_lookup(ports[0], bodies)
        groups = {"server": [child.pid for child in children]}
        if more:
            groups["database"] = list(more)
        return Row(name, [(port, bodies) for port in ports], groups)

    def _check_lookup(self, port: int, bodies: Path) -> None:
        """The directory gives what the registry would: both records of the merchant, as they were published."""
        merchant, service = decode(read_bodies(bodies)[0])
        answer = httpx.post(f"http://127.0.0.1:{port}{PATH}", content=encode([merchant, service]), trust_env=False)
        table = sqlite3.connect(self._state.sqlite)
        rows = table.execute("SELECT platform, record FROM records WHERE merchant = ?", (merchant,)).fetchall()
        table.close()
        if len(rows) != LINKS_A_MERCHANT or sorted(map(tuple, decode(answer.content))) != sorted(rows):
            raise RuntimeError("the directory does not answer with the merchant's records")

    def _postgres(self, lookups: Path) -> Row:
        path, pid = self._stack.enter_context(postgres.running(self._directory / "postgres"))
        postgres.fill(path, self._records())
        return self._plain("PostgreSQL, nothing proven", "postgres", str(path), lookups, [pid])

    def _records(self) -> Iterator[tuple[bytes, str, bytes, bytes]]:
        table = sqlite3.connect(self._state.sqlite)
        yield from table.execute("SELECT merchant, service, platform, record FROM records")
        table.close()

    def _onecode(self, name: str, node: Served, mode: MatchMode, devices: int) -> Row:
        slug = name.replace(" ", "-").replace(",", "")
        return Row(
            name=name,
            targets=[(port, self._directory / f"{slug}-{at}") for at, port in enumerate(node.ports)],
            groups={"worker": node.workers, "enclave": [node.enclave]},
            runs=[self._run(node, mode, devices) for _ in node.ports],
        )

    def _run(self, node: Served, mode: MatchMode, devices: int) -> Run:
        return run_of(self._state.head, self._state.count, node.query_key, mode, devices, secrets.token_bytes(8))

    # --- one round

    def _round(self, row: Row, number: int) -> None:
        if row.runs:
            self._make_queries(row, number)
        measured = measure(
            row.targets,
            path=PATH,
            seconds=self._options.seconds,
            warm_s=0.0 if row.runs else 0.3,  # each query of Onecode is answered once
            connections=self._options.connections,
            groups=row.groups,
            repeat=not row.runs,
            sample_every=SAMPLE_EVERY if row.runs else 0,
            allow_wrk=self._options.allow_wrk,
        )
        if measured.errors:
            raise RuntimeError(f"{row.name}: {measured.errors} errors in {measured.answers} answers")
        row.rounds.append(measured)
        if row.runs:
            self._check(row, measured)

    def _make_queries(self, row: Row, number: int) -> None:
        rate = SPARE * max(row.rates) if row.rates else FIRST_RATE
        count = int(rate * self._options.seconds / len(row.targets)) + 500
        for at, (_, path) in enumerate(row.targets):
            row.runs[at] = row.runs[at].again(secrets.token_bytes(8))
            write_queries(path, row.runs[at], count, self._pool)

    def _check(self, row: Row, measured: Measured) -> None:
        """A sample of the round's answers holds for a wallet; raises what a wallet would raise."""
        if measured.generator == "wrk":
            for number in range(PROBES):
                self._ask(row, number)
            return
        bodies = [read_bodies(path) for _, path in row.targets]
        step = max(1, len(measured.samples) // CHECKED_A_ROUND)
        for target, number, answer in measured.samples[::step]:
            check_answer(row.runs[target], number, bodies[target][number], answer)

    def _ask(self, row: Row, number: int) -> bytes:
        """A wallet's own query, by a plain client: its answer, after checking that it holds."""
        run = row.runs[0].again(secrets.token_bytes(8))
        sent = pending(run, number).query.encoded()
        url = f"http://127.0.0.1:{row.targets[0][0]}{PATH}"
        answer = httpx.post(url, content=sent, headers={"content-type": "application/cbor"}, trust_env=False)
        answer.raise_for_status()
        found = check_answer(run, number, sent, answer.content)
        if 1 + len(found.others) != OPENED[run.mode]:
            raise RuntimeError(f"{row.name}: {1 + len(found.others)} records were opened")
        return answer.content

    def _first_answer(self, row: Row) -> int:
        """Size of an answer without a header, before any load."""
        self.answer_bytes[row.name] = len(self._ask(row, 0))
        return self.answer_bytes[row.name]


def figures_of(rows: Sequence[Row], count: int) -> list[Figure]:
    """Rate, processor time and latency of each row, with the limit's beside them."""
    limit, found = rows[0], []
    for row in rows:
        name = f"{count:,} merchants: {row.name}"
        found.append(figure(f"{name}: rate", row.rates, "answers/s", limit.rates, digits=0))
        found.append(figure(f"{name}: processor time", row.servers_us, "µs/answer", limit.servers_us))
        found += [
            figure(f"{name}: processor time, {group}", [one.cpu_us[group] for one in row.rounds], "µs/answer")
            for group in row.groups
        ]
        found.append(figure(f"{name}: p50", [one.p50_us for one in row.rounds], "µs", digits=0))
        found.append(figure(f"{name}: p99", [one.p99_us for one in row.rounds], "µs", digits=0))
    return found


def show_rows(rows: Sequence[Row], count: int, built_s: float, options: Options) -> None:
    limit = rows[0]
    lines = []
    for row in rows:
        rate = figure("", row.rates, "", limit.rates, digits=0)
        low, high = rate.spread or (0, 0)
        parts = " + ".join(f"{group} {row.cpu_us(group):,.0f}" for group in row.groups)
        lines.append(
            [
                row.name,
                f"{rate.value:,.0f}",
                f"{low:,.0f}–{high:,.0f}",
                f"{rate.ratio:.3f}",
                parts,
                f"{row.median('p50_us') / 1000:.1f} / {row.median('p99_us') / 1000:.1f}",
                f"{row.cpu_us('load'):.0f}",
            ]
        )
    if not postgres.installed():
        lines.insert(2, ["PostgreSQL, nothing proven", "not installed", "", "", "", "", ""])
    columns = ["two processes of each", "answers/s", "rounds", "× limit", "µs an answer", "p50 / p99 ms", "load µs"]
    generator = limit.rounds[0].generator
    note = (
        f"{options.rounds} rounds of {options.seconds} s, {options.connections} connections, {generator}; every "
        f"credential new unless it says cached; state built in {built_s:.0f} s"
    )
    show(f"Answers, {count:,} merchants with two records each", columns, lines, note)


def measure_state(state: State, directory: Path, pool: Pool, options: Options) -> list[Figure]:
    """Measure and print one state."""
    start = time.perf_counter()
    answers = Answers(state, directory, pool, options)
    rows = answers.measure()
    show_rows(rows, state.count, state.built_s, options)
    sizes = [
        Figure(f"{state.count:,} merchants: {name}: answer", float(size), "bytes")
        for name, size in answers.answer_bytes.items()
    ]
    print(f"measured in {time.perf_counter() - start:.0f} s\n")
    return [*figures_of(rows, state.count), *sizes]
