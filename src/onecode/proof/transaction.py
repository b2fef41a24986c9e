"""Proof of what became of a transaction: where it stands in a block, and with which result.

The header of height h + 1 names the block h before it (`last_block_id`, the hash of header h, whose `data_hash` is a
Merkle root over the transactions) and holds the Merkle root over their results (`last_results_hash`). So one signed
header proves both. Trees: RFC 6962, CometBFT v0.39 `crypto/merkle/proof.go`, `types/tx.go`, `types/results.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onecode.errors import Untrusted
from onecode.proof.header import Header, SignedHeader, ValidatorSet, header_hash, merkle_root
from onecode.proof.leaves import HASH
from onecode.proof.light import VerifiedHeader
from onecode.proof.protobuf import bytes_field, varint_field
from onecode.schema import ListOf, Message, Nested, Uint, item
from onecode.wire import encode, sha256

RESULT_CODE = Uint((1 << 32) - 1)
ITEM_CODES = ListOf(RESULT_CODE, 500)  # one for each item of a batch
PLACES_MAX = 1 << 20
AUNTS = ListOf(HASH, PLACES_MAX.bit_length())


class TransactionProof(Message):
    """One transaction's place and result. The two trees have one shape: a transaction for each result."""

    header: SignedHeader = item(1, Nested(SignedHeader))  # of the height after the block's
    validators: ValidatorSet = item(2, Nested(ValidatorSet))
    block: Header = item(3, Nested(Header))  # of the block that holds the transaction
    index: int = item(4, Uint(PLACES_MAX - 1))
    total: int = item(5, Uint(PLACES_MAX))
    transaction_aunts: tuple[bytes, ...] = item(6, AUNTS)  # from the leaf up
    result_aunts: tuple[bytes, ...] = item(7, AUNTS)
    code: int = item(8, RESULT_CODE)
    item_codes: tuple[int, ...] = item(9, ITEM_CODES)


@dataclass(frozen=True, slots=True)
class VerifiedTransaction:
    """A transaction that was decided at `height`; 0 is success. `header` is of the height after, and proves it."""

    height: int
    index: int
    code: int
    item_codes: tuple[int, ...]
    header: VerifiedHeader


def result_data(item_codes: Sequence[int]) -> bytes:
    """The data of a result as the engine has it: the CBOR list of item codes, nothing where there is none."""
    return encode([int(one) for one in item_codes]) if item_codes else b""


def result_bytes(code: int, item_codes: Sequence[int]) -> bytes:
    """What the engine hashes of a result: its code and data; no gas."""
    return varint_field(1, code) + bytes_field(2, result_data(item_codes))


def merkle_aunts(items: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """For each item the hashes beside its way up to `merkle_root(items)`, from the leaf up."""
    if len(items) < 2:
        return [()] * len(items)
    split = 1 << (len(items) - 1).bit_length() - 1
    left, right = items[:split], items[split:]
    left_root, right_root = merkle_root(left), merkle_root(right)
    return [(*path, right_root) for path in merkle_aunts(left)] + [(*path, left_root) for path in merkle_aunts(right)]


def merkle_path(items: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes beside the way from the item at `index` up to `merkle_root(items)`: one of `merkle_aunts`, of which
    a long list would take much memory."""
    if len(items) < 2:
        return ()
    split = 1 << (len(items) - 1).bit_length() - 1
    if index < split:
        return (*merkle_path(items[:split], index), merkle_root(items[split:]))
    return (*merkle_path(items[split:], index - split), merkle_root(items[:split]))


def aunts_root(leaf: bytes, index: int, total: int, aunts: Sequence[bytes]) -> bytes | None:
    """The root of a tree of `total` items with `leaf` at `index`; None for another number of aunts than that has."""
    if total == 1:
        return None if aunts else sha256(b"\0" + leaf)
    if not aunts:
        return None
    split = 1 << (total - 1).bit_length() - 1
    below, aunt = aunts[:-1], aunts[-1]
    if index < split:
        node = aunts_root(leaf, index, split, below)
        return None if node is None else sha256(b"\1" + node + aunt)
    node = aunts_root(leaf, index - split, total - split, below)
    return None if node is None else sha256(b"\1" + aunt + node)


def verify_transaction_proof(
    proof: TransactionProof, transaction: bytes, header: VerifiedHeader
) -> VerifiedTransaction:
    """Establish that exactly these bytes were decided, and with which result, or raise `Untrusted`.

    1. `header`, which the caller verified, is the one in the proof;
    2. the block's header is the one that it names as the last, of its chain and the height before;
    3. the place is one of the block's;
    4. the transaction stands at that place under the block's `data_hash`;
    5. the result stands at the same place under the header's `last_results_hash`.

    Does NOT verify `header` (`verify_header`, from `proof.header` and `proof.validators`), nor how old it is, nor what
    the state holds by now: read the leaf that the transaction changed under a newer header.
    """
    if header_hash(proof.header.header) != header.header_hash:  # step 1
        raise Untrusted("transaction.header", "the proof is under another header", field="header")
    block = proof.block
    same_chain = block.chain_id == header.header.chain_id and block.height + 1 == header.header.height
    if not same_chain or header_hash(block) != header.header.last_block_id.hash:  # step 2
        raise Untrusted("transaction.block", "the block is not the one before the header", field="block")
    if proof.index >= proof.total:  # step 3
        raise Untrusted("transaction.place", "the block has no such place", field="index")
    place = (proof.index, proof.total)
    if aunts_root(sha256(transaction), *place, proof.transaction_aunts) != block.data_hash:  # step 4
        raise Untrusted(
            "transaction.absent", "the transaction does not stand there in the block", field="transaction_aunts"
        )
    result = result_bytes(proof.code, proof.item_codes)
    if aunts_root(result, *place, proof.result_aunts) != header.header.last_results_hash:  # step 5
        raise Untrusted("transaction.result", "the result is not the transaction's", field="result_aunts")
    return VerifiedTransaction(block.height, proof.index, proof.code, proof.item_codes, header)
