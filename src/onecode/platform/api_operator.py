"""The operator's part of the API."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from starlette.responses import Response

from onecode.errors import Declined, Malformed, Unreachable
from onecode.platform.agreement import parse_agreement
from onecode.platform.context import Platform
from onecode.platform.export import build_evidence
from onecode.platform.http import CBOR, Call, json_response
from onecode.platform.ledger import load_trial_balance
from onecode.platform.merchants import load_merchant, load_status, publish, sign_up, withdraw
from onecode.platform.notices import load_notices
from onecode.platform.outbox import Sender
from onecode.platform.payments import require_key, void_payment
from onecode.platform.plain import (
    merchant_plain,
    notice_plain,
    parse_hex,
    parse_merchant,
    payment_plain,
    refund_plain,
    retirement_plain,
)
from onecode.platform.refunds import RefundRequest, refund_payment
from onecode.platform.rotation import load_epoch_states, make_epoch, retire_epochs
from onecode.platform.schema import Merchant, RecordState, SendState
from onecode.platform.webhooks import load_deliveries, remove_webhook, retry_delivery, set_webhook
from onecode.record.payment import SERVICE_PAY
from onecode.schema import from_plain

MERCHANTS_MAX = 1_000  # in one answer


class OperatorApi:
    """Handlers of one platform; each runs on a thread, after the operator's token was checked."""

    def __init__(self, platform: Platform, sender: Sender, prefix: str) -> None:
        self._platform = platform
        self._sender = sender
        self._prefix = prefix

    def sign_up(self, call: Call) -> Response:
        agreement = parse_agreement(call.json(), self._platform.id)
        token = sign_up(self._platform, agreement)
        answer = self._status_of(agreement.merchant)
        return json_response(answer if token is None else answer | {"till_token": token}, 200 if token is None else 201)

    def publish(self, call: Call) -> Response:
        merchant = parse_merchant(call, self._prefix)
        publish(self._platform, merchant, SERVICE_PAY)
        return self._sent(merchant, RecordState.LIVE)

    def withdraw(self, call: Call) -> Response:
        merchant = parse_merchant(call, self._prefix)
        withdraw(self._platform, merchant, SERVICE_PAY)
        return self._sent(merchant, RecordState.WITHDRAWN)

    def _sent(self, merchant: bytes, wanted: RecordState) -> Response:
        """200 once the chain has it, 202 while it waits in the outbox; `Declined` where the chain refused it."""
        try:
            self._sender.drain()
        except Unreachable:
            return json_response(self._status_of(merchant), 202)
        answer = self._status_of(merchant)
        if answer["refusal"] is not None:
            raise Declined("merchant.refused", f"the chain refused the transaction: {answer['refusal']}")
        return json_response(answer, 200 if answer["state"] == wanted else 202)

    def _status_of(self, merchant: bytes) -> dict[str, Any]:
        with self._platform.database.read() as session:
            status = load_status(session, load_merchant(session, merchant, SERVICE_PAY))
        return merchant_plain(status, self._prefix)

    def merchants(self, call: Call) -> Response:
        """Up to 1,000 merchants after the id `after` (hex)."""
        after = parse_hex(call.parameters.get("after", ""), "after")
        query = select(Merchant).where(Merchant.merchant > after).order_by(Merchant.merchant).limit(MERCHANTS_MAX)
        with self._platform.database.read() as session:
            found = [load_status(session, row) for row in session.scalars(query)]
        return json_response([merchant_plain(status, self._prefix) for status in found])

    def books(self, _: Call) -> Response:
        """The trial balance, added up anew from every transfer."""
        with self._platform.database.read() as session:
            trial = load_trial_balance(session)
        balances = [
            {
                "kind": account.kind.name.lower(),
                "owner": account.owner.hex(),
                "currency": account.currency,
                "balance_minor": amount,
            }
            for account, amount in trial.balances
        ]
        totals = [{"currency": name, "total_minor": amount} for name, amount in sorted(trial.totals_minor.items())]
        return json_response({"sandbox": self._platform.config.sandbox, "totals": totals, "balances": balances})

    # --- epoch keys

    def make_epoch(self, _: Call) -> Response:
        make_epoch(self._platform)
        return json_response(load_epoch_states(self._platform), 201)

    def epochs(self, _: Call) -> Response:
        return json_response(load_epoch_states(self._platform))

    def retire_epochs(self, call: Call) -> Response:
        """What it puts into the outbox is sent in the background: ask again until it is done."""
        return json_response(retirement_plain(retire_epochs(self._platform, call.integer("epoch", 0))))

    # --- payments

    def void(self, call: Call) -> Response:
        return json_response(payment_plain(void_payment(self._platform, call.parameters["payment"])))

    def refund(self, call: Call) -> Response:
        key = require_key(call.headers.get("idempotency-key"))
        request = from_plain(RefundRequest, call.json(), "refund")
        answer = refund_payment(self._platform, call.parameters["payment"], key, request)
        return json_response(refund_plain(answer), 201 if answer.is_new else 200)

    def evidence(self, call: Call) -> Response:
        """What shows why a payment went where it went: one file, or with `Accept: application/json` its parts."""
        payment_id = call.parameters["payment"]
        until = call.integer("checkpoint", 0) if "checkpoint" in call.parameters else None
        file = build_evidence(self._platform, payment_id, until)
        if CBOR in call.headers.get("accept", ""):
            return Response(file.encoded(), media_type=CBOR)
        parts = {name: getattr(file, name).hex() for name in ("request", "view", "signed_record", "receipt")}
        return json_response({"payment_id": payment_id, **parts})

    # --- what waits, and what was given up

    def notices(self, call: Call) -> Response:
        return json_response([notice_plain(row) for row in load_notices(self._platform, _state(call))])

    def set_webhook(self, call: Call) -> Response:
        merchant, given = parse_merchant(call, self._prefix), call.json()
        if type(given) is not dict or set(given) != {"url"}:
            raise Malformed("webhook.request", "give url, and nothing else", field="body")
        return json_response(set_webhook(self._platform, merchant, given["url"]))

    def remove_webhook(self, call: Call) -> Response:
        merchant = parse_merchant(call, self._prefix)
        remove_webhook(self._platform, merchant)
        return json_response({"merchant": merchant.hex(), "url": None})

    def deliveries(self, call: Call) -> Response:
        return json_response(load_deliveries(self._platform, _state(call)))

    def retry_delivery(self, call: Call) -> Response:
        return json_response(retry_delivery(self._platform, call.integer("delivery", 0)))


def _state(call: Call) -> str | None:
    """The parameter `state`, one of those of what is sent."""
    state = call.parameters.get("state")
    if state is not None and state not in tuple(SendState):
        raise Malformed("http.parameter", f"the parameter state is one of {', '.join(SendState)}", field="state")
    return state
