"""Records of one answer: the target must verify, another one's fault does not keep it from being paid."""

from __future__ import annotations

import dataclasses

import pytest

from chain_world import CHAIN_ID, NOW_MS, World, make_record
from onecode.errors import Declined, Malformed, Untrusted
from onecode.query.messages import MatchMode, Opened, Result
from onecode.query.verify import VerifiedState, verify_platforms, verify_records, verify_state
from onecode.registry.map import section_roots


def state_of(world: World) -> VerifiedState:
    header = world.verified()
    roots = section_roots(world.store)
    platforms = verify_platforms(world.proven_platforms(), roots, {})
    clear = world.clear(world.enclave())
    return verify_state(clear, header, roots, None, world.proven_merchant(), platforms)


def test_a_partners_expired_record_is_left_out_and_the_target_is_paid() -> None:
    world = World()
    own = world.publish(world.a)
    expired = make_record(world.b.id, audience=(world.a.id,), valid_until_ms=NOW_MS - 1)
    partner = world.publish(world.b, expired)
    opened = {world.a.id: own, world.b.id: partner}
    result = Result(
        query_id=b"q" * 16,
        opened=tuple(Opened(platform=p, signed_record=signed.encoded()) for p, signed in opened.items()),
    )
    state = state_of(world)

    def verified(*accepted: bytes) -> list[bytes]:
        mode = MatchMode.WALLET
        records = verify_records(state, CHAIN_ID, result, b"q" * 16, mode, accepted, world.a.id, NOW_MS)
        return [record.link.platform for record in records]

    assert verified(world.a.id, world.b.id) == [world.a.id]
    with pytest.raises(Declined) as caught:
        verified(world.b.id, world.a.id)
    assert caught.value.code == "record.expired"


def test_the_roots_are_those_of_the_header_that_is_given() -> None:
    """Whoever calls it may not have looked: the state of another header is refused."""
    world = World()
    header, roots = world.verified(), section_roots(world.store)
    platforms = verify_platforms(world.proven_platforms(), roots, {})
    other = dataclasses.replace(roots, roots=roots.roots[:-1] + b"\x01")
    with pytest.raises(Untrusted) as caught:
        verify_state(world.clear(world.enclave()), header, other, None, world.proven_merchant(), platforms)
    assert caught.value.code == "map.app_hash"


def test_a_query_about_nothing_is_malformed() -> None:
    world = World()
    header, roots = world.verified(), section_roots(world.store)
    clear = world.clear(world.enclave(), merchant=None)
    with pytest.raises(Malformed) as caught:
        verify_state(clear, header, roots, None, world.proven_merchant(), {})
    assert caught.value.code == "query.subject"
