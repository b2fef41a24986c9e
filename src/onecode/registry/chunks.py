"""The parts of a snapshot: consecutive leaves of one section with all that hangs on them, each verified by itself.

A chunk holds the keys and values of every leaf in its range, the proof that these are all (`onecode.proof.range`),
and, with each merchant's entry, its links lists and envelopes, which hashes in entry and links commit to. Layout:
docs/spec/snapshots.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onecode.errors import Malformed, Untrusted
from onecode.proof.leaves import Link, LinkList, MerchantEntry, ServiceEntry, links_bytes_hash
from onecode.proof.map import Section, SectionRoots, key_hash
from onecode.proof.range import FIRST, LAST, PROOF_BYTES_MAX, Leaf, verify_range
from onecode.registry.store import Reader, Table, envelope_key, link_key
from onecode.schema import Message
from onecode.wire import decode, encode, sha256

CHUNK_BYTES = 1 << 20  # of rows; a chunk is closed before the row that would exceed it
CHUNK_BYTES_MAX = 8 << 20  # a merchant's rows stay together: 16 services of 32 links with envelopes

Beside = tuple[bytes, tuple[bytes, ...]]  # a links list and the envelopes of its links, in their order
StoredRow = tuple[Table, bytes, bytes]  # table, key, value


@dataclass(frozen=True, slots=True)
class Row:
    """A leaf and what hangs on it: for a merchant, one `Beside` for each of its services, in their order."""

    key: bytes
    value: bytes
    beside: tuple[Beside, ...] = ()

    @property
    def size(self) -> int:
        """About how many bytes it takes in a chunk."""
        return (
            len(self.key) + len(self.value) + sum(len(links) + sum(map(len, sealed)) for links, sealed in self.beside)
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """All leaves of `section` with key hashes from `low` to `high`, both included, ascending; nothing verified yet."""

    section: Section
    low: bytes
    high: bytes
    proof: bytes
    rows: tuple[Row, ...]

    def encoded(self) -> bytes:
        rows: list[Any] = [
            [row.key, row.value, [[links, list(sealed)] for links, sealed in row.beside]] for row in self.rows
        ]
        return encode([int(self.section), self.low, self.high, self.proof, rows])


@dataclass(frozen=True, slots=True)
class VerifiedChunk:
    """Part of the state under an app hash. leaves: for the section's tree. rows: for the store, in order of table
    `VALUES` first."""

    section: Section
    low: bytes
    high: bytes
    leaves: tuple[Leaf, ...]
    rows: tuple[StoredRow, ...]


def parse_chunk(data: bytes) -> Chunk:
    """A chunk from untrusted bytes; `Malformed` where they are none."""
    value = decode(data, size_max=CHUNK_BYTES_MAX)
    try:
        tag, low, high, proof, rows = value
        chunk = Chunk(Section(tag), _bytes(low, 32), _bytes(high, 32), _bytes(proof), tuple(map(_row, rows)))
    except (TypeError, ValueError):
        raise Malformed("snapshot.chunk", "the chunk of a snapshot is not laid out as one", field="chunk") from None
    if len(chunk.proof) > PROOF_BYTES_MAX:
        raise Malformed("snapshot.chunk", "a chunk's proof is longer than any can be", field="proof")
    return chunk


def _row(value: Any) -> Row:
    key, stored, beside = value
    if len(_bytes(key)) > 0xFFFF:
        raise ValueError("key")
    return Row(key, _bytes(stored), tuple((_bytes(links), tuple(map(_bytes, sealed))) for links, sealed in beside))


def _bytes(value: Any, size: int | None = None) -> bytes:
    if type(value) is not bytes or (size is not None and len(value) != size):
        raise TypeError
    return value


def verify_chunk(chunk: Chunk, roots: SectionRoots, chain_id: str) -> VerifiedChunk:
    """The rows of a chunk, as the store holds them.

    1. Its leaves are all those of its range under the section's root (`verify_range`, from the hashes of keys and
    values). 2. For each service of a merchant there is the links list whose hash its entry holds, and nothing more
    hangs on a leaf. 3. For each link there is the envelope whose hash the link holds.
    Does NOT check the roots, nor that the range is the one that was asked for.
    """
    section, tag = chunk.section, bytes((chunk.section,))
    leaves = tuple((key_hash(section, row.key), sha256(row.value)) for row in chunk.rows)
    verify_range(roots, section, chunk.low, chunk.high, leaves, chunk.proof)  # step 1
    rows: list[StoredRow] = [
        (Table.VALUES, tag + place, stored_value(row.key, row.value))
        for (place, _), row in zip(leaves, chunk.rows, strict=True)
    ]
    for row in chunk.rows:
        if section == Section.MERCHANTS:
            rows += _hanging_rows(row, chain_id)
        elif row.beside:
            raise _not_committed("something hangs on a leaf that is no merchant's")  # step 2
    return VerifiedChunk(section, chunk.low, chunk.high, leaves, tuple(rows))


def _hanging_rows(row: Row, chain_id: str) -> list[StoredRow]:
    """Links lists and envelopes of a merchant (steps 2 and 3)."""
    rows: list[StoredRow] = []
    services = _services(row.value)
    if len(services) != len(row.beside):
        raise _not_committed("a merchant has not exactly its links lists")
    for (service, links_hash), (links, sealed) in zip(services, row.beside, strict=True):
        if links_bytes_hash(chain_id, row.key, service, links) != links_hash:
            raise _not_committed("a links list is not the one that its entry commits to")
        rows.append((Table.LINKS, link_key(row.key, service), links))
        listed = _links(links)
        if [envelope_hash for _, envelope_hash in listed] != list(map(sha256, sealed)):
            raise _not_committed("the envelopes are not those that the links commit to")
        rows += [
            (Table.ENVELOPES, envelope_key(row.key, platform, service), envelope)
            for (platform, _), envelope in zip(listed, sealed, strict=True)
        ]
    return rows


# An entry or a links list that is read here is our own or proven, so its bytes are what the registry wrote, and
# what is needed of them is read without making messages: a third of the time that a snapshot takes.


def _number(message: type[Message], name: str) -> int:
    return next(spec.number for spec in message.FIELDS if spec.name == name)


_SERVICES, _LINKS = _number(MerchantEntry, "services"), _number(LinkList, "links")
_SERVICE, _LINKS_HASH = _number(ServiceEntry, "service"), _number(ServiceEntry, "links_hash")
_PLATFORM, _ENVELOPE_HASH = _number(Link, "platform"), _number(Link, "envelope_hash")


def _services(entry: bytes) -> list[tuple[str, bytes]]:
    """Name and links hash of each service of a merchant."""
    return [(one[_SERVICE], one[_LINKS_HASH]) for one in decode(entry)[_SERVICES]]


def _links(links: bytes) -> list[tuple[bytes, bytes]]:
    """Platform and envelope hash of each link of a list."""
    return [(one[_PLATFORM], one[_ENVELOPE_HASH]) for one in decode(links)[_LINKS]]


def stored_value(key: bytes, value: bytes) -> bytes:
    """A row of `VALUES`: the key's length in 2 bytes, key, value."""
    return len(key).to_bytes(2, "big") + key + value


def _not_committed(text: str) -> Untrusted:
    return Untrusted("snapshot.not_committed", text, field="chunk")


@dataclass(slots=True)
class Progress:
    """Which range a snapshot's next chunk must begin with: every section from the first key hash to the last."""

    section: Section | None = Section.MERCHANTS
    low: bytes = FIRST

    def advance(self, chunk: VerifiedChunk) -> bool:
        """Go on behind `chunk`; whether it was its section's last. `Untrusted` for one that is not next."""
        if chunk.section != self.section or chunk.low != self.low:
            raise Untrusted("snapshot.gap", "the snapshot's ranges do not follow on one another", field="low")
        if chunk.high != LAST:
            self.low = next_place(chunk.high)
            return False
        self.low = FIRST
        self.section = Section(chunk.section + 1) if chunk.section + 1 in list(Section) else None
        return True


def next_place(place: bytes) -> bytes:
    """The key hash after `place`, which is not the last."""
    return (int.from_bytes(place, "big") + 1).to_bytes(32, "big")


def hanging(reader: Reader, merchant: bytes, value: bytes) -> Sequence[Beside] | None:
    """What hangs on a merchant's entry in a store; None where something is missing there."""
    found: list[Beside] = []
    for service, _ in _services(value):
        links = reader.get(Table.LINKS, link_key(merchant, service))
        if links is None:
            return None
        sealed: list[bytes] = []
        for platform, _ in _links(links):
            envelope = reader.get(Table.ENVELOPES, envelope_key(merchant, platform, service))
            if envelope is None:
                return None
            sealed.append(envelope)
        found.append((links, tuple(sealed)))
    return found
