"""The light client: from a header that is trusted to another one, by the votes of the validators.

Source: CometBFT v0.39 `light/verifier.go` and `types/validation.go`, same verdicts; the numbered steps are those of
docs/spec/verification.md, "Header". All power is counted in exact integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from onecode.errors import Untrusted
from onecode.proof.ed25519 import vote_signature_holds
from onecode.proof.header import (
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

NANOS_PER_MILLI = 1_000_000
DAY_MS = 86_400_000
STRICT = (2, 3)
BLOCK_PROTOCOL = 11


@dataclass(frozen=True, slots=True)
class TrustedState:
    """A header that is believed, its hash, and the validators of its height or of the next one. See `trusted_state`."""

    header: Header
    header_hash: bytes
    validators: ValidatorSet


@dataclass(frozen=True, slots=True)
class VerifiedHeader(TrustedState):
    """A header that `verify_header` has established, with the validators of its own height.

    signed_ms: when it was signed: lower voting-power-weighted median of the timestamps of its verified commit votes.
    """

    signed_ms: int


@dataclass(frozen=True, slots=True)
class VerifiedCommit:
    """Votes that were verified: enough of them to decide, not always all. `signed_ms` as in `VerifiedHeader`."""

    power: int
    power_total: int
    signed_ms: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What a header is verified against.

    state: the header to start from. trusting_period_ms: how long its validators can be held to their votes.
    clock_drift_ms: how far a header's time may lie ahead of ours. block_version, app_hash_bytes: the only ones
    accepted; None accepts any (chains made for tests of the engine). skip: where heights are left out, more than this
    part of the trusted power must have signed; `STRICT` makes such a step as hard to forge as the next height.
    """

    state: TrustedState
    trusting_period_ms: int = 14 * DAY_MS
    clock_drift_ms: int = 5_000
    block_version: int | None = BLOCK_PROTOCOL
    app_hash_bytes: int | None = 32
    skip: tuple[int, int] = (1, 3)


def _require_distinct(validators: ValidatorSet) -> None:
    if len({validator.public_key for validator in validators.validators}) != len(validators.validators):
        raise Untrusted("header.validator_twice", "a validator stands twice in the set", field="validators")


def trusted_state(header: Header, validators: ValidatorSet) -> TrustedState:
    """The state to trust for a header that is believed for a reason of its own (a trust file, a genesis).

    `validators` are those of its height or of the next one. Does NOT verify the header: no signature is read.
    """
    if validators_hash(validators) not in (header.validators_hash, header.next_validators_hash):
        raise Untrusted(
            "header.trusted_validators", "the validators are not those of the trusted header", field="validators"
        )
    _require_distinct(validators)
    return TrustedState(header, header_hash(header), validators)


class _Votes:
    """The votes of one commit, each checked at most once and only when it is needed."""

    def __init__(self, signed: SignedHeader, members: Sequence[Validator]) -> None:
        self.signed, self.members = signed, members
        self.held: dict[int, int] = {}  # place in the set -> timestamp of a vote whose signature holds

    def _timestamp_ns(self, index: int, vote: CommitVote) -> int:
        """The vote's timestamp, once its signature holds under the key of the same place in the set."""
        field, member = f"commit.votes[{index}]", self.members[index]
        if vote.signature is None or vote.timestamp_ns is None:
            raise Untrusted("header.vote_incomplete", "a vote for the block lacks its signature or time", field=field)
        if vote.validator_address != member.address:
            raise Untrusted("header.vote_address", "a vote stands at another validator's place", field=field)
        message = vote_sign_bytes(self.signed.header.chain_id, self.signed.commit, vote.timestamp_ns)
        if not vote_signature_holds(member.public_key, vote.signature, message):
            raise Untrusted("header.signature", "a vote's signature does not hold", field=field)
        return vote.timestamp_ns

    def signers(self) -> Iterator[bytes]:
        """Keys whose vote for the block holds; the others are passed over."""
        for index, vote in enumerate(self.signed.commit.votes):
            if vote.flag is VoteFlag.COMMIT:
                try:
                    self._timestamp_ns(index, vote)
                except Untrusted:
                    continue
                yield self.members[index].public_key

    def reach(self, powers: Sequence[int], power_total: int, numerator: int, denominator: int) -> bool:
        """Whether votes for the block have more than that fraction of the total; stops as soon as they do."""
        power = 0
        for index, vote in enumerate(self.signed.commit.votes):
            if vote.flag is not VoteFlag.COMMIT or not powers[index]:
                continue
            if index not in self.held:
                self.held[index] = self._timestamp_ns(index, vote)
            power += powers[index]
            if power * denominator > power_total * numerator:
                return True
        return False

    def median_ns(self) -> int:
        """Lower weighted median: the least timestamp that half of the verified power does not exceed."""
        votes = sorted((timestamp_ns, self.members[index].power) for index, timestamp_ns in self.held.items())
        running = list(accumulate(power for _, power in votes))
        return next(time_ns for (time_ns, _), below in zip(votes, running, strict=True) if 2 * below >= running[-1])


def verify_commit(
    signed: SignedHeader,
    hashed: bytes,
    validators: ValidatorSet,
    trusted: ValidatorSet | None = None,
    skip: tuple[int, int] = (1, 3),
) -> VerifiedCommit:
    """Steps 8 to 11: `validators` decided the header whose hash is `hashed`.

    8. the commit is for this height and hash, and has one vote for each validator;  9. no validator stands twice;
    10. with `trusted`: more than `skip` of its power signed this commit;  11. more than 2/3 of `validators` did.
    Of the votes only those for the block are read (not absent, not nil), in the set's order, until there are enough;
    each of these must hold. Does NOT establish that `validators` are the chain's, nor that `hashed` is the header's.
    """
    commit, members = signed.commit, validators.validators
    if commit.height != signed.header.height:  # step 8
        raise Untrusted("header.commit_height", "the commit is for another height", field="commit.height")
    if commit.block_id.hash != hashed:
        raise Untrusted("header.commit_block", "the commit is for another header", field="commit.block_id.hash")
    if len(commit.votes) != len(members):
        raise Untrusted("header.commit_size", "the commit has not one vote for each validator", field="commit.votes")
    _require_distinct(validators)  # step 9
    votes = _Votes(signed, members)
    if trusted is not None:  # step 10: by key, since places differ between the sets
        known = {validator.public_key: validator.power for validator in trusted.validators}
        if not votes.reach([known.get(member.public_key, 0) for member in members], sum(known.values()), *skip):
            part = "/".join(map(str, skip))
            raise Untrusted(
                "header.not_enough_trust",
                f"at most {part} of the trusted power signed the header; verify a header between first",
                field="commit.votes",
            )
    powers = [member.power for member in members]
    power_total = sum(powers)
    if not votes.reach(powers, power_total, 2, 3):  # step 11
        raise Untrusted("header.power", "at most 2/3 of the voting power signed the header", field="commit.votes")
    verified_power = sum(powers[index] for index in votes.held)
    return VerifiedCommit(verified_power, power_total, votes.median_ns() // NANOS_PER_MILLI)


def find_signers(signed: SignedHeader, validators: ValidatorSet) -> tuple[bytes, ...]:
    """Keys of all `validators` of a verified header whose votes in its commit hold, also of those nobody needed."""
    return tuple(_Votes(signed, validators.validators).signers())


def _require_successor(header: Header, trust: Trust, now_ms: int) -> None:
    """Steps 5 and 6 and the link of step 7, for a header other than the trusted one."""
    trusted = trust.state.header
    if header.height <= trusted.height:  # step 5
        raise Untrusted("header.not_higher", "the header is not above the trusted one", field="header.height")
    if header.time_ns <= trusted.time_ns:  # step 6
        raise Untrusted("header.time_not_later", "the header is not later than the trusted one", field="header.time_ns")
    if header.time_ns >= (now_ms + trust.clock_drift_ms) * NANOS_PER_MILLI:
        raise Untrusted("header.time_ahead", "the header's time lies ahead of this clock", field="header.time_ns")
    if header.height == trusted.height + 1 and header.validators_hash != trusted.next_validators_hash:  # step 7
        raise Untrusted(
            "header.next_validators", "the header's validators are not those announced", field="header.validators_hash"
        )


def verify_header(
    signed: SignedHeader,
    validators: ValidatorSet,
    trust: Trust,
    now_ms: int,
    known: Mapping[bytes, VerifiedHeader] | None = None,
) -> VerifiedHeader:
    """Establish a header from a trusted one in a single step, or raise `Untrusted`.

    1. it is of the trusted chain;
    2. a header whose hash is in `known` is accepted as it was verified then;
    3. block version and length of the app hash are the ones expected;
    4. the trusted header is within its trusting period;
    5. the height is above the trusted one's;
    6. its time is later than the trusted one's, and not ahead of `now_ms` by the clock drift or more;
    7. `validators` are those of its hash, and for the next height those that the trusted header announced;
    8. to 11. the commit holds (`verify_commit`); where heights lie between, more than `trust.skip` (1/3) of the
    trusted power signed.

    The trusted header itself passes with its own commit alone (steps 5, 6 and 10 fall away): so it gets a `signed_ms`.
    `header.not_enough_trust` alone means that a header between may help. Does NOT check how old the header is
    (`require_fresh`), nor anything under its app hash.
    """
    header, state = signed.header, trust.state
    if header.chain_id != state.header.chain_id:  # step 1
        raise Untrusted("header.chain_id", "the header is of another chain", field="header.chain_id")
    hashed = header_hash(header)
    if known is not None and hashed in known:  # step 2
        return known[hashed]
    if trust.block_version not in (None, header.block_version):  # step 3
        raise Untrusted("header.block_version", "the header is of another block protocol", field="header.block_version")
    if trust.app_hash_bytes not in (None, len(header.app_hash)):
        raise Untrusted("header.app_hash_size", "the app hash is not a hash of the registry", field="header.app_hash")
    if state.header.time_ns + trust.trusting_period_ms * NANOS_PER_MILLI <= now_ms * NANOS_PER_MILLI:  # step 4
        raise Untrusted("header.trust_expired", "the trusted header is past its trusting period; renew the trust file")
    same = hashed == state.header_hash
    if not same:
        _require_successor(header, trust, now_ms)  # steps 5 to 7
    if validators_hash(validators) != header.validators_hash:  # step 7
        raise Untrusted("header.validators", "the validators are not those of the header", field="validators")
    skips = not same and header.height != state.header.height + 1
    trusted = state.validators if skips else None
    commit = verify_commit(signed, hashed, validators, trusted, trust.skip)  # steps 8 to 11
    return VerifiedHeader(header, hashed, validators, commit.signed_ms)


def require_fresh(verified: VerifiedHeader, now_ms: int, age_ms_max: int = 30_000, skew_ms: int = 5_000) -> None:
    """Step 12: the header was signed at most `age_ms_max` ago, and not more than `skew_ms` in the future."""
    if verified.signed_ms > now_ms + skew_ms:
        raise Untrusted(
            "header.future", "the header was signed in this clock's future; check the clock", field="header"
        )
    if now_ms - verified.signed_ms > age_ms_max:
        raise Untrusted("header.stale", "the header is too old; ask another node", field="header")
