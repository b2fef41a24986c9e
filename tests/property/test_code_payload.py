"""Payloads: what is built is read back the same, and no single slip turns one code into another."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecode.code.currency import CURRENCIES, format_amount, parse_amount_minor
from onecode.code.emv import parse_payload, with_crc
from onecode.code.label import OrderTerms, StaticLabel, add_identity, build_dynamic, build_static
from onecode.code.order import verify_order
from onecode.code.reading import Code, ForeignCode, parse_code
from onecode.code.tlv import DataObject, join_objects, split_objects
from onecode.errors import Malformed, OnecodeError
from onecode.wire import SigningKey

CHAIN, NOW_MS = "onecode-1", 1_790_000_000_000
KEY = SigningKey.from_seed(b"\x09" * 32)
OBJECTS = st.builds(DataObject, st.integers(0, 99).map("{:02d}".format), st.text(min_size=1, max_size=99))


def ans(size_max: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=size_max)


LABELS = st.builds(
    StaticLabel,
    merchant_id=st.binary(min_size=20, max_size=20),
    prefix=st.just("oc"),
    mcc=st.integers(0, 9999).map("{:04d}".format),
    currency=st.sampled_from(CURRENCIES).map(lambda currency: currency.numeric),
    country=st.sampled_from(["DE", "PT", "JP", "BH"]),
    name=ans(25),
    city=ans(15),
    postal_code=st.none() | ans(10),
    store_label=st.none() | ans(25),
    reference=st.none() | ans(25),
    terminal_label=st.none() | ans(25),
    tip_prompt=st.booleans(),
    template=st.integers(26, 51).map(str),
)
ORDERS = st.builds(
    OrderTerms,
    amount_minor=st.integers(1, 10**10),
    reference=ans(25).filter(lambda text: text != "***"),
    expiry_ms=st.integers(NOW_MS + 1, NOW_MS + 3_600_000),
)
SAMPLE = StaticLabel(bytes(range(20)), "oc", "5812", "978", "DE", "Cafe Beispiel", "Berlin", store_label="S-1")
STATIC = build_static(SAMPLE)
DYNAMIC = build_dynamic(SAMPLE, OrderTerms(1250, "R-1", NOW_MS + 1000), KEY.sign_bytes, CHAIN)


def printed(code: Code | ForeignCode) -> dict[str, object]:
    assert isinstance(code, Code)
    names = ("merchant_id", "name", "city", "mcc", "country", "currency", "store_label", "terminal_label", "tip_prompt")
    return {name: getattr(code, name) for name in names}


@given(st.lists(OBJECTS, max_size=20))
def test_objects_and_back(objects: list[DataObject]) -> None:
    assert list(split_objects(join_objects(objects))) == objects


@given(LABELS)
def test_a_static_label_and_back(label: StaticLabel) -> None:
    code = parse_code(build_static(label), prefix="oc")
    assert printed(code) == {name: getattr(label, name) for name in printed(code)}
    assert isinstance(code, Code)
    assert (code.reference, code.order, code.deviations) == (label.reference, None, ())


@given(LABELS, ORDERS)
def test_an_order_and_back(label: StaticLabel, order: OrderTerms) -> None:
    code = parse_code(build_dynamic(label, order, KEY.sign_bytes, CHAIN), prefix="oc")
    assert printed(code) == {name: getattr(label, name) for name in printed(code)}
    assert isinstance(code, Code)
    verified = verify_order(code, [b"\0" * 32, KEY.public], CHAIN, NOW_MS)
    assert (verified.amount_minor, verified.reference, verified.expiry_ms) == dataclasses.astuple(order)
    assert (verified.merchant_id, verified.currency.numeric) == (label.merchant_id, label.currency)


@settings(max_examples=400)
@given(st.sampled_from([STATIC, DYNAMIC]), st.data(), st.characters(min_codepoint=32, max_codepoint=126))
def test_one_character_changed_is_refused_or_changes_nothing(text: str, data: st.DataObject, char: str) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + char + text[at + 1 :]
    try:
        code = parse_code(changed, prefix="oc")
    except OnecodeError:
        assert changed != text
        return
    same = parse_code(text, prefix="oc")
    assert isinstance(code, Code) and isinstance(same, Code)
    assert dataclasses.replace(code, deviations=()) == same


@given(st.data(), st.characters(min_codepoint=32, max_codepoint=126))
def test_a_forged_order_with_a_right_crc_is_refused(data: st.DataObject, char: str) -> None:
    body = DYNAMIC[:-8]
    at = data.draw(st.integers(0, len(body) - 1))
    forged = with_crc(body[:at] + char + body[at + 1 :])
    if forged == DYNAMIC:
        return
    try:
        code = parse_code(forged, prefix="oc")
        if isinstance(code, ForeignCode):
            raise AssertionError("a foreign code with an amount was taken")
        verified = verify_order(code, [KEY.public], CHAIN, NOW_MS)
    except OnecodeError:
        return
    # Only the number of a signature template is outside of what is signed, and it says nothing.
    same = parse_code(DYNAMIC, prefix="oc")
    assert isinstance(same, Code)
    assert verified == verify_order(same, [KEY.public], CHAIN, NOW_MS)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_code(text, prefix="oc")


@given(st.lists(OBJECTS, max_size=12))
def test_any_objects_with_a_right_crc_are_read_or_refused(objects: list[DataObject]) -> None:
    text = with_crc(join_objects(objects))
    try:
        payload = parse_payload(text, lenient=True)
    except Malformed:
        return
    assert list(payload.objects[:-1]) == objects
    for name in ("53", "59", "62.03", "62.05", "64.01", "26.00"):
        payload.value(name)
    try:
        code = parse_code(text, prefix="oc")
    except OnecodeError:
        return
    assert isinstance(code, ForeignCode)


@given(st.lists(st.integers(26, 51), unique=True, max_size=25), ans(20), st.binary(min_size=20, max_size=20))
def test_an_identity_is_added_without_changing_anything_else(templates: list[int], value: str, number: bytes) -> None:
    accounts = [
        DataObject(str(n), join_objects([DataObject("00", "com.example"), DataObject("01", value)])) for n in templates
    ]
    rest = split_objects("5204581253039785802DE5904Shop6004Bonn")
    old = with_crc(join_objects([DataObject("00", "01"), *accounts, *rest]))
    new = add_identity(old, number, "oc")
    code = parse_code(new, prefix="oc")
    assert isinstance(code, Code) and code.merchant_id == number
    added = [
        item
        for item in split_objects(new)
        if item.id not in {"63", *map(str, templates), "00", "52", "53", "58", "59", "60"}
    ]
    assert len(added) == 1
    assert [item for item in split_objects(new)[:-1] if item not in added] == list(split_objects(old)[:-1])


@given(st.integers(0, 10**9), st.sampled_from([0, 2, 3]))
def test_amounts_and_back(amount_minor: int, exponent: int) -> None:
    assert parse_amount_minor(format_amount(amount_minor, exponent), exponent) == amount_minor
