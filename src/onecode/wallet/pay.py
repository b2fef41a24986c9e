"""Paying a verified record: what it costs before the payer agrees, and whether the receipt says the same."""

from __future__ import annotations

from dataclasses import dataclass

from onecode.code.reading import ASK_PAYER, Code
from onecode.errors import Declined, Malformed, Untrusted
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.query.credential import parse_credential
from onecode.query.verify import VerifiedRecord
from onecode.record.payment import SERVICE_PAY, PaymentTerms, parse_terms
from onecode.record.receipt import (
    Order,
    PaymentRequest,
    PaymentState,
    Receipt,
    SignedReceipt,
    verify_receipt,
    verify_terms,
)
from onecode.schema import parse
from onecode.wallet.resolve import Resolution

TIME_SKEW_MS = 5_000


@dataclass(frozen=True, slots=True)
class Charge:
    """What a payment costs, in minor units of the order's currency. total = amount + tip + fee."""

    fee_minor: int
    total_minor: int


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt that the wallet's own platform signed for exactly what was asked."""

    receipt: Receipt
    signed: SignedReceipt
    idempotency_key: str


def verify_order_terms(terms: PaymentTerms, order: Order) -> Charge:
    """What the order costs under the record's terms, if they take it (`verify_terms`).

    Does not check whether the payer has the money.
    """
    _, fee = verify_terms(terms, order)
    return Charge(fee, order.amount_minor + order.tip_minor + fee)


def build_order(
    resolution: Resolution,
    amount_minor: int | None = None,
    currency: str | None = None,
    *,
    tip_minor: int = 0,
    note: str | None = None,
    payload: str | None = None,
) -> Order:
    """The order for a resolution: of a static code from the payer's entry, of a dynamic one from its verified order.

    `currency` is needed only where the record has several. `payload` is the scanned text, without which the platform
    cannot verify a dynamic order again. Raises `Malformed` for an amount beside a dynamic order.
    """
    order, code = resolution.order, resolution.code
    if order is not None:
        if amount_minor not in (None, order.amount_minor) or currency not in (None, order.currency.alpha):
            raise Malformed("payment.order_fixed", "the code sets amount and currency; leave both out", field="amount")
        return Order(
            amount_minor=order.amount_minor,
            currency=order.currency.alpha,
            tip_minor=tip_minor,
            reference=order.reference,
            note=note,
            store_label=order.store_label,
            terminal_label=order.terminal_label,
            code=payload,
        )
    accounts = list(dict.fromkeys(account.currency for account in resolution.terms.accounts))
    if currency is None and len(accounts) == 1:
        currency = accounts[0]
    if amount_minor is None or currency is None:
        raise Malformed("payment.amount_missing", f"give an amount and a currency of {', '.join(accounts)}")
    return Order(
        amount_minor=amount_minor,
        currency=currency,
        tip_minor=tip_minor,
        reference=_printed(code.reference) if isinstance(code, Code) else None,
        note=note,
        store_label=_printed(code.store_label) if code is not None else None,
        terminal_label=_printed(code.terminal_label) if code is not None else None,
    )


def _printed(value: str | None) -> str | None:
    return None if value == ASK_PAYER else value


def build_payment(target: VerifiedRecord, order: Order) -> PaymentRequest:
    """What the wallet posts to its own platform for a verified record."""
    return PaymentRequest(
        merchant=target.state.merchant,
        service=SERVICE_PAY,
        platform=target.link.platform,
        version=target.link.version,
        commitment=target.link.commitment,
        order=order,
    )


def verify_payment(
    chain_id: str,
    signed: SignedReceipt,
    target: VerifiedRecord,
    order: Order,
    credential: bytes,
    own: PlatformLeaf,
    idempotency_key: str,
    now_ms: int,
) -> VerifiedReceipt:
    """The receipt of the wallet's own platform, whose proven leaf is `own`.

    1. The signature holds, under a receipt key of the platform that verifies now. 2. It names the wallet's platform and
    account, 3. the record that was verified: ids, version, commitment, name, 4. exactly the order, 5. fee and total as
    the terms have them. 6. Its time is not in the future, and it was not refused.
    Does not check that the money has moved: a pending payment has a receipt too (`receipt.state`), and the header that
    the platform checked under (`receipt.header_hash`) may be newer than the wallet's.
    """
    receipt = verify_receipt(chain_id, signed)  # 1
    own.require_key(Role.RECEIPT, signed.key, now_ms)
    _, payer = parse_credential(credential)
    if (receipt.platform, receipt.account) != (payer.platform, payer.account):  # 2
        raise Untrusted("receipt.payer", "the receipt is of another platform or account", field="receipt.account")
    asked = build_payment(target, order)
    named = (receipt.merchant, receipt.record_platform, receipt.version, receipt.commitment, receipt.display_name)
    if named != (asked.merchant, asked.platform, asked.version, asked.commitment, target.record.display_name):  # 3
        raise Untrusted("receipt.record", "the receipt is for another record than was paid", field="receipt.commitment")
    if receipt.order != order:  # 4
        raise Untrusted("receipt.order", "the receipt is for another order than was given", field="receipt.order")
    charge = verify_order_terms(parse_terms(target.record.terms), order)
    if (receipt.fee_minor, receipt.total_minor) != (charge.fee_minor, charge.total_minor):  # 5
        raise Untrusted("receipt.total", "fee or total are not those of the merchant's terms", field="receipt.total")
    if receipt.time_ms > now_ms + TIME_SKEW_MS:  # 6
        raise Untrusted("receipt.time", "the receipt is of this clock's future; check the clock", field="receipt.time")
    if receipt.state in (PaymentState.VOIDED, PaymentState.EXPIRED):
        raise Declined("payment.voided", "the platform voided the payment; nothing was paid", field="receipt.state")
    return VerifiedReceipt(receipt, signed, idempotency_key)


def parse_receipt(raw: bytes) -> SignedReceipt:
    """A signed receipt of untrusted bytes."""
    return parse(SignedReceipt, raw, path="receipt")
