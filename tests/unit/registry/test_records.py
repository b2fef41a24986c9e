"""Publishing, withdrawing, consents: what changes and what does not."""

from __future__ import annotations

import dataclasses

from onecode.proof.governance import DAY_MS, ProposalKind
from onecode.proof.leaves import LinkList, links_hash
from onecode.proof.map import Section
from onecode.registry.events import MerchantBorn, RecordPublished, RecordWithdrawn
from onecode.registry.results import Result
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
    assert world.floor(merchant, platform) == 2
    assert links(world).links == ()
    assert world.store.get(Table.ENVELOPES, envelope_key(merchant.id, platform.id, PAY)) is None
    for version, code in ((1, Result.VERSION), (2, Result.VERSION), (3, Result.OK)):
        assert world.item_code(platform, world.first(merchant, platform, version)) == code


def test_a_new_link_takes_exactly_the_version_above_its_platforms_floor() -> None:
    world = World()
    merchant, (one, two, _) = world.merchants[0], world.platforms
    for version, code in ((0, Result.VERSION), (2, Result.VERSION), (1, Result.OK)):
        assert world.item_code(one, world.first(merchant, one, version)) == code  # the merchant is unknown
    for version, code in ((0, Result.VERSION), (2, Result.VERSION), (1, Result.OK)):
        assert world.item_code(two, world.first(merchant, two, version)) == code  # the service has a link
    assert world.item_code(one, world.publication(merchant, 2)) == Result.OK
    assert world.run(world.withdraw(one, merchant, 2)) == Result.OK
    for version in (0, 1, 2, 4, 1026, (1 << 64) - 1):
        assert world.item_code(one, world.first(merchant, one, version)) == Result.VERSION
    assert world.item_code(one, world.first(merchant, one, 3)) == Result.OK
    for version in (2, 3, 5):
        assert world.item_code(one, world.publication(merchant, version)) == Result.VERSION


def test_a_platform_that_raises_its_floor_in_every_block_keeps_nobody_out() -> None:
    """Whatever it does, also after the newcomer has signed: the newcomer's next version is its own affair."""
    world = World()
    merchant, (churner, newcomer, _) = world.merchants[0], world.platforms
    world.link(merchant, churner)
    late = world.publish(newcomer, world.first(merchant, newcomer, 1))
    version = 1
    for _ in range(5):  # a block each, with as many updates as a batch takes
        updates = (world.publication(merchant, version + step) for step in range(1, 401))
        assert world.run(world.publish(churner, *updates)) == Result.OK
        version += 400
        ended, again = world.withdraw(churner, merchant, version), world.first(merchant, churner, version + 1)
        assert world.run(ended, world.publish(churner, again)) == Result.OK
        version += 1
    ended, again = world.withdraw(churner, merchant, version), world.first(merchant, churner, version + 1)
    assert world.run(ended, world.publish(churner, again), late) == Result.OK  # the same block, and after it
    assert {link.platform: link.version for link in links(world).links} == {churner.id: version + 1, newcomer.id: 1}


def test_versions_of_two_platforms_and_two_services_are_independent() -> None:
    world = World()
    merchant, (one, two, three) = world.merchants[0], world.platforms
    world.link(merchant, one)
    world.link(merchant, two)
    for version in (2, 3):
        assert world.item_code(one, world.publication(merchant, version)) == Result.OK
    assert world.floor(merchant, one) == 0  # a live link raises nothing
    assert world.run(world.withdraw(one, merchant, 3)) == Result.OK
    assert [world.floor(merchant, platform) for platform in world.platforms] == [3, 0, 0]
    assert world.item_code(two, world.publication(merchant, 2)) == Result.OK
    assert world.run(world.withdraw(two, merchant, 2)) == Result.OK
    assert [world.floor(merchant, platform) for platform in world.platforms] == [3, 2, 0]
    assert world.item_code(three, world.first(merchant, three, 1)) == Result.OK
    assert world.item_code(two, world.first(merchant, two, 3)) == Result.OK
    assert world.item_code(one, world.first(merchant, one, 4)) == Result.OK
    food = world.consent(merchant, one, service="food")
    assert world.item_code(one, world.first(merchant, one, 4, service="food", consent=food)) == Result.VERSION
    assert world.item_code(one, world.first(merchant, one, 1, service="food", consent=food)) == Result.OK
    assert world.floor(world.merchants[1], one) == 0


def test_an_update_writes_no_floor_and_an_end_of_a_link_one_leaf() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]

    def leaves() -> int:
        return sum(key[0] == Section.COUNTERS for key in world.store.tables[Table.VALUES])

    world.link(merchant, platform)
    before = leaves()
    assert world.item_code(platform, world.publication(merchant, 2)) == Result.OK
    assert leaves() == before
    for version in (2, 3):
        assert world.run(world.withdraw(platform, merchant, version)) == Result.OK
        world.link(merchant, platform, version + 1)
        assert leaves() == before + 1


def test_nothing_old_of_a_platform_comes_back_after_a_withdrawal() -> None:
    """The same bytes, the same payload signed again, also with a second key, and the same version sealed anew."""
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    first, held_back = world.first(merchant, platform), world.publication(merchant, 3)
    never_sent = world.publish(platform, world.publication(merchant, 2))
    sent = [world.publish(platform, item) for item in (first, world.publication(merchant, 2))]
    for transaction in (*sent, world.withdraw(platform, merchant, 2)):
        assert world.run(transaction) == Result.OK
    before = world.app_hash
    for transaction in (*sent, never_sent):
        assert world.run(transaction) == Result.NONCE
    assert world.app_hash == before
    assert world.item_code(platform, first) == Result.VERSION
    assert world.item_code(platform, world.first(merchant, platform, 2)) == Result.VERSION
    assert world.item_code(platform, held_back) == Result.CONSENT_MISSING  # an update that was never sent makes no link
    unlinked = MerchantUnlink(platform=platform.id, service=PAY)
    again = world.first(merchant, platform, 3)
    assert world.item_code(platform, again) == Result.OK  # under the consent that still holds
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_UNLINK, unlinked)) == Result.OK
    assert world.floor(merchant, platform) == 3
    assert world.item_code(platform, again) == Result.VERSION
    assert world.item_code(platform, dataclasses.replace(again, version=4)) == Result.CONSENT_SERIAL
    assert world.item_code(platform, world.first(merchant, platform, 4)) == Result.OK


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
