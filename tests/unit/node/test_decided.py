"""The newest decided block in its file: whole or not at all, read once a height, and compared with the right state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onecode.errors import Misconfigured
from onecode.node.blocks import StoredBlock, stored_result
from onecode.node.decided import Decided, save_decided
from onecode.query.messages import BlockResult
from onecode.registry.application import TransactionResult
from onecode.registry.events import RecordWithdrawn
from onecode.registry.results import Result
from onecode.wire import sha256
from unit.node.test_view import prove_state
from unit.registry.world import PAY, World


def block(height: int, *results: BlockResult) -> StoredBlock:
    transactions = tuple(b"%d" % number for number in range(len(results)))
    return StoredBlock(height=height, time_ms=5, transactions=transactions, results=results, app_hash=bytes(32))


def save(path: Path, stored: StoredBlock) -> None:
    save_decided(path, stored, {sha256(one): index for index, one in enumerate(stored.transactions)})


def test_a_worker_reads_the_newest_block(tmp_path: Path) -> None:
    path, world = tmp_path / "decided", World()
    decided = Decided(path)
    assert decided.load() is None
    withdrawn = RecordWithdrawn(b"p" * 20, b"m" * 20, PAY, 3)
    save(path, block(8, stored_result(TransactionResult(Result.OK, (Result.OK,), (withdrawn,)))))
    opened = decided.load()
    assert opened is not None
    assert decided.load() is opened
    assert (opened.height, opened.time_ms, opened.places) == (8, 5, {sha256(b"0"): 0})
    assert json.loads(opened.results[0].events)[0]["event"] == "RecordWithdrawn"
    narrowing = opened.narrowing(b"m" * 20, PAY, (b"p" * 20,))
    assert narrowing is not None
    assert narrowing.ended == (b"p" * 20,)
    for height, follows in ((6, False), (7, True), (8, False)):
        prove_state(world, height)
        assert opened.follows(world.store) is follows
    save(path, block(9))
    newer = decided.load()
    assert newer is not None
    assert (newer.height, newer.hashes, opened.height) == (9, (), 8)


@pytest.mark.parametrize("left", [0, 3, 8, 20])
def test_what_a_power_cut_left_counts_as_none(tmp_path: Path, left: int) -> None:
    path = tmp_path / "decided"
    save(path, block(8, BlockResult(code=0, item_codes=(), events=b"")))
    path.write_bytes(path.read_bytes()[:left])
    assert Decided(path).load() is None
    path.write_bytes(bytes(100))
    assert Decided(path).load() is None
    save(path, block(8, BlockResult(code=0, item_codes=(), events=bytes(10_000))))
    path.write_bytes(path.read_bytes()[:8_000] + b"x" + path.read_bytes()[8_001:])
    assert Decided(path).load() is None
    save(path, block(8))
    assert Decided(path).load() is not None


def test_no_room_stops_the_node(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as raised:
        save(tmp_path / "absent" / "decided", block(8))
    assert raised.value.code == "node.decided"
