from __future__ import annotations

import pytest

from onecode.code.currency import BY_ALPHA, BY_NUMERIC, CURRENCIES, find_currency, format_amount, parse_amount_minor
from onecode.errors import Malformed


def test_the_table_is_whole_and_unambiguous() -> None:
    assert len(CURRENCIES) == len(BY_ALPHA) == len(BY_NUMERIC) == 155
    assert all(c.alpha.isalpha() and c.alpha.isupper() and len(c.alpha) == 3 for c in CURRENCIES)
    assert all(c.numeric.isdigit() and len(c.numeric) == 3 for c in CURRENCIES)


@pytest.mark.parametrize(
    ("code", "alpha", "exponent"),
    [("978", "EUR", 2), ("392", "JPY", 0), ("048", "BHD", 3), ("TND", "TND", 3), ("924", "ZWG", 2), ("356", "INR", 2)],
)
def test_currencies_are_found_by_both_codes(code: str, alpha: str, exponent: int) -> None:
    found = find_currency(code)
    assert (found.alpha, found.exponent) == (alpha, exponent)


@pytest.mark.parametrize("code", ["000", "999", "963", "191", "eur", "", "DEM"])
def test_what_is_no_active_currency_is_refused(code: str) -> None:
    with pytest.raises(Malformed) as refused:
        find_currency(code)
    assert refused.value.code == "code.currency"


@pytest.mark.parametrize(
    ("text", "exponent", "amount_minor"),
    [
        ("12.5", 2, 1250),
        ("12.50", 2, 1250),
        ("98.", 2, 9800),
        ("98.", 0, 98),
        ("0.001", 3, 1),
        ("007", 0, 7),
        ("0", 2, 0),
        ("9999999999.99", 2, 999_999_999_999),
        ("9999999999999", 3, 9_999_999_999_999_000),
    ],
)
def test_amounts_are_read_exactly(text: str, exponent: int, amount_minor: int) -> None:
    assert parse_amount_minor(text, exponent) == amount_minor


@pytest.mark.parametrize(
    "text", ["", ".", ".5", "1,5", "1 5", "-1", "+1", "1e3", "1.2.3", "١٢", "12345678901234", "1\n"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_amount_minor(text, 2)
    assert refused.value.code == "code.amount"


@pytest.mark.parametrize(("text", "exponent"), [("1.005", 2), ("1.500", 2), ("1.0", 0), ("0.0001", 3)])
def test_more_decimals_than_the_currency_has_are_refused(text: str, exponent: int) -> None:
    with pytest.raises(Malformed) as refused:
        parse_amount_minor(text, exponent, field="54")
    assert (refused.value.code, refused.value.field) == ("code.amount_decimals", "54")


def test_amounts_are_written_with_all_decimals() -> None:
    assert [format_amount(5, exponent) for exponent in (0, 2, 3)] == ["5", "0.05", "0.005"]
    assert format_amount(1250, 2) == "12.50"


@pytest.mark.parametrize("amount_minor", [-1, 1_000_000_000_000])
def test_amounts_that_do_not_fit_object_54_are_refused(amount_minor: int) -> None:
    with pytest.raises(Malformed) as refused:
        format_amount(amount_minor, 2)
    assert refused.value.code == "code.amount_range"
