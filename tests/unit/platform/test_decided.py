"""What a node has decided, but not proven yet: payments are refused at once, and by nothing else than before after it.

The chain here proves what it decides in one step. So the tests put a block after the newest proven one into the file
in which a writer with an engine leaves it; the node's API and the platform do the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from onecode.errors import OnecodeError, Unreachable
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
from unit.platform.world import CHAIN_ID, Keys, Merchant, Node, Payer, Server, now_ms

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


def test_nothing_is_allowed_by_it_and_the_proof_alone_decides_once_it_is_there(
    server: Server, payer: Payer, node: Node, merchant: Merchant
) -> None:
    request = payer.request(merchant)
    own = server.platform.id
    assert refusal(while_open(node, lambda: payer.pay(request), RecordWithdrawn(own, merchant.id, "pay", 1))) == LINK
    Merchant().unlink  # noqa: B018
    other = server.live_merchant()  # a block: the one that was said to be decided held something else
    assert refusal(payer.pay(request)) == TAKEN
    other.unlink(node, own)
    gone = payer.server.platform.chain.fetch_merchant(other.id, "pay")
    assert gone.state is None or gone.state.link_of(own) is None
    again = RecordPublished(own, other.id, "pay", 2, 1, True)

    def pay_other() -> httpx.Response:
        import dataclasses

        return payer.pay(dataclasses.replace(request, merchant=other.id))

    assert refusal(while_open(node, pay_other, again)) == LINK


@pytest.mark.parametrize("behind", [1, 2, -1])
def test_a_block_that_is_not_the_next_one_says_nothing(
    server: Server, payer: Payer, node: Node, merchant: Merchant, behind: int
) -> None:
    """One from before is proven already, whatever it did; one from ahead is another life's of a store brought back."""
    height = node.newest().header.header.height
    decide(node, RecordWithdrawn(server.platform.id, merchant.id, "pay", 1), height=height - behind)
    assert refusal(payer.pay(payer.request(merchant))) in (TAKEN, LINK if behind == -1 else TAKEN)


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


def lines(node: Node, keys: Keys, query: str, number: int) -> list[dict[str, Any]]:
    path = f"/v1/members/events{query}"
    key = keys.key(Role.TRANSACTION)
    headers = {MEMBER_HEADER: member_header(CHAIN_ID, keys.id, key, "GET", path, b"", now_ms())}
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", node.url + path, headers=headers, timeout=20) as response:
        for text in response.iter_lines():
            found.append(json.loads(text))
            if len(found) == number:
                return found
    raise AssertionError(found)


def test_the_events_of_a_decided_block_come_at_once_to_who_asks_for_them(node: Node, keys: list[Keys]) -> None:
    first = while_open(node, lambda: lines(node, keys[0], "?decided=1", 1)[0], MerchantFrozen(b"m" * 20, 5))
    height = first["height"]
    assert list(first) == ["height", "time_ms", "proven", "transactions"]
    assert (first["proven"], first["transactions"][0]["hash"]) == (False, sha256(TRANSACTION).hex())
    assert first["transactions"][0]["events"] == [{"event": "MerchantFrozen", "merchant": "6d" * 20, "until_ms": 5}]

    def both() -> list[dict[str, Any]]:
        return lines(node, keys[0], f"?decided=1&from_height={height - 1}", 2)

    Merchant().unlink  # noqa: B018
    told = while_open(node, both, MerchantFrozen(b"m" * 20, 5))
    assert told[-1]["proven"] is False or told[-1]["transactions"] == []
    assert all(line["proven"] for line in told[:-1])
    silent = while_open(node, lambda: lines(node, keys[0], "", 1)[0], MerchantFrozen(b"m" * 20, 5))
    assert (silent["transactions"], list(silent)) == ([], ["height", "time_ms", "transactions"])
    refused = httpx.get(f"{node.url}/v1/members/events?decided=2")
    assert refused.status_code == 400


def test_a_transaction_of_the_decided_block_is_found(node: Node) -> None:
    path = f"{node.url}/v1/transactions/{sha256(TRANSACTION).hex()}"
    found = while_open(node, lambda: httpx.get(path).json())
    assert (found["status"], found["code"], found["name"]) == ("decided", 0, "ok")
    decide(node, height=1)
    assert httpx.get(path).json()["status"] == "unknown"


def test_a_refusal_says_what_to_do(server: Server, payer: Payer, node: Node, merchant: Merchant) -> None:
    request = payer.request(merchant)
    answer = while_open(node, lambda: payer.pay(request), PlatformChanged(server.platform.id))
    assert (answer.headers.get("retry-after"), answer.json()["retry_after_ms"]) == ("1", 500)
    assert "send it again" in answer.json()["detail"]
    assert issubclass(OnecodeError, Exception)
