"""What a store keeps of the chain beside the state: blocks, signed headers, and where the state stands.

A snapshot holds the state after block h, named by `load_state`, and as a rule the signed header of h + 1, which carries
that state's app hash: `load_proven` gives both or None. Layout: docs/spec/storage.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.registry.application import TransactionResult
from onecode.registry.events import event_to_plain
from onecode.registry.store import Reader, Table, Writer, height_key
from onecode.registry.transactions import BATCH_MAX
from onecode.schema import Bytes, ListOf, Message, Nested, Uint, item, parse
from onecode.wire import encode

STATE_KEY = b"node.state"  # in META: height(8) ‖ app hash of the state in this snapshot
PROVABLE_KEY = b"node.provable"  # in META: the newest height(8) whose app hash a stored header carries
BLOCK_BYTES_MAX = 64 << 20
BLOCK_TRANSACTIONS_MAX = 1 << 20


class StoredResult(Message):
    """What became of a transaction: code and item codes are consensus, events (a JSON array) are not."""

    code: int = item(1, Uint((1 << 32) - 1))
    item_codes: tuple[int, ...] = item(2, ListOf(Uint((1 << 32) - 1), BATCH_MAX))
    events: bytes = item(3, Bytes(0, BLOCK_BYTES_MAX))


class StoredBlock(Message):
    """A decided block and what came of it."""

    height: int = item(1, Uint())
    time_ms: int = item(2, Uint())
    transactions: tuple[bytes, ...] = item(3, ListOf(Bytes(0, BLOCK_BYTES_MAX), BLOCK_TRANSACTIONS_MAX))
    results: tuple[StoredResult, ...] = item(4, ListOf(Nested(StoredResult), BLOCK_TRANSACTIONS_MAX))
    app_hash: bytes = item(5, Bytes(32))


class StoredHeader(Message):
    """A signed header and the validators who signed it."""

    signed: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))


@dataclass(frozen=True, slots=True)
class State:
    """Where a snapshot's state stands; height 0 and an empty hash before the first block."""

    height: int
    app_hash: bytes


def stored_result(result: TransactionResult) -> StoredResult:
    """A result as it is kept, its events in their plain form."""
    events = [event_to_plain(event) for event in result.events]
    return StoredResult(
        code=int(result.code),
        item_codes=tuple(map(int, result.item_codes)),
        events=json.dumps(events, separators=(",", ":")).encode("utf-8") if events else b"",
    )


def result_data(result: TransactionResult) -> bytes:
    """The bytes that an engine hashes beside the code: the CBOR list of item codes, nothing where there is none."""
    return encode([int(code) for code in result.item_codes]) if result.item_codes else b""


def load_state(reader: Reader) -> State:
    """Height and app hash of the state in this snapshot."""
    stored = reader.get(Table.META, STATE_KEY)
    return State(0, b"") if stored is None else State(int.from_bytes(stored[:8], "big"), stored[8:])


def load_block(reader: Reader, height: int) -> StoredBlock | None:
    """The block of `height` with its results."""
    stored = reader.get(Table.BLOCKS, height_key(height))
    return None if stored is None else parse(StoredBlock, stored, size_max=BLOCK_BYTES_MAX)


def load_header(reader: Reader, height: int) -> StoredHeader | None:
    """The signed header of `height`."""
    stored = reader.get(Table.HEADERS, height_key(height))
    return None if stored is None else parse(StoredHeader, stored)


def load_proven(reader: Reader) -> StoredHeader | None:
    """The signed header that carries the app hash of this snapshot's state; None where the store has not got it
    (before the first block, or while an engine replays). Without it nothing may be served from this snapshot."""
    provable = reader.get(Table.META, PROVABLE_KEY)
    if provable is None or int.from_bytes(provable, "big") != load_state(reader).height:
        return None
    return load_header(reader, int.from_bytes(provable, "big") + 1)


def put_state(writer: Writer, block: StoredBlock) -> None:
    """Record a block that has been executed, in the same transaction as its effects."""
    writer.put(Table.BLOCKS, height_key(block.height), block.encoded())
    writer.put(Table.META, STATE_KEY, height_key(block.height) + block.app_hash)


def put_header(writer: Writer, header: StoredHeader, state: State) -> None:
    """Record a signed header; it is the proof of `state` if it carries its app hash."""
    height = header.signed.header.height
    writer.put(Table.HEADERS, height_key(height), header.encoded())
    if height == state.height + 1:
        writer.put(Table.META, PROVABLE_KEY, height_key(state.height))
