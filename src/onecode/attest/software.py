"""SIMULATED evidence: a key stands in for the vendor's root. For development, `solo` and the demo only.

Whoever holds the simulated vendor key can make any evidence, and root can read the process's memory. Everything that
shows this kind to a person says "simulated".
"""

from __future__ import annotations

from dataclasses import dataclass

from onecode.attest.evidence import Claims, Evidence, signing_body
from onecode.errors import Untrusted
from onecode.wire import Domain, SigningKey, frame, sha256, signature_holds

KIND = "software"
CLAIMS_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class SoftwareAttester:
    """Signs report data with the simulated vendor key. `measurement`: 48 bytes, SHA-384 of the enclave's code."""

    vendor: SigningKey
    measurement: bytes
    kind: str = KIND

    def evidence(self, report_data: bytes) -> Evidence:
        hardware_id = sha256(self.vendor.public)
        body = signing_body(self.kind, self.measurement, hardware_id, report_data)
        return Evidence(
            kind=self.kind,
            measurement=self.measurement,
            hardware_id=hardware_id,
            report_data=report_data,
            payload=self.vendor.sign(Domain.EVIDENCE, "simulated", body),
        )


@dataclass(frozen=True, slots=True)
class SoftwareVerifier:
    """Accepts evidence signed by one of the simulated vendor keys that the operator configured."""

    vendors: tuple[bytes, ...]
    kind: str = KIND

    def verify_evidence(self, evidence: Evidence, report_data: bytes, now_ms: int) -> Claims:
        """1. The report data is the expected one. 2. The signature is by a configured simulated vendor key.

        Establishes nothing about memory or the machine: the claims say `simulated`.
        """
        if evidence.report_data != report_data:  # 1
            raise Untrusted("evidence.report_data", "the evidence is for other report data", field="report_data")
        body = signing_body(evidence.kind, evidence.measurement, evidence.hardware_id, report_data)
        framed = frame(Domain.EVIDENCE, "simulated", body)
        if not any(  # 2
            sha256(vendor) == evidence.hardware_id and signature_holds(vendor, evidence.payload, framed)
            for vendor in self.vendors
        ):
            raise Untrusted("evidence.signature", "the evidence is not signed by an allowed vendor", field="payload")
        return Claims(self.kind, evidence.measurement, evidence.hardware_id, True, False, now_ms + CLAIMS_MS)
