"""What a file of a fork proves, and of whom; and what is no fork."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from onecode.errors import Malformed, Untrusted
from onecode.proof.header import Header, VoteFlag
from onecode.proof.light import STRICT, Trust, trusted_state
from onecode.query.fork import ForkFile, ForkKind, VerifiedFork, parse_fork, verify_fork
from onecode.query.messages import HeaderView
from vectors.proof_chain import (
    CHAIN_ID,
    MEMBERS,
    NOW_MS,
    SIX,
    TRUSTED,
    digest,
    key,
    make_header,
    replace_vote,
    signed_by,
    validator_set,
)

TRUST = Trust(trusted_state(TRUSTED, MEMBERS))
COMMON = HeaderView(header=signed_by(TRUSTED, SIX), validators=MEMBERS)
TRUE = make_header(20, MEMBERS)


def view(header: Header, names: list[Any] = SIX, **changes: Any) -> HeaderView:
    return HeaderView(header=signed_by(header, names, **changes), validators=MEMBERS)


def fork(second: HeaderView, first: HeaderView | None = None, **changes: Any) -> ForkFile:
    file = ForkFile(chain_id=CHAIN_ID, common=COMMON, first=(first or view(TRUE),), second=(second,))
    return dataclasses.replace(file, **changes)


def found(file: ForkFile, trust: Trust = TRUST) -> VerifiedFork:
    return verify_fork(parse_fork(file.encoded()), trust, NOW_MS)


def keys(names: list[int]) -> set[bytes]:
    return {key(name).public for name in names}


def test_two_blocks_of_one_round_are_the_guilt_of_all_who_signed_both() -> None:
    other = view(dataclasses.replace(TRUE, data_hash=digest("other")), [0, 1, 2, 3, 4, None])
    file = found(fork(other, view(TRUE, [None, 1, 2, 3, 4, 5])))
    assert file.kind is ForkKind.EQUIVOCATION
    assert set(file.guilty) == keys([1, 2, 3, 4])
    assert (set(file.first_signers), set(file.second_signers)) == (keys([1, 2, 3, 4, 5]), keys([0, 1, 2, 3, 4]))


def test_a_vote_that_nobody_needed_counts_for_guilt_and_a_forged_one_does_not() -> None:
    other = view(dataclasses.replace(TRUE, data_hash=digest("other")))
    forged = dataclasses.replace(other, header=replace_vote(other.header, 5, signature=bytes(64)))
    nil = dataclasses.replace(other, header=replace_vote(other.header, 5, flag=VoteFlag.NIL))
    assert set(found(fork(other)).guilty) == keys(SIX)
    assert set(found(fork(forged)).guilty) == set(found(fork(nil)).guilty) == keys([0, 1, 2, 3, 4])


def test_two_rounds_prove_nobodys_guilt() -> None:
    other = view(dataclasses.replace(TRUE, data_hash=digest("other")), round=1)
    file = found(fork(other))
    assert (file.kind, file.guilty) == (ForkKind.AMNESIA, ())
    assert set(file.first_signers) == set(file.second_signers) == keys(SIX)


@pytest.mark.parametrize("field", ["app_hash", "last_results_hash", "next_validators_hash", "consensus_hash"])
def test_another_result_is_made_up(field: str) -> None:
    assert found(fork(view(dataclasses.replace(TRUE, **{field: digest("made up")})))).kind is ForkKind.MADE_UP


def test_validators_of_its_own_making_need_a_third_of_the_trusted_power() -> None:
    mixed = validator_set([0, 1, 2, "x"])
    made = HeaderView(header=signed_by(make_header(20, mixed), [0, 1, 2, "x"]), validators=mixed)
    file = found(fork(made))
    assert (file.kind, set(file.guilty), set(file.second_signers)) == (
        ForkKind.MADE_UP,
        keys([0, 1, 2]),
        keys([0, 1, 2]),
    )
    with pytest.raises(Untrusted) as caught:
        found(fork(made), dataclasses.replace(TRUST, skip=STRICT))
    assert caught.value.code == "header.not_enough_trust"


def test_a_lower_header_that_is_no_earlier_contradicts() -> None:
    early = view(dataclasses.replace(make_header(30, MEMBERS), time_ns=TRUE.time_ns))
    assert (found(fork(early)).kind, found(fork(early)).guilty) == (ForkKind.AHEAD, ())
    later = view(dataclasses.replace(make_header(30, MEMBERS), time_ns=TRUE.time_ns + 1))
    with pytest.raises(Untrusted) as caught:
        found(fork(later))
    assert caught.value.code == "fork.none"


def test_a_branch_goes_over_headers_between() -> None:
    strangers = validator_set(["x", "y"])
    step = HeaderView(header=signed_by(make_header(11, MEMBERS, strangers), SIX), validators=MEMBERS)
    end = HeaderView(
        header=signed_by(make_header(12, strangers, app_hash=digest("made up")), ["x", "y"]), validators=strangers
    )
    file = dataclasses.replace(fork(end, view(make_header(12, MEMBERS))), second=(step, end))
    assert found(file).second.validators == strangers
    with pytest.raises(Untrusted) as caught:
        found(dataclasses.replace(file, second=(end,)))
    assert caught.value.code == "header.not_enough_trust"


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (fork(view(TRUE)), "fork.none"),
        (fork(view(TRUE, round=1)), "fork.none"),
        (fork(view(TRUE), chain_id="onecode-other"), "fork.chain"),
        (fork(view(dataclasses.replace(TRUE, app_hash=bytes(32)), [0, 1, 2, 3, None, None])), "header.power"),
        (fork(view(dataclasses.replace(TRUE, chain_id="onecode-other"))), "header.chain_id"),
        (fork(view(TRUE), common=view(make_header(9, MEMBERS))), "header.not_higher"),
    ],
    ids=["the same", "the same of another round", "another chain", "two thirds", "a branch elsewhere", "common below"],
)
def test_what_is_no_fork(file: ForkFile, code: str) -> None:
    with pytest.raises(Untrusted) as caught:
        found(file)
    assert caught.value.code == code


def test_a_common_header_above_the_trusted_one_is_verified_too() -> None:
    middle = view(make_header(15, MEMBERS))
    assert found(fork(view(dataclasses.replace(TRUE, app_hash=bytes(32))), common=middle)).common.header.height == 15


def test_no_file_at_all() -> None:
    with pytest.raises(Malformed):
        parse_fork(b"\xff")
