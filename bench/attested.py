"""Giving an enclave its keys as a node does: evidence and grants in real frames, key services as objects beside it."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.processes import write_private
from bench.world import EPOCH, PLATFORMS, VENDOR, Platform, key
from onecode.attest.policy import OperatorPins
from onecode.attest.release import ReleaseRequest
from onecode.attest.software import SoftwareVerifier
from onecode.enclave.frames import EnclaveStatus, EvidenceReply, EvidenceRequest, FrameKind, Refusal, pack, unpack
from onecode.host.clock import now_ms
from onecode.keys.service import KeyService, Limits
from onecode.proof.governance import DAY_MS, HOUR_MS, EnclavePolicy
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.leaves import Role
from onecode.proof.light import Trust, trusted_state
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.follow import Follower
from onecode.schema import parse

HEADER_AGE_MS_MAX = HOUR_MS  # a chain may stand still while it is measured
START_S = 60.0
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


@dataclass(frozen=True, slots=True)
class Ground:
    """What enclaves and key services of one chain start from.

    anchor, validators: the header that trust files name. policy: the encoded leaf that says which enclaves may be
    attested; its first measurement is the code's when the chain began.
    """

    chain_id: str
    anchor: SignedHeader
    validators: ValidatorSet
    policy: bytes

    @property
    def measurement(self) -> bytes:
        return parse(EnclavePolicy, self.policy).measurements[0].measurement

    def trust_file(self) -> bytes:
        """Platform 0's, for the anchor header."""
        body = TrustBody(
            chain_id=self.chain_id,
            header=self.anchor,
            validators=self.validators,
            trusting_period_ms=14 * DAY_MS,
            issued_ms=now_ms(),
        )
        anchor = PLATFORMS[0].key(Role.ANCHOR)
        certificate = certify_anchor(self.chain_id, PLATFORMS[0].root, anchor.public, now_ms() + 80 * DAY_MS)
        return sign_trust_file(body, certificate, anchor).encoded()


def write_enclave(directory: Path, ground: Ground, node_id: str, socket_path: Path, workers: int) -> Path:
    """All files of an enclave; returns its configuration, which is there only once the others are."""
    config = {
        "chain_id": ground.chain_id,
        "node_id": node_id,
        "socket": str(socket_path),
        "workers": workers,
        "trust_file": str(write_private(directory / "trust.cbor", ground.trust_file())),
        "pinned_root": PLATFORMS[0].root.public.hex(),
        "vendor_key": str(write_private(directory / "vendor.key", key(VENDOR).seed.hex().encode())),
        "allow_solo": True,
        "header_age_ms_max": HEADER_AGE_MS_MAX,
    }
    path = directory / "enclave.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(config), "utf-8")
    return new.replace(path)


def key_service(platform: Platform, ground: Ground) -> KeyService:
    """A platform's key service that accepts simulated evidence and a header of up to an hour."""
    trust = Trust(trusted_state(ground.anchor.header, ground.validators))
    return KeyService(
        ground.chain_id,
        platform.id,
        platform.key(Role.KEY_SERVICE),
        Follower(trust, HEADER_AGE_MS_MAX),
        OperatorPins(frozenset((ground.measurement,)), allow_simulated=True),
        [SoftwareVerifier((key(VENDOR).public,))],
        Limits(header_age_ms_max=HEADER_AGE_MS_MAX),
        secrets.token_bytes,
    )


def grant_keys(call: Call, ground: Ground, header_at: Callable[[int], tuple[SignedHeader, ValidatorSet]]) -> None:
    """Every platform's epoch key to the enclave behind `call`. `header_at` gives the header that its evidence binds."""
    for platform in PLATFORMS:
        service = key_service(platform, ground)
        nonce, _ = service.make_challenge(now_ms())
        asked = EvidenceRequest(platform=platform.id, nonce=nonce, key_service_key=service.public_key)
        reply = parse(EvidenceReply, call(FrameKind.EVIDENCE, asked.encoded()))
        header, validators = header_at(reply.height)
        request = ReleaseRequest(
            bindings=reply.bindings,
            evidence=reply.evidence,
            header=header,
            validators=validators,
            terms=reply.terms,
        )
        claims = service.appraise_request(request, ground.policy, now_ms())
        grant, _ = service.make_grant(request, claims, {EPOCH: platform.epoch_key}, now_ms())
        call(FrameKind.GRANT, grant.encoded())
