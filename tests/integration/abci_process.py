"""A process for test_cometbft: the registry beside an engine.

Usage: abci_process.py STORE SOCKET RPC_PORT GENESIS OPTIONS, OPTIONS being JSON: `keep_blocks`, `configured_peers`,
`clock_ahead_ms` of a clock that is wrong, and `crash`: [call, "before" or "after" its work, which call of that name],
where the process ends as by kill -9; "after" is before the engine has the answer.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from onecode.node.abci_application import AbciApplication
from onecode.node.abci_messages import Method
from onecode.node.engine_process import serve_application
from onecode.node.store import StoreConfig
from onecode.registry.genesis import parse_genesis

STORE = StoreConfig(map_bytes=1 << 30, meta_sync=False)


def crash_at(name: str, when: str, turn: int) -> None:
    """Have this process end itself at the `turn`-th call of this name."""
    answer, seen = AbciApplication.answer, 0

    def dying(self: AbciApplication, method: int, message: bytes) -> bytes:
        nonlocal seen
        here = method == Method[name]
        seen += here
        if here and seen == turn and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        reply = answer(self, method, message)
        if here and seen == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    AbciApplication.answer = dying  # type: ignore[method-assign]


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    store, address, port, genesis, given = sys.argv[1:]
    options = json.loads(given)
    ahead_ms = options.pop("clock_ahead_ms", 0)
    if crash := options.pop("crash", None):
        crash_at(*crash)
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
