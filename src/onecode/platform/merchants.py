"""Merchants: signing up, and publishing, updating and withdrawing their records through the outbox."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecode.errors import Declined, Untrusted
from onecode.platform.agreement import Agreement, verify_consent
from onecode.platform.chain import MerchantView
from onecode.platform.context import Platform
from onecode.platform.epochs import current_epoch, load_epochs
from onecode.platform.outbox import enqueue, has_waiting
from onecode.platform.schema import Merchant, RecordRow, RecordState
from onecode.record.envelope import NONCE_BYTES, SALT_BYTES, RecordIds, commitment, seal_envelope, sign_record
from onecode.record.schema import Record
from onecode.registry.transactions import (
    Birth,
    Kind,
    Publication,
    RecordPublish,
    RecordWithdraw,
    SignedConsent,
    Withdrawal,
)
from onecode.schema import parse
from onecode.wire import sha256

TILL_TOKEN_BYTES = 24


@dataclass(frozen=True, slots=True)
class MerchantStatus:
    """One merchant as the operator sees it; version and state are those of the newest record, if there is one."""

    agreement: Agreement
    version: int | None
    state: RecordState | None
    refusal: str | None


def sign_up(platform: Platform, agreement: Agreement) -> str | None:
    """Keep an agreement. Returns the till's token for a new merchant, None where a known merchant's was changed.

    A changed agreement takes effect when it is published.
    """
    now_ms = platform.clock_ms()
    try:
        verify_consent(agreement, platform.config.chain_id, platform.id, now_ms)
    except Untrusted as error:  # a merchant on chain may have another controller by now: the registry judges
        if error.code != "signature.bad" or not _is_on_chain(platform, agreement):
            raise
    token = platform.entropy(TILL_TOKEN_BYTES).hex()
    with platform.database.write() as session:
        known = session.get(Merchant, (agreement.merchant, agreement.service))
        if known is not None:
            known.agreement = agreement.encoded()
            return None
        session.add(
            Merchant(
                merchant=agreement.merchant,
                service=agreement.service,
                agreement=agreement.encoded(),
                till_token_hash=sha256(token.encode("ascii")),
                created_ms=now_ms,
            )
        )
    return token


def _is_on_chain(platform: Platform, agreement: Agreement) -> bool:
    view = platform.chain.fetch_merchant(agreement.merchant, agreement.service)
    return view.absence is None or view.absence.code != "merchant.absent"


def load_merchant(session: Session, merchant: bytes, service: str) -> Merchant:
    """The merchant's row; raises `Declined` where this platform has not signed it up."""
    row = session.get(Merchant, (merchant, service))
    if row is None:
        raise Declined("merchant.unknown", "this platform has not signed up this merchant", status=404)
    return row


def _newest(session: Session, merchant: bytes, service: str) -> RecordRow | None:
    return session.scalars(
        select(RecordRow)
        .where(RecordRow.merchant == merchant, RecordRow.service == service)
        .order_by(RecordRow.version.desc())
        .limit(1)
    ).first()


def _require_idle(session: Session, merchant: bytes, service: str) -> None:
    if has_waiting(session, merchant, service):
        raise Declined("merchant.busy", "a transaction for this record is still on its way to the chain")


def _next_version(platform: Platform, view: MerchantView, merchant: bytes, service: str) -> tuple[int, bool]:
    """The version that the registry takes next, and whether it makes a new link.

    A service that is proven absent never had a link, so that a first publication reads no floor.
    """
    if view.state is None:
        return 1, True
    link = view.state.link_of(platform.id)
    if link is not None:
        return link.version + 1, False
    return platform.chain.version_floor(merchant, service) + 1, True


def publish(platform: Platform, merchant: bytes, service: str) -> int:
    """Make the agreement's record, seal it and put its transaction into the outbox; returns the version.

    Record, envelope and transaction are durable together before anything is sent.
    """
    with platform.database.read() as session:
        load_merchant(session, merchant, service)
        _require_idle(session, merchant, service)
    view = platform.chain.fetch_merchant(merchant, service)
    nonce_floor = platform.chain.last_nonce()
    version, is_new = _next_version(platform, view, merchant, service)
    with platform.database.write() as session:
        agreement = parse(Agreement, load_merchant(session, merchant, service).agreement)
        _require_idle(session, merchant, service)
        is_born = view.absence is not None and view.absence.code == "merchant.absent"
        enqueue_record(
            platform,
            session,
            agreement.record(platform.id, version),
            nonce_floor,
            consent=agreement.consent if is_new else None,
            birth=Birth(controller=agreement.controller, recovery_hash=agreement.recovery_hash) if is_born else None,
        )
    return version


def enqueue_record(
    platform: Platform,
    session: Session,
    record: Record,
    nonce_floor: int,
    consent: SignedConsent | None = None,
    birth: Birth | None = None,
) -> None:
    """Sign and seal a record under the current epoch, keep it, and put its transaction into the outbox."""
    chain_id = platform.config.chain_id
    merchant, service, version = record.merchant, record.service, record.version
    epochs = load_epochs(platform.config.epoch_key_file)
    epoch = current_epoch(epochs, platform.clock_ms(), platform.config.epoch_lead_ms)
    signed = sign_record(chain_id, record, platform.entropy(SALT_BYTES), platform.keys.record)
    ids = RecordIds(merchant=merchant, platform=platform.id, service=service, version=version, epoch=epoch)
    envelope = seal_envelope(chain_id, ids, signed, epochs[epoch].key, platform.entropy(NONCE_BYTES))
    committed = commitment(chain_id, ids, signed.salt, signed.record)
    publication = Publication(
        merchant=merchant,
        service=service,
        version=version,
        epoch=epoch,
        audience=record.audience,
        envelope=envelope,
        commitment=committed,
        consent=consent,
        birth=birth,
    )
    session.merge(
        RecordRow(
            merchant=merchant,
            service=service,
            version=version,
            state=RecordState.PUBLISHING,
            epoch=epoch,
            signed_record=signed.encoded(),
            envelope=envelope,
            commitment=committed,
            refusal=None,
            created_ms=platform.clock_ms(),
            superseded_ms=None,
        )
    )
    payload = RecordPublish(items=(publication,))
    enqueue(platform, session, Kind.RECORD_PUBLISH, payload, merchant, service, version, committed, nonce_floor)


def withdraw(platform: Platform, merchant: bytes, service: str) -> int:
    """Stop paying this merchant now, and put the withdrawal into the outbox; returns the version withdrawn."""
    nonce_floor = platform.chain.last_nonce()
    with platform.database.write() as session:
        load_merchant(session, merchant, service)
        _require_idle(session, merchant, service)
        row = session.scalars(
            select(RecordRow)
            .where(
                RecordRow.merchant == merchant,
                RecordRow.service == service,
                RecordRow.state.in_((RecordState.LIVE, RecordState.WITHDRAWING)),
            )
            .order_by(RecordRow.version.desc())
            .limit(1)
        ).first()
        if row is None:
            raise Declined("merchant.not_live", "the merchant has no live record to withdraw")
        row.state, row.refusal = RecordState.WITHDRAWING, None
        payload = RecordWithdraw(items=(Withdrawal(merchant=merchant, service=service, version=row.version),))
        enqueue(
            platform,
            session,
            Kind.RECORD_WITHDRAW,
            payload,
            merchant,
            service,
            row.version,
            row.commitment,
            nonce_floor,
        )
        return row.version


def load_status(session: Session, row: Merchant) -> MerchantStatus:
    """How a merchant stands."""
    record = _newest(session, row.merchant, row.service)
    agreement = parse(Agreement, row.agreement)
    if record is None:
        return MerchantStatus(agreement, None, None, None)
    return MerchantStatus(agreement, record.version, RecordState(record.state), record.refusal)
