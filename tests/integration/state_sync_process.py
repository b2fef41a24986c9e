"""A process for test_state_sync: the registry beside an engine, which makes snapshots.

Usage as of abci_process.py. Further options: `snapshots_ms` between two (0: none), `enough_file`: while it exists no
more are made, `lie_file`: while it exists every chunk is altered before it is sent, `pause_ms` before each chunk that
is restored.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from unittest import mock

from integration.abci_process import STORE
from onecode.node.engine_process import serve_application
from onecode.node.restore import Restorer
from onecode.node.snapshot_maker import SnapshotMaker, SnapshotOptions
from onecode.node.snapshots import Shelf
from onecode.registry.genesis import parse_genesis

CHUNK_BYTES = 32 << 10  # many small ones: each sender is asked for some


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    store, address, port, genesis, given = sys.argv[1:]
    options = json.loads(given)
    interval_ms, enough_file, lie_file, pause_ms = (
        options.pop(name, None) for name in ("snapshots_ms", "enough_file", "lie_file", "pause_ms")
    )
    load_chunk, apply, committed = Shelf.load_chunk, Restorer.apply, SnapshotMaker.committed

    def until_enough(maker: SnapshotMaker, height: int, before_ms: int, time_ms: int) -> None:
        if enough_file is None or not Path(enough_file).exists():
            committed(maker, height, before_ms, time_ms)

    def lying(shelf: Shelf, height: int, index: int) -> bytes | None:
        chunk = load_chunk(shelf, height, index)
        if chunk is None or lie_file is None or not Path(lie_file).exists():
            return chunk
        return chunk[:-1] + bytes((chunk[-1] ^ 1,))

    def slow(restorer: Restorer, index: int, data: bytes, sender: str) -> object:
        time.sleep((pause_ms or 0) / 1000)
        return apply(restorer, index, data, sender)

    with (
        mock.patch.object(Shelf, "load_chunk", lying),
        mock.patch.object(Restorer, "apply", slow),
        mock.patch.object(SnapshotMaker, "committed", until_enough),
    ):
        serve_application(
            store_path=Path(store),
            store_config=STORE,
            socket_path=Path(address),
            rpc_port=int(port),
            genesis=parse_genesis(Path(genesis).read_bytes()),
            clock_ms=lambda: time.time_ns() // 1_000_000,
            snapshots=SnapshotOptions(Path(store).parent / "snapshots", interval_ms or 0, 50, CHUNK_BYTES),
            **options,
        )


if __name__ == "__main__":
    main()
