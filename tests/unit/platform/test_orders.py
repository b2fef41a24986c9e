"""What an order comes to under a record's terms."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from onecode.errors import Declined, Malformed
from onecode.platform.books import Charge
from onecode.platform.orders import price_order
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode
from onecode.record.receipt import Order

ORDER = Order(amount_minor=1_000, currency="EUR", tip_minor=0)


def account(currency: str = "EUR", number: str = "any", **changes: Any) -> AcquiringAccount:
    values = {"merchant_number": number, "settlement_reference": "s", "currency": currency, "store_labels": ()}
    return AcquiringAccount(**(values | changes))


def price(
    terms: PaymentTerms, platform_fee: int = 0, payment_minor_max: int = 100_000, **order: Any
) -> tuple[Charge, AcquiringAccount]:
    return price_order(
        dataclasses.replace(ORDER, **order),
        terms,
        payer=b"p",
        merchant=b"m" * 20,
        merchant_fee_hundredths_percent=platform_fee,
        payment_minor_max=payment_minor_max,
    )


def with_tip(mode: TipMode, **changes: Any) -> PaymentTerms:
    return PaymentTerms(accounts=(account(),), tip_mode=mode, **changes)


@pytest.mark.parametrize(
    ("terms", "order", "parts"),
    [
        (with_tip(TipMode.NONE), {}, (1_000, 0, 0)),
        (with_tip(TipMode.PROMPT), {"tip_minor": 150}, (1_000, 150, 0)),
        (with_tip(TipMode.FIXED, fee_fixed_minor=30), {}, (1_000, 0, 30)),
        (with_tip(TipMode.PERCENTAGE, fee_hundredths_percent=300), {}, (1_000, 0, 30)),
        (with_tip(TipMode.PERCENTAGE, fee_hundredths_percent=150), {"amount_minor": 100}, (100, 0, 2)),
        (with_tip(TipMode.PERCENTAGE, fee_hundredths_percent=149), {"amount_minor": 100}, (100, 0, 1)),
    ],
)
def test_tips_and_fees(terms: PaymentTerms, order: dict[str, Any], parts: tuple[int, int, int]) -> None:
    charge, _ = price(terms, **order)
    assert (charge.amount_minor, charge.tip_minor, charge.fee_minor) == parts
    assert charge.total_minor == sum(parts)


@pytest.mark.parametrize("mode", [TipMode.NONE, TipMode.FIXED, TipMode.PERCENTAGE])
def test_a_tip_is_taken_only_where_the_record_asks(mode: TipMode) -> None:
    fees = {TipMode.FIXED: {"fee_fixed_minor": 1}, TipMode.PERCENTAGE: {"fee_hundredths_percent": 1}}
    with pytest.raises(Declined, match=r"payment\.tip"):
        price(with_tip(mode, **fees.get(mode, {})), tip_minor=1)


def test_the_store_chooses_the_account() -> None:
    accounts = (account(number="left", store_labels=("left",)), account(number="any"), account("JPY", "yen"))
    terms = PaymentTerms(accounts=accounts, tip_mode=TipMode.NONE)
    assert price(terms, store_label="left")[1].merchant_number == "left"
    assert price(terms, store_label="right")[1].merchant_number == "any"
    assert price(terms, currency="JPY")[1].merchant_number == "yen"
    only = PaymentTerms(accounts=accounts[:1], tip_mode=TipMode.NONE)
    with pytest.raises(Declined, match=r"payment\.account"):
        price(only, store_label="right")


@pytest.mark.parametrize(("amount", "fits"), [(99, False), (100, True), (200, True), (201, False)])
def test_the_accounts_limits_hold_at_their_edges(amount: int, fits: bool) -> None:
    limited = account(amount_min_minor=100, amount_max_minor=200)
    terms = PaymentTerms(accounts=(limited,), tip_mode=TipMode.PROMPT)
    if fits:
        assert price(terms, amount_minor=amount, tip_minor=50)[0].total_minor == amount + 50
    else:
        with pytest.raises(Declined, match=r"payment\.limit"):
            price(terms, amount_minor=amount)


def test_the_platforms_limit_is_on_the_total_and_its_fee_on_the_amount() -> None:
    terms = with_tip(TipMode.PROMPT)
    assert price(terms, 125, 1_100, tip_minor=100)[0].platform_fee_minor == 13
    with pytest.raises(Declined, match=r"payment\.limit"):
        price(terms, 125, 1_100, tip_minor=101)


@pytest.mark.parametrize(
    ("order", "kind", "code"),
    [
        ({"amount_minor": 0}, Declined, "payment.amount"),
        ({"currency": "978"}, Malformed, "payment.currency"),
        ({"currency": "XXX"}, Malformed, "code.currency"),
        ({"currency": "USD"}, Declined, "payment.account"),
    ],
)
def test_what_is_no_payable_order(order: dict[str, Any], kind: Any, code: str) -> None:
    with pytest.raises(kind) as caught:
        price(with_tip(TipMode.NONE), **order)
    assert caught.value.code == code
