"""What partners ask of this platform: to take a payment by one of its records, to cancel it, to pass a refund on."""

from __future__ import annotations

import dataclasses

from sqlalchemy.orm import Session

from onecode.errors import Declined, Malformed, Unreachable, Untrusted
from onecode.platform.booking import (
    PaymentAnswer,
    answer_of,
    book,
    build_receipt,
    known_payment,
    new_id,
    note_receipt,
    paid_parts,
    payer_account,
)
from onecode.platform.books import Account, AccountKind, charge_transfers, refund_parts, transfer
from onecode.platform.context import Platform
from onecode.platform.ledger import load_balances, post_journal
from onecode.platform.records import accept_own, require_bookable
from onecode.platform.refunds import RefundAnswer, add_refund, answer_refund, refunded_parts
from onecode.platform.schema import PartnerWord, Payment, RefundRow
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.query.requests import parse_member, verify_member
from onecode.record.notice import PartnerPayment
from onecode.record.receipt import (
    PaymentRequest,
    PaymentState,
    Receipt,
    SignedRefund,
    sign_receipt,
    sign_refund,
    verify_refund,
)
from onecode.wire import sha256

CANCELLED = "cancelled"


def verify_partner(platform: Platform, proof: str, path: str, body: bytes) -> tuple[bytes, PlatformLeaf]:
    """The partner that signed this request, and its proven leaf.

    1. The operator clears with it. 2. It is an active member, and one of its keys signed the request within the window
    (`verify_member`). Does NOT protect against a request sent twice: what it asks for is done once.
    """
    given = parse_member(proof)
    if given.platform not in platform.config.partners:  # 1
        raise Untrusted("partner.unknown", "this platform does not clear with you", field="platform", status=403)
    leaf = platform.chain.platform_leaf(given.platform)  # 2
    if leaf is None:
        raise Untrusted("partner.absent", "the chain knows no such platform", field="platform", status=403)
    verify_member(platform.config.chain_id, given, leaf, "POST", path, body, platform.clock_ms())
    return given.platform, leaf


def _require_addressed(platform: Platform, partner: bytes, notice: PartnerPayment) -> None:
    if (notice.payer_platform, notice.platform) != (partner, platform.id):
        raise Declined("partner.notice", "the notice is of or to another platform", field="platform")


def take_payment(platform: Platform, partner: bytes, notice: PartnerPayment, proof: str) -> PaymentAnswer:
    """Take a partner's payment by a record of this platform, once; every answer is a signed receipt.

    1. The notice is the partner's, to this platform. 2. One that was answered before gets that answer again. 3. It has
    not expired. 4. The record, the order and the code are accepted as for an own payer, and the partner is in the
    record's audience (`accept_own`). 5. Fee and total are the same here. 6. The partner owes at most
    `clearing_minor_max`. Where 3 to 6 say no, the receipt is of state `voided`, and stays so.
    Raises `Unreachable`, and decides nothing, where the chain cannot be asked.
    """
    _require_addressed(platform, partner, notice)  # 1
    body_hash = sha256(notice.encoded())
    with platform.database.read() as session:  # 2
        known = _known(platform, session, partner, notice, body_hash)
    if known is not None:
        return known
    request = _request(notice)
    try:
        if platform.clock_ms() >= notice.expires_ms:  # 3
            raise Declined("partner.expired", "the payment has expired", field="expires_ms")
        accepted = accept_own(platform, request, partner, AccountKind.CLEARING)  # 4
        total = (accepted.charge.fee_minor, accepted.charge.total_minor)
        if total != (notice.fee_minor, notice.total_minor):  # 5
            raise Declined("partner.total", "fee or total are not those of the record's terms", field="total_minor")
    except (Declined, Malformed, Untrusted) as error:
        return _refuse(platform, partner, notice, proof, error.code)
    payment_id = new_id(platform)
    receipt = dataclasses.replace(
        build_receipt(platform, payment_id, partner, request, accepted, PaymentState.POSTED),
        payment_id=notice.payment_id,
    )
    try:
        with platform.database.write() as session:
            known = _known(platform, session, partner, notice, body_hash)
            if known is not None:
                return known
            require_bookable(session, notice.merchant, accepted.reference, accepted.verified.link)
            balance = load_balances(session, AccountKind.CLEARING, partner).get(notice.order.currency, 0)
            if notice.total_minor - balance > platform.config.clearing_minor_max:  # 6
                raise Declined("partner.limit", "you owe as much as this platform allows: settle first")
            answer = book(
                platform,
                session,
                payment_id=payment_id,
                payer_platform=partner,
                key=notice.payment_id,
                request=request,
                request_hash=body_hash,
                receipt=receipt,
                accepted=accepted,
                transfers=charge_transfers(accepted.charge),
            )
            session.add(PartnerWord(payment_id=payment_id, body=notice.encoded(), proof=proof))
            return answer
    except Declined as error:
        return _refuse(platform, partner, notice, proof, error.code)


def cancel_payment(platform: Platform, partner: bytes, notice: PartnerPayment, proof: str) -> PaymentAnswer:
    """What became of a partner's payment; one that was never taken never will be."""
    _require_addressed(platform, partner, notice)
    with platform.database.read() as session:
        known = _known(platform, session, partner, notice, sha256(notice.encoded()))
    return known if known is not None else _refuse(platform, partner, notice, proof, CANCELLED)


def _known(
    platform: Platform, session: Session, partner: bytes, notice: PartnerPayment, body_hash: bytes
) -> PaymentAnswer | None:
    return known_payment(session, platform.config.chain_id, partner, partner, notice.payment_id, body_hash)


def _request(notice: PartnerPayment) -> PaymentRequest:
    return PaymentRequest(
        merchant=notice.merchant,
        service=notice.service,
        platform=notice.platform,
        version=notice.version,
        commitment=notice.commitment,
        order=notice.order,
    )


def _refuse(platform: Platform, partner: bytes, notice: PartnerPayment, proof: str, why: str) -> PaymentAnswer:
    """A row of state `voided`, so that the notice is refused for ever, and the receipt that says so."""
    body_hash, now_ms, chain_id = sha256(notice.encoded()), platform.clock_ms(), platform.config.chain_id
    receipt = Receipt(
        payment_id=notice.payment_id,
        platform=platform.id,
        merchant=notice.merchant,
        record_platform=notice.platform,
        version=notice.version,
        commitment=notice.commitment,
        order=notice.order,
        fee_minor=notice.fee_minor,
        total_minor=notice.total_minor,
        state=PaymentState.VOIDED,
        time_ms=now_ms,
        account=partner,
        header_hash=bytes(32),  # none: nothing was established
        display_name="-",
    )
    if notice.order.amount_minor < 1:
        raise Declined("partner.amount", "the amount must be above zero", field="order.amount_minor")
    with platform.database.write() as session:
        known = known_payment(session, chain_id, partner, partner, notice.payment_id, body_hash)
        if known is not None:
            return known
        row = Payment(
            payment_id=new_id(platform),
            payer_platform=partner,
            record_platform=platform.id,
            account=partner,
            idempotency_key=notice.payment_id,
            request_hash=body_hash,
            merchant=notice.merchant,
            order_reference=None,
            currency=notice.order.currency,
            amount_minor=notice.order.amount_minor,
            tip_minor=notice.order.tip_minor,
            fee_minor=notice.fee_minor,
            kept_minor=0,
            state=int(PaymentState.VOIDED),
            refusal=why,
            expires_ms=None,
            receipt=sign_receipt(chain_id, receipt, platform.keys.receipt).encoded(),
            created_ms=now_ms,
        )
        session.add(row)
        session.flush()
        note_receipt(session, row.payment_id, row.receipt)
        session.add(PartnerWord(payment_id=row.payment_id, body=notice.encoded(), proof=proof))
        return answer_of(row, chain_id, is_new=True)


def take_refund(platform: Platform, partner: bytes, leaf: PlatformLeaf, signed: SignedRefund) -> RefundAnswer:
    """Pass a partner's refund on to the payer, once.

    1. A receipt key in the partner's proven leaf signed it, for a payment that this platform made by the partner's
    record. 2. One that was booked before gets the same answer. 3. The payment is posted (`Unreachable` while that is
    not known here). 4. Its parts are what this platform computes, and no more than is left. The answer is this
    platform's signed refund to the partner, without which the partner sends on.
    """
    refund = verify_refund(platform.config.chain_id, signed)  # 1
    leaf.require_key(Role.RECEIPT, signed.key, platform.clock_ms())
    if (refund.platform, refund.account) != (partner, platform.id):
        raise Untrusted("partner.refund", "the refund is of or to another platform", field="platform", status=403)
    body_hash = sha256(signed.body)
    with platform.database.write() as session:
        row = session.get(Payment, refund.payment_id)
        if row is None or row.payer_platform != platform.id or row.record_platform != partner:
            raise Declined("payment.unknown", "there is no such payment", status=404)
        known = session.get(RefundRow, refund.refund_id)  # 2
        if known is not None:
            if known.request_hash != body_hash:
                raise Declined("refund.key_reused", "this refund is known with another content")
            return _to_partner(platform, partner, answer_refund(platform, known, is_new=False))
        if row.state != PaymentState.POSTED:  # 3
            raise Unreachable("partner.not_posted", "the payment is not known here as posted yet: send it again")
        parts = refund_parts(paid_parts(row), refunded_parts(session, row), refund.amount_minor, refund.tip_minor)
        given = (refund.currency, refund.fee_minor, refund.total_minor)
        if given != (row.currency, parts.fee_minor, parts.total_minor):  # 4
            raise Declined("refund.differs", "the refund's parts are not the payment's", field="total_minor")
        clearing = Account(AccountKind.CLEARING, partner, row.currency)
        moved = transfer(clearing, payer_account(platform, row), parts.total_minor)
        post_journal(session, f"refund/{refund.refund_id}", (moved,), platform.clock_ms())
        answer = add_refund(
            platform, session, row, parts, refund.refund_id, refund.refund_id, body_hash, refund.reason, signed
        )
        return _to_partner(platform, partner, answer)


def _to_partner(platform: Platform, partner: bytes, answer: RefundAnswer) -> RefundAnswer:
    """The answer as the partner gets it: signed, with the partner as `account` in place of the payer."""
    refund = dataclasses.replace(answer.refund, account=partner)
    signed = sign_refund(platform.config.chain_id, refund, platform.keys.receipt)
    return RefundAnswer(refund, signed.encoded(), answer.is_new)
