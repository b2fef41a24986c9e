"""The CBOR subset against cbor2 and against random bytes."""

from __future__ import annotations

from typing import Any

import cbor2
from hypothesis import example, given
from hypothesis import strategies as st

from onecode.errors import Malformed
from onecode.wire import DEPTH_MAX, UINT_MAX, decode, encode

uints = st.integers(0, UINT_MAX) | st.sampled_from(
    [edge + by for edge in (24, 2**8, 2**16, 2**32) for by in (-1, 0, 1)]
)
leaves = uints | st.booleans() | st.binary(max_size=300) | st.text(max_size=80)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(uints, inner, max_size=5),
    max_leaves=30,
).filter(lambda value: _depth(value) <= DEPTH_MAX)


def _typed(value: Any) -> Any:
    """`value` with types spelt out: in Python True equals 1."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return (type(value).__name__, value)


@given(values)
@example({1: 0, 256: 0, 24: 0, 65536: 0})
def test_the_encoder_writes_what_cbor2_writes_canonically(value: Any) -> None:
    data = encode(value)
    assert data == cbor2.dumps(value, canonical=True)
    assert _typed(cbor2.loads(data)) == _typed(value)


@given(values)
def test_what_cbor2_writes_canonically_is_read_as_the_same_value(value: Any) -> None:
    assert _typed(decode(cbor2.dumps(value, canonical=True))) == _typed(value)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_canonical(data: bytes) -> None:
    try:
        value = decode(data)
    except Malformed:
        return
    assert encode(value) == data


@given(values, st.data())
def test_a_changed_encoding_is_refused_or_canonical(value: Any, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    try:
        changed = decode(bytes(raw))
    except Malformed:
        return
    assert encode(changed) == bytes(raw)
    assert _typed(cbor2.loads(bytes(raw))) == _typed(changed)


@given(values, st.data())
def test_every_cut_and_every_tail_is_refused(value: Any, data: st.DataObject) -> None:
    raw = encode(value)
    cut = data.draw(st.integers(0, len(raw) - 1))
    for bad in (raw[:cut], raw + data.draw(st.binary(min_size=1, max_size=4))):
        try:
            decode(bad)
        except Malformed:
            continue
        raise AssertionError(f"{bad.hex()} was read")


anything = st.recursive(
    leaves | st.none() | st.floats() | st.integers() | st.text(st.characters(categories=["Cs", "L"]), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.integers() | st.text(max_size=2) | st.booleans() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(anything)
@example({1: 0, "a": 0})
@example("\ud800")
def test_the_encoder_raises_nothing_but_malformed(value: Any) -> None:
    try:
        data = encode(value)
    except Malformed:
        return
    assert encode(decode(data)) == data
