"""The operations between platforms, and of checkpoints, which anybody may read."""

from __future__ import annotations

from onecode.platform.http import CBOR
from onecode.platform.operation import (
    NOTICE,
    NUMBER,
    PAID,
    PARTNER,
    REFUNDED,
    Body,
    Operation,
    Parameter,
    json_body,
)

PARTNERS = (
    Operation(
        "POST",
        "/v1/partner/payments",
        "partner_payment",
        "Take a payment of a partner's payer; a refusal is a receipt of state voided",
        PAID,
        PARTNER,
        body=NOTICE,
        problems=(409, 415),
    ),
    Operation(
        "POST",
        "/v1/partner/payments/cancel",
        "partner_cancel",
        "What became of a partner's payment; one that was not taken never will be",
        {200: json_body("Payment")},
        PARTNER,
        body=NOTICE,
        problems=(409, 415),
    ),
    Operation(
        "POST",
        "/v1/partner/refunds",
        "partner_refund",
        "Pass a refund on to the payer",
        REFUNDED,
        PARTNER,
        body=Body({CBOR: "Binary"}, "SignedRefund of docs/spec/messages.md"),
        problems=(404, 409, 415),
    ),
    Operation(
        "POST",
        "/v1/checkpoints/countersign",
        "countersign",
        "Countersign a checkpoint of the platform that asks",
        {200: Body({CBOR: "Binary"}, "Countersignature of docs/spec/messages.md")},
        PARTNER,
        body=Body({CBOR: "Binary"}, "Checkpoint of docs/spec/messages.md, not countersigned"),
        problems=(409, 415),
    ),
)
CHECKPOINTS = (
    Operation(
        "GET",
        "/v1/checkpoints",
        "checkpoints",
        "Checkpoints in order, at most 20: its own, or those of another platform that it countersigned",
        {200: json_body("Checkpoints")},
        parameters=(
            Parameter("from", "query", "serial of the first one", NUMBER),
            Parameter("platform", "query", "platform id in hex", {"type": "string", "pattern": "^[0-9a-f]{40}$"}),
        ),
    ),
)
