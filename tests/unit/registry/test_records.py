"""Publishing, withdrawing, consents: what changes and what does not."""

from __future__ import annotations

import dataclasses

from onecode.proof.governance import DAY_MS, ProposalKind
from onecode.proof.leaves import LinkList, links_hash
from onecode.registry.events import MerchantBorn, RecordPublished, RecordWithdrawn
from onecode.registry.results import Result
from onecode.registry.rules_records import VERSION_AHEAD_MAX
from onecode.registry.store import Table, envelope_key, link_key
from onecode.registry.transactions import Kind, MerchantUnlink, PlatformSuspend, RecordWithdraw, Withdrawal
from onecode.schema import parse
from onecode.wire import sha256
from unit.registry.world import CHAIN, PAY, World


def links(world: World, merchant: int = 0, service: str = PAY) -> LinkList:
    raw = world.store.get(Table.LINKS, link_key(world.merchants[merchant].id, service))
    return LinkList(links=()) if raw is None else parse(LinkList, raw)


def test_first_publication_births_the_merchant() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    result = world.result(world.publish(platform, world.first(merchant, platform)))
    entry, (link,) = world.entry(merchant), links(world).links
    assert (entry.controller, entry.recovery_hash) == (merchant.birth.controller, merchant.birth.recovery_hash)
    assert (entry.nonce, entry.consent_serial, entry.alias_count, entry.order_keys) == (0, 0, 0, ())
    envelope = world.store.get(Table.ENVELOPES, envelope_key(merchant.id, platform.id, PAY))
    assert envelope is not None
    assert link.envelope_hash == sha256(envelope)
    assert (link.platform, link.version, link.height) == (platform.id, 1, world.height)
    assert entry.services[0].links_hash == links_hash(CHAIN, merchant.id, PAY, links(world))
    assert result.events == (
        MerchantBorn(merchant.id),
        RecordPublished(platform.id, merchant.id, PAY, 1, 1, True),
    )


def test_links_are_ascending_by_platform_and_each_platform_has_one() -> None:
    world = World()
    for platform in world.platforms:
        world.link(world.merchants[0], platform)
    for platform in reversed(world.platforms):
        assert world.item_code(platform, world.publication(world.merchants[0], 2)) == Result.OK
    found = links(world).links
    assert [link.platform for link in found] == sorted(platform.id for platform in world.platforms)
    assert {link.version for link in found} == {2}


def test_an_update_needs_no_consent_and_works_while_frozen() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    assert world.govern(ProposalKind.MERCHANT_FREEZE, merchant=merchant.id) == Result.OK
    assert world.item_code(platform, world.publication(merchant, 2)) == Result.OK


def test_items_count_one_by_one() -> None:
    world = World()
    platform = world.platforms[0]
    good = [world.first(merchant, platform) for merchant in world.merchants[:2]]
    bad = world.publication(world.merchants[2])
    result = world.result(world.publish(platform, good[0], bad, good[1]))
    assert result.code == Result.OK
    assert result.item_codes == (Result.OK, Result.MERCHANT_UNKNOWN, Result.OK)
    assert world.state.merchant(world.merchants[2].id, world.time_ms) is None
    assert result.detail == "done; 1 items failed, the first at 1: the registry has no such merchant"
    assert len(links(world, 1).links) == 1


def test_a_batch_may_update_one_record_twice() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    items = (world.first(merchant, platform), world.publication(merchant, 2), world.publication(merchant, 2))
    assert world.result(world.publish(platform, *items)).item_codes == (Result.OK, Result.OK, Result.VERSION)


def test_withdrawal_deletes_link_and_envelope_and_raises_the_floor() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    assert world.item_code(platform, world.publication(merchant, 2)) == Result.OK
    assert world.result(world.withdraw(platform, merchant, 1)).item_codes == (Result.VERSION,)
    result = world.result(world.withdraw(platform, merchant, 2))
    assert result.item_codes == (Result.OK,)
    assert result.events == (RecordWithdrawn(platform.id, merchant.id, PAY, 2),)
    assert world.entry(merchant).services[0].version_floor == 2
    assert links(world).links == ()
    assert world.store.get(Table.ENVELOPES, envelope_key(merchant.id, platform.id, PAY)) is None
    for version, code in ((1, Result.VERSION), (2, Result.VERSION), (3, Result.OK)):
        assert world.item_code(platform, world.first(merchant, platform, version)) == code


def test_a_new_link_may_skip_versions_and_an_update_may_not() -> None:
    world = World()
    merchant, (one, two, _) = world.merchants[0], world.platforms
    world.link(merchant, one)
    assert world.run(world.withdraw(one, merchant, 1)) == Result.OK  # the floor is 1
    for version, code in (
        (0, Result.VERSION),
        (1, Result.VERSION),
        (2 + VERSION_AHEAD_MAX, Result.VERSION),
        (1 + VERSION_AHEAD_MAX, Result.OK),
    ):
        assert world.item_code(one, world.first(merchant, one, version)) == code
    assert world.entry(merchant).services[0].version_floor == 1  # a live link raises nothing
    assert world.item_code(two, world.first(merchant, two, 2)) == Result.OK
    for skipped in (2, 4):
        assert world.item_code(two, world.publication(merchant, skipped)) == Result.VERSION
    assert world.item_code(two, world.publication(merchant, 3)) == Result.OK


def test_a_platform_that_links_anew_in_every_block_keeps_nobody_out() -> None:
    """What the newcomer signs is old by the time that it is executed: its version lies ahead of that."""
    world = World()
    merchant, (churner, newcomer, _) = world.merchants[0], world.platforms
    world.link(merchant, churner)
    floor = world.entry(merchant).services[0].version_floor
    late = world.publish(newcomer, world.first(merchant, newcomer, floor + VERSION_AHEAD_MAX))
    for version in range(1, 20):
        ended, again = world.withdraw(churner, merchant, version), world.first(merchant, churner, version + 1)
        assert world.run(ended, world.publish(churner, again)) == Result.OK
    assert world.run(late) == Result.OK


def test_one_that_jumps_too_is_kept_off_by_the_merchant() -> None:
    """The window alone does not stop it: whoever ends a link at its end is always ahead. Its consent ends with it."""
    world = World()
    merchant, (churner, newcomer, _) = world.merchants[0], world.platforms
    world.link(merchant, churner, VERSION_AHEAD_MAX)
    late = world.first(merchant, newcomer, VERSION_AHEAD_MAX)
    assert world.run(world.withdraw(churner, merchant, VERSION_AHEAD_MAX)) == Result.OK
    again = world.first(merchant, churner, 2 * VERSION_AHEAD_MAX)
    assert world.run(world.publish(churner, again)) == Result.OK
    assert world.item_code(newcomer, late) == Result.VERSION
    unlink = MerchantUnlink(platform=churner.id, service=PAY)
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_UNLINK, unlink)) == Result.OK
    back = dataclasses.replace(again, version=3 * VERSION_AHEAD_MAX)
    assert world.item_code(churner, back) == Result.CONSENT_SERIAL
    assert world.item_code(newcomer, world.first(merchant, newcomer, 2 * VERSION_AHEAD_MAX + 1)) == Result.OK


def test_the_floor_is_the_services_and_never_falls() -> None:
    world = World()
    merchant, (one, two, _) = world.merchants[0], world.platforms
    world.link(merchant, one)
    world.link(merchant, two)
    for version in (2, 3):
        assert world.item_code(one, world.publication(merchant, version)) == Result.OK
    assert world.run(world.withdraw(one, merchant, 3)) == Result.OK
    assert world.run(world.withdraw(two, merchant, 1)) == Result.OK
    assert world.entry(merchant).services[0].version_floor == 3
    assert world.item_code(two, world.first(merchant, two, 2)) == Result.VERSION
    assert world.item_code(two, world.first(merchant, two, 4)) == Result.OK


def test_nobody_withdraws_another_platforms_link() -> None:
    world = World()
    merchant = world.merchants[0]
    world.link(merchant, world.platforms[0])
    world.link(merchant, world.platforms[1])
    assert world.run(world.withdraw(world.platforms[1], merchant, 1)) == Result.OK
    assert [link.platform for link in links(world).links] == [world.platforms[0].id]


def test_a_consent_is_for_one_service() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    assert world.item_code(platform, world.first(merchant, platform, service="food")) == Result.CONSENT_MISMATCH


def test_a_consent_by_the_recovery_key_counts() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    consent = world.consent(merchant, platform, recovery=True)
    assert world.item_code(platform, world.first(merchant, platform, consent=consent)) == Result.OK


def test_a_stolen_controller_key_of_another_merchant_gives_no_consent() -> None:
    world = World()
    merchant, other, platform = world.merchants[0], world.merchants[1], world.platforms[0]
    consent = world.consent(other, platform)
    forged = world.consent(other, platform)
    assert world.item_code(platform, world.first(merchant, platform, consent=consent)) == Result.CONSENT_MISMATCH
    body = world.consent(merchant, platform).body
    swapped = dataclasses.replace(forged, body=body)
    assert world.item_code(platform, world.first(merchant, platform, consent=swapped)) == Result.CONSENT_SIGNATURE


def test_a_suspended_platform_withdraws_and_does_not_publish() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    assert world.run(world.platform_call(platform, Kind.PLATFORM_SUSPEND, PlatformSuspend())) == Result.OK
    assert world.run(world.publish(platform, world.publication(merchant, 2))) == Result.PLATFORM_INACTIVE
    assert world.run(world.withdraw(platform, merchant, 1)) == Result.OK


def test_a_removed_service_takes_no_records_and_lets_them_go() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    assert world.govern(ProposalKind.SERVICE_SET, service=PAY, service_remove=True) == Result.OK
    assert world.item_code(platform, world.publication(merchant, 2)) == Result.SERVICE_UNKNOWN
    assert world.run(world.withdraw(platform, merchant, 1)) == Result.OK


def test_a_new_service_waits_for_the_delay() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    assert world.govern(ProposalKind.SERVICE_SET, service="tea") == Result.OK
    item = world.first(merchant, platform, service="tea", consent=world.consent(merchant, platform, service="tea"))
    assert world.item_code(platform, item) == Result.SERVICE_UNKNOWN
    world.pass_time(world.genesis.parameters.governance_delay_ms)
    assert world.item_code(platform, item) == Result.OK


def test_withdrawals_of_a_batch_count_one_by_one() -> None:
    world = World()
    platform = world.platforms[0]
    world.link(world.merchants[0], platform)
    items = tuple(Withdrawal(merchant=one.id, service=PAY, version=1) for one in world.merchants[:2])
    result = world.result(world.platform_call(platform, Kind.RECORD_WITHDRAW, RecordWithdraw(items=items)))
    assert (result.code, result.item_codes) == (Result.OK, (Result.OK, Result.MERCHANT_UNKNOWN))


def test_unlink_kills_the_consents_that_were_given() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    consent = world.consent(merchant, platform, expires_ms=world.time_ms + 20 * DAY_MS)
    payload = MerchantUnlink(platform=platform.id, service=PAY)
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_UNLINK, payload)) == Result.OK
    assert world.item_code(platform, world.publication(merchant, 2, consent=consent)) == Result.CONSENT_SERIAL
    assert world.item_code(platform, world.first(merchant, platform, 2)) == Result.OK
