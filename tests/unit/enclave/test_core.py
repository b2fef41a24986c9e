"""The enclave answers an honest host, and discloses nothing to one that lies: each lie has its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from chain_world import CHAIN_ID, MEASUREMENT, MEMBERS, MERCHANT, NOW_MS, VENDOR, World, entropy, make_record
from onecode.attest.software import SoftwareAttester
from onecode.enclave.buckets import HITS
from onecode.enclave.core import Enclave, EnclaveSettings
from onecode.enclave.frames import EnclaveQuery, HeaderUpdate
from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.proof.leaves import KeyState, LinkList, PlatformStatus, Role, ServiceEntry, links_hash
from onecode.proof.light import Trust, trusted_state
from onecode.proof.map import Section, app_hash
from onecode.query.messages import MatchMode, Result
from onecode.query.sealing import build_query, reply_bytes
from onecode.record.envelope import ENVELOPE_OVERHEAD_BYTES
from onecode.registry.map import prove, section_roots
from onecode.wire import SigningKey, sha256
from vectors.proof_chain import make_header, signed_by, validator_set


@pytest.fixture
def world() -> World:
    return World()


def ask(
    world: World, enclave: Enclave, platform: Any = None, mode: MatchMode = MatchMode.NODE, **changes: Any
) -> Result:
    query = world.query(enclave, platform or world.a, mode, **changes)
    return world.opened(enclave.answer(world.asked(query), NOW_MS), query)


def test_node_match_opens_the_target_alone(world: World) -> None:
    enclave = world.ready_enclave()
    result = ask(world, enclave, accepted=(world.a.id, world.b.id))
    assert result.refusal is None
    assert [opened.platform for opened in result.opened] == [world.a.id]


def test_wallet_match_opens_what_is_accepted_and_readable(world: World) -> None:
    world.publish(world.b, make_record(world.b.id, audience=(world.a.id,)))
    enclave = world.ready_enclave()
    result = ask(world, enclave, mode=MatchMode.WALLET, accepted=(world.a.id, world.b.id))
    assert {opened.platform for opened in result.opened} == {world.a.id, world.b.id}


def test_a_record_for_its_own_platform_only_stays_closed(world: World) -> None:
    result = ask(world, world.ready_enclave(), mode=MatchMode.WALLET, accepted=(world.a.id, world.b.id))
    assert {opened.platform for opened in result.opened} == {world.a.id}


def test_the_size_of_a_reply_tells_nothing_of_who_asked_and_what_was_opened(world: World) -> None:
    world.publish(world.b, make_record(world.b.id, audience=(world.a.id,)))
    enclave = world.ready_enclave()
    sizes = set()
    for number, (platform, mode, changes) in enumerate(
        [
            (world.a, MatchMode.NODE, {}),
            (world.a, MatchMode.WALLET, {"accepted": (world.a.id, world.b.id)}),
            (world.b, MatchMode.WALLET, {}),
            (world.a, MatchMode.NODE, {"time_ms": NOW_MS - 999_999}),  # refused
        ]
    ):
        query = world.query(enclave, platform, mode, query_id=bytes([number]) * 16, **changes)
        sizes.add((len(query.encoded()), len(enclave.answer(world.asked(query), NOW_MS))))
    assert len(sizes) == 1
    envelopes = [len(envelope) - ENVELOPE_OVERHEAD_BYTES for _, envelope in world.records.values()]
    assert sizes.pop()[1] == reply_bytes(envelopes) + ENVELOPE_OVERHEAD_BYTES


def test_without_a_lease_a_live_record_stays_closed(world: World) -> None:
    result = ask(world, world.ready_enclave(world.b))
    assert result.refusal is None and result.opened == ()


def test_a_lease_ends_by_time(world: World) -> None:
    enclave = world.ready_enclave()
    later = NOW_MS + 3_600_000
    query = world.query(enclave, world.a, time_ms=NOW_MS)
    assert enclave.status().leases[0].expires_ms == later
    assert enclave._leases.take(world.a.id, 1, later - 1) is not None
    assert enclave._leases.take(world.a.id, 1, later) is None
    assert world.opened(enclave.answer(world.asked(query), NOW_MS), query).opened


def test_openings_are_counted(world: World) -> None:
    enclave = world.ready_enclave()
    before = {platform.id: enclave._leases.left(platform.id) for platform in (world.a, world.b)}
    ask(world, enclave)
    after = {platform.id: enclave._leases.left(platform.id) for platform in (world.a, world.b)}
    assert before[world.a.id] - after[world.a.id] == 1
    assert before[world.b.id] == after[world.b.id]


def test_the_host_sees_no_openings(world: World) -> None:
    """Else it would learn, by asking before and after a query, whose record was opened; not even near an edge."""
    enclave = world.ready_enclave()
    slot = enclave._leases._slot(world.a.id)
    _, renew_at, used = enclave._leases._openings.read(slot)
    assert 50_000 <= renew_at <= 150_000
    for left in (10_000, 10_001, renew_at + 2):
        enclave._leases._openings.write(slot, left, renew_at, used)
        before = enclave.status()
        ask(world, enclave, query_id=left.to_bytes(16, "big"))
        assert enclave.status() == before


def test_leases_are_to_be_renewed_in_time(world: World) -> None:
    enclave = world.ready_enclave()
    slot = enclave._leases._slot(world.a.id)
    _, renew_at, used = enclave._leases._openings.read(slot)
    enclave._leases._openings.write(slot, renew_at, renew_at, used)
    assert {lease.platform: lease.renew for lease in enclave.status().leases} == {world.a.id: True, world.b.id: False}


def test_every_opened_candidate_counts(world: World) -> None:
    world.publish(world.b, make_record(world.b.id, audience=(world.a.id,)))
    enclave = world.ready_enclave()
    opened = 0
    for number in range(200):
        query_id = number.to_bytes(16, "big")
        result = ask(world, enclave, None, MatchMode.WALLET, accepted=(world.a.id, world.b.id), query_id=query_id)
        opened += len(result.opened)
    assert opened == HITS.burst


def test_a_partners_bad_envelope_does_not_keep_the_own_record_closed(world: World) -> None:
    world.publish(world.b, make_record(world.b.id, audience=(world.a.id,)))
    link, _ = world.records[world.b.id]
    garbage = b"g" * 600
    world.records[world.b.id] = (dataclasses.replace(link, envelope_hash=sha256(garbage)), garbage)
    result = ask(world, world.ready_enclave(), mode=MatchMode.WALLET, accepted=(world.a.id, world.b.id))
    assert [opened.platform for opened in result.opened] == [world.a.id]
    refused = ask(world, world.ready_enclave(), mode=MatchMode.WALLET, accepted=(world.b.id, world.a.id))
    assert refused.refusal == "envelope.seal"


def test_a_refused_query_takes_no_room_among_the_ids(world: World) -> None:
    enclave = world.ready_enclave()
    for number in range(HITS.burst + 5):
        result = ask(world, enclave, query_id=number.to_bytes(16, "big"))
    assert result.refusal == "query.rate"
    assert enclave._seen._table.find((HITS.burst + 4).to_bytes(16, "big") + world.a.device.public) is None


# --- a host that lies about the query or the state: a sealed refusal, and nothing opened


def other_entry(world: World, asked: EnclaveQuery) -> EnclaveQuery:
    """The entry of the same merchant with a link that the host would like."""
    mine = world.records[world.b.id][0]
    links = LinkList(links=(dataclasses.replace(mine, audience=(world.a.id,)),))
    listed = ServiceEntry(service="pay", links_hash=links_hash(CHAIN_ID, MERCHANT, "pay", links))
    entry = dataclasses.replace(world.entry(), services=(listed,))
    merchant = dataclasses.replace(world.proven_merchant(), entry=entry.encoded(), links=links.encoded())
    return dataclasses.replace(asked, merchant=merchant)


def other_links(world: World, asked: EnclaveQuery) -> EnclaveQuery:
    links = LinkList(links=tuple(dataclasses.replace(one, audience=(world.c.id,)) for one in world.links().links))
    merchant = dataclasses.replace(world.proven_merchant(), links=links.encoded())
    return dataclasses.replace(asked, merchant=merchant)


def other_merchant(world: World, asked: EnclaveQuery) -> EnclaveQuery:
    return dataclasses.replace(asked, merchant=world.proven_merchant(b"\x07" * 20))


def claimed_absence(world: World, asked: EnclaveQuery) -> EnclaveQuery:
    merchant = dataclasses.replace(world.proven_merchant(), entry=None, links=None)
    return dataclasses.replace(asked, merchant=merchant)


def other_header(_: World, asked: EnclaveQuery) -> EnclaveQuery:
    return dataclasses.replace(asked, height=asked.height + 1)


def swapped_envelopes(_: World, asked: EnclaveQuery) -> EnclaveQuery:
    return dataclasses.replace(asked, envelopes=tuple(reversed(asked.envelopes)))


def missing_envelope(_: World, asked: EnclaveQuery) -> EnclaveQuery:
    return dataclasses.replace(asked, envelopes=asked.envelopes[:1])


HOST_LIES: list[tuple[Callable[[World, EnclaveQuery], EnclaveQuery], str]] = [
    (other_entry, "map.root"),
    (other_links, "links.hash"),
    (other_merchant, "answer.other_merchant"),
    (claimed_absence, "map.root"),
    (other_header, "enclave.header_unknown"),
    (swapped_envelopes, "envelope.hash"),
    (missing_envelope, "envelope.count"),
]


@pytest.mark.parametrize(("lie", "code"), HOST_LIES, ids=[lie.__name__ for lie, _ in HOST_LIES])
def test_a_lying_host_gets_a_sealed_refusal(
    world: World, lie: Callable[[World, EnclaveQuery], EnclaveQuery], code: str
) -> None:
    enclave = world.ready_enclave()
    query = world.query(enclave, world.a)
    result = world.opened(enclave.answer(lie(world, world.asked(query)), NOW_MS), query)
    assert result.opened == ()
    assert result.refusal == code


def test_a_replayed_query_is_refused(world: World) -> None:
    enclave = world.ready_enclave()
    query = world.query(enclave, world.a)
    asked = world.asked(query)
    assert world.opened(enclave.answer(asked, NOW_MS), query).opened
    again = world.opened(enclave.answer(asked, NOW_MS + 1000), query)
    assert (again.opened, again.refusal) == ((), "query.replayed")


def test_a_query_id_is_remembered_as_long_as_its_window(world: World) -> None:
    enclave = world.ready_enclave()
    query = world.query(enclave, world.a, time_ms=NOW_MS + 60_000)
    asked = world.asked(query)
    first = world.opened(enclave.answer(asked, NOW_MS), query)
    assert first.refusal == "header.stale"  # not counted as answered: the header was refused first
    query = world.query(enclave, world.a, time_ms=NOW_MS + 20_000)
    asked = world.asked(query)
    assert world.opened(enclave.answer(asked, NOW_MS - 40_000), query).opened
    assert world.opened(enclave.answer(asked, NOW_MS + 80_000), query).refusal == "query.replayed"


def test_a_query_from_another_time_is_refused(world: World) -> None:
    enclave = world.ready_enclave()
    for time_ms in (NOW_MS - 60_001, NOW_MS + 60_001):
        assert ask(world, enclave, time_ms=time_ms).refusal == "query.time"


def test_an_old_header_is_refused_by_the_devices_clock_even_if_the_host_sets_the_enclaves(world: World) -> None:
    enclave = world.ready_enclave()
    query = world.query(enclave, world.a, time_ms=NOW_MS + 40_000)
    result = world.opened(enclave.answer(world.asked(query), NOW_MS), query)
    assert (result.opened, result.refusal) == ((), "header.stale")


def test_a_session_is_not_offered(world: World) -> None:
    assert ask(world, world.ready_enclave(), session=b"s").refusal == "query.session"


# --- who asks


def test_a_stolen_credential_without_its_device_opens_nothing(world: World) -> None:
    enclave = world.ready_enclave()
    thief = SigningKey.from_seed(sha256(b"thief"))
    query = build_query(world.clear(enclave), world.secret(world.a), thief)
    assert world.opened(enclave.answer(world.asked(query), NOW_MS), query).refusal == "query.signature"


def test_a_credential_by_a_platform_that_is_not_on_chain_opens_nothing(world: World) -> None:
    enclave = world.ready_enclave()
    assert ask(world, enclave, world.c).refusal == "credential.platform_unknown"


def test_a_forged_credential_opens_nothing(world: World) -> None:
    """Platform C signs that its device is a wallet of A."""
    enclave = world.ready_enclave()
    forged = world.c.credential(platform=world.a.id)
    assert ask(world, enclave, credential=forged).refusal == "platform.key_unknown"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"valid_until_ms": NOW_MS - 1}, "credential.expired"),
        ({"valid_from_ms": NOW_MS + 1}, "credential.expired"),
        ({"valid_from_ms": NOW_MS - 100_000_000}, "credential.window"),
    ],
)
def test_a_credential_outside_its_window_opens_nothing(world: World, changes: dict[str, int], code: str) -> None:
    enclave = world.ready_enclave()
    assert ask(world, enclave, credential=world.a.credential(**changes)).refusal == code


def test_a_suspended_platforms_wallets_read_nothing(world: World) -> None:
    world.leaves[world.a.id] = world.a.leaf(status=PlatformStatus.SUSPENDED)
    enclave = world.ready_enclave(world.b)
    assert ask(world, enclave).refusal == "credential.suspended"


def test_a_verified_credential_is_verified_again_when_the_platforms_change(world: World) -> None:
    enclave = world.ready_enclave()
    assert ask(world, enclave).opened
    leaf = world.a.leaf()
    keys = tuple(
        dataclasses.replace(key, state=KeyState.REVOKED) if key.role == Role.DEVICE else key for key in leaf.keys
    )
    world.leaves[world.a.id] = dataclasses.replace(leaf, keys=keys)
    world.height += 1
    enclave.accept_header(world.header_update(), NOW_MS)
    assert ask(world, enclave, query_id=b"2" * 16).refusal == "platform.key_state"


def test_a_query_for_another_enclave_or_chain_is_not_opened(world: World) -> None:
    enclave, other = world.ready_enclave(), world.enclave("other")
    query = world.query(other, world.a)
    with pytest.raises(Malformed) as caught:
        enclave.answer(world.asked(query), NOW_MS)
    assert caught.value.code == "query.enclave_unknown"
    query = build_query(world.clear(enclave, chain_id="onecode-other"), world.secret(world.a), world.a.device)
    with pytest.raises(Untrusted) as refused:
        enclave.answer(world.asked(query), NOW_MS)
    assert refused.value.code == "query.chain"


def test_a_changed_clear_part_breaks_the_seal(world: World) -> None:
    """The host swaps the merchant under a sealed query."""
    enclave = world.ready_enclave()
    query = world.query(enclave, world.a)
    moved = dataclasses.replace(query, clear=world.clear(enclave, merchant=b"\x09" * 20).encoded())
    with pytest.raises(Untrusted) as caught:
        enclave.answer(world.asked(moved), NOW_MS)
    assert caught.value.code == "seal.broken"


# --- a host that lies about the chain: refused by name, and the state stays


def refused(enclave: Enclave, update: HeaderUpdate, now_ms: int = NOW_MS) -> str:
    before = enclave.status()
    with pytest.raises(OnecodeError) as caught:
        enclave.accept_header(update, now_ms)
    assert enclave.status() == before
    return caught.value.code


def test_a_forged_platform_key_is_refused(world: World) -> None:
    """The host puts its own key-service key into A's leaf, to be given A's trust."""
    enclave, honest = world.enclave(), world.header_update()
    forged = world.a.leaf(keys=world.c.leaf().keys).encoded()
    platforms = tuple(
        dataclasses.replace(given, leaf=forged) if given.platform == world.a.id else given
        for given in honest.platforms or ()
    )
    assert refused(enclave, dataclasses.replace(honest, platforms=platforms)) == "map.root"


def test_an_old_header_is_refused(world: World) -> None:
    assert refused(world.enclave(), world.header_update(signed_ms=NOW_MS - 30_001)) == "header.stale"


def test_a_header_below_the_newest_is_refused(world: World) -> None:
    enclave = world.ready_enclave()
    world.entry_changes = {"consent_serial": 1}
    assert refused(enclave, world.header_update(height=9)) == "header.not_higher"


def test_another_header_of_the_newest_height_is_refused(world: World) -> None:
    enclave = world.ready_enclave()
    world.entry_changes = {"consent_serial": 1}
    assert refused(enclave, world.header_update()) == "header.not_higher"


def test_another_chain_is_refused(world: World) -> None:
    assert refused(world.enclave(), world.header_update(chain_id="onecode-other")) == "header.chain_id"


def test_a_chain_of_other_validators_is_refused(world: World) -> None:
    update = world.header_update()

    others = validator_set([7, 8, 9])
    header = make_header(10, others, app_hash=update.header.header.app_hash, time_ns=update.header.header.time_ns)
    forged = signed_by(header, [7, 8, 9], [NOW_MS - 2000] * 3)
    lie = dataclasses.replace(update, header=forged, validators=others)
    assert refused(world.enclave(), lie) == "header.not_enough_trust"


def test_too_few_votes_are_refused(world: World) -> None:
    update = world.header_update()
    few = signed_by(update.header.header, [1, 2, None, None], [NOW_MS - 2000] * 4)
    assert refused(world.enclave(), dataclasses.replace(update, header=few)) == "header.power"


def test_other_section_roots_are_refused(world: World) -> None:
    update = world.header_update()
    world.entry_changes = {"consent_serial": 1}
    world.write()

    assert refused(world.enclave(), dataclasses.replace(update, roots=section_roots(world.store))) == "map.app_hash"


def test_a_policy_that_is_not_on_chain_is_refused(world: World) -> None:
    lie = dataclasses.replace(world.policy, serial=2)
    assert refused(world.enclave(), dataclasses.replace(world.header_update(), policy=lie.encoded())) == "map.root"
    hidden = dataclasses.replace(world.header_update(), policy=b"")
    assert refused(world.enclave(), hidden) == "map.root"


def test_changed_platforms_must_be_shown(world: World) -> None:
    enclave = world.ready_enclave()
    world.leaves[world.c.id] = world.c.leaf()
    world.height += 1
    update = dataclasses.replace(world.header_update(), platforms=None)
    assert refused(enclave, update) == "enclave.platforms_missing"
    enclave.accept_header(world.header_update(), NOW_MS)
    assert enclave.status().height == 11


def test_the_proof_of_a_platform_is_of_the_section_platforms(world: World) -> None:
    """A leaf of another section under the platform's id is no platform."""
    update = world.header_update()
    given = (update.platforms or ())[0]
    moved = dataclasses.replace(given, proof=prove(world.store, Section.MERCHANTS, given.platform))
    assert refused(world.enclave(), dataclasses.replace(update, platforms=(moved,))).startswith("map.")


def test_headers_from_before_the_grant_are_forgotten(world: World) -> None:
    """The host starts the enclave on a chain of its own, whose last header announces the true validators.

    The evidence then binds a true header and the key service grants; a query at a header of the false chain, under
    which the host lists a platform and a link of its own, must open nothing.
    """
    false = World()
    host = false.c
    false.leaves[host.id] = host.leaf()
    link, envelope = world.records[world.a.id]
    false.records = {world.a.id: (dataclasses.replace(link, audience=(host.id,)), envelope)}
    own = validator_set([7, 8, 9])
    false.write()
    times = {height: (NOW_MS - 50_000 + 1000 * height) * 1_000_000 for height in (1, 2)}
    app = {"app_hash": app_hash(section_roots(false.store))}
    headers = {
        1: make_header(1, own, own, time_ns=times[1], **app),
        2: make_header(2, own, MEMBERS, time_ns=times[2], **app),
    }
    anchor = Trust(trusted_state(headers[1], own))
    enclave = Enclave(
        EnclaveSettings(CHAIN_ID, "node-1", anchor), SoftwareAttester(VENDOR, MEASUREMENT), entropy("e"), 0
    )
    shown = false.header_update()
    lie = signed_by(headers[2], [7, 8, 9], [NOW_MS - 2000] * 3)
    enclave.accept_header(dataclasses.replace(shown, header=lie, validators=own), NOW_MS)
    world.height = 3
    true = world.header_update()
    enclave.accept_header(true, NOW_MS)
    service = world.key_service(world.a)
    request = world.release_request(enclave, service, true)
    claims = service.appraise_request(request, world.policy.encoded(), NOW_MS)
    enclave.accept_grant(service.make_grant(request, claims, world.a.epoch_keys, NOW_MS)[0], NOW_MS)

    query = false.query(enclave, host, accepted=(world.a.id,))
    asked = dataclasses.replace(false.asked(query), height=2)
    result = false.opened(enclave.answer(asked, NOW_MS), query)
    assert (result.opened, result.refusal) == ((), "enclave.header_unknown")


def test_a_worker_that_was_led_along_another_chain_begins_again_at_the_bound_header(world: World) -> None:
    """The host chooses the anchor: it leads the parent to the true header and a worker along a chain of its own.

    The parent's evidence binds the true header; with the grant the worker has to forget its false one, though that is
    the higher of the two.
    """
    false = World()
    host = false.c
    false.leaves[host.id] = host.leaf()
    link, envelope = world.records[world.a.id]
    false.records = {world.a.id: (dataclasses.replace(link, audience=(host.id,)), envelope)}
    own = validator_set([7, 8, 9])
    false.write()
    app = {"app_hash": app_hash(section_roots(false.store))}
    before = make_header(9, own, MEMBERS, time_ns=(NOW_MS - 41_000) * 1_000_000, **app)
    settings = EnclaveSettings(CHAIN_ID, "node-1", Trust(trusted_state(before, own)))
    attester = SoftwareAttester(VENDOR, MEASUREMENT)
    parent, worker = (Enclave(settings, attester, entropy("same"), NOW_MS) for _ in range(2))
    true, shown = world.header_update(), false.header_update()
    parent.accept_header(true, NOW_MS)
    fake = make_header(1000, own, time_ns=(NOW_MS - 3000) * 1_000_000, **app)
    lie = signed_by(fake, [7, 8, 9], [NOW_MS - 2000] * 3)
    worker.accept_header(dataclasses.replace(shown, header=lie, validators=own), NOW_MS)
    service = world.key_service(world.a)
    request = world.release_request(parent, service, true)
    claims = service.appraise_request(request, world.policy.encoded(), NOW_MS)
    held = parent.accept_grant(service.make_grant(request, claims, world.a.epoch_keys, NOW_MS)[0], NOW_MS)
    worker._leases._openings = parent._leases._openings  # as the fork shares them
    worker.hold(held)

    query = false.query(worker, host, accepted=(world.a.id,))
    result = false.opened(worker.answer(dataclasses.replace(false.asked(query), height=1000), NOW_MS), query)
    assert (result.opened, result.refusal) == ((), "enclave.header_unknown")
    worker.accept_header(true, NOW_MS)
    assert ask(world, worker, query_id=b"2" * 16).opened
