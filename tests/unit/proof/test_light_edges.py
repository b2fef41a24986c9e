"""Edges of the light client that decide by one vote, one millisecond or one set."""

from __future__ import annotations

import dataclasses

import pytest

from onecode.errors import Untrusted
from onecode.proof.header import header_hash
from onecode.proof.light import Trust, trusted_state, verify_commit, verify_header
from vectors.proof_chain import (
    LATER,
    MEMBERS,
    NEXT,
    NOW_MS,
    SIX,
    TRUSTED,
    make_header,
    replace_vote,
    signed_by,
    validator_set,
)


def test_the_trusted_header_itself_passes_where_the_next_validators_are_trusted() -> None:
    """No trusted power is asked of a header that is trusted already, and the next set need not have signed it."""
    others = validator_set(["a", "b", "c"])
    header = make_header(10, MEMBERS, others)
    trust = Trust(trusted_state(header, others))
    assert verify_header(signed_by(header, SIX), MEMBERS, trust, NOW_MS).header_hash == header_hash(header)


def test_a_vote_without_power_is_not_read() -> None:
    """Its signature is nobody's business: it adds nothing and moves no median."""
    members = validator_set([0, 1, 2, 3], [0, 10, 10, 10])
    signed = replace_vote(signed_by(make_header(11, members), [0, 1, 2, 3]), 0, signature=bytes(64), timestamp_ns=1)
    commit = verify_commit(signed, header_hash(signed.header), members)
    assert (commit.power, commit.power_total) == (30, 30)
    assert commit.signed_ms == NOW_MS - 2_000 + 20


def test_a_strangers_vote_is_not_read_for_trust() -> None:
    """After a gap, trusted votes alone count towards the third; the stranger's forged one is met in step 11."""
    mixed = validator_set(["x", 0, 1, 2])
    header = make_header(20, mixed)
    forged = replace_vote(signed_by(header, ["x", 0, 1, 2]), 0, signature=bytes(64))
    with pytest.raises(Untrusted) as caught:
        verify_header(forged, mixed, Trust(trusted_state(TRUSTED, MEMBERS)), NOW_MS)
    assert caught.value.code == "header.signature"
    few = validator_set(["x", 0, "y", "z"])
    forged = replace_vote(signed_by(make_header(20, few), ["x", 0, "y", "z"]), 0, signature=bytes(64))
    with pytest.raises(Untrusted) as caught:
        verify_header(forged, few, Trust(trusted_state(TRUSTED, MEMBERS)), NOW_MS)
    assert caught.value.code == "header.not_enough_trust"  # before the stranger's vote is looked at


def test_the_trusting_period_ends_to_the_nanosecond() -> None:
    trust = Trust(trusted_state(dataclasses.replace(TRUSTED, time_ns=TRUSTED.time_ns // 10**6 * 10**6), MEMBERS))
    end_ms = trust.state.header.time_ns // 10**6 + trust.trusting_period_ms
    late = dataclasses.replace(LATER, time_ns=(end_ms - 10) * 10**6)
    assert verify_header(signed_by(late, SIX), MEMBERS, trust, end_ms - 1).header == late
    with pytest.raises(Untrusted) as caught:
        verify_header(signed_by(late, SIX), MEMBERS, trust, end_ms)
    assert caught.value.code == "header.trust_expired"


def test_times_bound_exclusively() -> None:
    trust = Trust(trusted_state(TRUSTED, MEMBERS))
    after = dataclasses.replace(NEXT, time_ns=TRUSTED.time_ns + 1)
    assert verify_header(signed_by(after, SIX), MEMBERS, trust, NOW_MS).header == after
    ahead = dataclasses.replace(NEXT, time_ns=(NOW_MS + 5_000) * 10**6 - 1)
    assert verify_header(signed_by(ahead, SIX), MEMBERS, trust, NOW_MS).header == ahead
