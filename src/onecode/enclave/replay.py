"""Query ids seen lately: a replayed query is refused for as long as its time window would let it pass."""

from __future__ import annotations

from onecode.errors import Unreachable, Untrusted

IDS_MAX = 1_000_000  # a generation; about 100 bytes each


class SeenQueries:
    """Two rotating generations of ids. An id is remembered for at least `window_ms`, at most twice that."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._rotated_ms = 0
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()

    def add(self, key: bytes, now_ms: int) -> None:
        """Remember `key`; `Untrusted` if it was seen, `Unreachable` if there is no room to remember it."""
        if now_ms - self._rotated_ms >= self._window_ms:
            idle = now_ms - self._rotated_ms >= 2 * self._window_ms
            self._old = set() if idle else self._new
            self._new, self._rotated_ms = set(), now_ms
        if key in self._new or key in self._old:
            raise Untrusted("query.replayed", "this query was answered before; sign a new one", field="query_id")
        if len(self._new) >= IDS_MAX:
            raise Unreachable("enclave.busy", "too many queries in this window; ask another node", retry_after_ms=5_000)
        self._new.add(key)
