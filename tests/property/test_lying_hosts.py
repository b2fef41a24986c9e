"""Whatever a host hands its enclave: nothing is opened but what the chain says, and refusals are of the error tree."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chain_world import CHAIN_ID, MEMBERS, MERCHANT, NOW_MS, World, make_record
from onecode.enclave.core import Enclave
from onecode.enclave.frames import EnclaveQuery, HeaderUpdate
from onecode.errors import Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.governance import EnclavePolicy
from onecode.proof.leaves import PlatformStatus
from onecode.proof.map import Section
from onecode.query.messages import MatchMode, Result
from onecode.query.sealing import build_query, open_result
from onecode.record.envelope import SignedRecord
from onecode.schema import parse, to_value
from onecode.wire import SigningKey, encode, sha256
from property.altered_values import Donors, altered, reencoded
from vectors.proof_chain import signed_by

FIRST = 10
REFUSALS = {"Malformed", "Untrusted", "Declined", "Unreachable"}


@dataclasses.dataclass
class Past:
    """A chain of four heights, what a host may hand over at each, and an enclave that has followed all of it."""

    world: World
    updates: list[Any]
    asked: list[Any]
    opens: dict[int, dict[bytes, bytes]]  # by height: what a wallet of A may read of A and of B
    platforms_roots: dict[int, bytes]
    policies: dict[int, bytes]
    fresh: Enclave
    enclave: Enclave


def change(world: World, height: int) -> None:
    a, b = world.a, world.b
    if height == 10:
        world.opened = {a.id: world.publish(a), b.id: world.publish(b, make_record(b.id, audience=(a.id,)))}  # type: ignore[attr-defined]
    elif height == 11:
        world.opened[a.id] = world.publish(a, make_record(a.id, version=2))  # type: ignore[attr-defined]
        world.policy = EnclavePolicy(measurements=(), serial=2)
    elif height == 12:
        del world.records[a.id], world.opened[a.id]  # type: ignore[attr-defined]
        world.leaves[world.c.id] = world.c.leaf()
    elif height == 13:
        del world.opened[b.id]  # type: ignore[attr-defined]
        world.leaves[b.id] = b.leaf(status=PlatformStatus.SUSPENDED)


@cache
def past() -> Past:
    world = World()
    fresh = world.ready_enclave()
    found = Past(world, [], [], {}, {}, {}, fresh, fresh)
    for height in range(FIRST, FIRST + 4):
        world.height = height
        change(world, height)
        opened: dict[bytes, SignedRecord] = world.opened  # type: ignore[attr-defined]
        found.opens[height] = {platform: signed.encoded() for platform, signed in opened.items()}
        update = world.header_update()
        found.platforms_roots[height] = update.roots.root(Section.PLATFORMS)
        found.policies[height] = sha256(update.policy)
        foreign = dataclasses.replace(update.header.header, chain_id="onecode-other")
        for header in (
            update.header,
            signed_by(foreign, [1, 2, 3, 4], [NOW_MS - 1000] * 4),
            signed_by(update.header.header, [1, 2, 3, 4], [NOW_MS - 40_000] * 4),
        ):
            found.updates.append(to_value(dataclasses.replace(update, header=header)))
        query = world.query(fresh, world.a)
        for merchant in (world.proven_merchant(), world.proven_merchant(b"\x07" * 20)):
            found.asked.append(to_value(world.asked(query, merchant=merchant)))
    return found


@cache
def query_donors() -> Donors:
    return Donors(past().asked)


@cache
def update_donors() -> Donors:
    return Donors(past().updates)


@cache
def followed() -> Enclave:
    """An enclave with the keys of A and B that has verified every height."""
    world = World()
    world.opened = {}  # type: ignore[attr-defined]
    change(world, FIRST)
    enclave = world.ready_enclave()
    for update in past().updates[::3]:
        enclave.accept_header(parse(HeaderUpdate, encode(update)), NOW_MS)
    return enclave


def ask(number: int, mode: MatchMode, merchant: bytes) -> Any:
    """A query of a device that has not asked before."""
    world, enclave = past().world, followed()
    device = SigningKey.from_seed(sha256(f"device {number}".encode()))
    clear = world.clear(enclave, merchant=merchant)
    secret = world.secret(
        world.a,
        mode,
        accepted=(world.a.id, world.b.id),
        query_id=sha256(f"query {number}".encode())[:16],
        credential=world.a.credential(device=device.public),
    )
    return build_query(clear, secret, device)


asked_so_far = iter(range(1 << 40))


def opened_by(result: Result) -> dict[bytes, bytes]:
    return {one.platform: one.signed_record for one in result.opened}


def test_an_honest_host_is_answered_at_every_height() -> None:
    for height, message in zip(range(FIRST, FIRST + 4), past().asked[::2], strict=True):
        query = ask(next(asked_so_far), MatchMode.WALLET, MERCHANT)
        sealed = followed().answer(parse(EnclaveQuery, encode(message | {1: query.encoded()})), NOW_MS)
        result = open_result(CHAIN_ID, sealed, b"r" * 32, sha256(query.clear))
        assert opened_by(result) == past().opens[height]
        assert result.refusal == (None if past().opens[height] else "platform.absent")


@given(st.data())
def test_no_host_has_anything_opened_but_what_the_chain_says(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(past().asked), label="asked")
    mode = data.draw(st.sampled_from(MatchMode))
    merchant = data.draw(st.sampled_from([MERCHANT] * 4 + [b"\x07" * 20]))
    query = ask(next(asked_so_far), mode, merchant)
    message = altered(data.draw, message, query_donors(), data.draw(st.integers(0, 3), label="changes"))
    if 1 in message and data.draw(st.integers(0, 9)):
        message = message | {1: query.encoded()}
    try:
        asked = parse(EnclaveQuery, reencoded(data.draw, encode(message)))
        sealed = followed().answer(asked, NOW_MS)
    except (Malformed, Untrusted, Unreachable):
        return
    try:
        result = open_result(CHAIN_ID, sealed, b"r" * 32, sha256(query.clear))
    except Untrusted:  # the reply to the query of a donor: it is of the same device, and answered once
        result = open_result(CHAIN_ID, sealed, b"r" * 32, sha256(past().world.clear(past().fresh).encoded()))
    if result.refusal is not None:
        assert result.opened == ()
        assert result.branch in REFUSALS
        if result.branch == "Declined":
            absent = merchant != MERCHANT
            assert result.refusal == ("merchant.absent" if absent else "platform.absent")
            assert absent or not past().opens[asked.height]
        return
    allowed = past().opens[asked.height] if merchant == MERCHANT else {}
    opened = opened_by(result)
    first = next(iter([p for p in (past().world.a.id, past().world.b.id) if p in allowed]), None)
    assert opened == (allowed if mode == MatchMode.WALLET else {first: allowed[first]} if first else {})


@given(st.data())
def test_no_host_has_a_header_believed_but_the_chains(data: st.DataObject) -> None:
    enclave = past().fresh
    kept = (dict(enclave._known), enclave._trust, enclave._height, enclave._policy_hash)
    try:
        for _ in range(data.draw(st.integers(1, 3))):
            message = data.draw(st.sampled_from(past().updates), label="update")
            message = altered(data.draw, message, update_donors(), data.draw(st.integers(0, 3), label="changes"))
            before, policy = enclave.status(), enclave._policy_hash
            try:
                enclave.accept_header(parse(HeaderUpdate, reencoded(data.draw, encode(message))), NOW_MS)
            except OnecodeError as error:
                assert isinstance(error, (Malformed, Untrusted))
                assert (enclave.status(), enclave._policy_hash) == (before, policy)
                continue
            now = enclave.status()
            assert now.platforms_root in (past().platforms_roots[now.height], before.platforms_root)
            known = enclave._known[now.height]
            assert known.header.header.chain_id == CHAIN_ID
            if now.height > FIRST:
                assert now.platforms_root == past().platforms_roots[now.height]
                assert enclave._policy_hash == past().policies[now.height]
                assert known.roots.root(Section.PLATFORMS) == now.platforms_root
            assert known.header.validators == MEMBERS
    finally:
        enclave._known, enclave._trust, enclave._height, enclave._policy_hash = kept
