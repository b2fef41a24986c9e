"""Whatever history of validators and whichever heights are left out: power is counted exactly, and bisection ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from onecode.errors import OnecodeError, Untrusted
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.query.bridge import HOPS_MAX
from onecode.query.messages import HeaderView
from onecode.wallet.headers import bridge
from vectors.proof_chain import NOW_MS, make_header, signed_by, validator_set

Members = dict[int, int]  # validator -> power


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Members], list[list[int]]]:
    """Validators of heights 1, 2, … and who signs at each; from height to height some leave, some join."""
    now: Members = draw(st.dictionaries(st.integers(0, 9), st.integers(1, 50), min_size=1, max_size=6))
    sets, signers = [], []
    for _ in range(draw(st.integers(3, 12)) + 1):
        sets.append(now)
        absent = draw(st.sets(st.sampled_from(sorted(now)), max_size=2))
        signers.append([name for name in sorted(now) if name not in absent])
        leave = draw(st.sets(st.sampled_from(sorted(now)), max_size=3))
        join = draw(st.dictionaries(st.integers(0, 9), st.integers(1, 50), max_size=3))
        now = ({name: power for name, power in now.items() if name not in leave} | join) or now
    return sets, signers


def view(sets: Sequence[Members], signers: Sequence[Sequence[int]], height: int) -> HeaderView:
    def members(at: Members) -> tuple[list[int], list[int]]:
        return sorted(at), [at[name] for name in sorted(at)]

    own, following = validator_set(*members(sets[height - 1])), validator_set(*members(sets[height]))
    names = [name if name in signers[height - 1] else None for name in sorted(sets[height - 1])]
    return HeaderView(header=signed_by(make_header(height, own, following), names), validators=own)


def enough(members: Members, signers: Sequence[int], part: Fraction) -> bool:
    return sum(members.get(name, 0) for name in signers) > part * sum(members.values())


def trust_in(first: HeaderView, skip: tuple[int, int]) -> Trust:
    return Trust(trusted_state(first.header.header, first.validators), skip=skip)


SKIPS = st.sampled_from([(1, 3), (1, 2), (2, 3)])


@settings(max_examples=100, deadline=None)
@given(histories(), SKIPS, st.data())
def test_a_step_is_as_an_oracle_counts_it(
    history: tuple[list[Members], list[list[int]]], skip: tuple[int, int], data: st.DataObject
) -> None:
    sets, signers = history
    low = data.draw(st.integers(1, len(sets) - 2))
    high = data.draw(st.integers(low + 1, len(sets) - 1))
    expected = "ok"
    if high > low + 1 and not enough(sets[low - 1], signers[high - 1], Fraction(*skip)):
        expected = "header.not_enough_trust"
    elif not enough(sets[high - 1], signers[high - 1], Fraction(2, 3)):
        expected = "header.power"
    goal = view(sets, signers, high)
    try:
        verify_header(goal.header, goal.validators, trust_in(view(sets, signers, low), skip), NOW_MS)
        found = "ok"
    except Untrusted as error:
        found = error.code
    assert found == expected


@settings(max_examples=100, deadline=None)
@given(histories(), SKIPS)
def test_bisection_ends_and_goes_only_over_steps_that_hold(
    history: tuple[list[Members], list[list[int]]], skip: tuple[int, int]
) -> None:
    sets, signers = history
    last, fetched = len(sets) - 1, list[int]()

    async def fetch(height: int) -> HeaderView:
        fetched.append(height)
        return view(sets, signers, height)

    def holds(low: int, high: int) -> bool:
        skipped = high == low + 1 or enough(sets[low - 1], signers[high - 1], Fraction(*skip))
        return skipped and enough(sets[high - 1], signers[high - 1], Fraction(2, 3))

    goal = view(sets, signers, last)
    try:
        path = asyncio.run(bridge(trust_in(view(sets, signers, 1), skip), goal, fetch, NOW_MS))
    except OnecodeError as error:
        assert error.code == "header.power"  # only a header between, or the last one, that too few signed
        assert any(not enough(sets[at - 1], signers[at - 1], Fraction(2, 3)) for at in [*fetched, last])
    else:
        way = [1, *(one.header.header.height for one in path), last]
        assert all(holds(low, high) for low, high in itertools.pairwise(way))
    assert len(fetched) <= HOPS_MAX
    assert len(set(fetched)) == len(fetched)
