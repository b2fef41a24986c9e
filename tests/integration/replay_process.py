"""A process for test_determinism: executes the blocks of a file through the writer, over a store on disk.

Usage: replay_process.py CHAINS DIRECTORY OPTIONS, OPTIONS being JSON: `map_bytes` of the store; `memory_bytes` that
the process may take beyond what it has after its first block; `pool` to have each block checked, prepared and judged
before. A block's line is printed when it is durable: chain, height, app hash, hash of the block with its results.
"""

from __future__ import annotations

import base64
import json
import resource
import sys
from pathlib import Path
from typing import Any

from onecode.errors import Misconfigured, OnecodeError
from onecode.node.blocks import load_block, load_state
from onecode.node.store import StoreConfig, WriterStore, open_writer
from onecode.node.writer import BlockWriter
from onecode.registry.application import Application
from onecode.registry.genesis import parse_genesis
from onecode.wire import sha256


class Replay:
    def __init__(self, name: str, store: WriterStore, genesis: bytes, options: dict[str, Any]) -> None:
        self.name, self.store, self.options = name, store, options
        self.genesis = parse_genesis(genesis)
        with store.snapshot() as view:
            self.printed = load_state(view).height
        self.application = Application(store, self.genesis.chain_id, height=self.printed)
        self.writer = BlockWriter(store, self.application)
        if not self.writer.info().app_hash:
            self.writer.init_chain(self.genesis)

    def run(self, blocks: list[tuple[int, int, list[bytes]]]) -> None:
        limited = "memory_bytes" not in self.options
        for height, time_ms, transactions in blocks:
            if height <= self.writer.executed.height:
                continue
            if self.options.get("pool"):
                self.writer.prepare(height, time_ms, transactions, 1 << 20)
                for transaction in transactions:
                    self.writer.check(transaction, time_ms)
                self.application.process(transactions)
                self.writer.judge(height, time_ms, transactions)
            self.writer.finalize(height, time_ms, transactions)
            self.print_durable()
            if not limited:
                limit(self.options["memory_bytes"])
                limited = True
        self.writer.finalize(self.writer.executed.height + 1, blocks[-1][1] + 1, [])  # makes the last one durable
        self.print_durable()

    def print_durable(self) -> None:
        height = self.writer.info().height
        if height <= self.printed:
            return
        with self.store.snapshot() as view:
            block = load_block(view, height)
        assert block is not None
        print(self.name, height, block.app_hash.hex(), sha256(block.encoded()).hex(), flush=True)
        self.printed = height


def limit(memory_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    most = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> int:
    chains, directory, given = sys.argv[1:]
    options = json.loads(given)
    config = StoreConfig(map_bytes=options.get("map_bytes", 64 << 20), meta_sync=False)
    try:
        for name, chain in json.loads(Path(chains).read_text("ascii")).items():
            store = open_writer(Path(directory) / name, config)
            replay = Replay(name, store, base64.b64decode(chain["genesis"]), options)
            replay.run(
                [(height, time_ms, list(map(base64.b64decode, raw))) for height, time_ms, raw in chain["blocks"]]
            )
            store.rollback()
            store.close()
    except OnecodeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except MemoryError:  # outside the writer, while a line was made
        print("memory has run out [store.memory]", file=sys.stderr)
        return Misconfigured.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
