"""Hashes and vote bytes; the literals are what CometBFT v0.39.4 computes for the same header, set and commit."""

from __future__ import annotations

import dataclasses
from hashlib import sha256

import pytest

from onecode.errors import Malformed
from onecode.proof.header import (
    VALIDATORS_MAX,
    CommitVote,
    SignedHeader,
    Validator,
    ValidatorSet,
    VoteFlag,
    header_hash,
    merkle_root,
    validators_hash,
    vote_sign_bytes,
)
from onecode.schema import parse
from vectors.proof_chain import MEMBERS, NEXT, SIX, signed_by

NEXT_HASH = "94ba13389230e11f94de10083d99b6f40405e4c9f6c9f2c3302f01f3662121d3"
MEMBERS_HASH = "96006560dfbc54f91a10dba0cc9d79e975f7e502f2fb11f61817f2989460c822"
SIGN_BYTES = (
    "720802110b0000000000000022480a2094ba13389230e11f94de10083d99b6f40405e4c9f6c9f2c3302f01f3662121d31224"
    "08011220d887db09649dab0d83951d8d5d69b2e7d8bb70e79daa2a3a279b4fd6b8346cea2a0a08e2a4a7da0610bf843d320f"
    "6f6e65636f64652d766563746f7273"
)


def test_hashes_are_the_engines() -> None:
    assert header_hash(NEXT).hex() == NEXT_HASH
    assert validators_hash(MEMBERS).hex() == MEMBERS_HASH


def test_vote_bytes_are_the_engines() -> None:
    signed = signed_by(NEXT, SIX)
    timestamp_ns = signed.commit.votes[0].timestamp_ns
    assert timestamp_ns is not None
    assert vote_sign_bytes(NEXT.chain_id, signed.commit, timestamp_ns).hex() == SIGN_BYTES


def test_every_field_changes_the_hash() -> None:
    seen = {header_hash(NEXT)}
    for field in dataclasses.fields(NEXT):
        value = getattr(NEXT, field.name)
        changes = {int: 0, str: "x", bytes: bytes(32)}
        other = changes.get(type(value), dataclasses.replace(NEXT.last_block_id, parts_hash=bytes(32)))
        seen.add(header_hash(dataclasses.replace(NEXT, **{field.name: other})))
    assert len(seen) == 1 + len(dataclasses.fields(NEXT))


def test_merkle_root_is_the_tree_of_rfc_6962() -> None:
    def leaf(data: bytes) -> bytes:
        return sha256(b"\0" + data).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return sha256(b"\1" + left + right).digest()

    a, b, c, d, e = (leaf(bytes((value,))) for value in b"abcde")
    assert merkle_root([]) == sha256().digest()
    assert merkle_root([b"a"]) == a
    assert merkle_root([b"a", b"b", b"c"]) == node(node(a, b), c)
    assert merkle_root([b"a", b"b", b"c", b"d"]) == node(node(a, b), node(c, d))
    assert merkle_root([b"a", b"b", b"c", b"d", b"e"]) == node(node(node(a, b), node(c, d)), e)


def test_messages_travel_as_cbor() -> None:
    signed = signed_by(NEXT, [0, None, 2, 3, 4, 5])
    assert parse(SignedHeader, signed.encoded()) == signed
    assert parse(ValidatorSet, MEMBERS.encoded()) == MEMBERS


def test_counts_are_limited() -> None:
    one = Validator(public_key=bytes(32), power=1)
    parse(ValidatorSet, ValidatorSet(validators=(one,) * VALIDATORS_MAX).encoded())
    for count in (0, VALIDATORS_MAX + 1):
        with pytest.raises(Malformed, match="list of 1 to 200"):
            parse(ValidatorSet, ValidatorSet(validators=(one,) * count).encoded())
    signed = signed_by(NEXT, SIX)
    votes = (CommitVote(flag=VoteFlag.ABSENT),) * (VALIDATORS_MAX + 1)
    crowded = dataclasses.replace(signed, commit=dataclasses.replace(signed.commit, votes=votes))
    with pytest.raises(Malformed, match="list of 1 to 200"):
        parse(SignedHeader, crowded.encoded())
