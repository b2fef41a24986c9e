"""How many requests an address may send: token buckets of a bounded number of addresses."""

from __future__ import annotations

import ipaddress

ADDRESSES_MAX = 65_536


class Buckets:
    """A token bucket an address. The table is bounded: a flood of addresses empties it, it never grows on."""

    def __init__(self, per_s: int, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._levels: dict[str, tuple[float, float]] = {}  # address -> tokens, when they were counted

    def wait_s(self, address: str, now_s: float) -> float:
        """Take a token: 0 if there was one, else how long until there is."""
        if not self._per_s:
            return 0.0
        tokens, then = self._levels.get(address, (float(self._burst), now_s))
        tokens = min(float(self._burst), tokens + (now_s - then) * self._per_s)
        if len(self._levels) >= ADDRESSES_MAX and address not in self._levels:
            self._levels.clear()
        taken = tokens >= 1
        self._levels[address] = (tokens - taken, now_s)
        return 0.0 if taken else (1 - tokens) / self._per_s


def address_group(address: str) -> str:
    """What shares a bucket: an IPv4 address, or the first 64 bits of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(address.partition("%")[0])) >> 64 << 64))
    except ValueError:
        return address
