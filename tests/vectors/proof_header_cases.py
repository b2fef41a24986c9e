"""Header cases: what `verify_header` and `require_fresh` are given, one defect at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from onecode.proof.header import BlockId, CommitVote, Header, SignedHeader, ValidatorSet, VoteFlag, header_hash
from onecode.schema import to_plain
from vectors.proof_chain import (
    LATER,
    MEMBERS,
    NEXT,
    NOW_MS,
    SIX,
    TRUSTED,
    digest,
    make_header,
    replace_vote,
    signed_by,
    validator_set,
    vote,
)

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
Case = dict[str, Any]


def header_case(
    what: str,
    expect: str,
    signed: SignedHeader,
    validators: ValidatorSet = MEMBERS,
    trusted: Header = TRUSTED,
    trusted_validators: ValidatorSet = MEMBERS,
    now_ms: int = NOW_MS,
    signed_ms: int | None = None,
) -> Case:
    case: Case = {
        "what": what,
        "expect": expect,
        "now_ms": now_ms,
        "trusted_header": to_plain(trusted),
        "trusted_validators": to_plain(trusted_validators),
        "signed_header": to_plain(signed),
        "validators": to_plain(validators),
    }
    if signed_ms is not None:
        case |= {"header_hash": header_hash(signed.header).hex(), "signed_ms": signed_ms}
    return case


def good_headers() -> Iterator[tuple[str, Case]]:
    first_five = NOW_MS - 2_000 + 20  # the third of the first five votes: 5 of 6 is the first majority above 2/3
    yield "ok-adjacent", header_case("the next height, all signed", "ok", signed_by(NEXT, SIX), signed_ms=first_five)
    yield "ok-skipping", header_case("ten heights on", "ok", signed_by(LATER, SIX), signed_ms=first_five)
    yield "ok-trusted-itself", header_case("the trusted one again", "ok", signed_by(TRUSTED, SIX), signed_ms=first_five)
    some = signed_by(NEXT, [0, None, 2, 3, 4, 5])
    yield (
        "ok-absent-vote",
        header_case("one of six is absent", "ok", some, signed_ms=NOW_MS - 2_000 + 30),
    )
    weights = validator_set(["heavy", 1, 2, 3], [40, 21, 20, 19])
    times = [NOW_MS - 9_000, NOW_MS - 3_000, NOW_MS - 2_000, NOW_MS - 1_000]
    heavy = signed_by(make_header(11, weights), ["heavy", 1, 2, 3], times)
    yield (
        "ok-median-by-power",
        header_case(
            "81 of 100 are read; half of that is reached with the second time, not the first",
            "ok",
            heavy,
            weights,
            make_header(10, weights),
            weights,
            signed_ms=NOW_MS - 3_000,
        ),
    )
    even = signed_by(make_header(11, validator_set([0, 1])), [0, 1], [NOW_MS - 900, NOW_MS - 500])
    pair = validator_set([0, 1])
    yield (
        "ok-median-is-the-lower",
        header_case("two equal votes", "ok", even, pair, make_header(10, pair), pair, signed_ms=NOW_MS - 900),
    )
    forged = replace_vote(signed_by(NEXT, SIX), 5, timestamp_ns=(NOW_MS + 900_000) * 1_000_000, signature=bytes(64))
    yield (
        "ok-forged-vote-after-enough",
        header_case("a forged vote that nobody needs moves no median", "ok", forged, signed_ms=first_five),
    )
    mixed = validator_set([0, 1, 2, "a", "b", "c"])
    third = signed_by(make_header(20, mixed), [0, 1, 2, "a", "b", "c"])
    yield (
        "ok-trust-above-one-third",
        header_case("30 of 60 trusted signed", "ok", third, mixed, signed_ms=first_five),
    )


def altered_fields() -> Iterator[tuple[str, Case]]:
    """Every field of the header, changed after it was signed."""
    signed = signed_by(NEXT, SIX)
    codes = {
        "block_version": "header.block_version",
        "chain_id": "header.chain_id",
        "height": "header.commit_height",
        "validators_hash": "header.next_validators",
    }
    for field in dataclasses.fields(Header):
        value = getattr(NEXT, field.name)
        if isinstance(value, int):
            value += 1
        elif isinstance(value, str):
            value += "x"
        elif isinstance(value, bytes):
            value = bytes((value[0] ^ 1,)) + value[1:]
        else:
            value = dataclasses.replace(value, parts_total=2)
        header = dataclasses.replace(NEXT, **{field.name: value})
        expect = codes.get(field.name, "header.commit_block")
        name = field.name.replace("_", "-")
        yield (
            f"{name}-altered",
            header_case(f"{field.name} is not what was signed", expect, replace_header(signed, header)),
        )


def replace_header(signed: SignedHeader, header: Header) -> SignedHeader:
    return dataclasses.replace(signed, header=header)


def bad_headers() -> Iterator[tuple[str, Case]]:
    foreign = signed_by(dataclasses.replace(NEXT, chain_id="another-chain"), SIX)
    yield "chain-id-wrong", header_case("a sound header of another chain", "header.chain_id", foreign)
    crossed = signed_by(NEXT, SIX, chain_id="another-chain")
    yield "chain-id-wrong-in-votes", header_case("votes for another chain", "header.signature", crossed)
    version = signed_by(dataclasses.replace(NEXT, block_version=12), SIX)
    yield "block-version-unknown", header_case("another block protocol", "header.block_version", version)
    empty = signed_by(dataclasses.replace(NEXT, app_hash=b""), SIX)
    yield "app-hash-empty", header_case("a chain without a registry", "header.app_hash_size", empty)
    after = TRUSTED.time_ns // 1_000_000 + 14 * 86_400_000 + 1
    yield (
        "trust-expired",
        header_case("past the trusting period", "header.trust_expired", signed_by(NEXT, SIX), now_ms=after),
    )
    fork = signed_by(dataclasses.replace(TRUSTED, data_hash=digest("fork")), SIX)
    yield "height-same", header_case("another header of the trusted height", "header.not_higher", fork)
    yield (
        "height-lower",
        header_case("below the trusted one", "header.not_higher", signed_by(make_header(9, MEMBERS), SIX)),
    )
    same = signed_by(dataclasses.replace(NEXT, time_ns=TRUSTED.time_ns), SIX)
    yield "time-same", header_case("not later than the trusted one", "header.time_not_later", same)
    ahead = signed_by(dataclasses.replace(NEXT, time_ns=(NOW_MS + 5_000) * 1_000_000), SIX)
    yield "time-ahead", header_case("exactly the clock drift ahead", "header.time_ahead", ahead)
    old = signed_by(NEXT, SIX, [NOW_MS - 30_001] * 6)
    yield "stale", header_case("signed 30.001 s ago", "header.stale", old)
    early = signed_by(NEXT, SIX, [NOW_MS + 5_001] * 6)
    yield "future", header_case("signed 5.001 s from now", "header.future", early)


def bad_validators() -> Iterator[tuple[str, Case]]:
    swapped = validator_set([1, 0, 2, 3, 4, 5])
    yield "validators-swapped", header_case("two places exchanged", "header.validators", signed_by(NEXT, SIX), swapped)
    richer = validator_set(SIX, [10, 10, 10, 10, 10, 11])
    yield "validators-power-altered", header_case("one power raised", "header.validators", signed_by(NEXT, SIX), richer)
    twice = validator_set([0, 1, 2, 3, 3, 3])
    sixfold = signed_by(make_header(20, twice), [0, 1, 2, 3, 3, 3])
    yield "validator-twice", header_case("one key at three places", "header.validator_twice", sixfold, twice)
    others = validator_set(["a", "b", "c"])
    usurped = signed_by(make_header(11, others), ["a", "b", "c"])
    yield (
        "validators-not-announced",
        header_case("the next height by strangers", "header.next_validators", usurped, others),
    )
    mixed = validator_set([0, 1, "a", "b", "c", "d"])
    third = signed_by(make_header(20, mixed), [0, 1, "a", "b", "c", "d"])
    yield (
        "trust-one-third-exactly",
        header_case("20 of 60 trusted signed", "header.not_enough_trust", third, mixed),
    )
    forged = replace_vote(third, 1, signature=bytes(64))
    yield "trusted-vote-forged", header_case("a trusted validator's vote is forged", "header.signature", forged, mixed)
    strangers = signed_by(make_header(20, others), ["a", "b", "c"])
    yield "trust-none", header_case("strangers alone", "header.not_enough_trust", strangers, others)
    yield (
        "trusted-validators-wrong",
        header_case(
            "the trust's validators are not its header's",
            "header.trusted_validators",
            signed_by(LATER, SIX),
            trusted_validators=others,
        ),
    )


def bad_commits() -> Iterator[tuple[str, Case]]:
    good = signed_by(NEXT, SIX)
    power = signed_by(NEXT, [0, 1, 2, 3, None, None])
    yield "power-two-thirds-exactly", header_case("40 of 60 signed", "header.power", power)
    nil = signed_by(NEXT, SIX)
    for index in (3, 4, 5):
        nil = replace_vote(nil, index, flag=VoteFlag.NIL)
    yield "votes-nil", header_case("three of six voted nil", "header.power", nil)
    yield "votes-all-absent", header_case("nobody signed", "header.power", signed_by(NEXT, [None] * 6))
    later = signed_by(NEXT, SIX, height=12)
    yield "commit-height-other", header_case("a commit of the next height", "header.commit_height", later)
    block = BlockId(hash=digest("other"), parts_total=1, parts_hash=digest("parts"))
    yield (
        "commit-block-other",
        header_case("a commit for another block", "header.commit_block", signed_by(NEXT, SIX, block_id=block)),
    )
    yield "commit-truncated", header_case("five votes for six", "header.commit_size", signed_by(NEXT, SIX[:5]))
    yield "commit-extended", header_case("seven votes for six", "header.commit_size", signed_by(NEXT, [*SIX, 0]))
    yield "votes-duplicated", header_case("one vote at six places", "header.vote_address", signed_by(NEXT, [0] * 6))
    renamed = good
    for index in SIX:
        vote_of_first = good.commit.votes[0]
        renamed = replace_vote(
            renamed, index, timestamp_ns=vote_of_first.timestamp_ns, signature=vote_of_first.signature
        )
    yield "votes-duplicated-renamed", header_case("one signature under six names", "header.signature", renamed)
    yield "vote-unsigned", header_case("no signature", "header.vote_incomplete", replace_vote(good, 2, signature=None))
    yield "vote-untimed", header_case("no time", "header.vote_incomplete", replace_vote(good, 2, timestamp_ns=None))
    newer = replace_vote(good, 0, timestamp_ns=(good.commit.votes[0].timestamp_ns or 0) + 1)
    yield "vote-time-altered", header_case("one nanosecond more", "header.signature", newer)
    rounded = dataclasses.replace(good, commit=dataclasses.replace(good.commit, round=1))
    yield "round-altered", header_case("votes of another round", "header.signature", rounded)
    parts = dataclasses.replace(good.commit.block_id, parts_total=2)
    split = dataclasses.replace(good, commit=dataclasses.replace(good.commit, block_id=parts))
    yield "parts-altered", header_case("votes for other parts", "header.signature", split)
    signature = good.commit.votes[0].signature or b""
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    malleable = replace_vote(good, 0, signature=signature[:32] + s.to_bytes(32, "little"))
    yield "vote-s-not-canonical", header_case("s + L in place of s", "header.signature", malleable)
    promoted = replace_vote(signed_by(NEXT, [0, 1, 2, 3, None, 5]), 4, flag=VoteFlag.COMMIT)
    yield "absent-vote-counted", header_case("an absent validator's flag raised", "header.vote_incomplete", promoted)


def bad_votes() -> Iterator[tuple[str, Case]]:
    """Votes that make a header look decided or fresh: an old quorum is of 40 s ago, what is added is of now."""
    old, late_ns = signed_by(NEXT, SIX, [NOW_MS - 40_000] * 6), NOW_MS * 1_000_000

    def dated(place: int, **changes: Any) -> CommitVote:
        return vote(NEXT, dataclasses.replace(old.commit, **changes), place, late_ns)

    def with_votes(votes: dict[int, CommitVote]) -> SignedHeader:
        places = tuple(votes.get(place, one) for place, one in enumerate(old.commit.votes))
        return dataclasses.replace(old, commit=dataclasses.replace(old.commit, votes=places))

    forged = dataclasses.replace(dated(5), signature=bytes(64))
    yield (
        "stale-forged-fresh-vote-behind",
        header_case("a forged vote after enough", "header.stale", with_votes({5: forged})),
    )
    before = dataclasses.replace(dated(0), signature=bytes(64))
    yield (
        "stale-forged-fresh-vote-before",
        header_case("a forged vote is read", "header.signature", with_votes({0: before})),
    )
    one = with_votes({0: dated(0)})
    yield "stale-but-for-one-liar", header_case("one of five dates its vote anew", "header.stale", one)
    two = with_votes({0: dated(0), 1: dated(1)})
    yield "stale-but-for-two-liars", header_case("two of five date theirs anew", "header.stale", two)
    nothing = BlockId(hash=b"", parts_total=0, parts_hash=b"")
    nil = with_votes({place: dated(place, block_id=nothing) for place in SIX})
    yield "votes-nil-flagged-as-votes", header_case("votes for nothing, counted", "header.signature", nil)
    height = with_votes({place: dated(place, height=12) for place in SIX})
    yield "votes-of-another-height", header_case("votes of the next height", "header.signature", height)
    fewer = with_votes({place: dated(0) for place in SIX[:4]})
    yield "votes-duplicated-fresh", header_case("one fresh vote at four places", "header.vote_address", fewer)


MAKERS = (good_headers, altered_fields, bad_headers, bad_validators, bad_commits, bad_votes)
