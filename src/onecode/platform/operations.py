"""Every operation of the platform's API, in one table: routes and OpenAPI document are both made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from onecode.platform.http import CBOR, JSON
from onecode.platform.schema import SendState

EVENT_STREAM = "text/event-stream"
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}


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


def _json(schema: str, text: str = "") -> Body:
    return Body({JSON: schema}, text)


_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "1 to 64 printable ASCII characters; the same key gives the same answer again, for the same body only",
    {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[ -~]+$"},
    required=True,
)
_MERCHANT = Parameter("merchant", "path", "merchant id, as text or 40 hex digits", {"type": "string"}, required=True)
_PAYMENT = Parameter("payment", "path", "payment id", {"type": "string"}, required=True)
_AFTER = Parameter("after", "query", "number of the last event that was seen", _NUMBER)
_STATE = Parameter("state", "query", "of this state only", {"enum": [str(state) for state in SendState]})
_REFUNDED = {200: _json("Refund", "known by its key"), 201: _json("Refund", "booked")}
_PAID = {200: _json("Payment", "known by its key"), 201: _json("Payment", "accepted")}
_STANDING = {200: _json("Merchant", "the chain has it"), 202: _json("Merchant", "it waits in the outbox")}
_PAYMENT_BODY = Body(
    {CBOR: "Binary", JSON: "PaymentRequest"}, "PaymentRequest of docs/spec/messages.md, or its plain form"
)
_REFUND_BODY = _json("RefundRequest")
_NOTICE = Body({CBOR: "Binary"}, "PartnerPayment of docs/spec/messages.md")
_DEVICE, _OPERATOR, _TILL, _PARTNER = (Who.DEVICE,), (Who.OPERATOR,), (Who.TILL,), (Who.PARTNER,)

_PUBLIC = (
    Operation(
        "GET", "/v1/status", "status", "Name, platform id, chain, newest verified height", {200: _json("Status")}
    ),
    Operation("GET", "/v1/health", "health", "Whether there is a fresh proof", {200: _json("Health")}),
    Operation("GET", "/v1/openapi.json", "openapi", "This document", {200: _json("Document")}),
    Operation(
        "GET",
        "/v1/trust-file",
        "trust_file",
        "Trust file of the newest header, proven for this request",
        {200: Body({CBOR: "Binary"}, "TrustFile of docs/spec/messages.md")},
    ),
    Operation(
        "POST",
        "/v1/devices",
        "enrol_device",
        "Enrol a device in the sandbox",
        {201: _json("Enrolment")},
        parameters=(
            Parameter(
                "Onecode-Device-Key",
                "header",
                "base64url of a `DeviceKeyProof` by `device` over this request (docs/spec/messages.md)",
                {"type": "string"},
                required=True,
            ),
            Parameter("Onecode-Device", "header", "of a device of `account`, to join it", {"type": "string"}),
        ),
        body=_json("EnrolmentRequest"),
        problems=(401, 403, 409),
    ),
)
_PAYERS = (
    Operation("POST", "/v1/devices/renew", "renew_device", "A fresh credential", {200: _json("Enrolment")}, _DEVICE),
    Operation("GET", "/v1/account", "account", "Balances by currency", {200: _json("Account")}, _DEVICE),
    Operation(
        "POST",
        "/v1/payments",
        "make_payment",
        "Pay by a verified record",
        _PAID,
        _DEVICE,
        (_KEY,),
        _PAYMENT_BODY,
        (404, 409, 415),
    ),
    Operation(
        "GET",
        "/v1/payments",
        "find_payment",
        "An own payment by its key",
        {200: _json("Payment")},
        _DEVICE,
        (Parameter("idempotency_key", "query", "as it was given", _KEY.schema, required=True),),
        problems=(404,),
    ),
    Operation(
        "GET",
        "/v1/payments/{payment}",
        "payment",
        "An own payment by its id",
        {200: _json("Payment")},
        _DEVICE,
        (_PAYMENT,),
        problems=(404,),
    ),
    Operation(
        "GET",
        "/v1/payments/{payment}/refunds",
        "refunds",
        "Refunds of a payment, in order",
        {200: _json("Refunds")},
        (Who.DEVICE, Who.OPERATOR),
        (_PAYMENT,),
        problems=(404,),
    ),
)
_TILLS = (
    Operation(
        "GET",
        "/v1/merchants/{merchant}/events",
        "events",
        "Events in order, at most 100; waits where there is none",
        {200: _json("Events")},
        _TILL,
        (_MERCHANT, _AFTER, Parameter("wait_ms", "query", "longest wait", _NUMBER)),
    ),
    Operation(
        "GET",
        "/v1/merchants/{merchant}/stream",
        "stream",
        "Events as they come, as server-sent events",
        {200: Body({EVENT_STREAM: "EventStream"})},
        _TILL,
        (_MERCHANT, _AFTER, Parameter("Last-Event-ID", "header", "instead of `after`", {"type": "string"})),
        problems=(429,),
    ),
    Operation(
        "POST",
        "/v1/merchants/{merchant}/payments/{payment}/refunds",
        "till_refund",
        "Give back a part of a payment to the merchant",
        _REFUNDED,
        _TILL,
        (_MERCHANT, _PAYMENT, _KEY),
        _REFUND_BODY,
        (409,),
    ),
    Operation(
        "GET",
        "/v1/merchants/{merchant}/payments/{payment}/refunds",
        "till_refunds",
        "Refunds of a payment to the merchant, in order",
        {200: _json("Refunds")},
        _TILL,
        (_MERCHANT, _PAYMENT),
    ),
)
_MERCHANTS = (
    Operation(
        "POST",
        "/v1/merchants",
        "sign_up",
        "Keep an agreement; it takes effect when it is published",
        {200: _json("Merchant", "a known one was changed"), 201: _json("Merchant", "new: the answer has till_token")},
        _OPERATOR,
        body=_json("Agreement"),
    ),
    Operation(
        "GET",
        "/v1/merchants",
        "merchants",
        "Agreements with state and version of the newest record, at most 1,000",
        {200: _json("Merchants")},
        _OPERATOR,
        (Parameter("after", "query", "merchant id in hex", {"type": "string", "pattern": "^([0-9a-f]{2})*$"}),),
    ),
    *(
        Operation(
            "POST",
            f"/v1/merchants/{{merchant}}/{name}",
            name,
            text,
            _STANDING,
            _OPERATOR,
            (_MERCHANT,),
            problems=(404, 409),
        )
        for name, text in (
            ("publish", "Publish the agreement's record, or its next version"),
            ("withdraw", "No payments by this record from now on; its link is deleted"),
        )
    ),
    Operation(
        "POST",
        "/v1/merchants/{merchant}/aliases",
        "bind_alias",
        "Bind the label of a scheme that this platform speaks for to the merchant",
        {200: _json("AliasBinding", "the chain has it"), 202: _json("AliasBinding", "it waits in the outbox")},
        _OPERATOR,
        (_MERCHANT,),
        _json("AliasRequest"),
        (401, 409),
    ),
    Operation(
        "GET",
        "/v1/merchants/{merchant}/aliases",
        "aliases",
        "Labels that this platform was asked to bind to the merchant, and whether they are bound now",
        {200: _json("Aliases")},
        _OPERATOR,
        (_MERCHANT,),
    ),
    Operation(
        "PUT",
        "/v1/merchants/{merchant}/webhook",
        "set_webhook",
        "Where the merchant hears of events; a fresh secret, shown this once",
        {200: _json("Webhook")},
        _OPERATOR,
        (_MERCHANT,),
        _json("WebhookRequest"),
        (404,),
    ),
    Operation(
        "DELETE",
        "/v1/merchants/{merchant}/webhook",
        "remove_webhook",
        "No more deliveries",
        {200: _json("Webhook")},
        _OPERATOR,
        (_MERCHANT,),
        problems=(404,),
    ),
)
_OPERATORS = (
    Operation(
        "POST",
        "/v1/epochs",
        "make_epoch",
        "Make a new epoch key; records are sealed under it after epoch_lead_ms",
        {201: _json("Epochs")},
        _OPERATOR,
        problems=(409,),
    ),
    Operation("GET", "/v1/epochs", "epochs", "Epochs and the records under them", {200: _json("Epochs")}, _OPERATOR),
    Operation(
        "POST",
        "/v1/epochs/{epoch}/retire",
        "retire_epochs",
        "Go on with the end of this epoch and of older ones: ask again until it is done",
        {200: _json("Retirement")},
        _OPERATOR,
        (Parameter("epoch", "path", "the last epoch that ends", _NUMBER, required=True),),
        problems=(409,),
    ),
    Operation("GET", "/v1/books", "books", "Trial balance, added up anew", {200: _json("Books")}, _OPERATOR),
    Operation(
        "POST",
        "/v1/payments/{payment}/void",
        "void",
        "Take a payment back in full",
        {200: _json("Payment")},
        _OPERATOR,
        (_PAYMENT,),
        problems=(404, 409),
    ),
    Operation(
        "POST",
        "/v1/payments/{payment}/refunds",
        "refund",
        "Give back a part of a payment",
        _REFUNDED,
        _OPERATOR,
        (_PAYMENT, _KEY),
        _REFUND_BODY,
        (404, 409),
    ),
    Operation(
        "GET",
        "/v1/payments/{payment}/evidence",
        "evidence",
        "What shows why a payment went where it went",
        {200: Body({CBOR: "Binary", JSON: "Evidence"}, "EvidenceFile of docs/spec/messages.md, or its parts")},
        _OPERATOR,
        (_PAYMENT,),
        problems=(404,),
    ),
    Operation(
        "GET",
        "/v1/notices",
        "notices",
        "The newest 1,000 notices to partners",
        {200: _json("Notices")},
        _OPERATOR,
        (_STATE,),
    ),
    Operation(
        "GET",
        "/v1/webhooks/deliveries",
        "deliveries",
        "The newest 1,000 deliveries to webhooks",
        {200: _json("Deliveries")},
        _OPERATOR,
        (_STATE,),
    ),
    Operation(
        "POST",
        "/v1/webhooks/deliveries/{delivery}/retry",
        "retry_delivery",
        "Send a delivery again that was given up",
        {200: _json("Delivery")},
        _OPERATOR,
        (Parameter("delivery", "path", "number of the delivery", _NUMBER, required=True),),
        problems=(404, 409),
    ),
)
_PARTNERS = (
    Operation(
        "POST",
        "/v1/partner/payments",
        "partner_payment",
        "Take a payment of a partner's payer; a refusal is a receipt of state voided",
        _PAID,
        _PARTNER,
        body=_NOTICE,
        problems=(409, 415),
    ),
    Operation(
        "POST",
        "/v1/partner/payments/cancel",
        "partner_cancel",
        "What became of a partner's payment; one that was not taken never will be",
        {200: _json("Payment")},
        _PARTNER,
        body=_NOTICE,
        problems=(409, 415),
    ),
    Operation(
        "POST",
        "/v1/partner/refunds",
        "partner_refund",
        "Pass a refund on to the payer",
        _REFUNDED,
        _PARTNER,
        body=Body({CBOR: "Binary"}, "SignedRefund of docs/spec/messages.md"),
        problems=(404, 409, 415),
    ),
)
OPERATIONS = (*_PUBLIC, *_PAYERS, *_TILLS, *_MERCHANTS, *_OPERATORS, *_PARTNERS)
