"""Records committed through several validators: throughput, time to proven, a withdrawal until every node proves it.

Real nodes with real engines on this machine's cores, all rules, fsync. A client is a platform; each has one transaction
in flight, at a node of its own. "Proven" is the node's answer to `wait=proven`: the block is durable there, and a signed
header carries the state after it.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.batches import Publisher
from bench.figures import Figure, show
from bench.publish import VALID_MS
from bench.validators import CHAIN_ID, Validator, running, wait_for
from bench.world import PLATFORMS, now_ms
from onecode.proof.leaves import Role

POLL_S = 0.004


@dataclass(slots=True)
class Sent:
    """What one round did: records, wall time, and how long each transaction took to be proven, in ms."""

    records: int
    took_s: float
    proven_ms: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        return self.records / self.took_s

    def percentile(self, share: float) -> float:
        ordered = sorted(self.proven_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def send(node: Validator, transactions: Sequence[bytes]) -> tuple[list[float], list[int]]:
    """One client's transactions, one after another; times in ms, and heights."""
    connection, took_ms, heights = node.connect(), [], []
    for transaction in transactions:
        began = time.perf_counter()
        connection.request(
            "POST", "/v1/transactions?wait=proven", transaction, {"content-type": "application/cbor"}
        )
        answer = connection.getresponse()
        body = answer.read()
        took_ms.append((time.perf_counter() - began) * 1000)
        said = json.loads(body)
        if answer.status != 200 or said["code"] or any(one["code"] for one in said["items"]):
            raise RuntimeError(f"a record was refused: {body[:300]!r}")
        heights.append(int(said["height"]))
    connection.close()
    return took_ms, heights


def send_all(nodes: Sequence[Validator], work: Sequence[Sequence[bytes]], records: int) -> Sent:
    """Every client's transactions at once; client n at node n modulo their number."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(work)) as pool:
        done = list(pool.map(lambda at: send(nodes[at % len(nodes)], work[at])[0], range(len(work))))
    return Sent(records, time.perf_counter() - began, [one for several in done for one in several])


class Heights:
    """When each node first proved each height."""

    def __init__(self, nodes: Sequence[Validator]) -> None:
        self._seen: list[dict[int, float]] = [{} for _ in nodes]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._watch, args=(at, node)) for at, node in enumerate(nodes)]
        for thread in self._threads:
            thread.start()

    def _watch(self, at: int, node: Validator) -> None:
        while not self._stop.is_set():
            height = node.newest().header.header.height
            self._seen[at].setdefault(height, time.perf_counter())
            time.sleep(POLL_S)

    def proven_s(self, height: int) -> float:
        """When the last of the nodes had a header above `height`."""

        def known() -> bool:
            return all(any(seen > height for seen in list(one)) for one in self._seen)

        wait_for(known, f"every node proves height {height}")
        return max(min(when for seen, when in list(one.items()) if seen > height) for one in self._seen)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def clients(per_platform: int = 1) -> list[Publisher]:
    until_ms = now_ms() + VALID_MS
    return [
        Publisher(CHAIN_ID, one.id, one.key(Role.TRANSACTION), f"network {one.name}", until_ms) for one in PLATFORMS
    ]


def _work(
    publishers: Sequence[Publisher], size: int, rounds: int, version: Callable[[int], int], nonce: int, start: int = 0
) -> list[list[bytes]]:
    return [
        [
            one.publish(range(start + at * size, start + (at + 1) * size), version(at), nonce + at)
            for at in range(rounds)
        ]
        for one in publishers
    ]


def measure(directory: Path, count: int = 4, batches: int = 4) -> list[Figure]:
    """Rows of batches 500, 50 and 1, and a withdrawal on an idle chain."""
    publishers, figures, rows = clients(), [], []
    with running(directory / f"network-{count}", count) as nodes:
        for name, size, rounds, version, nonce in (
            ("first publishes, batches of 500, each with a consent", 500, batches, 1, 1),
            ("updates, batches of 500", 500, batches, 2, 1_000),
            ("updates, batches of 50", 50, 10, 3, 2_000),
            ("updates, one by one", 1, 40, 4, 3_000),
        ):
            work = _work(publishers, size, rounds, lambda at, version=version: version, nonce)  # type: ignore[misc]
            sent = send_all(nodes, work, size * rounds * len(publishers))
            middle, late = statistics.median(sent.proven_ms), sent.percentile(0.99)
            rows.append([name, f"{sent.speed:,.0f}", f"{middle:,.0f}", f"{late:,.0f}"])
            figures += [
                Figure(f"{count} validators: {name}", round(sent.speed), "records/s"),
                Figure(f"{count} validators: {name}: until proven, median", round(middle, 1), "ms"),
                Figure(f"{count} validators: {name}: until proven, p99", round(late, 1), "ms"),
            ]
        figures += _withdrawals(nodes, publishers[0], count)
    show(
        f"Records committed through {count} validators, all rules, fsync",
        ["8 clients, one transaction in flight each", "records/s", "p50 ms", "p99 ms"],
        rows,
        "until proven at the client's node; transactions signed beforehand; engines, nodes and clients on the same cores",
    )
    return figures


def _withdrawals(nodes: Sequence[Validator], publisher: Publisher, count: int) -> list[Figure]:
    heights, everywhere, answered = Heights(nodes), [], []
    try:
        for number in range(20):
            time.sleep(0.3)  # an idle chain
            began = time.perf_counter()
            (took_ms,), (height,) = send(nodes[0], [publisher.withdraw(100 + number, 3, 4_000 + number)])
            answered.append(took_ms)
            everywhere.append((heights.proven_s(height) - began) * 1000)
    finally:
        heights.stop()
    show(
        f"A withdrawal on an idle chain of {count} validators, 20 of them",
        ["from its sending", "median ms", "worst ms"],
        [
            [name, f"{statistics.median(times):,.0f}", f"{max(times):,.0f}"]
            for name, times in (("proven at the platform's node", answered), ("provable at every node", everywhere))
        ],
    )
    return [
        Figure(f"{count} validators: withdrawal provable at every node", round(statistics.median(everywhere)), "ms"),
        Figure(f"{count} validators: withdrawal provable at every node, worst", round(max(everywhere)), "ms"),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="onecode-bench-") as name:
        measure(Path(name))
