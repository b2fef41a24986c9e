"""The envelope: a record sealed under its platform's epoch key, and the commitment that ties it to the chain.

AES-256-GCM-SIV does not commit to its key, so a second key may open an envelope to something else; the record
commitment in the link does commit (docs/spec/bytes.md). The associated data is rebuilt from the query and the chain,
never read from the envelope.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from onecode.errors import Malformed, Untrusted
from onecode.record.schema import RECORD_BYTES_MAX, Record, parse_record
from onecode.schema import Bytes, Message, Text, Uint, item, parse
from onecode.wire import Domain, SigningKey, encode, frame, sha256, verify_signature

NONCE_BYTES = 12
TAG_BYTES = 16
SALT_BYTES = 32
PADDING_STEP_BYTES = 256
PLAINTEXT_BYTES_MIN = 512
ENVELOPE_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


class RecordIds(Message):
    """Which record: what the commitment and the envelope's associated data bind."""

    merchant: bytes = item(1, Bytes(20))
    platform: bytes = item(2, Bytes(20))
    service: str = item(3, Text(16))
    version: int = item(4, Uint())
    epoch: int = item(5, Uint())


class SignedRecord(Message):
    """What an envelope holds: salt, the record's bytes, and its platform's signature over them."""

    salt: bytes = item(1, Bytes(SALT_BYTES))
    record: bytes = item(2, Bytes(1, RECORD_BYTES_MAX))
    record_key: bytes = item(3, Bytes(32))  # public key of the platform's role `record` that signed
    signature: bytes = item(4, Bytes(64))


def commitment(chain_id: str, ids: RecordIds, salt: bytes, record: bytes) -> bytes:
    """Record commitment: SHA-256 over domain, chain, ids, salt and record bytes (32 bytes)."""
    body = encode([ids.merchant, ids.platform, ids.service, ids.version, ids.epoch, salt, record])
    return sha256(frame(Domain.COMMITMENT, chain_id, body))


def sign_record(chain_id: str, record: Record, salt: bytes, key: SigningKey) -> SignedRecord:
    """The record with its platform's signature; `salt` is 32 fresh random bytes."""
    body = record.encoded()
    signature = key.sign(Domain.RECORD, chain_id, body)
    return SignedRecord(salt=salt, record=body, record_key=key.public, signature=signature)


def pad(data: bytes) -> bytes:
    """Four bytes of length, `data`, zeros up to the next step: all that an envelope's size tells."""
    size = max(PLAINTEXT_BYTES_MIN, len(data) + 4)
    size += -size % PADDING_STEP_BYTES
    return len(data).to_bytes(4, "big") + data + bytes(size - 4 - len(data))


def unpad(padded: bytes) -> bytes:
    """The data inside `pad`'s result. Padding that is not zero is refused: one plaintext has one form."""
    length = int.from_bytes(padded[:4], "big")
    if length > len(padded) - 4 or padded[4 + length :].strip(b"\0"):
        raise Malformed("envelope.padding", "the padding of a sealed text is not what it must be")
    return padded[4 : 4 + length]


def _associated(chain_id: str, ids: RecordIds) -> bytes:
    return frame(Domain.ENVELOPE, chain_id, ids.encoded())


def seal_envelope(chain_id: str, ids: RecordIds, signed: SignedRecord, epoch_key: bytes, nonce: bytes) -> bytes:
    """nonce ‖ ciphertext under the platform's epoch key (32 bytes); `nonce` is 12 fresh random bytes."""
    return nonce + AESGCMSIV(epoch_key).encrypt(nonce, pad(signed.encoded()), _associated(chain_id, ids))


def open_envelope(chain_id: str, ids: RecordIds, envelope: bytes, cipher: AESGCMSIV) -> bytes:
    """The encoded `SignedRecord` in an envelope. Says nothing of commitment or signature: see `verify_commitment`."""
    try:
        plain = cipher.decrypt(envelope[:NONCE_BYTES], envelope[NONCE_BYTES:], _associated(chain_id, ids))
    except (InvalidTag, ValueError):
        raise Untrusted("envelope.seal", "an envelope does not open with its epoch key and ids") from None
    return unpad(plain)


def verify_commitment(chain_id: str, ids: RecordIds, opened: bytes, expected: bytes) -> SignedRecord:
    """The signed record in `opened`, after checking that the link's commitment is to exactly this salt and record.

    Does not check the signature, the validity window or the record's own ids.
    """
    signed = parse(SignedRecord, opened, path="envelope")
    if commitment(chain_id, ids, signed.salt, signed.record) != expected:
        raise Untrusted("record.commitment", "the record is not the one that the link commits to", field="commitment")
    return signed


def verify_signed_record(chain_id: str, ids: RecordIds, signed: SignedRecord) -> Record:
    """The record, after checking the platform's signature and that the record names the same ids.

    Does not check that `signed.record_key` is a key of that platform (the platform leaf says so), nor time.
    """
    verify_signature(
        signed.record_key, signed.signature, Domain.RECORD, chain_id, signed.record, field="record.signature"
    )
    record = parse_record(signed.record)
    named = (record.merchant, record.platform, record.service, record.version)
    if named != (ids.merchant, ids.platform, ids.service, ids.version):
        raise Untrusted("record.ids", "the record names another merchant, platform, service or version", field="record")
    return record
