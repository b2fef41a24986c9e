"""Signed HTTP requests: members to a node, devices to their own platform. One frame for both, in two domains.

The proof travels base64url in one header, so that any HTTP client can send it. It binds method, path with query
string, body hash and time; a verifier refuses what is older than the window. It does not replace an idempotency key.
"""

from __future__ import annotations

import base64
import binascii

from onecode.errors import Malformed, Untrusted
from onecode.proof.governance import ObserverLeaf
from onecode.proof.leaves import HASH, ID, KEY, TIME_MS, PlatformLeaf, Role
from onecode.query.credential import verify_credential
from onecode.query.messages import CREDENTIAL_BYTES_MAX, Credential
from onecode.schema import Bytes, Message, Text, item, parse
from onecode.wire import Domain, SigningKey, sha256, verify_signature

MEMBER_HEADER = "onecode-member"
DEVICE_HEADER = "onecode-device"
DEVICE_KEY_HEADER = "onecode-device-key"
OBSERVER_HEADER = "onecode-observer"
REQUEST_WINDOW_MS = 60_000


class HttpRequest(Message):
    """What is signed. `path` holds the query string; `idempotency_key` is the header of that name."""

    method: str = item(1, Text(8))
    path: str = item(2, Text(500))
    body_hash: bytes = item(3, HASH)
    time_ms: int = item(4, TIME_MS)
    idempotency_key: str | None = item(5, Text(64), default=None)


class MemberProof(Message):
    platform: bytes = item(1, ID)
    key: bytes = item(2, KEY)
    time_ms: int = item(3, TIME_MS)
    signature: bytes = item(4, Bytes(64))


class ObserverProof(Message):
    """A request of an observer: a node without a vote that governance admitted under this node id."""

    node_id: str = item(1, Text(64))
    key: bytes = item(2, KEY)
    time_ms: int = item(3, TIME_MS)
    signature: bytes = item(4, Bytes(64))


class DeviceProof(Message):
    credential: bytes = item(1, Bytes(1, CREDENTIAL_BYTES_MAX))
    time_ms: int = item(2, TIME_MS)
    signature: bytes = item(3, Bytes(64))


class DeviceKeyProof(Message):
    """A request of a device that has no credential yet: it shows that it holds the key."""

    key: bytes = item(1, KEY)
    time_ms: int = item(2, TIME_MS)
    signature: bytes = item(3, Bytes(64))


def _header_bytes(text: str, field: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw or base64.urlsafe_b64encode(raw).decode("ascii") != text:  # one spelling only
        raise Malformed("request.header", f"the header {field} is not base64url", field=field)
    return raw


def _header_text(message: Message) -> str:
    return base64.urlsafe_b64encode(message.encoded()).decode("ascii")


def _signed(method: str, path: str, body: bytes, time_ms: int, key: str | None) -> bytes:
    return HttpRequest(method=method, path=path, body_hash=sha256(body), time_ms=time_ms, idempotency_key=key).encoded()


def _require_now(time_ms: int, now_ms: int) -> None:
    if abs(now_ms - time_ms) > REQUEST_WINDOW_MS:
        raise Untrusted("request.time", "the request was signed more than 60 s from now; check the clock")


def member_header(
    chain_id: str, platform: bytes, key: SigningKey, method: str, path: str, body: bytes, now_ms: int
) -> str:
    """Value of `Onecode-Member` for a request, by a platform's `transaction` or `key-service` key."""
    signature = key.sign(Domain.MEMBER_REQUEST, chain_id, _signed(method, path, body, now_ms, None))
    return _header_text(MemberProof(platform=platform, key=key.public, time_ms=now_ms, signature=signature))


def parse_member(header: str) -> MemberProof:
    return parse(MemberProof, _header_bytes(header, MEMBER_HEADER), path=MEMBER_HEADER)


def verify_member(
    chain_id: str, proof: MemberProof, leaf: PlatformLeaf, method: str, path: str, body: bytes, now_ms: int
) -> bytes:
    """The platform id of a member's request: its leaf is active and one of its keys signed within the window."""
    _require_now(proof.time_ms, now_ms)
    if not leaf.active_at(now_ms):
        raise Untrusted("request.suspended", "the platform is not an active member", field=MEMBER_HEADER, status=403)
    role = Role.KEY_SERVICE if leaf.key(Role.KEY_SERVICE, proof.key) else Role.TRANSACTION
    leaf.require_key(role, proof.key, now_ms)
    body = _signed(method, path, body, proof.time_ms, None)
    verify_signature(proof.key, proof.signature, Domain.MEMBER_REQUEST, chain_id, body, field=MEMBER_HEADER)
    return proof.platform


def observer_header(
    chain_id: str, node_id: str, key: SigningKey, method: str, path: str, body: bytes, now_ms: int
) -> str:
    """Value of `Onecode-Observer` for a request, by the key under which the observer was admitted."""
    signature = key.sign(Domain.MEMBER_REQUEST, chain_id, _signed(method, path, body, now_ms, None))
    return _header_text(ObserverProof(node_id=node_id, key=key.public, time_ms=now_ms, signature=signature))


def parse_observer(header: str) -> ObserverProof:
    return parse(ObserverProof, _header_bytes(header, OBSERVER_HEADER), path=OBSERVER_HEADER)


def verify_observer(
    chain_id: str, proof: ObserverProof, leaf: ObserverLeaf, method: str, path: str, body: bytes, now_ms: int
) -> str:
    """The node id of an observer's request: its admission is in force and its key signed within the window."""
    _require_now(proof.time_ms, now_ms)
    if proof.key != leaf.key or now_ms < leaf.effective_ms:
        raise Untrusted(
            "request.observer", "the key is not that of an observer in force", field=OBSERVER_HEADER, status=403
        )
    body = _signed(method, path, body, proof.time_ms, None)
    verify_signature(proof.key, proof.signature, Domain.MEMBER_REQUEST, chain_id, body, field=OBSERVER_HEADER)
    return proof.node_id


def device_header(
    chain_id: str,
    credential: bytes,
    device: SigningKey,
    method: str,
    path: str,
    body: bytes,
    now_ms: int,
    idempotency_key: str | None = None,
) -> str:
    """Value of `Onecode-Device` for a request of a wallet to its own platform."""
    signature = device.sign(Domain.DEVICE_REQUEST, chain_id, _signed(method, path, body, now_ms, idempotency_key))
    return _header_text(DeviceProof(credential=credential, time_ms=now_ms, signature=signature))


def verify_device_request(
    chain_id: str,
    header: str,
    platform: PlatformLeaf,
    platform_id: bytes,
    method: str,
    path: str,
    body: bytes,
    now_ms: int,
    idempotency_key: str | None = None,
) -> Credential:
    """The credential of the device that signed this request, issued by `platform` (whose leaf is proven)."""
    proof = parse(DeviceProof, _header_bytes(header, DEVICE_HEADER), path=DEVICE_HEADER)
    _require_now(proof.time_ms, now_ms)
    credential = verify_credential(chain_id, proof.credential, platform, platform_id, now_ms)
    body = _signed(method, path, body, proof.time_ms, idempotency_key)
    verify_signature(credential.device, proof.signature, Domain.DEVICE_REQUEST, chain_id, body, field=DEVICE_HEADER)
    return credential


def device_key_header(chain_id: str, device: SigningKey, method: str, path: str, body: bytes, now_ms: int) -> str:
    """Value of `Onecode-Device-Key` for the request by which a device enrols."""
    signature = device.sign(Domain.DEVICE_REQUEST, chain_id, _signed(method, path, body, now_ms, None))
    return _header_text(DeviceKeyProof(key=device.public, time_ms=now_ms, signature=signature))


def verify_device_key(chain_id: str, header: str, method: str, path: str, body: bytes, now_ms: int) -> bytes:
    """The key whose holder signed this request.

    1. The request was signed within the window. 2. The key that the header names signed it. Does NOT say whose key it
    is, nor for which platform the request was meant: the body says what the device agrees to.
    """
    proof = parse(DeviceKeyProof, _header_bytes(header, DEVICE_KEY_HEADER), path=DEVICE_KEY_HEADER)
    _require_now(proof.time_ms, now_ms)  # 1
    signed = _signed(method, path, body, proof.time_ms, None)
    verify_signature(  # 2
        proof.key, proof.signature, Domain.DEVICE_REQUEST, chain_id, signed, field=DEVICE_KEY_HEADER
    )
    return proof.key
