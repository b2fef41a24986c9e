"""Token buckets against harvesting, where no host can lift them: per device, and per issuing platform.

A miss costs far more than a hit, and every candidate that is opened counts. Whole thousandths of a token, no floats.
"""

from __future__ import annotations

from dataclasses import dataclass

from onecode.enclave.shared import SharedTable, shared_lock
from onecode.errors import Unreachable

BUCKET_SLOTS = 1 << 20  # 32 bytes each
_TOKEN = 1_000  # in thousandths


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket that holds `burst` tokens and gains `tokens` in `period_ms`. `name` tells a key's buckets apart."""

    name: bytes
    tokens: int
    period_ms: int
    burst: int


HITS = Rate(b"hits", 60, 60_000, 120)  # opened candidates of one device
MISSES = Rate(b"misses", 6, 60_000, 20)  # queries of one device that found nothing
ISSUER = Rate(b"issuer", 2_000, 1_000, 4_000)  # queries by all devices of one platform
SLOWEST_FULL_MS = max(rate.burst * rate.period_ms // rate.tokens for rate in (HITS, MISSES, ISSUER)) + 1


def _require_tokens(wait_ms: int) -> None:
    if wait_ms:
        message = "this wallet has asked too often; wait, then try again"
        raise Unreachable("query.rate", message, status=429, retry_after_ms=wait_ms)


class Buckets:
    """All buckets of one enclave, its workers together. Whoever has none yet starts with a full one."""

    def __init__(self, slots: int = BUCKET_SLOTS) -> None:
        self._lock = shared_lock()
        self._table = SharedTable(slots, 2)  # thousandths of a token taken, when that was

    def admit(self, device: bytes, platform: bytes, now_ms: int) -> None:
        """Raise `Unreachable` with a hint unless the device may still hit and miss and its platform may ask.

        Takes the platform's token. Called once the device's signature holds: nobody spends another's tokens.
        """
        with self._lock:
            _require_tokens(self._wait_ms(ISSUER, platform, 1, now_ms)[0])
            _require_tokens(self._wait_ms(HITS, device, 1, now_ms)[0])
            _require_tokens(self._wait_ms(MISSES, device, 1, now_ms)[0])
            self._take(ISSUER, platform, 1, now_ms)

    def count_hits(self, device: bytes, opened: int, now_ms: int) -> None:
        """Take a token for each candidate about to be opened, or raise `Unreachable`."""
        with self._lock:
            self._take(HITS, device, opened, now_ms)

    def count_miss(self, device: bytes, now_ms: int) -> None:
        """Take a token for a query that found nothing; `admit` has seen that there is one."""
        with self._lock:
            self._take(MISSES, device, 1, now_ms)

    def _take(self, rate: Rate, key: bytes, tokens: int, now_ms: int) -> None:
        """Take tokens or raise. Only here a bucket gets a slot: a platform's rate bounds how many its wallets use."""
        wait_ms, missing, at_ms = self._wait_ms(rate, key, tokens, now_ms)
        _require_tokens(wait_ms)
        found = self._table.find(rate.name + key, lambda values: now_ms - values[1] > SLOWEST_FULL_MS)
        if found is None:
            message = "too many wallets in this window; ask another node"
            raise Unreachable("enclave.busy", message, retry_after_ms=5_000)
        self._table.write(found[0], missing + tokens * _TOKEN, at_ms)

    def _wait_ms(self, rate: Rate, key: bytes, tokens: int, now_ms: int) -> tuple[int, int, int]:
        """Milliseconds until there are so many tokens, what is missing from the bucket now, and the time of that.

        That time never goes back: a host that swings its clock fills nothing twice.
        """
        found = self._table.find(rate.name + key)
        taken, at_ms = self._table.read(found[0]) if found is not None else (0, now_ms)
        gained = max(0, now_ms - at_ms) * rate.tokens * _TOKEN // rate.period_ms
        missing = max(0, taken - gained)
        over = missing + tokens * _TOKEN - rate.burst * _TOKEN
        wait_ms = -(-over * rate.period_ms // (rate.tokens * _TOKEN)) if over > 0 else 0
        return wait_ms, missing, max(now_ms, at_ms)
