"""What an order comes to under a record's terms, and whether a dynamic code says the same. Pure."""

from __future__ import annotations

from onecode.code.currency import find_currency
from onecode.code.identity import prefix_of
from onecode.code.order import VerifiedOrder, verify_order
from onecode.code.reading import Code, parse_code
from onecode.errors import Declined, Malformed
from onecode.platform.books import AMOUNT_MINOR_MAX, Charge
from onecode.proof.leaves import MerchantEntry
from onecode.record.payment import AcquiringAccount, PaymentTerms, percentage_minor
from onecode.record.receipt import Order, verify_terms


def price_order(
    order: Order,
    terms: PaymentTerms,
    *,
    payer: bytes,
    merchant: bytes,
    merchant_fee_hundredths_percent: int,
    payment_minor_max: int,
) -> tuple[Charge, AcquiringAccount]:
    """What the payment moves, and the acquiring account it is for. Raises `Declined`, naming the field.

    1. The amount is positive. 2. The record has an account for the currency and store. 3. The amount is within the
    account's limits. 4. A tip is given only where the record asks for one. 5. The record's fee is added: fixed, or a
    percentage of the amount rounded half up. 6. The total is within the platform's limit.
    """
    currency = find_currency(order.currency)
    if order.currency != currency.alpha:
        raise Malformed("payment.currency", "give the currency by its three letters", field="order.currency")
    account, fee_minor = verify_terms(terms, order)  # 1 to 5
    charge = Charge(
        payer=payer,
        merchant=merchant,
        currency=order.currency,
        amount_minor=order.amount_minor,
        tip_minor=order.tip_minor,
        fee_minor=fee_minor,
        platform_fee_minor=percentage_minor(order.amount_minor, merchant_fee_hundredths_percent),
    )
    if charge.total_minor > min(payment_minor_max, AMOUNT_MINOR_MAX):  # 6
        raise Declined("payment.limit", "the total is above the platform's limit", field="order.amount_minor")
    return charge, account


def verify_code_order(
    order: Order, code: str, merchant: bytes, entry: MerchantEntry, chain_id: str, time_ms: int, now_ms: int
) -> VerifiedOrder:
    """The signed order of a dynamic code, which must be the one that is paid.

    1. The code carries our identity, of this merchant. 2. One of the order keys in the merchant's proven entry signed
    it and it is open at `now_ms` (`verify_order`). 3. Amount, currency, reference and labels are those of `order`.
    time_ms: of the header under which the entry was proven. Does NOT check that the reference is unused.
    """
    read = parse_code(code, prefix=prefix_of(chain_id))
    if not isinstance(read, Code) or read.merchant_id != merchant:  # 1
        raise Declined("payment.code_merchant", "the code is not this merchant's", field="order.code")
    verified = verify_order(read, entry.settled_at(time_ms).order_keys_at(time_ms), chain_id, now_ms)  # 2
    said = (
        verified.amount_minor,
        verified.currency.alpha,
        verified.reference,
        verified.store_label,
        verified.terminal_label,
    )
    if said != (order.amount_minor, order.currency, order.reference, order.store_label, order.terminal_label):  # 3
        raise Declined(
            "payment.code_differs", "the order is not the one that the code's signature is for", field="order"
        )
    return verified
