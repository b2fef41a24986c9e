"""Envelope and commitment: bound to every id, one form, and nothing opens with another key."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from chain_world import CHAIN_ID, MERCHANT, Platform, make_record
from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.proof.leaves import Role
from onecode.record.envelope import (
    RecordIds,
    commitment,
    open_envelope,
    pad,
    seal_envelope,
    sign_record,
    unpad,
    verify_commitment,
    verify_signed_record,
)

A = Platform("A")
IDS = RecordIds(merchant=MERCHANT, platform=A.id, service="pay", version=1, epoch=1)
SALT = b"s" * 32
KEY = b"k" * 32
SIGNED = sign_record(CHAIN_ID, make_record(A.id), SALT, A.key(Role.RECORD))
ENVELOPE = seal_envelope(CHAIN_ID, IDS, SIGNED, KEY, b"n" * 12)

OTHER_IDS: list[dict[str, Any]] = [
    {"merchant": b"x" * 20},
    {"platform": b"x" * 20},
    {"service": "loyalty"},
    {"version": 2},
    {"epoch": 2},
]


def test_what_was_sealed_opens_and_is_committed_to() -> None:
    opened = open_envelope(CHAIN_ID, IDS, ENVELOPE, AESGCMSIV(KEY))
    expected = commitment(CHAIN_ID, IDS, SALT, SIGNED.record)
    assert verify_commitment(CHAIN_ID, IDS, opened, expected) == SIGNED
    assert verify_signed_record(CHAIN_ID, IDS, SIGNED) == make_record(A.id)


@pytest.mark.parametrize("changes", OTHER_IDS, ids=[next(iter(changes)) for changes in OTHER_IDS])
def test_every_id_is_bound(changes: dict[str, Any]) -> None:
    other = dataclasses.replace(IDS, **changes)
    with pytest.raises(Untrusted) as caught:
        open_envelope(CHAIN_ID, other, ENVELOPE, AESGCMSIV(KEY))
    assert caught.value.code == "envelope.seal"
    expected = commitment(CHAIN_ID, IDS, SALT, SIGNED.record)
    with pytest.raises(Untrusted) as refused:
        verify_commitment(CHAIN_ID, other, SIGNED.encoded(), expected)
    assert refused.value.code == "record.commitment"
    if "epoch" not in changes:  # the epoch is the envelope's, not the record's
        with pytest.raises(Untrusted) as named:
            verify_signed_record(CHAIN_ID, other, SIGNED)
        assert named.value.code == "record.ids"


def test_chain_key_and_bytes_are_bound() -> None:
    cases = [("onecode-other", ENVELOPE, KEY), (CHAIN_ID, ENVELOPE, b"j" * 32), (CHAIN_ID, ENVELOPE[:-1], KEY)]
    for chain, envelope, key in [*cases, (CHAIN_ID, b"", KEY), (CHAIN_ID, b"short", KEY)]:
        with pytest.raises(Untrusted):
            open_envelope(chain, IDS, envelope, AESGCMSIV(key))


@pytest.mark.parametrize("part", ["salt", "record"])
def test_the_commitment_holds_salt_and_record(part: str) -> None:
    altered = dataclasses.replace(SIGNED, **{part: bytes(len(getattr(SIGNED, part)))})
    with pytest.raises(Untrusted):
        verify_commitment(CHAIN_ID, IDS, altered.encoded(), commitment(CHAIN_ID, IDS, SALT, SIGNED.record))


def test_a_signature_of_another_chain_or_key_does_not_hold() -> None:
    with pytest.raises(Untrusted):
        verify_signed_record("onecode-other", IDS, SIGNED)
    with pytest.raises(Untrusted):
        other = Platform("B").key(Role.RECORD).public
        verify_signed_record(CHAIN_ID, IDS, dataclasses.replace(SIGNED, record_key=other))


@given(st.binary(max_size=5000))
def test_padding_is_undone_and_hides_the_length(data: bytes) -> None:
    padded = pad(data)
    assert unpad(padded) == data
    assert len(padded) >= 512 and len(padded) % 256 == 0


@given(st.binary(max_size=300), st.integers(0, 4000), st.integers(1, 255))
def test_padding_has_one_form(data: bytes, at: int, change: int) -> None:
    padded = bytearray(pad(data))
    padded[at % len(padded)] ^= change
    try:
        assert unpad(bytes(padded)) != data
    except Malformed as error:
        assert error.code == "envelope.padding"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_opens(at: int, change: int) -> None:
    envelope = bytearray(ENVELOPE)
    envelope[at % len(envelope)] ^= change
    with pytest.raises(OnecodeError):
        open_envelope(CHAIN_ID, IDS, bytes(envelope), AESGCMSIV(KEY))
