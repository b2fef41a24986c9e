"""The stored map against a naive tree: roots, stored bundles and proofs are functions of the contents alone."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecode.errors import Misconfigured, Untrusted
from onecode.proof.map import (
    EMPTY,
    PathProof,
    Section,
    SectionRoots,
    app_hash,
    leaf_hash,
    path_root,
    verify_absence,
    verify_presence,
    verify_roots,
)
from onecode.registry import map as registry_map
from onecode.registry.store import MemoryStore, Table

SECTIONS = st.sampled_from(list(Section))


def naive_root(leaves: dict[bytes, bytes], depth: int = 0) -> bytes:
    """The tree as its definition says it, with no store: {key hash: value hash}."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        ((place, value_hash),) = leaves.items()
        return hashlib.sha256(b"\0" + place + value_hash).digest()
    sides: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for place, value_hash in leaves.items():
        sides[place[depth // 8] >> (7 - depth % 8) & 1][place] = value_hash
    return hashlib.sha256(b"\1" + naive_root(sides[0], depth + 1) + naive_root(sides[1], depth + 1)).digest()


@st.composite
def places(draw: st.DrawFn) -> bytes:
    """Key hashes that share long prefixes with one another, up to 255 bits."""
    shared = draw(st.integers(0, 32))
    fill = draw(st.sampled_from([b"\x00", b"\xff", b"\xa5"]))
    tail = draw(st.sampled_from([b"\x00", b"\x01", b"\x02", b"\x03", b"\x10", b"\x80", b"\xf0", b"\xff"]))
    return (fill * shared + tail * 32)[:32]


CHANGES = st.dictionaries(places(), st.one_of(st.none(), st.binary(min_size=32, max_size=32)), max_size=12)
PLAIN = st.dictionaries(st.integers(0, 40), st.one_of(st.none(), st.binary(max_size=8)), max_size=25)


def end_slot(place: bytes, value_hash: bytes | None, proof: PathProof) -> bytes:
    if value_hash is not None:
        assert proof.other is None
        return leaf_hash(place, value_hash)
    if proof.other is None:
        return EMPTY
    apart = int.from_bytes(place, "big") ^ int.from_bytes(proof.other[:32], "big")
    assert apart and apart.bit_length() <= 256 - proof.depth
    return leaf_hash(proof.other[:32], proof.other[32:])


@given(st.lists(CHANGES, min_size=1, max_size=6), SECTIONS)
def test_by_hashes_with_long_shared_prefixes(steps: list[dict[bytes, bytes | None]], section: Section) -> None:
    store = MemoryStore()
    contents: dict[bytes, bytes] = {}
    asked: set[bytes] = set()
    for step in steps:
        asked |= set(step)
        for place, value_hash in step.items():
            if value_hash is None:
                contents.pop(place, None)
            else:
                contents[place] = value_hash
        root = registry_map.update_hashes(store, section, step.items())
        assert root == naive_root(contents)
        built = MemoryStore()
        assert registry_map.build_hashes(built, section, sorted(contents.items())) == root
        assert built.tables[Table.NODES] == store.tables[Table.NODES]
        for place in asked:
            proof = registry_map.prove_hash(store, section, place)
            assert path_root(place, end_slot(place, contents.get(place), proof), proof) == root


@given(st.lists(st.tuples(SECTIONS, PLAIN), min_size=1, max_size=8))
def test_by_keys_in_all_sections(steps: list[tuple[Section, dict[int, bytes | None]]]) -> None:
    store = MemoryStore()
    contents: dict[Section, dict[bytes, bytes]] = {section: {} for section in Section}
    for section, step in steps:
        changes = {b"key-%d" % number: value for number, value in step.items()}
        for key, value in changes.items():
            if value is None:
                contents[section].pop(key, None)
            else:
                contents[section][key] = value
        root = registry_map.update(store, section, changes)
        assert registry_map.roots(store)[section - 1] == root
    again = MemoryStore()
    for section in Section:
        registry_map.build(again, section, contents[section].items())
    assert again.tables[Table.NODES] == store.tables[Table.NODES]
    assert again.tables[Table.VALUES] == store.tables[Table.VALUES]
    roots = SectionRoots(roots=b"".join(registry_map.roots(store)))
    assert roots == registry_map.section_roots(again)
    verify_roots(roots, app_hash(roots))
    for section in Section:
        for number in range(42):
            key = b"key-%d" % number
            value, proof = contents[section].get(key), registry_map.prove(store, section, key)
            assert registry_map.load(store, section, key) == value
            if value is None:
                verify_absence(roots, section, key, proof)
                with pytest.raises(Untrusted):
                    verify_presence(roots, section, key, b"made up", proof)
            else:
                verify_presence(roots, section, key, value, proof)
                with pytest.raises(Untrusted):
                    verify_absence(roots, section, key, proof)
                with pytest.raises(Untrusted):
                    verify_presence(roots, section, key, value + b"x", proof)


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=40), max_size=10))
def test_values_give_back_key_and_value(items: dict[bytes, bytes]) -> None:
    store = MemoryStore()
    registry_map.update(store, Section.ALIASES, dict(items))
    assert dict(registry_map.split_value(row) for row in store.tables[Table.VALUES].values()) == items


def test_every_kind_of_absence() -> None:
    store, section = MemoryStore(), Section.PLATFORMS

    def proof(place: bytes) -> PathProof:
        return registry_map.prove_hash(store, section, place)

    left, right, asked = bytes(32), b"\x20" + bytes(31), b"\x80" + bytes(31)
    assert proof(asked) == PathProof(depth=0, mask=b"", siblings=b"")  # an empty tree
    registry_map.update_hashes(store, section, [(left, b"v" * 32)])
    assert proof(asked) == PathProof(depth=0, mask=b"", siblings=b"", other=left + b"v" * 32)  # a lone leaf
    registry_map.update_hashes(store, section, [(right, b"w" * 32)])
    empty_slot = proof(asked)
    assert (empty_slot.depth, empty_slot.mask, len(empty_slot.siblings), empty_slot.other) == (1, b"\x80", 32, None)
    beside = proof(b"\x21" + bytes(31))  # shares the path of `right`, three levels down
    assert (beside.depth, beside.mask, beside.other) == (3, b"\x20", right + b"w" * 32)


def test_an_update_is_not_the_order_of_its_steps() -> None:
    together, apart = MemoryStore(), MemoryStore()
    changes: dict[bytes, bytes | None] = {b"%d" % number: b"v%d" % number for number in range(300)}
    registry_map.update(together, Section.MERCHANTS, changes)
    for key in reversed(changes):
        registry_map.update(apart, Section.MERCHANTS, {key: b"old", b"gone" + key: b"x"})
    for key, value in changes.items():
        registry_map.update(apart, Section.MERCHANTS, {key: value, b"gone" + key: None})
    assert together.tables == apart.tables


def test_build_refuses_a_section_that_has_something() -> None:
    store = MemoryStore()
    registry_map.update(store, Section.ALIASES, {b"a": b"1"})
    with pytest.raises(Misconfigured):
        registry_map.build(store, Section.ALIASES, [(b"b", b"2")])


def test_a_missing_bundle_is_never_taken_for_absence() -> None:
    store = MemoryStore()
    keys = [b"%d" % number for number in range(400)]
    registry_map.build(store, Section.MERCHANTS, [(key, b"v") for key in keys])
    for node in [key for key in store.tables[Table.NODES] if key[1] == 1]:
        store.delete(Table.NODES, node)
    for act in (
        lambda: registry_map.prove(store, Section.MERCHANTS, keys[0]),
        lambda: registry_map.update(store, Section.MERCHANTS, {keys[0]: b"w"}),
    ):
        with pytest.raises(Misconfigured) as caught:
            act()
        assert caught.value.code == "store.map_broken"
