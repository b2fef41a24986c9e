"""A process for test_kill_solo: a network of one validator behind a Unix socket.

Usage: solo_process.py STORE SOCKET. Each line is a transaction in hex; the answer is its height and result code.
"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

from onecode.host.clock import now_ms
from onecode.node.solo import Solo, SoloConfig
from onecode.node.store import StoreConfig, open_writer
from onecode.wire import SigningKey
from plain_machine import PlainMachine

CHAIN_ID = "solo-kill"
GENESIS = {b"born": b"1"}
SEED = b"v" * 32
STORE = StoreConfig(map_bytes=1 << 30)


def serve(solo: Solo, connection: socket.socket) -> None:
    with connection, connection.makefile("rw", encoding="ascii") as lines:
        for line in lines:
            included = solo.enqueue(bytes.fromhex(line)).result()
            lines.write(f"{included.height} {included.result.code}\n")
            lines.flush()


def main() -> None:
    store = open_writer(Path(sys.argv[1]), STORE)
    solo = Solo(
        store=store,
        application=PlainMachine(store),
        key=SigningKey.from_seed(SEED),
        chain_id=CHAIN_ID,
        genesis=GENESIS,
        clock_ms=now_ms,
        config=SoloConfig(heartbeat_ms=50),
    )
    solo.start()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[2])
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(solo, connection), daemon=True).start()


if __name__ == "__main__":
    main()
