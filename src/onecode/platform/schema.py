"""The platform's tables. What must hold for money holds in the database itself (`RULES`), not only in the code."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from onecode.platform.books import AccountKind

SCHEMA_VERSION = 3


class RecordState(StrEnum):
    PUBLISHING = "publishing"  # its transaction waits in the outbox
    LIVE = "live"  # decided by the chain; whether it still is, the chain alone says
    FAILED = "failed"  # refused by the chain; `refusal` says why
    SUPERSEDED = "superseded"
    WITHDRAWING = "withdrawing"  # no longer paid from the moment it was asked for; asked for again if that failed
    WITHDRAWN = "withdrawn"
    UNLINKED = "unlinked"  # the merchant ended the link; seen in the chain's proven state


class OutboxState(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class NoticeKind(StrEnum):
    PAY = "pay"  # a payment by a partner's record
    CANCEL = "cancel"  # ... that the partner shall not take any more
    REFUND = "refund"  # to the platform whose payer gets money back


class SendState(StrEnum):
    """Of a notice or a webhook's delivery."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"  # given up; an operator may send it again


class Base(DeclarativeBase):
    type_annotation_map = {bytes: LargeBinary, int: Integer, str: String}  # noqa: RUF012 # as SQLAlchemy reads it


class Merchant(Base):
    """A merchant's agreement with this platform: what a record is made of when it is published."""

    __tablename__ = "merchants"
    merchant: Mapped[bytes] = mapped_column(primary_key=True)  # 20 bytes
    service: Mapped[str] = mapped_column(primary_key=True)
    agreement: Mapped[bytes]  # encoded Agreement
    till_token_hash: Mapped[bytes]
    created_ms: Mapped[int]


class RecordRow(Base):
    """One version of a merchant's record. A version that the chain refused is made anew; every other row stays."""

    __tablename__ = "records"
    merchant: Mapped[bytes] = mapped_column(primary_key=True)
    service: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    epoch: Mapped[int]
    signed_record: Mapped[bytes]  # encoded SignedRecord, with the salt
    envelope: Mapped[bytes]
    commitment: Mapped[bytes]
    refusal: Mapped[str | None]
    created_ms: Mapped[int]
    superseded_ms: Mapped[int | None]  # when the next version was known to be live


class OutboxRow(Base):
    """A transaction on its way to the chain, written with what it is for; sent in the order of `id`."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[int]  # of the transaction
    merchant: Mapped[bytes]
    service: Mapped[str]
    version: Mapped[int]
    commitment: Mapped[bytes]
    payload: Mapped[bytes]
    nonce: Mapped[int] = mapped_column(unique=True)
    valid_until_ms: Mapped[int]
    transaction: Mapped[bytes]  # the exact bytes
    state: Mapped[str]
    sent: Mapped[int]  # how often these bytes were sent
    code: Mapped[int | None]
    refusal: Mapped[str | None]
    height: Mapped[int | None]
    created_ms: Mapped[int]
    __table_args__ = (  # one transaction at a time for each record
        Index("outbox_waiting", "merchant", "service", unique=True, sqlite_where=text("state = 'waiting'")),
    )


class PayerAccount(Base):
    __tablename__ = "payer_accounts"
    account: Mapped[bytes] = mapped_column(primary_key=True)  # 1 to 32 bytes, as in credentials
    created_ms: Mapped[int]


class Device(Base):
    __tablename__ = "devices"
    device: Mapped[bytes] = mapped_column(primary_key=True)  # Ed25519 public key
    account: Mapped[bytes] = mapped_column(ForeignKey("payer_accounts.account"))
    blocked: Mapped[bool]
    created_ms: Mapped[int]


class Payment(Base):
    """A payment that was accepted, or that a partner asked for. The idempotency key is the payer's; for a payment that
    comes from another platform account is that platform's id, and the key its own id of the payment."""

    __tablename__ = "payments"
    payment_id: Mapped[str] = mapped_column(primary_key=True)
    payer_platform: Mapped[bytes]  # whose payer it is: this platform, or a partner
    record_platform: Mapped[bytes]  # whose record is paid: this platform, or a partner
    account: Mapped[bytes]
    idempotency_key: Mapped[str]
    request_hash: Mapped[bytes]
    merchant: Mapped[bytes]
    order_reference: Mapped[str | None]  # of a signed order only
    currency: Mapped[str]
    amount_minor: Mapped[int]
    tip_minor: Mapped[int]
    fee_minor: Mapped[int]
    kept_minor: Mapped[int]  # of the merchant's money, by this platform
    state: Mapped[int]  # PaymentState
    refusal: Mapped[str | None]  # why it was voided or expired
    expires_ms: Mapped[int | None]  # until when a partner may take it
    receipt: Mapped[bytes]  # encoded SignedReceipt of the state
    created_ms: Mapped[int]
    __table_args__ = (
        UniqueConstraint("payer_platform", "account", "idempotency_key", name="payments_key"),
        UniqueConstraint("merchant", "order_reference", name="payments_reference"),
        Index("payments_open", "expires_ms", sqlite_where=text("state = 1")),
        CheckConstraint(
            "amount_minor > 0 AND tip_minor >= 0 AND fee_minor >= 0 AND kept_minor >= 0", name="payment_sane"
        ),
    )


class RefundRow(Base):
    """Money that went back from a payment; the rules of the table keep the sum within what was paid."""

    __tablename__ = "refunds"
    refund_id: Mapped[str] = mapped_column(primary_key=True)
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"), index=True)
    idempotency_key: Mapped[str]
    request_hash: Mapped[bytes]
    amount_minor: Mapped[int]
    tip_minor: Mapped[int]
    fee_minor: Mapped[int]
    kept_minor: Mapped[int]
    signed: Mapped[bytes]  # encoded SignedRefund
    partner_signed: Mapped[bytes | None]  # of the partner that gave the money back
    created_ms: Mapped[int]
    __table_args__ = (
        UniqueConstraint("payment_id", "idempotency_key", name="refunds_key"),
        CheckConstraint(
            "amount_minor >= 0 AND tip_minor >= 0 AND amount_minor + tip_minor > 0 AND fee_minor >= 0", name="some"
        ),
    )


class Evidence(Base):
    """What shows later why a payment went where it went: never changed, never deleted."""

    __tablename__ = "evidence"
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"), primary_key=True)
    request: Mapped[bytes]  # encoded PaymentRequest
    view: Mapped[bytes]  # MemberView as the node sent it: header, commit, validators, entry, links, leaves, proofs
    signed_record: Mapped[bytes]
    receipt: Mapped[bytes]  # the first one
    superseded: Mapped[bytes | None]  # encoded Superseded: the record that was named, replaced by a rotation


class ReceiptRow(Base):
    """The hash of every receipt and refund that was signed, in the order of the books: written with what it is for.
    Its number decides in which checkpoint it is counted. Never changed, never deleted."""

    __tablename__ = "receipts"
    id: Mapped[int] = mapped_column(primary_key=True)
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"), index=True)
    hash: Mapped[bytes]  # SHA-256 of the encoded signed form
    height: Mapped[int | None]  # of the header under which the payment was accepted; of first receipts only
    __table_args__ = ({"sqlite_autoincrement": True},)


class HeaderHash(Base):
    """Hashes of the chain's headers, without a gap, each named by the one after it up to one that was verified."""

    __tablename__ = "header_hashes"
    height: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[bytes]


class CheckpointRow(Base):
    """A checkpoint of this platform: first the cut, durable by itself; then, once a header signed after the period is
    verified, the signed checkpoint. Never changed after that."""

    __tablename__ = "checkpoints"
    serial: Mapped[int] = mapped_column(primary_key=True)
    from_ms: Mapped[int]
    until_ms: Mapped[int]
    last_receipt: Mapped[int]  # number of the last receipt in it or before it; 0 for none
    hash: Mapped[bytes | None]
    checkpoint: Mapped[bytes | None]  # encoded Checkpoint without countersignatures
    created_ms: Mapped[int]


class CountersignatureRow(Base):
    """What another platform answered when it was asked to countersign."""

    __tablename__ = "countersignatures"
    serial: Mapped[int] = mapped_column(ForeignKey("checkpoints.serial"), primary_key=True)
    platform: Mapped[bytes] = mapped_column(primary_key=True)
    signed: Mapped[bytes | None]  # encoded Countersignature
    is_refused: Mapped[bool]  # for ever: it cannot check headers so old
    sent: Mapped[int]
    next_ms: Mapped[int]
    error: Mapped[str | None]


class WitnessedRow(Base):
    """A checkpoint of another platform that this one countersigned: one of each serial, for ever."""

    __tablename__ = "witnessed"
    platform: Mapped[bytes] = mapped_column(primary_key=True)
    serial: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[bytes]
    checkpoint: Mapped[bytes]  # encoded Checkpoint with this platform's countersignature alone


class ForkRow(Base):
    """A signed checkpoint of another platform that contradicts one it showed before, or the chain: kept as evidence."""

    __tablename__ = "checkpoint_forks"
    platform: Mapped[bytes] = mapped_column(primary_key=True)
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    serial: Mapped[int]
    code: Mapped[str]
    checkpoint: Mapped[bytes]
    created_ms: Mapped[int]


class PartnerWord(Base):
    """What another platform signed about a payment: its notice, or its receipt. Never changed, never deleted."""

    __tablename__ = "partner_words"
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"), primary_key=True)
    body: Mapped[bytes]  # encoded PartnerPayment, or encoded SignedReceipt
    proof: Mapped[str | None]  # the header Onecode-Member that a notice came with


class PartnerRecord(Base):
    """A partner's record as an enclave opened it. The commitment says which; every use verifies it anew."""

    __tablename__ = "partner_records"
    commitment: Mapped[bytes] = mapped_column(primary_key=True)
    signed_record: Mapped[bytes]


class NoticeRow(Base):
    """A notice on its way to a partner, written with what it is about; sent until its fate is known."""

    __tablename__ = "notices"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]  # NoticeKind
    partner: Mapped[bytes]
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"))
    refund_id: Mapped[str | None] = mapped_column(ForeignKey("refunds.refund_id"))
    body: Mapped[bytes]
    state: Mapped[str]  # SendState
    sent: Mapped[int]
    next_ms: Mapped[int]
    error: Mapped[str | None]
    created_ms: Mapped[int]
    __table_args__ = (
        Index("notices_waiting", "next_ms", sqlite_where=text("state = 'waiting'")),
        Index("notices_payment", "payment_id", unique=True, sqlite_where=text("refund_id IS NULL")),
    )


class Webhook(Base):
    """Where a merchant wants to hear of events, and the secret that signs them."""

    __tablename__ = "webhooks"
    merchant: Mapped[bytes] = mapped_column(primary_key=True)
    url: Mapped[str]
    secret: Mapped[bytes]
    created_ms: Mapped[int]


class Delivery(Base):
    """One event on its way to a merchant's webhook, written with the event."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[int] = mapped_column(ForeignKey("events.id"))
    merchant: Mapped[bytes]
    state: Mapped[str]  # SendState
    sent: Mapped[int]
    next_ms: Mapped[int]
    error: Mapped[str | None]
    created_ms: Mapped[int]
    __table_args__ = (Index("deliveries_waiting", "next_ms", sqlite_where=text("state = 'waiting'")),)


class Event(Base):
    """What a merchant's till hears, in order."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    merchant: Mapped[bytes] = mapped_column(index=True)
    body: Mapped[str]  # JSON
    __table_args__ = ({"sqlite_autoincrement": True},)


class LedgerAccount(Base):
    """Balances are kept by the trigger on `transfers` alone."""

    __tablename__ = "ledger_accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[int]
    owner: Mapped[bytes]
    currency: Mapped[str]
    debits_minor: Mapped[int]
    credits_minor: Mapped[int]
    __table_args__ = (
        UniqueConstraint("kind", "owner", "currency", name="ledger_accounts_name"),
        CheckConstraint(f"kind <> {AccountKind.PAYER:d} OR credits_minor >= debits_minor", name="payer_not_negative"),
        CheckConstraint("debits_minor >= 0 AND credits_minor >= 0 AND length(currency) = 3", name="ledger_sane"),
    )


class Journal(Base):
    """One business event in the books; its key is unique, so it is posted once."""

    __tablename__ = "journals"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    time_ms: Mapped[int]


class TransferRow(Base):
    """Out of `debit`, into `credit`: both sides in one row, so that no journal can fail to balance."""

    __tablename__ = "transfers"
    id: Mapped[int] = mapped_column(primary_key=True)
    journal: Mapped[int] = mapped_column(ForeignKey("journals.id"), index=True)
    debit: Mapped[int] = mapped_column(ForeignKey("ledger_accounts.id"))
    credit: Mapped[int] = mapped_column(ForeignKey("ledger_accounts.id"))
    amount_minor: Mapped[int]
    __table_args__ = (CheckConstraint("amount_minor > 0 AND debit <> credit", name="transfer_sane"),)


class LightHeader(Base):
    """The newest header that was verified (one row): where the light client goes on after a restart."""

    __tablename__ = "light_header"
    id: Mapped[int] = mapped_column(primary_key=True)
    view: Mapped[bytes]  # encoded HeaderView
