"""Token buckets against harvesting, where no host can lift them: per device, and per issuing platform.

A miss costs far more than a hit, and every candidate that is opened counts. Whole thousandths of a token, no floats.
"""

from __future__ import annotations

from dataclasses import dataclass

from onecode.errors import Unreachable

DEVICES_MAX = 200_000
_TOKEN = 1_000  # in thousandths


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket that holds `burst` tokens and gains `tokens` in `period_ms`."""

    tokens: int
    period_ms: int
    burst: int


HITS = Rate(60, 60_000, 120)  # opened candidates of one device
MISSES = Rate(6, 60_000, 20)  # queries of one device that found nothing
ISSUER = Rate(2_000, 1_000, 4_000)  # queries by all devices of one platform


class _Bucket:
    __slots__ = ("_at_ms", "_level", "_rate")

    def __init__(self, rate: Rate, now_ms: int) -> None:
        self._rate, self._level, self._at_ms = rate, rate.burst * _TOKEN, now_ms

    def level(self, now_ms: int) -> int:
        """Thousandths of a token there are now."""
        gained = max(0, now_ms - self._at_ms) * self._rate.tokens * _TOKEN // self._rate.period_ms
        if gained:
            self._level, self._at_ms = min(self._rate.burst * _TOKEN, self._level + gained), now_ms
        return self._level

    def wait_ms(self, tokens: int, now_ms: int) -> int:
        """Milliseconds until there are so many tokens; 0 if there are."""
        missing = tokens * _TOKEN - self.level(now_ms)
        return 0 if missing <= 0 else -(-missing * self._rate.period_ms // (self._rate.tokens * _TOKEN))

    def take(self, tokens: int) -> None:
        self._level -= tokens * _TOKEN

    def full(self, now_ms: int) -> bool:
        return self.level(now_ms) == self._rate.burst * _TOKEN


def _require_tokens(wait_ms: int) -> None:
    if wait_ms:
        message = "this wallet has asked too often; wait, then try again"
        raise Unreachable("query.rate", message, status=429, retry_after_ms=wait_ms)


class Buckets:
    """All buckets of one enclave. A device that has none yet starts with a full one."""

    def __init__(self) -> None:
        self._hits: dict[bytes, _Bucket] = {}
        self._misses: dict[bytes, _Bucket] = {}
        self._issuers: dict[bytes, _Bucket] = {}

    def admit(self, device: bytes, platform: bytes, now_ms: int) -> None:
        """Raise `Unreachable` with a hint unless the device may still hit and miss and its platform may ask.

        Takes the platform's token. Called once the device's signature holds: nobody spends another's tokens.
        """
        issuer = self._issuers.setdefault(platform, _Bucket(ISSUER, now_ms))
        wait_ms = max(
            issuer.wait_ms(1, now_ms),
            self._bucket(self._hits, HITS, device, now_ms).wait_ms(1, now_ms),
            self._bucket(self._misses, MISSES, device, now_ms).wait_ms(1, now_ms),
        )
        _require_tokens(wait_ms)
        issuer.take(1)

    def count_hits(self, device: bytes, opened: int, now_ms: int) -> None:
        """Take a token for each candidate about to be opened, or raise `Unreachable`."""
        bucket = self._bucket(self._hits, HITS, device, now_ms)
        wait_ms = bucket.wait_ms(opened, now_ms)
        _require_tokens(wait_ms)
        bucket.take(opened)

    def count_miss(self, device: bytes, now_ms: int) -> None:
        """Take a token for a query that found nothing."""
        self._bucket(self._misses, MISSES, device, now_ms).take(1)

    def _bucket(self, table: dict[bytes, _Bucket], rate: Rate, device: bytes, now_ms: int) -> _Bucket:
        bucket = table.get(device)
        if bucket is None:
            if len(table) >= DEVICES_MAX:
                self._forget_full(table, now_ms)
            bucket = table[device] = _Bucket(rate, now_ms)
        return bucket

    def _forget_full(self, table: dict[bytes, _Bucket], now_ms: int) -> None:
        """Make room by dropping full buckets, which say nothing; without room the query has to wait."""
        for device in [device for device, bucket in table.items() if bucket.full(now_ms)]:
            del table[device]
        if len(table) >= DEVICES_MAX:
            raise Unreachable("enclave.busy", "too many wallets in this window; ask another node", retry_after_ms=5_000)
