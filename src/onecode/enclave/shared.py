"""Tables that the enclave's workers share: memory made before they are forked, one lock, no file.

A host spreads queries over workers as it likes, so what is counted or remembered must be counted once for all of them.
Open addressing over slots of fixed size; a key is hashed to 16 bytes, and looked for in one run of slots.
"""

from __future__ import annotations

import mmap
import multiprocessing
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from hashlib import blake2b

KEY_BYTES = 16
RUN_SLOTS = 32


def shared_lock() -> AbstractContextManager[bool]:
    """A lock that holds between the workers. One that dies while holding it ends the whole enclave (`process.py`)."""
    return multiprocessing.get_context("fork").Lock()


class SharedTable:
    """Slots of 16 bytes of key and `layout` values (unsigned 64-bit integers), all zero at first.

    Not locked: hold the lock around `find` and whatever is done with the slot.
    """

    def __init__(self, slots: int, values: int) -> None:
        self._slots = slots
        self._values = struct.Struct(f"<{values}Q")
        self._size = KEY_BYTES + self._values.size
        self._memory = mmap.mmap(-1, (slots + RUN_SLOTS) * self._size)  # anonymous: inherited, in no file

    def find(self, key: bytes, reusable: Callable[[tuple[int, ...]], bool] | None = None) -> tuple[int, bool] | None:
        """Where `key` has its slot, and whether it was there; a new one takes a `reusable` slot. None if there is none.

        A slot that was never used has zeros as values. Without `reusable` nothing is taken.
        """
        hashed = blake2b(key, digest_size=KEY_BYTES).digest()
        start = int.from_bytes(hashed[:8], "little") % self._slots * self._size
        run = self._memory[start : start + RUN_SLOTS * self._size]
        at = run.find(hashed)
        while at >= 0:
            if at % self._size == 0:
                return start + at, True
            at = run.find(hashed, at + 1)
        if reusable is None:
            return None
        for at in range(0, len(run), self._size):
            if reusable(self._values.unpack_from(run, at + KEY_BYTES)):
                self._memory[start + at : start + at + KEY_BYTES] = hashed
                return start + at, False
        return None

    def read(self, slot: int) -> tuple[int, ...]:
        return self._values.unpack_from(self._memory, slot + KEY_BYTES)

    def write(self, slot: int, *values: int) -> None:
        self._values.pack_into(self._memory, slot + KEY_BYTES, *values)
