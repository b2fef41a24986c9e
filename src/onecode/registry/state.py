"""The registry's state while a block is executed: an overlay over the store that can be taken back to a mark.

Rules read and write typed leaves here. Nothing reaches the store before `finish_block`, which applies all changes in
one fixed order. Links lists and envelopes lie beside the map, committed by hashes in it; a list that does not fit its
hash in the merchant's entry halts the node.
"""

from __future__ import annotations

from typing import Any, TypeVar

from onecode.errors import Malformed, Misconfigured
from onecode.proof.governance import (
    ENCLAVE_POLICY_KEY,
    PARAMETERS_KEY,
    PLATFORMS_KEY,
    RULES_KEY,
    SERVICES_KEY,
    VALIDATORS_KEY,
    EnclavePolicy,
    Parameters,
    PlatformsLeaf,
    RulesLeaf,
    ServicesLeaf,
    ValidatorsLeaf,
)
from onecode.proof.leaves import LinkList, MerchantEntry, PlatformLeaf, ServiceEntry, links_bytes_hash
from onecode.proof.map import Section, app_hash
from onecode.registry.map import load, section_roots, update
from onecode.registry.store import Reader, Table, Writer, envelope_key, link_key
from onecode.schema import Message, parse

M = TypeVar("M", bound=Message)

NO_LINKS = LinkList(links=())
UNHASHED = bytes(32)  # what an overlay for trials says instead of the hash of a links list
DECODED_MAX = 100_000  # leaves, and links lists, that are kept decoded
_ABSENT = object()

Effects = tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]  # leaves, links lists and envelopes, by their keys


class Committed:
    """What the store holds as of its last block, and the part of it that is in memory decoded.

    Shared by all overlays over one store; only `State.finish_block` changes the store, and keeps this in step.
    """

    def __init__(self, reader: Reader, chain_id: str) -> None:
        self.reader = reader
        self.chain_id = chain_id
        self._leaves: dict[tuple[Section, bytes], Any] = {}
        self._links: dict[bytes, LinkList] = {}

    def leaf(self, section: Section, key: bytes, kind: type[M]) -> M | None:
        place = (section, key)
        found = self._leaves.get(place, _ABSENT)
        if found is _ABSENT:
            raw = load(self.reader, section, key)
            found = None if raw is None else _stored(kind, raw)
            _remember(self._leaves, place, found)
        return found  # type: ignore[no-any-return]

    def links(self, merchant: bytes, service: str, expected: bytes) -> LinkList:
        """The links list, which must have the hash `expected`."""
        key = link_key(merchant, service)
        found = self._links.get(key)
        if found is None:
            raw = self.reader.get(Table.LINKS, key)
            if raw is None or links_bytes_hash(self.chain_id, merchant, service, raw) != expected:
                raise Misconfigured("registry.links_broken", "a links list does not fit its entry: restore the store")
            found = _stored(LinkList, raw)
            _remember(self._links, key, found)
        return found

    def replace(self, leaves: dict[tuple[Section, bytes], Any], links: dict[bytes, LinkList]) -> None:
        """What a block has written is the last state now."""
        for place, leaf in leaves.items():
            _remember(self._leaves, place, leaf)
        for key, found in links.items():
            _remember(self._links, key, found)


class State:
    """Leaves, links lists and envelopes as they are after the transactions executed so far.

    `mark` and `rollback` give each transaction and each item of a batch its savepoint. A leaf is the decoded message;
    its class is the caller's to name, one per section and kind of key. `trial`: an overlay that is thrown away, which
    saves the hashes of links lists.
    """

    def __init__(self, base: Committed, *, trial: bool = False) -> None:
        self.chain_id = base.chain_id
        self._base = base
        self._trial = trial
        self._leaves: dict[Any, Any] = {}
        self._links: dict[Any, Any] = {}
        self._envelopes: dict[Any, Any] = {}
        self._counts: dict[Any, Any] = {}
        self._journal: list[tuple[dict[Any, Any], Any, Any]] = []

    # --- savepoints

    def mark(self) -> int:
        """A point to which `rollback` returns."""
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo every change since `mark`."""
        journal = self._journal
        while len(journal) > mark:
            table, key, old = journal.pop()
            if old is _ABSENT:
                del table[key]
            else:
                table[key] = old

    def effects(self, mark: int) -> Effects:
        """What has been written since `mark`, quotas aside."""
        tables = (self._leaves, self._links, self._envelopes)
        found: Effects = ({}, {}, {})
        for table, key, _ in self._journal[mark:]:
            for own, written in zip(tables, found, strict=True):
                if table is own:
                    written[key] = own[key]
        return found

    def redo(self, effects: Effects) -> None:
        """Write again what was written on an earlier overlay; no `rollback` takes it back."""
        for own, written in zip((self._leaves, self._links, self._envelopes), effects, strict=True):
            own.update(written)

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._journal.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    # --- leaves

    def changed(self) -> set[tuple[Section, bytes]]:
        """The leaves that were written."""
        return set(self._leaves)

    def get(self, section: Section, key: bytes, kind: type[M]) -> M | None:
        """The leaf under `key`, or None."""
        found = self._leaves.get((section, key), _ABSENT)
        return self._base.leaf(section, key, kind) if found is _ABSENT else found

    def require(self, section: Section, key: bytes, kind: type[M]) -> M:
        """The leaf under a key that genesis writes."""
        found = self.get(section, key, kind)
        if found is None:
            raise Misconfigured("registry.no_genesis", "the store holds no registry: start it from a genesis")
        return found

    def put(self, section: Section, key: bytes, leaf: Message) -> None:
        self._set(self._leaves, (section, key), leaf)

    def delete(self, section: Section, key: bytes) -> None:
        self._set(self._leaves, (section, key), None)

    def merchant(self, merchant: bytes, time_ms: int) -> MerchantEntry | None:
        """The merchant's entry as it stands at `time_ms`; writing it back settles a recovery that took effect."""
        entry = self.get(Section.MERCHANTS, merchant, MerchantEntry)
        return None if entry is None else entry.settled_at(time_ms)

    def put_merchant(self, merchant: bytes, entry: MerchantEntry) -> None:
        self.put(Section.MERCHANTS, merchant, entry)

    def platform(self, platform: bytes) -> PlatformLeaf | None:
        return self.get(Section.PLATFORMS, platform, PlatformLeaf)

    def put_platform(self, platform: bytes, leaf: PlatformLeaf) -> None:
        self.put(Section.PLATFORMS, platform, leaf)

    def platform_active(self, platform: bytes, time_ms: int) -> bool:
        leaf = self.platform(platform)
        return leaf is not None and leaf.active_at(time_ms)

    def parameters(self) -> Parameters:
        return self.require(Section.GOVERNANCE, PARAMETERS_KEY, Parameters)

    def enclave_policy(self) -> EnclavePolicy:
        return self.require(Section.GOVERNANCE, ENCLAVE_POLICY_KEY, EnclavePolicy)

    def validators(self) -> ValidatorsLeaf:
        return self.require(Section.GOVERNANCE, VALIDATORS_KEY, ValidatorsLeaf)

    def services(self) -> ServicesLeaf:
        return self.require(Section.GOVERNANCE, SERVICES_KEY, ServicesLeaf)

    def rules(self) -> RulesLeaf:
        return self.require(Section.GOVERNANCE, RULES_KEY, RulesLeaf)

    def platforms(self) -> PlatformsLeaf:
        return self.require(Section.GOVERNANCE, PLATFORMS_KEY, PlatformsLeaf)

    # --- links lists and envelopes

    def links(self, merchant: bytes, entry: ServiceEntry | None, service: str) -> LinkList:
        """The links list that `entry` commits to."""
        found = self._links.get(link_key(merchant, service))
        if found is not None:
            return found[0]  # type: ignore[no-any-return]
        if self._trial and entry is not None and entry.links_hash == UNHASHED:
            # What wrote that list is not on this overlay, only what stood on it (`redo`): the list is as it was.
            committed = self._base.leaf(Section.MERCHANTS, merchant, MerchantEntry)
            entry = None if committed is None else committed.service(service)
        return NO_LINKS if entry is None else self._base.links(merchant, service, entry.links_hash)

    def put_links(self, merchant: bytes, service: str, links: LinkList) -> bytes:
        """Keep the list; returns the hash for the merchant's entry."""
        raw = b"" if self._trial else links.encoded()
        self._set(self._links, link_key(merchant, service), (links, raw))
        if self._trial:
            return UNHASHED
        return links_bytes_hash(self.chain_id, merchant, service, raw)

    def put_envelope(self, merchant: bytes, platform: bytes, service: str, envelope: bytes | None) -> None:
        """Keep the sealed record of a link, or forget it."""
        self._set(self._envelopes, envelope_key(merchant, platform, service), envelope)

    # --- quotas of the block: never in the map

    def counted(self, signer: tuple[bytes, int]) -> int:
        """Transactions of this signer that were admitted in this block."""
        return self._counts.get(signer, 0)  # type: ignore[no-any-return]

    def count(self, signer: tuple[bytes, int]) -> None:
        self._set(self._counts, signer, self.counted(signer) + 1)

    def use_once(self, used: tuple[bytes, bytes, int]) -> bool:
        """For the pool of pending transactions: remember signer, key and nonce; False where they are remembered."""
        if used in self._counts:
            return False
        self._set(self._counts, used, 1)
        return True

    # --- the end of the block

    def finish_block(self, writer: Writer) -> bytes:
        """Apply all changes in ascending order of their keys; returns the app hash. The overlay is not used again."""
        if self._trial:
            raise RuntimeError("an overlay for trials is never written")
        for section in Section:
            keys = sorted(key for place, key in self._leaves if place == section)
            changes = {key: _bytes_of(self._leaves[section, key]) for key in keys}
            if changes:
                update(writer, section, changes)
        for key in sorted(self._links):
            writer.put(Table.LINKS, key, self._links[key][1])  # an empty list too: a service's entry commits to it
        for key in sorted(self._envelopes):
            envelope = self._envelopes[key]
            if envelope is None:
                writer.delete(Table.ENVELOPES, key)
            else:
                writer.put(Table.ENVELOPES, key, envelope)
        self._base.replace(self._leaves, {key: links for key, (links, _) in self._links.items()})
        return app_hash(section_roots(writer))


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= DECODED_MAX:
        memory.clear()  # whatever is needed is read again
    memory[key] = value


def _bytes_of(leaf: Message | None) -> bytes | None:
    return None if leaf is None else leaf.encoded()


def _stored(kind: type[M], raw: bytes) -> M:
    """A message from our own store: what does not parse there is a broken store, not an outsider's mistake."""
    try:
        return parse(kind, raw)
    except Malformed as error:
        raise Misconfigured("registry.leaf_broken", f"a stored {kind.__name__} is broken: restore the store") from error
