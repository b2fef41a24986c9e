"""Signatures, verified once: a bounded memory of those that held."""

from __future__ import annotations

from typing import Protocol

from onecode.wire import sha256, signature_holds

ENTRIES_MAX = 1 << 16


class Signatures(Protocol):
    """Says whether libsodium accepts a signature (docs/spec/bytes.md)."""

    def holds(self, key: bytes, signature: bytes, message: bytes) -> bool: ...


class SignatureCache:
    """Remembers good signatures only, each by its exact key, signature and message (by its SHA-256).

    A block's execution never depends on what is remembered: a miss verifies. The older half is forgotten at once when
    the newer one is full, so the memory is bounded by `entries_max`.
    """

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._half = max(1, entries_max // 2)
        self._newer: set[bytes] = set()
        self._older: set[bytes] = set()

    def holds(self, key: bytes, signature: bytes, message: bytes) -> bool:
        known = key + signature + sha256(message)
        if known in self._newer or known in self._older:
            return True
        if not signature_holds(key, signature, message):
            return False
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, set()
        self._newer.add(known)
        return True
