"""Refunds: partial and several, never more than was paid, from what was stored with the payment.

No chain is asked: a payment can be refunded after its record was withdrawn, rotated or expired, the merchant frozen, or
the platform suspended. Docs/spec/platform.md, "Refunds", has the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from onecode.errors import Declined
from onecode.platform.booking import announce, load_payment_row, new_id, note_receipt, paid_parts, payer_account
from onecode.platform.books import Parts, refund_parts, refund_transfers
from onecode.platform.context import Platform
from onecode.platform.ledger import post_journal
from onecode.platform.notices import add_notice
from onecode.platform.schema import NoticeKind, Payment, RefundRow
from onecode.record.receipt import (
    PaymentState,
    Refund,
    SignedReceipt,
    SignedRefund,
    sign_refund,
    verify_receipt,
    verify_refund,
)
from onecode.schema import Message, Text, Uint, item, parse
from onecode.wire import sha256

REFUNDS_MAX = 100  # of one payment
_AMOUNT = Uint((1 << 53) - 1)


class RefundRequest(Message):
    """What an operator or a till asks for, as JSON: how much of the amount and of the tip goes back."""

    amount_minor: int = item(1, _AMOUNT)
    tip_minor: int | None = item(2, _AMOUNT, default=None)
    reason: str | None = item(3, Text(140), default=None)


@dataclass(frozen=True, slots=True)
class RefundAnswer:
    """A refund that was booked. is_new: by this request."""

    refund: Refund
    signed: bytes
    is_new: bool


def refund_payment(
    platform: Platform, payment_id: str, key: str, request: RefundRequest, merchant: bytes | None = None
) -> RefundAnswer:
    """Give money of a posted payment back, once for each key. merchant: whose till asks; None for the operator.

    1. The payment is by a record of this platform (and of that merchant). 2. A key that was used before gives its
    refund again, for the same request only. 3. The payment is posted. 4. No more goes back than was paid
    (`refund_parts`). 5. Books, signed refund and till event, and the notice to the platform whose payer it is, are one
    database transaction.
    """
    body_hash = sha256(request.encoded())
    with platform.database.write() as session:
        row = load_payment_row(session, payment_id)
        if merchant is not None and row.merchant != merchant:  # 1
            raise Declined("payment.unknown", "there is no such payment", status=404)
        if row.record_platform != platform.id:
            raise Declined("refund.partner", "the merchant's own platform refunds this payment")
        known = session.scalars(
            select(RefundRow).where(RefundRow.payment_id == payment_id, RefundRow.idempotency_key == key)
        ).first()
        if known is not None:  # 2
            if known.request_hash != body_hash:
                raise Declined("refund.key_reused", "this idempotency key was used for another refund; take a new one")
            return answer_refund(platform, known, is_new=False)
        if row.state != PaymentState.POSTED:  # 3
            raise Declined("refund.not_posted", "the payment is not posted: there is nothing to give back")
        parts = refund_parts(  # 4
            paid_parts(row), refunded_parts(session, row), request.amount_minor, request.tip_minor or 0
        )
        refund_id = new_id(platform)
        transfers = refund_transfers(payer_account(platform, row), row.merchant, parts)  # 5
        post_journal(session, f"refund/{refund_id}", transfers, platform.clock_ms())
        answer = add_refund(platform, session, row, parts, refund_id, key, body_hash, request.reason, None)
        refund = answer.refund
        body = {
            "type": "payment.refunded",
            "payment_id": payment_id,
            "refund_id": refund_id,
            "amount_minor": refund.amount_minor,
            "tip_minor": refund.tip_minor,
            "fee_minor": refund.fee_minor,
            "total_minor": refund.total_minor,
            "refunded_minor": refund.refunded_minor,
            "time_ms": refund.time_ms,
        }
        announce(session, row.merchant, body, refund.time_ms)
        if row.payer_platform != platform.id:
            add_notice(
                session,
                NoticeKind.REFUND,
                row.payer_platform,
                payment_id,
                answer.signed,
                refund.time_ms,
                refund_id,
            )
        return answer


def refunded_parts(session: Session, row: Payment) -> Parts:
    """What went back from a payment so far."""
    columns = (RefundRow.amount_minor, RefundRow.tip_minor, RefundRow.fee_minor, RefundRow.kept_minor)
    sums = select(func.count(), *(func.coalesce(func.sum(column), 0) for column in columns))
    count, *parts = session.execute(sums.where(RefundRow.payment_id == row.payment_id)).one()
    if count >= REFUNDS_MAX:
        raise Declined("refund.too_many", f"a payment has at most {REFUNDS_MAX} refunds")
    return Parts(*parts)


def add_refund(
    platform: Platform,
    session: Session,
    row: Payment,
    parts: Parts,
    refund_id: str,
    key: str,
    body_hash: bytes,
    reason: str | None,
    partner_signed: SignedRefund | None,
) -> RefundAnswer:
    """Write the refund's row with its signed form, in the caller's transaction; its journal is the caller's."""
    chain_id, now_ms = platform.config.chain_id, platform.clock_ms()
    before = refunded_parts(session, row).total_minor
    receipt = verify_receipt(chain_id, parse(SignedReceipt, row.receipt, path="receipt"))
    refund = Refund(
        refund_id=refund_id,
        payment_id=receipt.payment_id,
        platform=platform.id,
        merchant=row.merchant,
        record_platform=row.record_platform,
        currency=row.currency,
        amount_minor=parts.amount_minor,
        tip_minor=parts.tip_minor,
        fee_minor=parts.fee_minor,
        total_minor=parts.total_minor,
        refunded_minor=before + parts.total_minor,
        time_ms=now_ms,
        account=row.account,
        reason=reason,
    )
    signed = sign_refund(chain_id, refund, platform.keys.receipt).encoded()
    stored = RefundRow(
        refund_id=refund_id,
        payment_id=row.payment_id,
        idempotency_key=key,
        request_hash=body_hash,
        amount_minor=parts.amount_minor,
        tip_minor=parts.tip_minor,
        fee_minor=parts.fee_minor,
        kept_minor=parts.kept_minor,
        signed=signed,
        partner_signed=partner_signed.encoded() if partner_signed is not None else None,
        created_ms=now_ms,
    )
    session.add(stored)
    session.flush()
    note_receipt(session, row.payment_id, signed)
    return RefundAnswer(refund, signed, True)


def answer_refund(platform: Platform, row: RefundRow, *, is_new: bool) -> RefundAnswer:
    """The answer about a stored refund."""
    refund = verify_refund(platform.config.chain_id, parse(SignedRefund, row.signed, path="refund"))
    return RefundAnswer(refund, row.signed, is_new)


def load_refunds(
    platform: Platform, payment_id: str, *, account: bytes | None = None, merchant: bytes | None = None
) -> list[RefundAnswer]:
    """A payment's refunds in order: for the payer of `account`, for the till of `merchant`, or for the operator."""
    with platform.database.read() as session:
        row = load_payment_row(session, payment_id)
        is_other_payer = account is not None and (row.payer_platform, row.account) != (platform.id, account)
        if is_other_payer or (merchant is not None and row.merchant != merchant):
            raise Declined("payment.unknown", "there is no such payment", status=404)
        found = session.scalars(select(RefundRow).where(RefundRow.payment_id == payment_id))
        answers = [answer_refund(platform, one, is_new=False) for one in found]
    return sorted(answers, key=lambda answer: answer.refund.refunded_minor)
