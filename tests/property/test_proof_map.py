"""Proofs of random maps hold for what is there and what is not, and no altered proof holds."""

from __future__ import annotations

import dataclasses
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecode.errors import OnecodeError, Untrusted
from onecode.proof import map as proofs
from onecode.proof.map import PathProof, Section, SectionRoots
from onecode.schema import parse
from vectors import reference_map

SECTION = Section.ENCLAVES
KEYS = st.binary(max_size=3)
MAPS = st.dictionaries(KEYS, st.binary(max_size=3), max_size=40)


def hashed(contents: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {proofs.key_hash(SECTION, key): sha256(value).digest() for key, value in contents.items()}


def roots_of(contents: dict[bytes, bytes]) -> SectionRoots:
    root = reference_map.root(hashed(contents))
    return SectionRoots(roots=b"".join(root if section is SECTION else bytes(32) for section in Section))


def check(roots: SectionRoots, key: bytes, value: bytes | None, proof: PathProof) -> None:
    if value is None:
        proofs.verify_absence(roots, SECTION, key, proof)
    else:
        proofs.verify_presence(roots, SECTION, key, value, proof)


@given(MAPS, KEYS)
def test_a_true_statement_is_proven_and_its_opposite_is_not(contents: dict[bytes, bytes], key: bytes) -> None:
    roots = roots_of(contents)
    for name in (key, *contents):
        proof = reference_map.prove(hashed(contents), proofs.key_hash(SECTION, name))
        proof = parse(PathProof, proof.encoded())
        value = contents.get(name)
        check(roots, name, value, proof)
        with pytest.raises(Untrusted):
            check(roots, name, b"another" if value is None else None, proof)
        with pytest.raises(Untrusted):
            check(roots, name, (value or b"") + b"x", proof)


@given(MAPS, KEYS, st.data())
def test_no_altered_byte_is_accepted(contents: dict[bytes, bytes], key: bytes, data: st.DataObject) -> None:
    """Any other bytes for the same statement: they do not parse, or they do not verify."""
    roots, value = roots_of(contents), contents.get(key)
    encoded = reference_map.prove(hashed(contents), proofs.key_hash(SECTION, key)).encoded()
    at = data.draw(st.integers(0, len(encoded) - 1))
    changed = encoded[:at] + bytes((encoded[at] ^ data.draw(st.integers(1, 255)),)) + encoded[at + 1 :]
    with pytest.raises(OnecodeError):
        check(roots, key, value, parse(PathProof, changed))


@given(MAPS, KEYS, MAPS)
def test_a_proof_holds_under_no_other_contents(
    contents: dict[bytes, bytes], key: bytes, others: dict[bytes, bytes]
) -> None:
    proof = reference_map.prove(hashed(contents), proofs.key_hash(SECTION, key))
    if roots_of(others) == roots_of(contents):
        assert others == contents
    else:
        with pytest.raises(Untrusted):
            check(roots_of(others), key, contents.get(key), proof)


@given(
    st.integers(0, 256),
    st.binary(max_size=32),
    st.binary(max_size=320),
    st.none() | st.binary(min_size=64, max_size=64),
    KEYS,
)
def test_any_proof_at_all_is_refused_by_our_errors_alone(
    depth: int, mask: bytes, siblings: bytes, other: bytes | None, key: bytes
) -> None:
    proof = PathProof(depth=depth, mask=mask, siblings=siblings, other=other)
    roots = roots_of({b"a": b"1", b"b": b"2"})
    for value in (None, b"x"):
        with pytest.raises(Untrusted):
            check(roots, key, value, dataclasses.replace(proof))


@given(MAPS)
def test_the_root_is_a_function_of_the_contents(contents: dict[bytes, bytes]) -> None:
    backwards = dict(reversed(list(hashed(contents).items())))
    assert reference_map.root(backwards) == reference_map.root(hashed(contents))
