"""Writing a payment: row, journal, receipt, evidence and till event, all in one database transaction of the caller."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecode.errors import Declined
from onecode.platform.books import Account, AccountKind, Parts, Transfer, reversed_transfers
from onecode.platform.context import Platform
from onecode.platform.ledger import journal_transfers, post_journal
from onecode.platform.records import Accepted
from onecode.platform.schema import Delivery, Event, Evidence, Payment, ReceiptRow, SendState, Webhook
from onecode.record.receipt import (
    Order,
    PaymentRequest,
    PaymentState,
    Receipt,
    SignedReceipt,
    sign_receipt,
    verify_receipt,
)
from onecode.schema import parse, to_plain
from onecode.wire import sha256

PAYMENT_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class PaymentAnswer:
    """A payment as its payer sees it. is_new: booked by this request; refusal: why it was voided or expired."""

    payment_id: str
    state: PaymentState
    receipt: Receipt
    signed: bytes
    refusal: str | None
    is_new: bool


def new_id(platform: Platform) -> str:
    """A random id, 32 hex digits."""
    return platform.entropy(PAYMENT_ID_BYTES).hex()


def load_payment_row(session: Session, payment_id: str) -> Payment:
    """The payment's row; `Declined` where there is none."""
    row = session.get(Payment, payment_id)
    if row is None:
        raise Declined("payment.unknown", "there is no such payment", status=404)
    return row


def known_payment(
    session: Session, chain_id: str, payer_platform: bytes, account: bytes, key: str, request_hash: bytes
) -> PaymentAnswer | None:
    """The payment of a key that was used before; `Declined` where it was used for another request."""
    row = session.scalars(
        select(Payment).where(
            Payment.payer_platform == payer_platform, Payment.account == account, Payment.idempotency_key == key
        )
    ).first()
    if row is None:
        return None
    if row.request_hash != request_hash:
        raise Declined("payment.key_reused", "this idempotency key was used for another payment; take a new one")
    return answer_of(row, chain_id, is_new=False)


def answer_of(row: Payment, chain_id: str, *, is_new: bool) -> PaymentAnswer:
    """The answer about a stored payment."""
    receipt = verify_receipt(chain_id, parse(SignedReceipt, row.receipt, path="receipt"))
    return PaymentAnswer(row.payment_id, PaymentState(row.state), receipt, row.receipt, row.refusal, is_new)


def build_receipt(
    platform: Platform,
    payment_id: str,
    account: bytes,
    request: PaymentRequest,
    accepted: Accepted,
    state: PaymentState,
) -> Receipt:
    """The receipt of an accepted payment, unsigned."""
    return Receipt(
        payment_id=payment_id,
        platform=platform.id,
        merchant=request.merchant,
        record_platform=accepted.verified.link.platform,
        version=request.version,
        commitment=request.commitment,
        order=request.order,
        fee_minor=accepted.charge.fee_minor,
        total_minor=accepted.charge.total_minor,
        state=state,
        time_ms=platform.clock_ms(),
        account=account,
        header_hash=accepted.verified.state.header.header_hash,
        display_name=accepted.verified.record.display_name,
    )


def book(
    platform: Platform,
    session: Session,
    *,
    payment_id: str,
    payer_platform: bytes,
    key: str,
    request: PaymentRequest,
    request_hash: bytes,
    receipt: Receipt,
    accepted: Accepted,
    transfers: Iterable[Transfer],
    expires_ms: int | None = None,
) -> PaymentAnswer:
    """Step 8: books, payment, evidence and, for a merchant of this platform, its till's event."""
    signed = sign_receipt(platform.config.chain_id, receipt, platform.keys.receipt).encoded()
    post_journal(session, f"payment/{payment_id}", transfers, receipt.time_ms)
    session.add(
        Payment(
            payment_id=payment_id,
            payer_platform=payer_platform,
            record_platform=receipt.record_platform,
            account=receipt.account,
            idempotency_key=key,
            request_hash=request_hash,
            merchant=request.merchant,
            order_reference=accepted.reference,
            currency=receipt.order.currency,
            amount_minor=receipt.order.amount_minor,
            tip_minor=receipt.order.tip_minor,
            fee_minor=receipt.fee_minor,
            kept_minor=accepted.charge.platform_fee_minor,
            state=int(receipt.state),
            refusal=None,
            expires_ms=expires_ms,
            receipt=signed,
            created_ms=receipt.time_ms,
        )
    )
    session.flush()
    session.add(
        Evidence(
            payment_id=payment_id,
            request=request.encoded(),
            view=accepted.view.raw,
            signed_record=accepted.verified.signed.encoded(),
            receipt=signed,
            superseded=accepted.superseded.encoded() if accepted.superseded is not None else None,
        )
    )
    note_receipt(session, payment_id, signed, accepted.verified.state.header.header.height)
    if receipt.record_platform == platform.id:
        announce_payment(session, payment_id, payer_platform, receipt)
    return PaymentAnswer(payment_id, receipt.state, receipt, signed, None, True)


def change_state(
    platform: Platform, session: Session, row: Payment, state: PaymentState, refusal: str | None = None
) -> PaymentAnswer:
    """Move a payment to another state: with its receipt, and with its money back where it was voided or expired."""
    chain_id, now_ms = platform.config.chain_id, platform.clock_ms()
    if state in (PaymentState.VOIDED, PaymentState.EXPIRED):
        transfers = journal_transfers(session, f"payment/{row.payment_id}")
        post_journal(session, f"void/{row.payment_id}", reversed_transfers(transfers), now_ms)
    receipt = dataclasses.replace(answer_of(row, chain_id, is_new=False).receipt, state=state, time_ms=now_ms)
    row.state, row.refusal = int(state), refusal
    row.receipt = sign_receipt(chain_id, receipt, platform.keys.receipt).encoded()
    note_receipt(session, row.payment_id, row.receipt)
    if row.record_platform == platform.id:
        announce_payment(session, row.payment_id, row.payer_platform, receipt)
    return answer_of(row, chain_id, is_new=True)


def note_receipt(session: Session, payment_id: str, signed: bytes, height: int | None = None) -> None:
    """Count a receipt or refund, in the caller's transaction: the checkpoint of the period commits to it. signed: its
    encoded signed form; height: of the header under which the payment was accepted."""
    session.add(ReceiptRow(payment_id=payment_id, hash=sha256(signed), height=height))


def paid_parts(row: Payment) -> Parts:
    """What was paid."""
    return Parts(row.amount_minor, row.tip_minor, row.fee_minor, row.kept_minor)


def payer_account(platform: Platform, row: Payment) -> Account:
    """Where money of this payment came from, and goes back to."""
    if row.payer_platform == platform.id:
        return Account(AccountKind.PAYER, row.account, row.currency)
    return Account(AccountKind.CLEARING, row.payer_platform, row.currency)


def plain_order(order: Order) -> dict[str, Any]:
    """The order in JSON, without the code's payload."""
    return {name: value for name, value in to_plain(order).items() if name != "code"}


def announce_payment(session: Session, payment_id: str, payer_platform: bytes, receipt: Receipt) -> None:
    """Tell the till: what was paid for and through which platform, never by whom.

    signed_order: whether the merchant's order key signed the order; the rest of an order that was not is the payer's
    word, its reference too.
    """
    body = {
        "type": f"payment.{receipt.state.name.lower()}",
        "payment_id": payment_id,
        "payer_platform": payer_platform.hex(),
        "order": plain_order(receipt.order),
        "signed_order": receipt.order.code is not None,
        "fee_minor": receipt.fee_minor,
        "total_minor": receipt.total_minor,
        "time_ms": receipt.time_ms,
    }
    announce(session, receipt.merchant, body, receipt.time_ms)


def announce(session: Session, merchant: bytes, body: dict[str, Any], now_ms: int) -> None:
    """An event for the merchant's tills and, where it has one, for its webhook."""
    event = Event(merchant=merchant, body=json.dumps(body, ensure_ascii=False, sort_keys=True))
    session.add(event)
    if session.get(Webhook, merchant) is not None:
        session.flush()
        session.add(
            Delivery(
                event=event.id,
                merchant=merchant,
                state=SendState.WAITING,
                sent=0,
                next_ms=now_ms,
                error=None,
                created_ms=now_ms,
            )
        )


def request_hash_of(request: PaymentRequest) -> bytes:
    """What an idempotency key is bound to."""
    return sha256(request.encoded())
