"""The key service: challenge, appraisal, grant. Gives epoch keys only to an enclave that it has appraised itself."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onecode.attest.evidence import Claims, Verifier, evidence_hash, report_data
from onecode.attest.policy import OperatorPins, appraise
from onecode.attest.release import (
    LEASE_MS_MAX,
    LEASE_OPENINGS_MAX,
    EpochKey,
    Grant,
    ReleaseRequest,
    SealedGrant,
    seal_grant,
)
from onecode.errors import Untrusted
from onecode.proof.governance import EnclavePolicy
from onecode.proof.header import header_hash
from onecode.query.follow import Follower
from onecode.registry.transactions import EnclaveAttest, Kind, SignerKind, build_transaction
from onecode.schema import parse
from onecode.wire import SigningKey, sha256

QUERY_WINDOW_MS_MAX = 120_000
TRUSTING_PERIOD_MS_MAX = 14 * 24 * 3600 * 1000
TRANSACTION_VALID_MS = 5 * 60_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a grant may be, and how long a challenge stands."""

    lease_ms: int = LEASE_MS_MAX
    lease_openings: int = LEASE_OPENINGS_MAX
    header_age_ms_max: int = 30_000
    challenge_ms: int = 60_000


class KeyService:
    """State of one platform's key service. `random_bytes(n)` gives entropy; every method takes the time."""

    def __init__(
        self,
        chain_id: str,
        platform: bytes,
        key: SigningKey,
        follower: Follower,
        pins: OperatorPins,
        verifiers: Sequence[Verifier],
        limits: Limits,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._chain_id = chain_id
        self.platform = platform
        self._key = key
        self.follower = follower
        self._pins = pins
        self._verifiers = verifiers
        self._limits = limits
        self._random = random_bytes
        self._challenge_key = random_bytes(32)
        self._used: dict[bytes, int] = {}  # nonces that were granted on, until they end
        self._nonce = 0

    @property
    def public_key(self) -> bytes:
        return self._key.public

    def make_challenge(self, now_ms: int) -> tuple[bytes, int]:
        """A nonce for one release, and until when it may be used.

        It proves itself (end, 8 random bytes, a MAC), so that nobody can use up room by asking for many.
        """
        end = now_ms + self._limits.challenge_ms
        head = end.to_bytes(8, "big") + self._random(8)
        return head + self._challenge_mac(head), end

    def _challenge_mac(self, head: bytes) -> bytes:
        return hmac.digest(self._challenge_key, head, "sha256")[:16]

    def _require_challenge(self, nonce: bytes, now_ms: int) -> None:
        """Raise `Untrusted` unless this service gave the nonce, it has not ended, and nothing was granted on it."""
        self._used = {used: end for used, end in self._used.items() if end > now_ms}
        given = hmac.compare_digest(nonce[16:], self._challenge_mac(nonce[:16]))
        if not given or int.from_bytes(nonce[:8], "big") <= now_ms or nonce in self._used:
            raise Untrusted("keys.nonce", "the challenge is unknown, used or too old; ask for a new one", field="nonce")

    def appraise_request(self, request: ReleaseRequest, policy: bytes, now_ms: int) -> Claims:
        """Claims of an enclave that may have keys.

        1. The nonce was given here and is used once, in time. 2. The request is for this key service. 3. The bound
        configuration is the one shown, for this chain, with bounds no wider than allowed here. 4. The bound header is
        the one shown, verified by this service's own light client, and fresh; its node may be a little behind ours. 5.
        The enclave policy that the enclave saw is `policy`, which the caller has proven under a fresh header. 6.
        Evidence over exactly these bindings is appraised under that policy and the operator's pins.
        """
        bindings, terms = request.bindings, request.terms
        self._require_challenge(bindings.nonce, now_ms)  # 1
        if bindings.key_service_key != self._key.public:  # 2
            raise Untrusted("keys.other_service", "the evidence was made for another key service")
        if sha256(terms.encoded()) != bindings.config_hash:  # 3
            raise Untrusted("keys.config", "the evidence binds another configuration than the one shown", field="terms")
        wide = (
            terms.header_age_ms_max > self._limits.header_age_ms_max
            or terms.query_window_ms > QUERY_WINDOW_MS_MAX
            or terms.trusting_period_ms > TRUSTING_PERIOD_MS_MAX
        )
        if terms.chain_id != self._chain_id or wide:
            raise Untrusted("keys.terms", "the enclave's configuration is not allowed here", field="terms")
        if header_hash(request.header.header) != bindings.header_hash:  # 4
            raise Untrusted("keys.header", "the evidence binds another header than the one shown", field="header")
        self.follower.verify_recent(request.header, request.validators, now_ms)
        if sha256(policy) != bindings.policy_hash:  # 5
            raise Untrusted("keys.policy", "the enclave saw another enclave policy; try again at the newest header")
        data = report_data(self._chain_id, bindings)
        listed = parse(EnclavePolicy, policy, path="policy")
        claims = appraise(request.evidence, data, listed, self._pins, self._verifiers, now_ms)  # 6
        self._used[bindings.nonce] = int.from_bytes(bindings.nonce[:8], "big")
        return claims

    def make_grant(
        self, request: ReleaseRequest, claims: Claims, epochs: dict[int, bytes], now_ms: int
    ) -> tuple[SealedGrant, bytes]:
        """The grant for an appraised request, and the `enclave.attest` transaction that goes on chain before it."""
        expires_ms = min(now_ms + self._limits.lease_ms, claims.expires_ms)
        grant = Grant(
            platform=self.platform,
            epochs=tuple(EpochKey(epoch=epoch, key=key) for epoch, key in sorted(epochs.items())),
            expires_ms=expires_ms,
            openings=self._limits.lease_openings,
        )
        attest = EnclaveAttest(
            query_key=request.bindings.query_key,
            node_id=request.bindings.node_id,
            kind=claims.kind,
            measurement=claims.measurement,
            evidence_hash=evidence_hash(request.evidence),
            expires_ms=expires_ms,
        )
        self._nonce = max(self._nonce + 1, now_ms)  # platforms' nonces may have gaps, so the clock serves
        transaction = build_transaction(
            self._chain_id,
            Kind.ENCLAVE_ATTEST,
            attest,
            signer=self.platform,
            signer_kind=SignerKind.PLATFORM,
            key=self._key,
            nonce=self._nonce,
            valid_until_ms=now_ms + TRANSACTION_VALID_MS,
        )
        return seal_grant(self._chain_id, grant, request.bindings, self._key), transaction
