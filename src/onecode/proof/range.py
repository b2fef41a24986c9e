"""Proofs of all leaves of a section between two key hashes: nothing left out, nothing added.

The proof tells what lies beside the range, as the verifier walks the tree from the root (docs/spec/snapshots.md). Each
part of the tree that lies within the range is built from the leaves themselves, so that no leaf can hide in it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from operator import itemgetter

from onecode.errors import Untrusted
from onecode.proof.map import DEPTH_MAX, EMPTY, Section, SectionRoots, inner_hash, leaf_hash

FIRST, LAST = bytes(32), b"\xff" * 32  # the least and the greatest key hash
PROOF_BYTES_MAX = 2 * DEPTH_MAX * 34 + 2 * 65  # two paths, each with a mark and a sibling a level, and their ends

Leaf = tuple[bytes, bytes]  # key hash, value hash


class Mark(IntEnum):
    """What the next byte of a proof says of the node that the walk has reached."""

    EMPTY = 0  # nothing lies here
    BESIDE = 1  # outside the range; its hash (32) follows
    OTHER = 2  # a leaf outside the range, alone on the range's edge; key hash (32) and value hash (32) follow
    INNER = 3  # an inner node on the range's edge; its two sides follow
    LEAF = 4  # the one leaf here is in the range


def subtree_hash(leaves: Sequence[Leaf], low: int, high: int, depth: int) -> bytes:
    """Hash of the subtree at `depth` that holds exactly leaves[low:high], which ascend and agree in `depth` bits."""
    if high - low < 2:
        return leaf_hash(*leaves[low]) if high > low else EMPTY
    byte, bit = depth >> 3, 0x80 >> (depth & 7)
    begin, end = low, high
    while begin < end:
        middle = (begin + end) >> 1
        if leaves[middle][0][byte] & bit:
            end = middle
        else:
            begin = middle + 1
    return inner_hash(subtree_hash(leaves, low, begin, depth + 1), subtree_hash(leaves, begin, high, depth + 1))


def verify_range(
    roots: SectionRoots, section: Section, low: bytes, high: bytes, leaves: Sequence[Leaf], proof: bytes
) -> None:
    """`leaves` are all the leaves of `section` whose key hash is from `low` to `high`, both included.

    1. The leaves ascend and lie in the range. 2. The proof has its one form, and is used up. 3. A leaf on the range's
    edge that is not in it lies outside. 4. What the proof tells and the leaves together have the section's root.
    Does NOT check the roots (`verify_roots`), nor that keys and values have the hashes in `leaves`.
    """
    if low > high:
        raise Untrusted("range.order", "the range ends before it begins", field="high")
    last = b""
    for place, _ in leaves:  # step 1
        if place <= last or not low <= place <= high:
            raise Untrusted("range.leaves", "the leaves do not ascend within the range", field="leaves")
        last = place
    walk = _Walk(low, high, leaves, proof)
    root = walk.node(0, 0, len(leaves), 0)
    if walk.at != len(proof):
        raise Untrusted("range.proof", "the range proof goes on after its end", field="proof")
    if root != roots.root(section):  # step 4
        raise Untrusted("range.root", "the leaves are not all those of the range in this state", field="leaves")


class _Walk:
    """One walk down the edges of the range; `at` is how much of the proof was read."""

    def __init__(self, low: bytes, high: bytes, leaves: Sequence[Leaf], proof: bytes) -> None:
        self.low, self.high = int.from_bytes(low, "big"), int.from_bytes(high, "big")
        self.leaves = leaves
        self.proof = proof
        self.at = 0

    def node(self, start: int, begin: int, end: int, depth: int) -> bytes:
        """Hash of the node at `depth` whose least possible key hash is `start`; leaves[begin:end] lie below it."""
        width = 1 << (DEPTH_MAX - depth)
        if self.low <= start and start + width - 1 <= self.high:
            return subtree_hash(self.leaves, begin, end, depth)
        mark = self.take(1)[0]
        if start + width <= self.low or start > self.high:
            return self.beside(mark)
        if mark == Mark.INNER:
            return self.inner(start, begin, end, depth)
        if mark == Mark.LEAF and end - begin == 1:
            return leaf_hash(*self.leaves[begin])
        if begin != end:
            raise _wrong()
        return EMPTY if mark == Mark.EMPTY else self.other(mark)

    def beside(self, mark: int) -> bytes:
        if mark == Mark.EMPTY:
            return EMPTY
        if mark != Mark.BESIDE:
            raise _wrong()
        found = self.take(32)
        if found == EMPTY:
            raise _wrong()
        return found

    def inner(self, start: int, begin: int, end: int, depth: int) -> bytes:
        middle = start + (1 << (DEPTH_MAX - depth - 1))
        turn = bisect_left(self.leaves, middle.to_bytes(32, "big"), begin, end, key=itemgetter(0))
        left = self.node(start, begin, turn, depth + 1)
        right = self.node(middle, turn, end, depth + 1)
        return inner_hash(left, right)

    def other(self, mark: int) -> bytes:
        if mark != Mark.OTHER:
            raise _wrong()
        place, value_hash = self.take(32), self.take(32)
        if self.low <= int.from_bytes(place, "big") <= self.high:  # step 3
            raise Untrusted("range.left_out", "a leaf of the range is kept back", field="proof")
        return leaf_hash(place, value_hash)

    def take(self, size: int) -> bytes:
        part = self.proof[self.at : self.at + size]
        if len(part) != size:
            raise _wrong()
        self.at += size
        return part


def _wrong() -> Untrusted:
    return Untrusted("range.proof", "the range proof is not in its one form", field="proof")
