"""Queries to whole nodes while their chain stands still or commits: real records, new credentials, samples checked.

The records come in through consensus. Each node is asked for its share; its answers carry the newest header, since the
wallets know the one from before the round.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from multiprocessing.pool import Pool
from pathlib import Path

from bench.batches import Sealed
from bench.load import Measured, measure, read_bodies
from bench.queries import Run, check_answer, write_queries
from bench.sending import VALID_MS, Client, Pace, send_all
from bench.servers import PATH
from bench.validators import Validator
from bench.world import PLATFORMS, Platform, platforms_of
from onecode.host.clock import now_ms
from onecode.proof.governance import DAY_MS
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.proof.map import Section
from onecode.query.messages import MatchMode, NetworkView
from onecode.query.verify import verify_platforms
from onecode.schema import parse

ASKED = 256  # merchants that queries are about; those with higher numbers are there to be withdrawn
WITHDRAWN = 40
PACED_BATCH = 50
PACED_MERCHANTS = 500
CONNECTIONS = 32
SAMPLE_EVERY = 50
CHECKED_A_ROUND = 40
FIRST_RATE = 2_500
SPARE = 1.5  # queries made, over those that the last round would have used
AHEAD_MS = 20_000  # an enclave takes no query from 5 s before the newest header, and these are made beforehand
LOST_S = 20.0  # the longest that the load generator may take to start


def publish_sealed(nodes: Sequence[Validator], senders: Sequence[Client]) -> Sealed:
    """Publish `ASKED` + `WITHDRAWN` merchants, each by its two platforms."""
    sealed = Sealed(nodes[0].chain_id, "sealed", now_ms() + VALID_MS, now_ms() // DAY_MS * DAY_MS)
    items: dict[bytes, list[tuple[int, Platform, Platform]]] = {one.id: [] for one in PLATFORMS}
    for number in range(ASKED + WITHDRAWN):
        pair = platforms_of(number)
        for own, partner in (pair, pair[::-1]):
            items[own.id].append((number, own, partner))
    work = [
        [client.prepare_these([sealed.publication(*one) for one in items[client.publisher.platform]])]
        for client in senders
    ]
    send_all(nodes, senders, work, LOST_S)
    return sealed


def runs_of(nodes: Sequence[Validator], query_keys: Sequence[bytes], sealed: Sealed) -> list[Run]:
    """What wallets know of each node now; the attestation of its enclave is taken as verified."""
    ids, found = tuple(map(sealed.merchant, range(ASKED))), []
    for node, query_key in zip(nodes, query_keys, strict=True):
        view = parse(NetworkView, node.get("/v1/network"))
        trust = Trust(trusted_state(view.header.header, view.validators))
        run = Run(
            seed=secrets.token_bytes(8),
            merchants=ASKED,
            query_key=query_key,
            mode=MatchMode.NODE,
            devices=0,
            made_ms=now_ms() + AHEAD_MS,
            header=verify_header(view.header, view.validators, trust, now_ms()),
            platforms_root=view.roots.root(Section.PLATFORMS),
            leaves=verify_platforms(view.platforms, view.roots, {}),
            chain_id=node.chain_id,
            ids=ids,
        )
        found.append(run)
    return found


def withdrawable(sealed: Sealed, first: int, count: int) -> list[tuple[bytes, Platform]]:
    """Merchants that no query is about, each with a platform that has published for it."""
    numbers = range(ASKED + first, ASKED + first + count)
    return [(sealed.merchant(number), platforms_of(number)[0]) for number in numbers]


@dataclass(slots=True)
class Queries:
    """Rounds of queries to one chain, and what its publishers committed meanwhile, in records/s."""

    nodes: Sequence[Validator]
    query_keys: Sequence[bytes]
    senders: Sequence[Client]
    sealed: Sealed
    directory: Path
    pool: Pool
    seconds: float
    idle: list[Measured] = field(default_factory=list)
    committing: list[Measured] = field(default_factory=list)
    committed: list[float] = field(default_factory=list)

    def round(self, records_a_second: float) -> None:
        """Once on the idle chain, once while the clients publish at this rate."""
        self.idle.append(self._ask(None))
        self.committing.append(self._ask(records_a_second))

    def _ask(self, records_a_second: float | None) -> Measured:
        runs = runs_of(self.nodes, self.query_keys, self.sealed)
        targets = [(node.port, self.directory / f"{node.name}.queries") for node in self.nodes]
        known = [one.rate for one in (*self.idle, *self.committing)]
        count = int(SPARE * max(known, default=FIRST_RATE) * self.seconds / len(targets)) + 500
        for run, (_, path) in zip(runs, targets, strict=True):
            write_queries(path, run, count, self.pool)
        roles = [node.roles() for node in self.nodes]
        groups = {name: [one[name][0] for one in roles] for name in ("worker", "enclave")}  # with their children
        pace = self._pace(records_a_second) if records_a_second else None
        with pace or nullcontext():
            began, before = time.perf_counter(), pace.records() if pace else 0
            measured = measure(
                targets,
                path=PATH,
                seconds=self.seconds,
                connections=CONNECTIONS,
                groups=groups,
                sample_every=SAMPLE_EVERY,
                allow_wrk=False,  # it keeps no answers, and all of these are checked in one way
            )
            if pace:
                self.committed.append((pace.records() - before) / (time.perf_counter() - began))
        if measured.errors:
            raise RuntimeError(f"{measured.errors} errors in {measured.answers} answers")
        self._check(runs, targets, measured)
        return measured

    def _pace(self, records_a_second: float) -> Pace:
        ranges = [range(at, at + PACED_BATCH) for at in range(0, PACED_MERCHANTS, PACED_BATCH)]
        count = 2 + int((self.seconds + LOST_S) * records_a_second / PACED_BATCH / len(self.senders))
        work = [client.prepare(itertools.islice(itertools.cycle(ranges), count)) for client in self.senders]
        return Pace(self.nodes, self.senders, work, records_a_second)

    def _check(self, runs: Sequence[Run], targets: Sequence[tuple[int, Path]], measured: Measured) -> None:
        """A sample of the answers holds for a wallet; raises what a wallet would raise."""
        if not measured.samples:
            raise RuntimeError("no answer was kept to be checked")
        bodies = [read_bodies(path) for _, path in targets]
        step = max(1, len(measured.samples) // CHECKED_A_ROUND)
        for target, number, answer in measured.samples[::step]:
            check_answer(replace(runs[target]), number, bodies[target][number], answer)
