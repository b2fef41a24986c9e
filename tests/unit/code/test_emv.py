"""Every rule of the payload: one object wrong at a time, in a payload that is right otherwise."""

from __future__ import annotations

import binascii

import pytest

from onecode.code.emv import TEXT_BYTES_MAX, build_payload, crc_text, parse_payload, with_crc
from onecode.code.tlv import DataObject, join_objects, split_objects
from onecode.errors import Malformed

BASE = {
    "00": "01",
    "02": "4000123456789012",
    "52": "5251",
    "53": "840",
    "58": "US",
    "59": "Example Hammers",
    "60": "New York",
}


def objects(**changes: str | None) -> list[DataObject]:
    values: dict[str, str | None] = {**BASE, **{name[1:]: value for name, value in changes.items()}}
    return [DataObject(name, value) for name, value in sorted(values.items()) if value is not None]


RIGHT = [
    {},
    {"o01": "11"},
    {"o54": "98."},
    {"o54": "0.01"},
    {"o55": "01"},
    {"o55": "02", "o56": "10.75"},
    {"o55": "03", "o57": "00.01"},
    {"o55": "03", "o57": "99.99"},
    {"o26": "0032" + "0" * 32 + "0104abcd"},
    {"o59": "a" * 25, "o60": "b" * 15, "o61": "c" * 10},
    {"o62": "0103***0902AM1103521"},
    {"o62": "1020" + "9" * 20},
    {"o62": "5007" + "0003abc"},
    {"o64": "0002ZH0104最佳运输0202北京"},
    {"o80": "0003abc0102ßπ"},
]
WRONG = [
    ({"o00": "02"}, "code.value", "00"),
    ({"o01": "13"}, "code.value", "01"),
    ({"o01": "1"}, "code.length", "01"),
    ({"o02": "4000é"}, "code.format", "02"),
    ({"o52": "52A1"}, "code.format", "52"),
    ({"o52": "٥٢٥١"}, "code.format", "52"),
    ({"o53": "84"}, "code.length", "53"),
    ({"o54": "12,50"}, "code.value", "54"),
    ({"o54": "."}, "code.value", "54"),
    ({"o54": "1.2.3"}, "code.value", "54"),
    ({"o54": "0.00"}, "code.value", "54"),
    ({"o54": "1" * 14}, "code.length", "54"),
    ({"o55": "04"}, "code.value", "55"),
    ({"o55": "02"}, "code.tip", "56"),
    ({"o56": "1"}, "code.tip", "56"),
    ({"o55": "02", "o56": "0"}, "code.value", "56"),
    ({"o55": "03"}, "code.tip", "57"),
    ({"o55": "01", "o57": "5"}, "code.tip", "57"),
    ({"o55": "03", "o57": "100"}, "code.value", "57"),
    ({"o55": "03", "o57": "0.00"}, "code.value", "57"),
    ({"o55": "03", "o57": "5%"}, "code.value", "57"),
    ({"o58": "us"}, "code.value", "58"),
    ({"o58": "USA"}, "code.length", "58"),
    ({"o59": "Ех"}, "code.format", "59"),
    ({"o59": "a" * 26}, "code.length", "59"),
    ({"o60": "b" * 16}, "code.length", "60"),
    ({"o61": "c" * 11}, "code.length", "61"),
    ({"o26": "0103abc"}, "code.guid", "26.00"),
    ({"o26": "00"}, "code.template", "26"),
    ({"o26": "0033" + "0" * 33}, "code.length", "26.00"),
    ({"o26": "0003abc0100"}, "code.length", "26.01"),
    ({"o26": "0003abc0101x0101y"}, "code.duplicate", "26.01"),
    ({"o62": "01050x"}, "code.template", "62"),
    ({"o62": "0003abc"}, "code.reserved", "62.00"),
    ({"o62": "0126" + "x" * 26}, "code.length", "62.01"),
    ({"o62": "0902AA"}, "code.value", "62.09"),
    ({"o62": "0901X"}, "code.value", "62.09"),
    ({"o62": "1021" + "9" * 21}, "code.length", "62.10"),
    ({"o62": "1103821"}, "code.value", "62.11"),
    ({"o62": "5003abc"}, "code.template", "62.50"),
    ({"o62": "50070103abc"}, "code.guid", "62.50.00"),
    ({"o64": "0002ZH"}, "code.missing", "64.01"),
    ({"o64": "0101x"}, "code.missing", "64.00"),
    ({"o64": "0002Z10101x"}, "code.value", "64.00"),
    ({"o64": "0002EN0102a\u202e"}, "code.format", "64"),
    ({"o64": "0002FR0102e\u0301"}, "code.format", "64"),
    ({"o80": "0103abc"}, "code.guid", "80.00"),
    ({"o02": None}, "code.missing", "02-51"),
    *[({f"o{name}": None}, "code.missing", name) for name in ("52", "53", "58", "59", "60")],
]
RESERVED = [
    ({"o65": "x"}, "65"),
    ({"o79": "x"}, "79"),
    ({"o62": "1203abc"}, "62.12"),
    ({"o64": "0002EN0101x0301y"}, "64.03"),
]


@pytest.mark.parametrize("changes", RIGHT)
def test_what_the_specification_allows_is_written_and_read(changes: dict[str, str]) -> None:
    text = build_payload(objects(**changes))
    payload = parse_payload(text)
    assert payload.text == text
    assert list(payload.objects[:-1]) == objects(**changes)


@pytest.mark.parametrize(("changes", "code", "field"), WRONG)
def test_a_deviation_is_named(changes: dict[str, str | None], code: str, field: str) -> None:
    text = with_crc(join_objects(objects(**changes)))
    for attempt in (lambda: parse_payload(text), lambda: build_payload(objects(**changes))):
        with pytest.raises(Malformed) as refused:
            attempt()
        assert (refused.value.code, refused.value.field) == (code, field)
    found = parse_payload(text, lenient=True).deviations
    assert [(deviation.code, deviation.object) for deviation in found] == [(code, field)]


@pytest.mark.parametrize(("changes", "field"), RESERVED)
def test_reserved_objects_are_read_over_and_never_written(changes: dict[str, str], field: str) -> None:
    assert parse_payload(with_crc(join_objects(objects(**changes)))).deviations == ()
    with pytest.raises(Malformed) as refused:
        build_payload(objects(**changes))
    assert (refused.value.code, refused.value.field) == ("code.reserved", field)


@pytest.mark.parametrize(
    ("items", "code", "field"),
    [
        ([*objects()[1:], objects()[0]], "code.order", "00"),
        ([*objects(), DataObject("53", "840")], "code.duplicate", "53"),
        (
            [*objects(), *(DataObject(str(n), f"0003abc0190{'x' * 90}"[:99]) for n in range(80, 85))],
            "code.size",
            "payload",
        ),
    ],
)
def test_rules_of_the_whole(items: list[DataObject], code: str, field: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_payload(with_crc(join_objects(items)))
    assert (refused.value.code, refused.value.field) == (code, field)


@pytest.mark.parametrize("item", [DataObject("5", "x"), DataObject("²²", "x"), DataObject("AB", "x")])
def test_an_object_needs_two_digits(item: DataObject) -> None:
    with pytest.raises(Malformed) as refused:
        join_objects([item])
    assert refused.value.code == "code.object_id"


@pytest.mark.parametrize("value", ["", "x" * 100])
def test_a_value_has_1_to_99_characters(value: str) -> None:
    with pytest.raises(Malformed) as refused:
        join_objects([DataObject("59", value)], within="64")
    assert (refused.value.code, refused.value.field) == ("code.length", "64.59")


def test_lengths_count_characters() -> None:
    assert split_objects("5904最佳运输") == (DataObject("59", "最佳运输"),)


@pytest.mark.parametrize("text", ["0", "000", "000A", "0002", "00020", "0001x5", "٠٠٠١x"])
def test_broken_structure_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        split_objects(text)
    assert refused.value.code == "code.tlv"


def test_the_crc_is_the_published_one() -> None:
    assert f"{binascii.crc_hqx(b'123456789', 0xFFFF):04X}" == "29B1"
    assert (
        crc_text(
            "00020101021229300012D156000000000510A93FO3230Q31280012D15600000001030812345678"
            "520441115802CN5914BEST TRANSPORT6007BEIJING64200002ZH0104最佳运输0202北京"
            "540523.7253031565502016233030412340603***0708A60086670902ME91320016A0112233449988770708"
            "12345678"
        )
        == "A13A"
    )


def test_lower_case_crc_digits_are_a_deviation() -> None:
    texts = (build_payload(objects(o61=str(number))) for number in range(100))
    text = next(text for text in texts if not text[-4:].isdigit())
    lower = text[:-4] + text[-4:].lower()
    assert [deviation.code for deviation in parse_payload(lower, lenient=True).deviations] == ["code.crc_case"]
    with pytest.raises(Malformed) as refused:
        parse_payload(lower)
    assert refused.value.code == "code.crc_case"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "code.crc"),
        ("6304", "code.crc"),
        ("63041D0F", "code.crc"),
        ("upi://pay?pa=x", "code.crc"),
        ("\ud800", "code.text"),
        ("x" * (TEXT_BYTES_MAX + 1), "code.too_large"),
    ],
)
def test_what_is_no_payload_is_refused_even_leniently(text: str, code: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_payload(text, lenient=True)
    assert refused.value.code == code


def test_values_that_deviate_read_as_absent() -> None:
    payload = parse_payload(with_crc(join_objects(objects(o59="Ех", o62="0303S-10726" + "x" * 26))), lenient=True)
    assert payload.value("59") is None
    assert payload.value("62.03") == "S-1"
    assert payload.value("62.07") is None
    assert payload.value("62.05") is None
    assert payload.value("60") == "New York"
