"""Rules of enclaves: a platform's key service says which enclave it appraised."""

from __future__ import annotations

from onecode.proof.governance import DAY_MS
from onecode.proof.leaves import ATTESTATIONS_MAX, Attestation, EnclaveLeaf
from onecode.proof.map import Section
from onecode.registry.context import Context
from onecode.registry.events import EnclaveAttested, EnclaveRevoked
from onecode.registry.results import Result
from onecode.registry.transactions import EnclaveAttest, EnclaveRevoke

ATTESTATION_MS_MAX = DAY_MS


def attest(context: Context, payload: EnclaveAttest) -> Result:
    """`enclave.attest`: adds or renews the platform's attestation; those that expired leave the leaf."""
    state, time_ms = context.state, context.time_ms
    if not state.platform_active(context.signer, time_ms):
        return Result.PLATFORM_INACTIVE
    if not state.enclave_policy().allows(payload.kind, payload.measurement, time_ms):
        return Result.MEASUREMENT_REFUSED
    if not time_ms < payload.expires_ms <= time_ms + ATTESTATION_MS_MAX:
        return Result.ATTESTATION_EXPIRY
    leaf = state.get(Section.ENCLAVES, payload.query_key, EnclaveLeaf)
    held = tuple(one for one in leaf.attestations if time_ms < one.expires_ms) if leaf is not None else ()
    if leaf is not None and held:
        same = (leaf.node_id, leaf.kind, leaf.measurement)
        if same != (payload.node_id, payload.kind, payload.measurement):
            return Result.ENCLAVE_MISMATCH
    others = [one for one in held if one.platform != context.signer]
    if len(others) >= ATTESTATIONS_MAX:
        return Result.ATTESTATIONS_FULL
    own = Attestation(platform=context.signer, evidence_hash=payload.evidence_hash, expires_ms=payload.expires_ms)
    _put(context, payload, tuple(sorted([*others, own], key=lambda one: one.platform)))
    context.events.append(EnclaveAttested(context.signer, payload.query_key, payload.expires_ms))
    return Result.OK


def revoke(context: Context, payload: EnclaveRevoke) -> Result:
    """`enclave.revoke`, at once; a suspended platform may. The leaf goes with its last attestation."""
    leaf = context.state.get(Section.ENCLAVES, payload.query_key, EnclaveLeaf)
    if leaf is None or all(one.platform != context.signer for one in leaf.attestations):
        return Result.ATTESTATION_UNKNOWN
    _put(context, payload, tuple(one for one in leaf.attestations if one.platform != context.signer), leaf)
    context.events.append(EnclaveRevoked(context.signer, payload.query_key))
    return Result.OK


def _put(
    context: Context,
    payload: EnclaveAttest | EnclaveRevoke,
    attestations: tuple[Attestation, ...],
    leaf: EnclaveLeaf | None = None,
) -> None:
    source = payload if isinstance(payload, EnclaveAttest) else leaf
    if source is None or not attestations:
        context.state.delete(Section.ENCLAVES, payload.query_key)
        return
    context.state.put(
        Section.ENCLAVES,
        payload.query_key,
        EnclaveLeaf(
            node_id=source.node_id, kind=source.kind, measurement=source.measurement, attestations=attestations
        ),
    )
