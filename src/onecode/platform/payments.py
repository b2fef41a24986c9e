"""Taking a payment: everything is checked against the chain and the record, then booked once.

Booking, receipt, till event and evidence are one database transaction: a crash leaves all of a payment or nothing, and
the same idempotency key then gives the same receipt.
"""

from __future__ import annotations

from sqlalchemy import select

from onecode.errors import Declined, Malformed
from onecode.platform.booking import (
    PaymentAnswer,
    answer_of,
    book,
    build_receipt,
    change_state,
    known_payment,
    load_payment_row,
    new_id,
    request_hash_of,
)
from onecode.platform.books import AccountKind, charge_transfers
from onecode.platform.context import Platform
from onecode.platform.notices import NoticeSender
from onecode.platform.partner_payments import pay_partner
from onecode.platform.records import accept_own, require_bookable
from onecode.platform.schema import NoticeRow, Payment, RefundRow, SendState
from onecode.query.messages import Credential
from onecode.record.receipt import PaymentRequest, PaymentState

KEY_CHARS_MAX = 64


def require_key(key: str | None) -> str:
    """The idempotency key: 1 to 64 printable ASCII characters."""
    if key is None or not 1 <= len(key) <= KEY_CHARS_MAX or not (key.isascii() and key.isprintable()):
        raise Malformed(
            "payment.key", "give a header Idempotency-Key of 1 to 64 printable characters", field="idempotency-key"
        )
    return key


def pay(
    platform: Platform, sender: NoticeSender, credential: Credential, key: str, request: PaymentRequest
) -> PaymentAnswer:
    """Book a payment of the device's account, once for each key; the request is the device's and was verified.

    1. A key that was used before gives its payment again, for the same request only. 2. A record of another platform
    is paid through that partner (`pay_partner`). 3. to 7. The platform's own record is accepted (`accept_own`). 8. No
    withdrawal was asked for, the reference of a dynamic code is unused, the balance suffices; all of it is booked.
    """
    request_hash = request_hash_of(request)
    chain_id, account = platform.config.chain_id, credential.account
    with platform.database.read() as session:  # 1
        known = known_payment(session, chain_id, platform.id, account, key, request_hash)
    if known is not None:
        return known
    if request.platform != platform.id:  # 2
        return pay_partner(platform, sender, account, key, request)
    accepted = accept_own(platform, request, account, AccountKind.PAYER)  # 3 to 7
    payment_id = new_id(platform)
    receipt = build_receipt(platform, payment_id, account, request, accepted, PaymentState.POSTED)
    with platform.database.write() as session:  # 8
        known = known_payment(session, chain_id, platform.id, account, key, request_hash)
        if known is not None:  # the same request came twice at once
            return known
        require_bookable(session, request.merchant, accepted.reference, accepted.verified.link)
        return book(
            platform,
            session,
            payment_id=payment_id,
            payer_platform=platform.id,
            key=key,
            request=request,
            request_hash=request_hash,
            receipt=receipt,
            accepted=accepted,
            transfers=charge_transfers(accepted.charge),
        )


def void_payment(platform: Platform, payment_id: str) -> PaymentAnswer:
    """Take a payment back in full; its receipt becomes one of state `voided`.

    A posted payment of an own payer to an own merchant, from which nothing was refunded; or a payment by a partner's
    record of which nobody knows whether the partner took it: the operator answers for having asked the partner.
    """
    with platform.database.write() as session:
        row = load_payment_row(session, payment_id)
        state = PaymentState(row.state)
        if state in (PaymentState.VOIDED, PaymentState.EXPIRED):
            return answer_of(row, platform.config.chain_id, is_new=False)
        if row.payer_platform != platform.id or (row.record_platform != platform.id and state != PaymentState.UNKNOWN):
            raise Declined("payment.void_partner", "the payment is shared with a partner: it is refunded, not voided")
        if session.scalar(select(RefundRow.refund_id).where(RefundRow.payment_id == payment_id).limit(1)) is not None:
            raise Declined("payment.refunded", "a part was refunded already: refund the rest")
        for notice in session.scalars(select(NoticeRow).where(NoticeRow.payment_id == payment_id)):
            notice.state = SendState.DONE
        return change_state(platform, session, row, PaymentState.VOIDED, "operator")


def load_payment(
    platform: Platform, account: bytes, *, payment_id: str | None = None, key: str | None = None
) -> PaymentAnswer:
    """A payment of this account by its id or its idempotency key; `Declined` where it has none such."""
    query = select(Payment).where(Payment.payer_platform == platform.id, Payment.account == account)
    query = (
        query.where(Payment.payment_id == payment_id) if key is None else query.where(Payment.idempotency_key == key)
    )
    with platform.database.read() as session:
        row = session.scalars(query).first()
        if row is None:
            raise Declined("payment.unknown", "there is no such payment", status=404)
        return answer_of(row, platform.config.chain_id, is_new=False)
