"""What EMVCo Merchant-Presented QR v1.1 demands of a payload's objects, rule by rule.

A rule yields a `Malformed` for each deviation: the strict reader and the writer raise the first, the lenient reader
keeps them all. Objects reserved for EMVCo (65-79, 62.12-49, 64.03-99) are passed over by a reader, which must ignore
them (1.4.4, 4.5.4), and refused to a writer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from onecode.code.tlv import VALUE_CHARS_MAX, DataObject, split_objects
from onecode.errors import Malformed

PAYLOAD_CHARS_MAX = 512  # 4.12: "should not exceed"
MANDATORY = ("00", "52", "53", "58", "59", "60")

_DIRECTION_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

Deviations = Iterator[Malformed]
Check = Callable[[str], bool]


# --- formats ---------------------------------------------------------------------------------------------------------


def _is_numeric(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _is_ans(value: str) -> bool:
    """Whether every character is of the common character set (EMV Book 4, annex B): printable ASCII."""
    return all(" " <= char <= "~" for char in value)


def _is_unicode(value: str) -> bool:
    """Precomposed, without controls and without marks of direction, which change how the rest is read."""
    return unicodedata.is_normalized("NFC", value) and not any(
        char in _DIRECTION_MARKS or unicodedata.category(char) in ("Cc", "Cs", "Co") for char in value
    )


_FORMATS: dict[str, tuple[Check, str]] = {
    "N": (_is_numeric, "digits only"),
    "ans": (_is_ans, "printable ASCII characters only"),
    "S": (_is_unicode, "precomposed characters without controls only"),
}

# id: format, least and most characters
_ROOT = {
    "00": ("N", 2, 2),
    "01": ("N", 2, 2),
    "52": ("N", 4, 4),
    "53": ("N", 3, 3),
    "54": ("ans", 1, 13),
    "55": ("N", 2, 2),
    "56": ("ans", 1, 13),
    "57": ("ans", 1, 5),
    "58": ("ans", 2, 2),
    "59": ("ans", 1, 25),
    "60": ("ans", 1, 15),
    "61": ("ans", 1, 10),
    "63": ("ans", 4, 4),
}
_ACCOUNT = ("ans", 1, VALUE_CHARS_MAX)
_ANY = ("S", 1, VALUE_CHARS_MAX)
_ADDITIONAL = {f"{number:02d}": ("ans", 1, 25) for number in range(1, 9)} | {
    "09": ("ans", 1, 3),
    "10": ("ans", 1, 20),
    "11": ("N", 3, 3),
}
_LANGUAGE = {"00": ("ans", 2, 2), "01": ("S", 1, 25), "02": ("S", 1, 15)}
_GUID = ("ans", 1, 32)

# --- values ----------------------------------------------------------------------------------------------------------

_AMOUNT = re.compile(r"[0-9]+(\.[0-9]*)?")
_PERCENTAGE = re.compile(r"[0-9]{1,2}(\.[0-9]{0,2})?")


def _is_positive(value: str) -> bool:
    return any(digit in value for digit in "123456789")


# id: what it must be and the check, in the order they are made
_VALUES: dict[str, tuple[tuple[str, Check], ...]] = {
    "00": (('"01", the only version there is', "01".__eq__),),
    "01": (("11 (static) or 12 (dynamic)", ("11", "12").__contains__),),
    "54": (
        ('digits with at most one "."', lambda value: _AMOUNT.fullmatch(value) is not None),
        ("more than zero; leave the object out to let the payer enter the amount", _is_positive),
    ),
    "55": (("01 (prompt), 02 (fixed fee) or 03 (percentage)", ("01", "02", "03").__contains__),),
    "56": (
        ('digits with at most one "."', lambda value: _AMOUNT.fullmatch(value) is not None),
        ("more than zero", _is_positive),
    ),
    "57": (
        ("00.01 to 99.99 without a sign", lambda value: _PERCENTAGE.fullmatch(value) is not None),
        ("00.01 to 99.99 without a sign", _is_positive),
    ),
    "58": (("two capital letters (ISO 3166-1)", lambda value: re.fullmatch("[A-Z]{2}", value) is not None),),
    "62.09": (
        ("A, M and E, each at most once", lambda value: set(value) <= set("AME") and len(set(value)) == len(value)),
    ),
    "62.11": (
        ("media 0-7, location 0-3, presence 0-3", lambda value: re.fullmatch("[0-7][0-3][0-3]", value) is not None),
    ),
    "64.00": (("two letters (ISO 639)", lambda value: value.isascii() and value.isalpha()),),
}


def _object_deviations(name: str, value: str, shape: tuple[str, int, int]) -> Deviations:
    """Length, format, value: the first that fails."""
    kind, least, most = shape
    check, what = _FORMATS[kind]
    if not least <= len(value) <= most:
        wanted = str(most) if least == most else f"{least} to {most}"
        yield Malformed("code.length", f"object {name} has {wanted} characters, not {len(value)}", field=name)
    elif not check(value):
        yield Malformed("code.format", f"object {name} holds {what}", field=name)
    else:
        for wanted, holds in _VALUES.get(name, ()):
            if not holds(value):
                yield Malformed("code.value", f"object {name} must be {wanted}", field=name)
                return


def _reserved(name: str) -> Malformed:
    return Malformed("code.reserved", f"object {name} is reserved by EMVCo and must not be written", field=name)


def _duplicates(objects: Sequence[DataObject], within: str = "") -> Deviations:
    seen: set[str] = set()
    for item in objects:
        if item.id in seen:
            name = within + item.id
            yield Malformed("code.duplicate", f"object {name} stands more than once on its level", field=name)
        seen.add(item.id)


def _split(name: str, value: str) -> tuple[DataObject, ...] | Malformed:
    try:
        return split_objects(value, within=name)
    except Malformed:
        return Malformed(
            "code.template", f"object {name} is a template, but its value is not made of objects", field=name
        )


# --- templates -------------------------------------------------------------------------------------------------------


def _guid_template(name: str, value: str) -> Deviations:
    """26-51, 80-99 and 62.50-99: sub-object 00 names who defines the others (4.7.12, 4.8.2)."""
    objects = _split(name, value)
    if isinstance(objects, Malformed):
        yield objects
        return
    yield from _duplicates(objects, f"{name}.")
    guids = [item.value for item in objects if item.id == "00"]
    if not guids:
        yield Malformed("code.guid", f"template {name} has no globally unique identifier in 00", field=f"{name}.00")
    for guid in guids:
        yield from _object_deviations(f"{name}.00", guid, _GUID)
    for item in objects:
        if not item.value:
            yield Malformed("code.length", f"object {name}.{item.id} is empty", field=f"{name}.{item.id}")


def _additional(value: str, writing: bool) -> Deviations:
    objects = _split("62", value)
    if isinstance(objects, Malformed):
        yield objects
        return
    yield from _duplicates(objects, "62.")
    for item in objects:
        name = f"62.{item.id}"
        if item.id in _ADDITIONAL:
            yield from _object_deviations(name, item.value, _ADDITIONAL[item.id])
        elif item.id >= "50":
            yield from _guid_template(name, item.value)
        elif item.id == "00" or writing:  # 00 is not reserved, it does not exist
            yield _reserved(name)


def _language(value: str, writing: bool) -> Deviations:
    objects = _split("64", value)
    if isinstance(objects, Malformed):
        yield objects
        return
    yield from _duplicates(objects, "64.")
    present = {item.id for item in objects}
    for sub, what in (("00", "language"), ("01", "merchant name")):
        if sub not in present:
            yield Malformed("code.missing", f"object 64.{sub} ({what}) is missing", field=f"64.{sub}")
    for item in objects:
        if item.id in _LANGUAGE:
            yield from _object_deviations(f"64.{item.id}", item.value, _LANGUAGE[item.id])
        elif writing:
            yield _reserved(f"64.{item.id}")


# --- the whole payload -----------------------------------------------------------------------------------------------


def _each(item: DataObject, writing: bool) -> Deviations:
    if "65" <= item.id <= "79":
        if writing:
            yield _reserved(item.id)
        return
    shape = _ROOT.get(item.id) or (_ACCOUNT if item.id < "52" else _ANY)
    broken = list(_object_deviations(item.id, item.value, shape))
    yield from broken
    if broken:
        return
    if "26" <= item.id <= "51" or item.id >= "80":
        yield from _guid_template(item.id, item.value)
    elif item.id == "62":
        yield from _additional(item.value, writing)
    elif item.id == "64":
        yield from _language(item.value, writing)


def _presence(objects: Sequence[DataObject]) -> Deviations:
    present = {item.id: item.value for item in objects}
    for name in MANDATORY:
        if name not in present:
            yield Malformed("code.missing", f"mandatory object {name} is missing", field=name)
    if not any("02" <= name <= "51" for name in present):
        yield Malformed("code.missing", "no merchant account information (02 to 51)", field="02-51")
    tip = present.get("55")
    for name, indicator in (("56", "02"), ("57", "03")):
        if (name in present) != (tip == indicator):
            yield Malformed(
                "code.tip", f"object {name} stands exactly where tip indicator 55 is {indicator}", field=name
            )


def deviations(objects: Sequence[DataObject], *, writing: bool) -> Deviations:
    """Every deviation of a payload's root objects from v1.1; that 63 is the last and right is checked elsewhere.

    The order: size, first object, duplicates, each object in place, presence. writing: refuse reserved objects.
    """
    length = sum(4 + len(item.value) for item in objects)
    if length > PAYLOAD_CHARS_MAX:
        yield Malformed(
            "code.size", f"the payload has {length} characters where at most {PAYLOAD_CHARS_MAX} fit", field="payload"
        )
    if objects and objects[0].id != "00":
        yield Malformed("code.order", "object 00 must be the first", field="00")
    yield from _duplicates(objects)
    for item in objects:
        yield from _each(item, writing)
    yield from _presence(objects)
