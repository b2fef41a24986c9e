"""Epoch keys of platforms, each under the lease that its key service gave."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from onecode.attest.release import LEASE_MS_MAX, Grant
from onecode.enclave.frames import Lease
from onecode.errors import Untrusted

OPENINGS_STEP = 10_000


@dataclass(slots=True)
class _Held:
    ciphers: dict[int, AESGCMSIV]
    expires_ms: int
    openings_left: int


@dataclass(slots=True)
class Leases:
    """Held keys by platform. A lease ends by time or by openings, whichever comes first."""

    _held: dict[bytes, _Held] = field(default_factory=dict)

    def accept(self, grant: Grant, now_ms: int) -> None:
        """Replace a platform's keys by those of a fresh grant."""
        if not now_ms < grant.expires_ms <= now_ms + LEASE_MS_MAX:
            raise Untrusted("grant.lease", "the lease has ended, or is longer than an hour", field="expires_ms")
        ciphers = {epoch.epoch: AESGCMSIV(epoch.key) for epoch in grant.epochs}
        self._held[grant.platform] = _Held(ciphers, grant.expires_ms, grant.openings)

    def take(self, platform: bytes, epoch: int, now_ms: int) -> AESGCMSIV | None:
        """The cipher for one opening, which is counted; None if there is no such key under a running lease."""
        held = self._held.get(platform)
        if held is None or now_ms >= held.expires_ms or held.openings_left == 0:
            return None
        cipher = held.ciphers.get(epoch)
        if cipher is not None:
            held.openings_left -= 1
        return cipher

    def listed(self) -> tuple[Lease, ...]:
        """For the host, which renews them. Openings are coarse: exact ones would tell whose record a query opened."""
        return tuple(
            Lease(
                platform=platform,
                expires_ms=held.expires_ms,
                openings_left=held.openings_left // OPENINGS_STEP * OPENINGS_STEP,
            )
            for platform, held in sorted(self._held.items())
        )
