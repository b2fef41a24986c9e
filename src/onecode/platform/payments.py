"""Taking a payment: everything is checked against the chain and the platform's own record, then booked once.

Booking, receipt, till event and evidence are one database transaction: a crash leaves all of a payment or nothing, and
the same idempotency key then gives the same receipt.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecode.errors import Declined, Malformed, Untrusted
from onecode.platform.books import Charge, charge_transfers, reversed_transfers
from onecode.platform.chain import MerchantView
from onecode.platform.context import Platform
from onecode.platform.ledger import journal_transfers, post_journal
from onecode.platform.orders import price_order, verify_code_order
from onecode.platform.schema import Event, Evidence, Payment, RecordRow, RecordState
from onecode.proof.leaves import Link
from onecode.query.messages import Credential
from onecode.query.verify import VerifiedRecord, VerifiedState, verify_record
from onecode.record.payment import SERVICE_PAY, parse_terms
from onecode.record.receipt import PaymentRequest, PaymentState, Receipt, SignedReceipt, sign_receipt, verify_receipt
from onecode.schema import parse, to_plain
from onecode.wire import sha256

PAYMENT_ID_BYTES = 16
KEY_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class PaymentAnswer:
    """A payment as its payer sees it. is_new: booked by this request."""

    payment_id: str
    state: PaymentState
    receipt: Receipt
    signed: bytes
    is_new: bool


def require_key(key: str | None) -> str:
    """The idempotency key: 1 to 64 printable ASCII characters."""
    if key is None or not 1 <= len(key) <= KEY_CHARS_MAX or not (key.isascii() and key.isprintable()):
        raise Malformed(
            "payment.key", "give a header Idempotency-Key of 1 to 64 printable characters", field="idempotency-key"
        )
    return key


def pay(platform: Platform, credential: Credential, key: str, request: PaymentRequest) -> PaymentAnswer:
    """Book a payment of the device's account, once for each key; the request is the device's and was verified.

    1. A key that was used before gives its payment again, for the same request only. 2. The record is this platform's.
    3. Merchant entry, links and platforms are proven by the platform's own node under a fresh header, and the merchant
    is not frozen. 4. The platform is active and its link live; version and commitment are the link's. 5. The platform's
    own copy is exactly the record that the link commits to, and within its validity window. 6. The order fits its
    terms (`price_order`). 7. A dynamic code says the same, and its reference is unused. 8. The balance suffices; all of
    it is booked.
    """
    request_hash = sha256(request.encoded())
    with platform.database.read() as session:  # 1
        known = _known(session, platform.config.chain_id, credential.account, key, request_hash)
    if known is not None:
        return known
    if request.platform != platform.id or request.service != SERVICE_PAY:  # 2
        raise Declined(
            "payment.platform", "this platform pays by its own records of the service `pay`", field="platform"
        )
    view = platform.chain.fetch_merchant(request.merchant, request.service)  # 3
    if view.state is None:
        raise view.absence or Declined("payment.link", "the merchant has no live record here", field="merchant")
    link = _require_link(platform, view.state, request)  # 4
    verified = _own_record(platform, view.state, link)  # 5
    terms = parse_terms(verified.record.terms)
    charge, _ = price_order(  # 6
        request.order,
        terms,
        payer=credential.account,
        merchant=request.merchant,
        merchant_fee_hundredths_percent=platform.config.merchant_fee_hundredths_percent,
        payment_minor_max=platform.config.payment_minor_max,
    )
    reference = None
    if request.order.code is not None:  # 7
        reference = verify_code_order(
            request.order,
            request.order.code,
            request.merchant,
            view.state.entry,
            platform.config.chain_id,
            view.header.signed_ms,
            platform.clock_ms(),
        ).reference
    receipt = _receipt(platform, credential, request, charge, verified)
    with platform.database.write() as session:  # 8
        known = _known(session, platform.config.chain_id, credential.account, key, request_hash)
        if known is not None:  # the same request came twice at once
            return known
        _require_payable(session, request)
        _require_unused(session, request.merchant, reference)
        return _book(platform, session, key, request, charge, receipt, reference, view, verified)


def _known(session: Session, chain_id: str, account: bytes, key: str, request_hash: bytes) -> PaymentAnswer | None:
    row = session.scalars(select(Payment).where(Payment.account == account, Payment.idempotency_key == key)).first()
    if row is None:
        return None
    if row.request_hash != request_hash:
        raise Declined("payment.key_reused", "this idempotency key was used for another payment; take a new one")
    return _answer(row, chain_id, is_new=False)


def _answer(row: Payment, chain_id: str, *, is_new: bool) -> PaymentAnswer:
    receipt = verify_receipt(chain_id, parse(SignedReceipt, row.receipt, path="receipt"))
    return PaymentAnswer(row.payment_id, PaymentState(row.state), receipt, row.receipt, is_new)


def _require_link(platform: Platform, state: VerifiedState, request: PaymentRequest) -> Link:
    """Step 4. A link that is listed is live: withdrawing and unlinking delete it."""
    link = state.link_of(platform.id)
    if link is None:
        raise Declined("payment.link", "the merchant has no live record here", field="merchant")
    if not state.platforms[platform.id].active_at(state.header.signed_ms):
        raise Declined("payment.suspended", "this platform is suspended and takes no payments")
    if link.version != request.version:
        raise Declined(
            "payment.version", "the record has another version now: look the merchant up again", field="version"
        )
    if link.commitment != request.commitment:
        raise Declined("payment.commitment", "the record is not the one on the chain: do not pay", field="commitment")
    return link


def _own_record(platform: Platform, state: VerifiedState, link: Link) -> VerifiedRecord:
    """Step 5."""
    with platform.database.read() as session:
        row = session.get(RecordRow, (state.merchant, state.service, link.version))
    if row is None or row.commitment != link.commitment:
        raise Declined("payment.record", "the record on the chain is not one that this platform made: do not pay")
    try:
        return verify_record(state, platform.config.chain_id, link, row.signed_record, platform.clock_ms())
    except Untrusted as error:  # the platform's fault, not the payer's; a revoked record key, for example
        raise Declined("payment.record", f"the record cannot be paid now: {error.message} [{error.code}]") from error


def _require_payable(session: Session, request: PaymentRequest) -> None:
    """A withdrawal counts from the moment it is asked for, before the chain has it."""
    row = session.get(RecordRow, (request.merchant, request.service, request.version))
    if row is None or row.state not in (RecordState.PUBLISHING, RecordState.LIVE, RecordState.FAILED):
        raise Declined("payment.link", "the merchant has no live record here", field="merchant")


def _require_unused(session: Session, merchant: bytes, reference: str | None) -> None:
    """Step 7: a signed order is paid once here. Another platform cannot know (docs/threat-model.md)."""
    if reference is None:
        return
    used = select(Payment.payment_id).where(Payment.merchant == merchant, Payment.order_reference == reference)
    if session.scalar(used) is not None:
        raise Declined(
            "payment.reference_used", "this order has been paid; ask for a new code", field="order.reference"
        )


def _receipt(
    platform: Platform, credential: Credential, request: PaymentRequest, charge: Charge, verified: VerifiedRecord
) -> Receipt:
    return Receipt(
        payment_id=platform.entropy(PAYMENT_ID_BYTES).hex(),
        platform=platform.id,
        merchant=request.merchant,
        record_platform=verified.link.platform,
        version=request.version,
        commitment=request.commitment,
        order=request.order,
        fee_minor=charge.fee_minor,
        total_minor=charge.total_minor,
        state=PaymentState.POSTED,
        time_ms=platform.clock_ms(),
        account=credential.account,
        header_hash=verified.state.header.header_hash,
        display_name=verified.record.display_name,
    )


def _book(
    platform: Platform,
    session: Session,
    key: str,
    request: PaymentRequest,
    charge: Charge,
    receipt: Receipt,
    reference: str | None,
    view: MerchantView,
    verified: VerifiedRecord,
) -> PaymentAnswer:
    """Step 8: books, payment, evidence and event, all in the caller's transaction."""
    signed = sign_receipt(platform.config.chain_id, receipt, platform.keys.receipt).encoded()
    post_journal(session, f"payment/{receipt.payment_id}", charge_transfers(charge), receipt.time_ms)
    row = Payment(
        payment_id=receipt.payment_id,
        account=receipt.account,
        idempotency_key=key,
        request_hash=sha256(request.encoded()),
        merchant=request.merchant,
        order_reference=reference,
        state=int(receipt.state),
        receipt=signed,
        created_ms=receipt.time_ms,
    )
    session.add(row)
    session.flush()
    session.add(
        Evidence(
            payment_id=receipt.payment_id,
            request=request.encoded(),
            view=view.raw,
            signed_record=verified.signed.encoded(),
            receipt=signed,
        )
    )
    _announce(session, receipt)
    return PaymentAnswer(receipt.payment_id, receipt.state, receipt, signed, True)


def _announce(session: Session, receipt: Receipt) -> None:
    """Tell the till: what was paid for, never by whom."""
    order = {name: value for name, value in to_plain(receipt.order).items() if name != "code"}
    body = {
        "type": f"payment.{receipt.state.name.lower()}",
        "payment_id": receipt.payment_id,
        "order": order,
        "fee_minor": receipt.fee_minor,
        "total_minor": receipt.total_minor,
        "time_ms": receipt.time_ms,
    }
    session.add(Event(merchant=receipt.merchant, body=json.dumps(body, ensure_ascii=False, sort_keys=True)))


def void_payment(platform: Platform, payment_id: str) -> PaymentAnswer:
    """Take a posted payment back in full: a refund. The payer's receipt becomes one of state `voided`."""
    chain_id = platform.config.chain_id
    with platform.database.write() as session:
        row = session.get(Payment, payment_id)
        if row is None:
            raise Declined("payment.unknown", "there is no such payment", status=404)
        answer = _answer(row, chain_id, is_new=False)
        if answer.state == PaymentState.VOIDED:
            return answer
        now_ms = platform.clock_ms()
        transfers = journal_transfers(session, f"payment/{payment_id}")
        post_journal(session, f"void/{payment_id}", reversed_transfers(transfers), now_ms)
        receipt = dataclasses.replace(answer.receipt, state=PaymentState.VOIDED, time_ms=now_ms)
        row.state, row.receipt = int(receipt.state), sign_receipt(chain_id, receipt, platform.keys.receipt).encoded()
        _announce(session, receipt)
        return PaymentAnswer(payment_id, receipt.state, receipt, row.receipt, True)


def load_payment(
    platform: Platform, account: bytes, *, payment_id: str | None = None, key: str | None = None
) -> PaymentAnswer:
    """A payment of this account by its id or its idempotency key; `Declined` where it has none such."""
    query = select(Payment).where(Payment.account == account)
    query = (
        query.where(Payment.payment_id == payment_id) if key is None else query.where(Payment.idempotency_key == key)
    )
    with platform.database.read() as session:
        row = session.scalars(query).first()
        if row is None:
            raise Declined("payment.unknown", "there is no such payment", status=404)
        return _answer(row, platform.config.chain_id, is_new=False)
