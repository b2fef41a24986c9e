"""The registry's map in a store: six sparse Merkle trees, read, changed and proven.

Tree nodes lie in bundles of four levels, so a proof takes one read for four levels, and a leaf lies in its bundle as
key hash and value hash, so a proof never needs a value. Roots and stored bundles are functions of the contents alone:
which changes led there, deletions included, leaves no trace. Hashing rules and the proof's form: `onecode.proof.map`;
layout of bundles: docs/spec/storage.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from onecode.errors import Misconfigured
from onecode.proof.map import EMPTY, PathProof, Section, SectionRoots, inner_hash, key_hash, leaf_hash
from onecode.registry.store import Reader, Table, Writer
from onecode.wire import sha256

ROOTS_KEY = b"map.roots"  # in META: the roots of all sections, 32 bytes each

Node = tuple[bytes, bytes | None]  # a node's hash and, for a leaf, key hash ‖ value hash
Bundle = list[
    Node | None
]  # slot 2s is left below slot s, 2s + 1 right; slot 1 only for a leaf that is alone in its tree

SLOTS = 32
_BELOW = tuple((1 << slot) - 1 for slot in range(SLOTS))


def load(reader: Reader, section: Section, key: bytes) -> bytes | None:
    """The value under `key` in `section`, or None."""
    stored = reader.get(Table.VALUES, bytes((section,)) + key_hash(section, key))
    return None if stored is None else stored[2 + len(key) :]


def split_value(stored: bytes) -> tuple[bytes, bytes]:
    """Key and value of a row of `VALUES` (which begins with the key's length in 2 bytes)."""
    end = 2 + int.from_bytes(stored[:2], "big")
    return stored[2:end], stored[end:]


def section_roots(reader: Reader) -> SectionRoots:
    """The roots of all sections, as a proof carries them."""
    return SectionRoots(roots=reader.get(Table.META, ROOTS_KEY) or EMPTY * len(Section))


def roots(reader: Reader) -> tuple[bytes, ...]:
    """The root of each section in the order of their tags, 32 bytes each."""
    joined = section_roots(reader)
    return tuple(joined.root(section) for section in Section)


def prove(reader: Reader, section: Section, key: bytes) -> PathProof:
    """The proof that `key` has its value in `section`, or that it has none."""
    return prove_hash(reader, section, key_hash(section, key))


def update(writer: Writer, section: Section, changes: dict[bytes, bytes | None]) -> bytes:
    """Set each key of `changes` to its value, or remove it where that is None; returns the section's new root."""
    hashed: list[tuple[bytes, bytes | None]] = []
    for key, value in changes.items():
        place = key_hash(section, key)
        if value is None:
            writer.delete(Table.VALUES, bytes((section,)) + place)
            hashed.append((place, None))
        else:
            writer.put(Table.VALUES, bytes((section,)) + place, len(key).to_bytes(2, "big") + key + value)
            hashed.append((place, sha256(value)))
    return update_hashes(writer, section, hashed)


def build(writer: Writer, section: Section, items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fill an empty section with `items` (key, value), from the leaves upwards; returns its root."""
    rows = sorted((key_hash(section, key), key, value) for key, value in items)
    leaves: list[tuple[bytes, bytes]] = []
    for place, key, value in rows:
        writer.put(Table.VALUES, bytes((section,)) + place, len(key).to_bytes(2, "big") + key + value)
        leaves.append((place, sha256(value)))
    return build_hashes(writer, section, leaves)


# --- the same by hashes: what a snapshot restores, and what tests craft ----------------------------------------------


def prove_hash(reader: Reader, section: Section, hashed_key: bytes) -> PathProof:
    """`prove` for the key whose hash is given."""
    get, depth, mask, siblings = reader.get, 0, 0, []
    while True:
        bundle = get(Table.NODES, node_key(section, hashed_key, depth))
        if bundle is None:
            if depth:
                raise Misconfigured("store.map_broken", "a node of the map is missing: restore the store")
            return PathProof(depth=0, mask=b"", siblings=b"")
        present, leaves = int.from_bytes(bundle[:4], "big"), int.from_bytes(bundle[4:8], "big")
        if present == 2:  # one leaf is the whole tree
            leaf = bundle[40:]
            return PathProof(depth=0, mask=b"", siblings=b"", other=None if leaf[:32] == hashed_key else leaf)
        nibble = hashed_key[depth >> 3] & 15 if depth & 4 else hashed_key[depth >> 3] >> 4
        slot = 1
        for shift in (3, 2, 1, 0):
            slot = slot << 1 | nibble >> shift & 1
            beside = slot ^ 1
            mask <<= 1
            if present >> beside & 1:
                mask |= 1
                at = 8 + 32 * (present & _BELOW[beside]).bit_count()
                siblings.append(bundle[at : at + 32])
            if leaves >> slot & 1 or not present >> slot & 1:
                depth += 4 - shift
                spare = -depth % 8
                other = None
                if leaves >> slot & 1:
                    at = 8 + 32 * present.bit_count() + 64 * (leaves & _BELOW[slot]).bit_count()
                    if bundle[at : at + 32] != hashed_key:
                        other = bundle[at : at + 64]
                bits = (mask << spare).to_bytes((depth + spare) >> 3, "big")
                return PathProof(depth=depth, mask=bits, siblings=b"".join(siblings), other=other)
        depth += 4


def update_hashes(writer: Writer, section: Section, changes: Iterable[tuple[bytes, bytes | None]]) -> bytes:
    """Change leaves: (key hash, value hash or None to remove it), each key hash once; returns the new root."""
    tree = Tree(writer, section)
    return tree.set_root(tree.change(tree.root(), sorted(changes), 0, [], 1))


def build_hashes(writer: Writer, section: Section, leaves: list[tuple[bytes, bytes]]) -> bytes:
    """Fill an empty section with (key hash, value hash), ascending, each key hash once; returns its root."""
    tree = Tree(writer, section)
    if tree.root() is not None:
        raise Misconfigured("store.map_not_empty", "only an empty section is filled at once")
    return tree.set_root(tree.grow(leaves, 0, len(leaves), 0, [], 1) if leaves else None)


# --- bundles and the tree over them ----------------------------------------------------------------------------------


def node_key(section: int, hashed_key: bytes, depth: int) -> bytes:
    """Key of the bundle at `depth` (a multiple of 4) on the path of `hashed_key`."""
    whole = depth >> 3
    if depth & 4:
        return bytes((section, depth >> 2)) + hashed_key[:whole] + bytes((hashed_key[whole] & 0xF0,))
    return bytes((section, depth >> 2)) + hashed_key[:whole]


def root_node(reader: Reader, section: Section) -> Node | None:
    """The top of a section's tree."""
    stored = reader.get(Table.NODES, node_key(section, b"", 0))
    if stored is None:
        return None
    alone = parse_bundle(stored)[1]
    return alone if alone is not None else (section_roots(reader).root(section), None)


def parse_bundle(stored: bytes) -> Bundle:
    """The nodes of a stored bundle by their slots."""
    present, leaves = int.from_bytes(stored[:4], "big"), int.from_bytes(stored[4:8], "big")
    bundle: Bundle = [None] * SLOTS
    at, leaf_at = 8, 8 + 32 * present.bit_count()
    for slot in range(1, SLOTS):
        if present >> slot & 1:
            leaf = None
            if leaves >> slot & 1:
                leaf = stored[leaf_at : leaf_at + 64]
                leaf_at += 64
            bundle[slot] = (stored[at : at + 32], leaf)
            at += 32
    return bundle


def bundle_bytes(bundle: Bundle) -> bytes:
    """Bitmap of the slots present, bitmap of those that are leaves, the hashes, then the leaves, all in slot order."""
    present = leaves = 0
    hashes: list[bytes] = []
    tail: list[bytes] = []
    for slot, node in enumerate(bundle):
        if node is not None:
            present |= 1 << slot
            hashes.append(node[0])
            if node[1] is not None:
                leaves |= 1 << slot
                tail.append(node[1])
    return b"".join((present.to_bytes(4, "big"), leaves.to_bytes(4, "big"), *hashes, *tail))


def _leaf(hashed_key: bytes, value_hash: bytes) -> Node:
    return leaf_hash(hashed_key, value_hash), hashed_key + value_hash


def inner_node(left: Node | None, right: Node | None) -> Node:
    """The inner node over two sides, of which at least one is not empty."""
    return inner_hash(EMPTY if left is None else left[0], EMPTY if right is None else right[0]), None


class Tree:
    """One section's tree. A node that is a leaf may move up or down; a bundle is stored where an inner node has it as
    its first level, at depths divisible by 4."""

    def __init__(self, writer: Writer, section: Section) -> None:
        self.writer = writer
        self.section = section

    def root(self) -> Node | None:
        return root_node(self.writer, self.section)

    def set_root(self, node: Node | None) -> bytes:
        if node is None:
            self.writer.delete(Table.NODES, node_key(self.section, b"", 0))
        elif node[1] is not None:
            self.writer.put(Table.NODES, node_key(self.section, b"", 0), bundle_bytes([None, node]))
        root = EMPTY if node is None else node[0]
        joined = section_roots(self.writer).roots
        start = 32 * (self.section - 1)
        self.writer.put(Table.META, ROOTS_KEY, joined[:start] + root + joined[start + 32 :])
        return root

    def grow(
        self, leaves: list[tuple[bytes, bytes]], low: int, high: int, depth: int, bundle: Bundle, slot: int
    ) -> Node:
        """The subtree of leaves[low:high] where there was none: stores its bundles, returns its top."""
        if high - low == 1:
            return _leaf(*leaves[low])
        own = depth & 3 == 0
        if own:
            bundle, slot = [None] * SLOTS, 1
        middle = _split(leaves, low, high, depth)
        left = self.grow(leaves, low, middle, depth + 1, bundle, 2 * slot) if middle > low else None
        right = self.grow(leaves, middle, high, depth + 1, bundle, 2 * slot + 1) if high > middle else None
        bundle[2 * slot], bundle[2 * slot + 1] = left, right
        if own:
            self.writer.put(Table.NODES, node_key(self.section, leaves[low][0], depth), bundle_bytes(bundle))
        return inner_node(left, right)

    def change(
        self, node: Node | None, changes: list[tuple[bytes, bytes | None]], depth: int, bundle: Bundle, slot: int
    ) -> Node | None:
        """The subtree `node` after `changes` (ascending, all below it): stores its bundles, returns its new top."""
        if not changes:
            return node
        if node is None or node[1] is not None:
            leaves = [(place, value_hash) for place, value_hash in changes if value_hash is not None]
            if node is not None and node[1] is not None:
                place = node[1][:32]
                if all(changed != place for changed, _ in changes):
                    leaves.append((place, node[1][32:]))
                    leaves.sort()
            return self.grow(leaves, 0, len(leaves), depth, bundle, slot) if leaves else None
        own = depth & 3 == 0
        key = node_key(self.section, changes[0][0], depth) if own else b""
        if own:
            stored = self.writer.get(Table.NODES, key)
            if stored is None:
                raise Misconfigured("store.map_broken", "a node of the map is missing: restore the store")
            bundle, slot = parse_bundle(stored), 1
        middle = _split(changes, 0, len(changes), depth)
        left = self.change(bundle[2 * slot], changes[:middle], depth + 1, bundle, 2 * slot)
        right = self.change(bundle[2 * slot + 1], changes[middle:], depth + 1, bundle, 2 * slot + 1)
        if (left is None and (right is None or right[1] is not None)) or (
            right is None and left is not None and left[1] is not None
        ):  # one leaf is left or none: it moves up
            bundle[2 * slot] = bundle[2 * slot + 1] = None
            if own:
                self.writer.delete(Table.NODES, key)
            return right if left is None else left
        bundle[2 * slot], bundle[2 * slot + 1] = left, right
        if own:
            self.writer.put(Table.NODES, key, bundle_bytes(bundle))
        return inner_node(left, right)


def _split(rows: list[tuple[bytes, bytes]] | list[tuple[bytes, bytes | None]], low: int, high: int, depth: int) -> int:
    """Where the key hashes of rows[low:high] turn right at `depth`."""
    byte, bit = depth >> 3, 0x80 >> (depth & 7)
    while low < high:
        middle = (low + high) >> 1
        if rows[middle][0][byte] & bit:
            high = middle
        else:
            low = middle + 1
    return low
