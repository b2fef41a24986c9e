"""After the kills: what chain and books hold, read from the stores themselves, against what was promised."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from integration.edited_network import EditedNetwork
from onecode.node.blocks import load_block, load_header, load_proven, load_state, stored_result
from onecode.node.store import open_writer
from onecode.platform.database import FILE
from onecode.proof.header import header_hash
from onecode.registry.application import Application
from onecode.registry.genesis import parse_genesis
from onecode.registry.store import MemoryStore, Table
from onecode.registry.transactions import RecordPublish, RecordWithdraw, parse_transaction


@dataclass(slots=True)
class ChainFacts:
    """What succeeded, in the order of the blocks: (platform, merchant, version) with its commitment, or without it for
    a withdrawal; and the links lists by their key in the store."""

    published: Counter[tuple[bytes, bytes, int]] = field(default_factory=Counter)
    withdrawn: Counter[tuple[bytes, bytes, int]] = field(default_factory=Counter)
    commitments: dict[tuple[bytes, bytes, int], bytes] = field(default_factory=dict)
    links: dict[bytes, bytes] = field(default_factory=dict)

    def versions(self, platform: bytes, merchant: bytes) -> list[int]:
        """What a platform published for a merchant, in the order of the chain."""
        return [number for signer, shop, number in self.published if (signer, shop) == (platform, merchant)]

    def note(self, raw: bytes, item_codes: tuple[int, ...]) -> None:
        """A transaction whose own code is 0."""
        _, body, payload = parse_transaction(raw)
        if not isinstance(payload, RecordPublish | RecordWithdraw):
            return
        for one, code in zip(payload.items, item_codes, strict=True):
            if code:
                continue
            named = (body.signer, one.merchant, one.version)
            if isinstance(payload, RecordPublish):
                self.published[named] += 1
                self.commitments[named] = payload.items[0].commitment if len(payload.items) == 1 else b""
            else:
                self.withdrawn[named] += 1


def replay_chain(network: EditedNetwork) -> ChainFacts:
    """Execute every stored block again, from genesis, in memory; the network must be stopped.

    Each header carries the app hash of the replayed state and names the header before it; results and the whole state
    are those of the store.
    """
    facts, memory = ChainFacts(), MemoryStore()
    application = Application(memory, network.plan.chain_id)
    app_hash = application.init_chain(parse_genesis(network.places.genesis.read_bytes()))
    store = open_writer(network.places.node / "store")
    try:
        with store.snapshot() as view:
            state, newest = load_state(view), load_proven(view)
            assert newest is not None and newest.signed.header.height == state.height + 1
            for height in range(1, state.height + 1):
                block, header = load_block(view, height), load_header(view, height)
                assert block is not None and header is not None
                assert header.signed.header.app_hash == app_hash
                outcome = application.execute(height, block.time_ms, block.transactions)
                assert tuple(map(stored_result, outcome.results)) == block.results
                app_hash = outcome.app_hash
                assert app_hash == block.app_hash
                for raw, result in zip(block.transactions, block.results, strict=True):
                    if result.code == 0:
                        facts.note(raw, result.item_codes)
            assert app_hash == state.app_hash == newest.signed.header.app_hash
            headers = [load_header(view, height) for height in range(1, state.height + 2)]
            for last, this in pairwise(headers):
                assert last is not None and this is not None
                assert this.signed.header.last_block_id.hash == header_hash(last.signed.header)
            for table in (Table.NODES, Table.VALUES, Table.LINKS):
                assert dict(view.scan(table)) == memory.tables[table]
            facts.links = dict(view.scan(Table.LINKS))
    finally:
        store.close()
    return facts


def load_rows(network: EditedNetwork, slug: str, query: str) -> list[tuple[Any, ...]]:
    """Rows of a platform's database, read beside its server or after it."""
    path = network.places.platform(slug) / "data" / FILE
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        return connection.execute(query).fetchall()


def require_books(network: EditedNetwork, slug: str) -> dict[tuple[bytes, str], bytes]:
    """Receipts by (account, key). Each payment was booked, proven and announced exactly once; the books are those
    bookings and the funding of accounts, and sum to zero."""
    payments = load_rows(network, slug, "SELECT payment_id, account, idempotency_key, receipt FROM payments")
    ids = Counter(payment_id for payment_id, *_ in payments)
    assert set(ids.values()) <= {1}
    journals = Counter(key.rpartition("/")[2] for (key,) in load_rows(network, slug, "SELECT key FROM journals"))
    accounts = [account.hex() for (account,) in load_rows(network, slug, "SELECT account FROM payer_accounts")]
    assert journals == Counter([*ids, *accounts])  # a booking for each payment, a funding for each account
    assert Counter(one for (one,) in load_rows(network, slug, "SELECT payment_id FROM evidence")) == ids
    events = load_rows(network, slug, "SELECT json_extract(body, '$.payment_id') FROM events")
    assert Counter(one for (one,) in events) == ids
    (moved,) = load_rows(
        network,
        slug,
        "SELECT (SELECT sum(credits_minor) - sum(debits_minor) FROM ledger_accounts),"
        " (SELECT count(*) FROM transfers t JOIN ledger_accounts d ON d.id = t.debit"
        "  JOIN ledger_accounts c ON c.id = t.credit WHERE d.currency <> c.currency)",
    )
    assert moved == (0, 0)
    return {(account, key): receipt for _, account, key, receipt in payments}
