"""Restoring a snapshot into an empty store: each chunk is verified against the app hash before a byte of it is written.

The engine's light client has verified the app hash; it hands over chunks in order, each with its sender. What the
store holds meanwhile is marked in `META` until the first block after the snapshot is decided, so that whatever a crash
leaves is recognised: the next snapshot that is offered begins with an empty store again (docs/spec/snapshots.md).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from onecode.errors import Malformed, Misconfigured, OnecodeError, Untrusted, printable
from onecode.node.blocks import FIRST_KEY, STATE_KEY, load_state
from onecode.node.snapshots import CHUNKS_MAX, FORMAT, SnapshotInfo, SnapshotMetadata, parse_metadata
from onecode.node.store import WriterStore
from onecode.proof.map import verify_roots
from onecode.registry.chunks import Progress, VerifiedChunk, parse_chunk, verify_chunk
from onecode.registry.ranges import SectionBuilder
from onecode.registry.store import Reader, Table, height_key
from onecode.wire import sha256

RESTORE_KEY = b"restore.state"  # in META: there while the state comes from a snapshot and no block has followed it
UNFINISHED, WHOLE = b"unfinished", b"whole"
COMMIT_BYTES = 64 << 20  # made durable together: bounds the memory that the store takes for what is not yet

log = logging.getLogger(__name__)


class Offer(IntEnum):
    """What is said to an offered snapshot (`ResponseOfferSnapshot`)."""

    ACCEPT = 1
    ABORT = 2
    REJECT = 3
    REJECT_FORMAT = 4
    REJECT_SENDER = 5


class Verdict(IntEnum):
    """What is said to a chunk (`ResponseApplySnapshotChunk`)."""

    ACCEPT = 1
    ABORT = 2
    RETRY = 3
    RETRY_SNAPSHOT = 4
    REJECT_SNAPSHOT = 5


@dataclass(frozen=True, slots=True)
class Applied:
    """verdict on a chunk; refetch: chunks to fetch again; reject: senders from whom nothing more is taken."""

    verdict: Verdict
    refetch: tuple[int, ...] = ()
    reject: tuple[str, ...] = ()
    done: bool = False  # the state is whole, and durable


def restoring(reader: Reader) -> bool:
    """Whether the store holds (part of) a snapshot and no block after it: state sync may begin anew."""
    return reader.get(Table.META, RESTORE_KEY) is not None


class Restorer:
    """Restores one snapshot at a time into `store`; on the thread of its write transaction."""

    def __init__(self, store: WriterStore, chain_id: str) -> None:
        self._store = store
        self._chain_id = chain_id
        self._under_way: _Restoration | None = None

    def offer(self, snapshot: SnapshotInfo, app_hash: bytes) -> Offer:
        """Judge a snapshot whose height has the verified `app_hash`; with `ACCEPT` the store is emptied for it.

        1. The store is empty, or holds what an earlier restoration left. 2. The format is known. 3. The metadata is
        what its hash says (`_relabelled`), and counts the same chunks. 4. Its section roots are those under the app
        hash.
        """
        self._under_way = None
        if load_state(self._store).height and not restoring(self._store):  # step 1
            log.warning("a snapshot is offered, but the store holds a chain: remove the data directory to join anew")
            return Offer.ABORT
        if snapshot.format != FORMAT:  # step 2
            return Offer.REJECT_FORMAT
        named = _relabelled(snapshot)  # step 3
        if named is None or not 0 < snapshot.height < 1 << 62:
            log.warning("the snapshot of height %d is refused, with all who offer it: no hash", snapshot.height)
            return Offer.REJECT_SENDER
        try:
            metadata = parse_metadata(named.metadata)
            if metadata.chunks != named.chunks:
                raise Malformed("snapshot.metadata", "the metadata has not the chunks that were told")
            verify_roots(metadata.roots, app_hash)  # step 4
        except OnecodeError as error:
            log.warning("the snapshot of height %d is refused, with all who offer it: %s", snapshot.height, error)
            return Offer.REJECT_SENDER
        if named.chunks != snapshot.chunks:
            log.warning("the snapshot of height %d is offered with a wrong count of chunks", snapshot.height)
            return Offer.REJECT  # who offers it rightly is no liar
        clear(self._store)
        self._store.put(Table.META, RESTORE_KEY, UNFINISHED)
        self._store.commit()
        log.info("restoring the snapshot of height %d in %d chunks", snapshot.height, snapshot.chunks)
        self._under_way = _Restoration(self._store, self._chain_id, snapshot.height, app_hash, metadata)
        return Offer.ACCEPT

    def apply(self, index: int, data: bytes, sender: str) -> Applied:
        """Verify chunk `index` and write it. What does not hold is refused, with the name of its sender:

        1. The chunk has the hash that the snapshot names: else its sender lies alone, and the chunk is fetched from
        another. 2. It is the next range, and its rows are all of that range in the state (`verify_chunk`): else the
        snapshot itself is a lie, and is given up.
        """
        restoration, named = self._under_way, printable(sender)
        if restoration is None:
            return Applied(Verdict.ABORT)
        if index != restoration.next:
            return Applied(Verdict.ACCEPT if index < restoration.next else Verdict.RETRY_SNAPSHOT)
        if sha256(data) != restoration.metadata.chunk_hash(index):  # step 1
            log.warning("chunk %d from %s is not the one that the snapshot names: refused", index, named)
            return Applied(Verdict.RETRY, (index,), (sender,))
        try:
            chunk = restoration.verify(data)  # step 2
        except (Malformed, Untrusted) as error:
            log.warning("chunk %d from %s, and with it the whole snapshot, is refused: %s", index, named, error)
            self._under_way = None
            return Applied(Verdict.REJECT_SNAPSHOT, (), (sender,))
        if not restoration.write(chunk, len(data)):
            return Applied(Verdict.ACCEPT)
        self._under_way = None
        log.info("the state of height %d is whole", restoration.height)
        return Applied(Verdict.ACCEPT, done=True)


def _relabelled(snapshot: SnapshotInfo) -> SnapshotInfo | None:
    """The snapshot with count of chunks, hash and metadata told apart where the hash holds; None where it nowhere does.

    The engine takes offers for one whose height, format and `count in digits ‖ hash ‖ metadata` are equal, and shows
    the first (`statesync/snapshots.go`, `Key`). A liar who is first could cut an honest snapshot's elsewhere, and have
    all who offer that rejected.
    """
    joined = str(snapshot.chunks).encode("ascii") + snapshot.hash + snapshot.metadata
    for digits in range(1, len(str(CHUNKS_MAX)) + 1):
        hashed, metadata = joined[digits : digits + 32], joined[digits + 32 :]
        if joined[:digits].isdigit() and sha256(metadata) == hashed:
            return replace(snapshot, chunks=int(joined[:digits]), hash=hashed, metadata=metadata)
    return None


def clear(store: WriterStore) -> None:
    """Empty every table, in the open transaction."""
    store.rollback()
    for table in Table:
        store.empty(table)


class _Restoration:
    """One snapshot on its way into the store."""

    def __init__(
        self, store: WriterStore, chain_id: str, height: int, app_hash: bytes, metadata: SnapshotMetadata
    ) -> None:
        self.height = height
        self.metadata = metadata
        self.next = 0  # the chunk
        self._store = store
        self._chain_id = chain_id
        self._app_hash = app_hash
        self._progress = Progress()
        self._builder: SectionBuilder | None = None
        self._written = 0  # bytes since the last commit

    def verify(self, data: bytes) -> VerifiedChunk:
        """The chunk, if it is the next range and holds; nothing is changed before that."""
        chunk = verify_chunk(parse_chunk(data), self.metadata.roots, self._chain_id)
        after = Progress(self._progress.section, self._progress.low)
        after.advance(chunk)
        if (after.section is None) != (self.next + 1 == self.metadata.chunks):
            raise Untrusted("snapshot.gap", "the snapshot has not as many chunks as its state needs", field="chunks")
        return chunk

    def write(self, chunk: VerifiedChunk, size: int) -> bool:
        """Take a verified chunk into the store; whether it was the last, and the state is durable."""
        store, builder = self._store, self._builder or SectionBuilder(self._store, chunk.section)
        for row in chunk.rows:
            store.put(*row)
        for leaf in chunk.leaves:
            builder.add(*leaf)
        self._builder = builder
        if self._progress.advance(chunk):
            self._builder = None
            if builder.finish() != self.metadata.roots.root(chunk.section):
                raise Misconfigured("store.map_broken", "the restored map has another root: empty the store, join anew")
        self.next += 1
        self._written += size
        done = self._progress.section is None
        if done:
            for key, value in self._marks():
                store.put(Table.META, key, value)
        if done or self._written >= COMMIT_BYTES:
            store.commit()
            self._written = 0
        return done

    def _marks(self) -> Sequence[tuple[bytes, bytes]]:
        """Where the state stands. The header that proves it comes with the next block."""
        first = height_key(self.height + 1)
        return (
            (STATE_KEY, height_key(self.height) + self._app_hash),
            (FIRST_KEY, first),
            (RESTORE_KEY, WHOLE),
        )
