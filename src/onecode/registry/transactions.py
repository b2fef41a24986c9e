"""Transactions of the registry: what each holds, who signs it, how it is framed.

A transaction is `Transaction{body, signatures}`. The body names kind, signer, nonce and `valid_until_ms` and carries
the kind's payload as bytes. Every signature is over the frame of the body in the domain `transaction`, so chain id,
kind and nonce are always signed. Result codes are consensus (`registry/results.py`).
"""

from __future__ import annotations

from enum import IntEnum

from onecode.proof.leaves import HASH, ID, KEY, SERVICE, TIME_MS, PlatformKey, PlatformNode, Role
from onecode.schema import Bytes, Choice, ListOf, Message, Nested, Text, Uint, item, parse
from onecode.wire import Domain, SigningKey, frame, sha256

TRANSACTION_BYTES_MAX = 512 * 1024
BATCH_MAX = 500
ENVELOPE_BYTES_MAX = 8 * 1024
VALID_UNTIL_AHEAD_MS_MAX = 3600 * 1000
VALID_UNTIL_RECOVERY_AHEAD_MS_MAX = 7 * 24 * 3600 * 1000
CONSENT_MS_MAX = 30 * 24 * 3600 * 1000


class Kind(IntEnum):
    PROPOSAL_SUBMIT = 1
    PROPOSAL_APPROVE = 2
    MERCHANT_FREEZE = 3
    PLATFORM_KEYS = 10
    PLATFORM_ROOT = 11
    PLATFORM_SUSPEND = 12  # itself
    PLATFORM_ENDPOINTS = 13
    PLATFORM_NODES = 14
    PLATFORM_EPOCH = 15
    RECORD_PUBLISH = 20
    RECORD_WITHDRAW = 21
    ALIAS_BIND = 22
    MERCHANT_UNLINK = 30
    MERCHANT_ORDERKEYS = 31
    ALIAS_RELEASE = 32
    MERCHANT_ROTATE = 33
    MERCHANT_RECOVER = 34
    MERCHANT_RECOVER_CANCEL = 35
    MERCHANT_RECOVERYKEY = 36
    ENCLAVE_ATTEST = 40
    ENCLAVE_REVOKE = 41


class Purpose(IntEnum):
    """What a merchant consents to."""

    PUBLISH = 1
    ALIAS = 2


class Consent(Message):
    """A merchant's word that a platform may publish for it, or bind an alias. Signed by the controller key (or the
    recovery key, whose public part is then given so that its hash can be compared)."""

    purpose: Purpose = item(1, Choice(Purpose))
    merchant: bytes = item(2, ID)
    platform: bytes = item(3, ID)
    service: str | None = item(4, SERVICE, default=None)
    alias: bytes | None = item(5, Bytes(1, 400), default=None)
    consent_serial: int = item(6, Uint())
    expires_ms: int = item(7, TIME_MS)


class SignedConsent(Message):
    body: bytes = item(1, Bytes(1, 1024))  # encoded Consent
    signature: bytes = item(2, Bytes(64))
    recovery_key: bytes | None = item(3, KEY, default=None)


class Birth(Message):
    """The keys from which a merchant id is recomputed when its leaf is born."""

    controller: bytes = item(1, KEY)
    recovery_hash: bytes = item(2, HASH)


class Publication(Message):
    """One record of a batch: adds a link, or replaces the platform's own link."""

    merchant: bytes = item(1, ID)
    service: str = item(2, SERVICE)
    version: int = item(3, Uint())
    epoch: int = item(4, Uint())
    audience: tuple[bytes, ...] = item(5, ListOf(ID, 16, ascending=True))
    envelope: bytes = item(6, Bytes(1, ENVELOPE_BYTES_MAX))
    commitment: bytes = item(7, HASH)
    consent: SignedConsent | None = item(8, Nested(SignedConsent), default=None)
    birth: Birth | None = item(9, Nested(Birth), default=None)


class RecordPublish(Message):
    items: tuple[Publication, ...] = item(1, ListOf(Nested(Publication), BATCH_MAX, min=1))


class Withdrawal(Message):
    merchant: bytes = item(1, ID)
    service: str = item(2, SERVICE)
    version: int = item(3, Uint())


class RecordWithdraw(Message):
    items: tuple[Withdrawal, ...] = item(1, ListOf(Nested(Withdrawal), BATCH_MAX, min=1))


class AliasBind(Message):
    guid: str = item(1, Text(32))
    values: tuple[str, ...] = item(2, ListOf(Text(99), 8, min=1))
    merchant: bytes = item(3, ID)
    consent: SignedConsent = item(4, Nested(SignedConsent))


class AliasRelease(Message):
    guid: str = item(1, Text(32))
    values: tuple[str, ...] = item(2, ListOf(Text(99), 8, min=1))


class MerchantUnlink(Message):
    platform: bytes = item(1, ID)
    service: str = item(2, SERVICE)


class MerchantOrderkeys(Message):
    order_keys: tuple[bytes, ...] = item(1, ListOf(KEY, 16, ascending=True))


class MerchantRotate(Message):
    controller: bytes = item(1, KEY)
    possession: bytes = item(2, Bytes(64))  # by the new key, over merchant ‖ new key in the domain `possession`


class MerchantRecover(Message):
    controller: bytes = item(1, KEY)
    possession: bytes = item(2, Bytes(64))


class MerchantRecoverCancel(Message):
    pass


class MerchantRecoverykey(Message):
    recovery_hash: bytes = item(1, HASH)


class MerchantFreeze(Message):
    merchant: bytes = item(1, ID)


class ProposalSubmit(Message):
    proposal: bytes = item(1, Bytes(1, 65_536))  # encoded Proposal


class ProposalApprove(Message):
    proposal_id: bytes = item(1, HASH)


class PlatformKeys(Message):
    """New keys to add and state changes of old ones; `height`, `since_ms` of the given keys are ignored and set by the
    registry."""

    keys: tuple[PlatformKey, ...] = item(1, ListOf(Nested(PlatformKey), 64, min=1))


class PlatformRoot(Message):
    root: bytes = item(1, KEY)
    possession: bytes = item(2, Bytes(64))


class PlatformSuspend(Message):
    pass


class PlatformEndpoints(Message):
    url: str | None = item(1, Text(200), default=None)
    key_service_url: str | None = item(2, Text(200), default=None)


class PlatformNodes(Message):
    nodes: tuple[PlatformNode, ...] = item(1, ListOf(Nested(PlatformNode), 16))


class PlatformEpoch(Message):
    epoch_min: int = item(1, Uint())


class EnclaveAttest(Message):
    query_key: bytes = item(1, KEY)
    node_id: str = item(2, Text(64))
    kind: str = item(3, Text(16))
    measurement: bytes = item(4, Bytes(32, 64))
    evidence_hash: bytes = item(5, HASH)
    expires_ms: int = item(6, TIME_MS)


class EnclaveRevoke(Message):
    query_key: bytes = item(1, KEY)


class SignerKind(IntEnum):
    ROOT = 1  # a platform's root key
    PLATFORM = 2  # a platform's key of the role that the kind demands
    CONTROLLER = 3  # a merchant's controller key
    RECOVERY = 4  # a merchant's recovery key; the public key is given, its hash is in the entry


class Signature(Message):
    signer: bytes = item(1, ID)  # platform or merchant id
    kind: SignerKind = item(2, Choice(SignerKind))
    key: bytes = item(3, KEY)
    signature: bytes = item(4, Bytes(64))


class Body(Message):
    """`signer` is the platform or merchant whose nonce is used. A controller's nonce is the entry's + 1; that of a
    platform's key, a root or a recovery key is greater than that key's last, gaps allowed (`registry/counters.py`)."""

    kind: Kind = item(1, Choice(Kind))
    signer: bytes = item(2, ID)
    nonce: int = item(3, Uint())
    valid_until_ms: int = item(4, TIME_MS)
    payload: bytes = item(5, Bytes(1, TRANSACTION_BYTES_MAX))


class Transaction(Message):
    body: bytes = item(1, Bytes(1, TRANSACTION_BYTES_MAX))
    signatures: tuple[Signature, ...] = item(2, ListOf(Nested(Signature), 16, min=1))


PAYLOADS: dict[Kind, type[Message]] = {
    Kind.PROPOSAL_SUBMIT: ProposalSubmit,
    Kind.PROPOSAL_APPROVE: ProposalApprove,
    Kind.MERCHANT_FREEZE: MerchantFreeze,
    Kind.PLATFORM_KEYS: PlatformKeys,
    Kind.PLATFORM_ROOT: PlatformRoot,
    Kind.PLATFORM_SUSPEND: PlatformSuspend,
    Kind.PLATFORM_ENDPOINTS: PlatformEndpoints,
    Kind.PLATFORM_NODES: PlatformNodes,
    Kind.PLATFORM_EPOCH: PlatformEpoch,
    Kind.RECORD_PUBLISH: RecordPublish,
    Kind.RECORD_WITHDRAW: RecordWithdraw,
    Kind.ALIAS_BIND: AliasBind,
    Kind.MERCHANT_UNLINK: MerchantUnlink,
    Kind.MERCHANT_ORDERKEYS: MerchantOrderkeys,
    Kind.ALIAS_RELEASE: AliasRelease,
    Kind.MERCHANT_ROTATE: MerchantRotate,
    Kind.MERCHANT_RECOVER: MerchantRecover,
    Kind.MERCHANT_RECOVER_CANCEL: MerchantRecoverCancel,
    Kind.MERCHANT_RECOVERYKEY: MerchantRecoverykey,
    Kind.ENCLAVE_ATTEST: EnclaveAttest,
    Kind.ENCLAVE_REVOKE: EnclaveRevoke,
}

PLATFORM_ROLE: dict[Kind, Role] = {
    Kind.PROPOSAL_SUBMIT: Role.GOVERNANCE,
    Kind.PROPOSAL_APPROVE: Role.GOVERNANCE,
    Kind.MERCHANT_FREEZE: Role.GOVERNANCE,
    Kind.PLATFORM_ENDPOINTS: Role.TRANSACTION,
    Kind.PLATFORM_NODES: Role.TRANSACTION,
    Kind.PLATFORM_EPOCH: Role.TRANSACTION,
    Kind.RECORD_PUBLISH: Role.TRANSACTION,
    Kind.RECORD_WITHDRAW: Role.TRANSACTION,
    Kind.ALIAS_BIND: Role.TRANSACTION,
    Kind.ENCLAVE_ATTEST: Role.KEY_SERVICE,
    Kind.ENCLAVE_REVOKE: Role.KEY_SERVICE,
}


def parse_transaction(data: bytes) -> tuple[Transaction, Body, Message]:
    """Transaction, body and payload of untrusted bytes; `Malformed` names the field. Looks at no state."""
    transaction = parse(Transaction, data, size_max=TRANSACTION_BYTES_MAX, path="transaction")
    body = parse(Body, transaction.body, path="transaction.body")
    payload = parse(PAYLOADS[body.kind], body.payload, path="transaction.payload")
    return transaction, body, payload


def sign_body(chain_id: str, body: Body, signer: bytes, kind: SignerKind, key: SigningKey) -> Signature:
    """One signature over a body."""
    signature = key.sign(Domain.TRANSACTION, chain_id, body.encoded())
    return Signature(signer=signer, kind=kind, key=key.public, signature=signature)


def build_transaction(
    chain_id: str,
    kind: Kind,
    payload: Message,
    *,
    signer: bytes,
    signer_kind: SignerKind,
    key: SigningKey,
    nonce: int,
    valid_until_ms: int,
) -> bytes:
    """A transaction with one signature, ready to submit."""
    body = Body(kind=kind, signer=signer, nonce=nonce, valid_until_ms=valid_until_ms, payload=payload.encoded())
    signature = sign_body(chain_id, body, signer, signer_kind, key)
    return Transaction(body=body.encoded(), signatures=(signature,)).encoded()


def sign_consent(chain_id: str, consent: Consent, key: SigningKey, *, recovery: bool = False) -> SignedConsent:
    """A consent signed by the controller key, or by the recovery key."""
    body = consent.encoded()
    signature = key.sign(Domain.CONSENT, chain_id, body)
    return SignedConsent(body=body, signature=signature, recovery_key=key.public if recovery else None)


def sign_possession(chain_id: str, owner: bytes, key: SigningKey) -> bytes:
    """Proof that whoever asks for `key` holds it: its own signature over owner id ‖ key."""
    return key.sign(Domain.POSSESSION, chain_id, owner + key.public)


def proposal_id(chain_id: str, proposal: bytes) -> bytes:
    return sha256(frame(Domain.PROPOSAL, chain_id, proposal))
