"""Checkpoints: shown to anybody, countersigned for other platforms."""

from __future__ import annotations

from starlette.responses import Response

from onecode.errors import Malformed, Untrusted
from onecode.platform.checkpoints import Shown, load_checkpoints, load_witnessed
from onecode.platform.context import Platform
from onecode.platform.countersign_requests import load_waiting
from onecode.platform.countersigning import countersign_checkpoint, verify_asking
from onecode.platform.http import CBOR, Call, json_response
from onecode.platform.plain import parse_hex
from onecode.proof.checkpoint import COUNTERSIGNATURES_WANTED, parse_body, parse_checkpoint
from onecode.query.requests import MEMBER_HEADER

ID_BYTES = 20


class CheckpointApi:
    """Handlers of one platform; each runs on a thread."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def checkpoints(self, call: Call) -> Response:
        """In order of their serials, with the countersignatures there are by now."""
        first, other = call.integer("from", 1), call.parameters.get("platform")
        if other is None or parse_hex(other, "platform") == self._platform.id:
            found = load_checkpoints(self._platform, first)
        else:
            given = parse_hex(other, "platform")
            if len(given) != ID_BYTES:
                raise Malformed("http.parameter", "the parameter platform is an id of 40 hex digits", field="platform")
            found = load_witnessed(self._platform, given, first)
        return json_response([checkpoint_plain(one) for one in found])

    def waiting_checkpoints(self, _: Call) -> Response:
        return json_response(load_waiting(self._platform))

    def countersign(self, call: Call) -> Response:
        proof = call.headers.get(MEMBER_HEADER)
        if proof is None:
            raise Untrusted("partner.unsigned", f"the request needs the header {MEMBER_HEADER}", field=MEMBER_HEADER)
        asking, leaf = verify_asking(self._platform, proof, call.path, call.body)
        if call.media_type != CBOR:
            raise Malformed("http.media_type", f"send {CBOR}", status=415)
        word = countersign_checkpoint(self._platform, asking, leaf, parse_checkpoint(call.body))
        return Response(word.encoded(), media_type=CBOR)


def checkpoint_plain(shown: Shown) -> dict[str, object]:
    """A checkpoint in JSON, whole in `checkpoint`; `complete`: enough other organisations have countersigned."""
    body = parse_body(shown.checkpoint.body)
    countersigned = [one.platform.hex() for one in shown.checkpoint.countersignatures]
    return {
        "platform": body.platform.hex(),
        "serial": body.serial,
        "hash": shown.hash.hex(),
        "from_ms": body.from_ms,
        "until_ms": body.until_ms,
        "height": body.height,
        "header_hash": body.header_hash.hex(),
        "receipts": body.receipts,
        "countersigned_by": countersigned,
        "complete": len(countersigned) >= COUNTERSIGNATURES_WANTED,
        "checkpoint": shown.checkpoint.encoded().hex(),
    }
