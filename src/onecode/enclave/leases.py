"""Epoch keys of platforms, each under the lease that its key service gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from onecode.attest.release import LEASE_MS_MAX, Grant
from onecode.enclave.frames import Lease
from onecode.enclave.shared import SharedTable, shared_lock
from onecode.errors import Unreachable, Untrusted

PLATFORM_SLOTS = 4_096


@dataclass(frozen=True, slots=True)
class _Held:
    ciphers: dict[int, AESGCMSIV]
    expires_ms: int
    slot: int  # of the count of openings; a slot that is used never moves


class Leases:
    """Held keys by platform. A lease ends by time or by openings, whichever comes first.

    Every worker holds the keys; how many openings are left is counted for all of them together.
    """

    def __init__(self) -> None:
        self._held: dict[bytes, _Held] = {}
        self._lock = shared_lock()
        self._openings = SharedTable(PLATFORM_SLOTS, 3)  # left, at how many to renew, 1

    def require_valid(self, grant: Grant, now_ms: int) -> None:
        """Raise `Untrusted` unless the lease runs, and for no longer than an hour."""
        if not now_ms < grant.expires_ms <= now_ms + LEASE_MS_MAX:
            raise Untrusted("grant.lease", "the lease has ended, or is longer than an hour", field="expires_ms")

    def allow(self, grant: Grant, random_bytes: Callable[[int], bytes]) -> None:
        """Start counting the openings of a fresh grant; once for all workers.

        When the host is told to renew is drawn by chance between 5 and 15 % of them: a host that knew the count could
        ask before and after a query and learn whose record it opened.
        """
        twentieth = grant.openings // 20
        renew_at = twentieth + int.from_bytes(random_bytes(8), "big") % (2 * twentieth + 1)
        with self._lock:
            self._openings.write(self._slot(grant.platform), grant.openings, renew_at, 1)

    def hold(self, grant: Grant) -> None:
        """Replace a platform's keys by those of a fresh grant; in each worker."""
        ciphers = {epoch.epoch: AESGCMSIV(epoch.key) for epoch in grant.epochs}
        with self._lock:
            self._held[grant.platform] = _Held(ciphers, grant.expires_ms, self._slot(grant.platform))

    def take(self, platform: bytes, epoch: int, now_ms: int) -> AESGCMSIV | None:
        """The cipher for one opening, which is counted; None if there is no such key under a running lease."""
        held = self._held.get(platform)
        if held is None or now_ms >= held.expires_ms or epoch not in held.ciphers:
            return None
        with self._lock:
            left, renew_at, used = self._openings.read(held.slot)
            if not left:
                return None
            self._openings.write(held.slot, left - 1, renew_at, used)
        return held.ciphers[epoch]

    def left(self, platform: bytes) -> int:
        """Openings left; for the enclave itself, never for its host."""
        with self._lock:
            return self._openings.read(self._slot(platform))[0]

    def listed(self) -> tuple[Lease, ...]:
        """For the host, which renews them."""
        return tuple(
            Lease(platform=platform, expires_ms=held.expires_ms, renew=self._to_renew(platform))
            for platform, held in sorted(self._held.items())
        )

    def _to_renew(self, platform: bytes) -> bool:
        with self._lock:
            left, renew_at, _ = self._openings.read(self._slot(platform))
        return left <= renew_at

    def _slot(self, platform: bytes) -> int:
        found = self._openings.find(platform, lambda values: values[2] == 0)
        if found is None:
            raise Unreachable("enclave.busy", "too many platforms for this enclave; ask another node")
        return found[0]
