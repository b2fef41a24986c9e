"""Signing up, publishing, updating and withdrawing, and what the outbox makes of crashes and lost answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from sqlalchemy import select

from onecode.errors import Declined, Unreachable
from onecode.host.clock import now_ms
from onecode.platform.chain import Outcome
from onecode.platform.epochs import current_epoch, load_epochs
from onecode.platform.merchants import publish, withdraw
from onecode.platform.outbox import Sender
from onecode.platform.process import open_platform
from onecode.platform.schema import OutboxRow, OutboxState
from onecode.query.messages import MemberView
from onecode.record.envelope import RecordIds, open_envelope, verify_commitment, verify_signed_record
from onecode.registry.counters import floor_key
from onecode.registry.results import Result
from onecode.schema import parse
from onecode.wire import SigningKey
from unit.platform.test_payments import code_of
from unit.platform.world import CHAIN_ID, Keys, Merchant, Node, Payer, Server

pytestmark = pytest.mark.clock


class Lossy(httpx.BaseTransport):
    """Delivers every request; loses the answers to transactions while `losing`."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.losing, self.down, self.sent = False, False, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        is_transaction = request.method == "POST"
        if is_transaction and self.down:
            raise httpx.ConnectError("down", request=request)
        response = self._inner.handle_request(request)
        if is_transaction:
            self.sent += 1
            if self.losing:
                response.read()
                raise httpx.ReadTimeout("lost", request=request)
        return response


@pytest.fixture
def lossy(server: Server) -> Iterator[Lossy]:
    made = Lossy()
    chain: Any = server.platform.chain
    chain._client = httpx.Client(base_url=server.platform.config.node_url, transport=made, timeout=10)
    yield made
    chain._client.close()


def sign_up(server: Server, merchant: Merchant, **changes: Any) -> httpx.Response:
    return server.operator("POST", "/v1/merchants", json=merchant.agreement(server.platform.id, **changes))


def publish_path(merchant: Merchant) -> str:
    return f"/v1/merchants/{merchant.id.hex()}/publish"


def rows(server: Server, kind: type[Any]) -> list[Any]:
    with server.platform.database.read() as session:
        return list(session.scalars(select(kind)))


def state_of(server: Server, merchant: Merchant) -> tuple[str, int | None]:
    found = server.operator("GET", "/v1/merchants").json()
    row = next(one for one in found if one["merchant"] == merchant.id.hex())
    return row["state"], row["version"]


def test_a_published_record_is_what_the_chain_commits_to(server: Server) -> None:
    merchant = server.live_merchant()
    view = server.platform.chain.fetch_merchant(merchant.id, "pay")
    assert view.state is not None
    link = view.state.link_of(server.platform.id)
    assert link is not None and link.version == 1
    epochs = load_epochs(server.platform.config.epoch_key_file)
    assert link.epoch == current_epoch(epochs, now_ms(), server.platform.config.epoch_lead_ms)
    ids = RecordIds(merchant=merchant.id, platform=server.platform.id, service="pay", version=1, epoch=link.epoch)
    envelope = parse(MemberView, view.raw).envelopes[0]
    opened = open_envelope(CHAIN_ID, ids, envelope, AESGCMSIV(epochs[link.epoch].key))
    record = verify_signed_record(CHAIN_ID, ids, verify_commitment(CHAIN_ID, ids, opened, link.commitment))
    assert (record.display_name, record.kyb_level.name, record.platform) == (
        "Café Exemple",
        "FULL",
        server.platform.id,
    )


def test_updates_and_withdrawals_take_the_next_version(server: Server) -> None:
    merchant = server.live_merchant()
    again = server.operator("POST", publish_path(merchant))
    assert (again.json()["state"], again.json()["version"]) == ("live", 2)
    gone = server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/withdraw").json()
    assert (gone["state"], gone["version"]) == ("withdrawn", 2)
    assert code_of(server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/withdraw")) == (
        409,
        "merchant.not_live",
    )
    back = server.operator("POST", publish_path(merchant)).json()  # its consent still holds
    assert (back["state"], back["version"]) == ("live", 3)


def test_two_platforms_serve_one_merchant_each_by_its_own_record(
    server: Server, node: Node, keys: list[Keys], tmp_path: Path
) -> None:
    (tmp_path / "beta").mkdir()
    other = Server(keys[1].config(tmp_path / "beta", node.url))
    try:
        merchant = server.live_merchant()
        other.live_merchant(merchant, display_name="Other Name")
        payer, stranger = Payer(server), Payer(other)
        assert payer.pay(payer.request(merchant)).json()["display_name"] == "Café Exemple"
        assert stranger.pay(stranger.request(merchant)).json()["display_name"] == "Other Name"
        assert code_of(payer.pay(stranger.request(merchant))) == (409, "payment.platform")
        # a credential of one platform is nothing at the other
        payer.server = other
        assert code_of(payer.send("GET", "/v1/account")) == (401, "credential.platform")
    finally:
        other.stop()


# --- the outbox


def test_an_unreachable_node_keeps_the_transaction_waiting(server: Server, lossy: Lossy) -> None:
    merchant = Merchant()
    assert sign_up(server, merchant).status_code == 201
    lossy.down = True
    waiting = server.operator("POST", publish_path(merchant))
    assert (waiting.status_code, waiting.json()["state"]) == (202, "publishing")
    assert code_of(server.operator("POST", publish_path(merchant))) == (409, "merchant.busy")
    lossy.down = False
    server.sender.drain()
    assert state_of(server, merchant) == ("live", 1)


def test_a_lost_answer_publishes_nothing_twice(server: Server, lossy: Lossy) -> None:
    merchant = Merchant()
    sign_up(server, merchant)
    lossy.losing = True
    assert server.operator("POST", publish_path(merchant)).status_code == 202
    assert lossy.sent == 1
    server.sender.drain()  # looks the chain up first
    assert lossy.sent == 1
    assert state_of(server, merchant) == ("live", 1)


def test_a_withdrawal_counts_before_the_chain_has_it_and_survives_a_lost_answer(server: Server, lossy: Lossy) -> None:
    merchant, payer = server.live_merchant(), Payer(server)
    request = payer.request(merchant)
    lossy.down = True
    assert server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/withdraw").status_code == 202
    assert code_of(payer.pay(request)) == (409, "payment.link")
    lossy.down, lossy.losing = False, True
    with pytest.raises(Unreachable):
        server.sender.drain()
    server.sender.drain()
    assert state_of(server, merchant) == ("withdrawn", 1)


def test_a_crash_before_sending_is_made_good_by_the_next_process(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    config = keys[0].config(tmp_path, node.url)
    server = Server(config)
    merchant = Merchant()
    sign_up(server, merchant)
    publish(server.platform, merchant.id, "pay")  # durable, not sent
    server.stop()
    platform = open_platform(config)
    try:
        Sender(platform).drain()
        view = platform.chain.fetch_merchant(merchant.id, "pay")
        assert view.state is not None and view.state.link_of(platform.id) is not None
    finally:
        platform.database.close()


def test_a_nonce_that_was_overtaken_is_signed_again(server: Server, lossy: Lossy) -> None:
    first, second = Merchant(), Merchant()
    for merchant in (first, second):
        sign_up(server, merchant)
        publish(server.platform, merchant.id, "pay")
    before = rows(server, OutboxRow)
    assert [row.nonce for row in before] == [before[0].nonce, before[0].nonce + 1]
    server.platform.chain.submit(before[1].transaction)
    server.sender.drain()
    after = rows(server, OutboxRow)
    assert [row.state for row in after] == [OutboxState.DONE, OutboxState.DONE]
    assert after[0].nonce > before[1].nonce
    assert after[1].transaction == before[1].transaction
    assert [state_of(server, one) for one in (first, second)] == [("live", 1), ("live", 1)]


def test_an_expired_transaction_is_signed_again(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    ahead = [0]
    server = Server(keys[0].config(tmp_path, node.url, transaction_valid_ms=1_000), lambda: now_ms() + ahead[0])
    try:
        merchant = Merchant()
        sign_up(server, merchant)
        publish(server.platform, merchant.id, "pay")
        before = rows(server, OutboxRow)[0]
        ahead[0] = 15_000
        server.sender.drain()
        after = rows(server, OutboxRow)[0]
        assert after.state == OutboxState.DONE
        assert after.valid_until_ms >= before.valid_until_ms + 10_000
        assert after.payload == before.payload
    finally:
        server.stop()


def test_a_quota_that_is_used_up_is_no_final_answer(server: Server) -> None:
    """In a block: it changed nothing, its nonce is not used, and these bytes have their fate."""
    merchant, chain, sent = Merchant(), server.platform.chain, []
    sign_up(server, merchant)
    real = chain.submit

    def submit(transaction: bytes) -> Outcome:
        sent.append(transaction)
        return Outcome(int(Result.QUOTA), "quota", 7) if len(sent) < 3 else real(transaction)

    chain.submit = submit  # type: ignore[method-assign]
    assert server.operator("POST", publish_path(merchant)).json()["state"] == "live"
    assert len(set(sent)) == 3  # signed again each time
    chain.submit = lambda _: Outcome(int(Result.QUOTA), "quota", 7)  # type: ignore[method-assign]
    assert server.operator("POST", publish_path(merchant)).status_code == 202
    chain.submit = real  # type: ignore[method-assign]
    server.sender.drain()
    assert state_of(server, merchant) == ("live", 2)


def test_what_the_chain_refuses_is_said_and_can_be_made_good(server: Server) -> None:
    merchant = Merchant()
    wrong = merchant.agreement(server.platform.id, serial=7)
    assert server.operator("POST", "/v1/merchants", json=wrong).status_code == 201
    assert code_of(server.operator("POST", publish_path(merchant))) == (409, "merchant.refused")
    assert state_of(server, merchant) == ("failed", 1)
    assert sign_up(server, merchant).status_code == 200
    assert server.operator("POST", publish_path(merchant)).json()["version"] == 1
    assert state_of(server, merchant) == ("live", 1)


def test_an_unlinked_merchant_needs_a_new_consent(server: Server, node: Node) -> None:
    merchant = server.live_merchant()
    merchant.unlink(node, server.platform.id)
    assert code_of(server.operator("POST", publish_path(merchant))) == (409, "merchant.refused")
    fresh = merchant.agreement(server.platform.id, serial=1)
    assert server.operator("POST", "/v1/merchants", json=fresh).status_code == 200
    assert server.operator("POST", publish_path(merchant)).json()["version"] == 2


def operate(server: Server, merchant: Merchant, what: str) -> int:
    answer = server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/{what}")
    assert answer.status_code in (200, 202), answer.text
    return int(answer.json()["version"])


def test_another_platforms_ending_links_spoil_no_version(
    server: Server, node: Node, keys: list[Keys], tmp_path: Path
) -> None:
    (tmp_path / "beta").mkdir()
    late = Server(keys[1].config(tmp_path / "beta", node.url))
    try:
        merchant = server.live_merchant()
        assert sign_up(late, merchant).status_code == 201
        assert publish(late.platform, merchant.id, "pay") == 1
        for version in (1, 2, 3):  # after the other one has signed, and before its transaction is sent
            assert operate(server, merchant, "withdraw") == version
            assert operate(server, merchant, "publish") == version + 1
        late.sender.drain()
        assert state_of(late, merchant) == ("live", 1)
        assert operate(late, merchant, "withdraw") == 1
        assert operate(late, merchant, "publish") == 2  # above its own floor
        assert (state_of(late, merchant), state_of(server, merchant)) == (("live", 2), ("live", 4))
    finally:
        late.stop()


def test_a_platform_reads_its_floor_where_the_service_has_no_link_of_it(
    server: Server, node: Node, keys: list[Keys], tmp_path: Path
) -> None:
    """Not before a first publication, nor while it has a live link: the proven entry says it then."""
    chain, merchant, asked = server.platform.chain, Merchant(), []
    real = chain.version_floor

    def version_floor(merchant_id: bytes, service: str) -> int:
        asked.append(real(merchant_id, service))
        return asked[-1]

    chain.version_floor = version_floor  # type: ignore[method-assign]
    sign_up(server, merchant)
    assert (operate(server, merchant, "publish"), operate(server, merchant, "publish")) == (1, 2)
    assert asked == []
    assert operate(server, merchant, "withdraw") == 2
    assert operate(server, merchant, "publish") == 3
    assert asked == [2]


def test_floors_are_told_to_members_only(server: Server) -> None:
    merchant = server.live_merchant()
    key = floor_key(merchant.id, server.platform.id, "pay")
    answer = httpx.get(f"{server.platform.config.node_url}/v1/leaves/counters/{key.hex()}")
    assert code_of(answer) == (401, "request.member")
    assert server.platform.chain.version_floor(merchant.id, "pay") == 0


def test_unknown_merchants_are_told(server: Server) -> None:
    with pytest.raises(Declined, match=r"merchant\.unknown"):
        publish(server.platform, bytes(20), "pay")
    with pytest.raises(Declined, match=r"merchant\.unknown"):
        withdraw(server.platform, bytes(20), "pay")


# --- the agreement


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mcc": "58x2"}, (400, "record.mcc")),
        ({"country": "fr"}, (400, "record.country")),
        ({"valid_until_ms": 0}, (400, "record.validity")),
        ({"service": "food"}, (400, "merchant.service")),
        ({"terms": {"accounts": [], "tip_mode": "none"}}, (400, "wire.field")),
        ({"surprise": 1}, (400, "wire.field_unknown")),
    ],
)
def test_an_agreement_that_makes_no_record_is_refused(
    server: Server, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert code_of(sign_up(server, Merchant(), **changes)) == expected


def test_a_consent_for_others_late_or_unsigned_is_refused(server: Server) -> None:
    merchant, platform = Merchant(), server.platform.id

    def signed(consent: Any) -> tuple[int, str]:
        plain = {"body": consent.body.hex(), "signature": consent.signature.hex()}
        return code_of(sign_up(server, merchant, consent=plain))

    assert signed(merchant.consent(bytes(20))) == (401, "merchant.consent")
    assert signed(merchant.consent(platform, expires_ms=1)) == (401, "merchant.consent_expired")
    merchant.controller, real = SigningKey.from_seed(bytes(32)), merchant.controller
    forged = merchant.consent(platform)
    merchant.controller = real
    assert signed(forged) == (401, "signature.bad")
