"""Order and receipt of the service `pay`: what a payer asks for and what the platform signs."""

from __future__ import annotations

from enum import IntEnum

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
