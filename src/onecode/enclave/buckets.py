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


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What is missing from a bucket at a time, in thousandths of a token; `slot` None before it has one."""

    rate: Rate
    key: bytes
    slot: int | None
    missing: int
    at_ms: int

    def wait_ms(self, tokens: int) -> int:
        """Milliseconds until there are so many tokens; 0 if there are."""
        over = self.missing + tokens * _TOKEN - self.rate.burst * _TOKEN
        return -(-over * self.rate.period_ms // (self.rate.tokens * _TOKEN)) if over > 0 else 0


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
            issuer = self._look(ISSUER, platform, now_ms)
            _require_tokens(issuer.wait_ms(1))
            _require_tokens(self._look(HITS, device, now_ms).wait_ms(1))
            _require_tokens(self._look(MISSES, device, now_ms).wait_ms(1))
            self._take(issuer, 1)

    def count_hits(self, device: bytes, opened: int, now_ms: int) -> None:
        """Take a token for each candidate about to be opened, or raise `Unreachable`."""
        with self._lock:
            self._take(self._look(HITS, device, now_ms), opened)

    def count_miss(self, device: bytes, now_ms: int) -> None:
        """Take a token for a query that found nothing; `admit` has seen that there is one."""
        with self._lock:
            self._take(self._look(MISSES, device, now_ms), 1)

    def _take(self, bucket: _Bucket, tokens: int) -> None:
        """Take tokens or raise. Only here a bucket gets a slot: a platform's rate bounds how many its wallets use."""
        _require_tokens(bucket.wait_ms(tokens))
        slot = bucket.slot
        if slot is None:
            found = self._table.find(bucket.key, lambda values: bucket.at_ms - values[1] > SLOWEST_FULL_MS)
            if found is None:
                message = "too many wallets in this window; ask another node"
                raise Unreachable("enclave.busy", message, retry_after_ms=5_000)
            slot = found[0]
        self._table.write(slot, bucket.missing + tokens * _TOKEN, bucket.at_ms)

    def _look(self, rate: Rate, key: bytes, now_ms: int) -> _Bucket:
        """A bucket as it is now. Its time never goes back: a host that swings its clock fills nothing twice."""
        key = rate.name + key
        found = self._table.find(key)
        if found is None:
            return _Bucket(rate, key, None, 0, now_ms)
        taken, at_ms = self._table.read(found[0])
        gained = max(0, now_ms - at_ms) * rate.tokens * _TOKEN // rate.period_ms
        return _Bucket(rate, key, found[0], max(0, taken - gained), max(now_ms, at_ms))
