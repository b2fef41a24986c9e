"""Transactions on their way to the chain: written with what they are for, sent until their fate is known.

A crash at any point loses nothing and publishes nothing twice: the exact bytes are durable before they are sent, a
version is taken by the chain once, and whatever was sent before is first looked up in the chain's proven state.
"""

from __future__ import annotations

import threading

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from onecode.errors import Declined, Unreachable
from onecode.platform.chain import Outcome
from onecode.platform.context import Platform
from onecode.platform.schema import OutboxRow, OutboxState, RecordRow, RecordState
from onecode.proof.leaves import alias_key
from onecode.registry.results import Result
from onecode.registry.transactions import PAYLOADS, AliasBind, Kind, SignerKind, build_transaction
from onecode.schema import Message, parse

ATTEMPTS = 3  # how often one row is signed again at a time
EXPIRY_MARGIN_MS = 10_000  # after `valid_until_ms` by our clock, before it is signed again
SIGN_AGAIN = {Result.QUOTA, Result.EXPIRED, Result.VALID_UNTIL_TOO_FAR, Result.NONCE}  # changed nothing, nor will


def _signed(platform: Platform, kind: Kind, payload: Message, nonce: int) -> tuple[bytes, int]:
    valid_until_ms = platform.clock_ms() + platform.config.transaction_valid_ms
    raw = build_transaction(
        platform.config.chain_id,
        kind,
        payload,
        signer=platform.id,
        signer_kind=SignerKind.PLATFORM,
        key=platform.keys.transaction,
        nonce=nonce,
        valid_until_ms=valid_until_ms,
    )
    return raw, valid_until_ms


def _next_nonce(session: Session, floor: int) -> int:
    return max(floor, session.scalar(select(func.max(OutboxRow.nonce))) or 0) + 1


def enqueue(
    platform: Platform,
    session: Session,
    kind: Kind,
    payload: Message,
    merchant: bytes,
    service: str,
    version: int,
    commitment: bytes,
    nonce_floor: int,
) -> None:
    """Sign a transaction and add it in the caller's database transaction. nonce_floor: the chain's last nonce."""
    nonce = _next_nonce(session, nonce_floor)
    raw, valid_until_ms = _signed(platform, kind, payload, nonce)
    session.add(
        OutboxRow(
            kind=int(kind),
            merchant=merchant,
            service=service,
            version=version,
            commitment=commitment,
            payload=payload.encoded(),
            nonce=nonce,
            valid_until_ms=valid_until_ms,
            transaction=raw,
            state=OutboxState.WAITING,
            sent=0,
            code=None,
            refusal=None,
            height=None,
            created_ms=platform.clock_ms(),
        )
    )


def has_waiting(session: Session, merchant: bytes, service: str) -> bool:
    """Whether a transaction for this record is still on its way."""
    waiting = select(OutboxRow.id).where(
        OutboxRow.merchant == merchant, OutboxRow.service == service, OutboxRow.state == OutboxState.WAITING
    )
    return session.scalar(waiting.limit(1)) is not None


class Sender:
    """Empties the outbox, one row after another. One instance a platform; `drain` may be called from any thread."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Send what waits; raises `Unreachable` where the chain cannot be asked now. Call it again later."""
        with self._lock:
            with self._platform.database.read() as session:
                waiting = select(OutboxRow.id).where(OutboxRow.state == OutboxState.WAITING).order_by(OutboxRow.id)
                rows = list(session.scalars(waiting))
            for row in rows:
                try:
                    self._settle(row)
                except Unreachable as error:
                    if error.code != "outbox.unknown":
                        raise

    def _settle(self, row_id: int) -> None:
        """Bring one row to its end."""
        for _ in range(ATTEMPTS):
            with self._platform.database.read() as session:
                row = session.get_one(OutboxRow, row_id)
            if row.sent and self._is_applied(row):
                return self._finish(row, Outcome(0, "ok", row.height))
            if row.valid_until_ms + EXPIRY_MARGIN_MS < self._platform.clock_ms():
                row = self._sign_again(row)
            outcome = self._send(row)
            if outcome.code == 0 or self._is_applied(row):
                return self._finish(row, Outcome(0, "ok", outcome.height))
            if outcome.code not in SIGN_AGAIN:
                return self._finish(row, outcome)
            self._sign_again(row)
        raise Unreachable(
            "outbox.unknown", "the chain takes no transaction now: its quota is used up, or this clock is wrong"
        )

    def _send(self, row: OutboxRow) -> Outcome:
        """Submit the row's bytes, counted durably before they leave."""
        with self._platform.database.write() as session:
            session.get_one(OutboxRow, row.id).sent = row.sent + 1
        row.sent += 1
        return self._platform.chain.submit(row.transaction)

    def _is_applied(self, row: OutboxRow) -> bool:
        """Whether the chain's proven state shows what the row was to do. Unknown while the merchant is frozen."""
        if row.kind == Kind.PLATFORM_EPOCH:
            return self._platform.chain.fetch_own_leaf().epoch_min >= row.version
        if row.kind == Kind.ALIAS_BIND:
            given = parse(AliasBind, row.payload)
            leaf = self._platform.chain.fetch_alias(alias_key(given.guid, given.values))
            return leaf is not None and leaf.merchant == given.merchant
        try:
            view = self._platform.chain.fetch_merchant(row.merchant, row.service)
        except Declined as error:
            raise Unreachable("outbox.unknown", f"what became of a transaction cannot be told now: {error}") from error
        link = view.state.link_of(self._platform.id) if view.state is not None else None
        if row.kind == Kind.RECORD_WITHDRAW:
            return link is None or link.version != row.version
        return link is not None and (link.version, link.commitment) == (row.version, row.commitment)

    def _sign_again(self, row: OutboxRow) -> OutboxRow:
        """The same payload under a fresh nonce and time: harmless twice, since its version is taken once."""
        floor = self._platform.chain.last_nonce()
        kind = Kind(row.kind)
        payload = parse(PAYLOADS[kind], row.payload)
        with self._platform.database.write() as session:
            fresh = session.get_one(OutboxRow, row.id)
            fresh.nonce = _next_nonce(session, floor)
            fresh.transaction, fresh.valid_until_ms = _signed(self._platform, kind, payload, fresh.nonce)
        return fresh

    def _finish(self, row: OutboxRow, outcome: Outcome) -> None:
        """Record the row's fate with that of its record, in one transaction."""
        ok = outcome.code == 0
        with self._platform.database.write() as session:
            ended = session.get_one(OutboxRow, row.id)
            ended.state = OutboxState.DONE if ok else OutboxState.FAILED
            ended.code, ended.height = outcome.code, outcome.height
            ended.refusal = None if ok else outcome.name
            if row.kind in (Kind.ALIAS_BIND, Kind.PLATFORM_EPOCH):
                return
            record = session.get_one(RecordRow, (row.merchant, row.service, row.version))
            record.refusal = ended.refusal
            if row.kind == Kind.RECORD_WITHDRAW:
                if ok:
                    record.state = RecordState.WITHDRAWN
            elif ok:
                _supersede(session, row, self._platform.clock_ms())
                record.state = RecordState.LIVE
            else:
                record.state = RecordState.FAILED


def _supersede(session: Session, row: OutboxRow, now_ms: int) -> None:
    older = select(RecordRow).where(
        RecordRow.merchant == row.merchant,
        RecordRow.service == row.service,
        RecordRow.version < row.version,
        RecordRow.state == RecordState.LIVE,
    )
    for record in session.scalars(older):
        record.state, record.superseded_ms = RecordState.SUPERSEDED, now_ms
