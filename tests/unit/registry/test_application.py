"""The application around the rules: pool, proposer, blocks, genesis, the cache of signatures."""

from __future__ import annotations

import json

import pytest

from onecode.errors import Malformed, Misconfigured
from onecode.proof.map import Section
from onecode.registry.application import RECHECK_ITEMS_MAX, Application
from onecode.registry.events import event_to_plain
from onecode.registry.genesis import parse_genesis
from onecode.registry.map import section_roots
from onecode.registry.results import Result
from onecode.registry.signatures import SignatureCache
from onecode.registry.state import Committed, State
from onecode.registry.store import MemoryStore, Table, link_key
from onecode.registry.transactions import (
    Kind,
    MerchantOrderkeys,
    MerchantRecover,
    MerchantUnlink,
    PlatformSuspend,
    parse_transaction,
)
from onecode.schema import to_plain
from onecode.wire import SigningKey
from unit.registry.world import CHAIN, PAY, START_MS, World, signing_key


def recover_call(world: World) -> bytes:
    merchant, new = world.merchants[0], signing_key("recovered")
    payload = MerchantRecover(controller=new.public, possession=world.possession(merchant.id, new))
    return world.merchant_call(merchant, Kind.MERCHANT_RECOVER, payload, recovery=True)


def test_the_app_hash_rests_in_an_empty_block() -> None:
    world = World()
    world.link(world.merchants[0], world.platforms[0])
    before = world.app_hash
    assert world.block(seconds=86_400 * 365).app_hash == before


def test_a_block_without_its_genesis_halts() -> None:
    with pytest.raises(Misconfigured) as caught:
        Application(MemoryStore(), CHAIN).execute(1, START_MS, ())
    assert caught.value.code == "registry.no_genesis"


def test_a_links_list_that_does_not_fit_its_hash_halts() -> None:
    world = World()
    world.link(world.merchants[0], world.platforms[0])
    world.store.delete(Table.LINKS, link_key(world.merchants[0].id, PAY))
    raw = world.publish(world.platforms[0], world.publication(world.merchants[0], 2))
    with pytest.raises(Misconfigured) as caught:
        Application(world.store, CHAIN).execute(2, world.time_ms, [raw])
    assert caught.value.code == "registry.links_broken"


def test_an_application_that_starts_on_a_filled_store_goes_on_where_the_other_was() -> None:
    """What is kept decoded in memory makes no difference."""
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    store = MemoryStore()
    store.tables = {table: dict(rows) for table, rows in world.store.tables.items()}
    raw = world.publish(platform, world.publication(merchant, 2))
    world.block(raw)
    Application(store, CHAIN).execute(world.height, world.time_ms, [raw])
    assert store.tables == world.store.tables


def test_genesis_is_written_again_after_a_rollback() -> None:
    world = World()
    first = world.app_hash
    world.link(world.merchants[0], world.platforms[0])
    for rows in world.store.tables.values():
        rows.clear()
    assert world.application.init_chain(world.genesis) == first


def test_an_overlay_for_trials_is_never_written() -> None:
    world = World()
    with pytest.raises(RuntimeError):
        State(Committed(world.store, CHAIN), trial=True).finish_block(world.store)


def test_an_aborted_overlay_leaves_the_store_alone() -> None:
    world = World()
    before = section_roots(world.store)
    state = State(Committed(world.store, CHAIN))
    mark = state.mark()
    state.delete(Section.PLATFORMS, world.platforms[0].id)
    assert state.platform(world.platforms[0].id) is None
    state.rollback(mark)
    assert state.platform(world.platforms[0].id) is not None
    assert section_roots(world.store) == before


# --- the pool


def test_a_second_update_does_not_wait_for_a_block() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    one = world.publish(platform, world.first(merchant, platform))
    two = world.publish(platform, world.publication(merchant, 2))
    assert world.application.check(two, world.time_ms) == Result.ITEMS_FAILED
    assert world.application.check(one, world.time_ms) == Result.OK
    assert world.application.check(two, world.time_ms) == Result.OK
    assert world.application.check(two, world.time_ms) == Result.NONCE


def test_the_pool_takes_nonces_in_any_order_and_the_proposer_sorts_them() -> None:
    world = World()
    platform = world.platforms[0]
    one, two = (world.publish(platform, world.first(merchant, platform)) for merchant in world.merchants[:2])
    assert [world.application.check(raw, world.time_ms) for raw in (two, one)] == [Result.OK, Result.OK]
    assert world.application.prepare(1, world.time_ms, [two, one], 1 << 20) == [one, two]


def test_the_recheck_drops_what_the_block_made_worthless() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    one = world.publish(platform, world.first(merchant, platform))
    other = world.publish(platform, world.first(merchant, platform))
    late = world.publish(platform, world.publication(merchant, 2))
    assert world.application.check(one, world.time_ms) == Result.OK
    world.block(one)
    codes = [world.application.check(raw, world.time_ms, recheck=True) for raw in (one, other, late)]
    assert codes == [Result.NONCE, Result.ITEMS_FAILED, Result.OK]
    assert world.application.check(world.publish(platform, world.publication(merchant, 3)), world.time_ms) == Result.OK


def test_the_recheck_of_a_long_pool_looks_at_admission_only() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    items = [world.publication(merchant, 99)] * 500
    for _ in range(RECHECK_ITEMS_MAX // 500):
        raw = world.publish(platform, *items)
        assert world.application.check(raw, world.time_ms, recheck=True) == Result.ITEMS_FAILED
    assert world.application.check(world.publish(platform, *items), world.time_ms, recheck=True) == Result.OK


def test_what_a_block_left_alone_is_not_executed_again_and_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    (first, second), platform = world.merchants[:2], world.platforms[0]
    waiting = world.publish(platform, world.first(first, platform))
    assert world.application.check(waiting, world.time_ms) == Result.OK
    world.block(world.publish(world.platforms[1], world.first(second, world.platforms[1])))
    runs = []
    monkeypatch.setattr(world.application, "_run", lambda *given: runs.append(given))
    assert world.application.check(waiting, world.time_ms, recheck=True) == Result.OK
    assert not runs
    monkeypatch.undo()
    assert world.application.check(world.publish(platform, world.publication(first, 2)), world.time_ms) == Result.OK
    late_ms = world.time_ms + 7_200_000
    assert world.application.check(waiting, late_ms, recheck=True) == Result.EXPIRED


def test_what_a_block_touched_is_executed_again() -> None:
    world = World()
    merchant, (platform, other) = world.merchants[0], world.platforms[:2]
    world.link(merchant, platform)
    update = world.publish(platform, world.publication(merchant, 2))
    assert world.application.check(update, world.time_ms) == Result.OK
    world.block(world.publish(other, world.first(merchant, other)))
    assert world.application.check(update, world.time_ms, recheck=True) == Result.OK
    unlink = MerchantUnlink(platform=platform.id, service=PAY)
    world.block(world.merchant_call(merchant, Kind.MERCHANT_UNLINK, unlink))
    assert world.application.check(update, world.time_ms, recheck=True) == Result.ITEMS_FAILED


def test_what_stands_on_a_platform_that_changed_is_executed_again() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    waiting = world.publish(platform, world.first(merchant, platform))
    assert world.application.check(waiting, world.time_ms) == Result.OK
    world.block(world.platform_call(platform, Kind.PLATFORM_SUSPEND, PlatformSuspend()))
    assert world.application.check(waiting, world.time_ms, recheck=True) == Result.PLATFORM_INACTIVE


@pytest.mark.parametrize("linked", [False, True])
def test_what_stood_on_another_that_has_left_the_pool_stops_nobody(linked: bool) -> None:
    """The second one's entry names the list of a first one that has expired: no list of the pool, nor of the store."""
    world = World()
    merchant, other, (platform, partner, third) = world.merchants[0], world.merchants[1], world.platforms
    if linked:
        world.link(merchant, third)
    expiring = world.publish(platform, world.first(merchant, platform), valid_until_ms=world.time_ms + 1_500)
    consent = world.consent(merchant, partner, service="food")
    waiting = world.publish(partner, world.first(merchant, partner, service="food", consent=consent))
    assert [world.application.check(raw, world.time_ms) for raw in (expiring, waiting)] == [Result.OK, Result.OK]
    world.block(world.publish(third, world.first(other, third)), seconds=2)
    codes = [world.application.check(raw, world.time_ms, recheck=True) for raw in (expiring, waiting)]
    assert codes == [Result.EXPIRED, Result.OK]
    world.application._base._links.clear()  # as after a start, or where many are in use
    again = world.publish(third, world.publication(merchant, 2) if linked else world.first(merchant, third))
    assert world.application.check(again, world.time_ms) == Result.OK


def test_what_the_proposer_found_worthless_does_not_stay_before_the_others() -> None:
    """No block touches what it stands on, but its consent has ended. An engine shows the proposer only the first of its
    pool: a platform with enough of these would keep everybody else out until they expire."""
    world = World()
    (first, second), (platform, other) = world.merchants[:2], world.platforms[:2]
    consent = world.consent(first, platform, expires_ms=world.time_ms + 1_500)
    ending = world.publish(platform, world.first(first, platform, consent=consent))
    assert world.application.check(ending, world.time_ms) == Result.OK
    world.block(world.publish(other, world.first(second, other)), seconds=2)
    assert world.application.check(ending, world.time_ms, recheck=True) == Result.OK  # not executed again
    assert world.application.prepare(2, world.time_ms, [ending], 1 << 20) == []
    world.block(world.publish(other, world.publication(second, 2)))
    assert world.application.check(ending, world.time_ms, recheck=True) == Result.ITEMS_FAILED


def test_checking_and_preparing_write_nothing() -> None:
    world = World()
    before = {table: dict(rows) for table, rows in world.store.tables.items()}
    raw = world.publish(world.platforms[0], world.first(world.merchants[0], world.platforms[0]))
    assert world.application.check(raw, world.time_ms) == Result.OK
    assert world.application.prepare(1, world.time_ms, [raw], 1 << 20) == [raw]
    assert world.application.process([raw])
    assert world.store.tables == before


# --- the proposer


def test_prepare_drops_what_fails() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    good = world.publish(platform, world.first(merchant, platform))
    bad = world.publish(platform, world.publication(world.merchants[1]))
    broken = good[:-1]
    assert world.application.prepare(1, world.time_ms, [bad, broken, good, good], 1 << 20) == [good]


def test_prepare_keeps_to_the_bytes_and_recovery_keys_come_first() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    ordinary = [
        world.publish(platform, world.first(one, platform, envelope=bytes(2000))) for one in world.merchants[1:]
    ]
    recovery = recover_call(world)
    room = len(recovery) * 20
    assert room < sum(map(len, ordinary))
    block = world.application.prepare(2, world.time_ms, [*ordinary, recovery], room)
    assert block[0] == recovery
    assert 1 < len(block) < 4
    assert sum(len(raw) + 5 for raw in block) <= room


def test_prepare_leaves_the_share_of_recovery_keys_to_others_when_it_is_free() -> None:
    world = World()
    platform = world.platforms[0]
    raw = world.publish(platform, world.first(world.merchants[0], platform))
    assert world.application.prepare(1, world.time_ms, [raw], len(raw) + 5) == [raw]
    assert world.application.prepare(1, world.time_ms, [raw], len(raw) + 4) == []


def test_process_refuses_only_what_is_wrong_without_state() -> None:
    world = World()
    platform = world.platforms[0]
    useless = world.publish(platform, world.publication(world.merchants[0], 99), nonce=0)
    assert world.application.process([useless, useless])
    signed = parse_transaction(useless)[0].signatures[0].signature
    assert not world.application.process([useless.replace(signed, bytes(64))])
    assert not world.application.process([useless, b""])


def test_conflicting_transactions_both_stand_in_a_block() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    world.link(merchant, platform)
    unlink = world.merchant_call(merchant, Kind.MERCHANT_UNLINK, MerchantUnlink(platform=platform.id, service=PAY))
    update = world.publish(platform, world.publication(merchant, 2))
    results = world.block(unlink, update).results
    assert [result.code for result in results] == [Result.OK, Result.ITEMS_FAILED]


def test_quota_is_of_the_block_and_of_each_kind_of_key() -> None:
    world = World()
    merchant = world.merchants[0]
    world.link(merchant, world.platforms[0])
    calls = [
        world.merchant_call(merchant, Kind.MERCHANT_ORDERKEYS, MerchantOrderkeys(order_keys=()), ahead=ahead)
        for ahead in range(1, 10)
    ]
    results = world.block(*calls, recover_call(world)).results
    assert [result.code for result in results[-2:]] == [Result.QUOTA, Result.OK]
    assert world.run(calls[8]) == Result.RECOVERY_PENDING  # its nonce was not used by the full quota


# --- signatures


def test_only_good_signatures_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    from onecode.registry import signatures

    key = SigningKey.from_seed(bytes(32))
    calls: list[bytes] = []
    real = signatures.signature_holds

    def counting(public: bytes, signature: bytes, message: bytes) -> bool:
        calls.append(message)
        return real(public, signature, message)

    monkeypatch.setattr(signatures, "signature_holds", counting)
    cache = SignatureCache(4)
    good = key.sign_bytes(b"a")
    assert cache.holds(key.public, good, b"a")
    assert cache.holds(key.public, good, b"a")
    assert calls == [b"a"]
    assert not cache.holds(key.public, good, b"b")
    assert not cache.holds(key.public, good, b"b")
    assert calls == [b"a", b"b", b"b"]
    for index in range(4):
        message = bytes((index,))
        assert cache.holds(key.public, key.sign_bytes(message), message)
    assert cache.holds(key.public, good, b"a")
    assert calls.count(b"a") == 2  # forgotten: the memory is bounded


# --- genesis and events


def test_genesis_survives_json() -> None:
    world = World()
    assert parse_genesis(json.dumps(to_plain(world.genesis)).encode()) == world.genesis


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{", "genesis.json"),
        (b"\xff", "genesis.json"),
        (b'{"chain_id": "a", "chain_id": "b"}', "genesis.duplicate"),
        (b"[]", "wire.field"),
        (b"[" * 100_000, "genesis.json"),
    ],
)
def test_genesis_that_does_not_parse(data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_genesis(data)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chain_id": "other"}, "genesis.chain_id"),
        ({"services": ["pay", "pay"]}, "genesis.services"),
        ({"validators": "double"}, "genesis.validators"),
        ({"measurements": "double"}, "genesis.measurements"),
        ({"platforms": "double"}, "genesis.platform"),
        ({"parameters": {"freeze_platforms": 0}}, "genesis.parameters"),
    ],
)
def test_genesis_whose_parts_do_not_fit(changes: dict[str, object], code: str) -> None:
    plain = to_plain(World().genesis)
    for name, value in changes.items():
        if value == "double":
            plain[name] = [*plain[name], plain[name][0]]
        elif isinstance(value, dict):
            plain[name] |= value
        else:
            plain[name] = value
    genesis = parse_genesis(json.dumps(plain).encode())
    with pytest.raises(Malformed) as caught:
        Application(MemoryStore(), CHAIN).init_chain(genesis)
    assert caught.value.code == code


def test_events_have_a_plain_form() -> None:
    world = World()
    merchant, platform = world.merchants[0], world.platforms[0]
    born, published = world.result(world.publish(platform, world.first(merchant, platform))).events
    assert event_to_plain(born) == {"event": "MerchantBorn", "merchant": merchant.id.hex()}
    assert event_to_plain(published) == {
        "event": "RecordPublished",
        "platform": platform.id.hex(),
        "merchant": merchant.id.hex(),
        "service": PAY,
        "version": 1,
        "epoch": 1,
        "new": True,
    }
    (started,) = world.result(recover_call(world)).events
    json.dumps(event_to_plain(started))
