"""Refunds of an own payment: what the platform signed that it gave back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onecode.errors import Untrusted
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.record.receipt import Refund, SignedRefund, verify_refund
from onecode.schema import parse
from onecode.wallet.pay import TIME_SKEW_MS, VerifiedReceipt


@dataclass(frozen=True, slots=True)
class VerifiedRefund:
    """A refund that the wallet's own platform signed for one of its payments."""

    refund: Refund
    signed: SignedRefund


def verify_refunds(
    chain_id: str, given: Sequence[bytes], paid: VerifiedReceipt, own: PlatformLeaf, now_ms: int
) -> tuple[VerifiedRefund, ...]:
    """The refunds in `given` (encoded SignedRefunds, in order) of the payment `paid`.

    1. Each is signed under a receipt key of the wallet's own platform, whose proven leaf is `own`. 2. It names that
    platform, the account, the payment, its merchant, record and currency. 3. Its parts add up, to the running sum that
    it names, which is at most what was paid. 4. Its time is not in the future.
    Does not check that none was left out, nor that the money has arrived: the account's balance says so.
    """
    receipt, found, refunded_minor = paid.receipt, [], 0
    for raw in given:
        signed = parse(SignedRefund, raw, path="refund")
        refund = verify_refund(chain_id, signed)  # 1
        own.require_key(Role.RECEIPT, signed.key, now_ms)
        named = (refund.platform, refund.account, refund.payment_id, refund.merchant, refund.record_platform)
        paid_as = (receipt.platform, receipt.account, receipt.payment_id, receipt.merchant, receipt.record_platform)
        if named != paid_as or refund.currency != receipt.order.currency:  # 2
            raise Untrusted("refund.other", "the refund is of another payment", field="refund.payment_id")
        refunded_minor += refund.amount_minor + refund.tip_minor + refund.fee_minor
        if refund.total_minor != refund.amount_minor + refund.tip_minor + refund.fee_minor:  # 3
            raise Untrusted("refund.total", "the refund's parts do not add up", field="refund.total_minor")
        if refund.refunded_minor != refunded_minor or refunded_minor > receipt.total_minor:
            raise Untrusted("refund.sum", "the refunds are not what they add up to", field="refund.refunded_minor")
        if refund.time_ms > now_ms + TIME_SKEW_MS:  # 4
            raise Untrusted("refund.time", "the refund is of this clock's future; check the clock", field="time_ms")
        found.append(VerifiedRefund(refund, signed))
    return tuple(found)
