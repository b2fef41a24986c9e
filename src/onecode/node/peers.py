"""Which engines may connect to ours: the nodes of active platforms and admitted observers, as the map has them.

The engine asks at every connection, its own and others' (CometBFT v0.39 `node/setup.go`, `filter_peers`): first about
the address, then about the node id, whose key the peer has proven to hold. Connections that are open stay open.
"""

from __future__ import annotations

from collections.abc import Iterable

from onecode.proof.governance import PLATFORMS_KEY, ObserverLeaf, PlatformsLeaf, observer_key
from onecode.proof.leaves import PlatformLeaf
from onecode.proof.map import Section
from onecode.registry.map import load, section_roots
from onecode.registry.store import Reader
from onecode.schema import parse

PEER_ADDRESS = "/p2p/filter/addr/"
PEER_ID = "/p2p/filter/id/"


class PeerFilter:
    """`reader`: the newest decided state. The map decides about every node that it knows; of others, those that the
    operator has configured are admitted: a node that begins reads in no map yet whom to ask for blocks."""

    def __init__(self, reader: Reader, configured: Iterable[str]) -> None:
        self._reader = reader
        self._configured = frozenset(configured)
        self._root: bytes | None = None
        self._owners: dict[str, list[PlatformLeaf]] = {}

    def admits(self, node_id: str, time_ms: int) -> bool:
        """Whether the engine of this node id may be a peer at `time_ms`."""
        owners = self._load_owners().get(node_id, [])
        if any(owner.active_at(time_ms) for owner in owners):
            return True
        raw = load(self._reader, Section.GOVERNANCE, observer_key(node_id))
        if raw is not None:
            return parse(ObserverLeaf, raw).effective_ms <= time_ms
        return not owners and node_id in self._configured

    def _load_owners(self) -> dict[str, list[PlatformLeaf]]:
        """The platforms of each node id, read again only when a platform has changed."""
        root = section_roots(self._reader).root(Section.PLATFORMS)
        if root != self._root:
            listed = load(self._reader, Section.GOVERNANCE, PLATFORMS_KEY)
            owners: dict[str, list[PlatformLeaf]] = {}
            for platform in parse(PlatformsLeaf, listed).platforms if listed else ():
                raw = load(self._reader, Section.PLATFORMS, platform)
                leaf = parse(PlatformLeaf, raw) if raw is not None else None
                for node in leaf.nodes if leaf is not None else ():
                    owners.setdefault(node.node_id.lower(), []).append(leaf)  # type: ignore[arg-type]
            self._owners, self._root = owners, root
        return self._owners
