"""What counts as a difference between a printed code and a record, and what does not."""

from __future__ import annotations

import dataclasses

import pytest

from chain_world import make_record
from onecode.code.reading import Code, ForeignCode, parse_code
from onecode.record.payment import PaymentTerms, parse_terms
from onecode.wallet.printed import find_differences
from simulator.world import STATIC, foreign

RECORD = make_record(b"p" * 20)
TERMS: PaymentTerms = parse_terms(RECORD.terms)


def found(recorded_name: str = "Noodle House", **printed: str | None) -> list[str]:
    code = parse_code(STATIC, prefix="oc")
    assert isinstance(code, Code)
    record = dataclasses.replace(RECORD, display_name=recorded_name)
    changed = dataclasses.replace(code, **printed)  # type: ignore[arg-type]
    return [difference.code for difference in find_differences(changed, record, TERMS)]


@pytest.mark.parametrize(
    ("printed", "recorded"),
    [
        ("Noodle House", "Noodle House"),
        ("NOODLE HOUSE", "Noodle House"),
        ("Noodle  House", "Noodle House"),
        ("The Very Long Noodle Hous", "The Very Long Noodle House of Berlin"),
        ("The Very Long and Wide No", "The Very Long and Wide No odle"),
    ],
)
def test_a_name_that_was_cut_or_set_in_capitals_is_the_same(printed: str, recorded: str) -> None:
    assert found(recorded, name=printed) == []


@pytest.mark.parametrize("printed", ["Noodle", "Noodle Houze", "N"])
def test_another_name_differs(printed: str) -> None:
    assert found(name=printed) == ["differs.name"]


def test_what_the_code_does_not_say_does_not_differ() -> None:
    assert found(name=None, mcc=None, country=None, currency=None) == []


def test_each_difference_has_its_own_code() -> None:
    assert found(mcc="5411") == ["differs.mcc"]
    assert found(country="AT") == ["differs.country"]
    assert found(currency="756") == ["differs.currency"]


def test_a_category_that_the_label_leaves_open_does_not_differ() -> None:
    assert found(mcc="0000") == []


def test_a_label_of_another_scheme_is_compared_in_the_same_way() -> None:
    code = parse_code(foreign("SHOP-1"), prefix="oc")
    assert isinstance(code, ForeignCode)
    other = dataclasses.replace(code, name="Somebody", mcc="5411", country="AT", currency="756")
    differences = find_differences(other, RECORD, TERMS)
    assert [one.code for one in differences] == ["differs.name", "differs.mcc", "differs.country", "differs.currency"]
    same = dataclasses.replace(code, name=RECORD.display_name, mcc=RECORD.mcc, country=RECORD.country, currency=None)
    assert find_differences(same, RECORD, TERMS) == ()
