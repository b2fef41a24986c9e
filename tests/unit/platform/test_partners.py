"""Two platforms over real HTTP: one's payers pay by the other's record, whatever gets lost between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from onecode.host.clock import now_ms
from onecode.platform.partner_payments import build_notice
from onecode.platform.schema import NoticeKind, NoticeRow, PartnerRecord, RecordRow
from onecode.proof.leaves import Role
from onecode.query.requests import MEMBER_HEADER, member_header
from onecode.record.notice import PartnerPayment
from onecode.record.receipt import (
    PaymentRequest,
    PaymentState,
    SignedReceipt,
    SignedRefund,
    verify_receipt,
    verify_refund,
)
from onecode.schema import parse
from unit.platform.test_payments import code_of
from unit.platform.test_refunds import refund
from unit.platform.world import CHAIN_ID, OPENING, Keys, Merchant, Node, Payer, Server

pytestmark = pytest.mark.clock

PARTNER_PATH = "/v1/partner/payments"


class Road(httpx.BaseTransport):
    """The way to a partner: requests can be lost on it, or their answers."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.is_down, self.is_losing, self.sent = False, False, 0
        self.said: httpx.Response | None = None  # instead of what the partner says

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            raise httpx.ConnectError("down", request=request)
        if self.said is not None:
            return self.said
        response = self._inner.handle_request(request)
        self.sent += 1
        if self.is_losing:
            response.read()
            raise httpx.ReadTimeout("lost", request=request)
        return response


class Pair:
    """Alpha, whose payer pays, and beta, whose record is paid. They clear with each other."""

    def __init__(self, node: Node, keys: list[Keys], directory: Path) -> None:
        self.ahead_ms = 0
        self.servers = []
        for own, other in ((keys[0], keys[1]), (keys[1], keys[0])):
            (directory / own.name).mkdir()
            config = own.config(
                directory / own.name,
                node.url,
                port=own.port,
                partners=[other.id.hex()],
                partner_retry_ms=10,
                partner_pending_ms=20_000,
                partner_timeout_ms=5_000,
                clearing_minor_max=60_000,
                header_age_ms_max=3_600_000,
            )
            self.servers.append(Server(config, lambda: now_ms() + self.ahead_ms))
        self.alpha, self.beta = self.servers
        self.road, self.way_back = Road(), Road()
        for server, road in ((self.alpha, self.road), (self.beta, self.way_back)):
            notices: Any = server.notices
            notices._client = httpx.Client(transport=road, timeout=5)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def merchant(self, **changes: Any) -> Merchant:
        """One with a record of beta's for alpha's payers, which alpha's enclave has opened before."""
        audience = changes.pop("audience", [self.alpha.platform.id.hex()])
        merchant = self.beta.live_merchant(audience=audience, **changes)
        with self.beta.platform.database.read() as session:
            row = session.get_one(RecordRow, (merchant.id, "pay", 1))
        with self.alpha.platform.database.write() as session:
            session.merge(PartnerRecord(commitment=row.commitment, signed_record=row.signed_record))
        return merchant

    def request(self, payer: Payer, merchant: Merchant, **order: Any) -> PaymentRequest:
        """By beta's record: what a wallet of alpha would send."""
        payer.server = self.beta
        try:
            return payer.request(merchant, **order)
        finally:
            payer.server = self.alpha

    def clearing(self, server: Server) -> int:
        rows = server.operator("GET", "/v1/books").json()
        assert {row["total_minor"] for row in rows["totals"]} <= {0}
        return sum(row["balance_minor"] for row in rows["balances"] if row["kind"] == "clearing")

    def till(self, merchant: Merchant) -> list[dict[str, Any]]:
        headers = {"authorization": f"Bearer {merchant.till}"}  # type: ignore[attr-defined]
        path = f"/v1/merchants/{merchant.id.hex()}/events?wait_ms=0"
        return list(self.beta.http.get(path, headers=headers).json())

    def state(self, payer: Payer, key: str) -> str:
        return str(self.payment(payer, key)["state"])

    def payment(self, payer: Payer, key: str) -> dict[str, Any]:
        """An own payment, asked for at the platforms' time."""
        path = f"/v1/payments?idempotency_key={key}"
        answer = payer.send("GET", path, at_ms=now_ms() + self.ahead_ms)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def balance(self, payer: Payer) -> int:
        balances = payer.send("GET", "/v1/account", at_ms=now_ms() + self.ahead_ms).json()["balances"]
        return int(next(row["balance_minor"] for row in balances if row["currency"] == "EUR"))


@pytest.fixture
def pair(node: Node, keys: list[Keys], tmp_path: Path) -> Iterator[Pair]:
    made = Pair(node, keys, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def alpha_payer(pair: Pair) -> Payer:
    return Payer(pair.alpha)


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (200, b'{"a":' * 10_000, "partner.answer"),
        (200, b"[]", "partner.answer"),
        (409, b'{"a":' * 10_000, "http.status"),
        (409, b"[]", "http.status"),
    ],
)
def test_a_partners_nonsense_leaves_the_payment_pending(
    pair: Pair, alpha_payer: Payer, status: int, content: bytes, code: str
) -> None:
    pair.road.said = httpx.Response(status, content=content)
    answer = alpha_payer.pay(pair.request(alpha_payer, pair.merchant()), "k")
    assert (answer.status_code, answer.json()["state"]) == (201, "pending")
    (notice,) = pair.alpha.operator("GET", "/v1/notices").json()
    assert code in notice["error"]
    pair.road.said = None
    pair.ahead_ms += 1_000
    pair.alpha.notices.drain()
    assert pair.state(alpha_payer, "k") == "posted"


def test_a_partners_record_is_paid_through_clearing(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    request = pair.request(alpha_payer, merchant, tip_minor=100, note="table 4")
    response = alpha_payer.pay(request, "k")
    assert response.status_code == 201, response.text
    answer = response.json()
    receipt = verify_receipt(CHAIN_ID, parse(SignedReceipt, bytes.fromhex(answer["receipt"])))
    assert (receipt.state, receipt.total_minor) == (PaymentState.POSTED, 1_350)
    assert (receipt.platform, receipt.record_platform) == (pair.alpha.platform.id, pair.beta.platform.id)
    assert answer["record_platform"] == pair.beta.platform.id.hex()
    assert pair.balance(alpha_payer) == OPENING["EUR"] - 1_350
    assert (pair.clearing(pair.alpha), pair.clearing(pair.beta)) == (1_350, -1_350)
    events = pair.till(merchant)
    assert [(event["type"], event["total_minor"]) for event in events] == [("payment.posted", 1_350)]
    assert events[0]["payer_platform"] == pair.alpha.platform.id.hex()
    assert alpha_payer.account not in str(events)
    again = alpha_payer.pay(request, "k")
    assert (again.status_code, again.json()["receipt"]) == (200, answer["receipt"])
    assert pair.road.sent == 1


def test_without_an_enclave_a_record_that_was_never_opened_is_not_paid(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    with pair.alpha.platform.database.write() as session:
        for row in session.query(PartnerRecord):
            session.delete(row)
    assert code_of(alpha_payer.pay(pair.request(alpha_payer, merchant))) == (503, "chain.no_enclave")
    assert pair.balance(alpha_payer) == OPENING["EUR"]


def test_a_wrong_copy_of_a_partners_record_pays_nobody(pair: Pair, alpha_payer: Payer) -> None:
    merchant, other = pair.merchant(), pair.merchant(display_name="Thief")
    request = pair.request(alpha_payer, merchant)
    with pair.alpha.platform.database.write() as session:
        theirs = session.get_one(PartnerRecord, pair.request(alpha_payer, other).commitment).signed_record
        session.merge(PartnerRecord(commitment=request.commitment, signed_record=theirs))
    assert code_of(alpha_payer.pay(request)) == (409, "partner.record")


def test_a_record_for_others_is_not_paid(pair: Pair, alpha_payer: Payer, keys: list[Keys]) -> None:
    for audience in ([], [keys[2].id.hex()]):
        merchant = pair.merchant(audience=audience)
        assert code_of(alpha_payer.pay(pair.request(alpha_payer, merchant))) == (409, "payment.audience")


def test_an_own_record_comes_first_and_strangers_are_not_paid(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    request = pair.request(alpha_payer, merchant)
    assert code_of(alpha_payer.pay(dataclasses.replace(request, platform=bytes(20)))) == (409, "payment.platform")
    assert code_of(alpha_payer.pay(dataclasses.replace(request, version=2))) == (409, "payment.version")
    pair.alpha.live_merchant(merchant)
    assert code_of(alpha_payer.pay(request)) == (409, "payment.own_record")
    assert pair.balance(alpha_payer) == OPENING["EUR"]


def test_a_partner_that_is_away_leaves_the_payment_pending(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    request = pair.request(alpha_payer, merchant)
    pair.road.is_down = True
    pending = alpha_payer.pay(request, "k")
    assert (pending.status_code, pending.json()["state"]) == (201, "pending")
    assert pair.balance(alpha_payer) == OPENING["EUR"] - 1_250  # reserved
    pair.ahead_ms += 1_000
    pair.road.is_down = False
    pair.alpha.notices.drain()
    assert pair.state(alpha_payer, "k") == "posted"
    assert len(pair.till(merchant)) == 1


def test_a_lost_answer_books_nothing_twice(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    pair.road.is_losing = True
    assert alpha_payer.pay(pair.request(alpha_payer, merchant), "k").json()["state"] == "pending"
    assert len(pair.till(merchant)) == 1  # the partner has it
    pair.road.is_losing = False
    pair.ahead_ms += 1_000
    pair.alpha.notices.drain()
    assert pair.state(alpha_payer, "k") == "posted"
    assert (len(pair.till(merchant)), pair.clearing(pair.alpha), pair.clearing(pair.beta)) == (1, 1_250, -1_250)


def test_what_the_partner_never_heard_of_expires_and_the_money_is_back(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    request = pair.request(alpha_payer, merchant)
    pair.road.is_down = True
    assert alpha_payer.pay(request, "k").json()["state"] == "pending"
    pair.ahead_ms += 21_000
    pair.alpha.notices.drain()  # the notice was sent once and lost: whether the partner has it is not known
    assert pair.state(alpha_payer, "k") == "unknown"
    assert pair.balance(alpha_payer) == OPENING["EUR"] - 1_250
    pair.road.is_down = False
    pair.ahead_ms += 120_000
    pair.alpha.notices.drain()
    assert pair.state(alpha_payer, "k") == "expired"
    assert (pair.balance(alpha_payer), pair.till(merchant)) == (OPENING["EUR"], [])
    assert pair.payment(alpha_payer, "k")["refusal"] == "cancelled"


def test_a_cancelled_payment_is_refused_for_ever(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    pair.road.is_down = True
    alpha_payer.pay(pair.request(alpha_payer, merchant), "k")
    with pair.alpha.platform.database.read() as session:
        body = session.query(NoticeRow).one().body
    pair.road.is_down = False
    assert member_post(pair, body, f"{PARTNER_PATH}/cancel").json()["state"] == "voided"
    late = member_post(pair, body)
    assert (late.status_code, late.json()["state"], late.json()["refusal"]) == (200, "voided", "cancelled")
    pair.ahead_ms += 1_000
    pair.alpha.notices.drain()
    assert pair.state(alpha_payer, "k") == "voided"
    assert (pair.balance(alpha_payer), pair.till(merchant)) == (OPENING["EUR"], [])


def test_what_the_partner_took_is_posted_though_it_was_to_be_cancelled(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    pair.road.is_losing = True
    alpha_payer.pay(pair.request(alpha_payer, merchant), "k")
    pair.ahead_ms += 21_000
    pair.alpha.notices.drain()
    assert pair.state(alpha_payer, "k") == "unknown"
    pair.road.is_losing = False
    pair.ahead_ms += 120_000
    pair.alpha.notices.drain()
    assert pair.state(alpha_payer, "k") == "posted"
    assert (pair.clearing(pair.alpha), pair.clearing(pair.beta), len(pair.till(merchant))) == (1_250, -1_250, 1)


def test_an_operator_settles_what_stays_unknown(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    pair.road.is_down = True
    payment = alpha_payer.pay(pair.request(alpha_payer, merchant), "k").json()["payment_id"]
    void = f"/v1/payments/{payment}/void"
    assert code_of(pair.alpha.operator("POST", void)) == (409, "payment.void_partner")
    pair.ahead_ms += 21_000
    pair.alpha.notices.drain()
    assert [row["kind"] for row in pair.alpha.operator("GET", "/v1/notices?state=waiting").json()] == ["cancel"]
    assert pair.alpha.operator("POST", void).json()["state"] == "voided"
    assert pair.balance(alpha_payer) == OPENING["EUR"]
    assert pair.alpha.operator("GET", "/v1/notices?state=waiting").json() == []


def test_a_partner_that_refuses_gives_the_money_back(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    first = alpha_payer.pay(pair.request(alpha_payer, merchant, amount_minor=40_000)).json()
    assert first["state"] == "posted"
    refused = alpha_payer.pay(pair.request(alpha_payer, merchant, amount_minor=30_000), "much").json()
    assert (refused["state"], refused["refusal"]) == ("voided", "partner.limit")
    assert pair.balance(alpha_payer) == OPENING["EUR"] - 40_000
    assert len(pair.till(merchant)) == 1


def test_a_signed_order_that_the_partner_refused_can_be_paid_again(pair: Pair, alpha_payer: Payer, node: Node) -> None:
    merchant = pair.merchant()
    merchant.set_order_key(node)
    code = merchant.code(50_000, "INV-9")
    said = {"amount_minor": 50_000, "reference": "INV-9", "code": code}
    assert alpha_payer.pay(pair.request(alpha_payer, merchant, amount_minor=20_000)).json()["state"] == "posted"
    request = pair.request(alpha_payer, merchant, **said)
    assert alpha_payer.pay(request, "one").json()["refusal"] == "partner.limit"
    smaller = {"amount_minor": 30_000, "reference": "INV-9", "code": merchant.code(30_000, "INV-9")}
    assert alpha_payer.pay(pair.request(alpha_payer, merchant, **smaller), "two").json()["state"] == "posted"
    assert code_of(alpha_payer.pay(pair.request(alpha_payer, merchant, **smaller), "three")) == (
        409,
        "payment.reference_used",
    )


# --- refunds of partners' payments


def test_a_refund_reaches_the_partners_payer(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    paid = alpha_payer.pay(pair.request(alpha_payer, merchant)).json()["payment_id"]
    theirs = pair.till(merchant)[0]["payment_id"]
    assert code_of(refund(pair.alpha, paid, "k", amount_minor=1)) == (409, "refund.partner")
    pair.way_back.is_losing = True
    assert refund(pair.beta, theirs, "k", amount_minor=250).status_code == 201
    pair.beta.notices.drain()
    assert pair.way_back.sent == 1
    pair.way_back.is_losing = False
    pair.ahead_ms += 1_000
    pair.beta.notices.drain()  # sent again; taken once
    assert pair.balance(alpha_payer) == OPENING["EUR"] - 1_000
    assert (pair.clearing(pair.alpha), pair.clearing(pair.beta)) == (1_000, -1_000)
    (row,) = alpha_payer.send("GET", f"/v1/payments/{paid}/refunds").json()
    given = verify_refund(CHAIN_ID, parse(SignedRefund, bytes.fromhex(row["refund"])))
    assert (given.platform, given.account.hex()) == (pair.alpha.platform.id, alpha_payer.account)
    assert (given.total_minor, given.refunded_minor) == (250, 250)
    assert code_of(pair.beta.operator("POST", f"/v1/payments/{theirs}/void")) == (409, "payment.void_partner")


def test_a_refund_before_the_payment_is_known_as_posted_waits(pair: Pair, alpha_payer: Payer) -> None:
    merchant = pair.merchant()
    pair.road.is_losing = True
    paid = alpha_payer.pay(pair.request(alpha_payer, merchant)).json()["payment_id"]
    refund(pair.beta, pair.till(merchant)[0]["payment_id"], "k", amount_minor=1_250)
    pair.beta.notices.drain()
    (notice,) = pair.beta.operator("GET", "/v1/notices").json()
    assert (notice["kind"], notice["state"]) == (NoticeKind.REFUND, "waiting")
    assert "partner.not_posted" in notice["error"]
    pair.road.is_losing = False
    pair.ahead_ms += 1_000
    pair.alpha.notices.drain()
    pair.ahead_ms += 1_000
    pair.beta.notices.drain()
    assert pair.balance(alpha_payer) == OPENING["EUR"]
    assert len(alpha_payer.send("GET", f"/v1/payments/{paid}/refunds").json()) == 1


# --- who may tell what


def member_post(
    pair: Pair,
    body: bytes,
    path: str = PARTNER_PATH,
    sender: Server | None = None,
    receiver: Server | None = None,
    **changes: Any,
) -> httpx.Response:
    """A request to beta as alpha signs it."""
    platform = (sender or pair.alpha).platform
    values = {"key": platform.keys.transaction, "signed_path": path, "signed_body": body} | changes
    proof = member_header(
        CHAIN_ID,
        platform.id,
        values["key"],
        "POST",
        values["signed_path"],
        values["signed_body"],
        now_ms() + pair.ahead_ms,
    )
    headers = {MEMBER_HEADER: proof, "content-type": "application/cbor"}
    return (receiver or pair.beta).http.post(path, content=body, headers=headers)


@pytest.fixture
def notice(pair: Pair, alpha_payer: Payer) -> PartnerPayment:
    """What alpha would tell beta of a payment, which it has not told."""
    request = pair.request(alpha_payer, pair.merchant())
    pair.road.is_down = True
    receipt = verify_receipt(CHAIN_ID, parse(SignedReceipt, bytes.fromhex(alpha_payer.pay(request).json()["receipt"])))
    return build_notice(pair.alpha.platform, receipt, now_ms() + 10_000)


def test_only_a_partner_is_heard(pair: Pair, notice: PartnerPayment, keys: list[Keys], node: Node) -> None:
    body = notice.encoded()
    headers = {"content-type": "application/cbor"}
    assert code_of(pair.beta.http.post(PARTNER_PATH, content=body, headers=headers)) == (401, "partner.unsigned")
    assert code_of(member_post(pair, body, key=keys[0].key(Role.RECORD))) == (401, "platform.key_unknown")
    assert code_of(member_post(pair, body, key=keys[1].key(Role.TRANSACTION))) == (401, "platform.key_unknown")
    assert code_of(member_post(pair, body, signed_path=f"{PARTNER_PATH}/cancel")) == (401, "signature.bad")
    assert code_of(member_post(pair, body, signed_body=b"other")) == (401, "signature.bad")
    assert code_of(member_post(pair, body, sender=pair.beta)) == (403, "partner.unknown")
    other = dataclasses.replace(notice, payer_platform=keys[2].id).encoded()
    assert code_of(member_post(pair, other)) == (409, "partner.notice")
    assert code_of(member_post(pair, b"\xff")) == (400, "wire.not_canonical")
    assert pair.clearing(pair.beta) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fee_minor": 1}, "partner.total"),
        ({"total_minor": 1}, "partner.total"),
        ({"expires_ms": 1}, "partner.expired"),
        ({"version": 2}, "payment.version"),
        ({"commitment": bytes(32)}, "payment.commitment"),
        ({"merchant": bytes(20)}, "merchant.absent"),
    ],
)
def test_a_notice_is_believed_in_nothing(
    pair: Pair, notice: PartnerPayment, changes: dict[str, Any], expected: str
) -> None:
    body = dataclasses.replace(notice, **changes).encoded()
    answer = member_post(pair, body)
    assert (answer.status_code, answer.json()["state"], answer.json()["refusal"]) == (201, "voided", expected)
    receipt = verify_receipt(CHAIN_ID, parse(SignedReceipt, bytes.fromhex(answer.json()["receipt"])))
    assert (receipt.state, receipt.account) == (PaymentState.VOIDED, pair.alpha.platform.id)
    assert member_post(pair, body).status_code == 200
    assert code_of(member_post(pair, notice.encoded())) == (409, "payment.key_reused")
    assert pair.clearing(pair.beta) == 0


def test_a_notice_is_taken_once(pair: Pair, notice: PartnerPayment) -> None:
    answers = [member_post(pair, notice.encoded()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert len({answer.text for answer in answers}) == 1
    assert pair.clearing(pair.beta) == -notice.total_minor
