"""Messages: frozen dataclasses whose fields carry CBOR field numbers.

One declaration gives the parser, the encoder, the errors that name the field, the plain (JSON) form and the tables of
docs/spec. Unknown fields are critical and refused; only a message declared `extensible` lets a reader pass over fields
numbered 64 and above (they stay in the bytes that are signed and hashed).
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Protocol, TypeVar, dataclass_transform

from onecode.errors import Malformed
from onecode.wire import FRAME_BYTES_MAX, UINT_MAX, decode, encode

EXTENSION_NUMBER_MIN = 64
REGISTERED: dict[str, type[Any]] = {}  # every message by its class name, for docs/spec

M = TypeVar("M")


class Kind(Protocol):
    """What a field may hold: checks and converts between the CBOR value and the Python value."""

    def load(self, value: Any, path: str) -> Any: ...
    def dump(self, value: Any) -> Any: ...
    def to_plain(self, value: Any) -> Any: ...
    def from_plain(self, value: Any, path: str) -> Any: ...
    def describe(self) -> str: ...


def _wrong(path: str, what: str) -> Malformed:
    return Malformed("wire.field", f"{path} must be {what}", field=path)


@dataclass(frozen=True, slots=True)
class Uint:
    max: int = UINT_MAX

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not int or not 0 <= value <= self.max:
            raise _wrong(path, self.describe())
        return value

    def dump(self, value: Any) -> Any:
        return value

    def to_plain(self, value: Any) -> Any:
        return value

    def from_plain(self, value: Any, path: str) -> Any:
        return self.load(value, path)

    def describe(self) -> str:
        return "uint" if self.max == UINT_MAX else f"uint <= {self.max}"


@dataclass(frozen=True, slots=True)
class Bool:
    def load(self, value: Any, path: str) -> Any:
        if type(value) is not bool:
            raise _wrong(path, self.describe())
        return value

    def dump(self, value: Any) -> Any:
        return value

    def to_plain(self, value: Any) -> Any:
        return value

    def from_plain(self, value: Any, path: str) -> Any:
        return self.load(value, path)

    def describe(self) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class Bytes:
    """Byte string of exactly `min` bytes, or of `min` to `max`. Plain form: lower-case hex."""

    min: int
    max: int = 0

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not bytes or not self.min <= len(value) <= (self.max or self.min):
            raise _wrong(path, self.describe())
        return value

    def dump(self, value: Any) -> Any:
        return value

    def to_plain(self, value: Any) -> Any:
        return value.hex()

    def from_plain(self, value: Any, path: str) -> Any:
        try:
            raw = bytes.fromhex(value)
        except (TypeError, ValueError):
            raw = b""
        if raw.hex() != value:  # fromhex passes over spaces and capitals; the plain form is one string only
            raise _wrong(path, f"lower-case hex of {self.describe()}")
        return self.load(raw, path)

    def describe(self) -> str:
        return f"bytes({self.min})" if not self.max else f"bytes({self.min}..{self.max})"


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text; `max` and `min` count characters (code points). Controls and lone surrogates are refused."""

    max: int
    min: int = 1

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not str or not self.min <= len(value) <= self.max:
            raise _wrong(path, self.describe())
        if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in value):
            raise _wrong(path, "text without control characters")
        if any(0xD800 <= ord(char) < 0xE000 for char in value):  # JSON can carry half a pair, UTF-8 cannot
            raise _wrong(path, "text that UTF-8 can hold")
        return value

    def dump(self, value: Any) -> Any:
        return value

    def to_plain(self, value: Any) -> Any:
        return value

    def from_plain(self, value: Any, path: str) -> Any:
        return self.load(value, path)

    def describe(self) -> str:
        return f"text of {self.min} to {self.max} characters"


@dataclass(frozen=True, slots=True)
class Choice:
    """One member of an IntEnum. Plain form: the member's name in lower case."""

    enum: type[IntEnum]

    def load(self, value: Any, path: str) -> Any:
        try:
            if type(value) is int:
                return self.enum(value)
        except ValueError:
            pass
        raise _wrong(path, self.describe())

    def dump(self, value: Any) -> Any:
        return int(value)

    def to_plain(self, value: Any) -> Any:
        return value.name.lower().replace("_", "-")

    def from_plain(self, value: Any, path: str) -> Any:
        names = {member.name.lower().replace("_", "-"): member for member in self.enum}
        if type(value) is not str or value not in names:
            raise _wrong(path, "one of " + ", ".join(names))
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

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not list or not self.min <= len(value) <= self.max:
            raise _wrong(path, self.describe())
        if self.ascending:
            keys = [encode(item) for item in value]
            if any(a >= b for a, b in itertools.pairwise(keys)):
                raise _wrong(path, "in strictly ascending order")
        load = self.item.load
        return tuple([load(item, f"{path}[{index}]") for index, item in enumerate(value)])

    def dump(self, value: Any) -> Any:
        return [self.item.dump(item) for item in value]

    def to_plain(self, value: Any) -> Any:
        return [self.item.to_plain(item) for item in value]

    def from_plain(self, value: Any, path: str) -> Any:
        if type(value) is not list:
            raise _wrong(path, self.describe())
        items = [self.item.from_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return self.load(self.dump(items), path)

    def describe(self) -> str:
        order = ", ascending" if self.ascending else ""
        return f"list of {self.min} to {self.max} of {self.item.describe()}{order}"


@dataclass(frozen=True, slots=True)
class Nested:
    """Another message in place (not as bytes)."""

    message: type[Any]

    def load(self, value: Any, path: str) -> Any:
        return from_value(self.message, value, path)

    def dump(self, value: Any) -> Any:
        return to_value(value)

    def to_plain(self, value: Any) -> Any:
        return to_plain(value)

    def from_plain(self, value: Any, path: str) -> Any:
        return from_plain(self.message, value, path)

    def describe(self) -> str:
        return self.message.__name__


@dataclass(frozen=True, slots=True)
class FieldSpec:
    number: int
    name: str
    kind: Kind
    optional: bool


def item(number: int, kind: Kind, *, default: Any = dataclasses.MISSING) -> Any:
    """A message field: its CBOR number and kind. With `default=None` the field is optional and then not encoded."""
    metadata = {"number": number, "kind": kind}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(item,))
class Message:
    """Base of every message: subclass it and declare fields with `item`. `extensible=True` allows numbers >= 64."""

    __slots__ = ()
    FIELDS: ClassVar[tuple[FieldSpec, ...]] = ()
    EXTENSIBLE: ClassVar[bool] = False

    def __init_subclass__(cls, extensible: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True, kw_only=True)(cls)
        specs = [
            FieldSpec(f.metadata["number"], f.name, f.metadata["kind"], f.default is None)
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        ]
        if len({spec.number for spec in specs}) != len(specs):
            raise TypeError(f"{cls.__name__} uses a field number twice")
        cls.FIELDS = tuple(sorted(specs, key=lambda spec: spec.number))
        cls.EXTENSIBLE = extensible
        REGISTERED[cls.__name__] = cls

    def encoded(self) -> bytes:
        """The message's one CBOR encoding."""
        return encode(to_value(self))


def to_value(message: Message) -> dict[int, Any]:
    """The CBOR map of a message, field numbers as keys."""
    table: dict[int, Any] = {}
    for spec in message.FIELDS:
        value = getattr(message, spec.name)
        if value is not None:
            table[spec.number] = spec.kind.dump(value)
    return table


def from_value(cls: type[M], value: Any, path: str = "") -> M:
    """The message of class `cls` that a decoded CBOR map holds; errors name fields under `path`."""
    path = path or cls.__name__
    if type(value) is not dict:
        raise _wrong(path, "a map")
    found: dict[str, Any] = {}
    for spec in cls.FIELDS:  # type: ignore[attr-defined]
        raw = value.get(spec.number)
        if raw is None:
            if not spec.optional:
                raise Malformed("wire.field_missing", f"{path}.{spec.name} is missing", field=f"{path}.{spec.name}")
        else:
            found[spec.name] = spec.kind.load(raw, f"{path}.{spec.name}")
    if len(found) != len(value):
        known = {spec.number for spec in cls.FIELDS}  # type: ignore[attr-defined]
        for number in value:
            if number not in known and not (cls.EXTENSIBLE and number >= EXTENSION_NUMBER_MIN):  # type: ignore[attr-defined]
                raise Malformed("wire.field_unknown", f"{path} has an unknown critical field {number}", field=path)
    return cls(**found)


def parse(cls: type[M], data: bytes, *, size_max: int = FRAME_BYTES_MAX, path: str = "") -> M:
    """The message of class `cls` in untrusted `data`; raises `Malformed` naming the field."""
    return from_value(cls, decode(data, size_max=size_max), path)


def to_plain(message: Message) -> dict[str, Any]:
    """The message with field names as keys, bytes in hex, choices by name: for JSON."""
    table: dict[str, Any] = {}
    for spec in message.FIELDS:
        value = getattr(message, spec.name)
        if value is not None:
            table[spec.name] = spec.kind.to_plain(value)
    return table


def from_plain(cls: type[M], value: Any, path: str = "") -> M:
    """The message in its plain form, the inverse of `to_plain`."""
    path = path or cls.__name__
    if type(value) is not dict:
        raise _wrong(path, "an object")
    found: dict[str, Any] = {}
    for spec in cls.FIELDS:  # type: ignore[attr-defined]
        if spec.name in value:
            found[spec.name] = spec.kind.from_plain(value[spec.name], f"{path}.{spec.name}")
        elif not spec.optional:
            raise Malformed("wire.field_missing", f"{path}.{spec.name} is missing", field=f"{path}.{spec.name}")
    unknown = sorted(set(value) - {spec.name for spec in cls.FIELDS})  # type: ignore[attr-defined]
    if unknown:
        raise Malformed("wire.field_unknown", f"{path} has an unknown field {unknown[0]}", field=f"{path}.{unknown[0]}")
    return cls(**found)
