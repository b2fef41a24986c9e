"""How each code of merchants, freezes, aliases and enclaves is reached."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

from onecode.proof.governance import DAY_MS, DEFAULT_PARAMETERS, HOUR_MS, ProposalKind, SchemeLeaf
from onecode.proof.leaves import Role, alias_key
from onecode.registry.results import Result
from onecode.registry.transactions import (
    AliasBind,
    AliasRelease,
    EnclaveAttest,
    EnclaveRevoke,
    Kind,
    MerchantFreeze,
    MerchantRecoverCancel,
    Purpose,
)
from unit.registry.world import BUILD, Merchant, Platform, World, signing_key

CODES: dict[Result, Callable[[World], Result]] = {}
GUID = "org.example.old"


def reaches(code: Result) -> Callable[[Callable[[World], Result]], Callable[[World], Result]]:
    def keep(scenario: Callable[[World], Result]) -> Callable[[World], Result]:
        assert code not in CODES
        CODES[code] = scenario
        return scenario

    return keep


@reaches(Result.NOTHING_PENDING)
def nothing_pending(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    call = world.merchant_call(world.merchants[0], Kind.MERCHANT_RECOVER_CANCEL, MerchantRecoverCancel(), recovery=True)
    return world.run(call)


def freeze(world: World, platform: Platform, merchant: Merchant) -> Result:
    return world.run(world.platform_call(platform, Kind.MERCHANT_FREEZE, MerchantFreeze(merchant=merchant.id)))


@reaches(Result.FREEZE_VOTED)
def freeze_voted(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    assert freeze(world, world.platforms[0], world.merchants[0]) == Result.OK
    return freeze(world, world.platforms[0], world.merchants[0])


@reaches(Result.FREEZE_PAUSE)
def freeze_pause(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    for platform in world.platforms[:2]:
        assert freeze(world, platform, world.merchants[0]) == Result.OK
    world.pass_time(29 * DAY_MS)
    return freeze(world, world.platforms[2], world.merchants[0])


@reaches(Result.FREEZES_A_DAY)
def freezes_a_day(_world: World) -> Result:
    world = World(parameters=dataclasses.replace(DEFAULT_PARAMETERS, freezes_a_day=2))
    for merchant in world.merchants[:3]:
        world.link(merchant, world.platforms[0])
    for merchant in world.merchants[:2]:
        assert freeze(world, world.platforms[0], merchant) == Result.OK
    return freeze(world, world.platforms[0], world.merchants[2])


# --- aliases


def assign(world: World, *, wait_ms: int = HOUR_MS) -> None:
    scheme = SchemeLeaf(platform=world.platforms[0].id, sub_objects=("01", "03"), effective_ms=0)
    voters = world.platforms[:3]
    assert world.govern(ProposalKind.SCHEME_ASSIGN, voters=voters, guid=GUID, scheme=scheme) == Result.OK
    world.pass_time(wait_ms)


def bind_call(
    world: World, merchant: Merchant, values: tuple[str, ...] = ("shop", "1"), *, platform: int = 0, **changes: object
) -> bytes:
    signer = world.platforms[platform]
    consent = world.consent(
        merchant, signer, **({"purpose": Purpose.ALIAS, "service": None, "alias": alias_key(GUID, values)} | changes)
    )
    payload = AliasBind(guid=GUID, values=values, merchant=merchant.id, consent=consent)
    return world.platform_call(signer, Kind.ALIAS_BIND, payload)


def release_call(
    world: World, merchant: Merchant, values: tuple[str, ...] = ("shop", "1"), *, recovery: bool = False
) -> bytes:
    payload = AliasRelease(guid=GUID, values=values)
    return world.merchant_call(merchant, Kind.ALIAS_RELEASE, payload, recovery=recovery)


@reaches(Result.SCHEME_UNASSIGNED)
def scheme_unassigned(world: World) -> Result:
    """Assigned, but the governance delay has not passed."""
    world.link(world.merchants[0], world.platforms[0])
    assign(world, wait_ms=0)
    return world.run(bind_call(world, world.merchants[0]))


@reaches(Result.SCHEME_PLATFORM)
def scheme_platform(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    assign(world)
    return world.run(bind_call(world, world.merchants[0], platform=1))


@reaches(Result.ALIAS_SHAPE)
def alias_shape(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    assign(world)
    return world.run(bind_call(world, world.merchants[0], ("shop",)))


@reaches(Result.ALIAS_BOUND)
def alias_bound(world: World) -> Result:
    for merchant in world.merchants[:2]:
        world.link(merchant, world.platforms[0])
    assign(world)
    assert world.run(bind_call(world, world.merchants[0])) == Result.OK
    return world.run(bind_call(world, world.merchants[1]))


@reaches(Result.ALIASES_FULL)
def aliases_full(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    assign(world)
    calls = [bind_call(world, world.merchants[0], ("shop", str(index))) for index in range(17)]
    codes = [result.code for result in world.block(*calls).results]
    assert codes[:-1] == [Result.OK] * 16
    return codes[-1]


@reaches(Result.ALIAS_UNKNOWN)
def alias_unknown(world: World) -> Result:
    """Another merchant's alias."""
    for merchant in world.merchants[:2]:
        world.link(merchant, world.platforms[0])
    assign(world)
    assert world.run(bind_call(world, world.merchants[0])) == Result.OK
    return world.run(release_call(world, world.merchants[1]))


# --- enclaves


def attest_call(world: World, platform: Platform, enclave: str = "enclave", **changes: object) -> bytes:
    payload = EnclaveAttest(
        query_key=signing_key(enclave).public,
        node_id="node",
        kind="software",
        measurement=BUILD,
        evidence_hash=hashlib.sha256(b"evidence").digest(),
        expires_ms=world.time_ms + DAY_MS,
    )
    return world.platform_call(platform, Kind.ENCLAVE_ATTEST, dataclasses.replace(payload, **changes))


def revoke_call(world: World, platform: Platform, enclave: str = "enclave") -> bytes:
    return world.platform_call(platform, Kind.ENCLAVE_REVOKE, EnclaveRevoke(query_key=signing_key(enclave).public))


@reaches(Result.MEASUREMENT_REFUSED)
def measurement_refused(world: World) -> Result:
    return world.run(attest_call(world, world.platforms[0], kind="tpm"))


@reaches(Result.ATTESTATION_EXPIRY)
def attestation_expiry(world: World) -> Result:
    return world.run(attest_call(world, world.platforms[0], expires_ms=world.time_ms + DAY_MS + 1001))


@reaches(Result.ATTESTATION_UNKNOWN)
def attestation_unknown(world: World) -> Result:
    assert world.run(attest_call(world, world.platforms[0])) == Result.OK
    return world.run(revoke_call(world, world.platforms[1]))


def wrong_role(world: World) -> Result:
    """The transaction key attests nothing (a second way to `KEY_REFUSED`)."""
    key = world.platforms[0].keys[Role.TRANSACTION]
    payload = EnclaveRevoke(query_key=signing_key("enclave").public)
    return world.run(world.platform_call(world.platforms[0], Kind.ENCLAVE_REVOKE, payload, key=key))
