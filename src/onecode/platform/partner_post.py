"""One signed request to another platform, at the address that the chain names for it: public ones only by default.

The name is resolved once and the connection goes to the address that was checked, as for webhooks.
"""

from __future__ import annotations

import httpx

from onecode.errors import Malformed, Unreachable, answer_error
from onecode.platform.context import Platform
from onecode.platform.exchange import exchange
from onecode.platform.webhook_target import Target, parse_webhook_url, resolve_target
from onecode.proof.leaves import PlatformLeaf
from onecode.query.requests import MEMBER_HEADER, member_header

CBOR = "application/cbor"
ANSWER_BYTES_MAX = 64 * 1024


def post_to_partner(
    platform: Platform, client: httpx.Client, leaf: PlatformLeaf | None, path: str, body: bytes
) -> bytes:
    """The answer to a POST, of at most 64 KiB, within `partner_timeout_ms` in all.

    leaf: the partner's, proven. Raises `Unreachable` where there is no answer, and the partner's own error.
    """
    if leaf is None or leaf.url is None:
        raise Unreachable("partner.no_address", "the chain names no address of this partner")
    target = _target(leaf.url, path, allow_private=platform.config.partner_private_addresses)
    seen = target.url.raw_path.decode("ascii")
    chain_id, now_ms = platform.config.chain_id, platform.clock_ms()
    proof = member_header(chain_id, platform.id, platform.keys.transaction, "POST", seen, body, now_ms)
    try:
        request = target.request(client, body, {MEMBER_HEADER: proof, "content-type": CBOR})
        status, data = exchange(client, request, platform.config.partner_timeout_ms, ANSWER_BYTES_MAX)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable("partner.silent", f"the partner does not answer: {type(error).__name__}") from error
    if not 200 <= status < 300:
        raise answer_error(status, data)
    return data


def _target(base: str, path: str, *, allow_private: bool) -> Target:
    """Where the request goes, from the address in a partner's leaf."""
    plain = "the chain names no plain http or https address of this partner"
    if "?" in base or "#" in base:
        raise Unreachable("partner.address", plain, field="url")
    try:
        checked = parse_webhook_url(base, allow_private=True)
    except Malformed as error:
        raise Unreachable("partner.address", plain, field="url") from error
    try:
        return resolve_target(checked.rstrip("/") + path, allow_private=allow_private)
    except (Malformed, Unreachable) as error:
        if error.code == "webhook.name":
            raise Unreachable("partner.name", "the partner's host has no address now", field="url") from error
        raise Unreachable(
            "partner.private_address",
            "the partner's address is not a public https one; a network of your own sets partner_private_addresses",
            field="partner_private_addresses",
        ) from error
