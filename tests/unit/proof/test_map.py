"""The hashing rules against ICS-23's own proofs, and the corners of the path format."""

from __future__ import annotations

import dataclasses
import json
from hashlib import sha256
from pathlib import Path

import pytest

from onecode.errors import Malformed, Untrusted
from onecode.proof import map as proofs
from onecode.proof.map import EMPTY, PathProof, Section, SectionRoots
from onecode.schema import parse


def fields(data: bytes) -> list[tuple[int, bytes | int]]:
    """The fields of one protobuf message: length-delimited ones as bytes, varints as integers."""
    found: list[tuple[int, bytes | int]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            number |= (data[at] & 127) << shift
            at += 1
            if data[at - 1] < 128:
                return number
            shift += 7

    while at < len(data):
        tag = varint()
        value = varint()
        if tag & 7 == 2:
            found.append((tag >> 3, data[at : at + value]))
            at += value
        else:
            found.append((tag >> 3, value))
    return found


def existence(data: bytes) -> tuple[bytes, bytes, list[tuple[int, bytes]]]:
    """Key, value and (turn, sibling) from the leaf up, of a CommitmentProof with an ExistenceProof."""
    ((_, proof),) = fields(data)
    assert isinstance(proof, bytes)
    key = value = b""
    path: list[tuple[int, bytes]] = []
    for number, content in fields(proof):
        assert isinstance(content, bytes)
        if number == 1:
            key = content
        elif number == 2:
            value = content
        elif number == 4:
            parts = dict(fields(content))
            prefix, suffix = parts.get(2, b""), parts.get(3, b"")
            assert isinstance(prefix, bytes)
            assert isinstance(suffix, bytes)
            assert prefix[:1] == b"\x01"
            path.append((0, suffix) if suffix else (1, prefix[1:]))
    return key, value, path


@pytest.mark.parametrize("name", ["left", "middle", "right"])
def test_ics23_proofs(shared: Path, name: str) -> None:
    case = json.loads((shared / f"vectors/ics23/smt_exist_{name}.json").read_text())
    key, value, path = existence(bytes.fromhex(case["proof"]))
    assert (key.hex(), value.hex()) == (case["key"], case["value"])
    path.reverse()
    hashed = sha256(key).digest()
    turns = "".join(str(turn) for turn, _ in path)
    assert turns == f"{int.from_bytes(hashed, 'big'):0256b}"[: len(path)]  # they chose the directions we would
    octets = -(-len(path) // 8)
    bits = "".join("0" if sibling == EMPTY else "1" for _, sibling in path)
    proof = PathProof(
        depth=len(path),
        mask=int(bits.ljust(8 * octets, "0"), 2).to_bytes(octets, "big"),
        siblings=b"".join(sibling for _, sibling in path if sibling != EMPTY),
    )
    leaf = proofs.leaf_hash(hashed, sha256(value).digest())
    assert proofs.path_root(hashed, leaf, proof).hex() == case["root"]
    assert proofs.path_root(hashed, proofs.leaf_hash(hashed, sha256(b"").digest()), proof).hex() != case["root"]


def roots_with(section: Section, root: bytes) -> SectionRoots:
    return SectionRoots(roots=b"".join(root if each is section else EMPTY for each in Section))


def test_hashes_are_spelt_out() -> None:
    assert proofs.key_hash(Section.ALIASES, b"key") == sha256(b"\x03key").digest()
    assert proofs.leaf_hash(b"k" * 32, b"v" * 32) == sha256(b"\x00" + b"k" * 32 + b"v" * 32).digest()
    assert proofs.inner_hash(b"l" * 32, EMPTY) == sha256(b"\x01" + b"l" * 32 + bytes(32)).digest()
    roots = SectionRoots(roots=bytes(range(192)))
    assert proofs.app_hash(roots) == sha256(b"\x02" + bytes(range(192))).digest()
    assert roots.root(Section.MERCHANTS) == bytes(range(32))
    assert roots.root(Section.COUNTERS) == bytes(range(160, 192))


def test_section_tags_are_fixed() -> None:
    assert [(section.name, section.value) for section in Section] == [
        ("MERCHANTS", 1),
        ("PLATFORMS", 2),
        ("ALIASES", 3),
        ("GOVERNANCE", 4),
        ("ENCLAVES", 5),
        ("COUNTERS", 6),
    ]


def test_a_single_leaf_is_the_root() -> None:
    hashed = proofs.key_hash(Section.PLATFORMS, b"key")
    roots = roots_with(Section.PLATFORMS, proofs.leaf_hash(hashed, sha256(b"value").digest()))
    top = PathProof(depth=0, mask=b"", siblings=b"")
    proofs.verify_presence(roots, Section.PLATFORMS, b"key", b"value", top)
    for section in Section:
        if section is not Section.PLATFORMS:
            proofs.verify_absence(roots, section, b"key", top)
            with pytest.raises(Untrusted):
                proofs.verify_presence(roots, section, b"key", b"value", top)
    with pytest.raises(Untrusted):
        proofs.verify_absence(roots, Section.PLATFORMS, b"key", top)


def test_a_path_of_all_levels() -> None:
    """Two keys whose hashes differ in the last bit alone part at depth 256; such a pair exists only on paper."""
    hashed = bytes(31) + b"\x01"
    own, beside = proofs.leaf_hash(hashed, bytes(32)), proofs.leaf_hash(bytes(32), bytes(32))
    node = proofs.inner_hash(beside, own)
    for _ in range(255):
        node = proofs.inner_hash(node, EMPTY)
    proof = PathProof(depth=256, mask=bytes(31) + b"\x01", siblings=beside)
    assert proofs.path_root(hashed, own, proof) == node


def test_depth_is_limited_where_bytes_come_in() -> None:
    good = PathProof(depth=256, mask=bytes(32), siblings=b"")
    assert parse(PathProof, good.encoded()) == good
    for bad in (
        dataclasses.replace(good, depth=257),
        dataclasses.replace(good, mask=bytes(33)),
        dataclasses.replace(good, siblings=bytes(32 * 256 + 1)),
        dataclasses.replace(good, other=bytes(63)),
    ):
        with pytest.raises(Malformed):
            parse(PathProof, bad.encoded())


def test_roots_are_checked_against_the_header() -> None:
    roots = roots_with(Section.MERCHANTS, bytes(31) + b"\x01")
    proofs.verify_roots(roots, proofs.app_hash(roots))
    for wrong in (b"", bytes(32), proofs.app_hash(roots)[:-1], proofs.app_hash(roots_with(Section.ALIASES, EMPTY))):
        with pytest.raises(Untrusted) as caught:
            proofs.verify_roots(roots, wrong)
        assert caught.value.code == "map.app_hash"
