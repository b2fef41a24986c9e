"""Evidence of an enclave: what it reports, what its report binds, and the claims an appraisal yields (RFC 9334).

An attester makes `Evidence` over 64 bytes of report data; the report data binds everything that a key service must
know before it releases a key. Kinds: `software` (simulated: proves nothing about memory), later tpm, sgx, tdx, snp.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from onecode.proof.leaves import HASH, KEY, TIME_MS
from onecode.schema import Bytes, Message, Text, item
from onecode.wire import Domain, encode, frame

REPORT_DATA_BYTES = 64
SIMULATED_KINDS = frozenset({"software"})


class Evidence(Message):
    kind: str = item(1, Text(16))
    measurement: bytes = item(2, Bytes(32, 64))
    hardware_id: bytes = item(3, Bytes(1, 64))
    report_data: bytes = item(4, Bytes(REPORT_DATA_BYTES))
    payload: bytes = item(5, Bytes(1, 65_536))  # kind's own: a signature, a quote


class Bindings(Message):
    """What the report data stands for. `node_id` names the node; `nonce` is the key service's challenge."""

    header_hash: bytes = item(1, HASH)  # newest header that the enclave has verified
    config_hash: bytes = item(2, HASH)  # of the enclave's configuration, its trust anchor included
    node_id: str = item(3, Text(64))
    nonce: bytes = item(4, Bytes(32))
    release_key: bytes = item(5, KEY)  # fresh X25519 key that the grant is sealed to
    query_key: bytes = item(6, KEY)  # X25519 key that wallets seal queries to
    key_service_key: bytes = item(7, KEY)  # Ed25519 key of the key service that is asked
    policy_hash: bytes = item(8, HASH)  # of the enclave policy leaf under that header
    started_ms: int = item(9, TIME_MS)


@dataclass(frozen=True, slots=True)
class Claims:
    """What an appraisal established; shaped after EAT (RFC 9711). `simulated` evidence proves nothing about memory."""

    kind: str
    measurement: bytes
    hardware_id: bytes
    simulated: bool
    debug: bool
    expires_ms: int


class Attester(Protocol):
    """Inside the enclave: makes evidence over exactly 64 bytes."""

    @property
    def kind(self) -> str: ...
    @property
    def measurement(self) -> bytes: ...
    def evidence(self, report_data: bytes) -> Evidence: ...


class Verifier(Protocol):
    """At the key service: what evidence of one kind establishes, or `Untrusted`."""

    @property
    def kind(self) -> str: ...
    def verify_evidence(self, evidence: Evidence, report_data: bytes, now_ms: int) -> Claims: ...


def report_data(chain_id: str, bindings: Bindings) -> bytes:
    """SHA-512 over the frame of the bindings: the 64 bytes that evidence carries."""
    return hashlib.sha512(frame(Domain.REPORT, chain_id, bindings.encoded())).digest()


def evidence_hash(evidence: Evidence) -> bytes:
    """SHA-256 of the evidence, as the chain records it."""
    return hashlib.sha256(evidence.encoded()).digest()


def signing_body(kind: str, measurement: bytes, hardware_id: bytes, data: bytes) -> bytes:
    """What a simulated vendor signs."""
    return encode([kind, measurement, hardware_id, data])
