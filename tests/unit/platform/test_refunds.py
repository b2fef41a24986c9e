"""Refunds over real HTTP: partial, several, never more than was paid, and long after the record is gone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from onecode.host.clock import now_ms
from onecode.platform.schema import RefundRow
from onecode.record.payment import TipMode
from onecode.record.receipt import SignedRefund, verify_refund
from onecode.schema import parse, to_plain
from unit.platform.test_payments import code_of
from unit.platform.world import CHAIN_ID, OPENING, Keys, Merchant, Node, Payer, Server, terms

pytestmark = pytest.mark.clock


def refund(server: Server, payment: str, key: str, **body: Any) -> httpx.Response:
    return server.operator("POST", f"/v1/payments/{payment}/refunds", json=body, headers={"idempotency-key": key})


def paid(server: Server, payer: Payer, merchant: Merchant, **order: Any) -> str:
    response = payer.pay(payer.request(merchant, **order))
    assert response.status_code == 201, response.text
    return str(response.json()["payment_id"])


def merchant_balances(server: Server) -> dict[str, int]:
    rows = server.operator("GET", "/v1/books").json()
    assert {row["total_minor"] for row in rows["totals"]} == {0}
    return {row["kind"]: row["balance_minor"] for row in rows["balances"] if row["currency"] == "EUR"}


def test_parts_go_back_until_nothing_is_left(server: Server, payer: Payer) -> None:
    payment = paid(server, payer, server.live_merchant(), amount_minor=1_000, tip_minor=200)
    first = refund(server, payment, "a", amount_minor=300, reason="one dish was cold")
    assert first.status_code == 201, first.text
    assert (first.json()["total_minor"], first.json()["refunded_minor"]) == (300, 300)
    assert refund(server, payment, "b", amount_minor=0, tip_minor=200).json()["refunded_minor"] == 500
    assert code_of(refund(server, payment, "c", amount_minor=701)) == (409, "refund.too_much")
    assert code_of(refund(server, payment, "c", amount_minor=1, tip_minor=1)) == (409, "refund.too_much")
    assert refund(server, payment, "c", amount_minor=700).json()["refunded_minor"] == 1_200
    assert code_of(refund(server, payment, "d", amount_minor=1)) == (409, "refund.too_much")
    assert payer.balance() == OPENING["EUR"]
    balances = merchant_balances(server)
    assert (balances["merchant"], balances["tips"]) == (0, 0)
    assert code_of(server.operator("POST", f"/v1/payments/{payment}/void")) == (409, "payment.refunded")


def test_a_key_gives_one_refund(server: Server, payer: Payer) -> None:
    payment = paid(server, payer, server.live_merchant())
    first = refund(server, payment, "same", amount_minor=10)
    again = refund(server, payment, "same", amount_minor=10)
    assert (again.status_code, again.json()) == (200, first.json())
    assert code_of(refund(server, payment, "same", amount_minor=11)) == (409, "refund.key_reused")
    assert code_of(server.operator("POST", f"/v1/payments/{payment}/refunds", json={"amount_minor": 1})) == (
        400,
        "payment.key",
    )
    assert payer.balance() == OPENING["EUR"] - 1_250 + 10


def test_fees_go_back_in_proportion_and_the_last_part_takes_the_rest(
    node: Node, keys: list[Keys], tmp_path: Any
) -> None:
    server = Server(keys[0].config(tmp_path, node.url, merchant_fee_hundredths_percent=150))
    try:
        payer = Payer(server)
        percent = to_plain(terms(tip_mode=TipMode.PERCENTAGE, fee_hundredths_percent=250))
        payment = paid(server, payer, server.live_merchant(terms=percent), amount_minor=999)  # fee 25, kept 15
        balances = merchant_balances(server)
        assert (balances["merchant"], balances["fees"]) == (999 + 25 - 15, 15)
        shares = [refund(server, payment, str(n), amount_minor=333).json()["fee_minor"] for n in range(3)]
        assert shares == [8, 8, 9]
        balances = merchant_balances(server)
        assert (balances["merchant"], balances["fees"], payer.balance()) == (0, 0, OPENING["EUR"])
    finally:
        server.stop()


def test_the_refund_is_signed_and_seen_by_payer_till_and_operator(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    payment = paid(server, payer, merchant)
    given = refund(server, payment, "k", amount_minor=50, reason="late").json()
    signed = parse(SignedRefund, bytes.fromhex(given["refund"]))
    said = verify_refund(CHAIN_ID, signed)
    assert signed.key == server.platform.keys.receipt.public
    assert (said.total_minor, said.payment_id, said.account.hex(), said.reason) == (50, payment, payer.account, "late")
    path = f"/v1/payments/{payment}/refunds"
    till = {"authorization": f"Bearer {merchant.till}"}  # type: ignore[attr-defined]
    base = f"/v1/merchants/{merchant.id.hex()}"
    assert payer.send("GET", path).json() == [given]
    assert server.operator("GET", path).json() == [given]
    assert server.http.get(base + path.removeprefix("/v1"), headers=till).json() == [given]
    events = server.http.get(f"{base}/events?wait_ms=0", headers=till).json()
    assert [event["type"] for event in events] == ["payment.posted", "payment.refunded"]
    assert payer.account not in str(events)
    assert code_of(Payer(server).send("GET", path)) == (404, "payment.unknown")
    assert code_of(server.http.get(path)) == (401, "http.token")


def test_a_till_refunds_its_own_merchants_payments_only(server: Server, payer: Payer) -> None:
    one, other = server.live_merchant(), server.live_merchant()
    payment = paid(server, payer, one)

    def ask(merchant: Merchant, token: str) -> httpx.Response:
        return server.http.post(
            f"/v1/merchants/{merchant.id.hex()}/payments/{payment}/refunds",
            json={"amount_minor": 5},
            headers={"authorization": f"Bearer {token}", "idempotency-key": "k"},
        )

    tills = {merchant.id: merchant.till for merchant in (one, other)}  # type: ignore[attr-defined]
    assert code_of(ask(other, tills[other.id])) == (404, "payment.unknown")
    assert code_of(ask(one, tills[other.id])) == (401, "till.token")
    assert ask(one, tills[one.id]).status_code == 201


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"amount_minor": 0}, (400, "refund.empty")),
        ({"amount_minor": -1}, (400, "wire.field")),
        ({}, (400, "wire.field_missing")),
        ({"amount_minor": 1, "to": "me"}, (400, "wire.field_unknown")),
    ],
)
def test_an_ill_formed_refund_is_refused(
    server: Server, payer: Payer, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    payment = paid(server, payer, server.live_merchant())
    assert code_of(refund(server, payment, "k", **body)) == expected
    assert code_of(refund(server, "absent", "k", amount_minor=1)) == (404, "payment.unknown")


def test_a_refund_needs_neither_record_nor_chain(node: Node, keys: list[Keys], tmp_path: Any) -> None:
    ahead = [0]
    server = Server(keys[0].config(tmp_path, node.url), lambda: now_ms() + ahead[0])
    try:
        payer, merchant = Payer(server), server.live_merchant()
        payment = paid(server, payer, merchant)
        assert server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/publish").json()["version"] == 2
        assert refund(server, payment, "rotated", amount_minor=1).status_code == 201
        assert server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/withdraw").status_code == 200
        assert refund(server, payment, "withdrawn", amount_minor=1).status_code == 201
        ahead[0] = 40 * 24 * 3_600_000  # no fresh proof any more
        assert server.http.get("/v1/health").status_code == 503
        assert refund(server, payment, "late", amount_minor=1).status_code == 201
    finally:
        server.stop()


def test_a_voided_payment_is_not_refunded(server: Server, payer: Payer) -> None:
    payment = paid(server, payer, server.live_merchant())
    server.operator("POST", f"/v1/payments/{payment}/void")
    assert code_of(refund(server, payment, "k", amount_minor=1)) == (409, "refund.not_posted")
    assert payer.balance() == OPENING["EUR"]


def test_the_database_itself_keeps_refunds_within_the_payment(server: Server, payer: Payer) -> None:
    payment = paid(server, payer, server.live_merchant())
    row = {
        "refund_id": "r",
        "payment_id": payment,
        "idempotency_key": "x",
        "request_hash": b"",
        "amount_minor": 1_251,
        "tip_minor": 0,
        "fee_minor": 0,
        "kept_minor": 0,
        "signed": b"",
        "created_ms": 1,
    }
    with pytest.raises(IntegrityError, match="no more goes back"), server.platform.database.write() as session:
        session.execute(insert(RefundRow).values(**row))
