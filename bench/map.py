"""Speed of the stored map: proofs, and updates with the store's own durability.

Usage: python bench/map.py [N ...] [--directory DIR] [--seconds S]

For each N (default 100,000) fills section MERCHANTS of a new store in DIR (default: a temporary directory) with N
merchants' leaves of 200 bytes, then measures on one core and one thread: proofs of random keys under fresh snapshots
(50 keys a snapshot), the same with the value, proofs of absence, and batches of 1,000 scattered updates with values,
with and without the commit's fsync.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from onecode.node.store import WriterStore, open_writer
from onecode.proof.map import Section
from onecode.registry.map import build, load, prove, update
from onecode.wire import sha256

VALUE_BYTES = 200
KEYS_A_SNAPSHOT = 50
BATCH = 1_000


def merchant_id(number: int) -> bytes:
    return sha256(b"merchant %d" % number)[:20]


def value(number: int) -> bytes:
    return random.Random(number).randbytes(VALUE_BYTES)


def rate(act: Callable[[], int], seconds: float) -> float:
    """Things a second that `act` does; it says how many each time."""
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        done += act()
    return done / spent


def reading(store: WriterStore, read: Callable[..., object], count: int, first: int = 0) -> Callable[[], int]:
    def act() -> int:
        keys = [merchant_id(first + random.randrange(count)) for _ in range(KEYS_A_SNAPSHOT)]
        with store.snapshot() as view:
            for key in keys:
                read(view, Section.MERCHANTS, key)
        return KEYS_A_SNAPSHOT

    return act


def updating(store: WriterStore, count: int, *, durable: bool) -> Callable[[], int]:
    def act() -> int:
        changes: dict[bytes, bytes | None] = {
            merchant_id(random.randrange(count)): random.randbytes(VALUE_BYTES) for _ in range(BATCH)
        }
        update(store, Section.MERCHANTS, changes)
        if durable:
            store.commit()
        return len(changes)

    return act


def measure(directory: Path | None, count: int, seconds: float) -> list[tuple[str, float]]:
    """What is done how often a second, in a new store that is made in `directory` and removed again."""
    own = Path(tempfile.mkdtemp(prefix="map-", dir=directory))
    try:
        return _measure(own, count, seconds)
    finally:
        shutil.rmtree(own)


def _measure(directory: Path, count: int, seconds: float) -> list[tuple[str, float]]:
    store = open_writer(directory)
    items = [(merchant_id(number), value(number)) for number in range(count)]
    start = time.perf_counter()
    build(store, Section.MERCHANTS, items)
    store.commit()
    built = time.perf_counter() - start
    del items
    mebibytes = os.path.getsize(directory / "data.mdb") / (1 << 20)
    print(f"\n{count:,} merchants, {VALUE_BYTES}-byte leaves; built in {built:.1f} s; {mebibytes:,.0f} MiB")
    rows = [
        ("key and loop alone", rate(reading(store, lambda *_: None, count), seconds / 4)),
        ("proofs", rate(reading(store, prove, count), seconds)),
        ("proofs of absence", rate(reading(store, prove, count, first=count), seconds)),
        ("values", rate(reading(store, load, count), seconds)),
        (f"updates, batches of {BATCH:,}, commit with fsync", rate(updating(store, count, durable=True), seconds)),
        (f"updates, batches of {BATCH:,}, no commit", rate(updating(store, count, durable=False), seconds)),
    ]
    store.close()
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("counts", metavar="N", type=int, nargs="*", default=[100_000])
    arguments.add_argument("--directory", type=Path)
    arguments.add_argument("--seconds", type=float, default=5.0, help="time for each row")
    options = arguments.parse_args()
    random.seed(1)
    for count in options.counts:
        rows = measure(options.directory, count, options.seconds)
        print(f"{'':44}{'a second':>12}{'µs each':>10}")
        for name, speed in rows:
            print(f"{name:44}{speed:12,.0f}{1e6 / speed:10.1f}")


if __name__ == "__main__":
    main()
