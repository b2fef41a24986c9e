"""The vote rule against 914 edge cases of Ed25519.

CometBFT v0.39.4 accepts 826 of them, alone and in a batch, and these tests name the same ones. The other 88 hash a
re-encoded nonce into k; ZIP-215 hashes the bytes as they were given, so it refuses them (the text beside the vectors
says that it accepts all). libsodium accepts 43.
"""

from __future__ import annotations

import json
from hashlib import sha512
from pathlib import Path

import nacl.bindings as sodium
import pytest

from onecode.proof import ed25519
from onecode.proof.ed25519 import L, vote_signature_holds
from onecode.wire import SigningKey, signature_holds

KEY = SigningKey.from_seed(bytes(range(32)))
MESSAGE = b"a vote"
SIGNATURE = KEY.sign_bytes(MESSAGE)
SMALL_ORDER = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


def slow(public: bytes, signature: bytes, message: bytes, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The verdict of the integers alone."""
    monkeypatch.setattr(ed25519.wire, "signature_holds", lambda *_: False)
    return vote_signature_holds(public, signature, message)


def edge_cases(shared: Path) -> list[tuple[set[str], tuple[bytes, bytes, bytes]]]:
    """Flags, and key, signature and message, of every vector."""
    vectors = json.loads((shared / "vectors/ed25519/ed25519vectors.json").read_text())
    return [
        (set(v["flags"] or ()), (bytes.fromhex(v["key"]), bytes.fromhex(v["sig"]), v["msg"].encode())) for v in vectors
    ]


def test_edge_cases(shared: Path) -> None:
    cases = edge_cases(shared)
    assert len(cases) == 914
    assert sum(signature_holds(*triple) for _, triple in cases) == 43
    refused = [flags for flags, triple in cases if not vote_signature_holds(*triple)]
    assert len(refused) == 88
    assert all({"reencoded_k", "non_canonical_R"} <= flags and "low_order_A" not in flags for flags in refused)


def test_every_other_case_with_a_re_encoded_nonce_does_not_depend_on_k(shared: Path) -> None:
    """Where the key has small order, [8][k]A vanishes whatever k is."""
    for flags, triple in edge_cases(shared):
        if "reencoded_k" in flags and vote_signature_holds(*triple):
            assert "low_order_A" in flags


def test_both_ways_agree_on_what_libsodium_accepts(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = [triple for _, triple in edge_cases(shared) if signature_holds(*triple)]
    assert len(accepted) == 43
    assert all(slow(*triple, monkeypatch) for triple in accepted)
    assert slow(KEY.public, SIGNATURE, MESSAGE, monkeypatch)


@pytest.mark.parametrize("at", [0, 15, 31, 32, 47, 63])
def test_a_flipped_bit_of_the_signature_is_refused(at: int) -> None:
    forged = SIGNATURE[:at] + bytes((SIGNATURE[at] ^ 1,)) + SIGNATURE[at + 1 :]
    assert not vote_signature_holds(KEY.public, forged, MESSAGE)


def test_another_message_or_key_is_refused() -> None:
    assert vote_signature_holds(KEY.public, SIGNATURE, MESSAGE)
    assert not vote_signature_holds(KEY.public, SIGNATURE, MESSAGE + b"x")
    assert not vote_signature_holds(SigningKey.from_seed(bytes(32)).public, SIGNATURE, MESSAGE)


@pytest.mark.parametrize("times", [1, 2, 15])
def test_s_must_be_below_the_order(times: int) -> None:
    s = int.from_bytes(SIGNATURE[32:], "little") + times * L
    assert not vote_signature_holds(KEY.public, SIGNATURE[:32] + s.to_bytes(32, "little"), MESSAGE)


def test_s_of_exactly_the_order_is_refused_where_zero_is_accepted() -> None:
    identity = (1).to_bytes(32, "little")
    assert vote_signature_holds(identity, identity + bytes(32), MESSAGE)
    assert not vote_signature_holds(identity, identity + L.to_bytes(32, "little"), MESSAGE)


def test_bytes_that_are_no_point_are_refused() -> None:
    no_point = (2).to_bytes(32, "little")
    assert not sodium.crypto_core_ed25519_is_valid_point(no_point)
    assert not vote_signature_holds(no_point, SIGNATURE, MESSAGE)
    assert not vote_signature_holds(KEY.public, no_point + SIGNATURE[32:], MESSAGE)


@pytest.mark.parametrize(("key_bytes", "signature_bytes"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_wrong_lengths_are_refused(key_bytes: int, signature_bytes: int) -> None:
    key, signature = (KEY.public * 2)[:key_bytes], (SIGNATURE * 2)[:signature_bytes]
    assert not vote_signature_holds(key, signature, MESSAGE)


def test_a_small_order_part_of_the_nonce_is_multiplied_away() -> None:
    """R' = R + T with T of order 8: only a rule that multiplies by the cofactor accepts it."""
    scalar = sodium.crypto_core_ed25519_scalar_reduce(sha512(KEY.seed).digest())
    secret = (int.from_bytes(sha512(KEY.seed).digest()[:32], "little") & ~7 & ~(1 << 255)) | 1 << 254
    plain = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)
    nonce = sodium.crypto_core_ed25519_add(plain, SMALL_ORDER)
    k = int.from_bytes(sha512(nonce + KEY.public + MESSAGE).digest(), "little") % L
    s = (int.from_bytes(scalar, "little") + k * secret) % L
    signature = nonce + s.to_bytes(32, "little")
    assert not signature_holds(KEY.public, signature, MESSAGE)
    assert vote_signature_holds(KEY.public, signature, MESSAGE)
    assert not vote_signature_holds(KEY.public, signature, MESSAGE + b"x")
