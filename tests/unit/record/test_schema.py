"""Records and payment terms: what parses, and the field that each refusal names."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from chain_world import make_record
from onecode.errors import Malformed
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode, parse_terms
from onecode.record.schema import parse_record
from onecode.wire import decode, encode

ID = b"p" * 20


def test_a_record_comes_back() -> None:
    record = make_record(ID, lei="5493001KJTIIGC8Y1R12", registration_number="HRB 1", kyb_checked_ms=5)
    assert parse_record(record.encoded()) == record


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema": 2}, "record.schema"),
        ({"mcc": "58a2"}, "record.mcc"),
        ({"mcc": "٥٨١٢"}, "record.mcc"),
        ({"country": "de"}, "record.country"),
        ({"country": "Dé"}, "record.country"),
        ({"valid_until_ms": 1}, "record.valid_until_ms"),
        ({"legal_name": ""}, "record.legal_name"),
        ({"display_name": "x" * 51}, "record.display_name"),
        ({"display_name": "two\nlines"}, "record.display_name"),
        ({"audience": (b"b" * 20, b"a" * 20)}, "record.audience"),
        ({"audience": (b"b" * 20, b"b" * 20)}, "record.audience"),
        ({"terms": b""}, "record.terms"),
        ({"lei": "SHORT"}, "record.lei"),
    ],
)
def test_a_field_that_does_not_fit_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_record(dataclasses.replace(make_record(ID), **changes).encoded())
    assert caught.value.field == field


def test_an_unknown_critical_field_is_refused_and_an_extension_passed_over() -> None:
    table = decode(make_record(ID).encoded())
    with pytest.raises(Malformed) as caught:
        parse_record(encode({**table, 63: 1}))
    assert caught.value.code == "wire.field_unknown"
    assert parse_record(encode({**table, 64: b"extension"})) == make_record(ID)


def test_a_record_over_its_limit_is_refused() -> None:
    with pytest.raises(Malformed) as caught:
        parse_record(encode({**decode(make_record(ID).encoded()), 64: b"x" * 4096}))
    assert caught.value.code == "wire.too_large"


def account(currency: str, *stores: str, number: str = "1") -> AcquiringAccount:
    return AcquiringAccount(
        merchant_number=number, settlement_reference="s", currency=currency, store_labels=tuple(stores)
    )


def test_the_account_of_a_store_goes_before_a_general_one() -> None:
    general, named = account("EUR"), account("EUR", "north", number="2")
    terms = PaymentTerms(accounts=(general, named, account("CNY")), tip_mode=TipMode.NONE)
    assert terms.account_for("EUR", "north") == named
    assert terms.account_for("EUR", "south") == general
    assert terms.account_for("EUR") == general
    assert terms.account_for("USD") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"tip_mode": TipMode.FIXED},
        {"tip_mode": TipMode.PERCENTAGE},
        {"tip_mode": TipMode.NONE, "fee_fixed_minor": 1},
        {"tip_mode": TipMode.PROMPT, "fee_hundredths_percent": 1},
        {"accounts": ()},
    ],
)
def test_tip_fields_fit_the_mode(changes: dict[str, Any]) -> None:
    terms = PaymentTerms(accounts=(account("EUR"),), tip_mode=TipMode.NONE)
    assert parse_terms(terms.encoded()) == terms
    with pytest.raises(Malformed):
        parse_terms(dataclasses.replace(terms, **changes).encoded())
