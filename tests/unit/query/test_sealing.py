"""Sealed queries and replies: one size, one suite, bound to clear part, key and chain."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chain_world import CHAIN_ID, MERCHANT, NOW_MS, SERVICE, Platform
from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.query.messages import SUITE_X25519, ClearQuery, MatchMode, Query, Result, SecretQuery, SignedSecret
from onecode.query.sealing import (
    REPLY_BASE_BYTES,
    SECRET_BYTES,
    build_query,
    open_query,
    open_result,
    reply_bytes,
    seal_result,
    seal_to,
    verify_device,
)
from onecode.record.envelope import pad, unpad
from onecode.wire import Domain, SigningKey, frame, sha256

A = Platform("A")
KEY = X25519PrivateKey.from_private_bytes(b"k" * 32)
CLEAR = ClearQuery(
    protocol=1, chain_id=CHAIN_ID, merchant=MERCHANT, service=SERVICE, query_key=KEY.public_key().public_bytes_raw()
)
SECRET = SecretQuery(
    query_id=b"q" * 16,
    credential=A.credential(),
    accepted=(A.id,),
    mode=MatchMode.NODE,
    time_ms=NOW_MS,
    reply_key=b"r" * 32,
)
INFO = frame(Domain.QUERY_SEAL, CHAIN_ID, sha256(CLEAR.encoded()))


def code_of(error: pytest.ExceptionInfo[OnecodeError]) -> str:
    return error.value.code


def test_a_query_opens_for_its_enclave_and_is_the_devices() -> None:
    secret, signed, clear_hash = open_query(build_query(CLEAR, SECRET, A.device), CHAIN_ID, KEY)
    assert secret == SECRET
    verify_device(CHAIN_ID, A.device.public, CLEAR.query_key, signed, clear_hash)


@pytest.mark.parametrize("part", ["device", "query_key", "clear_hash", "chain", "body", "signature"])
def test_the_devices_signature_is_over_all_of_the_query(part: str) -> None:
    _, signed, clear_hash = open_query(build_query(CLEAR, SECRET, A.device), CHAIN_ID, KEY)
    chain, device, query_key = CHAIN_ID, A.device.public, CLEAR.query_key
    if part == "device":
        device = SigningKey.from_seed(b"t" * 32).public
    elif part == "query_key":
        query_key = b"o" * 32
    elif part == "clear_hash":
        clear_hash = sha256(b"other")
    elif part == "chain":
        chain = "onecode-other"
    elif part == "body":
        body = dataclasses.replace(SECRET, accepted=(Platform("B").id,)).encoded()
        signed = SignedSecret(body=body, signature=signed.signature)
    else:
        signed = SignedSecret(body=signed.body, signature=bytes(64))
    with pytest.raises(Untrusted) as caught:
        verify_device(chain, device, query_key, signed, clear_hash)
    assert code_of(caught) == "query.signature"


def test_a_query_of_another_suite_is_refused() -> None:
    query = dataclasses.replace(build_query(CLEAR, SECRET, A.device), suite=SUITE_X25519 + 1)
    with pytest.raises(Malformed) as caught:
        open_query(query, CHAIN_ID, KEY)
    assert code_of(caught) == "query.suite"


@pytest.mark.parametrize("size", [SECRET_BYTES - 1, SECRET_BYTES + 1])
def test_a_query_of_another_size_is_refused(size: int) -> None:
    _, signed, _ = open_query(build_query(CLEAR, SECRET, A.device), CHAIN_ID, KEY)
    body = signed.encoded()
    plain = len(body).to_bytes(4, "big") + body + bytes(size - 4 - len(body))
    sealed = seal_to(CLEAR.query_key, plain, INFO)
    with pytest.raises(Malformed) as caught:
        open_query(Query(clear=CLEAR.encoded(), suite=SUITE_X25519, sealed=sealed), CHAIN_ID, KEY)
    assert code_of(caught) == "query.size"


def test_a_padded_query_has_one_form() -> None:
    _, signed, _ = open_query(build_query(CLEAR, SECRET, A.device), CHAIN_ID, KEY)
    body = signed.encoded()
    plain = len(body).to_bytes(4, "big") + body + bytes(SECRET_BYTES - 5 - len(body)) + b"\x01"
    with pytest.raises(Malformed) as caught:
        open_query(
            Query(clear=CLEAR.encoded(), suite=SUITE_X25519, sealed=seal_to(CLEAR.query_key, plain, INFO)),
            CHAIN_ID,
            KEY,
        )
    assert code_of(caught) == "envelope.padding"


def test_what_does_not_fit_is_not_sealed() -> None:
    """A query of many platforms, a result beyond the size that the chain gives: never cut, never longer."""
    many = dataclasses.replace(SECRET, accepted=tuple(bytes((n,)) * 20 for n in range(16)), credential=b"c" * 512)
    full = build_query(CLEAR, many, A.device)
    assert len(full.encoded()) == len(build_query(CLEAR, SECRET, A.device).encoded())
    result = Result(query_id=b"q" * 16, opened=(), refusal="x" * 64, branch="Declined", detail="d" * 200)
    size = len(result.encoded()) + 4
    exact = seal_result(CHAIN_ID, result, b"r" * 32, b"h" * 32, size, bytes(12))
    assert open_result(CHAIN_ID, exact, b"r" * 32, b"h" * 32) == result
    with pytest.raises(Malformed) as caught:
        seal_result(CHAIN_ID, result, b"r" * 32, b"h" * 32, size - 1, bytes(12))
    assert code_of(caught) == "query.too_large"
    assert size <= REPLY_BASE_BYTES == reply_bytes([])  # any refusal fits


def test_padding_may_be_none_at_all() -> None:
    full = (508).to_bytes(4, "big") + b"x" * 508
    assert pad(b"x" * 508) == full
    assert unpad(full) == b"x" * 508
    for wrong in (b"", b"\0\0\0", (509).to_bytes(4, "big") + b"x" * 508):
        with pytest.raises(Malformed) as caught:
            unpad(wrong)
        assert code_of(caught) == "envelope.padding"


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_nothing_is_sealed_to_a_point_of_small_order(key: bytes) -> None:
    """An enclave's leaf or a release key may hold anything."""
    with pytest.raises(Untrusted) as caught:
        seal_to(key, b"a grant", INFO)
    assert code_of(caught) == "seal.key"
    with pytest.raises(Untrusted) as caught:
        build_query(dataclasses.replace(CLEAR, query_key=key), SECRET, A.device)
    assert code_of(caught) == "seal.key"
