"""What a message field may hold. Each kind checks and converts between the CBOR value, the Python value and JSON."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

from onecode.errors import Malformed
from onecode.wire import UINT_MAX, encode, head, utf8

Path: TypeAlias = "str | tuple[Path, str | int]"  # where a value lies; made into text only for an error
# controls; half a surrogate pair, which JSON can carry and UTF-8 cannot; and what would make a name look like another:
# zero-width space, direction marks, line and paragraph separators, word joiner and the like. Joiners that scripts need
# (U+200C, U+200D) are allowed. A list of code points and no Unicode table: this is consensus.
_FORBIDDEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ud800-\\udfff]"
)


class Kind(Protocol):
    """What a field may hold: checks and converts between the CBOR value and the Python value. `put` appends the bytes
    that `encode` gives for what `dump` gives."""

    def load(self, value: Any, path: Path) -> Any: ...
    def dump(self, value: Any) -> Any: ...
    def put(self, value: Any, out: list[bytes]) -> None: ...
    def to_plain(self, value: Any) -> Any: ...
    def from_plain(self, value: Any, path: Path) -> Any: ...
    def describe(self) -> str: ...


def path_text(path: Path) -> str:
    """`record.accounts[2].currency` from the nested pairs."""
    if isinstance(path, str):
        return path
    parent, step = path
    return f"{path_text(parent)}[{step}]" if isinstance(step, int) else f"{path_text(parent)}.{step}"


def wrong(path: Path, what: str) -> Malformed:
    """The error of a value that is not what its kind says."""
    where = path_text(path)
    return Malformed("wire.field", f"{where} must be {what}", field=where)


@dataclass(frozen=True, slots=True)
class Uint:
    max: int = UINT_MAX

    def load(self, value: Any, path: Path) -> Any:
        if type(value) is not int or not 0 <= value <= self.max:
            raise wrong(path, self.describe())
        return value

    def dump(self, value: Any) -> Any:
        return value

    def put(self, value: Any, out: list[bytes]) -> None:
        if value < 0:
            raise Malformed("wire.integer_range", "an integer is outside 0 to 2^64 - 1")
        out.append(head(0x00, value))

    def to_plain(self, value: Any) -> Any:
        return value

    def from_plain(self, value: Any, path: Path) -> Any:
        return self.load(value, path)

    def describe(self) -> str:
        return "uint" if self.max == UINT_MAX else f"uint <= {self.max}"


@dataclass(frozen=True, slots=True)
class Bool:
    def load(self, value: Any, path: Path) -> Any:
        if type(value) is not bool:
            raise wrong(path, self.describe())
        return value

    def dump(self, value: Any) -> Any:
        return value

    def put(self, value: Any, out: list[bytes]) -> None:
        out.append(b"\xf5" if value else b"\xf4")

    def to_plain(self, value: Any) -> Any:
        return value

    def from_plain(self, value: Any, path: Path) -> Any:
        return self.load(value, path)

    def describe(self) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class Bytes:
    """Byte string of exactly `min` bytes, or of `min` to `max`. Plain form: lower-case hex."""

    min: int
    max: int = 0

    def load(self, value: Any, path: Path) -> Any:
        if type(value) is not bytes or not self.min <= len(value) <= (self.max or self.min):
            raise wrong(path, self.describe())
        return value

    def dump(self, value: Any) -> Any:
        return value

    def put(self, value: Any, out: list[bytes]) -> None:
        out.append(head(0x40, len(value)))
        out.append(value)

    def to_plain(self, value: Any) -> Any:
        return value.hex()

    def from_plain(self, value: Any, path: Path) -> Any:
        try:
            raw = bytes.fromhex(value)
        except (TypeError, ValueError):
            raw = b""
        if raw.hex() != value:  # fromhex passes over spaces and capitals; the plain form is one string only
            raise wrong(path, f"lower-case hex of {self.describe()}")
        return self.load(raw, path)

    def describe(self) -> str:
        return f"bytes({self.min})" if not self.max else f"bytes({self.min}..{self.max})"


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text; `max` and `min` count characters (code points). Controls and lone surrogates are refused."""

    max: int
    min: int = 1

    def load(self, value: Any, path: Path) -> Any:
        if type(value) is not str or not self.min <= len(value) <= self.max:
            raise wrong(path, self.describe())
        if _FORBIDDEN.search(value) is not None:
            raise wrong(path, "text that UTF-8 can hold, without controls or invisible marks")
        return value

    def dump(self, value: Any) -> Any:
        return value

    def put(self, value: Any, out: list[bytes]) -> None:
        raw = utf8(value)
        out.append(head(0x60, len(raw)))
        out.append(raw)

    def to_plain(self, value: Any) -> Any:
        return value

    def from_plain(self, value: Any, path: Path) -> Any:
        return self.load(value, path)

    def describe(self) -> str:
        return f"text of {self.min} to {self.max} characters"


@dataclass(frozen=True, slots=True)
class Choice:
    """One member of an IntEnum. Plain form: the member's name in lower case."""

    enum: type[IntEnum]

    def load(self, value: Any, path: Path) -> Any:
        try:
            if type(value) is int:
                return self.enum(value)
        except ValueError:
            pass
        raise wrong(path, self.describe())

    def dump(self, value: Any) -> Any:
        return int(value)

    def put(self, value: Any, out: list[bytes]) -> None:
        out.append(head(0x00, value))

    def to_plain(self, value: Any) -> Any:
        return value.name.lower().replace("_", "-")

    def from_plain(self, value: Any, path: Path) -> Any:
        names = {member.name.lower().replace("_", "-"): member for member in self.enum}
        if type(value) is not str or value not in names:
            raise wrong(path, "one of " + ", ".join(names))
        return names[value]

    def describe(self) -> str:
        return " / ".join(f"{member.value} {member.name.lower().replace('_', '-')}" for member in self.enum)


@dataclass(frozen=True, slots=True)
class ListOf:
    """At most `max` items; with `ascending` the encoded items are strictly ascending, so none stands twice."""

    item: Kind
    max: int
    min: int = 0
    ascending: bool = False

    def load(self, value: Any, path: Path) -> Any:
        if type(value) is not list or not self.min <= len(value) <= self.max:
            raise wrong(path, self.describe())
        if self.ascending:
            keys = [encode(item) for item in value]
            if any(a >= b for a, b in itertools.pairwise(keys)):
                raise wrong(path, "in strictly ascending order")
        load = self.item.load
        return tuple([load(item, (path, index)) for index, item in enumerate(value)])

    def dump(self, value: Any) -> Any:
        return [self.item.dump(item) for item in value]

    def put(self, value: Any, out: list[bytes]) -> None:
        put = self.item.put
        out.append(head(0x80, len(value)))
        for item in value:
            put(item, out)

    def to_plain(self, value: Any) -> Any:
        return [self.item.to_plain(item) for item in value]

    def from_plain(self, value: Any, path: Path) -> Any:
        if type(value) is not list:
            raise wrong(path, self.describe())
        items = [self.item.from_plain(item, (path, index)) for index, item in enumerate(value)]
        return self.load(self.dump(items), path)

    def describe(self) -> str:
        order = ", ascending" if self.ascending else ""
        return f"list of {self.min} to {self.max} of {self.item.describe()}{order}"
