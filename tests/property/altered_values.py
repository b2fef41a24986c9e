"""Structured changes of decoded messages: parts from elsewhere, left out, twice, in another order, other encodings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from onecode.errors import Malformed
from onecode.wire import UINT_MAX, decode, encode

Path = tuple[Any, ...]


def nodes(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every part of a decoded message with the way to it; a part that holds an encoded map is opened too."""
    yield at, value
    inner = opened(value)
    if inner is not None:
        yield from nodes(inner, (*at, "in"))
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from nodes(part, (*at, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from nodes(part, (*at, index))


def opened(value: Any) -> Any:
    """The map that a byte string encodes, or None."""
    if type(value) is bytes and value[:1] and value[0] >> 5 == 5:
        try:
            return decode(value)
        except Malformed:
            return None
    return None


def shape(value: Any, at: Path) -> Path:
    """The way to a part with every place in a list alike, so that parts of one kind are known by it."""
    found: list[Any] = []
    for step in at:
        found.append("*" if isinstance(value, list) else step)
        value = opened(value) if step == "in" else value[step]
    return tuple(found)


def put(value: Any, at: Path, part: Any) -> Any:
    """`value` with another part at `at`; `part` None leaves it out."""
    if not at:
        return part
    step, rest = at[0], at[1:]
    if step == "in":
        changed = put(opened(value), rest, part)
        return encode(changed)
    made: Any = dict(value) if isinstance(value, dict) else list(value)
    if not rest and part is None:
        del made[step]
    else:
        made[step] = put(value[step], rest, part)
    return made


class Donors:
    """Parts of sound messages, by their shape."""

    def __init__(self, messages: Sequence[Any]) -> None:
        self.parts: dict[Path, list[Any]] = defaultdict(list)
        for message in messages:
            for at, part in nodes(message):
                if part not in self.parts[shape(message, at)]:
                    self.parts[shape(message, at)].append(part)


def altered(draw: Any, message: Any, donors: Donors, changes: int) -> Any:
    """`message` after so many drawn changes."""
    for _ in range(changes):
        found = [(at, part) for at, part in nodes(message) if at]
        if not found:
            break
        at, part = draw(st.sampled_from(found), label="part")
        how = draw(st.sampled_from(["swap", "swap", "swap", "drop", "twice", "turn", "bit", "size"]), label="how")
        changed = part
        if how == "swap":
            changed = draw(st.sampled_from(donors.parts[shape(message, at)] or [part]))
        elif how == "drop":
            if at[-1] == "in":
                continue
            changed = None
        elif isinstance(part, list) and part:
            changed = [*part, part[0]] if how == "twice" else part[::-1] if how == "turn" else part[1:]
        elif type(part) is int:
            changed = draw(st.sampled_from([0, max(0, part - 1), min(part + 1, UINT_MAX), UINT_MAX]))
        elif type(part) is bytes and part:
            index = draw(st.integers(0, len(part) - 1))
            if how == "bit":
                changed = part[:index] + bytes((part[index] ^ 1 << draw(st.integers(0, 7)),)) + part[index + 1 :]
            else:
                changed = part[:index] if how == "size" else part + part[:1]
        elif type(part) is str:
            changed = part + "x"
        message = put(message, at, changed)
    return message


def reencoded(draw: Any, raw: bytes) -> bytes:
    """The bytes as they are, or with one more, one less, one changed, or an integer of more bytes than it takes."""
    how = draw(st.sampled_from(["as is"] * 6 + ["more", "less", "bit", "wide", "cut"]), label="bytes")
    at = draw(st.integers(0, len(raw) - 1)) if raw and how != "as is" else 0
    if how == "more":
        return raw[:at] + draw(st.binary(min_size=1, max_size=3)) + raw[at:]
    if how == "less":
        return raw[:at] + raw[at + 1 :]
    if how == "bit":
        return raw[:at] + bytes((raw[at] ^ draw(st.integers(1, 255)),)) + raw[at + 1 :]
    if how == "wide":
        return raw[:at] + bytes((raw[at] & 0xE0 | 24, raw[at] & 31)) + raw[at + 1 :]
    return raw[:at] if how == "cut" else raw
