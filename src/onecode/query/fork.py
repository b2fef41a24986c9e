"""A fork in one file: two headers that contradict each other, both signed as this chain's validators sign.

Who holds such a file can show it to anybody: more than a third of the trusted power has signed what it must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from onecode.errors import Untrusted
from onecode.proof.governance import ValidatorsLeaf
from onecode.proof.header import Header
from onecode.proof.light import Trust, VerifiedHeader, find_signers, trusted_state, verify_header
from onecode.query.messages import HeaderView
from onecode.schema import ListOf, Message, Nested, Text, item, parse

BRANCH_HEADERS_MAX = 65
FORK_FILE_BYTES_MAX = 1 << 22
_MADE = ("validators_hash", "next_validators_hash", "consensus_hash", "app_hash", "last_results_hash")


class ForkFile(Message):
    """The last header that both branches share, and each branch from there to the header that differs.

    named: which platform runs which validator, as whoever made the file knew it; nothing in the file proves it.
    """

    chain_id: str = item(1, Text(50))
    common: HeaderView = item(2, Nested(HeaderView))
    first: tuple[HeaderView, ...] = item(3, ListOf(Nested(HeaderView), BRANCH_HEADERS_MAX, min=1))
    second: tuple[HeaderView, ...] = item(4, ListOf(Nested(HeaderView), BRANCH_HEADERS_MAX, min=1))
    named: ValidatorsLeaf | None = item(5, Nested(ValidatorsLeaf), default=None)


class ForkKind(StrEnum):
    """How two headers contradict each other."""

    EQUIVOCATION = "equivocation"  # one height and round: who signed both is guilty
    AMNESIA = "amnesia"  # one height, two rounds: a vote in each can be honest, but a third of the power was not
    MADE_UP = "made up"  # they state other results or validators: one is no honest validator's
    AHEAD = "ahead"  # the lower header is no earlier than the higher one: one chain is made up


@dataclass(frozen=True, slots=True)
class VerifiedFork:
    """Two headers, each established from `common`, of which at most one can be the chain's.

    guilty: keys that signed both headers in one round, which no honest validator does. first_signers, second_signers:
    keys of the common header's validators that signed each; where `kind` is `MADE_UP` or `AHEAD`, one of these two
    groups is guilty, and which one is for those to say who know the chain's true state.
    """

    kind: ForkKind
    common: VerifiedHeader
    first: VerifiedHeader
    second: VerifiedHeader
    guilty: tuple[bytes, ...]
    first_signers: tuple[bytes, ...]
    second_signers: tuple[bytes, ...]


def parse_fork(data: bytes) -> ForkFile:
    """A file of a fork, not verified."""
    return parse(ForkFile, data, size_max=FORK_FILE_BYTES_MAX, path="fork")


def verify_fork(file: ForkFile, trust: Trust, now_ms: int) -> VerifiedFork:
    """Establish a fork from its file, from a header that the checker trusts.

    1. The common header is the trusted one or verifies from it (verification.md, "Header", steps 1 to 11). 2. Each
    branch verifies from the common header, one header from the one before. 3. The last ones are of one height and
    differ, or the lower one is no earlier than the higher one. 4. Guilty is who signed both in one round.
    Does not establish which of the two is the chain's, nor what `named` says.
    """
    if file.chain_id != trust.state.header.chain_id:
        raise Untrusted("fork.chain", "the file is about another chain than the trusted one", field="chain_id")
    common = verify_header(file.common.header, file.common.validators, trust, now_ms)  # 1
    first, second = (_verify_branch(branch, common, trust, now_ms) for branch in (file.first, file.second))  # 2
    low, high = sorted((first, second), key=lambda one: one.header.height)
    ahead = low.header.height < high.header.height
    if (low.header.time_ns < high.header.time_ns) if ahead else (low.header_hash == high.header_hash):  # 3
        raise Untrusted("fork.none", "the two headers do not contradict each other", field="second")
    signed = [set(find_signers(view.header, view.validators)) for view in (file.first[-1], file.second[-1])]
    same_round = not ahead and file.first[-1].header.commit.round == file.second[-1].header.commit.round
    members = [member.public_key for member in common.validators.validators]
    return VerifiedFork(
        kind=ForkKind.AHEAD if ahead else _kind(first.header, second.header, same_round=same_round),
        common=common,
        first=first,
        second=second,
        guilty=tuple(sorted(signed[0] & signed[1])) if same_round else (),  # 4
        first_signers=tuple(key for key in members if key in signed[0]),
        second_signers=tuple(key for key in members if key in signed[1]),
    )


def _verify_branch(branch: Sequence[HeaderView], common: VerifiedHeader, trust: Trust, now_ms: int) -> VerifiedHeader:
    found = common
    for view in branch:
        step = replace(trust, state=trusted_state(found.header, found.validators))
        found = verify_header(view.header, view.validators, step, now_ms)
    return found


def _kind(first: Header, second: Header, *, same_round: bool) -> ForkKind:
    if any(getattr(first, name) != getattr(second, name) for name in _MADE):
        return ForkKind.MADE_UP
    return ForkKind.EQUIVOCATION if same_round else ForkKind.AMNESIA
