"""What a node has decided, but not proven yet: payments are refused at once, and by nothing else than before after it.

The chain here proves what it decides in one step. So the tests put a block after the newest proven one into the file
in which a writer with an engine leaves it; the node's API and the platform do the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from onecode.errors import Unreachable
from onecode.host.clock import now_ms
from onecode.node.blocks import StoredBlock, stored_result
from onecode.node.decided import save_decided
from onecode.platform.payments import pay
from onecode.proof.leaves import Role
from onecode.query.credential import parse_credential
from onecode.query.requests import MEMBER_HEADER, member_header
from onecode.registry.application import TransactionResult
from onecode.registry.events import (
    Event,
    MerchantFrozen,
    MerchantOrderKeysSet,
    MerchantUnlinked,
    PlatformChanged,
    RecordPublished,
    RecordWithdrawn,
)
from onecode.registry.narrowing import NARROWING_HEADER
from onecode.registry.results import Result
from onecode.wire import sha256
from unit.platform.test_partners import Pair
from unit.platform.world import CHAIN_ID, Keys, Merchant, Node, Payer, Server

pytestmark = pytest.mark.clock

TRANSACTION = b"decided"


def decide(node: Node, *events: Event, height: int | None = None) -> int:
    """The block after the proven state has been decided."""
    height = node.newest().header.header.height if height is None else height
    result = stored_result(TransactionResult(Result.OK, (), events))
    block = StoredBlock(
        height=height, time_ms=now_ms(), transactions=(TRANSACTION,), results=(result,), app_hash=bytes(32)
    )
    save_decided(node.decided_path, block, {sha256(TRANSACTION): 0})
    return height


def while_open(node: Node, act: Callable[[], Any], *events: Event) -> Any:
    """What `act` gives while the block is decided and not proven: again where a heartbeat of the chain came between."""
    for _ in range(5):
        height = decide(node, *events)
        found = act()
        if node.newest().header.header.height == height:
            return found
    raise AssertionError("the chain's heartbeat came between each time")


@pytest.fixture
def merchant(server: Server, node: Node) -> Merchant:
    found = server.live_merchant()
    found.set_order_key(node)
    return found


def refusal(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code")


LINK, FROZEN, AWAITED = (409, "payment.link"), (409, "merchant.frozen"), (503, "payment.proof_awaited")
TAKEN = (201, None)


@pytest.mark.parametrize(
    ("event", "expected", "signed"),
    [
        (lambda merchant, own: RecordWithdrawn(own, merchant, "pay", 1), LINK, LINK),
        (lambda merchant, own: MerchantUnlinked(merchant, own, "pay", 1), LINK, LINK),
        (lambda merchant, own: MerchantFrozen(merchant, 1 << 60), FROZEN, FROZEN),
        (lambda merchant, own: PlatformChanged(own), AWAITED, AWAITED),
        (lambda merchant, own: MerchantOrderKeysSet(merchant), TAKEN, AWAITED),
        (lambda merchant, own: MerchantUnlinked(merchant, b"x" * 20, "pay", 1), TAKEN, TAKEN),
        (lambda merchant, own: MerchantUnlinked(b"x" * 20, own, "pay", 1), TAKEN, TAKEN),
        (lambda merchant, own: PlatformChanged(b"x" * 20), TAKEN, TAKEN),
    ],
)
def test_a_decided_block_is_applied_before_its_proof(
    server: Server,
    payer: Payer,
    node: Node,
    merchant: Merchant,
    event: Callable[[bytes, bytes], Event],
    expected: tuple[int, str | None],
    signed: tuple[int, str | None],
) -> None:
    happened = event(merchant.id, server.platform.id)
    plain = payer.request(merchant)
    assert refusal(while_open(node, lambda: payer.pay(plain), happened)) == expected
    numbers = iter(range(100))

    def pay_signed() -> httpx.Response:
        name = f"INV-{next(numbers)}"
        code = merchant.code(2_000, name)
        return payer.pay(payer.request(merchant, amount_minor=2_000, reference=name, code=code))

    assert refusal(while_open(node, pay_signed, happened)) == signed


def test_the_proof_alone_decides_once_it_is_there(server: Server, payer: Payer, node: Node, merchant: Merchant) -> None:
    request = payer.request(merchant)
    withdrawn = RecordWithdrawn(server.platform.id, merchant.id, "pay", 1)
    assert refusal(while_open(node, lambda: payer.pay(request), withdrawn)) == LINK
    server.live_merchant()  # a block: the chain shows that the one that was told of held something else
    assert refusal(payer.pay(request)) == TAKEN


def test_nothing_is_allowed_by_it(server: Server, payer: Payer, node: Node, merchant: Merchant) -> None:
    request = payer.request(merchant)
    merchant.unlink(node, server.platform.id)
    again = RecordPublished(server.platform.id, merchant.id, "pay", 1, 1, True)
    assert refusal(while_open(node, lambda: payer.pay(request), again)) == LINK


@pytest.mark.parametrize("distance", [-2, -1, 5])
def test_a_block_that_is_not_the_next_one_says_nothing(
    server: Server, payer: Payer, node: Node, merchant: Merchant, distance: int
) -> None:
    """What is below is proven already; what is above was left by a store that is gone."""
    height = node.newest().header.header.height + distance
    decide(node, RecordWithdrawn(server.platform.id, merchant.id, "pay", 1), height=height)
    assert refusal(payer.pay(payer.request(merchant))) == TAKEN


@pytest.mark.parametrize("header", ["zz", "00", "a1", "AB" * 9000])
def test_a_node_whose_word_does_not_parse_is_no_node(
    server: Server, payer: Payer, merchant: Merchant, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    request = payer.request(merchant)
    client = server.platform.chain._client
    honest = client.request

    def lie(method: str, path: str, **options: Any) -> httpx.Response:
        response = honest(method, path, **options)
        response.headers[NARROWING_HEADER] = header
        return response

    monkeypatch.setattr(client, "request", lie)
    with pytest.raises(Unreachable) as raised:
        pay(server.platform, server.notices, parse_credential(payer.credential)[1], "key", request)
    assert raised.value.code == "chain.answer"


# --- the node's other words on it


class Lines:
    """A member's stream of events."""

    def __init__(self, node: Node, keys: Keys, query: str) -> None:
        path = f"/v1/members/events{query}"
        key = keys.key(Role.TRANSACTION)
        headers = {MEMBER_HEADER: member_header(CHAIN_ID, keys.id, key, "GET", path, b"", now_ms())}
        self._client = httpx.Client(timeout=20)
        self._response = self._client.send(
            self._client.build_request("GET", node.url + path, headers=headers), stream=True
        )
        self.status = self._response.status_code
        self._texts = self._response.iter_lines()

    def read(self) -> dict[str, Any]:
        return dict(json.loads(next(self._texts)))

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._client.close()


def test_a_decided_block_has_a_line_at_once_and_its_own_when_it_is_proven(
    server: Server, node: Node, keys: list[Keys]
) -> None:
    frozen = MerchantFrozen(b"m" * 20, 5)
    with while_open(node, lambda: Lines(node, keys[0], "?decided=1"), frozen) as told:
        first = told.read()
        assert list(first) == ["height", "time_ms", "proven", "transactions"]
        assert (first["proven"], first["transactions"][0]["hash"]) == (False, sha256(TRANSACTION).hex())
        assert first["transactions"][0]["events"] == [{"event": "MerchantFrozen", "merchant": "6d" * 20, "until_ms": 5}]
        server.live_merchant()  # what the chain really holds next
        second = told.read()
        while not second["transactions"]:  # while nothing changes
            assert second["proven"]
            second = told.read()
        assert (second["proven"], second["height"] >= first["height"]) == (True, True)
        assert [event["event"] for event in second["transactions"][0]["events"]] == ["MerchantBorn", "RecordPublished"]
    decide(node, frozen)
    with Lines(node, keys[0], "") as told:  # who does not ask for it sees nothing of it
        line = told.read()
        assert (line["transactions"], list(line)) == ([], ["height", "time_ms", "transactions"])


def test_decided_is_0_or_1(node: Node, keys: list[Keys]) -> None:
    with Lines(node, keys[0], "?decided=2") as told:
        assert (told.status, told.read()["code"]) == (400, "http.parameter")


def test_a_transaction_of_the_decided_block_is_found(node: Node) -> None:
    path = f"{node.url}/v1/transactions/{sha256(TRANSACTION).hex()}"
    found = while_open(node, lambda: httpx.get(path).json())
    assert (found["status"], found["code"], found["name"]) == ("decided", 0, "ok")
    decide(node, height=1)
    assert httpx.get(path).json()["status"] == "unknown"


def test_a_refusal_says_what_to_do(server: Server, payer: Payer, node: Node, merchant: Merchant) -> None:
    request = payer.request(merchant)
    answer = while_open(node, lambda: payer.pay(request), PlatformChanged(server.platform.id))
    assert answer.json()["retry_after_ms"] == 500
    assert "send it again" in answer.json()["detail"]


def test_a_partners_record_that_ended_in_a_decided_block_is_refused_too(
    node: Node, keys: list[Keys], tmp_path: Path
) -> None:
    pair = Pair(node, keys, tmp_path)
    try:
        payer, merchant = Payer(pair.alpha), pair.merchant()
        request, beta = pair.request(payer, merchant), pair.beta.platform.id
        ended = MerchantUnlinked(merchant.id, beta, "pay", 1)
        assert refusal(while_open(node, lambda: payer.pay(request), ended)) == LINK
        pair.merchant()  # each height is decided once
        assert refusal(while_open(node, lambda: payer.pay(request), PlatformChanged(beta))) == AWAITED
        pair.merchant()
        assert refusal(while_open(node, lambda: payer.pay(request), PlatformChanged(pair.alpha.platform.id))) == TAKEN
    finally:
        pair.stop()
