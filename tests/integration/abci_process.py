"""A process for test_cometbft: the registry beside an engine.

Usage: abci_process.py STORE SOCKET RPC_PORT GENESIS OPTIONS, OPTIONS being JSON: `keep_blocks`, `configured_peers`,
and `clock_ahead_ms` of a clock that is wrong.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

from onecode.node.engine_process import serve_application
from onecode.node.store import StoreConfig
from onecode.registry.genesis import parse_genesis

STORE = StoreConfig(map_bytes=1 << 30, meta_sync=False)


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    store, address, port, genesis, given = sys.argv[1:]
    options = json.loads(given)
    ahead_ms = options.pop("clock_ahead_ms", 0)
    serve_application(
        store_path=Path(store),
        store_config=STORE,
        socket_path=Path(address),
        rpc_port=int(port),
        genesis=parse_genesis(Path(genesis).read_bytes()),
        clock_ms=lambda: time.time_ns() // 1_000_000 + ahead_ms,
        **options,
    )


if __name__ == "__main__":
    main()
