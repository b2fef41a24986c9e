"""The platform's tables. What must hold for money holds in the database itself (`RULES`), not only in the code."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from onecode.platform.books import AccountKind

SCHEMA_VERSION = 2


class RecordState(StrEnum):
    PUBLISHING = "publishing"  # its transaction waits in the outbox
    LIVE = "live"  # decided by the chain; whether it still is, the chain alone says
    FAILED = "failed"  # refused by the chain; `refusal` says why
    SUPERSEDED = "superseded"
    WITHDRAWING = "withdrawing"  # no longer paid from the moment it was asked for; asked for again if that failed
    WITHDRAWN = "withdrawn"


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


def _frozen(table: str) -> list[str]:
    return [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} are only added to'); END"
        for verb in ("UPDATE", "DELETE")
    ]


RULES: tuple[str, ...] = (
    """
    CREATE TRIGGER transfers_one_currency BEFORE INSERT ON transfers
    WHEN (SELECT currency FROM ledger_accounts WHERE id = NEW.debit)
      IS NOT (SELECT currency FROM ledger_accounts WHERE id = NEW.credit)
    BEGIN SELECT RAISE(ABORT, 'a transfer is of one currency'); END
    """,
    """
    CREATE TRIGGER transfers_balances AFTER INSERT ON transfers BEGIN
      UPDATE ledger_accounts SET debits_minor = debits_minor + NEW.amount_minor WHERE id = NEW.debit;
      UPDATE ledger_accounts SET credits_minor = credits_minor + NEW.amount_minor WHERE id = NEW.credit;
    END
    """,
    *_frozen("transfers"),
    *_frozen("journals"),
    *_frozen("evidence"),
    *_frozen("partner_words"),
    *_frozen("refunds"),
    """
    CREATE TRIGGER refunds_within_payment BEFORE INSERT ON refunds
    WHEN EXISTS (
      SELECT 1 FROM payments AS p WHERE p.payment_id = NEW.payment_id AND (
        p.state <> 2
        OR NEW.amount_minor + (SELECT coalesce(sum(amount_minor), 0) FROM refunds AS r
                               WHERE r.payment_id = p.payment_id) > p.amount_minor
        OR NEW.tip_minor + (SELECT coalesce(sum(tip_minor), 0) FROM refunds AS r
                            WHERE r.payment_id = p.payment_id) > p.tip_minor
        OR NEW.fee_minor + (SELECT coalesce(sum(fee_minor), 0) FROM refunds AS r
                            WHERE r.payment_id = p.payment_id) > p.fee_minor
        OR NEW.kept_minor + (SELECT coalesce(sum(kept_minor), 0) FROM refunds AS r
                             WHERE r.payment_id = p.payment_id) > p.kept_minor))
    BEGIN SELECT RAISE(ABORT, 'no more goes back than was paid'); END
    """,
    "CREATE TRIGGER ledger_accounts_stay BEFORE DELETE ON ledger_accounts "
    "BEGIN SELECT RAISE(ABORT, 'ledger accounts stay'); END",
    "CREATE TRIGGER ledger_accounts_keep_name BEFORE UPDATE OF id, kind, owner, currency ON ledger_accounts "
    "BEGIN SELECT RAISE(ABORT, 'a ledger account keeps its name'); END",
)
