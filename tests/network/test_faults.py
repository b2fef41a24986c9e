"""Four validators under a load of publications, withdrawals, questions and payments, while things break.

`make test` runs a short form (five processes killed, two of four stopped, one partition) and `make test-network` all of
it. The last test checks the history of the whole run and prints the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import pytest

from network import shifted_engine
from network.cables import Cables
from network.faulty import BOUND_MS, NODES, TWIN, wait_for
from network.history import Chain, NodeEnd, Verdict, check
from network.load import pause
from network.scenario import Scenarios
from onecode.host.clock import now_ms
from onecode.host.keyring import load_key
from onecode.node.blocks import load_block, load_header, load_state
from onecode.node.store import open_reader
from onecode.proof.header import Validator, merkle_root

pytestmark = pytest.mark.timeout(600)

FULL = os.environ.get("ONECODE_NETWORK") == "full"
PROCESSES = ("engine", "writer", "worker-0", "enclave", "enclave-worker-0", "supervisor", "platform", "keys")
A_FEW = ("engine", "writer", "enclave", "platform", "keys")
KILLED = (
    [(node, process) for node in NODES for process in PROCESSES]
    if FULL
    else list(zip(cycle(NODES), A_FEW, strict=False))
)
LIES = ("garbage", "conflicting", "oversize")
CLOCKS_MS = (600_000, -600_000)
in_full = pytest.mark.skipif(not FULL, reason="only in `make test-network`")
DEAD_S = 12.0 if FULL else 6.0
LAST = NODES[3]


@pytest.mark.parametrize(("node", "process"), KILLED, ids=[f"{node}-{process}" for node, process in KILLED])
def test_kill_9_of_a_process(faults: Scenarios, node: str, process: str) -> None:
    network = faults.network
    with faults.scenario(f"kill -9: {process} of {node}") as row:
        if process == "platform":
            network.kill_child(node)
            row.mended()
            network.restart_server(node)
        elif process == "keys":
            network.kill_child(f"{node}-keys")
            row.mended()
            network.restart_keys(node)
        elif process == "supervisor":
            network.kill_supervisor(node)
            row.mended()
            network.start_node(node)
        else:
            network.kill_process(node, process)  # its supervisor starts it again


@in_full
def test_one_of_four_stopped_and_the_chain_goes_on(faults: Scenarios) -> None:
    with faults.scenario(f"one of four stopped: {LAST}") as row:
        faults.network.kill_node(LAST)
        faults.goes_on(NODES[:3])
        pause(DEAD_S)
        faults.goes_on(NODES[:3])
        row.mended()
        faults.network.start_node(LAST)


def test_two_stopped_and_nothing_is_lost(faults: Scenarios) -> None:
    """It halts. Nodes answer at the last height until the bound, then wallets refuse. Back again, it goes on."""
    history, network = faults.history, faults.network
    with faults.scenario("two of four stopped") as row:
        for node in NODES[2:]:
            network.kill_node(node)
        height = faults.stands_still(NODES[:1], 2)
        asked = len(history.queries)
        wait_for(lambda: len(history.queries) >= asked + 8, "answers in the halt", BOUND_MS / 1000)
        halted = [one for one in history.queries[asked:] if one.verdict is Verdict.OK]
        assert {one.height for one in halted} == {height + 1}  # the last header that was signed
        pause(BOUND_MS / 1000 + 1)
        asked = len(history.queries)
        wait_for(lambda: len(history.queries) >= asked + 8, "refusals in the halt", BOUND_MS / 1000)
        stale = history.queries[asked:]
        assert stale and all(one.verdict in (Verdict.REFUSED, Verdict.NONE) for one in stale), stale
        assert network.proven(NODES[0]) == height
        row.note = f"halted at {height}"
        row.mended()
        for node in NODES[2:]:
            network.start_node(node)


def the_cables(faults: Scenarios, no_cables: str | None) -> Cables:
    if no_cables or faults.network.cables is None:
        pytest.skip(f"NO CABLE IS CUT, SO NO TEST OF PARTITIONS: {no_cables}")
    return faults.network.cables


def test_a_partition_2_2_heals(faults: Scenarios, no_cables: str | None) -> None:
    cables = the_cables(faults, no_cables)
    with faults.scenario("partition 2/2") as row:
        cables.part(NODES[:2], NODES[2:])
        row.note = f"halted at {faults.stands_still(NODES, DEAD_S / 2)}"
        row.mended()
        cables.join()


@in_full
def test_a_partition_3_1_and_the_one_catches_up(faults: Scenarios, no_cables: str | None) -> None:
    cables = the_cables(faults, no_cables)
    with faults.scenario(f"partition 3/1: {LAST} alone") as row:
        cables.part(NODES[:3], (LAST,))
        faults.goes_on(NODES[:3])
        behind = faults.stands_still((LAST,), DEAD_S / 2)
        faults.goes_on(NODES[:3])
        assert faults.network.proven(NODES[0]) >= behind + 5
        row.mended()
        cables.join()


@in_full
@pytest.mark.parametrize("lie", LIES)
def test_a_proposer_that_lies(faults: Scenarios, lie: str) -> None:
    """An application that proposes what it must not: the others refuse the block or its transactions, and go on."""
    network = faults.network
    with faults.scenario(f"{LAST} proposes {lie}") as row:
        network.stop_node(LAST)
        network.lies[LAST] = {"ONECODE_TEST_LIE": lie}
        begin = network.proven(NODES[0])
        network.start_node(LAST)
        faults.goes_on(NODES[:3], blocks=24)  # its turn comes every fourth block
        network.lies.clear()
        network.kill_node(LAST)
        rounds, failed = _told(faults, begin)
        assert failed if lie == "conflicting" else rounds or lie == "oversize"
        row.note = f"{rounds} blocks in a later round, {failed} transactions failed"
        row.mended()
        network.start_node(LAST)


def _told(faults: Scenarios, begin: int) -> tuple[int, int]:
    """Blocks decided after the first round, and transactions that failed, since a height."""
    rounds = failed = 0
    store = open_reader(faults.network.places.node_directory(NODES[0]) / "store")
    try:
        with store.snapshot() as reader:
            for height in range(begin, load_state(reader).height + 1):
                header, block = load_header(reader, height), load_block(reader, height)
                rounds += header is not None and header.signed.commit.round > 0
                failed += sum(result.code != 0 for result in block.results) if block is not None else 0
    finally:
        store.close()
    return rounds, failed


@in_full
def test_a_validator_that_votes_twice(faults: Scenarios) -> None:
    """Two engines with one validator's key vote differently: the evidence is in a block, and the chain goes on."""
    network = faults.network
    with faults.scenario(f"two engines with {LAST}'s key") as row:
        begin = network.proven(NODES[0])
        network.lies[TWIN] = {"ONECODE_TEST_LIE": "deny"}
        network.start_twin()
        height = wait_for(lambda: _evidence_height(faults, begin), "evidence of a vote twice")
        network.lies.clear()
        network.stop_twin()
        faults.goes_on(NODES[:3])
        row.note = f"evidence in block {height}"


def _evidence_height(faults: Scenarios, begin: int) -> int | None:
    """The first height from `begin` on whose block holds evidence."""
    store = open_reader(faults.network.places.node_directory(NODES[0]) / "store")
    try:
        with store.snapshot() as reader:
            for height in range(max(1, begin), load_state(reader).height + 2):
                header = load_header(reader, height)
                if header is not None and header.signed.header.evidence_hash != merkle_root([]):
                    return height
    finally:
        store.close()
    return None


@pytest.mark.parametrize("clock_ms", CLOCKS_MS)
@in_full
def test_the_clock_of_one_node_is_off(faults: Scenarios, tmp_path: Path, clock_ms: int) -> None:
    """Clocks of writer, workers, enclave and engine of one node jump by ten minutes. Ahead, it decides with the others;
    behind, it takes their blocks for ones from the future and stops, until its clock is right and it is started again.
    Its payers ask another node; its own platform may not publish meanwhile."""
    network, clock = faults.network, tmp_path / "clock"
    clock.write_text("0")
    no_engine = shifted_engine.why_not()
    if no_engine is None:
        network.engines[LAST] = shifted_engine.build(tmp_path)
    network.stop_node(LAST)
    network.lies[LAST] = {"ONECODE_TEST_CLOCK": str(clock)}
    network.start_node(LAST)
    faults.settle("a clock that can be moved")
    with faults.scenario(f"clock of {LAST} {clock_ms // 60_000:+d} min") as row:
        row.note = "its engine's too" if no_engine is None else f"NOT ITS ENGINE'S: {no_engine}"
        clock.write_text(str(clock_ms))
        stops = clock_ms < 0 and no_engine is None
        faults.goes_on(NODES[:3] if stops else NODES)
        pause(DEAD_S)
        since = now_ms()
        wait_for(lambda: faults.answered(LAST, since), f"payers of {LAST} turn to another node")
        if stops:
            assert network.proven(LAST) < network.proven(NODES[0]) - 5
        elif no_engine is None:
            assert abs(_vote_is_off_ms(faults) - clock_ms) < 60_000
        row.mended()
        clock.write_text("0")
        if stops:  # an engine that refused a decided block stays as it is until it is started again
            network.restart_node(LAST)
    if not stops:
        network.restart_node(LAST)


def _vote_is_off_ms(faults: Scenarios) -> int:
    """How far the time of the last validator's newest vote lies from the header's own, which is a median."""
    network = faults.network
    address = Validator(public_key=load_key(network.places.validator_key(LAST)).public, power=1).address
    store = open_reader(network.places.node_directory(NODES[0]) / "store")
    try:
        with store.snapshot() as reader:
            for height in range(load_state(reader).height + 1, 1, -1):
                header = load_header(reader, height)
                for vote in header.signed.commit.votes if header is not None else ():
                    if vote.validator_address == address and header is not None and vote.timestamp_ns:
                        return (vote.timestamp_ns - header.signed.header.time_ns) // 1_000_000
    finally:
        store.close()
    raise AssertionError(f"{LAST} has not voted")


def test_the_history_holds(faults: Scenarios, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that was acknowledged is at every node, nobody was told what was over, and no app hash differs."""
    network, history = faults.network, faults.history
    faults.load.stop()
    assert not faults.load.broken, faults.load.broken
    network.wait_level()
    found = _audited(faults, tmp_path)
    network.stop()
    nodes: dict[str, NodeEnd] = {node: network.node_end(node) for node in NODES}
    decided = network.decided(NODES[0])
    broken = check(history, decided, nodes, BOUND_MS)
    with capsys.disabled():
        print("\n" + faults.table(Chain(decided), broken) + f"audit file: {found}")
    assert broken == []
    assert history.acknowledged() > 50 and len(history.queries) > 100 and len(history.payments) > 10
    assert {one.verdict for one in history.payments} >= {Verdict.OK, Verdict.ABSENT}


def _audited(faults: Scenarios, directory: Path) -> str:
    """The whole chain as an audit file, checked and executed again from the genesis by the command."""
    network, file = faults.network, directory / "span"
    config = network.places.platform(NODES[0]) / "platform.json"
    command = [sys.executable, "-m", "onecode", "audit"]
    export = [*command, "export", "--from", "1", "-o", str(file), "--config", str(config)]
    subprocess.run(export, check=True, timeout=120, capture_output=True)
    verify = [*command, "verify", str(file), "--genesis", str(network.places.genesis), "--replay", "--json"]
    said = json.loads(subprocess.run(verify, check=True, timeout=120, capture_output=True, text=True).stdout)
    return f"heights {said['heights']}, {said['transactions']} transactions, replayed: {said['replayed']}"
