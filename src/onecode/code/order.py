"""Verifying the order of a dynamic code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onecode.code.currency import Currency
from onecode.code.layout import signed_bytes
from onecode.code.reading import Code
from onecode.errors import Declined, Malformed, Untrusted
from onecode.wire import signature_holds

EXPIRY_AHEAD_MS_MAX = 3_600_000
CLOCK_SKEW_MS = 5_000


@dataclass(frozen=True, slots=True)
class VerifiedOrder:
    """An order that one of the given keys signed and that is still open. Built by `verify_order` alone."""

    merchant_id: bytes
    amount_minor: int
    currency: Currency
    reference: str
    expiry_ms: int
    tip_prompt: bool
    store_label: str | None
    terminal_label: str | None
    order_key: bytes


def verify_order(code: Code, order_keys: Iterable[bytes], chain_id: str, now_ms: int) -> VerifiedOrder:
    """The order of `code`, checked; raises otherwise.

    1. The code carries an order (`Malformed` code.no_order).
    2. One of `order_keys` signed chain id, merchant id and the exact payload (`Untrusted` code.order_signature).
    3. It has not expired (`Declined` code.order_expired).
    4. It expires at most 1 h from now, 5 s of clock skew allowed (`Declined` code.order_expiry_far).

    Does NOT check: that the keys are the merchant's (take them from its verified entry); that the merchant may be paid;
    that the reference was not used before (the platform does); that the record takes this currency and amount.
    """
    order = code.order
    if order is None:
        raise Malformed("code.no_order", "the code is static: it carries no order to verify", field="54")
    message = signed_bytes(code.merchant_id, order.signed_payload, chain_id)
    signer = next((key for key in order_keys if signature_holds(key, order.signature, message)), None)
    if signer is None:
        raise Untrusted(
            "code.order_signature", "no order key of this merchant signed the code; do not pay it", field="80-99"
        )
    if now_ms >= order.expiry_ms:
        raise Declined("code.order_expired", "the code has expired; ask the merchant for a new one", field="expiry_ms")
    if order.expiry_ms > now_ms + EXPIRY_AHEAD_MS_MAX + CLOCK_SKEW_MS:
        raise Declined("code.order_expiry_far", "a code may expire at most 1 h from now", field="expiry_ms")
    return VerifiedOrder(
        merchant_id=code.merchant_id,
        amount_minor=order.amount_minor,
        currency=order.currency,
        reference=order.reference,
        expiry_ms=order.expiry_ms,
        tip_prompt=code.tip_prompt,
        store_label=code.store_label,
        terminal_label=code.terminal_label,
        order_key=signer,
    )
