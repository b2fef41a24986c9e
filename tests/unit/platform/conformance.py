"""Whether an answer is one that the API's document allows: status, media type, and JSON by its schema.

Every answer of every test's server passes through here, so that the document is held to what the platform does.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

from onecode.platform.openapi import document

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}


def faults(schema: dict[str, Any], value: Any, where: str = "$") -> list[str]:
    """What in `value` breaks the schema; the part of JSON Schema that the document uses, and no other."""
    if "$ref" in schema:
        return faults(document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]], value, where)
    if "anyOf" in schema:
        tried = [faults(one, value, where) for one in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    if "const" in schema:
        return [] if value == schema["const"] else [f"{where} is not {schema['const']}"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{where} is {value!r}, none of {schema['enum']}"]
    kind = schema["type"]
    if kind == "null":
        return [] if value is None else [f"{where} is not null"]
    if not isinstance(value, TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
        return [f"{where} is no {kind}: {value!r}"]
    if kind == "object":
        return _object_faults(schema, value, where)
    if kind == "array":
        return [fault for index, one in enumerate(value) for fault in faults(schema["items"], one, f"{where}[{index}]")]
    if kind == "string" and not re.search(schema.get("pattern", ""), value):
        return [f"{where} does not fit {schema['pattern']}: {value!r}"]
    if kind == "integer" and value < schema.get("minimum", value):
        return [f"{where} is below {schema['minimum']}"]
    return []


def _object_faults(schema: dict[str, Any], value: dict[str, Any], where: str) -> list[str]:
    properties = schema.get("properties", {})
    found = [f"{where} lacks {name}" for name in schema.get("required", ()) if name not in value]
    if schema.get("additionalProperties", True) is False:
        found += [f"{where} has {name}" for name in value if name not in properties]
    for name, one in value.items():
        if name in properties:
            found += faults(properties[name], one, f"{where}.{name}")
    return found


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The documented operation of a request, literal paths before those with parameters."""
    for pattern in sorted(document()["paths"], key=lambda one: one.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
            found: dict[str, Any] | None = document()["paths"][pattern].get(method.lower())
            return found
    return None


def response_faults(response: httpx.Response) -> list[str]:
    """What of an answer the document does not know. Paths and methods that it does not name are 404 and 405."""
    method, path, status = response.request.method, response.request.url.path, response.status_code
    operation = operation_of(method, path)
    if operation is None:
        return [] if status in (404, 405) else [f"{method} {path} is not documented and answers {status}"]
    answer = operation["responses"].get(str(status))
    if answer is None:
        return [f"{method} {path} answers {status}, which is not documented"]
    media = response.headers.get("content-type", "").partition(";")[0]
    if media not in answer["content"]:
        return [f"{method} {path} answers {status} as {media}"]
    if media == "text/event-stream" or media == "application/cbor":
        return []
    response.read()
    return faults(answer["content"][media]["schema"], json.loads(response.content))


def require_documented(response: httpx.Response) -> None:
    """An httpx event hook."""
    assert response_faults(response) == []
