"""The light client against CometBFT's model-based cases, and what our own vectors cannot say in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import nacl.bindings as sodium
import pytest

from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.proof import light, protobuf
from onecode.proof.comet_json import signed_header_from_rpc, validators_from_rpc
from onecode.proof.header import (
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
from onecode.proof.light import Trust, VerifiedHeader, require_fresh, trusted_state, verify_commit, verify_header
from onecode.wire import signature_holds
from vectors.proof_chain import (
    LATER,
    MEMBERS,
    NEXT,
    NOW_MS,
    SIX,
    TRUSTED,
    key,
    make_header,
    replace_vote,
    signed_by,
    validator_set,
)

TRUST = Trust(trusted_state(TRUSTED, MEMBERS))
ENGINE_ALONE: dict[str, Any] = {"clock_drift_ms": 0, "block_version": None, "app_hash_bytes": None}


# --- the engine's own cases ------------------------------------------------------------------------------------------


def signed_header(value: dict[str, Any]) -> SignedHeader:
    """The cases are written by another client, which calls `parts` otherwise and writes an empty block id as null."""
    text = json.dumps(value).replace('"part_set_header"', '"parts"')
    empty = '{"hash": "", "parts": {"total": 0, "hash": ""}}'
    return signed_header_from_rpc(json.loads(text.replace('"last_block_id": null', f'"last_block_id": {empty}')))


def validators(value: dict[str, Any]) -> ValidatorSet:
    """That client keeps no order in files and sorts a set when it reads it."""
    ordered = sorted(value["validators"], key=lambda one: (-int(one["voting_power"]), one["address"]))
    return validators_from_rpc(ordered)


def time_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def single_steps(shared: Path) -> Iterator[Path]:
    return iter(sorted((shared / "vectors/light-client").glob("*.json")))


def verdict(block: dict[str, Any], trust: Trust, now_ms: int) -> tuple[str, VerifiedHeader | None]:
    try:
        signed, members = signed_header(block["signed_header"]), validators(block["validator_set"])
        return "SUCCESS", verify_header(signed, members, trust, now_ms)
    except OnecodeError as error:
        return ("NOT_ENOUGH_TRUST" if error.code == "header.not_enough_trust" else "INVALID"), None


def test_single_steps_have_the_verdicts_of_the_model(shared: Path) -> None:
    counts = {"SUCCESS": 0, "NOT_ENOUGH_TRUST": 0, "INVALID": 0}
    for path in single_steps(shared):
        case = json.loads(path.read_text())
        initial = case["initial"]
        period_ms = int(initial["trusting_period"]) // 1_000_000
        state = trusted_state(signed_header(initial["signed_header"]).header, validators(initial["next_validator_set"]))
        for step, given in enumerate(case["input"]):
            trust = Trust(state, period_ms, **ENGINE_ALONE)
            found, verified = verdict(given["block"], trust, time_ms(given["now"]))
            assert found == given["verdict"], f"{path.name}, input {step}"
            counts[found] += 1
            if verified is not None:  # the model goes on from the validators of the next height
                state = trusted_state(verified.header, validators(given["block"]["next_validator_set"]))
    assert counts == {"SUCCESS": 28, "NOT_ENOUGH_TRUST": 27, "INVALID": 7}


def test_single_steps_are_refused_for_the_reason_in_their_name(shared: Path) -> None:
    codes = {}
    for name in ("HeaderNotWithinTrustingPeriod", "LessThanTwoThirdsSign", "NonMonotonicHeight"):
        case = json.loads((shared / f"vectors/light-client/MC4_4_faulty_Test{name}.json").read_text())
        *before, last = case["input"]
        state = trusted_state(
            signed_header(case["initial"]["signed_header"]).header, validators(case["initial"]["next_validator_set"])
        )
        good = [given for given in before if given["verdict"] == "SUCCESS"]
        if good:
            block = good[-1]["block"]
            state = trusted_state(signed_header(block["signed_header"]).header, validators(block["next_validator_set"]))
        trust = Trust(state, int(case["initial"]["trusting_period"]) // 1_000_000, **ENGINE_ALONE)
        block = last["block"]
        with pytest.raises(Untrusted) as caught:
            verify_header(
                signed_header(block["signed_header"]), validators(block["validator_set"]), trust, time_ms(last["now"])
            )
        codes[name] = caught.value.code
    assert codes["HeaderNotWithinTrustingPeriod"] == "header.trust_expired"
    assert codes["NonMonotonicHeight"] == "header.not_higher"
    assert codes["LessThanTwoThirdsSign"] in {"header.power", "header.commit_size"}


def test_a_header_from_the_future_comes_without_validators(shared: Path) -> None:
    case = json.loads((shared / "vectors/light-client/MC4_4_faulty_TestHeaderFromFuture.json").read_text())
    block, initial = case["input"][0]["block"], case["initial"]
    with pytest.raises(Malformed):
        validators(block["validator_set"])
    members = validators(initial["next_validator_set"])
    trust = Trust(trusted_state(signed_header(initial["signed_header"]).header, members), **ENGINE_ALONE)
    with pytest.raises(Untrusted) as caught:
        verify_header(signed_header(block["signed_header"]), members, trust, time_ms(case["input"][0]["now"]))
    assert caught.value.code == "header.time_ahead"


@pytest.mark.parametrize(("name", "count"), [("_happy_path", 11), ("not_enough_commits", 6)])
def test_bisection_chains_hash_alike_but_for_the_older_encoding(shared: Path, name: str, count: int) -> None:
    """These are of Tendermint 0.33: fields without a protobuf wrapper, keys with a prefix; tree and order are ours."""
    blocks = json.loads((shared / f"vectors/light-client/bisection/{name}.json").read_text())["primary"]["lite_blocks"]
    assert len(blocks) == count
    for block in blocks:
        signed, members = signed_header(block["signed_header"]), validators(block["validator_set"])
        assert older_header_hash(signed.header) == signed.commit.block_id.hash != header_hash(signed.header)
        assert older_validators_hash(members) == signed.header.validators_hash != validators_hash(members)


def older_header_hash(header: Header) -> bytes:
    last = header.last_block_id
    parts = protobuf.varint_field(1, last.parts_total) + protobuf.bytes_field(2, last.parts_hash)
    items = [
        protobuf.varint_field(1, header.block_version) + protobuf.varint_field(2, header.app_version),
        bare(header.chain_id.encode()),
        protobuf.uvarint(header.height),
        protobuf.timestamp(header.time_ns),
        protobuf.bytes_field(1, last.hash) + protobuf.bytes_field(2, parts),
        bare(header.last_commit_hash),
        bare(header.data_hash),
        bare(header.validators_hash),
        bare(header.next_validators_hash),
        bare(header.consensus_hash),
        bare(header.app_hash),
        bare(header.last_results_hash),
        bare(header.evidence_hash),
        bare(header.proposer_address),
    ]
    return merkle_root(items)


def older_validators_hash(members: ValidatorSet) -> bytes:
    prefix = bytes.fromhex("1624de6420")
    return merkle_root(
        [
            protobuf.bytes_field(1, prefix + member.public_key) + protobuf.varint_field(2, member.power)
            for member in members.validators
        ]
    )


def bare(data: bytes) -> bytes:
    return protobuf.uvarint(len(data)) + data if data else b""


def test_a_caller_can_bisect() -> None:
    """A set of six that changes one validator a height: three heights are the most that one step can cross."""
    sets = {height: validator_set(range(height, height + 6)) for height in range(1, 13)}
    chain = {
        height: (signed_by(make_header(height, members, sets[height + 1]), range(height, height + 6)), members)
        for height, members in sets.items()
        if height < 12
    }
    first, members = chain[1]
    state, targets, steps = trusted_state(first.header, members), [11], []
    while targets:
        try:
            state = verify_header(*chain[targets[-1]], Trust(state), NOW_MS)
            steps.append(targets.pop())
        except Untrusted as error:
            assert error.code == "header.not_enough_trust"
            targets.append((state.header.height + targets[-1]) // 2)
    assert steps == [3, 6, 8, 11]
    assert state.header == chain[11][0].header


# --- ours ------------------------------------------------------------------------------------------------------------


def test_a_verified_header_is_the_next_trusted_state() -> None:
    verified = verify_header(signed_by(NEXT, SIX), MEMBERS, TRUST, NOW_MS)
    assert (verified.header, verified.header_hash, verified.validators) == (NEXT, header_hash(NEXT), MEMBERS)
    further = verify_header(signed_by(LATER, SIX), MEMBERS, Trust(verified), NOW_MS)
    assert further.header.height == LATER.height


def test_a_known_header_is_accepted_without_its_signatures() -> None:
    signed = signed_by(NEXT, SIX)
    verified = verify_header(signed, MEMBERS, TRUST, NOW_MS)
    known = {verified.header_hash: verified}
    stripped = dataclasses.replace(signed, commit=dataclasses.replace(signed.commit, votes=()))
    assert verify_header(stripped, MEMBERS, TRUST, NOW_MS, known) is verified
    with pytest.raises(Untrusted) as caught:
        verify_header(stripped, MEMBERS, TRUST, NOW_MS)
    assert caught.value.code == "header.commit_size"


def test_a_known_header_of_another_chain_is_refused() -> None:
    foreign = dataclasses.replace(NEXT, chain_id="another-chain")
    believed = VerifiedHeader(foreign, header_hash(foreign), MEMBERS, NOW_MS)
    with pytest.raises(Untrusted) as caught:
        verify_header(signed_by(foreign, SIX), MEMBERS, TRUST, NOW_MS, {believed.header_hash: believed})
    assert caught.value.code == "header.chain_id"


def test_the_trusted_header_itself_still_needs_its_commit() -> None:
    with pytest.raises(Untrusted) as caught:
        verify_header(signed_by(TRUSTED, [0, 1, 2, 3, None, None]), MEMBERS, TRUST, NOW_MS)
    assert caught.value.code == "header.power"


def test_each_signature_is_checked_once_and_only_while_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def counted(public: bytes, signature: bytes, message: bytes) -> bool:
        checked.append(public)
        return signature_holds(public, signature, message)

    monkeypatch.setattr(light, "vote_signature_holds", counted)
    verify_header(signed_by(LATER, SIX), MEMBERS, TRUST, NOW_MS)
    assert checked == [member.public_key for member in MEMBERS.validators[:5]]


def test_trust_is_by_key_wherever_it_stands_in_the_new_set() -> None:
    moved = validator_set(["a", "b", 5, "c", 4, 3])
    signed = signed_by(make_header(20, moved), ["a", None, 5, "c", 4, 3])
    verified = verify_header(signed, moved, TRUST, NOW_MS)
    assert verified.validators == moved


def test_validators_of_the_next_height_may_be_trusted() -> None:
    following = validator_set(["a", "b", "c"])
    trusted = make_header(10, MEMBERS, following)
    signed = signed_by(make_header(20, following), ["a", "b", "c"])
    verify_header(signed, following, Trust(trusted_state(trusted, following)), NOW_MS)
    with pytest.raises(Untrusted) as caught:
        verify_header(signed, following, Trust(trusted_state(trusted, MEMBERS)), NOW_MS)
    assert caught.value.code == "header.not_enough_trust"


def test_powers_are_counted_exactly() -> None:
    """Two thirds of 2^60 - 1 in floating point would be rounded up past the votes."""
    total = 2**60 - 1
    exact = validator_set([0, 1], [total * 2 // 3, total - total * 2 // 3])
    assert exact.validators[0].power * 3 == total * 2
    header = make_header(11, exact)
    trust = Trust(trusted_state(make_header(10, exact), exact))
    with pytest.raises(Untrusted) as caught:
        verify_header(signed_by(header, [0, None]), exact, trust, NOW_MS)
    assert caught.value.code == "header.power"
    more = validator_set([0, 1], [total * 2 // 3 + 1, total - total * 2 // 3 - 1])
    trust = Trust(trusted_state(make_header(10, more), more))
    verify_header(signed_by(make_header(11, more), [0, None]), more, trust, NOW_MS)


def test_a_set_without_power_decides_nothing() -> None:
    powerless = validator_set([0, 1], [0, 0])
    signed = signed_by(make_header(11, powerless), [0, 1])
    with pytest.raises(Untrusted) as caught:
        verify_commit(signed, header_hash(signed.header), powerless)
    assert caught.value.code == "header.power"


def test_a_forged_vote_before_there_are_enough_refuses_the_header() -> None:
    signed = replace_vote(signed_by(NEXT, SIX), 4, signature=bytes(64))
    with pytest.raises(Untrusted) as caught:
        verify_header(signed, MEMBERS, TRUST, NOW_MS)
    assert (caught.value.code, caught.value.field) == ("header.signature", "commit.votes[4]")


def test_a_vote_that_only_zip_215_accepts_counts() -> None:
    """A validator whose key has small order: every other node counts its vote, so a wallet must."""
    small = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    member = Validator(public_key=small, power=10)
    members = ValidatorSet(validators=(member,))
    header = make_header(11, members)
    blank = CommitVote(flag=VoteFlag.ABSENT)
    signed = signed_by(header, [None])
    scalar = sodium.crypto_core_ed25519_scalar_reduce(sha256(b"r").digest() * 2)
    signature = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar) + scalar
    time_ns = NOW_MS * 1_000_000
    vote = dataclasses.replace(
        blank,
        flag=VoteFlag.COMMIT,
        validator_address=member.address,
        timestamp_ns=time_ns,
        signature=signature,
    )
    signed = dataclasses.replace(signed, commit=dataclasses.replace(signed.commit, votes=(vote,)))
    assert not signature_holds(small, signature, vote_sign_bytes(header.chain_id, signed.commit, time_ns))
    trust = Trust(trusted_state(make_header(10, members), members))
    assert verify_header(signed, members, trust, NOW_MS).signed_ms == NOW_MS


def test_freshness_bounds_are_inclusive() -> None:
    verified = verify_header(signed_by(NEXT, SIX, [NOW_MS] * 6), MEMBERS, TRUST, NOW_MS)
    assert verified.signed_ms == NOW_MS
    require_fresh(verified, NOW_MS + 30_000)
    require_fresh(verified, NOW_MS - 5_000)
    require_fresh(verified, NOW_MS + 60_000, age_ms_max=60_000)
    for now_ms, code in ((NOW_MS + 30_001, "header.stale"), (NOW_MS - 5_001, "header.future")):
        with pytest.raises(Untrusted) as caught:
            require_fresh(verified, now_ms)
        assert caught.value.code == code


def test_signed_bytes_name_the_chain_height_round_block_and_time() -> None:
    signed = signed_by(NEXT, SIX)
    commit = signed.commit
    block = dataclasses.replace(commit.block_id, parts_total=9)
    others: list[tuple[str, Commit, int]] = [
        ("another", commit, 7),
        (NEXT.chain_id, dataclasses.replace(commit, height=9), 7),
        (NEXT.chain_id, dataclasses.replace(commit, round=9), 7),
        (NEXT.chain_id, dataclasses.replace(commit, block_id=block), 7),
        (NEXT.chain_id, commit, 8),
    ]
    assert len({vote_sign_bytes(*other) for other in [*others, (NEXT.chain_id, commit, 7)]}) == 6


def test_trusted_state_refuses_a_set_with_a_key_twice() -> None:
    twice = validator_set([0, 0])
    with pytest.raises(Untrusted) as caught:
        trusted_state(make_header(10, twice), twice)
    assert caught.value.code == "header.validator_twice"
    assert key(0).public == twice.validators[0].public_key
