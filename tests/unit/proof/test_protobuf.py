"""Encodings against the examples of the Protocol Buffers encoding page and what the engine writes."""

from __future__ import annotations

import pytest

from onecode.proof import protobuf


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (150, "9601"), (16_384, "808001"), (2**63 - 1, "ff" * 8 + "7f")],
)
def test_varints(number: int, encoded: str) -> None:
    assert protobuf.uvarint(number).hex() == encoded


def test_fields() -> None:
    assert protobuf.varint_field(1, 150).hex() == "089601"
    assert protobuf.bytes_field(2, b"testing").hex() == "120774657374696e67"
    assert protobuf.sfixed64_field(3, 1).hex() == "190100000000000000"
    assert protobuf.timestamp(1_500_000_000).hex() == "08011080cab5ee01"


def test_zero_and_empty_are_left_out_but_a_message_is_not() -> None:
    assert protobuf.varint_field(1, 0) == protobuf.sfixed64_field(2, 0) == protobuf.bytes_field(3, b"") == b""
    assert protobuf.timestamp(0) == b""
    assert protobuf.message_field(2, b"").hex() == "1200"
