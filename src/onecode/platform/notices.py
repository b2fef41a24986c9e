"""Notices on their way to partners: written with what they are about, sent until their fate is known.

Every notice can be sent any number of times: the partner takes a payment once, and says each time what became of it.
A notice that a partner never saw is dropped when its payment expires; after one that the partner may have seen, the
partner is asked to cancel, and until it has answered the payment's state is `unknown` and its money stays reserved.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from onecode.errors import Malformed, OnecodeError, Unreachable, Untrusted, json_object
from onecode.platform.booking import change_state, load_payment_row
from onecode.platform.context import Platform
from onecode.platform.partner_post import post_to_partner
from onecode.platform.schema import NoticeKind, NoticeRow, PartnerWord, Payment, SendState
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.record.notice import PartnerPayment
from onecode.record.receipt import (
    PaymentState,
    Receipt,
    Refund,
    SignedReceipt,
    SignedRefund,
    verify_receipt,
    verify_refund,
)
from onecode.schema import parse

PATHS = {
    NoticeKind.PAY: "/v1/partner/payments",
    NoticeKind.CANCEL: "/v1/partner/payments/cancel",
    NoticeKind.REFUND: "/v1/partner/refunds",
}
BATCH = 50
THREADS = 4
PAUSE_MS_MAX = 60_000


def add_notice(
    session: Session,
    kind: NoticeKind,
    partner: bytes,
    payment_id: str,
    body: bytes,
    now_ms: int,
    refund_id: str | None = None,
) -> int:
    """Add a notice in the caller's database transaction; returns its number."""
    row = NoticeRow(
        kind=kind,
        partner=partner,
        payment_id=payment_id,
        refund_id=refund_id,
        body=body,
        state=SendState.WAITING,
        sent=0,
        next_ms=now_ms,
        error=None,
        created_ms=now_ms,
    )
    session.add(row)
    session.flush()
    return row.id


def verify_partner_receipt(
    platform: Platform, notice: PartnerPayment, signed: SignedReceipt, leaf: PlatformLeaf
) -> Receipt:
    """The partner's word on a notice.

    1. A receipt key in the partner's proven leaf signed it. 2. It is to this platform, about this payment, 3. with the
    same record, order, fee and total. 4. It says that the payment is posted, or that it never will be.
    """
    receipt = verify_receipt(platform.config.chain_id, signed)  # 1
    leaf.require_key(Role.RECEIPT, signed.key, platform.clock_ms())
    named = (receipt.platform, receipt.account, receipt.payment_id)
    if named != (notice.platform, platform.id, notice.payment_id):  # 2
        raise Untrusted("partner.receipt_other", "the partner's receipt is about another payment", field="receipt")
    said = (
        receipt.merchant,
        receipt.record_platform,
        receipt.version,
        receipt.commitment,
        receipt.order,
        receipt.fee_minor,
        receipt.total_minor,
    )
    if said != (
        notice.merchant,
        notice.platform,
        notice.version,
        notice.commitment,
        notice.order,
        notice.fee_minor,
        notice.total_minor,
    ):  # 3
        raise Untrusted("partner.receipt_differs", "the partner's receipt is for another order", field="receipt")
    if receipt.state not in (PaymentState.POSTED, PaymentState.VOIDED):  # 4
        raise Untrusted("partner.receipt_state", "the partner's receipt is neither posted nor voided", field="receipt")
    return receipt


def verify_partner_refund(
    platform: Platform, told: Refund, partner: bytes, signed: SignedRefund, leaf: PlatformLeaf
) -> Refund:
    """The partner's word that it has passed a refund on to its payer. told: what this platform has sent.

    1. A receipt key in the partner's proven leaf signed it. 2. It is the partner's, to this platform, about this refund
    of this payment, 3. with the same merchant, record, currency and parts. Does NOT compare `refunded_minor`: the
    partner may have booked refunds in another order.
    """
    refund = verify_refund(platform.config.chain_id, signed)  # 1
    leaf.require_key(Role.RECEIPT, signed.key, platform.clock_ms())
    named = (refund.platform, refund.account, refund.payment_id, refund.refund_id)
    if named != (partner, platform.id, told.payment_id, told.refund_id):  # 2
        raise Untrusted("partner.refund_other", "the partner's refund is about another one", field="refund")
    if _refund_parts(refund) != _refund_parts(told):  # 3
        raise Untrusted("partner.refund_differs", "the partner's refund has other parts", field="refund")
    return refund


def _refund_parts(refund: Refund) -> tuple[object, ...]:
    parts = (refund.amount_minor, refund.tip_minor, refund.fee_minor, refund.total_minor)
    return (refund.merchant, refund.record_platform, refund.currency, *parts)


def _answer_bytes(answer: dict[str, Any], name: str) -> bytes | None:
    """A field of an answer that is bytes in hex."""
    try:
        return bytes.fromhex(answer[name])
    except (KeyError, TypeError, ValueError):
        return None


class NoticeSender:
    """Sends notices; one instance a platform, for any thread. A notice is sent by one thread at a time."""

    def __init__(self, platform: Platform, client: httpx.Client) -> None:
        """client: its timeout is set; it follows no redirects."""
        self._platform = platform
        self._client = client
        self._lock = threading.Lock()
        self._sending: set[int] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="notices")

    def drain(self) -> None:
        """Give up payments whose time has passed, and send every notice that is due."""
        self._expire()
        now_ms = self._platform.clock_ms()
        due = select(NoticeRow.id).where(NoticeRow.state == SendState.WAITING, NoticeRow.next_ms <= now_ms)
        with self._platform.database.read() as session:
            found = list(session.scalars(due.order_by(NoticeRow.next_ms).limit(BATCH)))
        list(self._threads.map(self._deliver_quietly, found))

    def close(self) -> None:
        """End after the notices at hand."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _deliver_quietly(self, notice_id: int) -> None:
        try:
            self.deliver(notice_id)
        except OnecodeError:  # kept in the notice's row, and tried again
            return

    def deliver(self, notice_id: int) -> None:
        """Send one notice once and act on the answer; raises `Unreachable` where there is none that counts."""
        with self._lock:
            if notice_id in self._sending:
                raise Unreachable("partner.busy", "the notice is being sent")
            self._sending.add(notice_id)
        try:
            row = self._taken(notice_id)
            if row is None:
                return
            try:
                self._settle(row, *self._post(row))
            except OnecodeError as error:
                self._failed(row, error)
                raise Unreachable("partner.unanswered", f"the partner has not answered: {error}") from error
        finally:
            with self._lock:
                self._sending.discard(notice_id)

    def _taken(self, notice_id: int) -> NoticeRow | None:
        """The notice, counted as sent before it leaves; None where it is settled."""
        config = self._platform.config
        with self._platform.database.write() as session:
            row = session.get_one(NoticeRow, notice_id)
            if row.state != SendState.WAITING:
                return None
            pause_ms = min(config.partner_retry_ms << min(row.sent, 16), max(PAUSE_MS_MAX, config.partner_retry_ms))
            row.sent += 1
            row.next_ms = self._platform.clock_ms() + pause_ms
            return row

    def _post(self, row: NoticeRow) -> tuple[PlatformLeaf, dict[str, Any]]:
        """The partner's proven leaf, and its answer to the notice."""
        platform = self._platform
        leaf = platform.chain.platform_leaf(row.partner)
        data = post_to_partner(platform, self._client, leaf, PATHS[NoticeKind(row.kind)], row.body)
        answer = json_object(data)
        if answer is None or leaf is None:
            raise Unreachable("partner.answer", "the partner's answer is no JSON object")
        return leaf, answer

    def _settle(self, row: NoticeRow, leaf: PlatformLeaf, answer: dict[str, Any]) -> None:
        if row.kind == NoticeKind.REFUND:
            self._settle_refund(row, leaf, answer)
            return
        raw = _answer_bytes(answer, "receipt")
        if raw is None:
            raise Malformed("partner.no_receipt", "the partner's answer holds no receipt", field="receipt")
        notice = parse(PartnerPayment, row.body, path="notice")
        signed = parse(SignedReceipt, raw, path="partner_receipt")
        receipt = verify_partner_receipt(self._platform, notice, signed, leaf)
        refusal = str(answer.get("refusal") or "partner")[:64]
        with self._platform.database.write() as session:
            fresh = session.get_one(NoticeRow, row.id)
            if fresh.state != SendState.WAITING:
                return
            fresh.state, fresh.error = SendState.DONE, None
            payment = load_payment_row(session, row.payment_id)
            session.add(PartnerWord(payment_id=row.payment_id, body=raw, proof=None))
            if receipt.state == PaymentState.POSTED:
                change_state(self._platform, session, payment, PaymentState.POSTED)
            else:
                payment.order_reference = None  # the order was not paid
                state = PaymentState.EXPIRED if row.kind == NoticeKind.CANCEL else PaymentState.VOIDED
                change_state(self._platform, session, payment, state, refusal)

    def _settle_refund(self, row: NoticeRow, leaf: PlatformLeaf, answer: dict[str, Any]) -> None:
        raw = _answer_bytes(answer, "refund")
        if raw is None:
            raise Malformed("partner.no_refund", "the partner's answer holds no signed refund", field="refund")
        told = verify_refund(self._platform.config.chain_id, parse(SignedRefund, row.body, path="refund"))
        verify_partner_refund(self._platform, told, row.partner, parse(SignedRefund, raw, path="partner_refund"), leaf)
        with self._platform.database.write() as session:
            fresh = session.get_one(NoticeRow, row.id)
            if fresh.state == SendState.WAITING:
                fresh.state, fresh.error = SendState.DONE, None

    def _failed(self, row: NoticeRow, error: OnecodeError) -> None:
        """Keep why, and give nothing up: problems are not signed. After a cancellation without an answer it is not
        known whether the partner took the payment.
        """
        with self._platform.database.write() as session:
            fresh = session.get_one(NoticeRow, row.id)
            if fresh.state != SendState.WAITING:
                return
            fresh.error = str(error)[:200]
            if row.kind == NoticeKind.CANCEL:
                payment = load_payment_row(session, row.payment_id)
                if payment.state == PaymentState.PENDING:
                    change_state(self._platform, session, payment, PaymentState.UNKNOWN, "partner_silent")

    def _expire(self) -> None:
        """Pending payments whose time has passed: given back where the notice never left, else to be cancelled."""
        now_ms = self._platform.clock_ms()
        late = select(Payment.payment_id).where(Payment.state == PaymentState.PENDING, Payment.expires_ms <= now_ms)
        with self._platform.database.read() as session:
            found = list(session.scalars(late.limit(BATCH)))
        for payment_id in found:
            with self._platform.database.write() as session:
                notice = session.scalars(
                    select(NoticeRow).where(NoticeRow.payment_id == payment_id, NoticeRow.refund_id.is_(None))
                ).one()
                if notice.state != SendState.WAITING or notice.kind == NoticeKind.CANCEL:
                    continue
                if notice.sent == 0:
                    notice.state = SendState.DONE
                    payment = load_payment_row(session, payment_id)
                    payment.order_reference = None
                    change_state(self._platform, session, payment, PaymentState.EXPIRED, "not_sent")
                else:
                    notice.kind, notice.next_ms = NoticeKind.CANCEL, now_ms


def load_notices(platform: Platform, state: str | None) -> list[NoticeRow]:
    """The newest 1,000 notices, of one state or all."""
    query = select(NoticeRow).order_by(NoticeRow.id.desc()).limit(1_000)
    with platform.database.read() as session:
        return list(session.scalars(query.where(NoticeRow.state == state) if state is not None else query))
