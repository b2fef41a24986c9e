"""Making a snapshot: one look at the store, every row of the state once, in the order of the sections' trees.

It runs in a process of its own (`python -m onecode.node.snapshot_making`), so that no block waits for it, at a low
priority and with one chunk in memory. The writer says on standard input which height is to be made, while that height
is the newest that can be read; the answers on standard output are `open HEIGHT`, then `made …` or `failed …`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.node.blocks import load_proven, load_state
from onecode.node.child import die_with_parent
from onecode.node.snapshots import CHUNKS_MAX, Shelf, SnapshotMetadata, save_chunk
from onecode.node.store import ReaderStore, Snapshot, StoreConfig, open_reader
from onecode.proof.map import Section
from onecode.proof.range import FIRST, LAST
from onecode.registry.chunks import CHUNK_BYTES, Beside, Chunk, Row, hanging, next_place
from onecode.registry.map import section_roots, split_value
from onecode.registry.ranges import prove_range
from onecode.registry.store import Table
from onecode.wire import sha256

NICENESS = 10


def make_snapshot(view: Snapshot, shelf: Shelf, height: int, kept: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Write the state in `view`, which is of `height`, to the shelf, which keeps the newest `kept`; returns how many
    bytes its chunks have. Raises `Misconfigured` where the store is broken."""
    place = shelf.begin(height)
    hashes: list[bytes] = []
    leaves = dict.fromkeys(Section, 0)
    size = 0
    for chunk in state_chunks(view, chunk_bytes):
        if len(hashes) == CHUNKS_MAX:
            raise Misconfigured("snapshot.too_large", f"the state does not fit into {CHUNKS_MAX} chunks")
        data = chunk.encoded()
        save_chunk(place, len(hashes), data)
        hashes.append(sha256(data))
        leaves[chunk.section] += len(chunk.rows)
        size += len(data)
    metadata = SnapshotMetadata(roots=section_roots(view), leaves=tuple(leaves.values()), chunk_hashes=b"".join(hashes))
    shelf.finish(height, metadata.encoded(), kept)
    return size


def state_chunks(view: Snapshot, chunk_bytes: int) -> Iterator[Chunk]:
    """The whole state, cut where `chunk_bytes` are full: a function of the state alone."""
    for section in Section:
        rows: list[Row] = []
        low, size, last = FIRST, 0, FIRST
        for place, row in _rows(view, section):
            if rows and size + row.size > chunk_bytes:
                yield Chunk(section, low, last, prove_range(view, section, low, last), tuple(rows))
                low, rows, size = next_place(last), [], 0
            rows.append(row)
            size += row.size
            last = place
        yield Chunk(section, low, LAST, prove_range(view, section, low, LAST), tuple(rows))


def _rows(view: Snapshot, section: Section) -> Iterator[tuple[bytes, Row]]:
    """Key hash and row of each leaf of a section, ascending by key hash."""
    for stored_key, stored in view.scan(Table.VALUES, bytes((section,))):
        if stored_key[0] != section:
            return
        key, value = split_value(stored)
        beside: tuple[Beside, ...] = ()
        if section == Section.MERCHANTS:
            found = hanging(view, key, value)
            if found is None:
                raise Misconfigured("registry.links_broken", "a merchant's links or envelopes are missing: restore")
            beside = tuple(found)
        yield stored_key[1:], Row(key, value, beside)


# --- the process


def serve(store: ReaderStore, shelf: Shelf, kept: int, chunk_bytes: int) -> None:
    """Make what is asked for on standard input, until that ends."""
    for line in sys.stdin:
        height = int(line)
        with store.snapshot() as view:
            found = load_state(view).height if load_proven(view) is not None else 0
            _say(f"open {found}")
            if found != height:
                _say(f"failed the newest provable height was {found}")
                continue
            start = time.monotonic()
            try:
                size = make_snapshot(view, shelf, height, kept, chunk_bytes)
            except (OnecodeError, OSError) as error:
                shelf.clear_unfinished()  # if the disk was full, the store needs the room
                _say(f"failed {error}".replace("\n", " "))
            else:
                _say(f"made {height} of {size} bytes in {time.monotonic() - start:.1f} s")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m onecode.node.snapshot_making", description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("map_bytes", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("kept", type=int)
    parser.add_argument("chunk_bytes", type=int)
    parser.add_argument("parent", type=int)
    arguments = parser.parse_args(given)
    die_with_parent(arguments.parent)
    os.nice(NICENESS)
    shelf = Shelf(arguments.directory)
    shelf.clear_unfinished()
    try:
        store = open_reader(arguments.store, StoreConfig(map_bytes=arguments.map_bytes))
    except Unreachable as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    serve(store, shelf, arguments.kept, arguments.chunk_bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
