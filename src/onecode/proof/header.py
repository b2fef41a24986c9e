"""CometBFT's headers, commits and validator sets, and how the engine hashes and signs them.

Source: CometBFT v0.39 `types/block.go`, `types/validator.go`, `types/canonical.go`, `crypto/merkle` (v0.38 has the same
bytes). On our wire they are messages of our own CBOR; hashes and signatures are over the engine's protobuf. Times are
whole nanoseconds since the epoch, the precision that was signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from onecode.proof.protobuf import bytes_field, message_field, sfixed64_field, timestamp, uvarint, varint_field
from onecode.schema import Bytes, Choice, ListOf, Message, Nested, Text, Uint, item
from onecode.wire import CHAIN_ID_CHARS_MAX, sha256

VALIDATORS_MAX = 200
INT64_MAX = (1 << 63) - 1
POWER_MAX = INT64_MAX // 8  # CometBFT's bound for the sum; sums here are exact whatever they are
PRECOMMIT = 2

_HASH = Bytes(0, 32)  # empty where the engine has nothing to hash; the header's own hash binds what it is


class VoteFlag(IntEnum):
    """What a validator did in the round of a commit."""

    ABSENT = 1
    COMMIT = 2
    NIL = 3


class BlockId(Message):
    """Hash of a block's header and of the parts it was sent in; all empty in the first header's `last_block_id`."""

    hash: bytes = item(1, _HASH)
    parts_total: int = item(2, Uint((1 << 32) - 1))
    parts_hash: bytes = item(3, _HASH)


class Header(Message):
    """A block's header. `app_hash` is the state after the block before this one."""

    block_version: int = item(1, Uint())
    app_version: int = item(2, Uint())
    chain_id: str = item(3, Text(CHAIN_ID_CHARS_MAX))
    height: int = item(4, Uint(INT64_MAX))
    time_ns: int = item(5, Uint())
    last_block_id: BlockId = item(6, Nested(BlockId))
    last_commit_hash: bytes = item(7, _HASH)
    data_hash: bytes = item(8, _HASH)
    validators_hash: bytes = item(9, Bytes(32))
    next_validators_hash: bytes = item(10, Bytes(32))
    consensus_hash: bytes = item(11, _HASH)
    app_hash: bytes = item(12, _HASH)
    last_results_hash: bytes = item(13, _HASH)
    evidence_hash: bytes = item(14, _HASH)
    proposer_address: bytes = item(15, Bytes(20))


class CommitVote(Message):
    """One validator's vote, at the validator's place in the set. An absent validator has the flag alone."""

    flag: VoteFlag = item(1, Choice(VoteFlag))
    validator_address: bytes | None = item(2, Bytes(20), default=None)
    timestamp_ns: int | None = item(3, Uint(), default=None)
    signature: bytes | None = item(4, Bytes(64), default=None)


class Commit(Message):
    """The votes that decided a block: one entry for each validator of the set, in the set's order."""

    height: int = item(1, Uint(INT64_MAX))
    round: int = item(2, Uint((1 << 31) - 1))
    block_id: BlockId = item(3, Nested(BlockId))
    votes: tuple[CommitVote, ...] = item(4, ListOf(Nested(CommitVote), VALIDATORS_MAX, min=1))


class SignedHeader(Message):
    """A header and the commit for it."""

    header: Header = item(1, Nested(Header))
    commit: Commit = item(2, Nested(Commit))


class Validator(Message):
    """A validator's Ed25519 key and voting power."""

    public_key: bytes = item(1, Bytes(32))
    power: int = item(2, Uint(POWER_MAX))

    @property
    def address(self) -> bytes:
        """20 bytes: the start of the key's SHA-256."""
        return sha256(self.public_key)[:20]


class ValidatorSet(Message):
    """The validators of one height, in the engine's order (power descending, then address)."""

    validators: tuple[Validator, ...] = item(1, ListOf(Nested(Validator), VALIDATORS_MAX, min=1))


def merkle_root(items: Sequence[bytes]) -> bytes:
    """RFC 6962 Merkle tree root of `items`, 32 bytes."""
    if len(items) < 2:
        return sha256(b"\0" + items[0]) if items else sha256(b"")
    split = 1 << (len(items) - 1).bit_length() - 1  # the largest power of two below the count
    return sha256(b"\1" + merkle_root(items[:split]) + merkle_root(items[split:]))


def _block_id(block: BlockId) -> bytes:
    parts = varint_field(1, block.parts_total) + bytes_field(2, block.parts_hash)
    return bytes_field(1, block.hash) + message_field(2, parts)


def header_hash(header: Header) -> bytes:
    """The block hash: Merkle root of the 14 encoded fields (the two versions are one), 32 bytes."""
    hashes = (
        header.last_commit_hash,
        header.data_hash,
        header.validators_hash,
        header.next_validators_hash,
        header.consensus_hash,
        header.app_hash,
        header.last_results_hash,
        header.evidence_hash,
        header.proposer_address,
    )
    return merkle_root(
        [
            varint_field(1, header.block_version) + varint_field(2, header.app_version),
            bytes_field(1, header.chain_id.encode("utf-8")),
            varint_field(1, header.height),
            timestamp(header.time_ns),
            _block_id(header.last_block_id),
            *[bytes_field(1, value) for value in hashes],
        ]
    )


def validators_hash(validators: ValidatorSet) -> bytes:
    """Merkle root of the set's encoded keys and powers, in the set's order, 32 bytes."""
    return merkle_root(
        [message_field(1, bytes_field(1, v.public_key)) + varint_field(2, v.power) for v in validators.validators]
    )


def vote_sign_bytes(chain_id: str, commit: Commit, timestamp_ns: int) -> bytes:
    """The bytes a validator signed for `commit.block_id` at `timestamp_ns`: a length-prefixed CanonicalVote."""
    vote = b"".join(
        (
            varint_field(1, PRECOMMIT),
            sfixed64_field(2, commit.height),
            sfixed64_field(3, commit.round),
            message_field(4, _block_id(commit.block_id)),
            message_field(5, timestamp(timestamp_ns)),
            bytes_field(6, chain_id.encode("utf-8")),
        )
    )
    return uvarint(len(vote)) + vote
