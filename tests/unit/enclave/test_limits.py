"""What the enclave counts, keeps and forgets, and what it refuses although the host is honest."""

from __future__ import annotations

import dataclasses

import pytest

from chain_world import DAY_MS, NOW_MS, World, make_record
from onecode.enclave import core
from onecode.enclave.core import Enclave
from onecode.enclave.frames import PlatformsPart
from onecode.errors import Malformed
from onecode.proof.leaves import KeyState, Role
from onecode.proof.map import Section
from onecode.query.messages import MatchMode, Result
from onecode.query.sealing import build_query
from onecode.wire import sha256


@pytest.fixture
def world() -> World:
    return World()


def ask(world: World, enclave: Enclave, number: int, now_ms: int = NOW_MS, **changes: object) -> Result:
    query = world.query(enclave, world.a, query_id=sha256(f"{number}".encode())[:16], **changes)
    return world.opened(enclave.answer(world.asked(query), now_ms), query)


def test_opened_records_take_tokens(world: World) -> None:
    enclave = world.ready_enclave()
    refusals = [ask(world, enclave, number).refusal for number in range(121)]
    assert refusals[:120] == [None] * 120
    assert refusals[120] == "query.rate"


def test_each_opened_candidate_counts(world: World) -> None:
    world.publish(world.b, make_record(world.b.id, audience=(world.a.id,)))
    enclave = world.ready_enclave()
    accepted = (world.a.id, world.b.id)
    results = [ask(world, enclave, n, mode=MatchMode.WALLET, accepted=accepted) for n in range(61)]
    assert [result.refusal for result in results] == [None] * 60 + ["query.rate"]


def test_a_device_without_tokens_learns_nothing_of_what_is_there(world: World) -> None:
    """After too many misses even a merchant that exists is not looked up."""
    enclave = world.ready_enclave()
    for number in range(20):
        nobody = sha256(f"nobody {number}".encode())[:20]
        secret = world.secret(world.a, query_id=sha256(f"m{number}".encode())[:16])
        query = build_query(world.clear(enclave, merchant=nobody), secret, world.a.device)
        asked = world.asked(query, merchant=world.proven_merchant(nobody), envelopes=())
        assert world.opened(enclave.answer(asked, NOW_MS), query).refusal == "merchant.absent"
    assert ask(world, enclave, 1).refusal == "query.rate"


def test_an_envelope_that_the_link_does_not_commit_to_stays_closed(world: World) -> None:
    """The platform listed another commitment than that of the envelope it sealed."""
    world.publish(world.a, commitment=sha256(b"another record"))
    result = ask(world, world.ready_enclave(), 1)
    assert (result.opened, result.refusal) == ((), "record.commitment")


def test_an_envelope_sealed_for_other_ids_stays_closed(world: World) -> None:
    """The link says version 2, the envelope was sealed for version 1."""
    world.publish(world.a, version=2)
    result = ask(world, world.ready_enclave(), 1)
    assert (result.opened, result.refusal) == ((), "envelope.seal")


def test_another_protocol_is_not_spoken(world: World) -> None:
    enclave = world.ready_enclave()
    query = build_query(world.clear(enclave, protocol=2), world.secret(world.a), world.a.device)
    with pytest.raises(Malformed) as caught:
        enclave.answer(world.asked(query), NOW_MS)
    assert caught.value.code == "query.protocol"


@pytest.mark.parametrize("ahead_ms", [10_000, 10_001])
def test_a_credential_that_was_verified_once_still_ends(world: World, ahead_ms: int) -> None:
    enclave = world.ready_enclave()
    credential = world.a.credential(valid_until_ms=NOW_MS + 10_000)
    assert ask(world, enclave, 1, credential=credential).opened
    later = NOW_MS + ahead_ms
    assert ask(world, enclave, 2, later, credential=credential, time_ms=later).refusal == "credential.expired"
    earlier = NOW_MS - 1001
    assert ask(world, enclave, 3, earlier, credential=credential, time_ms=earlier).refusal == "credential.expired"


def test_a_credential_by_a_retired_key_ends_with_the_key(world: World) -> None:
    """Verified once while the key still counted, it is refused when it no longer does: 24 h after its retirement."""
    leaf = world.a.leaf()
    retired = {"state": KeyState.RETIRED, "since_ms": NOW_MS - DAY_MS + 10_000}
    keys = tuple(dataclasses.replace(key, **retired) if key.role == Role.DEVICE else key for key in leaf.keys)
    world.leaves[world.a.id] = dataclasses.replace(leaf, keys=keys)
    enclave = world.ready_enclave()
    assert ask(world, enclave, 1).opened
    assert ask(world, enclave, 2, NOW_MS + 10_000, time_ms=NOW_MS + 10_000).opened
    late = ask(world, enclave, 3, NOW_MS + 10_001, time_ms=NOW_MS + 10_001)
    assert (late.opened, late.refusal) == ((), "platform.key_state")


def test_it_keeps_sixty_four_headers(world: World) -> None:
    enclave = world.ready_enclave()
    for height in range(11, 11 + 70):
        enclave.accept_header(world.header_update(height=height, time_ns=(NOW_MS - 40_000 + height) * 10**6), NOW_MS)
    kept = range(80 - core.HEADERS_KEPT + 1, 81)
    assert list(enclave._known) == list(kept)


def test_it_keeps_a_bounded_number_of_credentials(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "CREDENTIALS_KEPT", 3)
    enclave = world.ready_enclave()
    for number in range(5):
        credential = world.a.credential(account=bytes((number,)))
        assert ask(world, enclave, number, credential=credential).opened
        assert len(enclave._credentials) == number % 3 + 1


def test_the_time_window_is_inclusive(world: World) -> None:
    enclave = world.ready_enclave()
    for number, (time_ms, away_ms) in enumerate([(NOW_MS - 1000, 60_000), (NOW_MS + 28_000, -60_000)]):
        assert ask(world, enclave, number, time_ms + away_ms, time_ms=time_ms).refusal is None
        beyond = time_ms + away_ms + (1 if away_ms > 0 else -1)
        assert ask(world, enclave, 10 + number, beyond, time_ms=time_ms).refusal == "query.time"


def test_it_keeps_no_more_platforms_ahead_than_a_network_has(world: World) -> None:
    enclave = world.ready_enclave()
    given, root = world.proven_platforms()[0], sha256(b"a root to come")
    many = [dataclasses.replace(given, platform=sha256(f"{number}".encode())[:20]) for number in range(1001)]
    enclave.accept_platforms(PlatformsPart(root=root, platforms=tuple(many[:999])))
    enclave.accept_platforms(PlatformsPart(root=root, platforms=tuple(many[999:1000])))
    assert len(enclave._ahead[root]) == 1000
    with pytest.raises(Malformed) as caught:
        enclave.accept_platforms(PlatformsPart(root=root, platforms=tuple(many[1000:])))
    assert caught.value.code == "enclave.platforms_many"
    assert root not in enclave._ahead


def test_platforms_that_came_ahead_count_with_their_header(world: World) -> None:
    enclave = world.enclave()
    update = world.header_update()
    first, second = update.platforms or ()
    enclave.accept_platforms(PlatformsPart(root=update.roots.root(Section.PLATFORMS), platforms=(first,)))
    enclave.accept_header(dataclasses.replace(update, platforms=(second,)), NOW_MS)
    assert set(enclave._known[10].platforms) == {world.a.id, world.b.id}


def test_a_worker_with_another_header_of_the_bound_height_begins_again(world: World) -> None:
    """Its parent's evidence bound the true header 10; the worker was shown another one, signed by all."""
    false = World()
    false.leaves[false.c.id] = false.c.leaf()
    worker, parent = world.enclave("same"), world.enclave("same")
    true = world.header_update()
    worker.accept_header(false.header_update(), NOW_MS)
    parent.accept_header(true, NOW_MS)
    service = world.key_service(world.a)
    request = world.release_request(parent, service, true)
    claims = service.appraise_request(request, world.policy.encoded(), NOW_MS)
    worker.hold(parent.accept_grant(service.make_grant(request, claims, world.a.epoch_keys, NOW_MS)[0], NOW_MS))
    assert (worker.status().height, worker._known) == (0, {})
    worker.accept_header(true, NOW_MS)
    assert worker._known[10].header.header_hash == parent._known[10].header.header_hash
