"""What partner platforms ask: signed member requests, answered with signed receipts."""

from __future__ import annotations

from starlette.responses import Response

from onecode.errors import Malformed, Untrusted
from onecode.platform.context import Platform
from onecode.platform.http import CBOR, Call, json_response
from onecode.platform.partner_intake import cancel_payment, take_payment, take_refund, verify_partner
from onecode.platform.plain import payment_plain, refund_plain
from onecode.proof.leaves import PlatformLeaf
from onecode.query.requests import MEMBER_HEADER
from onecode.record.notice import PartnerPayment
from onecode.record.receipt import SignedRefund
from onecode.schema import parse


class PartnerApi:
    """Handlers of one platform; each runs on a thread."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def _partner(self, call: Call) -> tuple[bytes, PlatformLeaf, str]:
        proof = call.headers.get(MEMBER_HEADER)
        if proof is None:
            raise Untrusted("partner.unsigned", f"the request needs the header {MEMBER_HEADER}", field=MEMBER_HEADER)
        partner, leaf = verify_partner(self._platform, proof, call.path, call.body)
        if call.media_type != CBOR:
            raise Malformed("http.media_type", f"send {CBOR}", status=415)
        return partner, leaf, proof

    def partner_payment(self, call: Call) -> Response:
        partner, _, proof = self._partner(call)
        answer = take_payment(self._platform, partner, parse(PartnerPayment, call.body, path="notice"), proof)
        return json_response(payment_plain(answer), 201 if answer.is_new else 200)

    def partner_cancel(self, call: Call) -> Response:
        partner, _, proof = self._partner(call)
        answer = cancel_payment(self._platform, partner, parse(PartnerPayment, call.body, path="notice"), proof)
        return json_response(payment_plain(answer))

    def partner_refund(self, call: Call) -> Response:
        partner, leaf, _ = self._partner(call)
        signed = parse(SignedRefund, call.body, path="refund")
        answer = take_refund(self._platform, partner, leaf, signed)
        return json_response(refund_plain(answer), 201 if answer.is_new else 200)
