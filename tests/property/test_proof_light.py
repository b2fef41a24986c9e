"""Whatever powers and absences: a header passes when more than two thirds signed, and its time is of verified votes."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from onecode.errors import OnecodeError, Untrusted
from onecode.proof.header import SignedHeader, header_hash
from onecode.proof.light import Trust, trusted_state, verify_commit, verify_header
from onecode.schema import parse
from vectors.proof_chain import MEMBERS, NEXT, NOW_MS, SIX, TRUSTED, make_header, replace_vote, signed_by, validator_set

VOTERS = st.lists(
    st.tuples(st.integers(0, 100), st.sampled_from(["signs", "absent", "forges"]), st.integers(0, 10_000)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(VOTERS)
def test_power_is_counted_exactly_and_the_median_is_of_what_was_verified(voters: list[tuple[int, str, int]]) -> None:
    members = validator_set(range(len(voters)), [power for power, _, _ in voters])
    names = [None if what == "absent" else index for index, (_, what, _) in enumerate(voters)]
    signed = signed_by(make_header(11, members), names, [NOW_MS - late for _, _, late in voters])
    for index, (_, what, _) in enumerate(voters):
        if what == "forges":
            signed = replace_vote(signed, index, signature=bytes(64))
    total = sum(power for power, _, _ in voters)
    read: list[tuple[int, int]] = []
    expected = "header.power"
    for power, what, late in voters:
        if what == "absent" or not power:
            continue
        if what == "forges":
            expected = "header.signature"
            break
        read.append((NOW_MS - late, power))
        if sum(power for _, power in read) > Fraction(2 * total, 3):
            expected = "ok"
            break
    try:
        commit = verify_commit(signed, header_hash(signed.header), members)
    except Untrusted as error:
        assert error.code == expected
        return
    assert expected == "ok"
    assert (commit.power, commit.power_total) == (sum(power for _, power in read), total)
    spread = sorted(time_ms for time_ms, power in read for _ in range(power))
    assert commit.signed_ms == spread[(len(spread) - 1) // 2]


@settings(max_examples=100)
@given(st.data())
def test_no_altered_byte_of_a_signed_header_changes_what_is_believed(data: st.DataObject) -> None:
    """The bytes that are read may change only where nothing is: in a vote that nobody needed."""
    trust = Trust(trusted_state(TRUSTED, MEMBERS))
    signed = signed_by(NEXT, SIX)
    encoded = signed.encoded()
    at = data.draw(st.integers(0, len(encoded) - 1))
    changed = encoded[:at] + bytes((encoded[at] ^ data.draw(st.integers(1, 255)),)) + encoded[at + 1 :]
    try:
        believed = verify_header(parse(SignedHeader, changed), MEMBERS, trust, NOW_MS)
    except OnecodeError:
        return
    assert believed == verify_header(signed, MEMBERS, trust, NOW_MS)
    assert parse(SignedHeader, changed).commit.votes[:5] == signed.commit.votes[:5]
