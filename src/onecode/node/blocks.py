"""What a store keeps of the chain beside the state: blocks, signed headers, and where the state stands.

A snapshot holds the state after block h, named by `load_state`, and as a rule the signed header of h + 1, which carries
that state's app hash: `load_proven` gives both or None. Layout: docs/spec/storage.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.query.messages import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, BlockResult
from onecode.registry.application import TransactionResult
from onecode.registry.events import event_to_plain
from onecode.registry.results import ADMISSION_MAX
from onecode.registry.store import Reader, Table, Writer, height_key
from onecode.schema import Bytes, ListOf, Message, Nested, Uint, item, parse
from onecode.wire import sha256

STATE_KEY = b"node.state"  # in META: height(8) ‖ app hash of the state in this snapshot
PROVABLE_KEY = b"node.provable"  # in META: the newest height(8) whose app hash a stored header carries
FIRST_KEY = b"node.first"  # in META: the lowest height(8) whose block and header are kept; absent: 1
PRUNED_A_BLOCK = 16  # heights forgotten with each new one, so that a smaller `keep_blocks` catches up


class StoredBlock(Message):
    """A decided block and what came of it."""

    height: int = item(1, Uint())
    time_ms: int = item(2, Uint())
    transactions: tuple[bytes, ...] = item(3, ListOf(Bytes(0, BLOCK_BYTES_MAX), BLOCK_TRANSACTIONS_MAX))
    results: tuple[BlockResult, ...] = item(4, ListOf(Nested(BlockResult), BLOCK_TRANSACTIONS_MAX))
    app_hash: bytes = item(5, Bytes(32))


class StoredHeader(Message):
    """A signed header and the validators who signed it."""

    signed: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))


@dataclass(frozen=True, slots=True)
class State:
    """Where a snapshot's state stands: height 0 before the first block, with an empty hash before the genesis."""

    height: int
    app_hash: bytes


def stored_result(result: TransactionResult) -> BlockResult:
    """A result as it is kept, its events in their plain form."""
    events = [event_to_plain(event) for event in result.events]
    return BlockResult(
        code=int(result.code),
        item_codes=tuple(map(int, result.item_codes)),
        events=json.dumps(events, separators=(",", ":")).encode("utf-8") if events else b"",
    )


def load_state(reader: Reader) -> State:
    """Height and app hash of the state in this snapshot."""
    stored = reader.get(Table.META, STATE_KEY)
    return State(0, b"") if stored is None else State(int.from_bytes(stored[:8], "big"), stored[8:])


def load_block(reader: Reader, height: int) -> StoredBlock | None:
    """The block of `height` with its results."""
    stored = reader.get(Table.BLOCKS, height_key(height))
    return None if stored is None else parse(StoredBlock, stored, size_max=BLOCK_BYTES_MAX)


def load_first(reader: Reader) -> int:
    """The lowest height whose block and header are kept."""
    first = reader.get(Table.META, FIRST_KEY)
    return 1 if first is None else int.from_bytes(first, "big")


def load_place(reader: Reader, transaction_hash: bytes) -> tuple[int, int] | None:
    """Height and index of a transaction in a kept block."""
    place = reader.get(Table.TRANSACTIONS, transaction_hash)
    return None if place is None else (int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big"))


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


def put_genesis(writer: Writer, app_hash: bytes) -> None:
    """Record the state before block 1."""
    writer.put(Table.META, STATE_KEY, height_key(0) + app_hash)


def put_state(writer: Writer, block: StoredBlock) -> None:
    """Record a block that has been executed, in the same transaction as its effects."""
    writer.put(Table.BLOCKS, height_key(block.height), block.encoded())
    writer.put(Table.META, STATE_KEY, height_key(block.height) + block.app_hash)
    for index, (transaction, result) in enumerate(zip(block.transactions, block.results, strict=True)):
        hashed = sha256(transaction)
        # The same bytes again are a replay that was refused: what they did the first time is what is asked for.
        if result.code == 0 or result.code > ADMISSION_MAX or writer.get(Table.TRANSACTIONS, hashed) is None:
            writer.put(Table.TRANSACTIONS, hashed, height_key(block.height) + index.to_bytes(4, "big"))


def prune(writer: Writer, height: int, keep_blocks: int) -> None:
    """Forget blocks and headers below the newest `keep_blocks` heights up to `height`; with 0 nothing is forgotten."""
    if not keep_blocks:
        return
    first = load_first(writer)
    end = min(height - keep_blocks + 1, first + PRUNED_A_BLOCK)
    for old in range(first, end):
        block = load_block(writer, old)
        for transaction in block.transactions if block is not None else ():
            hashed = sha256(transaction)
            place = load_place(writer, hashed)
            if place is not None and place[0] == old:
                writer.delete(Table.TRANSACTIONS, hashed)
        writer.delete(Table.BLOCKS, height_key(old))
        writer.delete(Table.HEADERS, height_key(old))
    if end > first:
        writer.put(Table.META, FIRST_KEY, height_key(end))


def put_header(writer: Writer, header: StoredHeader, state: State) -> None:
    """Record a signed header; it is the proof of `state` if it carries its app hash."""
    height = header.signed.header.height
    writer.put(Table.HEADERS, height_key(height), header.encoded())
    if height == state.height + 1:
        writer.put(Table.META, PROVABLE_KEY, height_key(state.height))
