"""Whole histories: nothing old plays again, every node comes to the same bytes, deletions leave no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onecode.proof.governance import DAY_MS
from onecode.proof.leaves import LinkList
from onecode.proof.map import Section
from onecode.registry.application import Application
from onecode.registry.map import build, section_roots, split_value
from onecode.registry.results import Result
from onecode.registry.signatures import SignatureCache
from onecode.registry.store import MemoryStore, Table, link_key
from onecode.registry.transactions import Kind, parse_transaction
from unit.registry.codes_merchants import assign, attest_call, bind_call, release_call, revoke_call
from unit.registry.history import digest, long_history
from unit.registry.test_results import SCENARIOS
from unit.registry.world import CHAIN, PAY, World

pytestmark = pytest.mark.clock


def test_the_history_holds_every_kind() -> None:
    assert {parse_transaction(raw)[1].kind for raw in long_history().history} == set(Kind)


def test_nothing_old_plays_again() -> None:
    """Every transaction of the history again, at its time and after, one by one and all in one block."""
    world = long_history()
    old, before = list(world.history), world.app_hash
    for raw in old:
        world.time_ms = parse_transaction(raw)[1].valid_until_ms - 2000  # so that its nonce refuses it, not its age
        assert not world.result(raw).code.admitted
    assert not any(result.code.admitted for result in world.block(*old).results)
    world.pass_time(2 * DAY_MS)
    assert not any(result.code.admitted for result in world.block(*old).results)
    assert world.app_hash == before


@pytest.mark.parametrize("code", list(Result), ids=lambda code: code.name)
def test_nothing_that_was_admitted_in_a_scenario_plays_again(code: Result) -> None:
    world = World()
    admitted: list[bytes] = []
    execute = world.application.execute

    def recording(height: int, time_ms: int, transactions: tuple[bytes, ...]) -> object:
        outcome = execute(height, time_ms, transactions)
        admitted.extend(raw for raw, result in zip(transactions, outcome.results, strict=True) if result.code.admitted)
        return outcome

    world.application.execute = recording  # type: ignore[method-assign,assignment]
    SCENARIOS[code](world)
    world.application.execute = execute  # type: ignore[method-assign]
    for raw in admitted:
        assert not world.result(raw).code.admitted


def test_two_processes_come_to_the_same_bytes(root: Path) -> None:
    """Other seeds of Python's hashes, locales and time zones."""
    expected = digest(long_history())
    for seed, locale, zone in (("1", "C", "Asia/Kathmandu"), ("4242", "tr_TR.UTF-8", "America/St_Johns")):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "LC_ALL": locale,
            "TZ": zone,
            "PYTHONPATH": os.pathsep.join((str(root / "src"), str(root / "tests"))),
        }
        command = [sys.executable, "-m", "unit.registry.history"]
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert printed.strip() == expected


def test_a_node_that_replays_the_blocks_comes_to_the_same_bytes() -> None:
    """Without a pool, with a cache of signatures of another size, and after checks that the other node never made."""
    world = World()
    blocks: list[tuple[int, int, tuple[bytes, ...]]] = []
    merchant = world.merchants[0]
    for platform in world.platforms:
        raw = world.publish(platform, world.first(merchant, platform))
        world.application.check(raw, world.time_ms)
        world.block(raw, raw)
        blocks.append((world.height, world.time_ms, (raw, raw)))
    store = MemoryStore()
    other = Application(store, CHAIN, signatures=SignatureCache(1))
    other.init_chain(world.genesis)
    for block in blocks:
        other.execute(*block)
    assert store.tables == world.store.tables


def test_deletions_leave_no_trace_in_the_map() -> None:
    world = World()
    assign(world)
    for merchant in world.merchants:
        for platform in world.platforms:
            world.link(merchant, platform)
    calls = [bind_call(world, merchant, ("shop", merchant.name)) for merchant in world.merchants]
    calls += [attest_call(world, platform) for platform in world.platforms]
    assert {result.code for result in world.block(*calls).results} == {Result.OK}
    calls = [release_call(world, merchant, ("shop", merchant.name)) for merchant in world.merchants]
    calls += [revoke_call(world, platform) for platform in world.platforms]
    calls += [world.withdraw(platform, merchant, 1) for merchant in world.merchants for platform in world.platforms]
    assert {result.code for result in world.block(*calls).results} == {Result.OK}

    empty = LinkList(links=()).encoded()
    assert world.store.tables[Table.LINKS] == {link_key(merchant.id, PAY): empty for merchant in world.merchants}
    assert world.store.tables[Table.ENVELOPES] == {}
    fresh = MemoryStore()
    for section in Section:
        rows = (row for place, row in world.store.tables[Table.VALUES].items() if place[0] == section)
        build(fresh, section, map(split_value, rows))
    assert section_roots(fresh) == section_roots(world.store)
    assert fresh.tables[Table.NODES] == world.store.tables[Table.NODES]
    for section in (Section.ALIASES, Section.ENCLAVES):
        assert section_roots(fresh).root(section) == bytes(32)
