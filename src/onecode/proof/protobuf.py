"""The few protobuf encodings that CometBFT hashes and signs.

Source: Protocol Buffers encoding (proto3) as CometBFT v0.38 and v0.39 produce it. Field numbers here are all below 16,
so a field's key is one byte. A scalar or byte string that is zero or empty is left out; an embedded message that the
engine's own type holds by value is written even when it is empty.
"""

from __future__ import annotations

NANOS_PER_SECOND = 1_000_000_000


def uvarint(number: int) -> bytes:
    """Base-128 varint of an integer >= 0."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    """Fields of type uint32, uint64, int64 (>= 0) and enum; nothing for 0."""
    return bytes((number << 3,)) + uvarint(value) if value else b""


def sfixed64_field(number: int, value: int) -> bytes:
    """Field of type sfixed64 (>= 0); nothing for 0."""
    return bytes((number << 3 | 1,)) + value.to_bytes(8, "little") if value else b""


def message_field(number: int, value: bytes) -> bytes:
    """An embedded message, written even when empty."""
    return bytes((number << 3 | 2,)) + uvarint(len(value)) + value


def bytes_field(number: int, value: bytes) -> bytes:
    """Fields of type bytes and string; nothing when empty."""
    return message_field(number, value) if value else b""


def timestamp(time_ns: int) -> bytes:
    """google.protobuf.Timestamp of nanoseconds since the epoch (>= 0)."""
    seconds, nanos = divmod(time_ns, NANOS_PER_SECOND)
    return varint_field(1, seconds) + varint_field(2, nanos)
