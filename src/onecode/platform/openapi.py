"""The OpenAPI document of the platform's API, made from `operations.py` and from the messages' own declarations."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

import onecode
from onecode.kinds import Bool, Bytes, Choice, Kind, ListOf, Text, Uint
from onecode.platform.agreement import Agreement
from onecode.platform.aliases import AliasRequest
from onecode.platform.http import PROBLEM
from onecode.platform.openapi_schemas import SCHEMAS, reference
from onecode.platform.operation import Body, Operation, Parameter, Who
from onecode.platform.operations import OPERATIONS
from onecode.platform.refunds import RefundRequest
from onecode.query.requests import DEVICE_HEADER, MEMBER_HEADER
from onecode.record.receipt import PaymentRequest
from onecode.schema import Message, Nested

ANYWHERE = (400, 408, 413, 500, 503)
OF_WHO = {
    Who.DEVICE: (401, 403),
    Who.OPERATOR: (401,),
    Who.TILL: (401, 404),
    Who.PARTNER: (401, 403),
}
SECURITY = {
    Who.DEVICE: {
        "type": "apiKey",
        "in": "header",
        "name": DEVICE_HEADER,
        "description": "base64url of a `DeviceProof` over this request (docs/spec/messages.md)",
    },
    Who.OPERATOR: {"type": "http", "scheme": "bearer", "description": "the configuration's operator_token"},
    Who.TILL: {"type": "http", "scheme": "bearer", "description": "the till_token of the merchant's sign-up"},
    Who.PARTNER: {
        "type": "apiKey",
        "in": "header",
        "name": MEMBER_HEADER,
        "description": "base64url of a `MemberProof` over this request (docs/spec/messages.md)",
    },
}
MESSAGES: tuple[type[Message], ...] = (PaymentRequest, Agreement, AliasRequest, RefundRequest)


@cache
def document() -> dict[str, Any]:
    """The document, as docs/openapi/platform.json has it. Do not change what you are given."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    schemas = dict(SCHEMAS) | {message.__name__: plain_schema(message) for message in MESSAGES}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Onecode platform",
            "version": onecode.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The reference platform. Rules: docs/spec/platform.md; codes of problems: docs/errors.md. "
            "Bytes in JSON are lower-case hex. Bodies of application/cbor are messages of docs/spec/messages.md.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {str(who): scheme for who, scheme in SECURITY.items()},
        },
    }


def problem_statuses(operation: Operation) -> tuple[int, ...]:
    """Every status of a refusal that an operation may answer, ascending."""
    asked = [status for who in operation.who for status in OF_WHO[who]]
    return tuple(sorted({*ANYWHERE, *asked, *operation.problems}))


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.text}
    if operation.parameters:
        described["parameters"] = [_parameter(one) for one in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = {"required": True, **_content(operation.body)}
    problem = {PROBLEM: {"schema": reference("Problem")}}
    responses = {str(status): _answer(status, body) for status, body in operation.answers.items()}
    for status in problem_statuses(operation):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    described["responses"] = dict(sorted(responses.items()))
    if operation.who:
        described["security"] = [{str(who): []} for who in operation.who]
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.text,
        "schema": dict(parameter.schema),
    }


def _content(body: Body) -> dict[str, Any]:
    content = {media: {"schema": reference(name)} for media, name in body.schemas.items()}
    return {"content": content} | ({"description": body.text} if body.text else {})


def _answer(status: int, body: Body) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, **_content(body)}


def plain_schema(message: type[Message]) -> dict[str, Any]:
    """JSON Schema of a message's plain form."""
    return {
        "type": "object",
        "properties": {spec.name: _kind_schema(spec.kind) for spec in message.FIELDS},
        "required": [spec.name for spec in message.FIELDS if not spec.optional],
        "additionalProperties": False,
    }


def _kind_schema(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, Uint):
        return {"type": "integer", "minimum": 0, "maximum": kind.max}
    if isinstance(kind, Bool):
        return {"type": "boolean"}
    if isinstance(kind, Bytes):
        return {"type": "string", "pattern": f"^([0-9a-f]{{2}}){{{kind.min},{kind.max or kind.min}}}$"}
    if isinstance(kind, Text):
        return {"type": "string", "minLength": kind.min, "maxLength": kind.max}
    if isinstance(kind, Choice):
        return {"enum": [member.name.lower().replace("_", "-") for member in kind.enum]}
    if isinstance(kind, ListOf):
        items = _kind_schema(kind.item)
        return {"type": "array", "items": items, "minItems": kind.min, "maxItems": kind.max}
    if isinstance(kind, Nested):
        return plain_schema(kind.message)
    raise TypeError(f"no schema for {kind.describe()}")
