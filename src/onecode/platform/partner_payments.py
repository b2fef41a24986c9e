"""Paying by a partner's record: the payer's money is owed to the partner, and the partner pays its merchant.

The payment is pending until the partner has signed that it took it; docs/spec/platform.md, "Partners", has the states.
"""

from __future__ import annotations

from onecode.errors import Declined, Unreachable
from onecode.platform.booking import (
    PaymentAnswer,
    answer_of,
    book,
    build_receipt,
    known_payment,
    load_payment_row,
    new_id,
    request_hash_of,
)
from onecode.platform.books import AccountKind, clearing_transfers
from onecode.platform.context import Platform
from onecode.platform.notices import NoticeSender, add_notice
from onecode.platform.partner_records import fetch_partner_record
from onecode.platform.records import Accepted, price_request, proven_state, require_bookable, require_link
from onecode.platform.schema import NoticeKind
from onecode.record.notice import PartnerPayment
from onecode.record.receipt import PaymentRequest, PaymentState, Receipt


def accept_partner(platform: Platform, request: PaymentRequest, payer: bytes) -> Accepted:
    """A payment by the record of a partner.

    1. The operator clears with that platform. 2. Merchant entry, links and platforms are proven by the platform's own
    node under a fresh header, and the merchant is not frozen. 3. The partner is active, its link live and for this
    platform's payers; version and commitment are the link's. 4. This platform has no live record of its own. 5. An
    enclave opened exactly the record that the link commits to; it is signed by the partner and within its validity
    window. 6. The order fits its terms. 7. A dynamic code says the same.
    """
    if request.platform not in platform.config.partners:  # 1
        raise Declined(
            "payment.platform", "this platform pays by its own records and those of its partners", field="platform"
        )
    view, state = proven_state(platform, request)  # 2
    link = state.link_of(request.platform)  # 3
    if link is None:
        raise Declined("payment.link", "the merchant has no live record there", field="merchant")
    if not state.platforms[request.platform].active_at(state.header.signed_ms):
        raise Declined("payment.suspended", "that platform is suspended and takes no payments")
    if not link.readable_by(platform.id):
        raise Declined("payment.audience", "the record is not for payers of this platform", field="platform")
    require_link(link, request)
    if state.link_of(platform.id) is not None:  # 4
        raise Declined("payment.own_record", "this platform has a record of its own: pay by that", field="platform")
    verified = fetch_partner_record(platform, state, link)  # 5
    charge, reference = price_request(platform, request, view, verified, payer, AccountKind.PAYER, 0)  # 6, 7
    return Accepted(view, verified, charge, reference, None)


def pay_partner(
    platform: Platform, sender: NoticeSender, account: bytes, key: str, request: PaymentRequest
) -> PaymentAnswer:
    """Book a payment by a partner's record as pending, with the notice to the partner, and tell the partner at once.

    Where the partner does not answer now, the payment stays pending and the notice is sent again later.
    """
    accepted = accept_partner(platform, request, account)
    request_hash, payment_id = request_hash_of(request), new_id(platform)
    receipt = build_receipt(platform, payment_id, account, request, accepted, PaymentState.PENDING)
    expires_ms = receipt.time_ms + platform.config.partner_pending_ms
    with platform.database.write() as session:
        known = known_payment(session, platform.config.chain_id, platform.id, account, key, request_hash)
        if known is not None:
            return known
        require_bookable(session, request.merchant, accepted.reference, None)
        answer = book(
            platform,
            session,
            payment_id=payment_id,
            payer_platform=platform.id,
            key=key,
            request=request,
            request_hash=request_hash,
            receipt=receipt,
            accepted=accepted,
            transfers=clearing_transfers(accepted.charge, request.platform),
            expires_ms=expires_ms,
        )
        body = build_notice(platform, receipt, expires_ms).encoded()
        notice = add_notice(session, NoticeKind.PAY, request.platform, payment_id, body, receipt.time_ms)
    try:
        sender.deliver(notice)
    except Unreachable:
        return answer
    with platform.database.read() as session:
        return answer_of(load_payment_row(session, payment_id), platform.config.chain_id, is_new=True)


def build_notice(platform: Platform, receipt: Receipt, expires_ms: int) -> PartnerPayment:
    """What the partner is told: all of the order, nothing of the payer."""
    return PartnerPayment(
        payment_id=receipt.payment_id,
        payer_platform=platform.id,
        platform=receipt.record_platform,
        merchant=receipt.merchant,
        service="pay",
        version=receipt.version,
        commitment=receipt.commitment,
        order=receipt.order,
        fee_minor=receipt.fee_minor,
        total_minor=receipt.total_minor,
        time_ms=receipt.time_ms,
        expires_ms=expires_ms,
    )
