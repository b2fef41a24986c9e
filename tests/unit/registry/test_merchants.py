"""What a merchant's two keys do, and what they keep each other from doing."""

from __future__ import annotations

import dataclasses

import pytest

from onecode.code.identity import recovery_hash
from onecode.proof.governance import DAY_MS
from onecode.registry import counters
from onecode.registry.events import MerchantRecoverStarted, MerchantUnlinked
from onecode.registry.results import Result
from onecode.registry.transactions import (
    Kind,
    MerchantOrderkeys,
    MerchantRecover,
    MerchantRecoverCancel,
    MerchantRecoverykey,
    MerchantRotate,
    MerchantUnlink,
    PlatformSuspend,
    parse_transaction,
)
from onecode.wire import SigningKey
from unit.registry.codes_merchants import assign, bind_call, freeze, release_call
from unit.registry.world import PAY, Merchant, World, signing_key


@pytest.fixture
def world() -> World:
    world = World()
    world.link(world.merchants[0], world.platforms[0])
    return world


def order_keys_call(world: World, merchant: Merchant, *names: str, **changes: object) -> bytes:
    keys = tuple(sorted(signing_key(name).public for name in names))
    return world.merchant_call(merchant, Kind.MERCHANT_ORDERKEYS, MerchantOrderkeys(order_keys=keys), **changes)


def recover_call(world: World, merchant: Merchant, new: SigningKey) -> bytes:
    payload = MerchantRecover(controller=new.public, possession=world.possession(merchant.id, new))
    return world.merchant_call(merchant, Kind.MERCHANT_RECOVER, payload, recovery=True)


def test_unlink_by_either_key(world: World) -> None:
    merchant, platform = world.merchants[0], world.platforms[0]
    for recovery, version in ((False, 1), (True, 2)):
        payload = MerchantUnlink(platform=platform.id, service=PAY)
        result = world.result(world.merchant_call(merchant, Kind.MERCHANT_UNLINK, payload, recovery=recovery))
        assert result.code == Result.OK
        assert result.events == (MerchantUnlinked(merchant.id, platform.id, PAY, version),)
        assert world.entry(merchant).consent_serial == version
        assert world.floor(merchant, platform) == version
        world.link(merchant, platform, version + 1)


def test_rotate_raises_the_serial_and_ends_the_old_key(world: World) -> None:
    merchant, new = world.merchants[0], signing_key("rotated")
    consent = world.consent(merchant, world.platforms[1])
    payload = MerchantRotate(controller=new.public, possession=world.possession(merchant.id, new))
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_ROTATE, payload)) == Result.OK
    assert world.entry(merchant).controller == new.public
    late = world.publication(merchant, 1, consent=consent)
    assert world.item_code(world.platforms[1], late) == Result.CONSENT_SERIAL
    assert world.run(order_keys_call(world, merchant, "till")) == Result.KEY_REFUSED
    assert world.run(order_keys_call(world, merchant, "till", key=new)) == Result.OK


def test_rotate_to_the_same_key_is_refused(world: World) -> None:
    merchant = world.merchants[0]
    payload = MerchantRotate(
        controller=merchant.controller.public, possession=world.possession(merchant.id, merchant.controller)
    )
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_ROTATE, payload)) == Result.KEYS_NOT_DISTINCT


def test_recovery_takes_effect_by_time_alone(world: World) -> None:
    merchant, new = world.merchants[0], signing_key("recovered")
    assert world.run(order_keys_call(world, merchant, "till")) == Result.OK
    result = world.result(recover_call(world, merchant, new))
    effective_ms = world.time_ms + DAY_MS
    assert result.events == (MerchantRecoverStarted(merchant.id, effective_ms, (world.platforms[0].id,)),)

    pending = world.entry(merchant)
    assert pending.controller == merchant.controller.public
    assert pending.order_keys_at(world.time_ms) == ()
    assert world.run(order_keys_call(world, merchant)) == Result.RECOVERY_PENDING
    assert world.run(order_keys_call(world, merchant, "till", recovery=True)) == Result.OK

    raw_hash = world.app_hash
    world.time_ms = effective_ms
    entry = world.entry(merchant)
    assert (entry.controller, entry.consent_serial, entry.order_keys, entry.recovery) == (new.public, 1, (), None)
    assert world.block().app_hash == raw_hash
    assert world.run(order_keys_call(world, merchant, "till")) == Result.KEY_REFUSED
    assert world.run(order_keys_call(world, merchant, "till", key=new)) == Result.OK
    assert world.entry(merchant).order_keys_at(world.time_ms) == (signing_key("till").public,)
    assert world.entry(merchant).consent_serial == 1


def test_a_publication_settles_an_effective_recovery(world: World) -> None:
    merchant = world.merchants[0]
    assert world.run(recover_call(world, merchant, signing_key("recovered"))) == Result.OK
    world.pass_time(DAY_MS)
    assert world.item_code(world.platforms[0], world.publication(merchant, 2)) == Result.OK
    stored = world.state.merchant(merchant.id, 0)
    assert stored is not None
    assert (stored.recovery, stored.consent_serial) == (None, 1)


def test_consents_from_before_a_recovery_are_dead(world: World) -> None:
    merchant, platform = world.merchants[0], world.platforms[1]
    by_controller = world.consent(merchant, platform, expires_ms=world.time_ms + 20 * DAY_MS)
    by_recovery = world.consent(merchant, platform, recovery=True, expires_ms=world.time_ms + 20 * DAY_MS)
    assert world.run(recover_call(world, merchant, signing_key("recovered"))) == Result.OK
    item = world.publication(merchant, 1, consent=by_controller)
    assert world.item_code(platform, item) == Result.RECOVERY_PENDING
    world.pass_time(DAY_MS)
    for consent in (by_controller, by_recovery):
        assert world.item_code(platform, dataclasses.replace(item, consent=consent)) == Result.CONSENT_SERIAL


def test_only_the_recovery_key_cancels(world: World) -> None:
    merchant = world.merchants[0]
    assert world.run(recover_call(world, merchant, signing_key("recovered"))) == Result.OK
    for recovery, code in ((False, Result.SIGNERS), (True, Result.OK), (True, Result.NOTHING_PENDING)):
        call = world.merchant_call(merchant, Kind.MERCHANT_RECOVER_CANCEL, MerchantRecoverCancel(), recovery=recovery)
        assert world.run(call) == code
    assert world.run(order_keys_call(world, merchant, "till")) == Result.OK
    world.pass_time(2 * DAY_MS)
    assert world.entry(merchant).controller == merchant.controller.public


def test_an_effective_recovery_cannot_be_cancelled(world: World) -> None:
    merchant, new = world.merchants[0], signing_key("recovered")
    assert world.run(recover_call(world, merchant, new)) == Result.OK
    world.pass_time(DAY_MS)
    call = world.merchant_call(merchant, Kind.MERCHANT_RECOVER_CANCEL, MerchantRecoverCancel(), recovery=True)
    assert world.run(call) == Result.NOTHING_PENDING
    assert world.entry(merchant).controller == new.public


def test_a_second_recovery_begins_the_delay_anew(world: World) -> None:
    merchant, second = world.merchants[0], signing_key("second")
    assert world.run(recover_call(world, merchant, signing_key("first"))) == Result.OK
    world.pass_time(DAY_MS // 2)
    assert world.run(recover_call(world, merchant, second)) == Result.OK
    world.pass_time(DAY_MS - 1)
    assert world.entry(merchant).controller == merchant.controller.public
    world.pass_time(1)
    assert world.entry(merchant).controller == second.public


def test_the_recovery_key_is_replaced_by_both_and_drops_a_recovery(world: World) -> None:
    merchant, new = world.merchants[0], signing_key("new recovery")
    assert world.run(recover_call(world, merchant, signing_key("recovered"))) == Result.OK
    payload = MerchantRecoverykey(recovery_hash=recovery_hash(new.public))
    alone = world.merchant_call(merchant, Kind.MERCHANT_RECOVERYKEY, payload, recovery=True)
    assert world.run(alone) == Result.SIGNERS
    assert world.run(world.both_keys_call(merchant, Kind.MERCHANT_RECOVERYKEY, payload)) == Result.OK
    entry = world.entry(merchant)
    assert (entry.recovery_hash, entry.recovery) == (recovery_hash(new.public), None)
    assert world.run(recover_call(world, merchant, signing_key("again"))) == Result.KEY_REFUSED


def test_both_keys_are_needed_for_a_new_recovery_key(world: World) -> None:
    """Two signatures of which one is of a stranger."""
    merchant, stranger = world.merchants[0], signing_key("stranger")
    payload = MerchantRecoverykey(recovery_hash=recovery_hash(stranger.public))
    impostor = Merchant(merchant.name)
    impostor.controller = stranger
    assert world.run(world.both_keys_call(impostor, Kind.MERCHANT_RECOVERYKEY, payload)) == Result.KEY_REFUSED


def test_a_thief_of_the_controller_key_cannot_use_up_the_recovery_keys_nonces(world: World) -> None:
    """The thief fills each block up to its quota; a recovery signed at any time before still counts."""
    merchant, new = world.merchants[0], signing_key("recovered")
    recover = recover_call(world, merchant, new)
    for _ in range(3):
        world.block(*[order_keys_call(world, merchant, "thief", ahead=ahead) for ahead in range(1, 10)])
    assert world.run(recover) == Result.OK
    assert world.entry(merchant).recovery is not None


def test_a_failed_transaction_uses_its_nonce_and_cannot_succeed_later(world: World) -> None:
    """An unlink that found no link must not strike a link that is made afterwards."""
    merchant, platform = world.merchants[0], world.platforms[1]
    payload = MerchantUnlink(platform=platform.id, service=PAY)
    for recovery in (False, True):
        call = world.merchant_call(merchant, Kind.MERCHANT_UNLINK, payload, recovery=recovery)
        assert world.run(call) == Result.LINK_UNKNOWN
        assert world.run(call) == Result.NONCE
    world.link(merchant, platform)
    assert world.run(call) == Result.NONCE


def test_a_failed_transaction_changes_nothing_but_its_nonce(world: World) -> None:
    merchant = world.merchants[0]
    before = world.entry(merchant)
    payload = MerchantUnlink(platform=world.platforms[1].id, service=PAY)
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_UNLINK, payload)) == Result.LINK_UNKNOWN
    assert world.entry(merchant) == dataclasses.replace(before, nonce=before.nonce + 1)


def test_what_was_not_admitted_changes_nothing_at_all(world: World) -> None:
    merchant, before = world.merchants[0], world.app_hash
    stranger = signing_key("stranger")
    assert world.run(order_keys_call(world, merchant, "till", key=stranger)) == Result.KEY_REFUSED
    assert world.run(order_keys_call(world, merchant, "till", ahead=2)) == Result.NONCE
    assert world.app_hash == before


def test_nonces_of_platforms_leave_gaps_and_never_go_back(world: World) -> None:
    platform, merchant = world.platforms[0], world.merchants[0]
    for nonce, version, code in (
        (100, 2, Result.OK),
        (99, 3, Result.NONCE),
        (100, 3, Result.NONCE),
        (999, 3, Result.OK),
    ):
        assert world.run(world.publish(platform, world.publication(merchant, version), nonce=nonce)) == code
    key = parse_transaction(world.history[-1])[0].signatures[0].key
    assert counters.last_nonce(world.state, platform.id, key) == 999


def test_freeze_needs_k_platforms_and_one_link(world: World) -> None:
    merchant, (linked, two, three) = world.merchants[0], world.platforms
    for platform in (two, three):
        assert freeze(world, platform, merchant) == Result.OK
    assert not world.entry(merchant).frozen_at(world.time_ms)  # nobody of them has a link
    assert freeze(world, linked, merchant) == Result.OK
    entry = world.entry(merchant)
    assert entry.frozen_at(world.time_ms)
    assert entry.frozen_until_ms == world.time_ms + 72 * 3600 * 1000
    assert not entry.frozen_at(entry.frozen_until_ms)


def test_the_vote_of_a_platform_that_was_suspended_since_does_not_count(world: World) -> None:
    merchant, (linked, two, three) = world.merchants[0], world.platforms
    assert freeze(world, two, merchant) == Result.OK
    assert world.run(world.platform_call(two, Kind.PLATFORM_SUSPEND, PlatformSuspend())) == Result.OK
    assert freeze(world, linked, merchant) == Result.OK
    assert not world.entry(merchant).frozen_at(world.time_ms)
    assert freeze(world, three, merchant) == Result.OK
    assert world.entry(merchant).frozen_at(world.time_ms)


def test_freeze_votes_expire(world: World) -> None:
    merchant, (linked, two, _) = world.merchants[0], world.platforms
    assert freeze(world, linked, merchant) == Result.OK
    world.pass_time(world.genesis.parameters.freeze_ms)
    assert freeze(world, two, merchant) == Result.OK
    assert not world.entry(merchant).frozen_at(world.time_ms)
    assert freeze(world, linked, merchant) == Result.OK
    assert world.entry(merchant).frozen_at(world.time_ms)


def test_a_merchant_is_frozen_again_after_the_pause(world: World) -> None:
    merchant = world.merchants[0]
    for _ in range(2):
        for platform in world.platforms[:2]:
            assert freeze(world, platform, merchant) == Result.OK
        assert world.entry(merchant).frozen_at(world.time_ms)
        world.pass_time(30 * DAY_MS)


def test_a_released_alias_is_not_bound_again_by_the_old_consent(world: World) -> None:
    merchant = world.merchants[0]
    assign(world)
    first, again = bind_call(world, merchant), bind_call(world, merchant)
    assert world.run(first) == Result.OK
    assert world.entry(merchant).alias_count == 1
    assert world.run(release_call(world, merchant)) == Result.OK
    assert world.entry(merchant).alias_count == 0
    assert world.run(again) == Result.CONSENT_SERIAL
    assert world.run(bind_call(world, merchant)) == Result.OK
    assert world.run(release_call(world, merchant, recovery=True)) == Result.OK


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"purpose": 1}, Result.CONSENT_MISMATCH),
        ({"alias": b"another"}, Result.CONSENT_MISMATCH),
        ({"service": PAY}, Result.CONSENT_MISMATCH),
        ({"consent_serial": 9}, Result.CONSENT_SERIAL),
    ],
)
def test_an_alias_needs_its_own_consent(world: World, changes: dict[str, object], code: Result) -> None:
    assign(world)
    assert world.run(bind_call(world, world.merchants[0], **changes)) == code
