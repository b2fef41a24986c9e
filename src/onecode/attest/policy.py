"""Which enclaves get keys: the chain's policy, narrowed by what the key service's own operator pins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onecode.attest.evidence import Claims, Evidence, Verifier
from onecode.errors import Untrusted
from onecode.proof.governance import EnclavePolicy


@dataclass(frozen=True, slots=True)
class OperatorPins:
    """What this operator allows, whatever the chain says. Empty `measurements` allow none."""

    measurements: frozenset[bytes]
    allow_simulated: bool = False


def appraise(
    evidence: Evidence,
    report_data: bytes,
    policy: EnclavePolicy,
    pins: OperatorPins,
    verifiers: Sequence[Verifier],
    now_ms: int,
) -> Claims:
    """Claims of evidence that chain and operator both allow.

    1. A verifier for its kind is configured. 2. The evidence verifies over `report_data`. 3. It is no debug enclave.
    4. Simulated kinds only where the operator allows them. 5. The chain's policy lists kind and measurement, in effect.
    6. The operator pins the measurement.
    """
    verifier = next((v for v in verifiers if v.kind == evidence.kind), None)
    if verifier is None:  # 1
        raise Untrusted("evidence.kind", f"evidence of kind {evidence.kind!r} is not accepted here", field="kind")
    claims = verifier.verify_evidence(evidence, report_data, now_ms)  # 2
    if claims.debug:  # 3
        raise Untrusted("evidence.debug", "the enclave runs in debug mode", field="evidence")
    if claims.simulated and not pins.allow_simulated:  # 4
        raise Untrusted("evidence.simulated", "simulated evidence is not accepted by this operator", field="kind")
    listed = any(
        m.kind == claims.kind and m.measurement == claims.measurement and m.effective_ms <= now_ms
        for m in policy.measurements
    )
    if not listed:  # 5
        raise Untrusted("evidence.policy", "the chain's enclave policy does not list this measurement")
    if claims.measurement not in pins.measurements:  # 6
        raise Untrusted("evidence.pins", "the key service's operator does not allow this measurement")
    return claims
