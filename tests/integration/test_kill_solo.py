"""kill -9 at random moments under load: nothing acknowledged is lost or doubled, and the store proves itself."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import count, pairwise
from pathlib import Path

import pytest

from integration.solo_process import CHAIN_ID, GENESIS, SEED, STORE
from onecode.host.clock import now_ms
from onecode.node.blocks import load_block, load_header, load_proven, load_state, stored_result
from onecode.node.store import open_writer
from onecode.proof.header import header_hash
from onecode.proof.light import Trust, require_fresh, trusted_state, verify_header
from onecode.proof.map import Section, verify_presence
from onecode.registry.map import prove, section_roots
from onecode.registry.store import MemoryStore, Table
from onecode.wire import SigningKey
from plain_machine import PlainMachine

ROUNDS = 8
CLIENTS = 6
TESTS = Path(__file__).resolve().parent.parent


class Load:
    """Clients that send numbered transactions one after another and remember what was acknowledged."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.acknowledged: list[tuple[bytes, int]] = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(client,)) for client in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _run(self, client: int) -> None:
        numbers = count()
        while not self.stopping.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(10)
                    connection.connect(self.address)
                    with connection.makefile("rw", encoding="ascii") as lines:
                        while not self.stopping.is_set():
                            self._send(lines, b"%d-%d=v" % (client, next(numbers)))
            except (OSError, EOFError):
                time.sleep(0.005)

    def _send(self, lines, transaction: bytes) -> None:  # type: ignore[no-untyped-def]
        lines.write(transaction.hex() + "\n")
        lines.flush()
        answer = lines.readline()
        if not answer.endswith("\n"):
            raise EOFError
        height, code = answer.split()
        assert code == "0"
        self.acknowledged.append((transaction, int(height)))

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(15)


def start(store: Path, address: str) -> subprocess.Popen[bytes]:
    Path(address).unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(
        [sys.executable, TESTS / "integration" / "solo_process.py", store, address], env=environment
    )


def wait_for(condition, seconds: float = 15) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the process did not come back"
        time.sleep(0.005)


@pytest.mark.timeout(60)
def test_kill_under_load(tmp_path: Path) -> None:
    moments = random.Random(7)
    directory = tmp_path / "store"
    with tempfile.TemporaryDirectory(prefix="solo-") as short:  # a Unix socket's path is at most 107 bytes
        address = f"{short}/s"
        process = start(directory, address)
        load = Load(address)
        try:
            for number in range(ROUNDS):
                before = len(load.acknowledged)
                wait_for(lambda before=before: len(load.acknowledged) > before + 20)
                time.sleep(moments.uniform(0, 0.3))
                process.kill()
                assert process.wait() == -signal.SIGKILL
                process = start(directory, address)
                if number % 2:  # once more while it starts
                    time.sleep(moments.uniform(0, 0.4))
                    process.kill()
                    process.wait()
                    process = start(directory, address)
            before = len(load.acknowledged)
            wait_for(lambda: len(load.acknowledged) > before + 20)
        finally:
            load.stop()
            process.kill()
            process.wait()
    assert len(load.acknowledged) > 20 * ROUNDS
    check_store(directory, load.acknowledged)


def check_store(directory: Path, acknowledged: list[tuple[bytes, int]]) -> None:
    store = open_writer(directory, STORE)
    replayed = MemoryStore()
    machine = PlainMachine(replayed)
    app_hash = machine.init_chain(GENESIS)
    with store.snapshot() as view:
        state, newest = load_state(view), load_proven(view)
        assert newest is not None and newest.signed.header.height == state.height + 1
        heights: dict[bytes, int] = {}
        seen: Counter[bytes] = Counter()
        headers = [load_header(view, height) for height in range(1, state.height + 2)]
        for height in range(1, state.height + 1):
            block, header = load_block(view, height), headers[height - 1]
            assert block is not None and header is not None
            assert header.signed.header.app_hash == app_hash  # of the state before this block
            outcome = machine.execute(height, block.time_ms, block.transactions)
            assert tuple(map(stored_result, outcome.results)) == block.results
            app_hash = outcome.app_hash
            assert app_hash == block.app_hash
            for transaction, result in zip(block.transactions, block.results, strict=True):
                assert result.code == 0
                heights[transaction] = height
                seen[transaction] += 1
        assert app_hash == state.app_hash == newest.signed.header.app_hash
        for transaction, height in acknowledged:
            assert heights.get(transaction) == height
        assert set(seen.values()) == {1}
        for table in (Table.NODES, Table.VALUES):
            assert dict(view.scan(table)) == replayed.tables[table]

        for last, this in pairwise(headers):  # one header a height, each on the one before: none was signed twice
            assert last is not None and this is not None
            assert this.signed.header.last_block_id.hash == header_hash(last.signed.header)
        first = headers[0]
        assert first is not None and first.signed.header.chain_id == CHAIN_ID
        assert first.validators.validators[0].public_key == SigningKey.from_seed(SEED).public
        trust = Trust(trusted_state(first.signed.header, first.validators))
        require_fresh(verify_header(newest.signed, newest.validators, trust, now_ms()), now_ms())
        key, _, value = acknowledged[-1][0].partition(b"=")
        verify_presence(section_roots(view), Section.ALIASES, key, value, prove(view, Section.ALIASES, key))
    store.close()
