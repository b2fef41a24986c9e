"""Proofs into the registry's map: six sparse Merkle trees under one app hash.

Hashing rules of the ICS-23 sparse Merkle tree: leaf H(0x00 | key hash | value hash), inner node H(0x01 | left |
right), empty subtree 32 zero bytes; a leaf sits at the first depth where it is alone. The path format is our own, one
for presence and absence (docs/spec/verification.md). Every direction comes from the verifier's own key hash, never
from the proof.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

from onecode.errors import Untrusted
from onecode.schema import Bytes, Message, Uint, item
from onecode.wire import sha256

EMPTY = bytes(32)
DEPTH_MAX = 256


class Section(IntEnum):
    """The map's trees; the number is the tag hashed into every key and the place of the root under the app hash."""

    MERCHANTS = 1
    PLATFORMS = 2
    ALIASES = 3
    GOVERNANCE = 4
    ENCLAVES = 5
    COUNTERS = 6


class SectionRoots(Message):
    """The roots of all sections in the order of their tags, 32 bytes each."""

    roots: bytes = item(1, Bytes(32 * len(Section)))

    def root(self, section: Section) -> bytes:
        """The 32-byte root of one section."""
        return self.roots[32 * (section - 1) : 32 * section]


class PathProof(Message):
    """What lies beside the path of a key, from the root down.

    depth: levels between the root and the slot where the path ends.
    mask: bit i, counted from the most significant bit of the first byte, is set if the sibling at depth i + 1 is not
        empty; exactly as many bytes as hold `depth` bits, the bits left over zero.
    siblings: the siblings that are not empty, 32 bytes each, in the order of the mask's bits.
    other: for absence only: key hash and value hash of the leaf that sits where the path ends; None for an empty slot.
    """

    depth: int = item(1, Uint(DEPTH_MAX))
    mask: bytes = item(2, Bytes(0, DEPTH_MAX // 8))
    siblings: bytes = item(3, Bytes(0, 32 * DEPTH_MAX))
    other: bytes | None = item(4, Bytes(64), default=None)


def key_hash(section: Section, key: bytes) -> bytes:
    """Where `key` lies in its section's tree, 32 bytes."""
    return sha256(bytes((section,)) + key)


def leaf_hash(hashed_key: bytes, value_hash: bytes) -> bytes:
    """Hash of a leaf, from the hashes of its key and value."""
    return sha256(b"\x00" + hashed_key + value_hash)


def inner_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node of which at least one side is not empty."""
    return sha256(b"\x01" + left + right)


def app_hash(roots: SectionRoots) -> bytes:
    """What the header of the next block carries for these section roots."""
    return sha256(b"\x02" + roots.roots)


def path_root(hashed_key: bytes, slot: bytes, proof: PathProof) -> bytes:
    """The root of a tree in which `slot` (a leaf's hash or EMPTY) ends the path of `hashed_key`.

    Raises `Untrusted` for a proof that is not in its one form (steps 2 and 3 of verification.md, "Map proof").
    """
    depth, siblings = proof.depth, proof.siblings
    spare = -depth % 8
    mask = int.from_bytes(proof.mask, "big")
    if len(proof.mask) * 8 != depth + spare or mask & ((1 << spare) - 1):  # step 2
        raise Untrusted("map.mask", "the proof's mask has not exactly one bit a level", field="mask")
    mask >>= spare
    at = len(siblings)
    if at != 32 * mask.bit_count():  # step 3
        raise Untrusted(
            "map.siblings", "the proof has not exactly one sibling for each bit of its mask", field="siblings"
        )
    turns = int.from_bytes(hashed_key, "big") >> (DEPTH_MAX - depth)
    node, digest = slot, hashlib.sha256
    for _ in range(depth):  # upwards from the slot
        sibling = EMPTY
        if mask & 1:
            sibling = siblings[at - 32 : at]
            at -= 32
            if sibling == EMPTY:
                raise Untrusted("map.sibling_empty", "an empty sibling is told by the mask alone", field="siblings")
        node = digest(b"\x01" + sibling + node if turns & 1 else b"\x01" + node + sibling).digest()
        turns >>= 1
        mask >>= 1
    return node


def _require_root(roots: SectionRoots, section: Section, hashed_key: bytes, slot: bytes, proof: PathProof) -> None:
    if path_root(hashed_key, slot, proof) != roots.root(section):  # step 5
        raise Untrusted(
            "map.root", "the proof does not lead to the section's root", field=f"proof.{section.name.lower()}"
        )


def verify_roots(roots: SectionRoots, header_app_hash: bytes) -> None:
    """Step 1: the section roots are the ones under a verified header's app hash. Does NOT verify the header."""
    if app_hash(roots) != header_app_hash:
        raise Untrusted("map.app_hash", "the section roots are not the ones that the header commits to", field="roots")


def verify_presence(roots: SectionRoots, section: Section, key: bytes, value: bytes, proof: PathProof) -> None:
    """Steps 2 to 5: `key` has exactly the bytes `value` in `section`.

    2. the mask has one bit a level;  3. siblings are exactly those the mask tells of;  4. there is no other leaf;
    5. the path leads to the section's root. Does NOT check the roots (`verify_roots`) nor what `value` means.
    """
    if proof.other is not None:  # step 4
        raise Untrusted("map.other_leaf", "a proof of presence names no other leaf", field="other")
    hashed_key = key_hash(section, key)
    _require_root(roots, section, hashed_key, leaf_hash(hashed_key, sha256(value)), proof)


def verify_absence(roots: SectionRoots, section: Section, key: bytes, proof: PathProof) -> None:
    """Steps 2 to 5: `section` holds nothing under `key`.

    2. and 3. as for presence;  4. the path ends in an empty slot, or in the leaf of another key that shares all of the
    path;  5. the path leads to the section's root. Does NOT check the roots (`verify_roots`).
    """
    hashed_key, slot = key_hash(section, key), EMPTY
    if proof.other is not None:  # step 4
        other = proof.other[:32]
        apart = int.from_bytes(hashed_key, "big") ^ int.from_bytes(other, "big")
        if not apart:
            raise Untrusted("map.other_same_key", "the other leaf is the one that is said to be absent", field="other")
        if apart >> (DEPTH_MAX - proof.depth):
            raise Untrusted("map.other_off_path", "the other leaf lies off the key's path", field="other")
        slot = leaf_hash(other, proof.other[32:])
    _require_root(roots, section, hashed_key, slot, proof)
