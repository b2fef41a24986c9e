"""Query ids seen lately: a replayed query is refused for as long as its time window would let it pass."""

from __future__ import annotations

from onecode.enclave.shared import SharedTable, shared_lock
from onecode.errors import Unreachable, Untrusted

IDS_SLOTS = 1 << 22  # 24 bytes each; memory is used only as far as queries come


class SeenQueries:
    """Ids of two generations of `window_ms`: one is remembered for at least that long, at most twice."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._lock = shared_lock()
        self._table = SharedTable(IDS_SLOTS, 1)
        self._newest = SharedTable(1, 1)

    def add(self, key: bytes, now_ms: int) -> None:
        """Remember `key`; `Untrusted` if it was seen, `Unreachable` if there is no room to remember it."""
        with self._lock:
            generation = max(now_ms // self._window_ms, *self._newest.read(0))  # a clock set back forgets nothing
            self._newest.write(0, generation)
            found = self._table.find(key, lambda values: values[0] < generation - 1)
            if found is None:
                message = "too many queries in this window; ask another node"
                raise Unreachable("enclave.busy", message, retry_after_ms=5_000)
            slot, known = found
            if known and self._table.read(slot)[0] >= generation - 1:
                raise Untrusted("query.replayed", "this query was answered before; sign a new one", field="query_id")
            self._table.write(slot, generation)
