"""Messages: what their declaration gives, and what each kind of field refuses."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

import pytest

from onecode.errors import Malformed
from onecode.schema import (
    REGISTERED,
    Bool,
    Bytes,
    Choice,
    Kind,
    ListOf,
    Message,
    Nested,
    Text,
    Uint,
    from_plain,
    from_value,
    item,
    parse,
    to_plain,
)
from onecode.wire import encode


class Fruit(IntEnum):
    APPLE = 1
    SOUR_CHERRY = 2


class SchemaCrate(Message):
    label: str = item(1, Text(10))
    weight_g: int = item(2, Uint(1000))


class SchemaSample(Message):
    late: int | None = item(9, Uint(), default=None)
    name: str = item(1, Text(5))
    id: bytes = item(2, Bytes(4))
    fruit: Fruit = item(3, Choice(Fruit))
    fresh: bool = item(4, Bool())
    numbers: tuple[int, ...] = item(5, ListOf(Uint(), 3, ascending=True))
    crates: tuple[SchemaCrate, ...] = item(6, ListOf(Nested(SchemaCrate), 2))
    first: SchemaCrate | None = item(7, Nested(SchemaCrate), default=None)


class SchemaOpen(Message, extensible=True):
    number: int = item(1, Uint())


SAMPLE = SchemaSample(
    name="abc",
    id=b"\x00\x01\xfe\xff",
    fruit=Fruit.SOUR_CHERRY,
    fresh=True,
    numbers=(1, 2, 300),
    crates=(SchemaCrate(label="x", weight_g=5),),
)
VALUE: dict[int, Any] = {
    1: "abc",
    2: b"\x00\x01\xfe\xff",
    3: 2,
    4: True,
    5: [1, 2, 300],
    6: [{1: "x", 2: 5}],
}
PLAIN: dict[str, Any] = {
    "name": "abc",
    "id": "0001feff",
    "fruit": "sour-cherry",
    "fresh": True,
    "numbers": [1, 2, 300],
    "crates": [{"label": "x", "weight_g": 5}],
}


def refusal(call: Any, *args: Any, **named: Any) -> Malformed:
    with pytest.raises(Malformed) as caught:
        call(*args, **named)
    return caught.value


def test_a_message_goes_to_bytes_and_back() -> None:
    assert SAMPLE.encoded() == encode(VALUE)
    assert parse(SchemaSample, SAMPLE.encoded()) == SAMPLE


def test_an_optional_field_is_written_only_when_it_is_there() -> None:
    full = SchemaSample(**{**vars(SAMPLE), "late": 0, "first": SchemaCrate(label="y", weight_g=0)})
    assert full.encoded() == encode({**VALUE, 7: {1: "y", 2: 0}, 9: 0})
    assert parse(SchemaSample, full.encoded()) == full


def test_a_message_goes_to_json_and_back() -> None:
    assert to_plain(SAMPLE) == PLAIN
    assert from_plain(SchemaSample, json.loads(json.dumps(PLAIN))) == SAMPLE


def test_messages_are_frozen_and_hashable_and_registered() -> None:
    with pytest.raises(AttributeError):
        SAMPLE.name = "other"  # type: ignore[misc]
    assert hash(SAMPLE) == hash(parse(SchemaSample, SAMPLE.encoded()))
    assert REGISTERED["SchemaSample"] is SchemaSample
    assert [spec.number for spec in SchemaSample.FIELDS] == [1, 2, 3, 4, 5, 6, 7, 9]


def test_a_field_number_stands_once() -> None:
    with pytest.raises(TypeError, match="field number twice"):

        class SchemaTwice(Message):
            one: int = item(1, Uint())
            two: int = item(1, Uint())


@pytest.mark.parametrize("number", sorted(VALUE))
def test_a_missing_field_is_named(number: int) -> None:
    name = {spec.number: spec.name for spec in SchemaSample.FIELDS}[number]
    value = {key: part for key, part in VALUE.items() if key != number}
    error = refusal(parse, SchemaSample, encode(value))
    assert (error.code, error.field) == ("wire.field_missing", f"SchemaSample.{name}")


@pytest.mark.parametrize("number", [0, 8, 63, 64, 2**40])
def test_an_unknown_field_is_critical(number: int) -> None:
    error = refusal(parse, SchemaSample, encode({**VALUE, number: 0}))
    assert error.code == "wire.field_unknown"
    assert str(number) in error.message


def test_an_unknown_field_does_not_hide_behind_an_absent_optional_one() -> None:
    value = {key: part for key, part in VALUE.items() if key != 6}
    assert refusal(parse, SchemaSample, encode({**value, 8: 0})).code == "wire.field_missing"


def test_an_extensible_message_passes_over_numbers_from_64() -> None:
    assert parse(SchemaOpen, encode({1: 5, 64: "new", 1000: []})) == SchemaOpen(number=5)
    assert refusal(parse, SchemaOpen, encode({1: 5, 63: "new"})).code == "wire.field_unknown"


def test_a_message_is_a_map() -> None:
    assert refusal(parse, SchemaSample, encode([1])).field == "SchemaSample"
    assert refusal(from_plain, SchemaSample, [1]).field == "SchemaSample"


def test_size_is_bounded_by_the_caller() -> None:
    data = SAMPLE.encoded()
    assert parse(SchemaSample, data, size_max=len(data)) == SAMPLE
    assert refusal(parse, SchemaSample, data, size_max=len(data) - 1).code == "wire.too_large"


LOADS_NOT: list[tuple[Kind, Any]] = [
    (Uint(), True),
    (Uint(), "1"),
    (Uint(), b"1"),
    (Uint(9), 10),
    (Bool(), 1),
    (Bool(), 0),
    (Bytes(4), b"123"),
    (Bytes(4), b"12345"),
    (Bytes(4), "1234"),
    (Bytes(1, 3), b""),
    (Bytes(1, 3), b"1234"),
    (Text(3), ""),
    (Text(3), "abcd"),
    (Text(3), b"abc"),
    (Text(3), "a\n"),
    (Text(3), "\x00"),
    (Text(3), "\x7f"),
    (Text(3), "\x9f"),
    (Text(3), "\ud800"),
    (Text(3, min=2), "a"),
    (Choice(Fruit), 3),
    (Choice(Fruit), 0),
    (Choice(Fruit), True),
    (Choice(Fruit), "apple"),
    (Choice(Fruit), []),
    (ListOf(Uint(), 2), [1, 2, 3]),
    (ListOf(Uint(), 2, min=1), []),
    (ListOf(Uint(), 2), {0: 1}),
    (ListOf(Uint(), 2), 1),
    (ListOf(Uint(), 3, ascending=True), [2, 1]),
    (ListOf(Uint(), 3, ascending=True), [1, 1]),
    (Nested(SchemaCrate), [1]),
    (Nested(SchemaCrate), {1: "x"}),
]


@pytest.mark.parametrize(("kind", "value"), LOADS_NOT)
def test_a_kind_refuses(kind: Kind, value: Any) -> None:
    error = refusal(kind.load, value, "the.path")
    assert error.field is not None
    assert error.field.startswith("the.path")
    assert error.field in error.message


LOADS: list[tuple[Kind, Any, Any]] = [
    (Uint(9), 9, 9),
    (Bytes(4), b"1234", b"1234"),
    (Bytes(0, 3), b"", b""),
    (Bytes(1, 3), b"123", b"123"),
    (Text(3, min=0), "", ""),
    (Text(3), "äöü", "äöü"),
    (Text(3), "\U00010151 \xa0", "\U00010151 \xa0"),
    (Choice(Fruit), 2, Fruit.SOUR_CHERRY),
    (ListOf(Uint(), 2), [2, 1], (2, 1)),
    (ListOf(Text(3), 3, ascending=True), ["b", "aa"], ("b", "aa")),  # order of the encodings: shorter text first
]


@pytest.mark.parametrize(("kind", "value", "expected"), LOADS)
def test_a_kind_takes_its_edges(kind: Kind, value: Any, expected: Any) -> None:
    loaded = kind.load(value, "x")
    assert loaded == expected
    assert type(loaded) is type(expected)
    assert kind.dump(loaded) == value
    assert kind.from_plain(json.loads(json.dumps(kind.to_plain(loaded))), "x") == expected


PLAIN_NOT: list[tuple[str, Any]] = [
    ("id", "0001FEFF"),
    ("id", "00 01 fe ff"),
    ("id", "0001fe"),
    ("id", "0001fef"),
    ("id", "zz"),
    ("id", ""),
    ("id", None),
    ("id", 7),
    ("id", ["00"]),
    ("fruit", "APPLE"),
    ("fruit", "sour_cherry"),
    ("fruit", 1),
    ("fruit", None),
    ("fruit", []),
    ("fruit", {}),
    ("name", "\ud800"),
    ("name", 5),
    ("fresh", 1),
    ("numbers", [3, 2]),
    ("numbers", "123"),
    ("numbers", [1.0]),
    ("numbers", [1, 2, 3, 4]),
    ("crates", [7]),
    ("crates", [{"label": "x"}]),
    ("late", None),
    ("late", -1),
    ("late", 2**64),
]


@pytest.mark.parametrize(("name", "bad"), PLAIN_NOT)
def test_a_bad_plain_field_is_named(name: str, bad: Any) -> None:
    error = refusal(from_plain, SchemaSample, {**PLAIN, name: bad})
    assert error.field is not None
    assert error.field.startswith(f"SchemaSample.{name}")


def test_plain_fields_are_all_there_and_no_others() -> None:
    assert refusal(from_plain, SchemaSample, {**PLAIN, "extra": 1}).field == "SchemaSample.extra"
    assert refusal(from_plain, SchemaSample, {"name": "abc"}).code == "wire.field_missing"


def test_a_path_in_front_is_kept() -> None:
    assert refusal(from_value, SchemaCrate, {1: "x"}, "order.crates[2]").field == "order.crates[2].weight_g"


def test_kinds_describe_themselves() -> None:
    described = {spec.name: spec.kind.describe() for spec in SchemaSample.FIELDS}
    assert described["name"] == "text of 1 to 5 characters"
    assert described["id"] == "bytes(4)"
    assert described["fruit"] == "1 apple / 2 sour-cherry"
    assert described["numbers"] == "list of 0 to 3 of uint, ascending"
    assert described["first"] == "SchemaCrate"
