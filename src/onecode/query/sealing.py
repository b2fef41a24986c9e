"""Sealing of query and reply: HPKE to the enclave, AES-256-GCM-SIV back. Every entropy is an argument but HPKE's own.

HPKE (RFC 9180) in base mode has no associated data in the library used, so `info` carries the domain, the chain id and
the hash of the clear part. A host may replay one query to two workers, so a reply has a random nonce and a cipher that
survives a repeated one.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from onecode.errors import Malformed, Untrusted
from onecode.query.messages import SUITE_X25519, ClearQuery, Query, Result, SecretQuery, SignedSecret
from onecode.record.envelope import unpad
from onecode.schema import parse
from onecode.wire import Domain, SigningKey, frame, sha256, signature_holds

SECRET_BYTES = 1280  # every sealed query has this size: a credential and 16 platform ids fit
REPLY_STEP_BYTES = 256
REPLY_BASE_BYTES = 512
REPLY_LINK_BYTES = 128  # room a link takes beside its envelope's plaintext

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _fixed(data: bytes, size: int) -> bytes:
    if len(data) + 4 > size:
        raise Malformed("query.too_large", f"{len(data)} bytes do not fit into a sealed text of {size}", status=413)
    return len(data).to_bytes(4, "big") + data + bytes(size - 4 - len(data))


def seal_to(public_key: bytes, plain: bytes, info: bytes) -> bytes:
    """HPKE seal to an X25519 public key; `Untrusted` for a point of small order, with which nothing stays secret."""
    try:
        return bytes(_SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(public_key), info=info))
    except ValueError:
        raise Untrusted("seal.key", "nothing can be sealed to this X25519 key; use another one", field="key") from None


def open_with(private_key: X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    """HPKE open; `Untrusted` if the seal does not hold for this key and info."""
    try:
        return bytes(_SUITE.decrypt(sealed, private_key, info=info))
    except (InvalidTag, ValueError):
        raise Untrusted("seal.broken", "a sealed text does not open with this key", field="sealed") from None


def secret_signing_body(clear_hash: bytes, query_key: bytes, secret: bytes) -> bytes:
    """What a device signs: the clear part's hash, the query key, and the secret part's bytes."""
    return clear_hash + query_key + secret


def build_query(clear: ClearQuery, secret: SecretQuery, device: SigningKey) -> Query:
    """A sealed, signed query, ready to send."""
    clear_bytes, body = clear.encoded(), secret.encoded()
    clear_hash = sha256(clear_bytes)
    signature = device.sign(Domain.QUERY, clear.chain_id, secret_signing_body(clear_hash, clear.query_key, body))
    plain = _fixed(SignedSecret(body=body, signature=signature).encoded(), SECRET_BYTES)
    sealed = seal_to(clear.query_key, plain, frame(Domain.QUERY_SEAL, clear.chain_id, clear_hash))
    return Query(clear=clear_bytes, suite=SUITE_X25519, sealed=sealed)


def open_query(query: Query, chain_id: str, private_key: X25519PrivateKey) -> tuple[SecretQuery, SignedSecret, bytes]:
    """The secret part, its signed form, and the clear part's hash. The signature is not checked here."""
    if query.suite != SUITE_X25519:
        raise Malformed("query.suite", f"suite {query.suite} is not known here; use {SUITE_X25519}", field="suite")
    clear_hash = sha256(query.clear)
    plain = open_with(private_key, query.sealed, frame(Domain.QUERY_SEAL, chain_id, clear_hash))
    if len(plain) != SECRET_BYTES:
        raise Malformed("query.size", f"a sealed query has {SECRET_BYTES} bytes", field="sealed")
    signed = parse(SignedSecret, unpad(plain), path="query.sealed")
    return parse(SecretQuery, signed.body, path="query.secret"), signed, clear_hash


def verify_device(chain_id: str, device: bytes, query_key: bytes, signed: SignedSecret, clear_hash: bytes) -> None:
    """Raise `Untrusted` unless the device signed this secret part for this clear part and enclave."""
    body = secret_signing_body(clear_hash, query_key, signed.body)
    if not signature_holds(device, signed.signature, frame(Domain.QUERY, chain_id, body)):
        raise Untrusted("query.signature", "the query is not signed by the device of its credential", field="signature")


def reply_bytes(envelope_sizes: list[int]) -> int:
    """Size of a reply's plaintext: a function of what the chain lists alone, not of who asks or what was opened."""
    size = REPLY_BASE_BYTES + sum(REPLY_LINK_BYTES + size for size in envelope_sizes)
    return size + -size % REPLY_STEP_BYTES


def seal_result(chain_id: str, result: Result, reply_key: bytes, clear_hash: bytes, size: int, nonce: bytes) -> bytes:
    """nonce ‖ sealed result; `nonce` is 12 fresh random bytes, `size` from `reply_bytes`."""
    plain = _fixed(result.encoded(), size)
    return nonce + AESGCMSIV(reply_key).encrypt(nonce, plain, frame(Domain.REPLY, chain_id, clear_hash))


def open_result(chain_id: str, sealed: bytes, reply_key: bytes, clear_hash: bytes) -> Result:
    """The enclave's result; `Untrusted` if it is not sealed with this query's reply key for this clear part."""
    try:
        plain = AESGCMSIV(reply_key).decrypt(sealed[:12], sealed[12:], frame(Domain.REPLY, chain_id, clear_hash))
    except (InvalidTag, ValueError):
        raise Untrusted("reply.seal", "the reply is not sealed with this query's reply key", field="sealed") from None
    return parse(Result, unpad(plain), path="result")
