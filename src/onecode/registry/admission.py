"""Admission: whether a transaction is its signer's, in time and new. Steps 1 to 3 look at no state, 4 to 8 do.

What fails here changes nothing and uses no nonce, so that nobody but the holder of a key can use up its nonces.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum

from onecode.code.identity import recovery_hash
from onecode.errors import Malformed
from onecode.proof.leaves import KeyState, MerchantEntry, PlatformLeaf
from onecode.registry import counters
from onecode.registry.results import Result
from onecode.registry.signatures import Signatures
from onecode.registry.state import State
from onecode.registry.transactions import (
    PLATFORM_ROLE,
    VALID_UNTIL_AHEAD_MS_MAX,
    VALID_UNTIL_RECOVERY_AHEAD_MS_MAX,
    Body,
    Kind,
    Signature,
    SignerKind,
    parse_transaction,
)
from onecode.schema import Message
from onecode.wire import Domain, frame

MERCHANT_OR_ROOT_A_BLOCK = 8  # transactions of one merchant's controller, its recovery key, or one platform's root

_EITHER = ((SignerKind.CONTROLLER,), (SignerKind.RECOVERY,))

# Which signatures each kind carries, in this order; platform keys in `PLATFORM_ROLE`.
SIGNERS: dict[Kind, tuple[tuple[SignerKind, ...], ...]] = {
    **dict.fromkeys(PLATFORM_ROLE, ((SignerKind.PLATFORM,),)),
    Kind.PLATFORM_KEYS: ((SignerKind.ROOT,),),
    Kind.PLATFORM_ROOT: ((SignerKind.ROOT,),),
    Kind.PLATFORM_SUSPEND: ((SignerKind.ROOT,),),
    Kind.MERCHANT_UNLINK: _EITHER,
    Kind.MERCHANT_ORDERKEYS: _EITHER,
    Kind.ALIAS_RELEASE: _EITHER,
    Kind.MERCHANT_ROTATE: ((SignerKind.CONTROLLER,),),
    Kind.MERCHANT_RECOVER: ((SignerKind.RECOVERY,),),
    Kind.MERCHANT_RECOVER_CANCEL: ((SignerKind.RECOVERY,),),
    Kind.MERCHANT_RECOVERYKEY: ((SignerKind.CONTROLLER, SignerKind.RECOVERY),),
}


class Nonces(Enum):
    """How nonces of platform, root and recovery keys are judged."""

    ASCENDING = 1  # in a block: greater than the last
    ONCE = 2  # in the pool: greater than the last of the block, and not pending already, in any order


@dataclass(frozen=True, slots=True)
class Inspected:
    """A transaction that passed steps 1 to 3. `lead` is the signature whose nonce and quota count: the only one, or
    the recovery key's."""

    raw: bytes
    body: Body
    payload: Message
    signatures: tuple[Signature, ...]
    lead: Signature

    @property
    def by_recovery_key(self) -> bool:
        return self.lead.kind == SignerKind.RECOVERY


def inspect(chain_id: str, raw: bytes, signatures: Signatures) -> Inspected | Result:
    """Steps 1 to 3, which look at no state:

    1. it parses, body and payload included: `MALFORMED`;
    2. it carries exactly the signatures of its kind, all by the body's signer: `SIGNERS`;
    3. each signature holds for the key it names: `SIGNATURE`.

    Not checked: that the keys are the signer's, nor anything about the payload's meaning.
    """
    try:
        transaction, body, payload = parse_transaction(raw)  # step 1
    except Malformed:
        return Result.MALFORMED
    signed = transaction.signatures
    if tuple(one.kind for one in signed) not in SIGNERS[body.kind]:  # step 2
        return Result.SIGNERS
    if any(one.signer != body.signer for one in signed):
        return Result.SIGNERS
    message = frame(Domain.TRANSACTION, chain_id, transaction.body)
    if not all(signatures.holds(one.key, one.signature, message) for one in signed):  # step 3
        return Result.SIGNATURE
    return Inspected(raw, body, payload, signed, signed[-1])


def admit(state: State, call: Inspected, time_ms: int, nonces: Nonces) -> Result:
    """Steps 4 to 8; on success the transaction is counted and its nonce used:

    4. the signer is in the registry: `SIGNER_UNKNOWN`;
    5. each key is the signer's, and active for this kind: `KEY_REFUSED`;
    6. the signer's quota of this block is not used up: `QUOTA`;
    7. `valid_until_ms` lies after the block's time and not too far ahead: `EXPIRED`, `VALID_UNTIL_TOO_FAR`;
    8. the nonce is new: `NONCE`.
    """
    body, lead = call.body, call.lead
    platform: PlatformLeaf | None = None
    entry: MerchantEntry | None = None
    if lead.kind in (SignerKind.PLATFORM, SignerKind.ROOT):  # step 4
        platform = state.platform(body.signer)
    else:
        entry = state.merchant(body.signer, time_ms)
    if platform is None and entry is None:
        return Result.SIGNER_UNKNOWN
    if not all(_key_allowed(platform, entry, body.kind, one, time_ms) for one in call.signatures):  # step 5
        return Result.KEY_REFUSED
    quota = state.parameters().transactions_a_block if lead.kind == SignerKind.PLATFORM else MERCHANT_OR_ROOT_A_BLOCK
    if state.counted((body.signer, lead.kind)) >= quota:  # step 6
        return Result.QUOTA
    ahead_max = VALID_UNTIL_RECOVERY_AHEAD_MS_MAX if call.by_recovery_key else VALID_UNTIL_AHEAD_MS_MAX
    if time_ms >= body.valid_until_ms:  # step 7
        return Result.EXPIRED
    if body.valid_until_ms > time_ms + ahead_max:
        return Result.VALID_UNTIL_TOO_FAR
    code = _use_nonce(state, call, entry, nonces)  # step 8
    if code == Result.OK:
        state.count((body.signer, lead.kind))
    return code


def _key_allowed(
    platform: PlatformLeaf | None, entry: MerchantEntry | None, kind: Kind, signature: Signature, time_ms: int
) -> bool:
    if platform is not None:
        if signature.kind == SignerKind.ROOT:
            return signature.key == platform.root
        key = platform.key(PLATFORM_ROLE[kind], signature.key)
        return key is not None and key.state == KeyState.ACTIVE
    if entry is None:
        return False
    if signature.kind == SignerKind.RECOVERY:
        return recovery_hash(signature.key) == entry.recovery_hash
    return signature.key == entry.controller


def _use_nonce(state: State, call: Inspected, entry: MerchantEntry | None, nonces: Nonces) -> Result:
    signer, key, nonce = call.body.signer, call.lead.key, call.body.nonce
    if entry is not None and not call.by_recovery_key:
        if nonce != entry.nonce + 1:
            return Result.NONCE
        state.put_merchant(signer, dataclasses.replace(entry, nonce=nonce))
        return Result.OK
    if nonce <= counters.last_nonce(state, signer, key):
        return Result.NONCE
    if nonces == Nonces.ONCE:
        return Result.OK if state.use_once((signer, key, nonce)) else Result.NONCE
    counters.use_nonce(state, signer, key, nonce)
    return Result.OK
