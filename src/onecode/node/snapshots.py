"""Snapshots on disk: what a node offers to those who join by state sync. Layout: docs/spec/snapshots.md.

A snapshot is a directory named by its height, which gets that name only when all of it is durable. Whatever else lies
there was left by a crash and is removed.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onecode.errors import Malformed
from onecode.proof.map import Section, SectionRoots
from onecode.schema import Bytes, ListOf, Message, Nested, Uint, item, parse
from onecode.wire import sha256

FORMAT = 1
CHUNKS_MAX = 100_000  # as many as CometBFT takes by default
METADATA_BYTES_MAX = 32 * CHUNKS_MAX + 1_024
METADATA_FILE = "metadata"
UNFINISHED, LEAVING = ".new", ".old"

log = logging.getLogger(__name__)


class SnapshotMetadata(Message):
    """What a snapshot says of itself. Only the roots are proven by the app hash; the rest is its maker's word, and a
    chunk that does not fit it is refused."""

    roots: SectionRoots = item(1, Nested(SectionRoots))
    leaves: tuple[int, ...] = item(2, ListOf(Uint(), len(Section)))  # how many each section has
    chunk_hashes: bytes = item(3, Bytes(32, 32 * CHUNKS_MAX))  # SHA-256 of each chunk, in order

    @property
    def chunks(self) -> int:
        return len(self.chunk_hashes) // 32

    def chunk_hash(self, index: int) -> bytes:
        return self.chunk_hashes[32 * index : 32 * index + 32]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot as engines tell each other of it. Two nodes with the same state at a height make the same one."""

    height: int
    format: int
    chunks: int
    hash: bytes
    metadata: bytes


def parse_metadata(data: bytes) -> SnapshotMetadata:
    """Metadata from untrusted bytes."""
    metadata = parse(SnapshotMetadata, data, size_max=METADATA_BYTES_MAX, path="metadata")
    if len(metadata.chunk_hashes) % 32:
        raise Malformed("snapshot.metadata", "the hashes of chunks have 32 bytes each", field="metadata.chunk_hashes")
    return metadata


def snapshot_info(height: int, metadata: bytes) -> SnapshotInfo:
    return SnapshotInfo(height, FORMAT, parse_metadata(metadata).chunks, sha256(metadata), metadata)


class Shelf:
    """The snapshots of one node in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def heights(self) -> list[int]:
        """Of the snapshots that are whole, the newest first."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return sorted((int(name) for name in names if name.isascii() and name.isdecimal()), reverse=True)

    def offered(self, height_max: int) -> list[SnapshotInfo]:
        """What is offered to peers: whole snapshots up to `height_max`."""
        found = []
        for height in self.heights():
            if height <= height_max:
                with self._readable(height):
                    found.append(snapshot_info(height, (self._place(height) / METADATA_FILE).read_bytes()))
        return found

    def load_chunk(self, height: int, index: int) -> bytes | None:
        """A chunk's bytes, or None where there are none, or not those that the snapshot names."""
        with self._readable(height):
            data = (self._place(height) / _chunk_file(index)).read_bytes()
            if sha256(data) == parse_metadata((self._place(height) / METADATA_FILE).read_bytes()).chunk_hash(index):
                return data
            raise Malformed("snapshot.chunk", f"chunk {index} has not the hash that the snapshot names")
        return None

    @contextmanager
    def _readable(self, height: int) -> Iterator[None]:
        """What is damaged is removed and what cannot be read left out: peers ask, and must not end the node."""
        try:
            yield
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("the snapshot of height %d cannot be read: %s", height, error)
        except Malformed as error:
            log.error("the snapshot of height %d is damaged and removed: %s", height, error)
            self.remove(height)

    def begin(self, height: int) -> Path:
        """An empty directory for a snapshot that is to be made."""
        self.clear_unfinished()
        place = self._directory / f"{height}{UNFINISHED}"
        place.mkdir(mode=0o700, parents=True)
        return place

    def finish(self, height: int, metadata: bytes, kept: int) -> None:
        """Let a snapshot whose chunks are durable be seen; forget all but the newest `kept`."""
        place = self._directory / f"{height}{UNFINISHED}"
        write_durably(place / METADATA_FILE, metadata)
        sync_directory(place)
        self.remove(height)
        place.rename(self._place(height))
        sync_directory(self._directory)
        heights = self.heights()
        stay = [one for one in heights if one <= height][:kept]  # what is above is no state of this store
        for old in set(heights) - set(stay):
            self.remove(old)

    def remove(self, height: int) -> None:
        """Forget a snapshot; it is never seen half. The writer and the maker may both do so at one time."""
        place = self._place(height)
        leaving = place.with_name(place.name + LEAVING)
        shutil.rmtree(leaving, ignore_errors=True)
        try:
            place.rename(leaving)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the snapshot of height %d cannot be removed: %s", height, error)
        shutil.rmtree(leaving, ignore_errors=True)

    def clear_unfinished(self) -> None:
        """Remove what a crash left."""
        for suffix in (UNFINISHED, LEAVING):
            for left in self._directory.glob(f"*{suffix}"):
                shutil.rmtree(left, ignore_errors=True)

    def _place(self, height: int) -> Path:
        return self._directory / str(height)


def _chunk_file(index: int) -> str:
    return f"chunk-{index:06d}"


def save_chunk(place: Path, index: int, data: bytes) -> None:
    """Write one chunk of a snapshot that is being made."""
    write_durably(place / _chunk_file(index), data)


def write_durably(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
