"""Records published through `solo`: the real application, store and producer in one process, every rule and fsync.

Transactions are built and signed beforehand. A batch has 500 records; a first publish carries a merchant's consent, so
it costs the registry one signature more.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench.batches import Publisher
from bench.figures import Figure, show
from bench.world import CHAIN_ID, PLATFORMS, VALIDATOR, genesis, key
from onecode.host.clock import now_ms
from onecode.node.solo import Solo, SoloConfig
from onecode.node.store import open_writer
from onecode.proof.leaves import Role
from onecode.registry.application import Application
from onecode.registry.transactions import BATCH_MAX

BATCHES, SINGLES = 8, 200
VALID_MS = 30 * 60_000


def _send(solo: Solo, transactions: Sequence[bytes], records: int) -> tuple[float, list[float]]:
    """Records a second, and how long each transaction took until it was durable and proven, in ms."""
    began, took_ms = time.perf_counter(), []
    for transaction in transactions:
        sent = time.perf_counter()
        included = solo.enqueue(transaction).result(60)
        took_ms.append((time.perf_counter() - sent) * 1000)
        if included.result.code or any(included.result.item_codes):
            raise RuntimeError(f"a record was refused: {included.result}")
    return records / (time.perf_counter() - began), took_ms


def measure(directory: Path) -> list[Figure]:
    """First publishes and updates in batches of 500, and updates one by one."""
    place = directory / "publish"
    place.mkdir()
    store = open_writer(place)
    application = Application(store, CHAIN_ID)
    config = SoloConfig(heartbeat_ms=3_600_000)
    solo = Solo(
        store=store,
        application=application,
        key=key(VALIDATOR),
        chain_id=CHAIN_ID,
        genesis=genesis(),
        clock_ms=now_ms,
        config=config,
    )
    solo.start()
    own = PLATFORMS[0]
    publisher = Publisher(CHAIN_ID, own.id, own.key(Role.TRANSACTION), "publishing", now_ms() + VALID_MS)
    batches = [range(start, start + BATCH_MAX) for start in range(0, BATCHES * BATCH_MAX, BATCH_MAX)]
    singles = [range(number, number + 1) for number in range(SINGLES)]
    figures, rows = [], []
    for name, numbers, version, nonce in (
        ("first publishes, batches of 500, each with a consent", batches, 1, 1),
        ("updates, batches of 500", batches, 2, 1_000),
        ("updates, one by one", singles, 3, 2_000),
    ):
        transactions = [
            publisher.publish([(number, version) for number in batch], nonce + at) for at, batch in enumerate(numbers)
        ]
        speed, took_ms = _send(solo, transactions, sum(map(len, numbers)))
        middle = statistics.median(took_ms)
        rows.append([name, f"{speed:,.0f}", f"{middle:.1f}", f"{max(took_ms):.1f}"])
        figures.append(Figure(f"solo: {name}", round(speed), "records/s"))
        figures.append(Figure(f"solo: {name}: until proven, median", round(middle, 1), "ms"))
    solo.stop()
    show(
        "Records published through solo, all rules, fsync",
        ["one process", "records/s", "median ms", "worst ms"],
        rows,
        "one client that waits for each; 540-byte envelopes; transactions signed beforehand",
    )
    return figures
