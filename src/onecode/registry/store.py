"""Where the registry keeps its bytes: tables of key and value, behind two protocols.

The registry's rules read and write through `Reader` and `Writer` and know no file. `MemoryStore` is the whole store in
dictionaries (genesis, replay, tests); `onecode.node.store` is the one on disk. Keys and values are exact byte strings;
what each table holds is laid down in docs/spec/storage.md.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class Table(IntEnum):
    """The tables of a store and their keys."""

    NODES = 1  # bundles of the map's trees: section(1) ‖ depth / 4 (1) ‖ path
    VALUES = 2  # values of the map: section(1) ‖ key hash(32)
    LINKS = 3  # links lists: merchant(20) ‖ service
    ENVELOPES = 4  # sealed records: merchant(20) ‖ platform(20) ‖ service
    META = 5  # a few single values, by name
    BLOCKS = 6  # decided blocks: height(8)
    HEADERS = 7  # signed headers with their validators: height(8)
    TRANSACTIONS = 8  # where a transaction of a kept block stands: SHA-256 of its bytes(32)


class Reader(Protocol):
    """Something that can be read: a snapshot, or an open write transaction."""

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        ...


class Writer(Reader, Protocol):
    """Something that can be read and changed; what was put is read back at once."""

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Store `value` under `key`, in place of what stood there."""
        ...

    def delete(self, table: Table, key: bytes) -> None:
        """Forget `key`; nothing happens where it is not there."""
        ...


class MemoryStore:
    """A store in dictionaries, one a table."""

    def __init__(self) -> None:
        self.tables: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self.tables[table].get(key)

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        self.tables[table][key] = value

    def delete(self, table: Table, key: bytes) -> None:
        self.tables[table].pop(key, None)


def link_key(merchant_id: bytes, service: str) -> bytes:
    """Key of a links list in `LINKS`."""
    return merchant_id + service.encode("utf-8")


def envelope_key(merchant_id: bytes, platform_id: bytes, service: str) -> bytes:
    """Key of one sealed record in `ENVELOPES`."""
    return merchant_id + platform_id + service.encode("utf-8")


def height_key(height: int) -> bytes:
    """Key of a height in `BLOCKS` and `HEADERS`: 8 bytes, so that a scan is in order of height."""
    return height.to_bytes(8, "big")
