"""How each code of governance is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from onecode.proof.governance import (
    DAY_MS,
    Measurement,
    Proposal,
    ProposalKind,
    RulesLeaf,
    SchemeLeaf,
    ValidatorLeaf,
)
from onecode.proof.leaves import Role
from onecode.registry import counters, proposals
from onecode.registry.results import Result
from onecode.registry.transactions import Kind, ProposalSubmit
from onecode.wire import sha256
from unit.registry.world import BUILD, Platform, World, signing_key

CODES: dict[Result, Callable[[World], Result]] = {}


def reaches(code: Result) -> Callable[[Callable[[World], Result]], Callable[[World], Result]]:
    def keep(scenario: Callable[[World], Result]) -> Callable[[World], Result]:
        assert code not in CODES
        CODES[code] = scenario
        return scenario

    return keep


def suspension(world: World, **changes: object) -> Proposal:
    return world.proposal(ProposalKind.PLATFORM_SUSPEND, platform=world.platforms[2].id, **changes)


@reaches(Result.PROPOSAL_MALFORMED)
def proposal_malformed(world: World) -> Result:
    """A field of another kind beside its own."""
    return world.run(world.submit(world.platforms[0], suspension(world, service="tea")))


@reaches(Result.PROPOSAL_EXPIRY)
def proposal_expiry(world: World) -> Result:
    late = suspension(world, expires_ms=world.time_ms + 7 * DAY_MS + 1001)
    return world.run(world.submit(world.platforms[0], late))


@reaches(Result.PROPOSAL_EXISTS)
def proposal_exists(world: World) -> Result:
    proposal = suspension(world)
    assert world.run(world.submit(world.platforms[0], proposal)) == Result.OK
    return world.run(world.submit(world.platforms[1], proposal))


@reaches(Result.PROPOSALS_A_DAY)
def proposals_a_day(world: World) -> Result:
    calls = [world.submit(world.platforms[0], suspension(world)) for _ in range(counters.PROPOSALS_A_DAY + 1)]
    codes = [result.code for result in world.block(*calls).results]
    assert set(codes[:-1]) == {Result.OK}
    return codes[-1]


@reaches(Result.PROPOSAL_UNKNOWN)
def proposal_unknown(world: World) -> Result:
    return world.run(world.approve(world.platforms[0], suspension(world)))


@reaches(Result.PROPOSAL_EXPIRED)
def proposal_expired(world: World) -> Result:
    proposal = suspension(world)
    assert world.run(world.submit(world.platforms[0], proposal)) == Result.OK
    world.pass_time(DAY_MS)
    return world.run(world.approve(world.platforms[1], proposal))


@reaches(Result.PROPOSAL_EXECUTED)
def proposal_executed(_world: World) -> Result:
    world = World(platforms=4)
    proposal = suspension(world)
    codes = [world.run(world.submit(world.platforms[0], proposal))]
    codes += [world.run(world.approve(platform, proposal)) for platform in world.platforms[1:3]]
    assert codes == [Result.OK] * 3
    return world.run(world.approve(world.platforms[3], proposal))


@reaches(Result.APPROVED_ALREADY)
def approved_already(world: World) -> Result:
    proposal = suspension(world)
    assert world.run(world.submit(world.platforms[0], proposal)) == Result.OK
    return world.run(world.approve(world.platforms[0], proposal))


@reaches(Result.PLATFORM_EXISTS)
def platform_exists(world: World) -> Result:
    return world.govern(ProposalKind.PLATFORM_ADMIT, admission=world.platforms[0].admission())


@reaches(Result.PLATFORM_UNKNOWN)
def platform_unknown(world: World) -> Result:
    return world.govern(ProposalKind.PLATFORM_SUSPEND, platform=Platform("stranger").id)


@reaches(Result.PLATFORM_STATUS)
def platform_status(world: World) -> Result:
    return world.govern(ProposalKind.PLATFORM_RESTORE, platform=world.platforms[2].id)


@reaches(Result.PLATFORMS_FULL)
def platforms_full(world: World) -> Result:
    """With the limit lowered to the platforms of genesis: a thousand take too long to admit."""
    limit, proposals.PLATFORMS_MAX = proposals.PLATFORMS_MAX, len(world.platforms)
    try:
        return world.govern(ProposalKind.PLATFORM_ADMIT, admission=Platform("late").admission())
    finally:
        proposals.PLATFORMS_MAX = limit


@reaches(Result.ADMISSION_KEYS)
def admission_keys(world: World) -> Result:
    admission = Platform("new").admission()
    keys = tuple(key for key in admission.keys if key.role != Role.RECEIPT)
    return world.govern(ProposalKind.PLATFORM_ADMIT, admission=dataclasses.replace(admission, keys=keys))


@reaches(Result.VALIDATORS)
def validators(world: World) -> Result:
    powerless = ValidatorLeaf(key=signing_key("v").public, power=0, platform=world.platforms[0].id)
    return world.govern(ProposalKind.VALIDATOR_SET, validators=(powerless,))


@reaches(Result.MEASUREMENTS)
def measurements(world: World) -> Result:
    build = Measurement(kind="software", measurement=BUILD, effective_ms=0)
    again = Measurement(kind="software", measurement=BUILD, effective_ms=1)
    return world.govern(ProposalKind.ENCLAVE_POLICY, measurements=(build, again))


@reaches(Result.PROPOSAL_OUTDATED)
def proposal_outdated(world: World) -> Result:
    """Two changes made from the same set: the second would undo the first."""
    old = world.state.validators()
    replaces = sha256(old.encoded())
    one, other = (
        tuple(sorted((*old.validators, _validator(name, world)), key=lambda one: one.key)) for name in ("e", "f")
    )
    assert world.govern(ProposalKind.VALIDATOR_SET, validators=one, replaces=replaces) == Result.OK
    return world.govern(ProposalKind.VALIDATOR_SET, validators=other, replaces=replaces)


def _validator(name: str, world: World) -> ValidatorLeaf:
    return ValidatorLeaf(key=signing_key(name).public, power=1, platform=world.platforms[0].id)


@reaches(Result.SERVICE_STATE)
def service_state(world: World) -> Result:
    return world.govern(ProposalKind.SERVICE_SET, service="tea", service_remove=True)


@reaches(Result.SERVICES_LIST_FULL)
def services_list_full(_world: World) -> Result:
    world = World(platforms=1)
    for index in range(proposals.SERVICES_PENDING_MAX):
        assert world.govern(ProposalKind.SERVICE_SET, service=f"s{index}") == Result.OK
    return world.govern(ProposalKind.SERVICE_SET, service="one more")


@reaches(Result.SCHEME_SHAPE)
def scheme_shape(world: World) -> Result:
    scheme = SchemeLeaf(platform=world.platforms[0].id, sub_objects=("01",), effective_ms=0)
    assert world.govern(ProposalKind.SCHEME_ASSIGN, guid="org.old", scheme=scheme) == Result.OK
    changed = dataclasses.replace(scheme, sub_objects=("02",))
    return world.govern(ProposalKind.SCHEME_ASSIGN, guid="org.old", scheme=changed)


@reaches(Result.OBSERVER_UNKNOWN)
def observer_unknown(world: World) -> Result:
    return world.govern(ProposalKind.OBSERVER_ADMIT, node_id="nobody")


@reaches(Result.RULES)
def rules(world: World) -> Result:
    past = RulesLeaf(version=1, next_version=2, next_height=1)
    assert world.run(world.submit(world.platforms[0], suspension(world))) == Result.OK
    return world.govern(ProposalKind.RULES_ACTIVATE, rules=past)


def garbage(world: World) -> Result:
    """A proposal that does not parse (a second way to `PROPOSAL_MALFORMED`)."""
    return world.run(world.platform_call(world.platforms[0], Kind.PROPOSAL_SUBMIT, ProposalSubmit(proposal=b"\xff")))
