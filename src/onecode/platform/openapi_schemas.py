"""JSON Schemas of what the platform answers, by the names that `operations.py` uses."""

from __future__ import annotations

from typing import Any

from onecode.errors import BRANCHES
from onecode.platform.books import AccountKind
from onecode.platform.schema import NoticeKind, OutboxState, RecordState, SendState
from onecode.record.receipt import PaymentState

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "integer", "minimum": 0, "description": "milliseconds since the epoch, UTC"}
AMOUNT: Schema = {"type": "integer", "minimum": 0, "description": "minor units"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SIGNED: Schema = {"type": "integer", "description": "minor units"}
HEX: Schema = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
CURRENCY: Schema = {"type": "string", "pattern": "^[A-Z]{3}$"}
YES: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
OUTBOX_STATE: Schema = {"enum": [str(state) for state in OutboxState]}


def reference(name: str) -> Schema:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(name: str) -> Schema:
    return {"type": "array", "items": reference(name)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_PARTS = {"amount_minor": AMOUNT, "tip_minor": AMOUNT, "fee_minor": AMOUNT, "total_minor": AMOUNT}

SCHEMAS: dict[str, Schema] = {
    "Problem": _object(
        ("field", "retry_after_ms"),
        type=TEXT,
        title={"enum": [branch.branch for branch in BRANCHES]},
        status={"type": "integer"},
        detail=TEXT,
        code={"type": "string", "description": "machine code, see docs/errors.md"},
        field=TEXT,
        retry_after_ms=COUNT,
    ),
    "Binary": {"contentMediaType": "application/cbor"},
    "Document": {"type": "object"},
    "EventStream": {"type": "string"},
    "Status": _object(name=TEXT, platform=HEX, platform_text=TEXT, chain_id=TEXT, sandbox=YES, height=_or_null(COUNT)),
    "Health": _object(status={"const": "ok"}),
    "EnrolmentRequest": _object(
        ("account",),
        device={"type": "string", "pattern": "^[0-9a-f]{64}$"},
        account={"type": "string", "pattern": "^([0-9a-f]{2}){1,32}$"},
    ),
    "Enrolment": _object(credential=HEX, account=HEX, valid_until_ms=TIME, sandbox=YES),
    "Account": _object(
        account=HEX,
        sandbox=YES,
        balances={"type": "array", "items": _object(currency=CURRENCY, balance_minor=AMOUNT)},
    ),
    "Payment": _object(
        ("refusal",),
        payment_id=TEXT,
        state={"enum": [state.name.lower() for state in PaymentState]},
        record_platform=HEX,
        currency=CURRENCY,
        **_PARTS,
        display_name=TEXT,
        time_ms=TIME,
        receipt={**HEX, "description": "SignedReceipt of docs/spec/messages.md"},
        refusal={"type": "string", "description": "why it was voided or expired"},
    ),
    "Refund": _object(
        ("reason",),
        refund_id=TEXT,
        payment_id=TEXT,
        currency=CURRENCY,
        **_PARTS,
        refunded_minor={**AMOUNT, "description": "of the payment's total so far"},
        time_ms=TIME,
        refund={**HEX, "description": "SignedRefund of docs/spec/messages.md"},
        reason=TEXT,
    ),
    "Refunds": _list("Refund"),
    "Event": _object(
        ("payer_platform", "order", "signed_order", "refund_id", "amount_minor", "tip_minor", "refunded_minor"),
        id=COUNT,
        type={"enum": ["payment.posted", "payment.voided", "payment.refunded"]},
        payment_id=TEXT,
        payer_platform={**HEX, "description": "whose payer it is; not of refunds"},
        order={"type": "object", "description": "Order in its plain form, without the code; not of refunds"},
        signed_order={
            **YES,
            "description": "whether the merchant's order key signed the order; else all of it, with its reference, is "
            "the payer's word; not of refunds",
        },
        refund_id=TEXT,
        **_PARTS,
        refunded_minor=AMOUNT,
        time_ms=TIME,
    ),
    "Events": _list("Event"),
    "Merchant": _object(
        ("till_token",),
        merchant=HEX,
        merchant_text=TEXT,
        service=TEXT,
        version=_or_null(COUNT),
        state={"enum": ["draft", *(str(state) for state in RecordState)]},
        refusal=_or_null(TEXT),
        agreement={"type": "object", "description": "as it was signed up, without the consent"},
        till_token={"type": "string", "description": "where the merchant is new; shown this once"},
    ),
    "Merchants": _list("Merchant"),
    "AliasBinding": _object(merchant=HEX, merchant_text=TEXT, guid=TEXT, values=TEXTS, state=OUTBOX_STATE),
    "Alias": _object(guid=TEXT, values=TEXTS, state=OUTBOX_STATE, refusal=_or_null(TEXT), bound=YES),
    "Aliases": _list("Alias"),
    "Epochs": _object(
        current={**COUNT, "description": "new records are sealed under it"},
        epoch_min={**COUNT, "description": "the chain takes no records under older ones"},
        epochs={"type": "array", "items": _object(epoch=COUNT, used_from_ms=TIME, records=COUNT)},
    ),
    "Retirement": _object(
        epoch=COUNT,
        epoch_min=COUNT,
        left={**COUNT, "description": "records under the epochs that end"},
        waiting={**COUNT, "description": "transactions on their way to the chain"},
        stuck={"type": "array", "items": _object(merchant=HEX, code=TEXT, detail=TEXT), "maxItems": 100},
        done={**YES, "description": "the chain refuses the epochs, and their keys are erased"},
    ),
    "Books": _object(
        sandbox=YES,
        totals={"type": "array", "items": _object(currency=CURRENCY, total_minor={"const": 0})},
        balances={
            "type": "array",
            "items": _object(
                kind={"enum": [kind.name.lower() for kind in AccountKind]},
                owner=HEX,
                currency=CURRENCY,
                balance_minor=SIGNED,
            ),
        },
    ),
    "Evidence": _object(payment_id=TEXT, request=HEX, view=HEX, signed_record=HEX, receipt=HEX),
    "Checkpoint": _object(
        platform=HEX,
        serial=COUNT,
        hash=HEX,
        from_ms=TIME,
        until_ms=TIME,
        height=COUNT,
        header_hash=HEX,
        receipts=COUNT,
        countersigned_by={"type": "array", "items": HEX},
        complete={**YES, "description": "two other organisations have countersigned"},
        checkpoint={**HEX, "description": "Checkpoint of docs/spec/messages.md"},
    ),
    "Checkpoints": _list("Checkpoint"),
    "WaitingCheckpoints": _object(
        waiting={
            "type": "array",
            "items": _object(
                serial=COUNT,
                platform={**HEX, "description": "that was asked to countersign"},
                sent=COUNT,
                next_ms=TIME,
                refused={**YES, "description": "it cannot check headers so old, and is not asked again"},
                error=_or_null(TEXT),
            ),
        },
        forks={
            "type": "array",
            "items": _object(platform=HEX, serial=COUNT, hash=HEX, code=TEXT, checkpoint=HEX, created_ms=TIME),
        },
    ),
    "WebhookRequest": _object(url={"type": "string", "format": "uri", "maxLength": 500}),
    "Webhook": _object(
        ("secret",),
        merchant=HEX,
        url=_or_null(TEXT),
        secret={"type": "string", "pattern": "^whsec_"},
    ),
    "Delivery": _object(
        id=COUNT,
        event=COUNT,
        merchant=HEX,
        state={"enum": [str(state) for state in SendState]},
        sent=COUNT,
        next_ms=TIME,
        error=_or_null(TEXT),
    ),
    "Deliveries": _list("Delivery"),
    "Notice": _object(
        id=COUNT,
        kind={"enum": [str(kind) for kind in NoticeKind]},
        partner=HEX,
        payment_id=TEXT,
        refund_id=_or_null(TEXT),
        state={"enum": [str(state) for state in SendState]},
        sent=COUNT,
        next_ms=TIME,
        error=_or_null(TEXT),
    ),
    "Notices": _list("Notice"),
}
