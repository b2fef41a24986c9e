"""Proposals: who counts, when they take effect, what they can do."""

from __future__ import annotations

import dataclasses

import pytest

from onecode.errors import Misconfigured
from onecode.proof.governance import (
    Measurement,
    ObserverLeaf,
    ProposalKind,
    ProposalLeaf,
    RulesLeaf,
    SchemeLeaf,
    ValidatorLeaf,
    observer_key,
    proposal_key,
    scheme_key,
)
from onecode.proof.leaves import KeyState, PlatformKey, PlatformStatus, Role
from onecode.proof.map import Section
from onecode.registry.application import ValidatorUpdate
from onecode.registry.events import ProposalApproved, ProposalExecuted, ProposalSubmitted
from onecode.registry.proposals import RULES_LEAD_BLOCKS
from onecode.registry.results import Result
from onecode.registry.transactions import Kind, PlatformKeys, PlatformSuspend, proposal_id
from onecode.wire import SigningKey, sha256
from unit.registry.world import CHAIN, Platform, World, signing_key


def set_governance_key(world: World, platform: Platform, key: SigningKey, state: KeyState = KeyState.ACTIVE) -> bytes:
    given = PlatformKey(role=Role.GOVERNANCE, key=key.public, state=state, height=0, since_ms=0)
    return world.platform_call(platform, Kind.PLATFORM_KEYS, PlatformKeys(keys=(given,)))


@pytest.mark.parametrize(("platforms", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (9, 7)])
def test_more_than_two_thirds_of_the_active_platforms(platforms: int, needed: int) -> None:
    world = World(platforms=platforms)
    proposal = world.proposal(ProposalKind.SERVICE_SET, service="tea")
    codes = [world.run(world.submit(world.platforms[0], proposal))]
    codes += [world.run(world.approve(platform, proposal)) for platform in world.platforms[1:needed]]
    assert codes == [Result.OK] * needed
    leaf = world.state.get(Section.GOVERNANCE, proposal_key(proposal_id(CHAIN, proposal.encoded())), ProposalLeaf)
    assert leaf is not None
    assert leaf.executed
    assert len(leaf.approvals) == needed


def test_two_thirds_are_not_enough() -> None:
    world = World(platforms=3)
    assert world.govern(ProposalKind.SERVICE_SET, service="tea", voters=world.platforms[:2]) == Result.OK
    assert world.state.services().pending == ()


def test_suspended_platforms_do_not_count_on_either_side() -> None:
    world = World(platforms=4)
    one, two, three, four = world.platforms
    proposal = world.proposal(ProposalKind.SERVICE_SET, service="tea")
    assert world.run(world.submit(one, proposal)) == Result.OK
    assert world.run(world.approve(two, proposal)) == Result.OK
    assert world.run(world.platform_call(two, Kind.PLATFORM_SUSPEND, PlatformSuspend())) == Result.OK
    assert world.run(world.approve(two, proposal)) == Result.PLATFORM_INACTIVE
    assert world.run(world.approve(three, proposal)) == Result.OK  # two of three active ones: not yet
    assert world.state.services().pending == ()
    assert world.run(world.approve(four, proposal)) == Result.OK
    assert len(world.state.services().pending) == 1


def test_events_tell_of_each_step() -> None:
    world = World(platforms=2)
    proposal = world.proposal(ProposalKind.SERVICE_SET, service="tea")
    identity = proposal_id(CHAIN, proposal.encoded())
    one, two = world.platforms
    submitted = world.result(world.submit(one, proposal)).events
    approved = world.result(world.approve(two, proposal)).events
    assert submitted == (ProposalSubmitted(identity, ProposalKind.SERVICE_SET, one.id),)
    assert approved == (ProposalApproved(identity, two.id), ProposalExecuted(identity, ProposalKind.SERVICE_SET))


def test_an_admitted_platform_is_active_after_the_delay() -> None:
    world = World()
    new = Platform("new")
    assert world.govern(ProposalKind.PLATFORM_ADMIT, admission=new.admission()) == Result.OK
    leaf = world.leaf(new)
    assert leaf.active_from_ms == world.time_ms + world.genesis.parameters.governance_delay_ms
    item = world.first(world.merchants[0], new)
    assert world.run(world.publish(new, item)) == Result.PLATFORM_INACTIVE
    world.pass_time(world.genesis.parameters.governance_delay_ms)
    assert world.run(world.publish(new, item)) == Result.OK


def test_an_execution_that_fails_takes_its_approval_back() -> None:
    """Two proposals admit one platform; the second one fails at its last approval."""
    world = World(platforms=2)
    one, two = world.platforms
    first, second = (
        world.proposal(ProposalKind.PLATFORM_ADMIT, admission=Platform("new").admission()) for _ in range(2)
    )
    assert world.run(world.submit(one, first), world.submit(one, second)) == Result.OK
    assert world.run(world.approve(two, first)) == Result.OK
    assert world.run(world.approve(two, second)) == Result.PLATFORM_EXISTS
    leaf = world.state.get(Section.GOVERNANCE, proposal_key(proposal_id(CHAIN, second.encoded())), ProposalLeaf)
    assert leaf is not None
    assert [given.platform for given in leaf.approvals] == [one.id]


def test_suspension_at_once_restoration_after_the_delay() -> None:
    world = World(platforms=4)
    platform = world.platforms[3]
    assert world.govern(ProposalKind.PLATFORM_SUSPEND, platform=platform.id, voters=world.platforms[:3]) == Result.OK
    assert world.leaf(platform).status == PlatformStatus.SUSPENDED
    assert world.govern(ProposalKind.PLATFORM_RESTORE, platform=platform.id, voters=world.platforms[:3]) == Result.OK
    leaf = world.leaf(platform)
    assert leaf.status == PlatformStatus.ACTIVE
    assert not leaf.active_at(world.time_ms)
    assert leaf.active_at(world.time_ms + world.genesis.parameters.governance_delay_ms)


def test_validators_change_by_themselves_after_the_delay() -> None:
    world = World(platforms=2)
    old = world.state.validators().validators
    kept = dataclasses.replace(old[0], power=11)
    new = ValidatorLeaf(key=signing_key("new validator").public, power=5, platform=world.platforms[0].id)
    changed = tuple(sorted((kept, new), key=lambda one: one.key))
    assert world.govern(ProposalKind.VALIDATOR_SET, validators=changed) == Result.OK
    before = world.app_hash
    assert world.block().validator_updates == ()
    assert world.app_hash == before
    world.pass_time(world.genesis.parameters.governance_delay_ms)
    outcome = world.block()
    expected = {ValidatorUpdate(kept.key, 11), ValidatorUpdate(new.key, 5), ValidatorUpdate(old[1].key, 0)}
    assert set(outcome.validator_updates) == expected
    assert outcome.app_hash != before
    assert world.state.validators().validators == changed
    again = world.block()
    assert (again.validator_updates, again.app_hash) == ((), outcome.app_hash)


@pytest.mark.parametrize("defect", ["none", "unordered", "twice", "unknown platform", "suspended platform"])
def test_validator_sets_that_cannot_be(defect: str) -> None:
    world = World()
    one, two = world.state.validators().validators[:2]
    sets = {
        "none": (),
        "unordered": (two, one),
        "twice": (one, one),
        "unknown platform": (dataclasses.replace(one, platform=Platform("stranger").id),),
        "suspended platform": (dataclasses.replace(one, platform=world.platforms[2].id),),
    }
    assert world.run(world.platform_call(world.platforms[2], Kind.PLATFORM_SUSPEND, PlatformSuspend())) == Result.OK
    code = world.govern(ProposalKind.VALIDATOR_SET, validators=sets[defect], voters=world.platforms[:2])
    assert code == Result.VALIDATORS


@pytest.mark.parametrize("kind", [ProposalKind.VALIDATOR_SET, ProposalKind.ENCLAVE_POLICY])
def test_of_two_changes_made_side_by_side_the_second_undoes_nothing(kind: ProposalKind) -> None:
    """Both are proposed before either is decided, so both were fine when they were looked at."""
    world = World()
    fields: list[dict[str, object]]
    if kind == ProposalKind.VALIDATOR_SET:
        leaf = world.state.validators()
        new = [ValidatorLeaf(key=signing_key(name).public, power=1, platform=world.platforms[0].id) for name in "ef"]
        fields = [{"validators": tuple(sorted((*leaf.validators, one), key=lambda one: one.key))} for one in new]
        replaces = sha256(leaf.encoded())
    else:
        policy = world.state.enclave_policy()
        builds = [Measurement(kind="software", measurement=sha256(name), effective_ms=0) for name in (b"e", b"f")]
        fields = [{"measurements": (*policy.measurements, one)} for one in builds]
        replaces = sha256(policy.encoded())
    first, second = (world.proposal(kind, **one, replaces=replaces) for one in fields)
    for proposal in (first, second):
        assert world.run(world.submit(world.platforms[0], proposal)) == Result.OK
        assert world.run(world.approve(world.platforms[1], proposal)) == Result.OK
    assert world.run(world.approve(world.platforms[2], first)) == Result.OK
    decided = (world.state.validators(), world.state.enclave_policy())
    assert world.run(world.approve(world.platforms[2], second)) == Result.PROPOSAL_OUTDATED
    assert (world.state.validators(), world.state.enclave_policy()) == decided
    world.pass_time(world.genesis.parameters.governance_delay_ms)
    world.block()
    assert world.run(world.approve(world.platforms[2], second)) == Result.PROPOSAL_OUTDATED


def test_a_scheme_changes_hands() -> None:
    world = World()
    one, two, _ = world.platforms
    scheme = SchemeLeaf(platform=one.id, sub_objects=("01",), effective_ms=0)
    assert world.govern(ProposalKind.SCHEME_ASSIGN, guid="org.old", scheme=scheme) == Result.OK
    moved = dataclasses.replace(scheme, platform=two.id)
    assert world.govern(ProposalKind.SCHEME_ASSIGN, guid="org.old", scheme=moved) == Result.OK
    leaf = world.state.get(Section.GOVERNANCE, scheme_key("org.old"), SchemeLeaf)
    assert leaf is not None
    assert leaf.platform == two.id
    assert leaf.effective_ms == world.time_ms + world.genesis.parameters.governance_delay_ms


def test_a_scheme_needs_a_known_platform() -> None:
    scheme = SchemeLeaf(platform=Platform("stranger").id, sub_objects=("01",), effective_ms=0)
    assert World().govern(ProposalKind.SCHEME_ASSIGN, guid="org.old", scheme=scheme) == Result.PLATFORM_UNKNOWN


@pytest.mark.parametrize(
    ("guid", "sub_objects"),
    [("org.onecode", ("01",)), ("org.old", ("00",)), ("org.old", ("٠١",)), ("org.old", ("01",) * 2)],
)
def test_schemes_that_cannot_be(guid: str, sub_objects: tuple[str, ...]) -> None:
    world = World()
    scheme = SchemeLeaf(platform=world.platforms[0].id, sub_objects=sub_objects, effective_ms=0)
    assert world.govern(ProposalKind.SCHEME_ASSIGN, guid=guid, scheme=scheme) == Result.SCHEME_SHAPE


def test_observers_come_and_go() -> None:
    world = World()
    observer = ObserverLeaf(key=signing_key("observer").public, effective_ms=0)
    assert world.govern(ProposalKind.OBSERVER_ADMIT, node_id="watch", observer=observer) == Result.OK
    leaf = world.state.get(Section.GOVERNANCE, observer_key("watch"), ObserverLeaf)
    assert leaf is not None
    assert leaf.effective_ms == world.time_ms + world.genesis.parameters.governance_delay_ms
    assert world.govern(ProposalKind.OBSERVER_ADMIT, node_id="watch") == Result.OK
    assert world.state.get(Section.GOVERNANCE, observer_key("watch"), ObserverLeaf) is None


def test_a_service_is_added_once_and_removed_at_once() -> None:
    world = World()
    assert world.govern(ProposalKind.SERVICE_SET, service="tea") == Result.OK
    assert world.govern(ProposalKind.SERVICE_SET, service="tea") == Result.SERVICE_STATE
    assert world.state.services().services_at(world.time_ms) == ("pay", "food")
    world.pass_time(world.genesis.parameters.governance_delay_ms)
    assert world.state.services().services_at(world.time_ms) == ("pay", "food", "tea")
    assert world.govern(ProposalKind.SERVICE_SET, service="pay", service_remove=True) == Result.OK
    leaf = world.state.services()
    assert leaf.services_at(world.time_ms) == ("tea", "food")
    assert leaf.pending == ()


def test_a_node_halts_at_rules_that_it_lacks() -> None:
    world = World()
    rules = RulesLeaf(version=1, next_version=2, next_height=world.height + 3 + RULES_LEAD_BLOCKS)
    assert world.govern(ProposalKind.RULES_ACTIVATE, rules=rules) == Result.OK
    while world.height + 1 < (rules.next_height or 0):
        world.block()
    with pytest.raises(Misconfigured) as caught:
        world.block()
    assert caught.value.code == "registry.rule_version"


@pytest.mark.parametrize(
    "rules",
    [
        RulesLeaf(version=1),
        RulesLeaf(version=1, next_version=2),
        RulesLeaf(version=2, next_version=3, next_height=9999),
        RulesLeaf(version=1, next_version=1, next_height=9999),
    ],
)
def test_rules_that_cannot_be_activated(rules: RulesLeaf) -> None:
    assert World().govern(ProposalKind.RULES_ACTIVATE, rules=rules) == Result.RULES


def test_rules_leave_operators_a_thousand_blocks() -> None:
    """Counted from the block that executes, not from the one that proposes."""
    world = World(platforms=2)
    one, two = world.platforms
    executed_at = world.height + 4
    soon, due = (
        world.proposal(
            ProposalKind.RULES_ACTIVATE, rules=RulesLeaf(version=1, next_version=2, next_height=executed_at + lead)
        )
        for lead in (RULES_LEAD_BLOCKS - 1, RULES_LEAD_BLOCKS)
    )
    assert [world.run(world.submit(one, soon)), world.run(world.submit(one, due))] == [Result.OK] * 2
    world.block()
    results = world.block(world.approve(two, soon), world.approve(two, due)).results
    assert world.height == executed_at
    assert [result.code for result in results] == [Result.RULES, Result.OK]
    assert world.state.rules().next_height == executed_at + RULES_LEAD_BLOCKS


def test_an_approval_counts_while_its_key_is_active() -> None:
    world = World(platforms=4)
    one, two, three, four = world.platforms
    proposal = world.proposal(ProposalKind.SERVICE_SET, service="tea")
    assert world.run(world.submit(one, proposal), world.approve(two, proposal)) == Result.OK
    assert world.run(world.approve(two, proposal)) == Result.APPROVED_ALREADY
    stolen, new = two.keys[Role.GOVERNANCE], signing_key("two/new governance")
    assert world.run(set_governance_key(world, two, new)) == Result.OK
    assert world.run(set_governance_key(world, two, stolen, KeyState.REVOKED)) == Result.OK
    assert world.run(world.approve(three, proposal)) == Result.OK  # two of four, not three
    assert world.state.services().pending == ()
    two.keys[Role.GOVERNANCE] = new
    assert world.run(world.approve(two, proposal)) == Result.OK  # in place of the one that fell
    assert len(world.state.services().pending) == 1
    leaf = world.state.get(Section.GOVERNANCE, proposal_key(proposal_id(CHAIN, proposal.encoded())), ProposalLeaf)
    assert leaf is not None
    assert sorted(given.key for given in leaf.approvals) == sorted(
        (one.keys[Role.GOVERNANCE].public, new.public, three.keys[Role.GOVERNANCE].public)
    )
    assert world.run(world.approve(four, proposal)) == Result.PROPOSAL_EXECUTED


@pytest.mark.parametrize("state", [KeyState.RETIRED, KeyState.REVOKED])
def test_the_proposers_approval_falls_with_its_key(state: KeyState) -> None:
    world = World(platforms=2)
    one, two = world.platforms
    proposal = world.proposal(ProposalKind.SERVICE_SET, service="tea")
    assert world.run(world.submit(one, proposal)) == Result.OK
    assert world.run(set_governance_key(world, one, one.keys[Role.GOVERNANCE], state)) == Result.OK
    assert world.run(world.approve(two, proposal)) == Result.OK
    assert world.state.services().pending == ()


def test_governance_freezes_within_the_pause() -> None:
    world = World()
    merchant = world.merchants[0]
    world.link(merchant, world.platforms[0])
    for _ in range(2):
        assert world.govern(ProposalKind.MERCHANT_FREEZE, merchant=merchant.id) == Result.OK
        assert world.entry(merchant).frozen_from_ms == world.time_ms
    stranger = bytes(20)
    assert world.govern(ProposalKind.MERCHANT_FREEZE, merchant=stranger) == Result.MERCHANT_UNKNOWN
