"""Whatever is sent to an API, the answer is one that its OpenAPI document names, and never a fault inside.

For each operation of the document schemathesis makes requests that fit it and requests that do not. No answer has a 5xx
other than 503, no body breaks its schema, and none holds a traceback.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from integration.node_network import CBOR, Merchant, Network, start
from onecode.network.local import LocalNetwork
from onecode.registry.transactions import Kind, RecordPublish

EXAMPLES = 15  # for each operation and each mode
TIME_S_MAX = 30.0
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
Prepared = requests.PreparedRequest


@dataclass
class Api:
    """An API under test. prepare: what a client with rights adds to a request, half of the time; bodies: whole ones of
    operations whose body is no JSON, to be sent as they are and damaged."""

    document: dict[str, Any]
    url: str
    prepare: Callable[[Prepared], None] = lambda request: None
    bodies: dict[str, list[bytes]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    network = start(
        tmp_path_factory.mktemp("fuzzed"), enclave_config=None, address_requests_per_s=0, stream_ms_max=50, workers=1
    )
    try:
        yield _node_api(network)
    finally:
        network.stop()


def _node_api(network: Network) -> Api:
    def sign(request: Prepared) -> None:
        request.headers.update(network.a.member(str(request.method), request.path_url))

    item = Merchant("fuzzed").publication(network.a)
    publish = network.a.transaction(Kind.RECORD_PUBLISH, RecordPublish(items=(item,)))
    _, _, query = network.query(network.a, b"k" * 32, merchant=item.merchant)
    bodies = {"/v1/transactions": [publish], "/v1/query": [query.encoded()]}
    return Api(network.get("/v1/openapi.json").json(), str(network.client.base_url), sign, bodies)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Api]:
    """The first platform of a local network; with its operator's token half of the time."""
    with LocalNetwork(tmp_path_factory.mktemp("network")) as network:
        network.start()
        plan = network.plan.platforms[0]
        document = json.loads((root / "docs" / "openapi" / "platform.json").read_text("utf-8"))

        def enter(request: Prepared) -> None:
            request.headers["Authorization"] = f"Bearer {plan.operator_token}"

        bodies = {}
        for path, operation in ((path, methods.get("post", {})) for path, methods in document["paths"].items()):
            content = operation.get("requestBody", {}).get("content", {})
            if list(content) == ["application/cbor"]:
                bodies[path] = [b"\xa0", b"\xa1\x01\x42ab"]
            content.pop("application/cbor", None)  # where JSON may be sent too, it is
        yield Api(document, plan.url, enter, bodies)


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Api:
    found: Api = request.getfixturevalue(request.param)
    return found


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """One of the bodies as it is, cut, with a byte changed, or other bytes."""
    body = draw(st.sampled_from(whole))
    place = draw(st.integers(0, len(body) - 1))
    return draw(
        st.sampled_from([body, body[:place], body[:place] + bytes((body[place] ^ 1,)) + body[place + 1 :]])
        | st.binary(max_size=200)
    )


def exchange(api: Api, session: requests.Session, case: Any, body: bytes | None, entitled: bool, garbled: bool) -> int:
    """Send one request and check its answer; returns the status."""
    request = requests.Request(**case.as_transport_kwargs(base_url=api.url))
    prepared = session.prepare_request(request)
    if body is not None:
        prepared.prepare_body(body, None)
        prepared.headers.update({"content-type": "text/plain"} if garbled else CBOR)
    if entitled:
        api.prepare(prepared)
    response = session.send(prepared, timeout=20)
    told = f"{prepared.method} {prepared.url} -> {response.status_code} {response.text[:300]}"
    assert response.status_code < 500 or response.status_code == 503, told
    assert "Traceback" not in response.text, told
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json", told
        assert json.loads(response.content)["code"], told
    case.validate_response(response, checks=CHECKS)
    return response.status_code


def exchange_many(api: Api, session: requests.Session, operation: Any, mode: GenerationMode, ends_s: float) -> set[int]:
    """The statuses that requests of one operation and mode were answered with."""
    whole = api.bodies.get(operation.path)
    found: set[int] = set()

    @given(
        case=operation.as_strategy(generation_mode=mode),
        body=damaged(whole) if whole else st.none(),
        entitled=st.booleans(),
        garbled=st.integers(0, 9).map(lambda number: number == 0),
    )
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any, body: bytes | None, entitled: bool, garbled: bool) -> None:
        if time.monotonic() < ends_s:
            found.add(exchange(api, session, case, body, entitled, garbled))

    with contextlib.suppress(Unsatisfiable):  # nothing about this operation can be wrong
        send()
    return found


@pytest.mark.parametrize("api", ["node", "platform"], indirect=True)
def test_every_answer_is_one_that_the_document_names(api: Api) -> None:
    ends_s = time.monotonic() + TIME_S_MAX
    document = copy.deepcopy(api.document)
    for path in api.bodies:
        document["paths"][path]["post"].pop("requestBody")  # those bodies are drawn here
    statuses: dict[str, set[int]] = {}
    with requests.Session() as session:
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            operation = result.ok()
            found = statuses.setdefault(f"{operation.method.upper()} {operation.path}", set())
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                found |= exchange_many(api, session, operation, mode, ends_s)
    assert len(statuses) == sum(len(methods) for methods in api.document["paths"].values())
    assert all(statuses.values()), f"the time was too short: {statuses}"
    taken = [name for name, found in statuses.items() if min(found) < 300]
    assert len(taken) >= len(statuses) / 5  # not everything was refused
