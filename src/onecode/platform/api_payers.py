"""The API's public part and that of payers and their devices."""

from __future__ import annotations

from starlette.responses import Response

from onecode.code.identity import platform_text
from onecode.errors import Malformed, Unreachable, Untrusted
from onecode.platform.books import AccountKind
from onecode.platform.context import Platform
from onecode.platform.devices import enrol, issue_credential, verify_call
from onecode.platform.http import CBOR, JSON, Call, json_response
from onecode.platform.ledger import load_balances
from onecode.platform.notices import NoticeSender
from onecode.platform.openapi import document
from onecode.platform.payments import load_payment, pay, require_key
from onecode.platform.plain import enrolment_plain, parse_hex, payment_plain, refund_plain
from onecode.platform.refunds import load_refunds
from onecode.platform.trust import build_trust_file
from onecode.query.requests import DEVICE_HEADER, DEVICE_KEY_HEADER, verify_device_key
from onecode.record.receipt import PaymentRequest
from onecode.schema import from_plain, parse

ACCOUNT_BYTES_MAX = 32
DEVICE_BYTES = 32


class PayerApi:
    """Handlers of one platform; each runs on a thread."""

    def __init__(self, platform: Platform, notices: NoticeSender, prefix: str) -> None:
        self._platform = platform
        self._notices = notices
        self._prefix = prefix

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

    def openapi(self, _: Call) -> Response:
        return json_response(document())

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
        device = parse_hex(given["device"], "device")
        if len(device) != DEVICE_BYTES:
            raise Malformed("device.key", f"a device's key has {DEVICE_BYTES} bytes", field="device")
        account = parse_hex(given["account"], "account") if "account" in given else None
        if account is not None and not 1 <= len(account) <= ACCOUNT_BYTES_MAX:
            raise Malformed("device.request", f"an account has 1 to {ACCOUNT_BYTES_MAX} bytes", field="account")
        self._require_key_of(device, call)
        signed = call.device_call() if DEVICE_HEADER in call.headers else None
        enrolment = enrol(self._platform, device, account, signed)
        return json_response(enrolment_plain(enrolment), 201)

    def _require_key_of(self, device: bytes, call: Call) -> None:
        """Raise unless the device that is to be enrolled signed this request itself."""
        platform, proof = self._platform, call.headers.get(DEVICE_KEY_HEADER)
        if proof is not None:
            chain_id, now_ms = platform.config.chain_id, platform.clock_ms()
            key = verify_device_key(chain_id, proof, call.method, call.path, call.body, now_ms)
        if proof is None or key != device:
            raise Untrusted(
                "device.unproven", f"sign the request with the device's own key ({DEVICE_KEY_HEADER})", field="device"
            )

    def renew_device(self, call: Call) -> Response:
        credential = verify_call(self._platform, call.device_call())
        enrolment = issue_credential(self._platform, credential.device, credential.account)
        return json_response(enrolment_plain(enrolment))

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
        elif call.media_type == JSON:
            request = from_plain(PaymentRequest, call.json(), "payment")
        else:
            raise Malformed("http.media_type", f"send {CBOR} or {JSON}", status=415)
        answer = pay(self._platform, self._notices, credential, key, request)
        return json_response(payment_plain(answer), 201 if answer.is_new else 200)

    def find_payment(self, call: Call) -> Response:
        credential = verify_call(self._platform, call.device_call())
        key = require_key(call.parameters.get("idempotency_key"))
        return json_response(payment_plain(load_payment(self._platform, credential.account, key=key)))

    def payment(self, call: Call) -> Response:
        credential = verify_call(self._platform, call.device_call())
        payment_id = call.parameters["payment"]
        return json_response(payment_plain(load_payment(self._platform, credential.account, payment_id=payment_id)))

    def refunds(self, call: Call) -> Response:
        """For the payer by its device, or for the operator."""
        account = None
        if DEVICE_HEADER in call.headers:
            account = verify_call(self._platform, call.device_call()).account
        else:
            call.require_bearer(self._platform.config.operator_token)
        found = load_refunds(self._platform, call.parameters["payment"], account=account)
        return json_response([refund_plain(one) for one in found])
