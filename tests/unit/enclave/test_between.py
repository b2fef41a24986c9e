"""An enclave from before a full replacement of the validators is led over headers between, and never by false ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from chain_world import NOW_MS, World
from onecode.enclave import serving
from onecode.enclave.core import Enclave
from onecode.enclave.frames import EvidenceRequest, FrameKind, Refusal
from onecode.enclave.serving import control_handler, reply, worker_handler
from onecode.errors import OnecodeError
from onecode.proof.header import SignedHeader
from onecode.query.messages import HeaderView
from onecode.schema import parse
from replaced_validators import DAY_MS, strangers_view, view_between, world_after_replacement


@pytest.fixture
def world() -> World:
    return world_after_replacement()


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(OnecodeError) as caught:
        call()
    return caught.value.code


def led(world: World) -> Enclave:
    enclave = world.enclave()
    for height in (6, 7):
        enclave.accept_between(view_between(height), NOW_MS)
    return enclave


def test_headers_between_lead_to_the_newest_one(world: World) -> None:
    enclave, update = world.enclave(), world.header_update()
    assert enclave.status().trusted_height == 2
    assert refusal(lambda: enclave.accept_header(update, NOW_MS)) == "header.not_enough_trust"
    for height in (6, 7):
        enclave.accept_between(view_between(height), NOW_MS)
        assert (enclave.status().height, enclave.status().trusted_height) == (0, height)
    enclave.accept_header(update, NOW_MS)
    assert (enclave.status().height, enclave.status().trusted_height) == (10, 10)


def test_nothing_is_answered_under_a_header_between(world: World) -> None:
    enclave = led(world)
    service = world.key_service(world.a)
    asked = EvidenceRequest(platform=world.a.id, nonce=b"n" * 32, key_service_key=service.public_key)
    assert refusal(lambda: enclave.make_evidence(asked, NOW_MS)) == "platform.unknown"
    enclave.accept_header(world.header_update(), NOW_MS)
    query = world.query(enclave, world.a)
    for height in (6, 7):
        result = world.opened(enclave.answer(world.asked(query, height=height), NOW_MS), query)
        assert (result.opened, result.refusal) == ((), "enclave.header_unknown")


def test_no_evidence_binds_a_header_between(world: World) -> None:
    enclave = led(world)
    enclave.accept_header(world.header_update(), NOW_MS)
    later = world.header(12)
    enclave.accept_between(HeaderView(header=later, validators=view_between(7).validators), NOW_MS)
    asked = EvidenceRequest(platform=world.a.id, nonce=b"n" * 32, key_service_key=world.key_service(world.a).public_key)
    made = enclave.make_evidence(asked, NOW_MS)
    newest = enclave._known[10].header
    assert (made.height, made.bindings.header_hash) == (10, newest.header_hash)
    assert enclave.status().trusted_height == 12
    assert refusal(lambda: enclave.accept_header(world.header_update(height=11), NOW_MS)) == "header.not_higher"


def altered(height: int) -> HeaderView:
    """A true header's votes under another state."""
    view = view_between(height)
    header = dataclasses.replace(view.header.header, app_hash=bytes(32))
    return dataclasses.replace(view, header=SignedHeader(header=header, commit=view.header.commit))


@pytest.mark.parametrize(
    ("view", "code"),
    [
        (altered(5), "header.commit_block"),
        (strangers_view(5), "header.not_enough_trust"),
        (strangers_view(3), "header.next_validators"),
        (view_between(8), "header.not_enough_trust"),
        (dataclasses.replace(view_between(5), validators=view_between(7).validators), "header.validators"),
        (view_between(2), "header.not_higher"),
        (view_between(1), "header.not_higher"),
        (view_between(5, chain_id="another"), "header.chain_id"),
    ],
)
def test_a_false_or_lower_header_between_changes_nothing(world: World, view: HeaderView, code: str) -> None:
    enclave = world.enclave()
    assert refusal(lambda: enclave.accept_between(view, NOW_MS)) == code
    assert enclave.status().trusted_height == 2
    enclave.accept_between(view_between(6), NOW_MS)
    for lower in (5, 6):
        assert refusal(lambda lower=lower: enclave.accept_between(view_between(lower), NOW_MS)) == "header.not_higher"


def test_the_trusting_period_holds_for_headers_between(world: World) -> None:
    enclave = world.enclave()
    late_ms = NOW_MS + 14 * DAY_MS
    assert refusal(lambda: enclave.accept_between(view_between(6), late_ms)) == "header.trust_expired"


def test_a_worker_tells_the_parent_what_it_verified(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "now_ms", lambda: NOW_MS)
    parent, worker, told = world.enclave("same"), world.enclave("same"), list[bytes]()
    handle = worker_handler(worker, told.append)
    kind, answer = reply(handle, FrameKind.BETWEEN, altered(6).encoded())
    assert (kind, parse(Refusal, answer).code, told) == (FrameKind.ERROR, "header.commit_block", [])
    for height in (6, 7):
        assert reply(handle, FrameKind.BETWEEN, view_between(height).encoded()) == (FrameKind.OK, b"")
    assert reply(handle, FrameKind.HEADER, world.header_update().encoded()) == (FrameKind.OK, b"")
    for number, found, payload in serving.unpack(b"".join(told))[0]:
        assert number == 0
        assert reply(control_handler(parent, ()), found, payload) == (FrameKind.OK, b"")
    assert parent.status().height == 10
