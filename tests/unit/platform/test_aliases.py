"""Binding labels of other schemes: consent, refusals, and what the outbox makes of crashes and lost answers."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from onecode.host.clock import now_ms
from onecode.platform.aliases import AliasRequest, bind_alias
from onecode.platform.outbox import Sender
from onecode.platform.process import open_platform
from onecode.platform.schema import OutboxRow, OutboxState
from onecode.proof.governance import Proposal, ProposalKind, SchemeLeaf
from onecode.proof.leaves import Role, alias_key
from onecode.registry.transactions import (
    AliasRelease,
    Kind,
    ProposalApprove,
    ProposalSubmit,
    Purpose,
    SignedConsent,
    SignerKind,
    proposal_id,
)
from onecode.schema import from_plain, to_plain
from unit.platform.test_merchants import Lossy, lossy
from unit.platform.test_payments import code_of
from unit.platform.world import CHAIN_ID, Keys, Merchant, Node, Server

pytestmark = pytest.mark.clock

__all__ = ["lossy"]  # the fixture

GUID = "x.old.bank"


@pytest.fixture
def scheme(node: Node, keys: list[Keys], server: Server) -> str:
    """A scheme of its own for each test, which the first platform speaks for: sub-objects 01 and 03."""
    guid = f"{GUID}.{secrets.token_hex(4)}"
    leaf = SchemeLeaf(platform=server.platform.id, sub_objects=("01", "03"), effective_ms=0)
    proposal = Proposal(
        kind=ProposalKind.SCHEME_ASSIGN,
        expires_ms=now_ms() + 60_000,
        salt=secrets.token_bytes(16),
        guid=guid,
        scheme=leaf,
    ).encoded()
    govern(node, keys[0], Kind.PROPOSAL_SUBMIT, ProposalSubmit(proposal=proposal))
    for one in keys[1:]:
        govern(node, one, Kind.PROPOSAL_APPROVE, ProposalApprove(proposal_id=proposal_id(CHAIN_ID, proposal)))
    return guid


def govern(node: Node, keys: Keys, kind: Kind, payload: Any) -> None:
    """Some may be suspended by other tests: those approve nothing, and are not counted."""
    key = keys.key(Role.GOVERNANCE)
    node.submit(kind, payload, signer=keys.id, by=SignerKind.PLATFORM, key=key, nonce=now_ms())


def body(merchant: Merchant, platform: bytes, guid: str, values: tuple[str, ...] = ("A", "B"), **more: Any) -> Any:
    """What the operator posts; `more` changes the consent."""
    changes = {"purpose": Purpose.ALIAS, "service": None, "alias": alias_key(guid, values)} | more
    consent: SignedConsent = merchant.consent(platform, **changes)
    return {"guid": guid, "values": list(values), "consent": to_plain(consent)}


def path(merchant: Merchant) -> str:
    return f"/v1/merchants/{merchant.id.hex()}/aliases"


def listed(server: Server, merchant: Merchant) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.operator("GET", path(merchant)).json()
    return found


def test_an_alias_is_bound_once_and_listed(server: Server, scheme: str) -> None:
    merchant = server.live_merchant()
    given = body(merchant, server.platform.id, scheme)
    assert listed(server, merchant) == []
    for _ in range(2):
        answer = server.operator("POST", path(merchant), json=given)
        assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert listed(server, merchant) == [
        {"guid": scheme, "values": ["A", "B"], "state": "done", "refusal": None, "bound": True}
    ]
    leaf = server.platform.chain.fetch_alias(alias_key(scheme, ("A", "B")))
    assert leaf is not None and (leaf.merchant, leaf.platform) == (merchant.id, server.platform.id)


def test_a_released_alias_is_not_bound_again_by_the_old_consent(server: Server, node: Node, scheme: str) -> None:
    merchant = server.live_merchant()
    given = body(merchant, server.platform.id, scheme)
    assert server.operator("POST", path(merchant), json=given).status_code == 200
    merchant.send(node, Kind.ALIAS_RELEASE, AliasRelease(guid=scheme, values=("A", "B")))
    (row,) = listed(server, merchant)
    assert (row["state"], row["bound"]) == ("done", False)
    assert code_of(server.operator("POST", path(merchant), json=given)) == (409, "alias.refused")
    (row,) = listed(server, merchant)
    assert (row["state"], row["refusal"], row["bound"]) == ("failed", "consent-serial", False)
    fresh = body(merchant, server.platform.id, scheme, consent_serial=1)
    assert server.operator("POST", path(merchant), json=fresh).status_code == 200


def test_what_the_chain_refuses_is_said(server: Server, scheme: str) -> None:
    merchant, other = server.live_merchant(), server.live_merchant()
    platform = server.platform.id
    assert server.operator("POST", path(merchant), json=body(merchant, platform, scheme)).status_code == 200

    def refusal(who: Merchant, given: Any) -> str:
        answer = server.operator("POST", path(who), json=given)
        assert code_of(answer) == (409, "alias.refused")
        return str(answer.json()["detail"]).rpartition(" ")[2]

    assert refusal(other, body(other, platform, scheme)) == "alias-bound"
    assert refusal(other, body(other, platform, scheme, ("A",))) == "alias-shape"
    assert refusal(other, body(other, platform, "x.nobody")) == "scheme-unassigned"
    stranger = Merchant()
    assert refusal(stranger, body(stranger, platform, scheme, ("C", "D"))) == "merchant-unknown"


def test_a_consent_that_does_not_fit_is_refused_before_anything_is_sent(server: Server, scheme: str) -> None:
    merchant, platform = Merchant(), server.platform.id
    given = body(merchant, platform, scheme)

    def code(changed: Any) -> tuple[int, str]:
        return code_of(server.operator("POST", path(merchant), json=changed))

    assert code(body(merchant, b"p" * 20, scheme)) == (401, "alias.consent")
    assert code(given | {"values": ["A", "C"]}) == (401, "alias.consent")
    assert code(given | {"guid": "x.other"}) == (401, "alias.consent")
    assert code(body(merchant, platform, scheme, purpose=Purpose.PUBLISH)) == (401, "alias.consent")
    assert code(body(merchant, platform, scheme, expires_ms=now_ms())) == (401, "alias.consent_expired")
    assert code(given | {"values": []}) == (400, "wire.field")
    assert code(given | {"more": 1}) == (400, "wire.field_unknown")
    assert code([]) == (400, "wire.field")
    assert server.http.post(path(merchant), json=given).status_code == 401
    assert listed(server, merchant) == []


def test_one_alias_of_a_merchant_is_on_its_way_at_a_time(server: Server, lossy: Lossy, scheme: str) -> None:
    merchant = server.live_merchant()
    lossy.down = True
    first = server.operator("POST", path(merchant), json=body(merchant, server.platform.id, scheme))
    assert (first.status_code, first.json()["state"]) == (202, "waiting")
    second = server.operator("POST", path(merchant), json=body(merchant, server.platform.id, scheme, ("C", "D")))
    assert code_of(second) == (409, "alias.busy")
    lossy.down = False
    server.sender.drain()
    assert [row["bound"] for row in listed(server, merchant)] == [True]


def test_a_lost_answer_binds_once(server: Server, lossy: Lossy, scheme: str) -> None:
    merchant = server.live_merchant()
    lossy.losing = True
    given = body(merchant, server.platform.id, scheme)
    assert server.operator("POST", path(merchant), json=given).status_code == 202
    lossy.losing, before = False, lossy.sent
    server.sender.drain()
    assert lossy.sent == before  # found in the chain, not sent again
    assert [row["state"] for row in listed(server, merchant)] == ["done"]


def test_a_crash_before_sending_is_made_good_by_the_next_process(
    node: Node, keys: list[Keys], tmp_path: Path, scheme: str
) -> None:
    directory = tmp_path / "own"  # beside that of the server whose id the scheme has
    directory.mkdir()
    config = keys[0].config(directory, node.url)
    server = Server(config)
    merchant = server.live_merchant()
    request = from_plain(AliasRequest, body(merchant, server.platform.id, scheme), "alias")
    assert bind_alias(server.platform, merchant.id, request)  # durable, not sent
    server.stop()
    platform = open_platform(config)
    try:
        Sender(platform).drain()
        assert platform.chain.fetch_alias(alias_key(scheme, ("A", "B"))) is not None
        with platform.database.read() as session:
            rows = session.scalars(select(OutboxRow).where(OutboxRow.kind == int(Kind.ALIAS_BIND)))
            assert [row.state for row in rows] == [OutboxState.DONE]
    finally:
        platform.database.close()
