"""Order and receipt of the service `pay`: what a payer asks for and what the platform signs."""

from __future__ import annotations

from enum import IntEnum

from onecode.errors import Declined
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode
from onecode.schema import Bytes, Choice, Message, Nested, Text, Uint, item, parse
from onecode.wire import Domain, SigningKey, verify_signature

_AMOUNT = Uint((1 << 53) - 1)
_TIME_MS = Uint((1 << 53) - 1)


class PaymentState(IntEnum):
    PENDING = 1
    POSTED = 2
    VOIDED = 3
    EXPIRED = 4
    UNKNOWN = 5


class Order(Message):
    """What the payer adds. Amounts in minor units of `currency`; `amount_minor` excludes tip and fee (EMVCo 54)."""

    amount_minor: int = item(1, _AMOUNT)
    currency: str = item(2, Text(3, 3))
    tip_minor: int = item(3, _AMOUNT)
    reference: str | None = item(4, Text(25), default=None)
    note: str | None = item(5, Text(140), default=None)
    store_label: str | None = item(6, Text(25), default=None)
    terminal_label: str | None = item(7, Text(25), default=None)
    code: str | None = item(8, Text(512), default=None)  # a dynamic code's payload, for the platform to check again


def verify_terms(terms: PaymentTerms, order: Order) -> tuple[AcquiringAccount, int]:
    """The account that an order is for and the fee that the terms add, or `Declined` naming the field.

    1. The amount is above zero. 2. An account takes the currency at this store, 3. and the amount. 4. A tip is given
    only where the terms prompt for one. 5. The fee is fixed, or a percentage of the amount without tip.
    """
    if order.amount_minor < 1:  # 1
        raise Declined("payment.amount", "the amount must be above zero", field="order.amount_minor")
    account = terms.account_for(order.currency, order.store_label)  # 2
    if account is None:
        message = "the merchant takes no payment in this currency for this store"
        raise Declined("payment.account", message, field="order.currency")
    low, high = account.amount_min_minor, account.amount_max_minor  # 3
    if (low is not None and order.amount_minor < low) or (high is not None and order.amount_minor > high):
        raise Declined("payment.limit", "the amount is outside the merchant's limits", field="order.amount_minor")
    if order.tip_minor and terms.tip_mode != TipMode.PROMPT:  # 4
        raise Declined("payment.tip", "the merchant takes no tip", field="order.tip_minor")
    return account, terms.fee_minor(order.amount_minor)  # 5


class PaymentRequest(Message):
    """What a wallet posts to its own platform: which verified record, and the order."""

    merchant: bytes = item(1, Bytes(20))
    service: str = item(2, Text(16))
    platform: bytes = item(3, Bytes(20))  # of the record; the wallet's own, or a partner of it
    version: int = item(4, Uint())
    commitment: bytes = item(5, Bytes(32))
    order: Order = item(6, Nested(Order))


class Receipt(Message):
    payment_id: str = item(1, Text(40))
    platform: bytes = item(2, Bytes(20))  # that took the payment and signs
    merchant: bytes = item(3, Bytes(20))
    record_platform: bytes = item(4, Bytes(20))
    version: int = item(5, Uint())
    commitment: bytes = item(6, Bytes(32))
    order: Order = item(7, Nested(Order))
    fee_minor: int = item(8, _AMOUNT)
    total_minor: int = item(9, _AMOUNT)  # amount + tip + fee
    state: PaymentState = item(10, Choice(PaymentState))
    time_ms: int = item(11, _TIME_MS)
    account: bytes = item(12, Bytes(1, 32))  # the payer's, as in the device credential
    header_hash: bytes = item(13, Bytes(32))  # the header under which the platform checked the record
    display_name: str = item(14, Text(50))


class SignedReceipt(Message):
    body: bytes = item(1, Bytes(1, 2048))  # encoded Receipt
    key: bytes = item(2, Bytes(32))  # the platform's role `receipt`
    signature: bytes = item(3, Bytes(64))


def sign_receipt(chain_id: str, receipt: Receipt, key: SigningKey) -> SignedReceipt:
    """The receipt signed by the platform's receipt key."""
    body = receipt.encoded()
    return SignedReceipt(body=body, key=key.public, signature=key.sign(Domain.RECEIPT, chain_id, body))


def verify_receipt(chain_id: str, signed: SignedReceipt) -> Receipt:
    """The receipt, if `signed.key` signed it. Does not check that the key is the platform's (its leaf says so)."""
    verify_signature(signed.key, signed.signature, Domain.RECEIPT, chain_id, signed.body, field="receipt.signature")
    return parse(Receipt, signed.body, path="receipt")


class Refund(Message):
    """Money that went back from a payment: a part of it, or all that was left. Amounts as in the receipt."""

    refund_id: str = item(1, Text(40))
    payment_id: str = item(2, Text(40))
    platform: bytes = item(3, Bytes(20))  # that gives the money back and signs
    merchant: bytes = item(4, Bytes(20))
    record_platform: bytes = item(5, Bytes(20))
    currency: str = item(6, Text(3, 3))
    amount_minor: int = item(7, _AMOUNT)  # of the payment's amount
    tip_minor: int = item(8, _AMOUNT)
    fee_minor: int = item(9, _AMOUNT)  # of the merchant's fee, in proportion to the amount
    total_minor: int = item(10, _AMOUNT)  # amount + tip + fee
    refunded_minor: int = item(11, _AMOUNT)  # of this payment's total so far, this refund included
    time_ms: int = item(12, _TIME_MS)
    account: bytes = item(13, Bytes(1, 32))  # as in the payment's receipt
    reason: str | None = item(14, Text(140), default=None)


class SignedRefund(Message):
    body: bytes = item(1, Bytes(1, 1024))  # encoded Refund
    key: bytes = item(2, Bytes(32))  # the platform's role `receipt`
    signature: bytes = item(3, Bytes(64))


def sign_refund(chain_id: str, refund: Refund, key: SigningKey) -> SignedRefund:
    """The refund signed by the platform's receipt key."""
    body = refund.encoded()
    return SignedRefund(body=body, key=key.public, signature=key.sign(Domain.REFUND, chain_id, body))


def verify_refund(chain_id: str, signed: SignedRefund) -> Refund:
    """The refund, if `signed.key` signed it. Does not check that the key is the platform's (its leaf says so)."""
    verify_signature(signed.key, signed.signature, Domain.REFUND, chain_id, signed.body, field="refund.signature")
    return parse(Refund, signed.body, path="refund")
