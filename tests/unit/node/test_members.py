"""Who reads what members read: platforms on chain, observers in force; and how long."""

from __future__ import annotations

from typing import Any

import pytest

from onecode.errors import OnecodeError, Untrusted
from onecode.host.clock import now_ms
from onecode.node.members import Members
from onecode.node.routes import Request
from onecode.node.view import load_head
from onecode.proof.governance import ObserverLeaf, ProposalKind, observer_key
from onecode.proof.leaves import Role
from onecode.proof.map import Section
from onecode.query.requests import member_header, observer_header
from onecode.registry.map import update
from onecode.wire import SigningKey
from unit.node.test_view import prove_state
from unit.registry.world import CHAIN, World

pytestmark = pytest.mark.clock

KEY = SigningKey.from_seed(b"o" * 32)
PATH = "/v1/members/blocks/1"


class Config:
    chain_id = CHAIN


@pytest.fixture
def world() -> World:
    world = World()
    admit(world)
    return world


def admit(world: World, key: SigningKey = KEY, effective_ms: int = 0) -> None:
    leaf = ObserverLeaf(key=key.public, effective_ms=effective_ms)
    update(world.store, Section.GOVERNANCE, {observer_key("auditor"): leaf.encoded()})
    prove_state(world, 7)


def require(world: World, headers: dict[str, str], path: str = PATH) -> Any:
    members = Members(Config(), None, load_head, None, None)  # type: ignore[arg-type] # only the store given is read
    return members.require(Request("GET", path, headers, b"", True, {}), world.store, load_head(world.store))


def observer(
    key: SigningKey = KEY, node_id: str = "auditor", path: str = PATH, at_ms: int | None = None
) -> dict[str, str]:
    at_ms = now_ms() if at_ms is None else at_ms
    return {"onecode-observer": observer_header(CHAIN, node_id, key, "GET", path, b"", at_ms)}


def code(world: World, headers: dict[str, str]) -> str:
    with pytest.raises(OnecodeError) as caught:
        require(world, headers)
    return caught.value.code


def test_an_observer_in_force_reads(world: World) -> None:
    allowed = require(world, observer())
    allowed(world.store, load_head(world.store))
    admit(world, SigningKey.from_seed(b"n" * 32))
    with pytest.raises(Untrusted, match="another key"):
        allowed(world.store, load_head(world.store))
    update(world.store, Section.GOVERNANCE, {observer_key("auditor"): None})
    with pytest.raises(Untrusted, match="no such observer"):
        allowed(world.store, load_head(world.store))


def test_who_is_no_observer_is_refused(world: World) -> None:
    assert code(world, observer(node_id="nobody")) == "request.observer"
    assert code(world, observer(SigningKey.from_seed(b"x" * 32))) == "request.observer"
    assert code(world, observer(path="/v1/members/blocks/2")) == "signature.bad"
    assert code(world, observer(at_ms=now_ms() - 61_000)) == "request.time"
    assert code(world, {"onecode-observer": "A"}) == "request.header"
    assert code(world, {}) == "request.member"
    admit(world, effective_ms=now_ms() + 60_000)
    assert code(world, observer()) == "request.observer"


def test_a_platform_that_is_suspended_does_not_go_on_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = world.platforms[2]
    monkeypatch.setattr("onecode.node.members.now_ms", lambda: world.time_ms)
    header = member_header(CHAIN, platform.id, platform.keys[Role.TRANSACTION], "GET", PATH, b"", world.time_ms)
    allowed = require(world, {"onecode-member": header})
    allowed(world.store, load_head(world.store))
    assert world.govern(ProposalKind.PLATFORM_SUSPEND, platform=platform.id).name == "OK"
    prove_state(world, 8)
    with pytest.raises(Untrusted, match="active member"):
        allowed(world.store, load_head(world.store))
