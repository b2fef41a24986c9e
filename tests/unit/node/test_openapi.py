"""The OpenAPI document is made from the router's table; the page in docs is that document, and docs/spec agrees."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import openapi_node
from onecode.node.metrics import ENGINE, ENGINE_UP, SUPERVISOR, WRITER, worker_families
from onecode.node.openapi import document
from onecode.node.routes import JSON, About, Parameter, Reply, Request, Response, Router


def test_the_page_is_current() -> None:
    assert openapi_node.PAGE.read_text("utf-8") == openapi_node.page(), "run `make docs`"


def test_a_route_is_what_it_says_of_itself() -> None:
    def answer(request: Request, reply: Reply) -> None:
        reply(Response(200, b"{}"))

    router = Router()
    about = About(
        text="Things.",
        answers=((JSON, {"type": "object"}),),
        parameters=(Parameter("name", "path", "its name", {"type": "string"}),),
        body="Thing",
        refusals=(409,),
        members=True,
    )
    router.add("POST", "/v1/things/{name}", answer, about)
    router.add("GET", "/v1/hidden", answer)
    (path, methods), *others = document(router)["paths"].items()
    assert (path, others) == ("/v1/things/{name}", [])
    operation = methods["post"]
    assert operation["operationId"] == "post_things_name"
    assert list(operation["requestBody"]["content"]) == ["application/cbor"]
    assert {"401", "403", "409", "415", "429", "503"} <= set(operation["responses"])
    assert [one["name"] for one in operation["parameters"]] == ["name", "onecode-member", "onecode-observer"]
    assert operation["parameters"][0]["required"]


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    found = json.loads(openapi_node.page())
    return [(method, path, one) for path, methods in found["paths"].items() for method, one in methods.items()]


def test_names_are_there_once_and_path_parameters_are_described() -> None:
    names = [one["operationId"] for _, _, one in operations()]
    assert len(set(names)) == len(names)
    for _, path, one in operations():
        described = {given["name"] for given in one.get("parameters", []) if given["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path)), path


@pytest.fixture
def node_page(root: Path) -> str:
    return (root / "docs" / "spec" / "node.md").read_text("utf-8")


def test_the_page_of_the_node_has_every_route(node_page: str) -> None:
    told = set(re.findall(r"^\| `([A-Z]+ /v1/\S+)` \|", node_page, re.MULTILINE))
    assert told == {f"{method.upper()} {path}" for method, path, _ in operations()}


def test_the_page_of_the_node_has_every_metric(node_page: str, root: Path) -> None:
    told = dict(re.findall(r"^\| `onecode_(\w+)` \| (\w+) \|", node_page, re.MULTILINE))
    families = (*worker_families([]), *WRITER, *ENGINE, ENGINE_UP, *SUPERVISOR)
    assert {family.name: family.kind for family in families}.items() <= told.items()
    source = (root / "src" / "onecode" / "node" / "operations.py").read_text("utf-8")
    now = set(re.findall(r'^            \("(\w+)", "', source, re.MULTILINE))
    assert set(told) == now | {family.name for family in families}
