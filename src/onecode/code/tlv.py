"""Data objects of an EMVCo payload: two digits of id, two digits of length, value (EMVCo MPM v1.1, section 3.1).

The length counts characters, not bytes (4.4.1.1): a name of 14 Chinese characters has length 14.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onecode.errors import Malformed

VALUE_CHARS_MAX = 99
_HEADER_CHARS = 4


@dataclass(frozen=True, slots=True)
class DataObject:
    """One object. id: two digits; value: text, a template's value being objects again."""

    id: str
    value: str

    def __str__(self) -> str:
        return f"{self.id}{len(self.value):02d}{self.value}"


def split_objects(text: str, *, within: str | None = None) -> tuple[DataObject, ...]:
    """The objects that `text` is made of, to its last character; raises `Malformed` code.tlv.

    within: id of the template whose value this is, for the error's field. A length of 00 is split as it stands.
    """
    field = within or "payload"
    objects: list[DataObject] = []
    at = 0
    while at < len(text):
        header = text[at : at + _HEADER_CHARS]
        if len(header) < _HEADER_CHARS or not (header.isascii() and header.isdigit()):
            raise Malformed("code.tlv", f"no object header of four digits at character {at} of {field}", field=field)
        end = at + _HEADER_CHARS + int(header[2:])
        if end > len(text):
            raise Malformed(
                "code.tlv",
                f"object {header[:2]} is longer than what is left of {field}: its length is wrong",
                field=field,
            )
        objects.append(DataObject(header[:2], text[at + _HEADER_CHARS : end]))
        at = end
    return tuple(objects)


def join_objects(objects: Iterable[DataObject], *, within: str | None = None) -> str:
    """The text of `objects` in this order, the inverse of `split_objects`; refuses what no header can hold."""
    parts = []
    for item in objects:
        name = item.id if within is None else f"{within}.{item.id}"
        if len(item.id) != 2 or not (item.id.isascii() and item.id.isdigit()):
            raise Malformed("code.object_id", "an object's id is two digits", field=name)
        if not 1 <= len(item.value) <= VALUE_CHARS_MAX:
            raise Malformed("code.length", f"{name} has 1 to {VALUE_CHARS_MAX} characters", field=name)
        parts.append(str(item))
    return "".join(parts)
