"""Answer cases, steps 1 to 12: the header that comes with the answer, or the wallet's own."""

from __future__ import annotations

import dataclasses
from typing import Any

from chain_world import DAY_MS, MEMBERS, NOW_MS
from onecode.errors import Unreachable, Untrusted
from onecode.proof.header import BlockId, SignedHeader, ValidatorSet, VoteFlag
from onecode.proof.map import app_hash
from onecode.query.messages import Answer
from onecode.registry.map import section_roots
from vectors.answer_kit import case
from vectors.answer_scene import Draft
from vectors.proof_chain import ABSENT, digest, make_header, replace_vote, signed_by, validator_set

FOUR = [1, 2, 3, 4]
SIGNED_MS = [NOW_MS - 2000] * 4


def later_header(d: Draft, height: int = 11, members: ValidatorSet = MEMBERS, **changes: Any) -> Any:
    """A header over the scene's state."""
    d.ask()
    d.scene.write()
    changes.setdefault("app_hash", app_hash(section_roots(d.scene.store)))
    changes.setdefault("time_ns", (NOW_MS - 50_000 + 1000 * height) * 1_000_000)
    return make_header(height, members, **changes)


def signed(d: Draft, height: int = 11, **changes: Any) -> SignedHeader:
    return signed_by(later_header(d, height, **changes), FOUR, SIGNED_MS)


@case("01-ok-next-header")
def next_header(d: Draft) -> Answer:
    """the next header comes with the answer"""
    return d.later(signed(d))


@case("01-ok-later-header")
def later(d: Draft) -> Answer:
    """a header ten heights on"""
    return d.later(signed(d, 20))


@case("01-header-of-another-chain", Untrusted, "header.chain_id")
def another_chain(d: Draft) -> Answer:
    """all signed for another network by the same validators"""
    return d.later(signed(d, chain_id="onecode-other"))


@case("02-ok-known-header-comes-again")
def known_again(d: Draft) -> Answer:
    """a header that the wallet has verified; its votes are not read again"""
    d.ask()
    header, members, _ = d.verified[0]
    return d.later(replace_vote(header, 0, signature=bytes(64)), members)


@case("02-known-header-signed-again", Untrusted, "header.stale")
def known_is_no_younger(d: Draft) -> Answer:
    """a header that was verified as 31 s old comes with newer votes: it stays as old as it was"""
    d.ask(d.scene.header(signed_ms=NOW_MS - 31_000), now_ms=NOW_MS - 2000)
    return d.later(d.scene.header(signed_ms=NOW_MS - 1000))


@case("03-block-version-unknown", Untrusted, "header.block_version")
def block_version(d: Draft) -> Answer:
    """another block protocol"""
    return d.later(signed(d, block_version=12))


@case("03-app-hash-short", Untrusted, "header.app_hash_size", without="map.app_hash")
def app_hash_size(d: Draft) -> Answer:
    """an app hash of 20 bytes"""
    d.scene.write()
    return d.later(signed(d, app_hash=app_hash(section_roots(d.scene.store))[:20]))


@case("04-trust-expired", Untrusted, "header.trust_expired")
def trust_expired(d: Draft) -> Answer:
    """the wallet's newest header is 14 days old to the millisecond"""
    ago = NOW_MS - 14 * DAY_MS
    d.trust_header = d.scene.header(2, time_ns=(ago - 5000) * 1_000_000).header
    d.ask(d.scene.header(time_ns=ago * 1_000_000, signed_ms=ago), now_ms=ago)
    return d.later(signed(d))


@case("05-below-a-header-verified-meanwhile", Untrusted, "header.not_higher")
def not_higher(d: Draft) -> Answer:
    """between question and answer the wallet has verified a newer header"""
    d.ask()
    d.verified.append((signed(d, 12, time_ns=(NOW_MS - 39_500) * 1_000_000), MEMBERS, NOW_MS))
    return d.later(signed(d, 11))


@case("05-fork-at-the-newest-height", Untrusted, "header.fork", without="header.not_higher")
def fork(d: Draft) -> Answer:
    """another header of the wallet's newest height, signed by all"""
    return d.later(signed(d, 10, app_version=2))


@case("06-time-not-later", Untrusted, "header.time_not_later")
def time_not_later(d: Draft) -> Answer:
    """a higher header with the time of the trusted one"""
    d.ask()
    return d.later(signed(d, time_ns=d.verified[0][0].header.time_ns))


@case("06-time-ahead", Untrusted, "header.time_ahead")
def time_ahead(d: Draft) -> Answer:
    """the header's time is the clock drift ahead, its votes are not"""
    return d.later(signed(d, time_ns=(NOW_MS + 5_000) * 1_000_000))


@case("07-validators-not-announced", Untrusted, "header.next_validators")
def not_announced(d: Draft) -> Answer:
    """the next height by validators whom the trusted header does not announce"""
    strangers = validator_set(["x", "y", "z"])
    header = later_header(d, members=strangers)
    return d.later(signed_by(header, ["x", "y", "z"], SIGNED_MS[:3]), strangers)


@case("07-validators-power-altered", Untrusted, "header.validators", without="header.trusted_validators")
def power_altered(d: Draft) -> Answer:
    """one validator's power raised in the set given"""
    return d.later(signed(d), validator_set(FOUR, [10, 10, 10, 11]))


@case("07-validators-swapped", Untrusted, "header.validators", without="header.trusted_validators")
def validators_swapped(d: Draft) -> Answer:
    """the two last places exchanged, in set and votes"""
    return d.later(signed_by(later_header(d), [1, 2, 4, 3], SIGNED_MS), validator_set([1, 2, 4, 3]))


@case("07-validators-one-dropped", Untrusted, "header.validators", without="header.trusted_validators")
def validator_dropped(d: Draft) -> Answer:
    """a set of three for one of four"""
    return d.later(signed_by(later_header(d), [1, 2, 3], SIGNED_MS[:3]), validator_set([1, 2, 3]))


@case("08-commit-of-another-height", Untrusted, "header.commit_height")
def commit_height(d: Draft) -> Answer:
    """votes for this block at the next height"""
    return d.later(signed_by(later_header(d), FOUR, SIGNED_MS, height=12))


@case("08-commit-for-another-block", Untrusted, "header.commit_block")
def commit_block(d: Draft) -> Answer:
    """votes for another block of this height"""
    other = BlockId(hash=digest("other"), parts_total=1, parts_hash=digest("parts"))
    return d.later(signed_by(later_header(d), FOUR, SIGNED_MS, block_id=other))


@case("08-header-altered-after-signing", Untrusted, "header.commit_block")
def altered(d: Draft) -> Answer:
    """the app hash of the node's own state in a header that was signed for another"""
    true = signed(d, app_hash=digest("the true state"))
    header = dataclasses.replace(true.header, app_hash=later_header(d).app_hash)
    return d.later(dataclasses.replace(true, header=header))


@case("08-vote-too-many", Untrusted, "header.commit_size")
def one_vote_more(d: Draft) -> Answer:
    """five votes for four validators"""
    found = signed(d)
    votes = (*found.commit.votes, ABSENT)
    return d.later(dataclasses.replace(found, commit=dataclasses.replace(found.commit, votes=votes)))


@case("08-vote-missing", Untrusted, "header.commit_size")
def one_vote_less(d: Draft) -> Answer:
    """three votes for four validators"""
    found = signed(d)
    votes = found.commit.votes[:3]
    return d.later(dataclasses.replace(found, commit=dataclasses.replace(found.commit, votes=votes)))


@case("09-validator-twice", Untrusted, "header.validator_twice")
def validator_twice(d: Draft) -> Answer:
    """one key at three places of the set"""
    d.ask()
    crowd = validator_set([1, 2, 3, 4, 4, 4])
    header = later_header(d, 20, members=crowd)
    return d.later(signed_by(header, [1, 2, 3, 4, 4, 4], [NOW_MS - 2000] * 6), crowd)


@case("10-strangers-after-a-gap", Untrusted, "header.not_enough_trust")
def strangers(d: Draft) -> Answer:
    """heights lie between, and no trusted validator signed"""
    others = validator_set(["x", "y", "z"])
    return d.later(signed_by(later_header(d, 20, members=others), ["x", "y", "z"], SIGNED_MS[:3]), others)


@case("10-one-third-of-the-trusted-exactly", Untrusted, "header.not_enough_trust")
def third_exactly(d: Draft) -> Answer:
    """heights lie between, and just one third of the trusted power signed"""
    three = validator_set([1, 2, 3])
    d.trust_header, d.trust_validators = make_header(2, three, time_ns=(NOW_MS - 48_000) * 1_000_000), three
    d.scene.write()
    root = app_hash(section_roots(d.scene.store))
    newest = make_header(10, three, app_hash=root, time_ns=(NOW_MS - 40_000) * 1_000_000)
    d.ask(signed_by(newest, [1, 2, 3], SIGNED_MS[:3]), three)
    mixed = validator_set([1, "x", "y", "z"])
    return d.later(signed_by(later_header(d, 20, members=mixed), [1, "x", "y", "z"], SIGNED_MS), mixed)


@case("11-two-thirds-exactly", Untrusted, "header.power")
def two_thirds(d: Draft) -> Answer:
    """a set of three announced, two of them signed"""
    three = validator_set([1, 2, 3])
    d.scene.write()
    root = app_hash(section_roots(d.scene.store))
    newest = make_header(10, MEMBERS, three, app_hash=root, time_ns=(NOW_MS - 40_000) * 1_000_000)
    d.ask(signed_by(newest, FOUR, SIGNED_MS))
    return d.later(signed_by(later_header(d, members=three), [1, 2, None], SIGNED_MS[:3]), three)


@case("11-votes-nil", Untrusted, "header.power")
def nil(d: Draft) -> Answer:
    """two of four voted nil"""
    found = replace_vote(signed(d), 0, flag=VoteFlag.NIL)
    return d.later(replace_vote(found, 1, flag=VoteFlag.NIL))


@case("11-vote-forged", Untrusted, "header.signature")
def forged(d: Draft) -> Answer:
    """one of the signatures that are needed is not its validator's"""
    found = signed(d)
    return d.later(replace_vote(found, 1, signature=found.commit.votes[0].signature))


@case("11-vote-time-altered", Untrusted, "header.signature")
def time_altered(d: Draft) -> Answer:
    """one nanosecond more than was signed"""
    found = signed(d)
    return d.later(replace_vote(found, 2, timestamp_ns=(found.commit.votes[2].timestamp_ns or 0) + 1))


@case("11-vote-of-another-chain", Untrusted, "header.signature")
def other_votes(d: Draft) -> Answer:
    """one of the votes that are needed is for another network"""
    header = later_header(d)
    foreign = signed_by(header, FOUR, SIGNED_MS, chain_id="onecode-other").commit.votes[1]
    return d.later(replace_vote(signed_by(header, FOUR, SIGNED_MS), 1, signature=foreign.signature))


@case("11-vote-of-another-place", Untrusted, "header.vote_address")
def other_place(d: Draft) -> Answer:
    """a sound vote that names another validator"""
    found = signed(d)
    return d.later(replace_vote(found, 0, validator_address=found.commit.votes[1].validator_address))


@case("11-vote-unsigned", Untrusted, "header.vote_incomplete", without=None)
def unsigned(d: Draft) -> Answer:
    """a vote for the block without a signature"""
    return d.later(replace_vote(signed(d), 0, signature=None))


@case("12-header-stale", Untrusted, "header.stale")
def stale(d: Draft) -> Answer:
    """the header of the answer was signed 30.001 s ago"""
    return d.later(signed_by(later_header(d), FOUR, [NOW_MS - 30_001] * 4))


@case("12-own-header-stale", Untrusted, "header.stale")
def own_stale(d: Draft) -> Answer:
    """no header in the answer, and the wallet's own has grown old meanwhile"""
    d.ask(now_ms=NOW_MS)
    answer = d.answer()
    d.now_ms = NOW_MS + 28_001
    return answer


@case("12-header-from-the-future", Untrusted, "header.future")
def future(d: Draft) -> Answer:
    """signed 5.001 s from now"""
    return d.later(signed_by(later_header(d), FOUR, [NOW_MS + 5_001] * 4))


@case("12-behind-the-newest-header", Unreachable, "node.behind")
def behind(d: Draft) -> Answer:
    """the header before the wallet's newest, which it has verified too"""
    before = d.scene.header(9)
    d.verified.append((before, MEMBERS, NOW_MS))
    d.ask()
    return d.later(before)


@case("12-header-withheld", Untrusted, "answer.header_withheld")
def withheld(d: Draft) -> Answer:
    """a later height without its header"""
    return d.answer(height=11)


@case("12-header-without-validators", Untrusted, "answer.header_withheld")
def without_validators(d: Draft) -> Answer:
    """a later header without the validators that signed it"""
    return dataclasses.replace(d.later(signed(d)), validators=None)


@case("12-validators-without-header", Untrusted, "answer.header_withheld")
def without_header(d: Draft) -> Answer:
    """the validators of a later height without its header"""
    return dataclasses.replace(d.later(signed(d)), header=None)


@case("12-header-of-another-height", Untrusted, "answer.height")
def other_height(d: Draft) -> Answer:
    """the answer says 12, its header 11"""
    return dataclasses.replace(d.later(signed(d)), height=12)
