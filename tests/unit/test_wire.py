"""The CBOR subset, frames and signatures, by hand-written bytes."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from onecode.errors import Malformed, Untrusted
from onecode.wire import (
    CHAIN_ID_CHARS_MAX,
    DEPTH_MAX,
    FRAME_BYTES_MAX,
    UINT_MAX,
    Domain,
    SigningKey,
    decode,
    encode,
    frame,
    sha256,
    signature_holds,
    verify_signature,
)


class Colour(IntEnum):
    RED = 3


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


ENCODINGS: list[tuple[Any, str]] = [
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (255, "18ff"),
    (256, "190100"),
    (65535, "19ffff"),
    (65536, "1a00010000"),
    (2**32 - 1, "1affffffff"),
    (2**32, "1b0000000100000000"),
    (UINT_MAX, "1bffffffffffffffff"),
    (True, "f5"),
    (False, "f4"),
    (b"", "40"),
    (b"\x01\x02", "420102"),
    (b"x" * 24, "5818" + "78" * 24),
    ("", "60"),
    ("a", "6161"),
    ("é", "62c3a9"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, [2, 3]], "8201820203"),
    ({}, "a0"),
    ({2: b"", 1: "a", 256: True, 24: [0]}, "a4" + "016161" + "0240" + "18188100" + "190100f5"),
]

REFUSED: list[tuple[str, str, str]] = [
    # integers and lengths that are not in their shortest form
    ("long-uint-1", "1817", "wire.not_canonical"),
    ("long-uint-2", "1900ff", "wire.not_canonical"),
    ("long-uint-4", "1a0000ffff", "wire.not_canonical"),
    ("long-uint-8", "1b00000000ffffffff", "wire.not_canonical"),
    ("long-bytes-length", "580100", "wire.not_canonical"),
    ("long-text-length", "780161", "wire.not_canonical"),
    ("long-array-length", "980100", "wire.not_canonical"),
    ("long-map-length", "b8010000", "wire.not_canonical"),
    ("long-map-key", "a1180100", "wire.not_canonical"),
    # indefinite lengths
    ("indefinite-bytes", "5f4100ff", "wire.not_canonical"),
    ("indefinite-text", "7f6161ff", "wire.not_canonical"),
    ("indefinite-array", "9f00ff", "wire.not_canonical"),
    ("indefinite-map", "bf0000ff", "wire.not_canonical"),
    ("break-alone", "ff", "wire.not_canonical"),
    # reserved additional information
    ("reserved-28", "1c", "wire.not_canonical"),
    ("reserved-29", "3d", "wire.not_canonical"),
    ("reserved-30", "fe", "wire.not_canonical"),
    # types outside the subset
    ("negative", "20", "wire.not_canonical"),
    ("negative-wide", "3903e7", "wire.not_canonical"),
    ("tag", "c000", "wire.not_canonical"),
    ("tag-bignum", "c249010000000000000000", "wire.not_canonical"),
    ("tag-wide", "d9d9f700", "wire.not_canonical"),
    ("null", "f6", "wire.not_canonical"),
    ("undefined", "f7", "wire.not_canonical"),
    ("simple-16", "f0", "wire.not_canonical"),
    ("simple-32", "f820", "wire.not_canonical"),
    ("simple-true-in-two-bytes", "f815", "wire.not_canonical"),
    ("float-16", "f93c00", "wire.not_canonical"),
    ("float-32", "fa47c35000", "wire.not_canonical"),
    ("float-64", "fb3ff199999999999a", "wire.not_canonical"),
    ("null-in-array", "81f6", "wire.not_canonical"),
    # maps
    ("duplicate-key", "a200000001", "wire.not_canonical"),
    ("descending-keys", "a201000000", "wire.not_canonical"),
    ("text-key", "a1616100", "wire.map_key"),
    ("bytes-key", "a1416100", "wire.map_key"),
    ("negative-key", "a12000", "wire.map_key"),
    ("true-key", "a1f500", "wire.map_key"),
    ("array-key", "a18000", "wire.map_key"),
    # the end
    ("empty", "", "wire.truncated"),
    ("uint-cut", "19ff", "wire.truncated"),
    ("bytes-cut", "4201", "wire.truncated"),
    ("text-cut", "6261", "wire.truncated"),
    ("array-cut", "8200", "wire.truncated"),
    ("map-without-value", "a100", "wire.truncated"),
    ("map-without-key", "a1", "wire.truncated"),
    ("trailing", "0000", "wire.trailing"),
    ("trailing-after-map", "a0f5", "wire.trailing"),
    # lengths that lie
    ("huge-bytes", "5bffffffffffffffff00", "wire.truncated"),
    ("huge-text", "7b7fffffffffffffff61", "wire.truncated"),
    ("huge-array", "9bffffffffffffffff00", "wire.truncated"),
    ("huge-map", "bbffffffffffffffff0000", "wire.truncated"),
    ("array-of-a-million", "9a000f424000", "wire.truncated"),
    # text
    ("utf8-lone-continuation", "6180", "wire.utf8"),
    ("utf8-overlong", "62c080", "wire.utf8"),
    ("utf8-surrogate", "63eda080", "wire.utf8"),
    ("utf8-above-unicode", "64f4908080", "wire.utf8"),
    ("utf8-cut", "61c3", "wire.utf8"),
    # depth
    ("too-deep", "81" * (DEPTH_MAX + 1) + "00", "wire.depth"),
    ("too-deep-maps", "a100" * (DEPTH_MAX + 1) + "00", "wire.depth"),
    ("bomb", "81" * 100_000, "wire.depth"),
]


@pytest.mark.parametrize(("value", "expected"), ENCODINGS)
def test_a_value_has_its_one_encoding(value: Any, expected: str) -> None:
    assert encode(value).hex() == expected
    back = decode(bytes.fromhex(expected))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(("data", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_every_other_byte_string_is_refused(data: str, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(bytes.fromhex(data))
    assert caught.value.code == code


def test_the_deepest_allowed_value_goes_both_ways() -> None:
    value = nested(DEPTH_MAX)
    assert decode(encode(value)) == value


def test_size_is_checked_first_and_is_413() -> None:
    value = b"x" * (FRAME_BYTES_MAX - 5)
    data = encode(value)
    assert len(data) == FRAME_BYTES_MAX
    assert decode(data) == value
    with pytest.raises(Malformed) as caught:
        decode(b"\xff" * (FRAME_BYTES_MAX + 1))
    assert (caught.value.code, caught.value.status) == ("wire.too_large", 413)
    assert decode(b"\x17", size_max=1) == 23
    with pytest.raises(Malformed, match=r"wire\.too_large"):
        decode(b"\x18\x18", size_max=1)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1, "wire.integer_range"),
        (UINT_MAX + 1, "wire.integer_range"),
        ({UINT_MAX + 1: 0}, "wire.integer_range"),
        (1.0, "wire.type"),
        (None, "wire.type"),
        ({1, 2}, "wire.type"),
        (object(), "wire.type"),
        (bytearray(b"x"), "wire.type"),
        ({"a": 1}, "wire.map_key"),
        ({-1: 1}, "wire.map_key"),
        ({True: 1}, "wire.map_key"),
        ({1: 0, "a": 0}, "wire.map_key"),
        ({None: 0, b"": 0}, "wire.map_key"),
        ("\ud800", "wire.utf8"),
        ([{1: "ok \udfff"}], "wire.utf8"),
        (nested(DEPTH_MAX + 1), "wire.depth"),
    ],
)
def test_what_has_no_place_is_not_encoded(value: Any, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        encode(value)
    assert caught.value.code == code


def test_enumerations_and_tuples_encode_as_what_they_hold() -> None:
    assert encode(Colour.RED) == b"\x03"
    assert encode((1, 2)) == encode([1, 2])
    assert encode(Domain.RECORD) == encode("onecode/record/1")


# --- frames ----------------------------------------------------------------------------------------------------------


def test_a_frame_is_domain_zero_length_chain_body() -> None:
    assert frame(Domain.QUERY, "one-1", b"body") == b"onecode/query/1\x00\x05one-1body"


def test_no_two_triples_share_a_frame() -> None:
    triples = [
        (domain, chain, body)
        for domain in Domain
        for chain in ("a", "ab", "b", "\x01b")
        for body in (b"", b"b", b"\x01b")
    ]
    assert len({frame(*triple) for triple in triples}) == len(triples)


def test_domains_are_distinct_and_hold_no_zero_byte() -> None:
    names = [domain.value for domain in Domain]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and "\0" not in name for name in names)


@pytest.mark.parametrize("chain_id", ["", "x" * (CHAIN_ID_CHARS_MAX + 1), "é" * 26])
def test_a_chain_id_out_of_bounds_is_refused(chain_id: str) -> None:
    with pytest.raises(Malformed) as caught:
        frame(Domain.QUERY, chain_id, b"")
    assert (caught.value.code, caught.value.field) == ("wire.chain_id", "chain_id")


def test_a_chain_id_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(Malformed, match=r"wire\.utf8"):
        frame(Domain.QUERY, "\ud800", b"")


def test_sha256_is_sha256() -> None:
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- signatures ------------------------------------------------------------------------------------------------------

# RFC 8032, section 7.1, TEST 2
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
CHAIN = "one-1"


def test_signing_is_rfc_8032() -> None:
    key = SigningKey.from_seed(RFC_SEED)
    assert key.public == RFC_PUBLIC
    assert key.sign_bytes(b"\x72") == RFC_SIGNATURE
    assert signature_holds(RFC_PUBLIC, RFC_SIGNATURE, b"\x72")


def test_any_flipped_bit_breaks_a_signature() -> None:
    for bit in range(0, 512, 7):
        bad = bytearray(RFC_SIGNATURE)
        bad[bit // 8] ^= 1 << bit % 8
        assert not signature_holds(RFC_PUBLIC, bytes(bad), b"\x72")
    assert not signature_holds(RFC_PUBLIC, RFC_SIGNATURE, b"\x73")


@pytest.mark.parametrize(
    ("public", "signature"),
    [
        (RFC_PUBLIC[:31], RFC_SIGNATURE),
        (RFC_PUBLIC + b"\0", RFC_SIGNATURE),
        (RFC_PUBLIC, RFC_SIGNATURE[:63]),
        (RFC_PUBLIC, RFC_SIGNATURE + b"\x72"),
        (b"", b""),
        (bytes(32), bytes(64)),  # the neutral point as key: accepted by looser rules
        (b"\x01" + bytes(31), b"\x01" + bytes(63)),
    ],
)
def test_wrong_lengths_and_small_order_keys_do_not_hold(public: bytes, signature: bytes) -> None:
    assert not signature_holds(public, signature, b"\x72")


def test_a_signature_is_bound_to_domain_chain_and_body() -> None:
    key = SigningKey.from_seed(bytes(32))
    signature = key.sign(Domain.CONSENT, CHAIN, b"body")
    verify_signature(key.public, signature, Domain.CONSENT, CHAIN, b"body", field="consent")
    for domain, chain, body in [
        (Domain.RECORD, CHAIN, b"body"),
        (Domain.CONSENT, "one-2", b"body"),
        (Domain.CONSENT, CHAIN, b"bodz"),
    ]:
        with pytest.raises(Untrusted) as caught:
            verify_signature(key.public, signature, domain, chain, body, field="consent")
        assert (caught.value.code, caught.value.field) == ("signature.bad", "consent")


def test_a_key_does_not_show_its_seed() -> None:
    key = SigningKey.from_seed(RFC_SEED)
    assert RFC_SEED.hex() not in repr(key)
    assert repr(RFC_SEED) not in repr(key)
    assert RFC_PUBLIC.hex() in repr(key)
