"""What would become of transactions, told to an engine without a pool, and to a pool after a restart."""

from __future__ import annotations

import copy

from onecode.proof.governance import ProposalKind, RulesLeaf
from onecode.registry.application import Application
from onecode.registry.proposals import RULES_LEAD_BLOCKS
from onecode.registry.results import Result
from onecode.registry.transactions import Kind, PlatformEpoch
from unit.registry.world import CHAIN, World


def judged(world: World, *transactions: bytes) -> list[tuple[Result, tuple[Result, ...]]]:
    found = world.application.judge(world.height + 1, world.time_ms, transactions)
    return [(result.code, result.item_codes) for result in found]


def test_each_is_judged_after_those_before_it_and_nothing_is_remembered() -> None:
    world = World()
    platform, merchant = world.platforms[0], world.merchants[0]
    first = world.publish(platform, world.first(merchant, platform))
    second = world.publish(platform, world.publication(merchant, 2))
    before = copy.deepcopy(world.store.tables)
    for _ in range(3):
        assert judged(world, first, second) == [(Result.OK, (Result.OK,))] * 2
        assert judged(world, second) == [(Result.ITEMS_FAILED, (Result.MERCHANT_UNKNOWN,))]
    assert judged(world, first, first)[1] == (Result.NONCE, ())
    assert judged(world, b"\xff") == [(Result.MALFORMED, ())]
    assert world.store.tables == before
    assert world.run(first, second) == Result.OK
    assert judged(world, first) == [(Result.NONCE, ())]


def test_a_refused_batch_has_the_code_of_each_item() -> None:
    world = World()
    platform = world.platforms[0]
    items = (
        world.publication(world.merchants[0], 1, birth=world.merchants[0].birth),
        world.first(world.merchants[1], platform, 2000),
    )
    assert judged(world, world.publish(platform, *items)) == [
        (Result.ITEMS_FAILED, (Result.CONSENT_MISSING, Result.VERSION))
    ]


def test_a_pool_judges_for_the_height_that_comes_also_after_a_restart() -> None:
    world = World(platforms=1)
    for number in range(5):
        world.run(world.platform_call(world.platforms[0], Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=number + 1)))
    rules = RulesLeaf(version=1, next_version=2, next_height=RULES_LEAD_BLOCKS + 3)  # good from block 1 to 3
    late = world.submit(world.platforms[0], world.proposal(ProposalKind.RULES_ACTIVATE, rules=rules))
    assert world.application.check(late, world.time_ms) == Result.RULES
    restarted = Application(world.store, CHAIN, height=world.height)
    assert restarted.check(late, world.time_ms) == Result.RULES
    assert world.run(late) == Result.RULES
