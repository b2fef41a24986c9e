from __future__ import annotations

import dataclasses

import pytest

from onecode.code.emv import parse_payload, with_crc
from onecode.code.label import OrderTerms, StaticLabel, add_identity, build_dynamic, build_static
from onecode.code.reading import Code, ForeignCode, parse_code
from onecode.errors import Malformed, Untrusted
from onecode.wire import SigningKey

KEY = SigningKey.from_seed(b"\x07" * 32)
LABEL = StaticLabel(bytes(range(20)), "oc", "5812", "978", "DE", "Cafe Beispiel", "Berlin")
ORDER = OrderTerms(990, "R-1", 1_790_000_600_000)


def foreign(*accounts: str) -> str:
    templates = "".join(f"{number}230011com.example0104AB{number}" for number in accounts)
    return with_crc(f"000201010211{templates}5204581253039785802DE5904Shop6004Bonn")


def test_a_static_label_without_anything_optional_is_short() -> None:
    text = build_static(LABEL)
    assert len(text) <= 132
    assert parse_payload(text).value("62.03") is None


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"mcc": "58"}, "code.length", "52"),
        ({"currency": "EUR"}, "code.currency", "currency"),
        ({"currency": "999"}, "code.currency", "currency"),
        ({"country": "de"}, "code.value", "58"),
        ({"name": "Café"}, "code.format", "59"),
        ({"name": ""}, "code.length", "59"),
        ({"city": "x" * 16}, "code.length", "60"),
        ({"store_label": "x" * 26}, "code.length", "62.03"),
        ({"terminal_label": ""}, "code.length", "62.07"),
        ({"template": "25"}, "code.template_id", "template"),
        ({"template": "52"}, "code.template_id", "template"),
        ({"merchant_id": b"short"}, "code.id_size", "merchant_id"),
        (
            {"store_label": "s" * 25, "terminal_label": "t" * 25, "reference": "r" * 25, "name": "n" * 26},
            "code.length",
            "59",
        ),
    ],
)
def test_a_label_that_breaks_a_rule_is_refused(change: dict[str, object], code: str, field: str) -> None:
    with pytest.raises(Malformed) as refused:
        build_static(dataclasses.replace(LABEL, **change))  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.field) == (code, field)


@pytest.mark.parametrize(
    ("order", "chain_id", "code"),
    [
        (dataclasses.replace(ORDER, amount_minor=0), "onecode-1", "code.value"),
        (dataclasses.replace(ORDER, amount_minor=-1), "onecode-1", "code.amount_range"),
        (dataclasses.replace(ORDER, amount_minor=10**12), "onecode-1", "code.amount_range"),
        (dataclasses.replace(ORDER, reference=""), "onecode-1", "code.length"),
        (dataclasses.replace(ORDER, reference="***"), "onecode-1", "code.reference"),
        (dataclasses.replace(ORDER, reference="r" * 26), "onecode-1", "code.length"),
        (dataclasses.replace(ORDER, expiry_ms=1_790_000_600), "onecode-1", "code.expiry"),
        (ORDER, "solo-1", "code.id_prefix"),
    ],
)
def test_an_order_that_breaks_a_rule_is_refused(order: OrderTerms, chain_id: str, code: str) -> None:
    with pytest.raises(Malformed) as refused:
        build_dynamic(LABEL, order, KEY.sign_bytes, chain_id)
    assert refused.value.code == code


def test_a_signer_that_gives_no_signature_is_refused() -> None:
    with pytest.raises(Malformed) as refused:
        build_dynamic(LABEL, ORDER, lambda message: message[:63], "onecode-1")
    assert refused.value.code == "code.signature"


def test_the_longest_dynamic_code_keeps_to_512_characters() -> None:
    label = dataclasses.replace(
        LABEL,
        name="n" * 25,
        city="c" * 15,
        postal_code="p" * 10,
        store_label="s" * 25,
        terminal_label="t" * 25,
        tip_prompt=True,
    )
    order = OrderTerms(999_999_999_999, "r" * 25, ORDER.expiry_ms)
    assert len(build_dynamic(label, order, KEY.sign_bytes, "onecode-1")) <= 512


def test_an_added_identity_changes_no_other_object() -> None:
    old = foreign("26", "28")
    new = add_identity(old, LABEL.merchant_id, "oc")
    before, after = parse_payload(old).objects, parse_payload(new).objects
    assert [item for item in after if item.id != "27"][:-1] == list(before[:-1])
    assert [item.id for item in after][2:6] == ["26", "28", "27", "52"]
    code = parse_code(new, prefix="oc")
    assert isinstance(code, Code)
    assert (code.merchant_id, code.name) == (LABEL.merchant_id, "Shop")


def test_identity_cannot_be_added_twice_or_to_a_full_label() -> None:
    once = add_identity(foreign("26"), LABEL.merchant_id, "oc")
    with pytest.raises(Malformed) as refused:
        add_identity(once, LABEL.merchant_id, "oc")
    assert refused.value.code == "code.identity"
    with pytest.raises(Malformed) as refused:
        add_identity(foreign(*map(str, range(26, 52))), LABEL.merchant_id, "oc")
    assert refused.value.code == "code.template_id"


def test_identity_is_not_added_to_a_code_that_could_not_be_read() -> None:
    old = foreign("26")[:-8]
    for text, code in (
        (old + "54041.00", "code.amount_unsigned"),
        (old.replace("010211", "010212"), "code.dynamic_unsigned"),
    ):
        with pytest.raises(Untrusted) as refused:
            add_identity(with_crc(text), LABEL.merchant_id, "oc")
        assert refused.value.code == code


def test_a_foreign_label_gives_its_sources_and_skips_what_is_no_template() -> None:
    text = with_crc(
        "00020102164000123456789012"
        + "26230011com.example0104AB26"
        + "270411XX"
        + "28120108NO-GUID1"
        + "29220003abc0101x0101y0101z"
        + "5204581253039785802DE5904Shop6004Bonn62070303S-9"
    )
    code = parse_code(text, prefix="oc")
    assert isinstance(code, ForeignCode)
    assert [(source.template, source.guid, source.subs) for source in code.sources] == [
        ("26", "com.example", {"01": "AB26"})
    ]
    assert (code.store_label, code.currency) == ("S-9", "978")
    assert {deviation.object for deviation in code.deviations} == {"27", "28.00", "29.01"}
