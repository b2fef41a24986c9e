"""The platform's tables. What must hold for money holds in the database itself (`RULES`), not only in the code."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from onecode.platform.books import AccountKind

SCHEMA_VERSION = 1


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
    """An accepted payment. The idempotency key is the payer's; the reference of a signed order is used once."""

    __tablename__ = "payments"
    payment_id: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[bytes] = mapped_column(ForeignKey("payer_accounts.account"))
    idempotency_key: Mapped[str]
    request_hash: Mapped[bytes]
    merchant: Mapped[bytes]
    order_reference: Mapped[str | None]  # of a signed order only
    state: Mapped[int]  # PaymentState
    receipt: Mapped[bytes]  # encoded SignedReceipt of the state
    created_ms: Mapped[int]
    __table_args__ = (
        UniqueConstraint("account", "idempotency_key", name="payments_key"),
        UniqueConstraint("merchant", "order_reference", name="payments_reference"),
    )


class Evidence(Base):
    """What shows later why a payment went where it went: never changed, never deleted."""

    __tablename__ = "evidence"
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"), primary_key=True)
    request: Mapped[bytes]  # encoded PaymentRequest
    view: Mapped[bytes]  # MemberView as the node sent it: header, commit, validators, entry, links, leaves, proofs
    signed_record: Mapped[bytes]
    receipt: Mapped[bytes]  # the first one


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
    "CREATE TRIGGER ledger_accounts_stay BEFORE DELETE ON ledger_accounts "
    "BEGIN SELECT RAISE(ABORT, 'ledger accounts stay'); END",
    "CREATE TRIGGER ledger_accounts_keep_name BEFORE UPDATE OF id, kind, owner, currency ON ledger_accounts "
    "BEGIN SELECT RAISE(ABORT, 'a ledger account keeps its name'); END",
)
