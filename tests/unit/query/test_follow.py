"""A follower never goes back, and sees a fork."""

from __future__ import annotations

import dataclasses

import pytest

from chain_world import MEMBERS, MERCHANT, NOW_MS, World
from onecode.errors import Untrusted
from onecode.proof.map import Section
from onecode.query.follow import Follower
from onecode.query.messages import LeafView
from onecode.registry.map import load, prove, section_roots


@pytest.fixture
def world() -> World:
    return World()


def view(world: World, key: bytes, height: int = 10) -> LeafView:
    header = world.header(height)
    return LeafView(
        header=header,
        validators=MEMBERS,
        roots=section_roots(world.store),
        section=int(Section.MERCHANTS),
        key=key,
        leaf=load(world.store, Section.MERCHANTS, key),
        proof=prove(world.store, Section.MERCHANTS, key),
    )


def test_leaves_are_read_under_headers_that_were_verified(world: World) -> None:
    follower = Follower(world.anchor)
    assert follower.verify_leaf(view(world, MERCHANT), Section.MERCHANTS, MERCHANT, NOW_MS) == world.entry().encoded()
    other = b"\x01" * 20
    assert follower.verify_leaf(view(world, other, 11), Section.MERCHANTS, other, NOW_MS) is None
    assert follower.newest is not None and follower.newest.header.height == 11
    with pytest.raises(Untrusted):
        follower.verify_leaf(view(world, MERCHANT, 12), Section.PLATFORMS, MERCHANT, NOW_MS)


def test_it_does_not_go_back_and_an_old_header_that_it_knows_passes(world: World) -> None:
    follower = Follower(world.anchor)
    ten, eleven = world.header(10), world.header(11)
    nine = world.header(9)
    follower.verify_next(ten, MEMBERS, NOW_MS)
    follower.verify_next(eleven, MEMBERS, NOW_MS)
    assert follower.verify_next(ten, MEMBERS, NOW_MS).header.height == 10
    assert follower.newest is not None and follower.newest.header.height == 11
    with pytest.raises(Untrusted) as caught:
        follower.verify_next(nine, MEMBERS, NOW_MS)
    assert caught.value.code == "header.not_higher"


def test_a_second_header_of_one_height_is_a_fork(world: World) -> None:
    follower = Follower(world.anchor)
    follower.verify_next(world.header(10), MEMBERS, NOW_MS)
    world.entry_changes = {"consent_serial": 1}
    with pytest.raises(Untrusted) as caught:
        follower.verify_next(world.header(10), MEMBERS, NOW_MS)
    assert caught.value.code == "header.fork"


def test_a_known_header_grows_stale(world: World) -> None:
    follower = Follower(world.anchor)
    ten = world.header(10)
    follower.verify_next(ten, MEMBERS, NOW_MS)
    with pytest.raises(Untrusted) as caught:
        follower.verify_next(ten, MEMBERS, NOW_MS + 30_000)
    assert caught.value.code == "header.stale"


def test_a_forged_header_of_the_newest_height_is_no_fork(world: World) -> None:
    """What the validators did not sign twice is no evidence against them."""
    follower = Follower(world.anchor)
    follower.verify_next(world.header(10), MEMBERS, NOW_MS)
    world.entry_changes = {"consent_serial": 1}
    forged = world.header(10)
    votes = tuple(dataclasses.replace(vote, signature=b"s" * 64) for vote in forged.commit.votes)
    unsigned = dataclasses.replace(forged, commit=dataclasses.replace(forged.commit, votes=votes))
    with pytest.raises(Untrusted) as caught:
        follower.verify_next(unsigned, MEMBERS, NOW_MS)
    assert caught.value.code == "header.signature"
    with pytest.raises(Untrusted) as other:
        follower.verify_next(world.header(10, chain_id="onecode-other"), MEMBERS, NOW_MS)
    assert other.value.code == "header.chain_id"


def test_another_nodes_header_may_lie_a_little_below_the_newest(world: World) -> None:
    follower = Follower(world.anchor)
    nine, ten, twelve = world.header(9), world.header(10), world.header(12)
    follower.verify_next(twelve, MEMBERS, NOW_MS)
    assert follower.verify_recent(nine, MEMBERS, NOW_MS).header.height == 9  # from where the follower began
    follower = Follower(world.anchor)
    follower.verify_next(nine, MEMBERS, NOW_MS)
    follower.verify_next(twelve, MEMBERS, NOW_MS)
    assert follower.verify_recent(ten, MEMBERS, NOW_MS).header.height == 10
    assert follower.newest is not None and follower.newest.header.height == 12
    with pytest.raises(Untrusted) as caught:
        follower.verify_next(ten, MEMBERS, NOW_MS)
    assert caught.value.code == "header.not_higher"


def test_a_recent_header_is_fresh_signed_and_no_fork(world: World) -> None:
    follower = Follower(world.anchor)
    for height in (9, 11):
        follower.verify_next(world.header(height), MEMBERS, NOW_MS)
    ten = world.header(10)
    forged = dataclasses.replace(ten, header=dataclasses.replace(ten.header, app_hash=bytes(32)))
    world.entry_changes = {"consent_serial": 1}
    for header, now_ms, code in (
        (forged, NOW_MS, "header.commit_block"),
        (ten, NOW_MS + 31_000, "header.stale"),
        (world.header(9), NOW_MS, "header.fork"),
    ):
        with pytest.raises(Untrusted) as caught:
            follower.verify_recent(header, MEMBERS, now_ms)
        assert caught.value.code == code
