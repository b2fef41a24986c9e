"""The platform's HTTP API: which path does what (docs/spec/platform.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from onecode.code.identity import ID_BYTES, merchant_text, parse_merchant_text, platform_text, prefix_of
from onecode.errors import Declined, Malformed, Unreachable
from onecode.platform.agreement import parse_agreement
from onecode.platform.books import AccountKind
from onecode.platform.context import Platform
from onecode.platform.devices import Enrolment, enrol, issue_credential, verify_call
from onecode.platform.http import Call, answer_http_error, endpoint, json_response
from onecode.platform.ledger import load_balances, load_trial_balance
from onecode.platform.merchants import MerchantStatus, load_merchant, load_status, publish, sign_up, withdraw
from onecode.platform.outbox import Sender
from onecode.platform.payments import PaymentAnswer, load_payment, pay, require_key, void_payment
from onecode.platform.schema import Evidence, Merchant, RecordState
from onecode.platform.tills import Announcer, load_events, verify_till
from onecode.platform.trust import build_trust_file
from onecode.record.payment import SERVICE_PAY
from onecode.record.receipt import PaymentRequest
from onecode.schema import from_plain, parse, to_plain

CBOR = "application/cbor"
MERCHANTS_MAX = 1_000  # in one answer

Handler = Callable[[Call], Response]


def _hex(value: Any, field: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        raise Malformed("http.hex", f"{field} must be hex", field=field) from None


def _enrolment(enrolment: Enrolment) -> dict[str, Any]:
    return {
        "credential": enrolment.credential.hex(),
        "account": enrolment.account.hex(),
        "valid_until_ms": enrolment.valid_until_ms,
        "sandbox": True,
    }


def _payment(answer: PaymentAnswer) -> dict[str, Any]:
    receipt = answer.receipt
    return {
        "payment_id": answer.payment_id,
        "state": answer.state.name.lower(),
        "currency": receipt.order.currency,
        "amount_minor": receipt.order.amount_minor,
        "tip_minor": receipt.order.tip_minor,
        "fee_minor": receipt.fee_minor,
        "total_minor": receipt.total_minor,
        "display_name": receipt.display_name,
        "time_ms": receipt.time_ms,
        "receipt": answer.signed.hex(),
    }


class PlatformApp:
    """The routes over one platform. Handlers run on threads, but for the tills' long poll."""

    def __init__(self, platform: Platform, sender: Sender) -> None:
        self._platform = platform
        self._sender = sender
        self._announcer = Announcer()
        self._prefix = prefix_of(platform.config.chain_id)

    def starlette(self) -> Starlette:
        """The ASGI application."""
        routes = [
            self._route("GET", "/v1/status", self.status),
            self._route("GET", "/v1/health", self.health),
            self._route("GET", "/v1/trust-file", self.trust_file),
            self._route("POST", "/v1/devices", self.enrol_device),
            self._route("POST", "/v1/devices/renew", self.renew_device),
            self._route("GET", "/v1/account", self.account),
            self._route("POST", "/v1/payments", self.make_payment),
            self._route("GET", "/v1/payments", self.find_payment),
            self._route("GET", "/v1/payments/{payment}", self.payment),
            self._route("GET", "/v1/payments/{payment}/evidence", self.evidence),
            self._route("POST", "/v1/payments/{payment}/void", self.void),
            self._route("POST", "/v1/merchants", self.sign_up),
            self._route("GET", "/v1/merchants", self.merchants),
            self._route("POST", "/v1/merchants/{merchant}/publish", self.publish),
            self._route("POST", "/v1/merchants/{merchant}/withdraw", self.withdraw),
            self._route("GET", "/v1/books", self.books),
            Route("/v1/merchants/{merchant}/events", self._endpoint(self.events), methods=["GET"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: answer_http_error})
        app.router.redirect_slashes = False
        return app

    def _endpoint(self, handler: Callable[[Call], Any]) -> Any:
        config = self._platform.config
        return endpoint(handler, config.body_bytes_max, config.request_timeout_ms)

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def on_thread(call: Call) -> Response:
            response = await run_in_threadpool(handler, call)
            if method == "POST":
                self._announcer.wake()
            return response

        return Route(path, self._endpoint(on_thread), methods=[method])

    def _operator(self, call: Call) -> None:
        call.require_bearer(self._platform.config.operator_token)

    def _merchant(self, call: Call) -> bytes:
        """The merchant in the path: 40 hex digits, or the id's text."""
        text = call.parameters["merchant"]
        if len(text) == 2 * ID_BYTES:
            return _hex(text, "merchant")
        return parse_merchant_text(text, self._prefix)

    # --- public

    def status(self, _: Call) -> Response:
        """Who this platform is and the newest header that it has verified, whatever its age."""
        platform = self._platform
        view = platform.chain.newest_view()
        return json_response(
            {
                "name": platform.config.name,
                "platform": platform.id.hex(),
                "platform_text": platform_text(platform.id, self._prefix),
                "chain_id": platform.config.chain_id,
                "sandbox": platform.config.sandbox,
                "height": view.header.header.height if view is not None else None,
            }
        )

    def health(self, _: Call) -> Response:
        """Whether the platform works: it has a fresh proven header and is active."""
        platform = self._platform
        if not platform.chain.own_leaf().active_at(platform.clock_ms()):
            raise Unreachable("platform.suspended", "the platform is suspended or not active yet")
        return json_response({"status": "ok"})

    def trust_file(self, _: Call) -> Response:
        """The newest header, proven now, signed by the anchor key."""
        platform = self._platform
        view = platform.chain.fetch_newest()
        file = build_trust_file(view, platform.certificate, platform.keys.anchor, platform.clock_ms())
        return Response(file.encoded(), media_type=CBOR)

    def enrol_device(self, call: Call) -> Response:
        given = call.json()
        if type(given) is not dict or not {"device"} <= set(given) <= {"device", "account"}:
            raise Malformed("device.request", "give device and, if you have one, account", field="body")
        account = _hex(given["account"], "account") if "account" in given else None
        if account is not None and not 1 <= len(account) <= 32:
            raise Malformed("device.request", "an account has 1 to 32 bytes", field="account")
        signed = call.device_call() if "onecode-device" in call.headers else None
        return json_response(_enrolment(enrol(self._platform, _hex(given["device"], "device"), account, signed)), 201)

    # --- payers

    def renew_device(self, call: Call) -> Response:
        credential = verify_call(self._platform, call.device_call())
        return json_response(_enrolment(issue_credential(self._platform, credential.device, credential.account)))

    def account(self, call: Call) -> Response:
        credential = verify_call(self._platform, call.device_call())
        with self._platform.database.read() as session:
            balances = load_balances(session, AccountKind.PAYER, credential.account)
        return json_response(
            {
                "account": credential.account.hex(),
                "sandbox": self._platform.config.sandbox,
                "balances": [{"currency": name, "balance_minor": amount} for name, amount in balances.items()],
            }
        )

    def make_payment(self, call: Call) -> Response:
        key = require_key(call.headers.get("idempotency-key"))
        credential = verify_call(self._platform, call.device_call())
        if call.media_type == CBOR:
            request = parse(PaymentRequest, call.body, path="payment")
        elif call.media_type == "application/json":
            request = from_plain(PaymentRequest, call.json(), "payment")
        else:
            raise Malformed("http.media_type", f"send {CBOR} or application/json", status=415)
        answer = pay(self._platform, credential, key, request)
        return json_response(_payment(answer), 201 if answer.is_new else 200)

    def find_payment(self, call: Call) -> Response:
        credential = verify_call(self._platform, call.device_call())
        key = require_key(call.parameters.get("idempotency_key"))
        return json_response(_payment(load_payment(self._platform, credential.account, key=key)))

    def payment(self, call: Call) -> Response:
        credential = verify_call(self._platform, call.device_call())
        payment_id = call.parameters["payment"]
        return json_response(_payment(load_payment(self._platform, credential.account, payment_id=payment_id)))

    # --- tills

    async def events(self, call: Call) -> Response:
        """Events after `after`; where there is none, the answer waits for one up to `wait_ms`."""
        platform, token = self._platform, call.bearer()
        merchant = self._merchant(call)
        after = call.integer("after", 0)
        wait_ms_max = min(platform.config.long_poll_ms_max, platform.config.request_timeout_ms // 2)
        wait_ms = min(call.integer("wait_ms", wait_ms_max), wait_ms_max)
        await run_in_threadpool(verify_till, platform, merchant, SERVICE_PAY, token)
        end = asyncio.get_running_loop().time() + wait_ms / 1000
        while True:
            changed = self._announcer.next
            found = await run_in_threadpool(load_events, platform, merchant, after)
            left = end - asyncio.get_running_loop().time()
            if found or left <= 0:
                return json_response(found)
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return json_response([])

    # --- the operator

    def sign_up(self, call: Call) -> Response:
        self._operator(call)
        agreement = parse_agreement(call.json(), self._platform.id)
        token = sign_up(self._platform, agreement)
        answer = self._status_of(agreement.merchant)
        return json_response(answer if token is None else answer | {"till_token": token}, 200 if token is None else 201)

    def publish(self, call: Call) -> Response:
        self._operator(call)
        merchant = self._merchant(call)
        publish(self._platform, merchant, SERVICE_PAY)
        return self._sent(merchant, RecordState.LIVE)

    def withdraw(self, call: Call) -> Response:
        self._operator(call)
        merchant = self._merchant(call)
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
        return self._merchant_plain(status)

    def _merchant_plain(self, status: MerchantStatus) -> dict[str, Any]:
        agreement = {name: value for name, value in to_plain(status.agreement).items() if name != "consent"}
        return {
            "merchant": status.agreement.merchant.hex(),
            "merchant_text": merchant_text(status.agreement.merchant, self._prefix),
            "service": status.agreement.service,
            "version": status.version,
            "state": status.state if status.state is not None else "draft",
            "refusal": status.refusal,
            "agreement": agreement,
        }

    def merchants(self, call: Call) -> Response:
        """Up to 1,000 merchants after the id `after` (hex)."""
        self._operator(call)
        after = _hex(call.parameters.get("after", ""), "after")
        query = select(Merchant).where(Merchant.merchant > after).order_by(Merchant.merchant).limit(MERCHANTS_MAX)
        with self._platform.database.read() as session:
            found = [load_status(session, row) for row in session.scalars(query)]
        return json_response([self._merchant_plain(status) for status in found])

    def books(self, call: Call) -> Response:
        """The trial balance, added up anew from every transfer."""
        self._operator(call)
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

    def void(self, call: Call) -> Response:
        self._operator(call)
        return json_response(_payment(void_payment(self._platform, call.parameters["payment"])))

    def evidence(self, call: Call) -> Response:
        """What shows why a payment went where it went."""
        self._operator(call)
        with self._platform.database.read() as session:
            row = session.get(Evidence, call.parameters["payment"])
            if row is None:
                raise Declined("payment.unknown", "there is no such payment", status=404)
            parts = {name: getattr(row, name).hex() for name in ("request", "view", "signed_record", "receipt")}
        return json_response({"payment_id": row.payment_id, **parts})
