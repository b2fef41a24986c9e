"""The newest decided block, for the query workers before it is durable in the store.

The store shows a block only once the next header proves it. What the block did is decided before: the engine keeps it,
and gives it again after any crash. So the writer puts it into a file of its own, replaced in one step, before anybody
is told that a transaction of it is decided: whoever asks any worker after that finds it. The file outlives the writer,
and so it should: the block stays decided. It is not synced; what a power cut takes comes again with the replay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from onecode.errors import Malformed, Misconfigured
from onecode.node.blocks import StoredBlock, load_state
from onecode.proof.leaves import HASH
from onecode.query.messages import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, BlockResult
from onecode.registry.narrowing import Narrowing, narrowing_of
from onecode.registry.store import Reader
from onecode.schema import ListOf, Message, Nested, Uint, item, parse
from onecode.wire import sha256

HEIGHT_BYTES = 8
HASH_BYTES = 32


class DecidedBlock(Message):
    """A decided block: the hashes of its transactions and what came of each; of one that stands in it twice, the
    first time."""

    height: int = item(1, Uint())
    time_ms: int = item(2, Uint())
    hashes: tuple[bytes, ...] = item(3, ListOf(HASH, BLOCK_TRANSACTIONS_MAX))
    results: tuple[BlockResult, ...] = item(4, ListOf(Nested(BlockResult), BLOCK_TRANSACTIONS_MAX))


def save_decided(path: Path, block: StoredBlock, places: Mapping[bytes, int]) -> None:
    """Put a block in the place of the one before; the caller is the only writer. places: of its transactions, by hash.
    Raises `Misconfigured`."""
    decided = DecidedBlock(
        height=block.height,
        time_ms=block.time_ms,
        hashes=tuple(places),
        results=tuple(block.results[place] for place in places.values()),
    )
    new = path.with_suffix(".new")
    try:
        body = decided.encoded()
        new.write_bytes(block.height.to_bytes(HEIGHT_BYTES, "big") + sha256(body) + body)
        new.replace(path)
    except OSError as error:
        raise Misconfigured("node.decided", f"cannot write {path}: {error.strerror}: make room for it") from error


class OpenBlock:
    """A decided block with what is worked out from it once."""

    def __init__(self, block: DecidedBlock) -> None:
        self.height = block.height
        self.time_ms = block.time_ms
        self.hashes = block.hashes
        self.results = block.results

    def follows(self, reader: Reader) -> bool:
        """Whether it is the block after the state in `reader`: not proven, and not in the store."""
        return load_state(reader).height + 1 == self.height

    @cached_property
    def places(self) -> dict[bytes, int]:
        """Where in the block each transaction stands, by its hash."""
        return {hashed: index for index, hashed in enumerate(self.hashes)}

    @cached_property
    def _events(self) -> list[dict[str, Any]]:
        return [event for result in self.results if result.events for event in json.loads(result.events)]

    def narrowing(self, merchant: bytes, service: str, listed: Collection[bytes]) -> Narrowing | None:
        """What it takes from one merchant, whose proven links are those of the platforms `listed`."""
        return narrowing_of(self.height, self._events, merchant, service, listed)


class Decided:
    """What a worker reads of the writer's file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: OpenBlock | None = None

    def load(self) -> OpenBlock | None:
        """The newest decided block; None where there is none, as with `solo`. Take it before the snapshot that it is
        compared with (`OpenBlock.follows`): the snapshot then holds all blocks before it.

        A height is decided once, so the file is read whole once a height. One that a power cut left half written counts
        as none: the engine gives its block again.
        """
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with open(file, "rb") as opened:
            height = int.from_bytes(opened.read(HEIGHT_BYTES), "big")
            if self._known is None or self._known.height != height:
                hashed, body = opened.read(HASH_BYTES), opened.read()
                if sha256(body) != hashed:  # what is torn may parse: zeros within a byte string
                    return None
                try:
                    self._known = OpenBlock(parse(DecidedBlock, body, size_max=BLOCK_BYTES_MAX))
                except Malformed:
                    return None
        return self._known
