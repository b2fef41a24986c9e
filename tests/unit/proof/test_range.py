"""Each step of `verify_range` refuses by its own code what only that step can see."""

from __future__ import annotations

import pytest

from onecode.errors import Untrusted
from onecode.proof.map import EMPTY, Section, SectionRoots, inner_hash, leaf_hash
from onecode.proof.range import FIRST, LAST, Leaf, Mark, verify_range


def place(first: int) -> bytes:
    return bytes((first,)) + bytes(31)


# Four leaves at depth 2: 00…, 40…, 80…, c0….
LEAVES: list[Leaf] = [(place(first), bytes((first,)) * 32) for first in (0x00, 0x40, 0x80, 0xC0)]
HASHES = [leaf_hash(*leaf) for leaf in LEAVES]
ROOT = inner_hash(inner_hash(HASHES[0], HASHES[1]), inner_hash(HASHES[2], HASHES[3]))
ROOTS = SectionRoots(roots=ROOT + EMPTY * (len(Section) - 1))
INNER, OTHER, BESIDE, HERE = (bytes((mark,)) for mark in (Mark.INNER, Mark.OTHER, Mark.BESIDE, Mark.LEAF))

LOW, HIGH = place(0x41), place(0x80)  # between: the third leaf alone; the second lies on the edge, the fourth outside
PROOF = INNER + INNER + BESIDE + HASHES[0] + OTHER + LEAVES[1][0] + LEAVES[1][1] + INNER + HERE + BESIDE + HASHES[3]


def code(low: bytes, high: bytes, leaves: list[Leaf], proof: bytes, section: Section = Section.MERCHANTS) -> str:
    with pytest.raises(Untrusted) as raised:
        verify_range(ROOTS, section, low, high, leaves, proof)
    return raised.value.code


def test_the_whole_section_and_a_part_of_it() -> None:
    verify_range(ROOTS, Section.MERCHANTS, FIRST, LAST, LEAVES, b"")
    verify_range(ROOTS, Section.MERCHANTS, LOW, HIGH, [LEAVES[2]], PROOF)
    verify_range(ROOTS, Section.MERCHANTS, LEAVES[2][0], LAST, LEAVES[2:], INNER + BESIDE + inner_hash(*HASHES[:2]))


def test_leaves_that_do_not_ascend_in_the_range() -> None:  # step 1
    assert code(FIRST, LAST, LEAVES[::-1], b"") == "range.leaves"
    assert code(FIRST, LAST, [LEAVES[0], *LEAVES], b"") == "range.leaves"
    assert code(LOW, HIGH, LEAVES[1:3], PROOF) == "range.leaves"
    assert code(LOW, HIGH, LEAVES[2:], PROOF) == "range.leaves"
    assert code(HIGH, LOW, [], b"") == "range.order"


@pytest.mark.parametrize(
    "proof",
    [
        b"",
        PROOF[:-1],
        PROOF + b"\0",
        bytes((9,)) + PROOF[1:],
        PROOF.replace(BESIDE + HASHES[0], BESIDE + EMPTY),  # an empty one has a mark of its own
        PROOF.replace(BESIDE + HASHES[0], OTHER + LEAVES[0][0] + LEAVES[0][1]),
        PROOF.replace(HERE, bytes((Mark.EMPTY,))),  # a leaf that is given is not told as empty
        INNER * 300,
    ],
)
def test_a_proof_in_another_form(proof: bytes) -> None:  # step 2
    assert code(LOW, HIGH, [LEAVES[2]], proof) == "range.proof"


def test_a_leaf_of_the_range_kept_back_on_its_edge() -> None:  # step 3
    kept_back = PROOF.replace(HERE, OTHER + LEAVES[2][0] + LEAVES[2][1])
    assert code(LOW, HIGH, [], kept_back) == "range.left_out"


def test_leaves_that_are_not_the_sections() -> None:  # step 4
    assert code(FIRST, LAST, LEAVES[1:], b"") == "range.root"
    assert code(FIRST, LAST, [], b"") == "range.root"
    assert code(FIRST, LAST, [*LEAVES, (LAST, LAST)], b"") == "range.root"
    assert code(FIRST, LAST, [(LEAVES[0][0], LAST), *LEAVES[1:]], b"") == "range.root"
    assert code(FIRST, LAST, LEAVES, b"", Section.PLATFORMS) == "range.root"
    assert code(LOW, HIGH, [(place(0x7F), LEAVES[2][1])], PROOF) in ("range.root", "range.proof")
    assert code(LOW, HIGH, [LEAVES[2]], PROOF.replace(HASHES[3], HASHES[0])) == "range.root"
