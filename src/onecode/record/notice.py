"""What one platform tells another about a payment by the other's record: the partner's notice.

It travels as the body of a signed member request; the partner answers with a `SignedReceipt` whose `account` is the
paying platform's id (docs/spec/platform.md, "Partners").
"""

from __future__ import annotations

from onecode.record.receipt import Order
from onecode.schema import Bytes, Message, Nested, Text, Uint, item

_AMOUNT = Uint((1 << 53) - 1)
_TIME_MS = Uint((1 << 53) - 1)


class PartnerPayment(Message):
    """A payer of `payer_platform` pays by the record of `platform`; nothing in it says who the payer is."""

    payment_id: str = item(1, Text(40))  # the paying platform's; the partner takes it once
    payer_platform: bytes = item(2, Bytes(20))
    platform: bytes = item(3, Bytes(20))  # of the record: the partner
    merchant: bytes = item(4, Bytes(20))
    service: str = item(5, Text(16))
    version: int = item(6, Uint())
    commitment: bytes = item(7, Bytes(32))
    order: Order = item(8, Nested(Order))
    fee_minor: int = item(9, _AMOUNT)
    total_minor: int = item(10, _AMOUNT)  # amount + tip + fee: what the partner is owed
    time_ms: int = item(11, _TIME_MS)
    expires_ms: int = item(12, _TIME_MS)  # from then on the partner must not take it
