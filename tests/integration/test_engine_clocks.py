"""One of four validators with a clock ten minutes off, in its engine's votes and its application: only it notices."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.engine_network import Load, Network, publish, require_engine, wait_for
from integration.engine_signer import Signer
from integration.test_engine_members import asked, height_of, require_same_states, view_of, wait_for_blocks
from onecode.host.clock import now_ms
from onecode.node.blocks import load_block, load_state
from onecode.node.store import ReaderStore
from onecode.proof.light import Trust, require_fresh, trusted_state, verify_header
from onecode.registry.results import Result
from unit.registry.world import Merchant

SECONDS = 90.0
OFF_MS = 10 * 60_000


@pytest.fixture
def directory() -> Iterator[Path]:
    require_engine()
    with tempfile.TemporaryDirectory(prefix="net-") as short:  # a Unix socket's path is at most 107 bytes
        yield Path(short)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("off_ms", [OFF_MS, -OFF_MS], ids=["ahead", "behind"])
def test_a_clock_that_is_ten_minutes_off(directory: Path, off_ms: int) -> None:
    network = Network(directory, 4, clients=2)
    first, *_, wrong = network.members
    wrong.options["clock_ahead_ms"] = off_ms
    signer = Signer(wrong, off_ms)
    began_ms = now_ms()
    network.start()
    reader = first.reader()
    load_of_publishes = Load(network, first, reader)
    try:
        load_of_publishes.wait_for_more(8)
        load_of_publishes.stop()
        transaction = publish(network.platforms[0], Merchant("late"), 900, valid_ms=5 * 60_000)
        sent = base64.b64encode(transaction).decode("ascii")
        code = asked(wrong, "broadcast_tx_sync", tx=sent)["code"]
        assert code == (Result.EXPIRED if off_ms > 0 else Result.OK)  # its own pool alone
        asked(first, "broadcast_tx_sync", tx=sent)
        wait_for(lambda: holds(reader, transaction), "the others to take it", SECONDS)
        wait_for_blocks(first, 4)  # the wrong one proposes one of four
        wait_for(lambda: height_of(wrong) >= height_of(first) - 1, "the wrong one to follow", SECONDS)
        require_right_times(reader, began_ms)
        assert signer.votes > 10
    finally:
        load_of_publishes.stop()
        network.stop()
        signer.stop()
        reader.close()
    assert load_of_publishes.acknowledged and not load_of_publishes.refused
    require_same_states(network)


def holds(reader: ReaderStore, transaction: bytes) -> bool:
    with reader.snapshot() as view:
        newest = load_state(view).height
        blocks = [load_block(view, height) for height in range(1, newest + 1)]
    return any(block is not None and transaction in block.transactions for block in blocks)


def require_right_times(reader: ReaderStore, began_ms: int) -> None:
    """Blocks carry the right time, and a light client with a right clock finds their headers fresh."""
    with reader.snapshot() as view:
        newest = load_state(view).height + 1
    begin, goal = view_of(reader, 1), view_of(reader, newest)
    trust = Trust(trusted_state(begin.header.header, begin.validators))
    require_fresh(verify_header(goal.header, goal.validators, trust, now_ms()), now_ms())
    times_ms = [view_of(reader, height).header.header.time_ns // 1_000_000 for height in range(2, newest + 1)]
    assert all(began_ms - 5_000 < time_ms <= now_ms() + 5_000 for time_ms in times_ms)
    assert times_ms == sorted(times_ms)
