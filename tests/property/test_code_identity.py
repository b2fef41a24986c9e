"""Ids as text: whatever single slip a hand or a scanner makes is caught."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecode.code.identity import (
    merchant_text,
    parse_merchant_text,
    parse_platform_text,
    platform_text,
)
from onecode.errors import Malformed

IDS = st.binary(min_size=20, max_size=20)
PREFIXES = st.sampled_from(["oc", "ocs"])
PRINTABLE = [chr(number) for number in range(33, 127)]


def assert_refused(text: str, prefix: str) -> None:
    with pytest.raises(Malformed):
        parse_merchant_text(text, prefix)


@given(IDS, PREFIXES)
def test_text_and_back(number: bytes, prefix: str) -> None:
    text = merchant_text(number, prefix)
    assert parse_merchant_text(text, prefix) == parse_merchant_text(text.upper(), prefix) == number
    assert parse_platform_text(platform_text(number, prefix), prefix) == number


@given(IDS, PREFIXES, st.data())
def test_any_one_character_changed_is_caught(number: bytes, prefix: str, data: st.DataObject) -> None:
    text = merchant_text(number, prefix)
    at = data.draw(st.integers(0, len(text) - 1))
    for char in PRINTABLE:
        if char != text[at]:
            assert_refused(text[:at] + char + text[at + 1 :], prefix)


@given(IDS, PREFIXES)
def test_any_two_neighbours_swapped_are_caught(number: bytes, prefix: str) -> None:
    text = merchant_text(number, prefix)
    for at in range(len(text) - 1):
        if text[at] != text[at + 1]:
            assert_refused(text[:at] + text[at + 1] + text[at] + text[at + 2 :], prefix)


@given(IDS, PREFIXES, st.data())
def test_a_character_lost_or_doubled_is_caught(number: bytes, prefix: str, data: st.DataObject) -> None:
    text = merchant_text(number, prefix)
    at = data.draw(st.integers(0, len(text) - 1))
    assert_refused(text[:at] + text[at + 1 :], prefix)
    assert_refused(text[:at] + text[at] + text[at:], prefix)


@given(st.text(max_size=100))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        number = parse_merchant_text(text, "oc")
    except Malformed:
        return
    assert merchant_text(number, "oc") == text.lower()
