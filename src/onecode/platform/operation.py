"""What an operation of the platform's API is, and the parameters and bodies that several have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from onecode.platform.http import CBOR, JSON
from onecode.platform.schema import SendState

EVENT_STREAM = "text/event-stream"
NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}


class Who(StrEnum):
    """Who may ask, and how that is shown: a security scheme of the document."""

    DEVICE = "device"
    OPERATOR = "operator"
    TILL = "till"
    PARTNER = "partner"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path, the query string or the headers; `schema` is JSON Schema."""

    name: str
    where: str
    text: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent or answered: the name of a schema in the document by media type."""

    schemas: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """name: the handler's, and the operation's id. problems: statuses that this operation may answer beside those that
    every operation may (`openapi.ANYWHERE`) and those of who asks (`openapi.OF_WHO`)."""

    method: str
    path: str
    name: str
    text: str
    answers: Mapping[int, Body]
    who: tuple[Who, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    problems: tuple[int, ...] = field(default=())


def json_body(schema: str, text: str = "") -> Body:
    """A body in JSON, by the name of its schema."""
    return Body({JSON: schema}, text)


KEY = Parameter(
    "Idempotency-Key",
    "header",
    "1 to 64 printable ASCII characters; the same key gives the same answer again, for the same body only",
    {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[ -~]+$"},
    required=True,
)
MERCHANT = Parameter("merchant", "path", "merchant id, as text or 40 hex digits", {"type": "string"}, required=True)
PAYMENT = Parameter("payment", "path", "payment id", {"type": "string"}, required=True)
AFTER = Parameter("after", "query", "number of the last event that was seen", NUMBER)
STATE = Parameter("state", "query", "of this state only", {"enum": [str(state) for state in SendState]})
REFUNDED = {200: json_body("Refund", "known by its key"), 201: json_body("Refund", "booked")}
PAID = {200: json_body("Payment", "known by its key"), 201: json_body("Payment", "accepted")}
STANDING = {200: json_body("Merchant", "the chain has it"), 202: json_body("Merchant", "it waits in the outbox")}
PAYMENT_BODY = Body(
    {CBOR: "Binary", JSON: "PaymentRequest"}, "PaymentRequest of docs/spec/messages.md, or its plain form"
)
REFUND_BODY = json_body("RefundRequest")
NOTICE = Body({CBOR: "Binary"}, "PartnerPayment of docs/spec/messages.md")
DEVICE, OPERATOR, TILL, PARTNER = (Who.DEVICE,), (Who.OPERATOR,), (Who.TILL,), (Who.PARTNER,)
