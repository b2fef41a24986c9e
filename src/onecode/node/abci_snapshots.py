"""The four snapshot calls of ABCI 2.0: what is offered to nodes that join, and how this one joins."""

from __future__ import annotations

from collections.abc import Callable

from onecode.node import abci_messages as messages
from onecode.node.abci_messages import Method
from onecode.node.blocks import load_block
from onecode.node.restore import RESTORE_KEY, Restorer, clear, restoring
from onecode.node.snapshot_maker import SnapshotMaker
from onecode.node.snapshots import FORMAT
from onecode.node.store import WriterStore
from onecode.node.writer import BlockWriter
from onecode.registry.store import Table

PROVING_HEIGHTS = 2  # a light client asks for so many headers above a snapshot's height, and gives up without them


class AbciSnapshots:
    """Beside `onecode.node.abci_application`, on its thread. `maker`: None offers nothing. `on_restored` is called when
    a state from a snapshot is durable."""

    def __init__(
        self,
        store: WriterStore,
        writer: BlockWriter,
        chain_id: str,
        maker: SnapshotMaker | None,
        on_restored: Callable[[], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._maker = maker
        self._on_restored = on_restored
        self._restorer = Restorer(store, chain_id)
        self._times: dict[int, int] = {}  # of the newest blocks, by height
        with store.snapshot() as snapshot:
            self._marked = restoring(snapshot)

    def calls(self) -> dict[int, Callable[[bytes], bytes]]:
        return {
            Method.LIST_SNAPSHOTS: self._list,
            Method.LOAD_SNAPSHOT_CHUNK: self._load_chunk,
            Method.OFFER_SNAPSHOT: self._offer,
            Method.APPLY_SNAPSHOT_CHUNK: self._apply_chunk,
        }

    # --- around blocks

    def before_chain(self) -> None:
        """The chain begins with its genesis: what an unfinished restoration left is removed."""
        if self._marked:
            clear(self._store)
            self._store.commit()
            self._marked = False

    def before_block(self) -> None:
        """A block was decided. Nothing restored is begun anew from here on: the mark goes with the next commit, or with
        a later one where that block is rolled back and executed again."""
        if self._marked:
            with self._store.snapshot() as durable:
                self._marked = restoring(durable)
            self._store.delete(Table.META, RESTORE_KEY)
        if self._maker is not None:
            self._maker.settle()

    def executed(self, height: int, time_ms: int, *, provable: bool) -> None:
        """A block was executed. The one before it is what can be read now: ask for a snapshot of it, if one is due.
        provable: whether the store has the header that proves it."""
        times = {old: self._time_ms(old) for old in range(max(1, height - 2), height)} | {height: time_ms}
        self._times = {known: at_ms for known, at_ms in times.items() if at_ms is not None}
        before_ms, committed_ms = times.get(height - 2), times.get(height - 1)
        if self._maker is None or not provable or self._writer.info().height != height - 1:
            return
        if before_ms is not None and committed_ms is not None:
            self._maker.committed(height - 1, before_ms, committed_ms)

    def keep_from(self, height: int) -> int:
        """The lowest height of which the engine keeps its block, where the node itself needs `height` and above: who
        joins by a snapshot that is offered needs all that follow it."""
        kept = self._maker.shelf.heights() if self._maker is not None else []
        return min([height, *kept])

    def _time_ms(self, height: int) -> int | None:
        """Of a block; None for one that is not there."""
        if height in self._times or self._maker is None:
            return self._times.get(height)
        block = load_block(self._store, height)
        return None if block is None else block.time_ms

    # --- calls

    def _list(self, _: bytes) -> bytes:
        if self._maker is None:
            return b""
        proven = self._writer.info().height - PROVING_HEIGHTS
        return messages.list_snapshots_response(self._maker.shelf.offered(proven))

    def _load_chunk(self, message: bytes) -> bytes:
        wanted = messages.parse_load_snapshot_chunk(message)
        if self._maker is None or wanted.format != FORMAT:
            return b""
        return messages.load_snapshot_chunk_response(self._maker.shelf.load_chunk(wanted.height, wanted.index))

    def _offer(self, message: bytes) -> bytes:
        offered = messages.parse_offer_snapshot(message)
        result = self._restorer.offer(offered.snapshot, offered.app_hash)
        self._marked = restoring(self._store)
        return messages.offer_snapshot_response(result)

    def _apply_chunk(self, message: bytes) -> bytes:
        given = messages.parse_apply_snapshot_chunk(message)
        applied = self._restorer.apply(given.index, given.chunk, given.sender)
        if applied.done:
            self._writer.restored()
            self._on_restored()
        return messages.apply_snapshot_chunk_response(applied.verdict, applied.refetch, applied.reject)
