"""Giving an enclave its keys as a node does: evidence and grants in real frames, key services as objects beside it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from bench.state import State
from bench.world import CHAIN_ID, EPOCH, PLATFORMS, VENDOR, Platform, key, now_ms
from onecode.attest.policy import OperatorPins
from onecode.attest.release import ReleaseRequest
from onecode.attest.software import SoftwareVerifier
from onecode.enclave.frames import EnclaveStatus, EvidenceReply, EvidenceRequest, FrameKind, Refusal, pack, unpack
from onecode.keys.service import KeyService, Limits
from onecode.proof.governance import HOUR_MS
from onecode.proof.leaves import Role
from onecode.proof.light import Trust, trusted_state
from onecode.query.follow import Follower
from onecode.schema import parse

HEADER_AGE_MS_MAX = HOUR_MS  # the chain stands still while it is measured
START_S = 20.0
_TRIES_S = 0.02

Call = Callable[[FrameKind, bytes], bytes]


class EnclaveSocket:
    """A blocking connection to an enclave's control socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(START_S)
        until = time.monotonic() + START_S
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(_TRIES_S)
        self._buffer = b""

    def call(self, kind: FrameKind, payload: bytes) -> bytes:
        """Ask one frame; raises what the enclave refused."""
        self._socket.sendall(pack(1, kind, payload))
        while True:
            found, self._buffer = unpack(self._buffer + self._socket.recv(1 << 16))
            for _, answered, body in found:
                if answered != FrameKind.OK:
                    raise RuntimeError(f"the enclave refused: {parse(Refusal, body)}")
                return body

    def status(self) -> EnclaveStatus:
        return parse(EnclaveStatus, self.call(FrameKind.STATUS, b""))

    def wait_height(self, height: int) -> EnclaveStatus:
        """Its status once a worker has told it of this header."""
        until = time.monotonic() + START_S
        while (status := self.status()).height < height:
            if time.monotonic() > until:
                raise RuntimeError("no worker told the enclave of the newest header")
            time.sleep(_TRIES_S)
        return status

    def close(self) -> None:
        self._socket.close()


def key_service(platform: Platform, state: State) -> KeyService:
    """A platform's key service that accepts simulated evidence and a header of up to an hour."""
    trust = Trust(trusted_state(state.anchor.signed.header, state.anchor.validators))
    return KeyService(
        CHAIN_ID,
        platform.id,
        platform.key(Role.KEY_SERVICE),
        Follower(trust, HEADER_AGE_MS_MAX),
        OperatorPins(frozenset((state.measurement,)), allow_simulated=True),
        [SoftwareVerifier((key(VENDOR).public,))],
        Limits(header_age_ms_max=HEADER_AGE_MS_MAX),
        secrets.token_bytes,
    )


def grant_keys(call: Call, state: State) -> None:
    """Every platform's epoch key to the enclave behind `call`, which has verified the state's newest header."""
    for platform in PLATFORMS:
        service = key_service(platform, state)
        nonce, _ = service.make_challenge(now_ms())
        asked = EvidenceRequest(platform=platform.id, nonce=nonce, key_service_key=service.public_key)
        reply = parse(EvidenceReply, call(FrameKind.EVIDENCE, asked.encoded()))
        request = ReleaseRequest(
            bindings=reply.bindings,
            evidence=reply.evidence,
            header=state.head.signed,
            validators=state.head.validator_set,
            terms=reply.terms,
        )
        claims = service.appraise_request(request, state.policy, now_ms())
        grant, _ = service.make_grant(request, claims, {EPOCH: platform.epoch_key}, now_ms())
        call(FrameKind.GRANT, grant.encoded())
