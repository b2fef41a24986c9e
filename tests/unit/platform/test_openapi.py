"""The API's document: of one source with the routes, as it is in docs, and held to what the platform does.

Beside these tests, every answer that any test of the platform gets is compared with it (`conformance.py`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import openapi_platform
from onecode.platform.app import PlatformApp
from onecode.platform.openapi import document, problem_statuses
from onecode.platform.operations import OPERATIONS
from unit.platform.conformance import faults, response_faults
from unit.platform.world import Merchant, Payer, Server

pytestmark = pytest.mark.clock

METHODS = {"get", "post", "put", "delete"}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, one) for path, methods in document()["paths"].items() for method, one in methods.items()]


def test_the_document_in_docs_is_current_and_served(root: Path, server: Server) -> None:
    written = (root / "docs" / "openapi" / "platform.json").read_text("utf-8")
    assert written == openapi_platform.page(), "docs/openapi/platform.json is out of date: run `make docs`"
    assert server.http.get("/v1/openapi.json").json() == json.loads(written)


def test_routes_and_document_are_the_same(server: Server) -> None:
    app: Any = PlatformApp(server.platform, server.sender, server.notices).starlette()
    routes = {(method.lower(), route.path) for route in app._app.routes for method in route.methods - {"HEAD"}}
    assert routes == {(method, path) for method, path, _ in operations()}
    assert len(OPERATIONS) == len(routes)


def test_every_parameter_of_a_path_is_described_and_names_are_unique() -> None:
    ids = [operation["operationId"] for *_, operation in operations()]
    assert len(ids) == len(set(ids))
    for method, path, operation in operations():
        assert method in METHODS
        described = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert described == set(re.findall(r"\{(\w+)\}", path)), path
        assert all(one["required"] for one in operation.get("parameters", ()) if one["in"] == "path")


def test_every_reference_leads_somewhere() -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document())))
    assert names == set(document()["components"]["schemas"]), "unknown or unused schemas"
    schemes = {name for *_, one in operations() for entry in one.get("security", ()) for name in entry}
    assert schemes == set(document()["components"]["securitySchemes"])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_says_how_it_refuses(operation: Any) -> None:
    responses = document()["paths"][operation.path][operation.method.lower()]["responses"]
    assert set(responses) == {str(status) for status in (*operation.answers, *problem_statuses(operation))}
    assert {"400", "408", "413", "503"} <= set(responses)
    assert ("401" in responses) == bool(operation.who) or operation.name == "enrol_device"
    for status, answer in responses.items():
        if int(status) >= 400:
            assert list(answer["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_nonsense_is_answered_as_documented(server: Server, payer: Payer, operation: Any) -> None:
    """With every way to show who asks, and ids and bodies that are none."""
    path = operation.path.replace("{merchant}", "ab" * 20).replace("{payment}", "none").replace("{delivery}", "x")
    token = {"authorization": "Bearer operator-token-of-the-tests"}
    for body in (b"", b"{}", b"[1]", b"\xff\x00", b'{"url": 1, "amount_minor": -1, "device": "zz"}'):
        for headers in ({}, token, {"onecode-device": "AA==", "onecode-member": "AA=="}, {"authorization": "x"}):
            more = headers | {"content-type": "application/json", "idempotency-key": "k"}
            status = server.http.request(operation.method, path + "?after=x", content=body, headers=more).status_code
            assert status < 500 or status == 503
    if operation.who and "device" in operation.who:
        assert payer.send(operation.method, path, b"\xff", "k").status_code < 500


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 0}, -1),
        ({"type": "integer"}, True),
        ({"type": "string", "pattern": "^a$"}, "b"),
        ({"$ref": "#/components/schemas/Health"}, {"status": "no"}),
        ({"$ref": "#/components/schemas/Health"}, {}),
        ({"$ref": "#/components/schemas/Health"}, {"status": "ok", "more": 1}),
        ({"type": "array", "items": {"enum": ["x"]}}, ["y"]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1),
    ],
)
def test_the_comparison_sees_a_difference(schema: dict[str, Any], value: Any) -> None:
    assert faults(schema, value)


def test_the_comparison_sees_an_answer_that_is_not_documented() -> None:
    def answer(method: str, path: str, status: int, media: str = "application/json") -> httpx.Response:
        request = httpx.Request(method, f"http://x{path}")
        return httpx.Response(status, request=request, headers={"content-type": media}, content=b"{}")

    assert response_faults(answer("GET", "/v1/books", 418))
    assert response_faults(answer("GET", "/v1/books", 200, "text/html"))
    assert response_faults(answer("GET", "/v1/books", 200))
    assert response_faults(answer("GET", "/v1/else", 200))
    assert not response_faults(answer("GET", "/v1/else", 404))


def test_a_signed_up_merchant_and_all_that_can_be_asked_of_it(server: Server, payer: Payer) -> None:
    merchant = Merchant()
    assert server.operator("POST", "/v1/merchants", json=merchant.agreement(server.platform.id)).status_code == 201
    assert server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/publish").status_code == 200
    for path in ("/v1/merchants", "/v1/books", "/v1/notices", "/v1/webhooks/deliveries"):
        assert server.operator("GET", path).status_code == 200
    assert server.operator("GET", f"/v1/merchants/{merchant.id.hex()}/aliases").status_code == 200
    assert payer.send("GET", "/v1/account").status_code == 200
