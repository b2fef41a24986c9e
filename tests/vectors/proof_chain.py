"""A small chain to sign headers with: the same keys, times and hashes on every run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

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
    validators_hash,
    vote_sign_bytes,
)
from onecode.wire import SigningKey

CHAIN_ID = "onecode-vectors"
START_MS = 1_800_000_000_000
NOW_MS = START_MS + 100_000
ABSENT = CommitVote(flag=VoteFlag.ABSENT)


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def key(name: int | str) -> SigningKey:
    return SigningKey.from_seed(digest(f"validator {name}"))


def validator_set(names: Sequence[int | str], powers: Sequence[int] | None = None) -> ValidatorSet:
    """Validators in the order given."""
    pairs = zip(names, powers or [10] * len(names), strict=True)
    return ValidatorSet(validators=tuple(Validator(public_key=key(name).public, power=power) for name, power in pairs))


def make_header(height: int, members: ValidatorSet, following: ValidatorSet | None = None, **changes: Any) -> Header:
    """A header whose time is one second after that of the height before."""
    block = BlockId(hash=digest(f"block {height - 1}"), parts_total=1, parts_hash=digest(f"parts {height - 1}"))
    header = Header(
        block_version=11,
        app_version=1,
        chain_id=CHAIN_ID,
        height=height,
        time_ns=(START_MS + 1000 * height) * 1_000_000 + 123_456_789,
        last_block_id=block,
        last_commit_hash=digest("last commit"),
        data_hash=digest("data"),
        validators_hash=validators_hash(members),
        next_validators_hash=validators_hash(following or members),
        consensus_hash=digest("consensus"),
        app_hash=digest(f"app {height}"),
        last_results_hash=digest("results"),
        evidence_hash=digest("evidence"),
        proposer_address=members.validators[0].address,
    )
    return dataclasses.replace(header, **changes)


def vote(header: Header, commit: Commit, name: int | str, timestamp_ns: int, chain_id: str | None = None) -> CommitVote:
    signer = key(name)
    message = vote_sign_bytes(chain_id or header.chain_id, commit, timestamp_ns)
    address = Validator(public_key=signer.public, power=0).address
    signature = signer.sign_bytes(message)
    return CommitVote(flag=VoteFlag.COMMIT, validator_address=address, timestamp_ns=timestamp_ns, signature=signature)


def signed_by(
    header: Header,
    names: Sequence[int | str | None],
    times_ms: Sequence[int] | None = None,
    chain_id: str | None = None,
    **changes: Any,
) -> SignedHeader:
    """The header with a vote from each name, in this order; None is an absent validator."""
    block = BlockId(hash=header_hash(header), parts_total=1, parts_hash=digest("parts"))
    commit = dataclasses.replace(Commit(height=header.height, round=0, block_id=block, votes=()), **changes)
    times = times_ms or [NOW_MS - 2_000 + 10 * index for index in range(len(names))]
    votes = tuple(
        ABSENT if name is None else vote(header, commit, name, time_ms * 1_000_000 + 999_999, chain_id)
        for name, time_ms in zip(names, times, strict=True)
    )
    return SignedHeader(header=header, commit=dataclasses.replace(commit, votes=votes))


def replace_vote(signed: SignedHeader, index: int, **changes: Any) -> SignedHeader:
    votes = list(signed.commit.votes)
    votes[index] = dataclasses.replace(votes[index], **changes)
    return dataclasses.replace(signed, commit=dataclasses.replace(signed.commit, votes=tuple(votes)))


SIX = [0, 1, 2, 3, 4, 5]
MEMBERS = validator_set(SIX)
TRUSTED = make_header(10, MEMBERS)
NEXT = make_header(11, MEMBERS)
LATER = make_header(20, MEMBERS)
