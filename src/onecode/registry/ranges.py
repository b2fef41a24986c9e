"""All leaves of a range of a section's tree: what proves them, and how a section grows from ranges in order.

The proof's form and its verifier: `onecode.proof.range`.
"""

from __future__ import annotations

from onecode.errors import Misconfigured
from onecode.proof.map import DEPTH_MAX, Section
from onecode.proof.range import Leaf, Mark
from onecode.registry.map import (
    SLOTS,
    Bundle,
    Node,
    Tree,
    bundle_bytes,
    inner_node,
    node_key,
    parse_bundle,
    root_node,
)
from onecode.registry.store import Reader, Table, Writer

GROUP_BITS = 8  # leaves whose key hashes agree in so many bits grow at once; a bundle begins at this depth


def prove_range(reader: Reader, section: Section, low: bytes, high: bytes) -> bytes:
    """What `verify_range` needs beside all leaves of `section` from key hash `low` to `high`, both included."""
    edges = _Edges(reader, section, int.from_bytes(low, "big"), int.from_bytes(high, "big"))
    edges.tell(root_node(reader, section), 0, 0, [], 1)
    return b"".join(edges.told)


class _Edges:
    """The verifier's walk, told from the stored bundles."""

    def __init__(self, reader: Reader, section: Section, low: int, high: int) -> None:
        self.reader = reader
        self.section = section
        self.low, self.high = low, high
        self.told: list[bytes] = []

    def tell(self, node: Node | None, start: int, depth: int, bundle: Bundle, slot: int) -> None:
        width = 1 << (DEPTH_MAX - depth)
        if self.low <= start and start + width - 1 <= self.high:
            return
        if node is None:
            self.told.append(bytes((Mark.EMPTY,)))
        elif start + width <= self.low or start > self.high:
            self.told.append(bytes((Mark.BESIDE,)) + node[0])
        elif node[1] is not None:
            inside = self.low <= int.from_bytes(node[1][:32], "big") <= self.high
            self.told.append(bytes((Mark.LEAF,)) if inside else bytes((Mark.OTHER,)) + node[1])
        else:
            self.told.append(bytes((Mark.INNER,)))
            if depth & 3 == 0:
                stored = self.reader.get(Table.NODES, node_key(self.section, start.to_bytes(32, "big"), depth))
                if stored is None:
                    raise Misconfigured("store.map_broken", "a node of the map is missing: restore the store")
                bundle, slot = parse_bundle(stored), 1
            self.tell(bundle[2 * slot], start, depth + 1, bundle, 2 * slot)
            self.tell(bundle[2 * slot + 1], start + width // 2, depth + 1, bundle, 2 * slot + 1)


class SectionBuilder:
    """Fills an empty section with leaves that come in ascending order of their key hashes.

    It holds the leaves of one 256th of the section, so memory is bounded by that: 16 MB at ten million leaves.
    """

    def __init__(self, writer: Writer, section: Section) -> None:
        self._tree = Tree(writer, section)
        if self._tree.root() is not None:
            raise Misconfigured("store.map_not_empty", "only an empty section is filled at once")
        self._tops: list[Node | None] = [None] * (1 << GROUP_BITS)
        self._group: list[Leaf] = []

    def add(self, place: bytes, value_hash: bytes) -> None:
        """The next leaf: key hash and value hash."""
        if self._group and self._group[0][0][0] != place[0]:
            self._grow()
        self._group.append((place, value_hash))

    def finish(self) -> bytes:
        """Store what is left; returns the section's root."""
        self._grow()
        return self._tree.set_root(self._join(0, 0, [], 1))

    def _grow(self) -> None:
        group = self._group
        if group:
            self._tops[group[0][0][0]] = self._tree.grow(group, 0, len(group), GROUP_BITS, [], 1)
            self._group = []

    def _join(self, first: int, depth: int, bundle: Bundle, slot: int) -> Node | None:
        """The node at `depth` over the groups from `first` on: stores its bundles, as `Tree.grow` would."""
        if depth == GROUP_BITS:
            return self._tops[first]
        own = depth & 3 == 0
        if own:
            bundle, slot = [None] * SLOTS, 1
        left = self._join(first, depth + 1, bundle, 2 * slot)
        right = self._join(first + (1 << (GROUP_BITS - depth - 1)), depth + 1, bundle, 2 * slot + 1)
        if left is None and (right is None or right[1] is not None):
            return right  # one leaf is here or none: it moves up
        if right is None and left is not None and left[1] is not None:
            return left
        bundle[2 * slot], bundle[2 * slot + 1] = left, right
        if own:
            self._tree.writer.put(
                Table.NODES, node_key(self._tree.section, bytes((first,)), depth), bundle_bytes(bundle)
            )
        return inner_node(left, right)
