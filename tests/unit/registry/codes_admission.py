"""How each code of admission and of platforms is reached."""

from __future__ import annotations

from collections.abc import Callable

from onecode.proof.governance import HOUR_MS
from onecode.proof.leaves import KeyState, PlatformKey, PlatformNode, Role
from onecode.registry.admission import MERCHANT_OR_ROOT_A_BLOCK
from onecode.registry.results import Result
from onecode.registry.transactions import (
    Kind,
    MerchantOrderkeys,
    MerchantRotate,
    PlatformEpoch,
    PlatformKeys,
    PlatformNodes,
    PlatformSuspend,
    SignerKind,
    parse_transaction,
)
from unit.registry.world import Platform, World, signing_key

CODES: dict[Result, Callable[[World], Result]] = {}


def reaches(code: Result) -> Callable[[Callable[[World], Result]], Callable[[World], Result]]:
    def keep(scenario: Callable[[World], Result]) -> Callable[[World], Result]:
        assert code not in CODES
        CODES[code] = scenario
        return scenario

    return keep


def epoch(world: World, epoch_min: int = 1, **changes: object) -> bytes:
    return world.platform_call(world.platforms[0], Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=epoch_min), **changes)


@reaches(Result.OK)
def ok(world: World) -> Result:
    return world.run(epoch(world))


@reaches(Result.MALFORMED)
def malformed(world: World) -> Result:
    return world.run(epoch(world) + b"\x00")


@reaches(Result.SIGNERS)
def signers(world: World) -> Result:
    """A root signature where the transaction key's is due."""
    return world.run(epoch(world, signer_kind=SignerKind.ROOT, key=world.platforms[0].root))


@reaches(Result.SIGNATURE)
def signature(world: World) -> Result:
    raw = epoch(world)
    signed = parse_transaction(raw)[0].signatures[0].signature
    return world.run(raw.replace(signed, signed[:-1] + bytes((signed[-1] ^ 1,))))


@reaches(Result.SIGNER_UNKNOWN)
def signer_unknown(world: World) -> Result:
    stranger = Platform("stranger")
    return world.run(world.platform_call(stranger, Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=1)))


@reaches(Result.KEY_REFUSED)
def key_refused(world: World) -> Result:
    """The governance key is none for records."""
    return world.run(epoch(world, key=world.platforms[0].keys[Role.GOVERNANCE]))


@reaches(Result.QUOTA)
def quota(world: World) -> Result:
    merchant = world.merchants[0]
    world.link(merchant, world.platforms[0])
    calls = [
        world.merchant_call(merchant, Kind.MERCHANT_ORDERKEYS, MerchantOrderkeys(order_keys=()), ahead=ahead)
        for ahead in range(1, MERCHANT_OR_ROOT_A_BLOCK + 2)
    ]
    results = world.block(*calls).results
    assert [result.code for result in results[:-1]] == [Result.OK] * MERCHANT_OR_ROOT_A_BLOCK
    return results[-1].code


@reaches(Result.EXPIRED)
def expired(world: World) -> Result:
    return world.run(epoch(world, valid_until_ms=world.time_ms + 1000))


@reaches(Result.VALID_UNTIL_TOO_FAR)
def valid_until_too_far(world: World) -> Result:
    return world.run(epoch(world, valid_until_ms=world.time_ms + HOUR_MS + 1001))


@reaches(Result.NONCE)
def nonce(world: World) -> Result:
    assert world.run(epoch(world, nonce=7)) == Result.OK
    return world.run(epoch(world, 2, nonce=7))


@reaches(Result.PLATFORM_INACTIVE)
def platform_inactive(world: World) -> Result:
    platform = world.platforms[0]
    world.link(world.merchants[0], platform)
    assert world.run(suspend_call(world, platform)) == Result.OK
    return world.run(world.publish(platform, world.publication(world.merchants[0], 2)))


def suspend_call(world: World, platform: Platform) -> bytes:
    return world.platform_call(platform, Kind.PLATFORM_SUSPEND, PlatformSuspend())


@reaches(Result.KEYS_NOT_DISTINCT)
def keys_not_distinct(world: World) -> Result:
    merchant = world.merchants[0]
    world.link(merchant, world.platforms[0])
    payload = MerchantRotate(
        controller=merchant.recovery.public, possession=world.possession(merchant.id, merchant.recovery)
    )
    return world.run(world.merchant_call(merchant, Kind.MERCHANT_ROTATE, payload))


@reaches(Result.POSSESSION)
def possession(world: World) -> Result:
    merchant, key = world.merchants[0], signing_key("new controller")
    world.link(merchant, world.platforms[0])
    payload = MerchantRotate(controller=key.public, possession=world.possession(world.merchants[1].id, key))
    return world.run(world.merchant_call(merchant, Kind.MERCHANT_ROTATE, payload))


# --- platforms


def key(role: Role, name: str, state: KeyState = KeyState.ACTIVE, not_after_ms: int | None = None) -> PlatformKey:
    return PlatformKey(
        role=role, key=signing_key(name).public, state=state, height=0, since_ms=0, not_after_ms=not_after_ms
    )


def set_keys(world: World, *keys: PlatformKey) -> Result:
    return world.run(world.platform_call(world.platforms[0], Kind.PLATFORM_KEYS, PlatformKeys(keys=keys)))


@reaches(Result.KEY_STATE)
def key_state(world: World) -> Result:
    """A retired key does not come back."""
    assert set_keys(world, key(Role.RECORD, "new")) == Result.OK
    assert set_keys(world, key(Role.RECORD, "new", KeyState.RETIRED)) == Result.OK
    return set_keys(world, key(Role.RECORD, "new"))


@reaches(Result.KEY_EXPIRY)
def key_expiry(world: World) -> Result:
    return set_keys(world, key(Role.ANCHOR, "new", not_after_ms=world.time_ms + 91 * 24 * HOUR_MS))


@reaches(Result.KEY_REUSED)
def key_reused(world: World) -> Result:
    return set_keys(world, key(Role.RECORD, "platform-0/TRANSACTION"))


@reaches(Result.KEYS_FULL)
def keys_full(world: World) -> Result:
    return set_keys(world, *[key(Role.DEVICE, f"device {index}") for index in range(58)])


@reaches(Result.EPOCH_NOT_RAISED)
def epoch_not_raised(world: World) -> Result:
    assert world.run(epoch(world, 3)) == Result.OK
    return world.run(epoch(world, 3))


@reaches(Result.NODES_TWICE)
def nodes_twice(world: World) -> Result:
    nodes = tuple(PlatformNode(node_id="n1", url=url) for url in ("https://a", "https://b"))
    return world.run(world.platform_call(world.platforms[0], Kind.PLATFORM_NODES, PlatformNodes(nodes=nodes)))


@reaches(Result.ALREADY_SUSPENDED)
def already_suspended(world: World) -> Result:
    assert world.run(suspend_call(world, world.platforms[0])) == Result.OK
    return world.run(suspend_call(world, world.platforms[0]))
