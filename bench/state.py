"""A store with so many merchants, as a chain would have it: built from the leaves upwards, then proven by a header.

The chain is a real `solo` chain of three headers; only the merchants come in without transactions. The same records
lie in the clear in a SQLite file, for the directory that proves nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

from bench.attested import Ground
from bench.world import CHAIN_ID, VALIDATOR, Rows, genesis, identity, key
from onecode.host.clock import now_ms
from onecode.node.blocks import StoredHeader, load_header
from onecode.node.solo_chain import SoloChain
from onecode.node.store import WriterStore, open_writer
from onecode.node.view import Head, load_head
from onecode.node.writer import BlockWriter
from onecode.proof.governance import DAY_MS, ENCLAVE_POLICY_KEY
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.map import Section
from onecode.record.payment import SERVICE_PAY
from onecode.registry.application import Application
from onecode.registry.map import build, load
from onecode.registry.store import Table, envelope_key, link_key

CHUNK = 2_000
BLOCK_BYTES_MAX = 4 << 20
ANCHOR_HEIGHT = 2  # of the header that a trust file names; the next one proves the merchants


@dataclass(frozen=True, slots=True)
class State:
    """Where a built state lies. anchor: the header that a trust file names. head: the newest, which proves the state.
    policy: the encoded leaf that says which enclaves may be attested."""

    directory: Path
    count: int
    anchor: StoredHeader
    head: Head
    policy: bytes
    built_s: float

    @property
    def ground(self) -> Ground:
        """What its enclaves and key services start from."""
        return Ground(CHAIN_ID, self.anchor.signed, self.anchor.validators, self.policy)

    def header_at(self, height: int) -> tuple[SignedHeader, ValidatorSet]:
        """The newest header, the only one that an enclave binds here."""
        if height != self.head.height:
            raise RuntimeError(f"the enclave bound the header {height}, not the newest")
        return self.head.signed, self.head.validator_set

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def sqlite(self) -> Path:
        return self.directory / "directory.sqlite"


def _chunk(given: tuple[list[int], int]) -> list[Rows]:
    numbers, day_ms = given
    return [Rows(number, day_ms) for number in numbers]


def merchant_rows(count: int, pool: Pool) -> Iterator[list[Rows]]:
    """All merchants ascending by id, made by the pool."""
    numbers = sorted(range(count), key=identity)
    day_ms = now_ms() // DAY_MS * DAY_MS
    chunks = [(numbers[at : at + CHUNK], day_ms) for at in range(0, count, CHUNK)]
    yield from pool.imap(_chunk, chunks)


def build_state(directory: Path, count: int, pool: Pool) -> State:
    """Build `count` merchants in `directory`."""
    start = time.perf_counter()
    store = open_writer(directory / "store")
    writer = BlockWriter(store, Application(store, CHAIN_ID))
    chain = SoloChain(writer, key(VALIDATOR), CHAIN_ID, now_ms, BLOCK_BYTES_MAX)
    chain.start(genesis())
    entries = _fill(store, directory / "directory.sqlite", merchant_rows(count, pool))
    build(store, Section.MERCHANTS, entries)
    chain.heartbeat()  # the header that carries the root over them; commits
    with store.snapshot() as reader:
        anchor, head = load_header(reader, ANCHOR_HEIGHT), load_head(reader)
        policy = load(reader, Section.GOVERNANCE, ENCLAVE_POLICY_KEY)
    store.close()
    if anchor is None or policy is None:
        raise RuntimeError("the chain did not make its headers")
    return State(directory, count, anchor, head, policy, time.perf_counter() - start)


def _fill(store: WriterStore, sqlite: Path, rows: Iterator[list[Rows]]) -> list[tuple[bytes, bytes]]:
    """Links, envelopes and the directory's table; returns the entries for the map."""
    entries: list[tuple[bytes, bytes]] = []
    table = sqlite3.connect(sqlite)
    table.execute("CREATE TABLE records (merchant BLOB, service TEXT, platform BLOB, record BLOB)")
    for chunk in rows:
        for one in chunk:
            entries.append((one.merchant, one.entry))
            store.put(Table.LINKS, link_key(one.merchant, SERVICE_PAY), one.links)
            for platform, envelope, _ in one.sealed:
                store.put(Table.ENVELOPES, envelope_key(one.merchant, platform, SERVICE_PAY), envelope)
        plain = [(one.merchant, SERVICE_PAY, platform, record) for one in chunk for platform, _, record in one.sealed]
        table.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", plain)
    table.execute("CREATE UNIQUE INDEX by_merchant ON records (merchant, service, platform)")
    table.commit()
    table.close()
    return entries
