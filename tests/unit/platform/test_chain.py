"""The platform believes its node in nothing: unverifiable headers, gaps to bridge, answers that do not parse."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from onecode.errors import Unreachable
from onecode.platform.chain import Chain
from onecode.proof.header import ValidatorSet
from onecode.proof.light import Trust, trusted_state
from onecode.query.messages import HeaderView
from onecode.wire import SigningKey
from vectors.proof_chain import CHAIN_ID, NOW_MS, make_header, signed_by, validator_set

DEEP = b'{"a":' * 100_000  # deeper than the parser of JSON goes


def window(height: int) -> list[int]:
    """Six validators, one of whom leaves at each height: after six heights all are others."""
    return list(range(height, height + 6))


def view(height: int, names: list[int] | None = None) -> HeaderView:
    members: ValidatorSet = validator_set(names or window(height))
    header = make_header(height, members, validator_set(window(height + 1)))
    return HeaderView(header=signed_by(header, names or window(height)), validators=members)


def chain(answer: Callable[[httpx.Request], httpx.Response], now_ms: int = NOW_MS) -> Chain:
    first = view(10)
    return Chain(
        chain_id=CHAIN_ID,
        platform=bytes(20),
        key=SigningKey.from_seed(bytes(32)),
        trust=Trust(trusted_state(first.header.header, first.validators)),
        client=httpx.Client(base_url="http://node", transport=httpx.MockTransport(answer)),
        clock_ms=lambda: now_ms,
    )


def test_a_gap_in_which_all_validators_changed_is_bridged() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        asked.append(name)
        return httpx.Response(200, content=view(30 if name == "latest" else int(name)).encoded())

    made = chain(answer)
    assert made.fetch_newest() == view(30)
    assert 3 < len(asked) < 40
    assert made.newest_view() == view(30)


def test_a_chain_of_others_is_not_bridged_to() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        height = 30 if name == "latest" else int(name)
        return httpx.Response(200, content=view(height, [100, 101, 102, 103, 104, 105]).encoded())

    with pytest.raises(Unreachable, match=r"chain\.unproven"):
        chain(answer).fetch_newest()


def test_the_chain_never_goes_back() -> None:
    heights = [12, 11, 11, 11]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=view(heights.pop(0)).encoded())

    made = chain(answer)
    made.fetch_newest()
    with pytest.raises(Unreachable, match=r"header\.not_higher"):
        made.fetch_newest()
    assert heights == []  # it asked again before it gave up
    assert made.newest_view() == view(12)


def test_a_stale_header_stops_all_work() -> None:
    made = chain(lambda request: httpx.Response(200, content=view(11).encoded()), NOW_MS + 60_000)
    with pytest.raises(Unreachable, match=r"header\.stale"):
        made.fetch_newest()


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (httpx.Response(200, content=b"\xff"), "chain.answer"),
        (httpx.Response(200, content=b""), "chain.answer"),
        (httpx.Response(500, content=b"oops"), "chain.refused"),
        (httpx.Response(500, content=DEEP), "chain.refused"),
        (httpx.Response(401, json={"title": "Untrusted", "code": "request.member", "status": 401}), "chain.refused"),
    ],
)
def test_whatever_the_node_says_wrong_is_unreachable(response: httpx.Response, code: str) -> None:
    with pytest.raises(Unreachable) as caught:
        chain(lambda request: response).fetch_newest()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (httpx.Response(200, content=b"no json"), "chain.answer"),
        (httpx.Response(200, json={"code": 0, "name": "ok", "height": None, "items": []}), "chain.answer"),
        (
            httpx.Response(429, json={"title": "Unreachable", "code": "transaction.quota", "status": 429}),
            "transaction.quota",
        ),
        (httpx.Response(503, content=b""), "http.status"),
        (httpx.Response(200, content=DEEP), "chain.answer"),
        (httpx.Response(200, content=b'{"code": 1e999, "name": "ok", "height": 1, "items": []}'), "chain.answer"),
        (httpx.Response(409, content=DEEP), "http.status"),
        (httpx.Response(409, content=b"[]"), "http.status"),
    ],
)
def test_a_transaction_whose_fate_is_unknown_is_unreachable(response: httpx.Response, code: str) -> None:
    with pytest.raises(Unreachable) as caught:
        chain(lambda request: response).submit(b"t")
    assert caught.value.code == code


def test_a_refused_transaction_is_an_outcome_with_its_item() -> None:
    def answer(body: dict[str, object], status: int = 200) -> Chain:
        return chain(lambda request: httpx.Response(status, json=body))

    decided = answer({"code": 24, "name": "items-failed", "height": 7, "items": [{"code": 44, "name": "version"}]})
    outcome = decided.submit(b"t")
    assert (outcome.code, outcome.name, outcome.height) == (44, "version", 7)
    refused = answer({"title": "Declined", "code": "transaction.declined", "result": "nonce", "result_code": 15}, 409)
    assert (refused.submit(b"t").code, refused.submit(b"t").height) == (15, None)
