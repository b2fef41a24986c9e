"""Refunds between platforms: settled by the partner's signed word alone, whatever else is answered on the way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from onecode.errors import Untrusted
from onecode.platform.partner_intake import verify_partner
from onecode.platform.process import open_notices
from onecode.platform.schema import NoticeRow
from onecode.proof.leaves import PlatformStatus
from onecode.query.requests import member_header
from onecode.record.receipt import Refund, SignedRefund, sign_refund, verify_refund
from onecode.schema import parse
from unit.platform.test_partners import Pair, alpha_payer, member_post, pair
from unit.platform.test_payments import code_of
from unit.platform.test_refunds import refund
from unit.platform.world import CHAIN_ID, OPENING, Payer

pytestmark = pytest.mark.clock

__all__ = ["alpha_payer", "pair"]  # fixtures
REFUNDS_PATH = "/v1/partner/refunds"
DECLINED = {"type": "about:blank", "title": "Declined", "status": 409, "detail": "no", "code": "refund.differs"}


def refunded(pair: Pair, payer: Payer) -> None:
    """A payment of alpha's payer of 12.50, of which beta gives 2.50 back."""
    merchant = pair.merchant()
    assert payer.pay(pair.request(payer, merchant)).json()["state"] == "posted"
    assert refund(pair.beta, pair.till(merchant)[0]["payment_id"], "k", amount_minor=250).status_code == 201


def drain(pair: Pair) -> dict[str, Any]:
    pair.ahead_ms += 120_000
    pair.beta.notices.drain()
    (notice,) = pair.beta.operator("GET", "/v1/notices").json()
    return dict(notice)


def notice_body(pair: Pair) -> bytes:
    with pair.beta.platform.database.read() as session:
        return bytes(session.query(NoticeRow).one().body)


def word(pair: Pair, **changes: Any) -> dict[str, Any]:
    """What alpha would say of the refund, with changes."""
    told = verify_refund(CHAIN_ID, parse(SignedRefund, notice_body(pair)))
    said = dataclasses.replace(told, platform=pair.alpha.platform.id, account=pair.beta.platform.id)
    return signed(pair, dataclasses.replace(said, **changes))


def signed(pair: Pair, said: Refund) -> dict[str, Any]:
    return {"refund": sign_refund(CHAIN_ID, said, pair.alpha.platform.keys.receipt).encoded().hex()}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, {}, "partner.no_refund"),
        (200, {"refund": "00"}, "wire."),
        (409, DECLINED, "refund.differs"),
        (404, DECLINED | {"code": "payment.unknown", "status": 404}, "payment.unknown"),
    ],
)
def test_an_unsigned_answer_settles_no_refund(
    pair: Pair, alpha_payer: Payer, status: int, body: dict[str, Any], code: str
) -> None:
    pair.way_back.said = httpx.Response(status, content=json.dumps(body).encode())
    refunded(pair, alpha_payer)
    notice = drain(pair)
    assert (notice["state"], code in notice["error"]) == ("waiting", True), notice
    pair.way_back.said = None
    notice = drain(pair)
    assert (notice["state"], notice["error"]) == ("done", None)
    assert pair.balance(alpha_payer) == OPENING["EUR"] - 1_000
    assert (pair.clearing(pair.alpha), pair.clearing(pair.beta)) == (1_000, -1_000)


CHANGES: list[tuple[Callable[[Pair], dict[str, Any]], str]] = [
    (lambda _: {"refund_id": "other"}, "partner.refund_other"),
    (lambda _: {"payment_id": "other"}, "partner.refund_other"),
    (lambda pair: {"platform": pair.beta.platform.id}, "partner.refund_other"),
    (lambda pair: {"account": pair.alpha.platform.id}, "partner.refund_other"),
    (lambda _: {"merchant": bytes(20)}, "partner.refund_differs"),
    (lambda _: {"record_platform": bytes(20)}, "partner.refund_differs"),
    (lambda _: {"currency": "HKD"}, "partner.refund_differs"),
    (lambda _: {"amount_minor": 1}, "partner.refund_differs"),
    (lambda _: {"tip_minor": 1}, "partner.refund_differs"),
    (lambda _: {"fee_minor": 1}, "partner.refund_differs"),
    (lambda _: {"total_minor": 1}, "partner.refund_differs"),
]


def test_a_partners_word_on_another_refund_settles_nothing(pair: Pair, alpha_payer: Payer) -> None:
    pair.way_back.is_down = True
    refunded(pair, alpha_payer)
    pair.way_back.is_down = False
    answers = [(word(pair, **change(pair)), code) for change, code in CHANGES]
    told = parse(SignedRefund, notice_body(pair))
    keys = pair.alpha.platform.keys
    right = parse(SignedRefund, bytes.fromhex(word(pair)["refund"]))
    said = verify_refund(CHAIN_ID, right)
    answers += [
        ({"refund": told.encoded().hex()}, "platform.key"),  # its own word, given back
        ({"refund": sign_refund(CHAIN_ID, said, keys.transaction).encoded().hex()}, "platform.key"),
        ({"refund": dataclasses.replace(right, signature=bytes(64)).encoded().hex()}, "signature.bad"),
    ]
    for answer, code in answers:
        pair.way_back.said = httpx.Response(200, content=json.dumps(answer).encode())
        notice = drain(pair)
        assert (notice["state"], code in notice["error"]) == ("waiting", True), (notice, code)
    pair.way_back.said = httpx.Response(200, content=json.dumps(word(pair)).encode())
    assert drain(pair)["state"] == "done"


def test_the_answer_to_a_refund_names_no_payer(pair: Pair, alpha_payer: Payer) -> None:
    heard: list[str] = []
    inner = pair.way_back.handle_request

    def listen(request: httpx.Request) -> httpx.Response:
        response = inner(request)
        heard.append(response.read().decode())
        return response

    pair.way_back.handle_request = listen  # type: ignore[method-assign]
    refunded(pair, alpha_payer)
    assert drain(pair)["state"] == "done"
    assert len(heard) == 1 and alpha_payer.account not in heard[0]


def test_a_refund_is_taken_once_with_one_content(pair: Pair, alpha_payer: Payer) -> None:
    refunded(pair, alpha_payer)
    assert drain(pair)["state"] == "done"
    told = verify_refund(CHAIN_ID, parse(SignedRefund, notice_body(pair)))
    other = sign_refund(CHAIN_ID, dataclasses.replace(told, reason="other"), pair.beta.platform.keys.receipt)
    answer = member_post(pair, other.encoded(), REFUNDS_PATH, sender=pair.beta, receiver=pair.alpha)
    assert code_of(answer) == (409, "refund.key_reused")
    assert pair.balance(alpha_payer) == OPENING["EUR"] - 1_000


def test_senders_follow_no_redirects_and_use_no_proxies(pair: Pair) -> None:
    sender: Any = open_notices(pair.alpha.platform)
    assert (sender._client.follow_redirects, sender._client.trust_env) == (False, False)
    sender.close()


def test_a_suspended_partner_is_not_heard(pair: Pair) -> None:
    platform, alpha = pair.beta.platform, pair.alpha.platform
    leaf = platform.chain.platform_leaf(alpha.id)
    assert leaf is not None
    proof = member_header(CHAIN_ID, alpha.id, alpha.keys.transaction, "POST", REFUNDS_PATH, b"x", platform.clock_ms())
    assert verify_partner(platform, proof, REFUNDS_PATH, b"x") == (alpha.id, leaf)
    for status in set(PlatformStatus) - {PlatformStatus.ACTIVE}:
        stated = dataclasses.replace(leaf, status=status)
        chain: Any = SimpleNamespace(platform_leaf=lambda _, stated=stated: stated)
        with pytest.raises(Untrusted, match=r"request\.suspended"):
            verify_partner(dataclasses.replace(platform, chain=chain), proof, REFUNDS_PATH, b"x")


@pytest.mark.parametrize("url", ["http://host/?x=", "http://host/#x", "http://user@host/", "ftp://host/", "host"])
def test_a_partners_address_that_is_not_plain_is_not_asked(pair: Pair, alpha_payer: Payer, url: str) -> None:
    refunded(pair, alpha_payer)
    pair.way_back.sent = 0
    sender: Any = pair.beta.notices
    leaf = sender._platform.chain.platform_leaf(pair.alpha.platform.id)
    chain: Any = SimpleNamespace(platform_leaf=lambda _: dataclasses.replace(leaf, url=url))
    sender._platform = dataclasses.replace(sender._platform, chain=chain)
    notice = drain(pair)
    assert (notice["state"], "partner.address" in notice["error"], pair.way_back.sent) == ("waiting", True, 0)
