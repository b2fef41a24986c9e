"""Paying over real HTTP, against a real node: what is booked, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from onecode.errors import Unreachable
from onecode.host.clock import now_ms
from onecode.platform.payments import pay
from onecode.proof.leaves import Role
from onecode.query.credential import parse_credential
from onecode.query.messages import MemberView
from onecode.record.envelope import SignedRecord
from onecode.record.payment import TipMode
from onecode.record.receipt import PaymentRequest, PaymentState, SignedReceipt, verify_receipt
from onecode.schema import parse, to_plain
from unit.platform.world import CHAIN_ID, OPENING, Keys, Merchant, Node, Payer, Server, terms

pytestmark = pytest.mark.clock


def code_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_a_payment_is_booked_receipted_announced_and_kept_as_evidence(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    request = payer.request(merchant, tip_minor=100, note="table 4")
    response = payer.pay(request, "key-1")
    assert response.status_code == 201, response.text
    paid = response.json()
    signed = parse(SignedReceipt, bytes.fromhex(paid["receipt"]))
    receipt = verify_receipt(CHAIN_ID, signed)
    assert signed.key == server.platform.keys.receipt.public
    assert server.platform.chain.own_leaf().key(Role.RECEIPT, signed.key) is not None
    assert (receipt.state, receipt.total_minor, receipt.fee_minor) == (PaymentState.POSTED, 1_350, 0)
    assert (receipt.order, receipt.display_name) == (request.order, "Café Exemple")
    assert (receipt.merchant, receipt.commitment) == (merchant.id, request.commitment)
    assert payer.balance() == OPENING["EUR"] - 1_350

    till = {"authorization": f"Bearer {merchant.till}"}  # type: ignore[attr-defined]
    events = server.http.get(f"/v1/merchants/{merchant.id.hex()}/events?after=0&wait_ms=0", headers=till).json()
    assert [(event["type"], event["total_minor"], event["order"]["note"]) for event in events] == [
        ("payment.posted", 1_350, "table 4")
    ]
    assert payer.account not in json.dumps(events)

    kept = server.operator("GET", f"/v1/payments/{paid['payment_id']}/evidence").json()
    view = parse(MemberView, bytes.fromhex(kept["view"]))
    record = parse(SignedRecord, bytes.fromhex(kept["signed_record"]))
    assert view.merchant.merchant == merchant.id
    assert record.record_key == server.platform.keys.record.public
    assert parse(PaymentRequest, bytes.fromhex(kept["request"])) == request
    assert kept["receipt"] == paid["receipt"]

    books = server.operator("GET", "/v1/books").json()
    assert {total["total_minor"] for total in books["totals"]} == {0}
    by_kind = {(row["kind"], row["currency"]): row["balance_minor"] for row in books["balances"]}
    assert by_kind[("merchant", "EUR")] == 1_250
    assert by_kind[("tips", "EUR")] == 100
    assert by_kind[("payer", "EUR")] == OPENING["EUR"] - 1_350


def test_the_plain_json_form_pays_too_and_is_the_same_request(server: Server, payer: Payer) -> None:
    request = payer.request(server.live_merchant())
    body = json.dumps(to_plain(request)).encode()
    first = payer.send("POST", "/v1/payments", body, "k", **{"content-type": "application/json"})
    assert first.status_code == 201
    again = payer.pay(request, "k")
    assert (again.status_code, again.json()) == (200, first.json())


def test_a_key_gives_one_payment_whatever_happens_later(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    request = payer.request(merchant)
    first = payer.pay(request, "same")
    assert server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/withdraw").status_code == 200
    again = payer.pay(request, "same")
    assert (again.status_code, again.json()) == (200, first.json())
    other = dataclasses.replace(request, order=dataclasses.replace(request.order, amount_minor=1))
    assert code_of(payer.pay(other, "same")) == (409, "payment.key_reused")
    late = payer.pay(request, "new")
    assert code_of(late) == (409, "payment.link"), late.text
    assert payer.balance() == OPENING["EUR"] - 1_250


def test_the_same_request_many_times_at_once_is_one_payment(server: Server, payer: Payer) -> None:
    request = payer.request(server.live_merchant())
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(payer.pay(request, "race"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted({answer.status_code for answer in answers}) == [200, 201]
    assert len({answer.json()["receipt"] for answer in answers}) == 1
    assert payer.balance() == OPENING["EUR"] - 1_250


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": 2}, (409, "payment.version")),
        ({"commitment": bytes(32)}, (409, "payment.commitment")),
        ({"platform": bytes(20)}, (409, "payment.platform")),
        ({"merchant": bytes(20)}, (409, "merchant.absent")),
        ({"service": "food"}, (409, "payment.service")),
    ],
)
def test_the_wallets_words_are_not_believed(
    server: Server, payer: Payer, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    request = dataclasses.replace(payer.request(server.live_merchant()), **changes)
    assert code_of(payer.pay(request)) == expected
    assert payer.balance() == OPENING["EUR"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"amount_minor": 0}, "payment.amount"),
        ({"amount_minor": 50_001}, "payment.limit"),
        ({"currency": "JPY"}, "payment.account"),
        ({"amount_minor": 50_000, "tip_minor": 50_001}, "books.balance"),
    ],
)
def test_an_order_outside_the_terms_or_the_balance_is_declined(
    server: Server, payer: Payer, order: dict[str, Any], expected: str
) -> None:
    assert code_of(payer.pay(payer.request(server.live_merchant(), **order))) == (409, expected)
    assert payer.balance() == OPENING["EUR"]


def test_an_old_version_is_refused_once_the_record_was_updated(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    old = payer.request(merchant)
    changed = merchant.agreement(server.platform.id, display_name="Café Neuf")
    assert server.operator("POST", "/v1/merchants", json=changed).status_code == 200
    assert payer.pay(old).status_code == 201  # not published yet: the old version is the current one
    published = server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/publish")
    assert (published.status_code, published.json()["version"]) == (200, 2)
    assert code_of(payer.pay(old)) == (409, "payment.version")
    paid = payer.pay(payer.request(merchant))
    assert paid.json()["display_name"] == "Café Neuf"


def test_an_unlinked_merchant_is_not_paid(server: Server, payer: Payer, node: Node) -> None:
    merchant = server.live_merchant()
    request = payer.request(merchant)
    merchant.unlink(node, server.platform.id)
    assert code_of(payer.pay(request)) == (409, "payment.link")


def test_a_frozen_merchant_is_not_paid(server: Server, payer: Payer, node: Node, keys: list[Keys]) -> None:
    merchant = server.live_merchant()
    request = payer.request(merchant)
    keys[0].freeze(node, merchant.id)
    assert code_of(payer.pay(request)) == (409, "merchant.frozen")


def test_a_record_outside_its_validity_is_not_paid(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant(valid_from_ms=1, valid_until_ms=2)
    assert code_of(payer.pay(payer.request(merchant))) == (409, "record.expired")


def test_nothing_works_on_a_stale_header(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    ahead = [0]
    server = Server(keys[0].config(tmp_path, node.url), lambda: now_ms() + ahead[0])
    try:
        payer, merchant = Payer(server), server.live_merchant()
        request = payer.request(merchant)
        ahead[0] = 40_000  # the platform's clock: the node's newest header looks 40 s old
        refused = payer.pay(request)
        assert code_of(refused) == (503, "chain.unproven")
        assert "header.stale" in refused.json()["detail"]
        assert code_of(server.http.get("/v1/health")) == (503, "chain.unproven")
        ahead[0] = 0
        assert payer.pay(request).status_code == 201
    finally:
        server.stop()


def test_a_node_that_is_away_is_said_to_be(keys: list[Keys], node: Node, tmp_path: Path) -> None:
    server = Server(keys[0].config(tmp_path, "http://127.0.0.1:9"))
    try:
        assert code_of(server.http.get("/v1/health")) == (503, "chain.node")
    finally:
        server.stop()


def test_a_suspended_platform_takes_no_payments(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    server = Server(keys[2].config(tmp_path, node.url, leaf_age_ms_max=0))
    try:
        payer, merchant = Payer(server), server.live_merchant()
        request = payer.request(merchant)
        assert payer.pay(request).status_code == 201
        keys[2].suspend(node)
        assert code_of(payer.pay(request)) == (401, "credential.suspended")
        assert code_of(server.http.get("/v1/health")) == (503, "platform.suspended")
        credential = parse_credential(payer.credential)[1]
        with pytest.raises(Unreachable, match=r"request\.suspended"):  # its node tells it nothing more either
            pay(server.platform, server.notices, credential, "later", request)
    finally:
        server.stop()


# --- dynamic codes


def test_a_dynamic_code_is_verified_again_and_paid_once(server: Server, payer: Payer, node: Node) -> None:
    merchant = server.live_merchant()
    merchant.set_order_key(node)
    code = merchant.code(2_000, "INV-7")
    request = payer.request(merchant, amount_minor=2_000, reference="INV-7", code=code, tip_minor=50)
    first = payer.pay(request, "one")
    assert first.status_code == 201, first.text
    assert code_of(payer.pay(request, "two")) == (409, "payment.reference_used")
    assert code_of(Payer(server).pay(request, "two")) == (409, "payment.reference_used")
    assert payer.pay(request, "one").json() == first.json()


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"amount_minor": 1_999}, (409, "payment.code_differs")),
        ({"reference": "INV-8"}, (409, "payment.code_differs")),
        ({"store_label": "left"}, (409, "payment.code_differs")),
        ({"code": "garbage"}, (400, None)),
    ],
)
def test_an_order_that_differs_from_its_code_is_refused(
    server: Server, payer: Payer, node: Node, order: dict[str, Any], expected: tuple[int, str | None]
) -> None:
    merchant = server.live_merchant()
    merchant.set_order_key(node)
    said = {"amount_minor": 2_000, "reference": "INV-7", "code": merchant.code(2_000, "INV-7")} | order
    status, code = code_of(payer.pay(payer.request(merchant, **said)))
    assert status == expected[0] and expected[1] in (None, code)


def test_codes_of_others_expired_or_unsigned_are_refused(server: Server, payer: Payer, node: Node) -> None:
    merchant, other = server.live_merchant(), Merchant()
    said = {"amount_minor": 2_000, "reference": "R"}
    unlisted = payer.request(merchant, code=merchant.code(2_000, "R"), **said)
    assert code_of(payer.pay(unlisted)) == (401, "code.order_signature")
    merchant.set_order_key(node)
    assert code_of(payer.pay(payer.request(merchant, code=other.code(2_000, "R"), **said))) == (
        409,
        "payment.code_merchant",
    )
    late = merchant.code(2_000, "R", now_ms() - 1)
    assert code_of(payer.pay(payer.request(merchant, code=late, **said))) == (409, "code.order_expired")


def test_the_till_is_told_whether_the_order_was_signed(server: Server, payer: Payer, node: Node) -> None:
    """Otherwise an order that somebody made up, with the reference of a signed one, differs by its amount alone."""
    merchant = server.live_merchant()
    merchant.set_order_key(node)
    signed = payer.request(merchant, amount_minor=2_000, reference="INV-7", code=merchant.code(2_000, "INV-7"))
    made_up = payer.request(merchant, amount_minor=1, reference="INV-7")
    for number, request in enumerate((made_up, signed)):
        assert payer.pay(request, str(number)).status_code == 201
    voided = payer.send("GET", "/v1/payments?idempotency_key=1").json()["payment_id"]
    assert server.operator("POST", f"/v1/payments/{voided}/void").status_code == 200
    headers = {"authorization": f"Bearer {merchant.till}"}  # type: ignore[attr-defined]
    events = server.http.get(f"/v1/merchants/{merchant.id.hex()}/events?wait_ms=0", headers=headers).json()
    said = [(event["type"], event["order"]["reference"], event["signed_order"]) for event in events]
    assert said == [
        ("payment.posted", "INV-7", False),
        ("payment.posted", "INV-7", True),
        ("payment.voided", "INV-7", True),
    ]


# --- fees, refunds, reads


def test_a_percentage_fee_is_the_merchants_and_rounds_half_up(server: Server, payer: Payer) -> None:
    percent = to_plain(terms(tip_mode=TipMode.PERCENTAGE, fee_hundredths_percent=250))
    merchant = server.live_merchant(terms=percent)
    paid = payer.pay(payer.request(merchant, amount_minor=1_020)).json()  # 2.5 % is 25.5
    assert (paid["fee_minor"], paid["total_minor"]) == (26, 1_046)
    assert code_of(payer.pay(payer.request(merchant, tip_minor=1))) == (409, "payment.tip")


def test_a_void_gives_all_back_once(server: Server, payer: Payer) -> None:
    paid = payer.pay(payer.request(server.live_merchant(), tip_minor=10)).json()
    path = f"/v1/payments/{paid['payment_id']}"
    voided = server.operator("POST", f"{path}/void").json()
    assert (voided["state"], payer.balance()) == ("voided", OPENING["EUR"])
    assert server.operator("POST", f"{path}/void").json() == voided
    assert payer.send("GET", path).json() == voided
    receipt = verify_receipt(CHAIN_ID, parse(SignedReceipt, bytes.fromhex(voided["receipt"])))
    assert receipt.state == PaymentState.VOIDED
    assert server.operator("GET", "/v1/books").status_code == 200


def test_a_payer_sees_its_own_payments_only(server: Server, payer: Payer) -> None:
    paid = payer.pay(payer.request(server.live_merchant()), "mine").json()
    assert payer.send("GET", "/v1/payments?idempotency_key=mine").json() == paid
    stranger = Payer(server)
    assert code_of(stranger.send("GET", f"/v1/payments/{paid['payment_id']}")) == (404, "payment.unknown")
    assert code_of(stranger.send("GET", "/v1/payments?idempotency_key=mine")) == (404, "payment.unknown")


def test_a_payment_survives_the_loss_of_its_answer_and_a_restart(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    config = keys[0].config(tmp_path, node.url)
    server = Server(config)
    payer = Payer(server)
    request = payer.request(server.live_merchant())
    first = payer.pay(request, "lost").json()
    server.stop()
    payer.server = Server(config)
    try:
        again = payer.pay(request, "lost")
        assert (again.status_code, again.json()) == (200, first)
        assert payer.balance() == OPENING["EUR"] - 1_250
    finally:
        payer.server.stop()
