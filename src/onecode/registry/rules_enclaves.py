"""Rules of enclaves: a platform's key service says which enclave it appraised."""

from __future__ import annotations

from onecode.proof.governance import DAY_MS
from onecode.proof.leaves import EnclaveLeaf, enclave_key
from onecode.proof.map import Section
from onecode.registry.context import Context
from onecode.registry.events import EnclaveAttested, EnclaveRevoked
from onecode.registry.results import Result
from onecode.registry.transactions import EnclaveAttest, EnclaveRevoke

ATTESTATION_MS_MAX = DAY_MS


def attest(context: Context, payload: EnclaveAttest) -> Result:
    """`enclave.attest`: the platform's own word about this query key, new or in place of its last one."""
    state, time_ms = context.state, context.time_ms
    if not state.platform_active(context.signer, time_ms):
        return Result.PLATFORM_INACTIVE
    if not state.enclave_policy().allows(payload.kind, payload.measurement, time_ms):
        return Result.MEASUREMENT_REFUSED
    if not time_ms < payload.expires_ms <= time_ms + ATTESTATION_MS_MAX:
        return Result.ATTESTATION_EXPIRY
    leaf = EnclaveLeaf(
        node_id=payload.node_id,
        kind=payload.kind,
        measurement=payload.measurement,
        evidence_hash=payload.evidence_hash,
        expires_ms=payload.expires_ms,
    )
    state.put(Section.ENCLAVES, enclave_key(payload.query_key, context.signer), leaf)
    context.events.append(EnclaveAttested(context.signer, payload.query_key, payload.expires_ms))
    return Result.OK


def revoke(context: Context, payload: EnclaveRevoke) -> Result:
    """`enclave.revoke`, at once: deletes the platform's own leaf, expired or not; a suspended platform may."""
    key = enclave_key(payload.query_key, context.signer)
    if context.state.get(Section.ENCLAVES, key, EnclaveLeaf) is None:
        return Result.ATTESTATION_UNKNOWN
    context.state.delete(Section.ENCLAVES, key)
    context.events.append(EnclaveRevoked(context.signer, payload.query_key))
    return Result.OK
