"""Release of epoch keys: challenge, request with evidence, grant sealed to the attested enclave.

The shape follows RFC 9334's background check. HPKE in base mode does not say who sealed, so the key service also signs
the grant with its chain-listed key.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onecode.attest.evidence import Bindings, Evidence
from onecode.errors import Untrusted
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.leaves import HASH, ID, KEY, TIME_MS
from onecode.query.sealing import open_with, seal_to
from onecode.schema import Bytes, ListOf, Message, Nested, Text, Uint, item, parse
from onecode.wire import Domain, SigningKey, encode, frame, sha256, verify_signature

EPOCHS_MAX = 64
LEASE_MS_MAX = 3600 * 1000
LEASE_OPENINGS_MAX = 1_000_000


class EnclaveTerms(Message):
    """The part of an enclave's configuration that a key service must know; its hash is bound in the evidence."""

    chain_id: str = item(1, Text(50))
    anchor_hash: bytes = item(2, HASH)  # of the header that it verifies everything from
    header_age_ms_max: int = item(3, Uint(3600 * 1000))
    query_window_ms: int = item(4, Uint(3600 * 1000))
    trusting_period_ms: int = item(5, TIME_MS)


class ReleaseRequest(Message):
    """From an enclave, carried by its host. `header` is the one whose hash is bound, with its validators; `terms` the
    configuration whose hash is bound."""

    bindings: Bindings = item(1, Nested(Bindings))
    evidence: Evidence = item(2, Nested(Evidence))
    header: SignedHeader = item(3, Nested(SignedHeader))
    validators: ValidatorSet = item(4, Nested(ValidatorSet))
    terms: EnclaveTerms = item(5, Nested(EnclaveTerms))


class EpochKey(Message):
    epoch: int = item(1, Uint())
    key: bytes = item(2, Bytes(32))


class Grant(Message):
    """Keys of one platform, and how long and how often they may be used. The key service sets both limits."""

    platform: bytes = item(1, ID)
    epochs: tuple[EpochKey, ...] = item(2, ListOf(Nested(EpochKey), EPOCHS_MAX, min=1))
    expires_ms: int = item(3, TIME_MS)
    openings: int = item(4, Uint(LEASE_OPENINGS_MAX))


class SealedGrant(Message):
    platform: bytes = item(1, ID)
    key: bytes = item(2, KEY)  # Ed25519 key of the platform's role `key-service`
    sealed: bytes = item(3, Bytes(1, 16_384))
    signature: bytes = item(4, Bytes(64))


def transcript_hash(chain_id: str, bindings: Bindings) -> bytes:
    """What a grant answers: everything the request bound."""
    return sha256(frame(Domain.GRANT, chain_id, bindings.encoded()))


def _signed_part(transcript: bytes, platform: bytes, sealed: bytes) -> bytes:
    return encode([transcript, platform, sealed])


def seal_grant(chain_id: str, grant: Grant, bindings: Bindings, key: SigningKey) -> SealedGrant:
    """The grant sealed to the request's release key and signed by the key service."""
    transcript = transcript_hash(chain_id, bindings)
    sealed = seal_to(bindings.release_key, grant.encoded(), transcript)
    signature = key.sign(Domain.GRANT, chain_id, _signed_part(transcript, grant.platform, sealed))
    return SealedGrant(platform=grant.platform, key=key.public, sealed=sealed, signature=signature)


def open_grant(chain_id: str, given: SealedGrant, bindings: Bindings, release: X25519PrivateKey) -> Grant:
    """The grant, for the enclave that made `bindings`.

    1. The key is the key service that was asked. 2. It signed this grant for this request. 3. The seal opens. 4. It is
    a grant of that platform's keys. Does not check that the key is the platform's: the caller has its proven leaf.
    """
    if given.key != bindings.key_service_key:  # 1
        raise Untrusted("grant.key", "the grant is by another key service than was asked", field="key")
    transcript = transcript_hash(chain_id, bindings)
    body = _signed_part(transcript, given.platform, given.sealed)
    verify_signature(given.key, given.signature, Domain.GRANT, chain_id, body, field="grant.signature")  # 2
    grant = parse(Grant, open_with(release, given.sealed, transcript), path="grant")  # 3
    if grant.platform != given.platform:  # 4
        raise Untrusted("grant.platform", "the grant is of another platform's keys", field="platform")
    return grant
