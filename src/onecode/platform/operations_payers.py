"""The operations of the public, of payers and of tills."""

from __future__ import annotations

from onecode.platform.http import CBOR
from onecode.platform.operation import (
    AFTER,
    DEVICE,
    EVENT_STREAM,
    KEY,
    MERCHANT,
    NUMBER,
    PAID,
    PAYMENT,
    PAYMENT_BODY,
    REFUND_BODY,
    REFUNDED,
    TILL,
    Body,
    Operation,
    Parameter,
    Who,
    json_body,
)

PUBLIC = (
    Operation(
        "GET", "/v1/status", "status", "Name, platform id, chain, newest verified height", {200: json_body("Status")}
    ),
    Operation("GET", "/v1/health", "health", "Whether there is a fresh proof", {200: json_body("Health")}),
    Operation("GET", "/v1/openapi.json", "openapi", "This document", {200: json_body("Document")}),
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
        {201: json_body("Enrolment")},
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
        body=json_body("EnrolmentRequest"),
        problems=(401, 403, 409),
    ),
)
PAYERS = (
    Operation("POST", "/v1/devices/renew", "renew_device", "A fresh credential", {200: json_body("Enrolment")}, DEVICE),
    Operation("GET", "/v1/account", "account", "Balances by currency", {200: json_body("Account")}, DEVICE),
    Operation(
        "POST",
        "/v1/payments",
        "make_payment",
        "Pay by a verified record",
        PAID,
        DEVICE,
        (KEY,),
        PAYMENT_BODY,
        (404, 409, 415),
    ),
    Operation(
        "GET",
        "/v1/payments",
        "find_payment",
        "An own payment by its key",
        {200: json_body("Payment")},
        DEVICE,
        (Parameter("idempotency_key", "query", "as it was given", KEY.schema, required=True),),
        problems=(404,),
    ),
    Operation(
        "GET",
        "/v1/payments/{payment}",
        "payment",
        "An own payment by its id",
        {200: json_body("Payment")},
        DEVICE,
        (PAYMENT,),
        problems=(404,),
    ),
    Operation(
        "GET",
        "/v1/payments/{payment}/refunds",
        "refunds",
        "Refunds of a payment, in order",
        {200: json_body("Refunds")},
        (Who.DEVICE, Who.OPERATOR),
        (PAYMENT,),
        problems=(404,),
    ),
)
TILLS = (
    Operation(
        "GET",
        "/v1/merchants/{merchant}/events",
        "events",
        "Events in order, at most 100; waits where there is none",
        {200: json_body("Events")},
        TILL,
        (MERCHANT, AFTER, Parameter("wait_ms", "query", "longest wait", NUMBER)),
    ),
    Operation(
        "GET",
        "/v1/merchants/{merchant}/stream",
        "stream",
        "Events as they come, as server-sent events",
        {200: Body({EVENT_STREAM: "EventStream"})},
        TILL,
        (MERCHANT, AFTER, Parameter("Last-Event-ID", "header", "instead of `after`", {"type": "string"})),
        problems=(429,),
    ),
    Operation(
        "POST",
        "/v1/merchants/{merchant}/payments/{payment}/refunds",
        "till_refund",
        "Give back a part of a payment to the merchant",
        REFUNDED,
        TILL,
        (MERCHANT, PAYMENT, KEY),
        REFUND_BODY,
        (409,),
    ),
    Operation(
        "GET",
        "/v1/merchants/{merchant}/payments/{payment}/refunds",
        "till_refunds",
        "Refunds of a payment to the merchant, in order",
        {200: json_body("Refunds")},
        TILL,
        (MERCHANT, PAYMENT),
    ),
)
