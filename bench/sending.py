"""Clients that send transactions to nodes and wait until each is proven, and what it cost the nodes' processes.

A client is a platform with one transaction in flight, at a node of its own. "Proven" is the node's answer to
`wait=proven`: the block is durable there, and a signed header carries the state after it.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from types import TracebackType

from bench.batches import Publisher
from bench.load import process_s
from bench.validators import ROLES, Validator
from bench.world import PLATFORMS
from onecode.host.clock import now_ms
from onecode.proof.leaves import Role
from onecode.registry.transactions import Publication

VALID_MS = 30 * 60_000


@dataclass(frozen=True, slots=True)
class Batch:
    """A signed transaction with the records in it: (number, version), if they are the client's own."""

    transaction: bytes
    items: tuple[tuple[int, int], ...] = ()


class Client:
    """One platform that publishes on one chain. It knows which version of each of its merchants is on chain."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.versions: dict[int, int] = {}
        self._nonce = 0

    def _next(self) -> int:
        self._nonce += 1
        return self._nonce

    def prepare(self, batches: Iterable[Sequence[int]]) -> list[Batch]:
        """Signed beforehand: the next version of each merchant, batch after batch."""
        ahead, made = dict(self.versions), []
        for numbers in batches:
            items = tuple((number, ahead.get(number, 0) + 1) for number in numbers)
            ahead.update(items)
            made.append(Batch(self.publisher.publish(items, self._next()), items))
        return made

    def prepare_these(self, items: Sequence[Publication]) -> Batch:
        """Publications that were made elsewhere."""
        return Batch(self.publisher.publish_these(items, self._next()))

    def prepare_withdrawal(self, merchant: bytes, version: int = 1) -> Batch:
        """Take back a record."""
        return Batch(self.publisher.withdraw(merchant, version, self._next()))

    def sent(self, batch: Batch) -> None:
        """The batch is on chain."""
        self.versions.update(batch.items)


def clients(chain_id: str) -> list[Client]:
    """One for each platform; their merchants are the same in each run."""
    until_ms = now_ms() + VALID_MS
    return [
        Client(Publisher(chain_id, one.id, one.key(Role.TRANSACTION), f"network {one.name}", until_ms))
        for one in PLATFORMS
    ]


def send_one(connection: HTTPConnection, transaction: bytes) -> tuple[float, int]:
    """Until it is proven, in ms, and its height. Raises unless every record was accepted."""
    began = time.perf_counter()
    connection.request("POST", "/v1/transactions?wait=proven", transaction, {"content-type": "application/cbor"})
    answer = connection.getresponse()
    body = answer.read()
    took_ms = (time.perf_counter() - began) * 1000
    said = json.loads(body)
    if answer.status != 200 or said["code"] or any(one["code"] for one in said["items"]):
        raise RuntimeError(f"a record was refused: {body[:300]!r}")
    return took_ms, int(said["height"])


@dataclass(slots=True)
class Sent:
    """What one row did: records, wall time, how long each transaction took to be proven in ms, processor time by role
    of all nodes together and that of the clients, in s."""

    records: int
    took_s: float
    proven_ms: list[float]
    heights: int
    cpu_s: dict[str, float]

    @property
    def speed(self) -> float:
        return self.records / self.took_s

    @property
    def median_ms(self) -> float:
        return statistics.median(self.proven_ms)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.proven_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def cpu_us(self, role: str) -> float:
        """A record."""
        return 1e6 * self.cpu_s[role] / self.records


class Processors:
    """Processor time of all nodes' processes by role, and of this process as "clients", within the context, in s."""

    def __init__(self, nodes: Sequence[Validator]) -> None:
        self._pids: dict[str, list[int]] = {role: [] for role in ROLES}
        for node in nodes:
            for role, pids in node.roles().items():
                self._pids[role] += pids
        self.used_s: dict[str, float] = {}

    def _now_s(self) -> dict[str, float]:
        found = {role: sum(map(process_s, pids)) for role, pids in self._pids.items()}
        return {**found, "clients": time.process_time()}

    def __enter__(self) -> Processors:
        self._before_s = self._now_s()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.used_s = {role: now_s - self._before_s[role] for role, now_s in self._now_s().items()}


def _send_until(
    node: Validator, client: Client, batches: Sequence[Batch], end_s: float
) -> list[tuple[float, int, int]]:
    """One after another until the time is over, but at least one; time in ms, height and records of each."""
    connection, done = node.connect(), []
    for batch in batches:
        took_ms, height = send_one(connection, batch.transaction)
        client.sent(batch)
        done.append((took_ms, height, len(batch.items)))
        if time.perf_counter() > end_s:
            break
    connection.close()
    return done


def send_all(
    nodes: Sequence[Validator], senders: Sequence[Client], work: Sequence[Sequence[Batch]], seconds_max: float
) -> Sent:
    """Every client's batches at once; client n at node n modulo their number. What was not sent in time is left out."""
    end_s = time.perf_counter() + seconds_max
    with ThreadPoolExecutor(len(work)) as pool, Processors(nodes) as processors:
        began = time.perf_counter()
        given = range(len(work))
        found = pool.map(lambda at: _send_until(nodes[at % len(nodes)], senders[at], work[at], end_s), given)
        done = [one for several in found for one in several]
        took_s = time.perf_counter() - began
    heights = {height for _, height, _ in done}
    return Sent(sum(count for *_, count in done), took_s, [ms for ms, *_ in done], len(heights), processors.used_s)


@dataclass
class Pace:
    """Clients that send at a steady rate while the context lasts: each a batch at its turn, late ones at once.

    `records()` counts what was acknowledged until now.
    """

    nodes: Sequence[Validator]
    senders: Sequence[Client]
    work: Sequence[Sequence[Batch]]
    records_a_second: float
    _done: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def records(self) -> int:
        return sum(self._done)

    def _send(self, at: int) -> None:
        connection, began = self.nodes[at % len(self.nodes)].connect(), time.perf_counter()
        every_s = len(self.senders) * len(self.work[at][0].items) / self.records_a_second
        for number, batch in enumerate(self.work[at]):
            wait_s = began + every_s * (number + at / len(self.senders)) - time.perf_counter()
            if self._stop.wait(max(0.0, wait_s)):
                break
            send_one(connection, batch.transaction)
            self.senders[at].sent(batch)
            self._done.append(len(batch.items))
        else:
            raise RuntimeError("the prepared batches did not last")
        connection.close()

    def __enter__(self) -> Pace:
        self._pool = ThreadPoolExecutor(len(self.senders))
        self._futures = [self._pool.submit(self._send, at) for at in range(len(self.senders))]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._pool.shutdown()
        if error is None:
            for future in self._futures:
                future.result()
