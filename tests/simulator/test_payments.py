"""Paying: what the wallet sends, keeps and believes of its own platform's receipt."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from chain_world import NOW_MS, make_record
from onecode.errors import Declined, Malformed, Misconfigured, OnecodeError, Unreachable, Untrusted
from onecode.proof.leaves import KeyState, PlatformKey, Role
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode
from onecode.record.receipt import Order, PaymentState
from onecode.wallet.pay import build_order, verify_order_terms
from onecode.wallet.resolve import Resolution
from onecode.wallet.sync import SyncWallet
from onecode.wire import SigningKey, sha256
from simulator.world import ORDER_KEY, STATIC, Lab, dynamic_code

ACCOUNT = AcquiringAccount(
    merchant_number="ACQ-1", settlement_reference="s-1", currency="EUR", amount_max_minor=100_000, store_labels=()
)


def resolved(lab: Lab, text: str = STATIC) -> tuple[SyncWallet, Resolution]:
    wallet = lab.wallet()
    return wallet, wallet.resolve(wallet.read(text))


def test_enrol_resolve_pay_and_keep_the_receipt(lab: Lab) -> None:
    wallet = lab.wallet()
    assert wallet.enroll() == b"account-1"
    resolution = wallet.resolve(wallet.read(STATIC))
    order = build_order(resolution, 1250, note="lunch")
    paid = wallet.pay(resolution.target, order, idempotency_key="till-1")
    assert (paid.receipt.total_minor, paid.receipt.state) == (1250, PaymentState.POSTED)
    kept = wallet.store.load_payments()
    assert [(row.idempotency_key, row.receipt) for row in kept] == [("till-1", paid.signed.encoded())]


def test_a_dynamic_order_is_paid_as_it_stands(lab: Lab) -> None:
    lab.chain.entry_changes = {"order_keys": (ORDER_KEY.public,)}
    text = dynamic_code()
    wallet, resolution = resolved(lab, text)
    order = build_order(resolution, payload=text)
    assert (order.amount_minor, order.currency, order.reference, order.code) == (1250, "EUR", "ORDER-7", text)
    assert wallet.pay(resolution.target, order).receipt.order == order
    with pytest.raises(Malformed) as caught:
        build_order(resolution, 1, payload=text)
    assert caught.value.code == "payment.order_fixed"


def test_a_percentage_rounds_half_up_and_is_in_the_total(lab: Lab) -> None:
    terms = PaymentTerms(accounts=(ACCOUNT,), tip_mode=TipMode.PERCENTAGE, fee_hundredths_percent=250)
    lab.chain.publish(lab.chain.a, make_record(lab.chain.a.id, terms=terms.encoded()))
    wallet, resolution = resolved(lab)
    for amount_minor, fee in ((20, 1), (19, 0), (1020, 26), (1000, 25), (60, 2)):  # 2.5 %: 0.5, 0.475, 25.5, 25, 1.5
        assert verify_order_terms(terms, build_order(resolution, amount_minor)).fee_minor == fee
    assert wallet.pay(resolution.target, build_order(resolution, 1020)).receipt.total_minor == 1046


@pytest.mark.parametrize(
    ("order", "branch", "code"),
    [
        ({"amount_minor": 0}, Declined, "payment.amount"),
        ({"currency": "USD"}, Declined, "payment.account"),
        ({"amount_minor": 100_001}, Declined, "payment.limit"),
        ({"tip_minor": 1}, Declined, "payment.tip"),
    ],
)
def test_an_order_that_the_terms_do_not_take_is_not_sent(
    lab: Lab, order: dict[str, Any], branch: type[OnecodeError], code: str
) -> None:
    terms = PaymentTerms(accounts=(ACCOUNT,), tip_mode=TipMode.NONE)
    lab.chain.publish(lab.chain.a, make_record(lab.chain.a.id, terms=terms.encoded()))
    wallet, resolution = resolved(lab)
    asked = dataclasses.replace(Order(amount_minor=100, currency="EUR", tip_minor=0), **order)
    with pytest.raises(branch) as caught:
        wallet.pay(resolution.target, asked)
    assert caught.value.code == code
    assert lab.platform.sent == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"total_minor": 9999}, "receipt.total"),
        ({"fee_minor": 1, "total_minor": 101}, "receipt.total"),
        ({"merchant": b"o" * 20}, "receipt.record"),
        ({"record_platform": b"o" * 20}, "receipt.record"),
        ({"version": 2}, "receipt.record"),
        ({"commitment": bytes(32)}, "receipt.record"),
        ({"display_name": "Another shop"}, "receipt.record"),
        ({"order": Order(amount_minor=1, currency="EUR", tip_minor=0)}, "receipt.order"),
        ({"account": b"account-2"}, "receipt.payer"),
        ({"platform": b"o" * 20}, "receipt.payer"),
        ({"time_ms": NOW_MS + 60_000}, "receipt.time"),
    ],
)
def test_a_receipt_for_anything_else_is_refused(lab: Lab, change: dict[str, Any], code: str) -> None:
    lab.platform.change = change
    wallet, resolution = resolved(lab)
    with pytest.raises(Untrusted) as caught:
        wallet.pay(resolution.target, build_order(resolution, 100))
    assert caught.value.code == code
    assert [row.receipt for row in wallet.store.load_payments()] == [None]


def test_a_receipt_by_a_key_that_is_not_the_platforms_is_refused(lab: Lab) -> None:
    lab.platform.sign_with = SigningKey.from_seed(sha256(b"a thief"))
    wallet, resolution = resolved(lab)
    with pytest.raises(Untrusted) as caught:
        wallet.pay(resolution.target, build_order(resolution, 100))
    assert caught.value.code == "platform.key_unknown"


def test_a_new_receipt_key_is_looked_up_on_chain(lab: Lab) -> None:
    wallet, resolution = resolved(lab)
    fresh = SigningKey.from_seed(sha256(b"next receipt key"))
    leaf = lab.chain.a.leaf()
    added = PlatformKey(role=Role.RECEIPT, key=fresh.public, state=KeyState.ACTIVE, height=11, since_ms=0)
    lab.chain.leaves[lab.chain.a.id] = dataclasses.replace(leaf, keys=(*leaf.keys, added))
    lab.chain.height += 1
    lab.platform.sign_with = fresh
    assert wallet.pay(resolution.target, build_order(resolution, 100)).receipt.total_minor == 100


def test_a_voided_payment_is_declined(lab: Lab) -> None:
    lab.platform.change = {"state": PaymentState.VOIDED}
    wallet, resolution = resolved(lab)
    with pytest.raises(Declined) as caught:
        wallet.pay(resolution.target, build_order(resolution, 100))
    assert caught.value.code == "payment.voided"


def test_a_lost_reply_is_asked_for_again_with_the_same_key(lab: Lab) -> None:
    lab.platform.lose_replies = 2
    wallet, resolution = resolved(lab)
    wallet.pay(resolution.target, build_order(resolution, 100))
    assert (lab.platform.sent, len(lab.platform.payments)) == (3, 1)


def test_a_payment_whose_fate_is_unknown_is_kept_and_finished_later(lab: Lab) -> None:
    lab.platform.lose_replies = 4
    wallet, resolution = resolved(lab)
    order = build_order(resolution, 100)
    with pytest.raises(Unreachable) as caught:
        wallet.pay(resolution.target, order)
    assert caught.value.code == "payment.unanswered"
    (kept,) = wallet.store.load_payments()
    assert kept.receipt is None
    wallet.pay(resolution.target, order, idempotency_key=kept.idempotency_key)
    assert len(lab.platform.payments) == 1
    assert [row.receipt is None for row in wallet.store.load_payments()] == [False]


def test_one_key_is_not_taken_for_two_orders(lab: Lab) -> None:
    wallet, resolution = resolved(lab)
    wallet.pay(resolution.target, build_order(resolution, 100), idempotency_key="k")
    with pytest.raises(Declined) as caught:
        wallet.pay(resolution.target, build_order(resolution, 101), idempotency_key="k")
    assert caught.value.code == "payment.key_reused"


def test_a_credential_near_its_end_is_renewed(lab: Lab) -> None:
    wallet = lab.wallet()
    near_end = lab.chain.a.credential(valid_from_ms=NOW_MS - 80_000_000, valid_until_ms=NOW_MS + 1_000_000)
    wallet.store.save_credential(near_end)
    wallet.resolve(wallet.read(STATIC))
    assert wallet.store.load_credential() != near_end


def test_a_credential_of_another_device_is_refused(lab: Lab) -> None:
    wallet = lab.wallet()
    wallet.store.save_credential(
        lab.chain.a.credential(valid_from_ms=NOW_MS - 80_000_000, valid_until_ms=NOW_MS + 1_000_000)
    )
    lab.platform.device = b"d" * 32
    with pytest.raises(Untrusted) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "credential.other"


def test_a_wallet_that_was_not_enrolled_says_so(lab: Lab) -> None:
    wallet = lab.wallet()
    (lab.directory / "credential.cbor").unlink()
    with pytest.raises(Misconfigured) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "wallet.not_enrolled"
