"""The OpenAPI document of a router: the routes' own table, put into the form of OpenAPI 3.1."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import onecode
from onecode.node.routes import About, Parameter, Router
from onecode.query.requests import MEMBER_HEADER, OBSERVER_HEADER

ANYWHERE = (400, 404, 405, 408, 413, 429, 500, 503)  # what the server itself may answer on every route
BINARY = {"contentMediaType": "application/cbor"}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"enum": ["Malformed", "Untrusted", "Declined", "Unreachable", "Misconfigured"]},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "machine code, see docs/errors.md"},
        "field": {"type": "string"},
        "retry_after_ms": {"type": "integer"},
        "result": {"type": "string", "description": "name of the result code, where a transaction is refused"},
        "result_code": {"type": "integer"},
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/ItemResult"}},
    },
}
ITEM_RESULT = {
    "type": "object",
    "required": ["code", "name"],
    "properties": {"code": {"type": "integer"}, "name": {"type": "string"}},
}
HEADERS = (
    (MEMBER_HEADER, "base64url of a `MemberProof`: who signed this request with a platform's key"),
    (OBSERVER_HEADER, "base64url of an `ObserverProof`, instead of a member's"),
)


def document(router: Router) -> dict[str, Any]:
    """The document of all routes that are described."""
    paths: dict[str, dict[str, Any]] = {}
    for method, pattern, about in router.routes:
        if about is not None:
            paths.setdefault(pattern, {})[method.lower()] = _operation(method, pattern, about)
    schemas = {"Problem": PROBLEM, "ItemResult": ITEM_RESULT}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Onecode node",
            "version": onecode.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Bodies of application/cbor are the messages of docs/spec/messages.md.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(method: str, pattern: str, about: About) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": about.text,
        "operationId": _operation_id(method, pattern),
        "responses": {"200": _answer(about)},
    }
    parameters = [_parameter(one) for one in about.parameters]
    if about.members:
        parameters += [
            {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in HEADERS
        ]
    if parameters:
        operation["parameters"] = parameters
    refusals = {*ANYWHERE, *about.refusals, *((401, 403) if about.members else ())}
    if about.body is not None:
        refusals.add(415)
        content = {"application/cbor": {"schema": BINARY | {"description": f"an encoded {about.body}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    if about.json_body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": about.json_body}}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted(refusals):
        operation["responses"][str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return operation


def _answer(about: About) -> dict[str, Any]:
    content = {media.decode("ascii").partition(";")[0]: {"schema": schema} for media, schema in about.answers}
    return {"description": "OK", "content": content}


def _operation_id(method: str, pattern: str) -> str:
    words = [word.strip("{}") for word in pattern.replace(".", "/").split("/") if word not in ("", "v1")]
    return "_".join([method.lower(), *words])


def _parameter(given: Parameter) -> dict[str, Any]:
    return {
        "name": given.name,
        "in": given.where,
        "required": given.required or given.where == "path",
        "description": given.text,
        "schema": given.schema,
    }
