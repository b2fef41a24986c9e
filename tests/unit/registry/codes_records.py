"""How each code of records and consents is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from onecode.code.identity import merchant_id, recovery_hash
from onecode.proof.governance import DAY_MS, ProposalKind
from onecode.registry.results import Result
from onecode.registry.transactions import Birth, Kind, MerchantRecover, MerchantUnlink, PlatformEpoch, SignedConsent
from unit.registry.world import PAY, Merchant, Platform, World, signing_key

CODES: dict[Result, Callable[[World], Result]] = {}


def reaches(code: Result) -> Callable[[Callable[[World], Result]], Callable[[World], Result]]:
    def keep(scenario: Callable[[World], Result]) -> Callable[[World], Result]:
        assert code not in CODES
        CODES[code] = scenario
        return scenario

    return keep


def first_with(world: World, **changes: object) -> Result:
    """The item's code of a first publication with one thing changed."""
    return world.item_code(world.platforms[0], world.first(world.merchants[0], world.platforms[0], **changes))


def first_with_consent(world: World, **changes: object) -> Result:
    return first_with(world, consent=world.consent(world.merchants[0], world.platforms[0], **changes))


@reaches(Result.MERCHANT_UNKNOWN)
def merchant_unknown(world: World) -> Result:
    return first_with(world, birth=None)


@reaches(Result.MERCHANT_FROZEN)
def merchant_frozen(world: World) -> Result:
    merchant = world.merchants[0]
    world.link(merchant, world.platforms[0])
    assert world.govern(ProposalKind.MERCHANT_FREEZE, merchant=merchant.id) == Result.OK
    return world.item_code(world.platforms[1], world.first(merchant, world.platforms[1]))


@reaches(Result.ITEMS_FAILED)
def items_failed(world: World) -> Result:
    item = world.publication(world.merchants[0])
    return world.run(world.publish(world.platforms[0], item, item))


@reaches(Result.SERVICE_UNKNOWN)
def service_unknown(world: World) -> Result:
    return first_with(world, service="tea")


@reaches(Result.EPOCH_TOO_OLD)
def epoch_too_old(world: World) -> Result:
    call = world.platform_call(world.platforms[0], Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=2))
    assert world.run(call) == Result.OK
    return first_with(world, epoch=1)


@reaches(Result.AUDIENCE_UNKNOWN)
def audience_unknown(world: World) -> Result:
    return first_with(world, audience=(Platform("stranger").id,))


@reaches(Result.BIRTH_MISMATCH)
def birth_mismatch(world: World) -> Result:
    return first_with(world, birth=world.merchants[1].birth)


@reaches(Result.VERSION)
def version(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    return world.item_code(world.platforms[0], world.publication(world.merchants[0], 3))


@reaches(Result.LINKS_FULL)
def links_full(world: World) -> Result:
    big = World(platforms=33)
    items = []
    for platform in big.platforms:
        items.append(big.publish(platform, big.first(big.merchants[0], platform)))
    codes = [result.item_codes[0] for result in big.block(*items).results]
    assert codes[:-1] == [Result.OK] * 32
    return codes[-1]


@reaches(Result.SERVICES_FULL)
def services_full(world: World) -> Result:
    merchant, platform = world.merchants[0], world.platforms[0]
    names = [f"service-{index}" for index in range(17)]
    for name in names:
        assert world.govern(ProposalKind.SERVICE_SET, service=name) == Result.OK
    world.pass_time(DAY_MS)
    codes = [
        world.item_code(
            platform,
            world.first(merchant, platform, service=name, consent=world.consent(merchant, platform, service=name)),
        )
        for name in names
    ]
    assert codes[:-1] == [Result.OK] * 16
    return codes[-1]


@reaches(Result.LINK_UNKNOWN)
def link_unknown(world: World) -> Result:
    world.link(world.merchants[0], world.platforms[0])
    return world.result(world.withdraw(world.platforms[1], world.merchants[0], 1)).item_codes[0]


@reaches(Result.CONSENT_MISSING)
def consent_missing(world: World) -> Result:
    return first_with(world, consent=None)


@reaches(Result.CONSENT_MALFORMED)
def consent_malformed(world: World) -> Result:
    return first_with(world, consent=SignedConsent(body=b"\x00", signature=bytes(64)))


@reaches(Result.CONSENT_MISMATCH)
def consent_mismatch(world: World) -> Result:
    return first_with_consent(world, platform=world.platforms[1].id)


@reaches(Result.CONSENT_EXPIRED)
def consent_expired(world: World) -> Result:
    return first_with_consent(world, expires_ms=world.time_ms + 1000)


@reaches(Result.CONSENT_TOO_LONG)
def consent_too_long(world: World) -> Result:
    return first_with_consent(world, expires_ms=world.time_ms + 30 * DAY_MS + 1001)


@reaches(Result.CONSENT_SERIAL)
def consent_serial(world: World) -> Result:
    """A consent from before an unlink."""
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    old = world.consent(merchant, platform)
    unlink = world.merchant_call(merchant, Kind.MERCHANT_UNLINK, MerchantUnlink(platform=platform.id, service=PAY))
    assert world.run(unlink) == Result.OK
    return world.item_code(platform, world.publication(merchant, 2, consent=old))


@reaches(Result.CONSENT_SIGNER)
def consent_signer(world: World) -> Result:
    stranger = Merchant("stranger")
    consent = world.consent(stranger, world.platforms[0], recovery=True, merchant=world.merchants[0].id)
    return first_with(world, consent=consent)


@reaches(Result.CONSENT_SIGNATURE)
def consent_signature(world: World) -> Result:
    consent = world.consent(world.merchants[0], world.platforms[0])
    return first_with(world, consent=dataclasses.replace(consent, signature=bytes(64)))


@reaches(Result.RECOVERY_PENDING)
def recovery_pending(world: World) -> Result:
    """A consent by the controller while a recovery is pending."""
    merchant, new = world.merchants[0], signing_key("new controller")
    world.link(merchant, world.platforms[0])
    payload = MerchantRecover(controller=new.public, possession=world.possession(merchant.id, new))
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_RECOVER, payload, recovery=True)) == Result.OK
    return world.item_code(world.platforms[1], world.first(merchant, world.platforms[1]))


def same_key_twice(world: World) -> Result:
    """Birth with one key as controller and recovery key (a second way to `KEYS_NOT_DISTINCT`)."""
    key = signing_key("only one")
    birth = Birth(controller=key.public, recovery_hash=recovery_hash(key.public))
    return first_with(world, merchant=merchant_id(birth.controller, birth.recovery_hash), birth=birth)
