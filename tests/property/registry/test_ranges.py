"""Ranges of a section: what is proven is complete and exact, whatever the tree; whatever is altered is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecode.errors import Untrusted
from onecode.proof.map import EMPTY, Section, SectionRoots
from onecode.proof.range import FIRST, LAST, PROOF_BYTES_MAX, Leaf, Mark, verify_range
from onecode.registry.map import build_hashes, section_roots
from onecode.registry.ranges import SectionBuilder, prove_range
from onecode.registry.store import MemoryStore, Table
from property.registry.test_map import SECTIONS, places

HASHES = st.binary(min_size=32, max_size=32)
LEAVES = st.dictionaries(st.one_of(places(), HASHES), HASHES, max_size=24)


def grown(leaves: dict[bytes, bytes], section: Section) -> MemoryStore:
    store = MemoryStore()
    build_hashes(store, section, sorted(leaves.items()))
    return store


def within(leaves: dict[bytes, bytes], low: bytes, high: bytes) -> list[Leaf]:
    return sorted((place, value) for place, value in leaves.items() if low <= place <= high)


def holds(store: MemoryStore, section: Section, low: bytes, high: bytes, leaves: list[Leaf], proof: bytes) -> bool:
    try:
        verify_range(section_roots(store), section, low, high, leaves, proof)
    except Untrusted:
        return False
    return True


@st.composite
def ranges(draw: st.DrawFn) -> tuple[dict[bytes, bytes], bytes, bytes]:
    """Leaves, and two ends that often lie on a leaf or right beside one."""
    leaves = draw(LEAVES)
    ends = []
    for _ in range(2):
        near = draw(st.sampled_from([*sorted(leaves), FIRST, LAST]))
        moved = int.from_bytes(near, "big") + draw(st.sampled_from([-1, 0, 0, 1]))
        ends.append(draw(st.one_of(st.just(moved.to_bytes(33, "big", signed=True)[1:]), places(), HASHES)))
    return leaves, min(ends), max(ends)


@given(ranges(), SECTIONS)
def test_all_leaves_of_a_range_are_proven(
    given_range: tuple[dict[bytes, bytes], bytes, bytes], section: Section
) -> None:
    leaves, low, high = given_range
    store = grown(leaves, section)
    proof = prove_range(store, section, low, high)
    assert len(proof) <= PROOF_BYTES_MAX
    verify_range(section_roots(store), section, low, high, within(leaves, low, high), proof)


@given(ranges(), SECTIONS, st.data())
def test_whatever_is_altered_is_refused(
    given_range: tuple[dict[bytes, bytes], bytes, bytes], section: Section, data: st.DataObject
) -> None:
    leaves, low, high = given_range
    store = grown(leaves, section)
    proof, right = prove_range(store, section, low, high), within(leaves, low, high)
    if right:
        index = data.draw(st.integers(0, len(right) - 1))
        place, value = right[index]
        assert not holds(store, section, low, high, right[:index] + right[index + 1 :], proof)  # dropped
        other = data.draw(HASHES.filter(lambda one: one != value))
        assert not holds(store, section, low, high, [*right[:index], (place, other), *right[index + 1 :]], proof)
        assert not holds(store, section, low, high, [*right[:index], right[index], *right[index:]], proof)  # twice
    if len(right) > 1:
        first, second = right[0], right[1]
        assert not holds(store, section, low, high, [second, first, *right[2:]], proof)
        assert (first[1] == second[1]) or not holds(
            store, section, low, high, [(first[0], second[1]), (second[0], first[1]), *right[2:]], proof
        )
    added = data.draw(st.one_of(places(), HASHES))
    if added not in leaves:
        assert not holds(store, section, low, high, sorted([*right, (added, bytes(32))]), proof)
    if proof:
        assert not holds(store, section, low, high, right, proof[:-1])
        at, flip = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(1, 255))
        altered = proof[:at] + bytes((proof[at] ^ flip,)) + proof[at + 1 :]
        assert not holds(store, section, low, high, right, altered)
    assert not holds(store, section, low, high, right, proof + b"\0")


@given(LEAVES.filter(bool), HASHES, HASHES, SECTIONS)
def test_a_proof_of_another_state_or_section_is_refused(
    leaves: dict[bytes, bytes], place: bytes, value: bytes, section: Section
) -> None:
    store = grown(leaves, section)
    low, high = min(leaves), max(leaves)
    proof, right = prove_range(store, section, low, high), within(leaves, low, high)
    changed = grown({**leaves, place: value}, section)
    if leaves.get(place) != value:
        assert not holds(changed, section, low, high, right, proof)
    another = Section.PLATFORMS if section == Section.MERCHANTS else Section.MERCHANTS
    assert not holds(store, another, low, high, right, proof)


@given(LEAVES.filter(lambda leaves: len(leaves) > 1), SECTIONS, st.data())
def test_a_leaf_cannot_be_kept_back_as_one_beside_the_range(
    leaves: dict[bytes, bytes], section: Section, data: st.DataObject
) -> None:
    """The proof of a smaller range is no proof of the larger one without the leaf between."""
    store, places_ = grown(leaves, section), sorted(leaves)
    index = data.draw(st.integers(1, len(places_) - 1))
    low, inner, high = places_[0], places_[index - 1], places_[index]
    smaller = within(leaves, low, inner)
    assert not holds(store, section, low, high, smaller, prove_range(store, section, low, inner))
    assert not holds(store, section, low, high, smaller, prove_range(store, section, low, high))


@given(LEAVES, st.lists(HASHES, max_size=5), SECTIONS)
def test_a_section_grows_from_ranges(leaves: dict[bytes, bytes], cuts: list[bytes], section: Section) -> None:
    """Ranges one after the other, each proven alone, give the same bundles as the whole section at once."""
    store, built = grown(leaves, section), MemoryStore()
    builder = SectionBuilder(built, section)
    ends = [FIRST, *sorted(set(cuts) - {FIRST}), LAST]
    for number, (begin, end) in enumerate(pairwise(ends)):
        low = (int.from_bytes(begin, "big") + (number > 0)).to_bytes(32, "big") if begin != LAST else LAST
        if low > end:
            continue
        found = within(leaves, low, end)
        verify_range(section_roots(store), section, low, end, found, prove_range(store, section, low, end))
        for leaf in found:
            builder.add(*leaf)
    root = builder.finish()
    assert root == section_roots(store).root(section)
    assert built.tables[Table.NODES] == store.tables[Table.NODES]


def test_an_empty_range_of_an_empty_section() -> None:
    roots = SectionRoots(roots=EMPTY * len(Section))
    verify_range(roots, Section.ALIASES, FIRST, LAST, [], b"")
    with pytest.raises(Untrusted, match=r"range\.order"):
        verify_range(roots, Section.ALIASES, LAST, FIRST, [], b"")
    with pytest.raises(Untrusted, match=r"range\.proof"):
        verify_range(roots, Section.ALIASES, FIRST, LAST, [], bytes((Mark.EMPTY,)))
