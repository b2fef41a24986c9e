"""A chain for tests of audit files: real transactions under headers that its validators sign, who change once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest

from onecode.node.solo_chain import commit_hash, data_hash, results_hash
from onecode.proof.governance import DAY_MS, ProposalKind, ValidatorLeaf
from onecode.proof.header import (
    BlockId,
    Commit,
    CommitVote,
    Header,
    SignedHeader,
    Validator,
    ValidatorSet,
    VoteFlag,
    header_hash,
    merkle_root,
    validators_hash,
    vote_sign_bytes,
)
from onecode.proof.protobuf import bytes_field, message_field, sfixed64_field, timestamp, uvarint, varint_field
from onecode.registry.application import BlockOutcome, TransactionResult
from onecode.registry.genesis import Genesis
from onecode.registry.span import FORMAT, SpanEnd, SpanFrame, SpanManifest, SpanResult, framed
from onecode.schema import Message
from onecode.wire import SigningKey
from unit.registry import world as registry_world
from unit.registry.world import World, signing_key

CHAIN = "onecode-span"
ABSENT = CommitVote(flag=VoteFlag.ABSENT)
ADDED = "the fourth"


@dataclasses.dataclass(frozen=True)
class Block:
    """A decided block: `validators` are those of the leaf after it."""

    time_ms: int
    transactions: tuple[bytes, ...]
    results: tuple[TransactionResult, ...]
    app_hash: bytes
    validators: tuple[ValidatorLeaf, ...]


class Recorded(World):
    """A world that keeps its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.first_hash = self.app_hash

    def block(self, *transactions: bytes, seconds: float = 1) -> BlockOutcome:
        outcome = super().block(*transactions, seconds=seconds)
        validators = self.state.validators().validators
        self.blocks.append(Block(self.time_ms, transactions, tuple(outcome.results), outcome.app_hash, validators))
        return outcome


@dataclasses.dataclass(frozen=True)
class Chain:
    """What an audit file is made of; `now_ms` is a moment after it."""

    genesis: Genesis
    frames: tuple[SpanFrame, ...]
    end: SpanEnd
    now_ms: int

    def file(self, first: int = 1, last: int | None = None) -> bytes:
        """The file of a span."""
        last = len(self.frames) if last is None else last
        manifest = SpanManifest(format=FORMAT, chain_id=CHAIN, from_height=first, to_height=last)
        frames = list(self.frames[first - 1 : last])
        frames[0] = dataclasses.replace(frames[0], validators=self.validators(first))
        after: Message = self.end
        if last < len(self.frames):
            after = SpanEnd(header=self.frames[last].header, validators=self.frames[last].validators)
        return b"".join(map(framed, (manifest, *frames, after)))

    def validators(self, height: int) -> ValidatorSet:
        return next(one.validators for one in reversed(self.frames[:height]) if one.validators is not None)


def ordered(leaves: Sequence[ValidatorLeaf]) -> ValidatorSet:
    members = [Validator(public_key=one.key, power=one.power) for one in leaves]
    return ValidatorSet(validators=tuple(sorted(members, key=lambda one: (-one.power, one.address))))


def sign(header: Header, validators: ValidatorSet, keys: dict[bytes, SigningKey], flags: Sequence[VoteFlag]) -> Any:
    """The header under a vote of each validator, as `flags` says (for the block where it says nothing)."""
    block = BlockId(hash=header_hash(header), parts_total=1, parts_hash=header_hash(header))
    commit = Commit(height=header.height, round=0, block_id=block, votes=(ABSENT,))
    votes = []
    for index, one in enumerate(validators.validators):
        flag = flags[index] if index < len(flags) else VoteFlag.COMMIT
        time_ns = header.time_ns + 1_000_000 + index
        message = (vote_sign_bytes if flag is VoteFlag.COMMIT else nil_sign_bytes)(header.chain_id, commit, time_ns)
        signature = keys[one.public_key].sign_bytes(message)
        vote = CommitVote(flag=flag, validator_address=one.address, timestamp_ns=time_ns, signature=signature)
        votes.append(ABSENT if flag is VoteFlag.ABSENT else vote)
    return SignedHeader(header=header, commit=dataclasses.replace(commit, votes=tuple(votes)))


def nil_sign_bytes(chain_id: str, commit: Commit, timestamp_ns: int) -> bytes:
    """A vote for no block has no block id at all."""
    fields = (
        varint_field(1, 2),
        sfixed64_field(2, commit.height),
        sfixed64_field(3, commit.round),
        message_field(5, timestamp(timestamp_ns)),
        bytes_field(6, chain_id.encode()),
    )
    return uvarint(len(b"".join(fields))) + b"".join(fields)


FLAGS = {  # of the four validators
    11: (VoteFlag.COMMIT, VoteFlag.ABSENT),
    12: (VoteFlag.COMMIT, VoteFlag.COMMIT, VoteFlag.NIL),
}


def sign_chain(
    genesis: Genesis,
    first_hash: bytes,
    blocks: Sequence[Block],
    keys: dict[bytes, SigningKey],
    change: Callable[[Header], Header] = lambda header: header,
) -> tuple[tuple[SpanFrame, ...], SpanEnd]:
    """Frames under headers like the engine's; `change` may alter a header before it is signed."""
    sets = {1: ordered(genesis.validators), 2: ordered(genesis.validators)}
    sets |= {height + 2: ordered(block.validators) for height, block in enumerate(blocks, start=1)}
    last: SignedHeader | None = None
    items: list[SpanFrame | SpanEnd] = []
    for height in range(1, len(blocks) + 2):
        before = blocks[height - 2] if height > 1 else None
        block = blocks[height - 1] if height <= len(blocks) else None
        members = sets[height]
        header = Header(
            block_version=11,
            app_version=1,
            chain_id=CHAIN,
            height=height,
            time_ns=(block.time_ms if block else blocks[-1].time_ms + 1000) * 1_000_000 + 17,
            last_block_id=last.commit.block_id if last else BlockId(hash=b"", parts_total=0, parts_hash=b""),
            last_commit_hash=commit_hash(last.commit) if last else merkle_root([]),
            data_hash=data_hash(block.transactions if block else ()),
            validators_hash=validators_hash(members),
            next_validators_hash=validators_hash(sets[height + 1]),
            consensus_hash=bytes(32),
            app_hash=before.app_hash if before else first_hash,
            last_results_hash=results_hash(before.results if before else ()),
            evidence_hash=merkle_root([]),
            proposer_address=members.validators[0].address,
        )
        signed = sign(change(header), members, keys, FLAGS.get(height, ()) if len(members.validators) == 4 else ())
        given = members if last is None or members != sets[height - 1] else None
        if block is None:
            items.append(SpanEnd(header=signed, validators=given))
        else:
            results = tuple(SpanResult(code=one.code, item_codes=one.item_codes) for one in block.results)
            transactions = block.transactions
            items.append(SpanFrame(header=signed, validators=given, transactions=transactions, results=results))
        last = signed
    *frames, end = items
    assert isinstance(end, SpanEnd)
    return tuple(one for one in frames if isinstance(one, SpanFrame)), end


@cache
def made() -> tuple[Recorded, dict[bytes, SigningKey]]:
    """Twelve heights: records published, replaced and withdrawn, a refused one, and a fourth validator by vote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_world, "CHAIN", CHAIN)
        world = Recorded()
        names = [f"{one.name}/validator" for one in world.platforms] + [ADDED]
        keys = {key.public: key for key in map(signing_key, names)}
        one, two = world.platforms[:2]
        first, second = world.merchants[:2]
        world.block(world.publish(one, world.first(first, one), world.first(second, one)))
        world.block()
        world.block(world.publish(two, world.first(first, two)), world.publish(one, world.publication(second, 2)))
        world.block(world.withdraw(one, first, 1), world.withdraw(one, first, 9))
        added = ValidatorLeaf(key=signing_key(ADDED).public, power=10, platform=two.id)
        members = tuple(sorted((*world.genesis.validators, added), key=lambda leaf: leaf.key))
        world.govern(ProposalKind.VALIDATOR_SET, validators=members)  # heights 5 to 7
        world.block(seconds=DAY_MS / 1000)  # height 8: it comes into force
        for _ in range(4):
            world.block()
    return world, keys


def chain(change: Callable[[Header], Header] = lambda header: header) -> Chain:
    """The chain of `made`; `change` may alter its headers before they are signed."""
    world, keys = made()
    frames, end = sign_chain(world.genesis, world.first_hash, world.blocks, keys, change)
    return Chain(world.genesis, frames, end, world.time_ms + 5_000)
