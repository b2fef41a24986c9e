"""What the platform's API says in JSON, and the few things it reads from JSON that are no messages."""

from __future__ import annotations

from typing import Any

from onecode.code.identity import ID_BYTES, merchant_text, parse_merchant_text
from onecode.errors import Malformed
from onecode.platform.booking import PaymentAnswer
from onecode.platform.devices import Enrolment
from onecode.platform.http import Call
from onecode.platform.merchants import MerchantStatus
from onecode.platform.refunds import RefundAnswer
from onecode.platform.rotation import Retirement
from onecode.platform.schema import NoticeRow
from onecode.schema import to_plain

STUCK_MAX = 100


def parse_hex(value: Any, field: str) -> bytes:
    """The bytes of lower-case hex."""
    try:
        raw = bytes.fromhex(value)
    except (TypeError, ValueError):
        raw = b""
    if type(value) is not str or raw.hex() != value:
        raise Malformed("http.hex", f"{field} must be lower-case hex", field=field)
    return raw


def parse_merchant(call: Call, prefix: str) -> bytes:
    """The merchant in the path: 40 hex digits, or the id's text."""
    text = call.parameters["merchant"]
    return parse_hex(text, "merchant") if len(text) == 2 * ID_BYTES else parse_merchant_text(text, prefix)


def enrolment_plain(enrolment: Enrolment) -> dict[str, Any]:
    """A device's credential."""
    return {
        "credential": enrolment.credential.hex(),
        "account": enrolment.account.hex(),
        "valid_until_ms": enrolment.valid_until_ms,
        "sandbox": True,
    }


def payment_plain(answer: PaymentAnswer) -> dict[str, Any]:
    """A payment as its payer or a partner sees it."""
    receipt = answer.receipt
    plain = {
        "payment_id": answer.payment_id,
        "state": answer.state.name.lower(),
        "record_platform": receipt.record_platform.hex(),
        "currency": receipt.order.currency,
        "amount_minor": receipt.order.amount_minor,
        "tip_minor": receipt.order.tip_minor,
        "fee_minor": receipt.fee_minor,
        "total_minor": receipt.total_minor,
        "display_name": receipt.display_name,
        "time_ms": receipt.time_ms,
        "receipt": answer.signed.hex(),
    }
    return plain if answer.refusal is None else plain | {"refusal": answer.refusal}


def refund_plain(answer: RefundAnswer) -> dict[str, Any]:
    """A refund, with its signed form."""
    refund = answer.refund
    plain = {
        "refund_id": refund.refund_id,
        "payment_id": refund.payment_id,
        "currency": refund.currency,
        "amount_minor": refund.amount_minor,
        "tip_minor": refund.tip_minor,
        "fee_minor": refund.fee_minor,
        "total_minor": refund.total_minor,
        "refunded_minor": refund.refunded_minor,
        "time_ms": refund.time_ms,
        "refund": answer.signed.hex(),
    }
    return plain if refund.reason is None else plain | {"reason": refund.reason}


def merchant_plain(status: MerchantStatus, prefix: str) -> dict[str, Any]:
    """A merchant as the operator sees it."""
    agreement = {name: value for name, value in to_plain(status.agreement).items() if name != "consent"}
    return {
        "merchant": status.agreement.merchant.hex(),
        "merchant_text": merchant_text(status.agreement.merchant, prefix),
        "service": status.agreement.service,
        "version": status.version,
        "state": status.state if status.state is not None else "draft",
        "refusal": status.refusal,
        "agreement": agreement,
    }


def retirement_plain(retirement: Retirement) -> dict[str, Any]:
    """How far the end of old epochs is; the first 100 merchants that are stuck."""
    stuck = list(retirement.stuck.items())[:STUCK_MAX]
    return {
        "epoch": retirement.epoch,
        "epoch_min": retirement.epoch_min,
        "left": retirement.left,
        "waiting": retirement.waiting,
        "stuck": [{"merchant": merchant.hex(), "code": why.code, "detail": why.message} for merchant, why in stuck],
        "done": retirement.is_done,
    }


def notice_plain(row: NoticeRow) -> dict[str, Any]:
    """A notice to a partner as the operator sees it."""
    return {
        "id": row.id,
        "kind": row.kind,
        "partner": row.partner.hex(),
        "payment_id": row.payment_id,
        "refund_id": row.refund_id,
        "state": row.state,
        "sent": row.sent,
        "next_ms": row.next_ms,
        "error": row.error,
    }
