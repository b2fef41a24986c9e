"""Every lie that the liar tells, one function each, and what a wallet that hears it must do."""

from __future__ import annotations

import dataclasses
import gzip
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from network.forger import FalseState, Forger, revote, with_power
from network.liar import Bribed, Lie, Line, absent
from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.header import BlockId, CommitVote, SignedHeader, ValidatorSet, VoteFlag
from onecode.proof.leaves import AliasLeaf, LinkList
from onecode.query.messages import Answer, HeaderView, NetworkView, Opened, ProvenMerchant, Query, Result
from onecode.record.envelope import SignedRecord, sign_record
from onecode.record.schema import parse_record
from onecode.schema import parse
from onecode.wire import SigningKey

SHOP, GHOST, LABEL = "shop", "ghost", "label"
PAID, GONE = "paid at the other node", "platform.absent"
COLD, WARM = "cold", "warm"  # a wallet at its trust file's header; one that has verified a newer header
TOTAL = 30
HANGS_MS = 3_000
PIECE = bytes(64 * 1024)


@dataclass(frozen=True)
class Past:
    """What the node said of the ghost while its record was live, and what the enclave opened."""

    view: NetworkView
    answer: Answer
    result: Result

    @property
    def signed_ms(self) -> int:
        return max(vote.timestamp_ns or 0 for vote in self.view.header.commit.votes) // 1_000_000


@dataclass(frozen=True)
class Stage:
    """What a lie is made of. members: all validators; partner: id of another platform that serves the shop."""

    bribed: Bribed
    forger: Forger
    false: FalseState
    past: Past
    partner: bytes
    record_key: SigningKey
    members: ValidatorSet
    strangers: ValidatorSet

    def through_enclave(self, change: Callable[[Result], Result], *accepted: bytes) -> Lie:
        """The broken enclave seals something else than it opened."""
        return Lie(
            network=self.bribed.broken_network, answer=lambda query: self.bribed.answer(query, change, *accepted)
        )

    def altered(self, change: Callable[[Answer], Answer]) -> Lie:
        """The host changes the honest answer."""
        return Lie(answer=lambda query: change(self.bribed.ask(query)))

    def viewed(self, change: Callable[[NetworkView], NetworkView]) -> Lie:
        """The host changes the honest view."""
        return Lie(network=lambda: change(self.bribed.network()))

    def under(self, head: HeaderView, header: Callable[[str], HeaderView] | None = None) -> Lie:
        """The thief's registry under a header; headers between are the node's, or what `header` says."""

        def other(name: str) -> HeaderView:
            if name == "latest" or int(name) == head.header.header.height:
                return head
            return header(name) if header is not None else self.bribed.header(name)

        return Lie(
            network=lambda: self.false.network(head), answer=lambda query: self.false.answer(head, query), header=other
        )

    def signed_by(self, power: int) -> Lie:
        """A rival of the newest header: the same validators, of whom some signed it."""
        return self.under(self.rival(power))

    def rival(self, power: int, name: int | str = "latest") -> HeaderView:
        """A header beside the node's of that height, over the thief's registry, signed by so much power."""
        signers = with_power(self.members, power)
        return self.forger.beside(self.bribed.header(name), self.members, signers, app_hash=self.false.app_hash)

    def of_a_set(self, members: ValidatorSet, *, between: str = "true", **changes: Any) -> Lie:
        """A chain of other validators, who all sign. between: whose the headers on the way are: true, made up, none."""
        signers = [one.public_key for one in members.validators]

        def made_up(name: int | str) -> HeaderView:
            real = self.bribed.header(name)
            return self.forger.beside(real, members, signers, app_hash=self.false.app_hash, **changes)

        def none(name: str) -> HeaderView:
            raise absent()

        ways: dict[str, Callable[[str], HeaderView] | None] = {"true": None, "made up": made_up, "none": none}
        return self.under(made_up("latest"), ways[between])

    def again(self, view: NetworkView) -> Lie:
        """The ghost's record as it was, under this view."""

        def answer(query: Query) -> Answer:
            sealed = self.bribed.seal(query, self.past.result)
            return dataclasses.replace(self.past.answer, header=None, validators=None, sealed=sealed)

        return Lie(network=lambda: view, answer=answer)

    def votes(self, change: Callable[[SignedHeader], Any], **changes: Any) -> Lie:
        """The ghost's record under the old header, with other votes."""
        return self.again(revote(self.past.view, change, **changes))

    def fresh(self, signed: SignedHeader, place: int, **changes: Any) -> CommitVote:
        """A vote of the validator at that place, dated now; `changes` are to what it signs."""
        commit = dataclasses.replace(signed.commit, **changes)
        return self.forger.vote(signed.header, commit, self.members.validators[place].public_key)


@dataclass(frozen=True)
class Told:
    """One lie. of: what is scanned; then: what the honest node leads to; config: of the wallet."""

    name: str
    tell: Callable[[Stage], Lie]
    branch: type[OnecodeError]
    code: str
    of: str = SHOP
    then: str = PAID
    start: str = COLD
    config: dict[str, Any] = field(default_factory=dict)


LIES: list[Told] = []
Teller = Callable[[Stage], Lie]


def lie(
    branch: type[OnecodeError], code: str, *, of: str = SHOP, then: str = PAID, starts: str = COLD, **config: Any
) -> Callable[[Teller], Teller]:
    def keep(tell: Teller) -> Teller:
        for start in starts.split("+"):
            name = tell.__name__.replace("_", " ") + (f" ({start})" if "+" in starts else "")
            LIES.append(Told(name, tell, branch, code, of, then, start, config))
        return tell

    return keep


def merchant_of(answer: Answer) -> ProvenMerchant:
    assert answer.merchant is not None
    return answer.merchant


def with_merchant(answer: Answer, **changes: Any) -> Answer:
    return dataclasses.replace(answer, merchant=dataclasses.replace(merchant_of(answer), **changes))


def flipped(data: bytes, place: int = -1) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


# --- modified answers -------------------------------------------------------------------------------------------------


@lie(Untrusted, "record.commitment")
def altered_record_signed_with_the_platforms_own_key(stage: Stage) -> Lie:
    def change(result: Result) -> Result:
        true = parse(SignedRecord, result.opened[0].signed_record)
        record = dataclasses.replace(parse_record(true.record), display_name="A thief's shop")
        signed = sign_record(stage.bribed.chain_id, record, true.salt, stage.record_key)
        opened = dataclasses.replace(result.opened[0], signed_record=signed.encoded())
        return dataclasses.replace(result, opened=(opened,))

    return stage.through_enclave(change)


@lie(Untrusted, "result.other_record")
def partners_record_in_place_of_the_own_platforms(stage: Stage) -> Lie:
    def change(result: Result) -> Result:
        theirs = tuple(one for one in result.opened if one.platform == stage.partner)
        assert theirs
        return dataclasses.replace(result, opened=theirs)

    return stage.through_enclave(change, stage.partner)


@lie(Untrusted, "record.commitment")
def partners_record_under_the_own_platforms_id(stage: Stage) -> Lie:
    def change(result: Result) -> Result:
        (theirs,) = (one.signed_record for one in result.opened if one.platform == stage.partner)
        own = Opened(platform=stage.bribed.platform, signed_record=theirs)
        return dataclasses.replace(result, opened=(own,))

    return stage.through_enclave(change, stage.partner)


@lie(Unreachable, "record.unopened")
def live_record_not_opened(stage: Stage) -> Lie:
    return stage.through_enclave(lambda result: dataclasses.replace(result, opened=()))


@lie(Untrusted, "result.other_query")
def result_of_another_query(stage: Stage) -> Lie:
    return stage.through_enclave(lambda result: dataclasses.replace(result, query_id=os.urandom(16)))


@lie(Untrusted, "reply.seal")
def sealed_result_altered(stage: Stage) -> Lie:
    return stage.altered(lambda answer: dataclasses.replace(answer, sealed=flipped(answer.sealed)))


@lie(Untrusted, "links.hash")
def links_list_with_a_newer_version(stage: Stage) -> Lie:
    def change(answer: Answer) -> Answer:
        links = parse(LinkList, merchant_of(answer).links or b"").links
        newer = tuple(dataclasses.replace(one, version=one.version + 1) for one in links)
        return with_merchant(answer, links=LinkList(links=newer).encoded())

    return stage.altered(change)


@lie(Untrusted, "links.hash")
def own_platform_left_out_of_the_links(stage: Stage) -> Lie:
    def change(answer: Answer) -> Answer:
        links = parse(LinkList, merchant_of(answer).links or b"").links
        kept = tuple(one for one in links if one.platform != stage.bribed.platform)
        assert 0 < len(kept) < len(links)
        return with_merchant(answer, links=LinkList(links=kept).encoded())

    return stage.altered(change)


@lie(Untrusted, "map.root")
def map_proof_altered(stage: Stage) -> Lie:
    def change(answer: Answer) -> Answer:
        proof = merchant_of(answer).proof
        assert proof.siblings
        return with_merchant(answer, proof=dataclasses.replace(proof, siblings=flipped(proof.siblings)))

    return stage.altered(change)


@lie(Untrusted, "map.app_hash")
def section_roots_of_the_thiefs_registry(stage: Stage) -> Lie:
    return stage.altered(lambda answer: dataclasses.replace(answer, roots=stage.false.roots))


@lie(Untrusted, "map.root", of=LABEL)
def alias_bound_to_another_merchant(stage: Stage) -> Lie:
    def change(answer: Answer) -> Answer:
        assert answer.aliases
        leaf = parse(AliasLeaf, answer.aliases[0].leaf or b"")
        false = dataclasses.replace(leaf, merchant=os.urandom(20)).encoded()
        return dataclasses.replace(answer, aliases=(dataclasses.replace(answer.aliases[0], leaf=false),))

    return stage.altered(change)


@lie(Untrusted, "map.root", of=LABEL)
def alias_said_to_be_free(stage: Stage) -> Lie:
    def change(answer: Answer) -> Answer:
        assert answer.aliases
        free = dataclasses.replace(answer.aliases[0], leaf=None)
        return dataclasses.replace(answer, aliases=(free,), merchant=None)

    return stage.altered(change)


@lie(Untrusted, "map.root")
def platform_with_the_thiefs_record_key(stage: Stage) -> Lie:
    own = stage.bribed.platform

    def change(view: NetworkView) -> NetworkView:
        given = tuple(
            dataclasses.replace(one, leaf=stage.false.platforms[own]) if one.platform == own else one
            for one in view.platforms
        )
        return dataclasses.replace(view, platforms=given)

    return stage.viewed(change)


@lie(Untrusted, "platform.withheld")
def listed_platform_left_out(stage: Stage) -> Lie:
    return stage.viewed(
        lambda view: dataclasses.replace(
            view, platforms=tuple(one for one in view.platforms if one.platform != stage.partner)
        )
    )


@lie(Untrusted, "map.root")
def enclave_that_nobody_attested(stage: Stage) -> Lie:
    return stage.viewed(
        lambda view: dataclasses.replace(
            view, enclaves=tuple(dataclasses.replace(one, query_key=os.urandom(32)) for one in view.enclaves)
        )
    )


@lie(Untrusted, "answer.header_withheld")
def height_above_the_header(stage: Stage) -> Lie:
    return stage.altered(
        lambda answer: dataclasses.replace(answer, height=answer.height + 5, header=None, validators=None)
    )


@lie(Untrusted, "answer.height")
def height_of_another_header(stage: Stage) -> Lie:
    def change(answer: Answer) -> Answer:
        head = stage.bribed.header("latest")
        return dataclasses.replace(answer, height=answer.height + 5, header=head.header, validators=head.validators)

    return stage.altered(change)


# --- "there is none" --------------------------------------------------------------------------------------------------


@lie(Untrusted, "map.root")
def merchant_said_to_be_absent(stage: Stage) -> Lie:
    return stage.altered(lambda answer: with_merchant(answer, entry=None, links=None))


@lie(Untrusted, "node.refused")
def hosts_word_that_there_is_no_merchant(stage: Stage) -> Lie:
    def answer(query: Query) -> Answer:
        raise Declined("merchant.absent", "there is none")

    return Lie(answer=answer)


@lie(Untrusted, "result.declined_unproven")
def enclaves_word_that_there_is_no_merchant(stage: Stage) -> Lie:
    return stage.through_enclave(
        lambda result: dataclasses.replace(
            result, opened=(), refusal="merchant.absent", branch="Declined", detail="there is none"
        )
    )


# --- what was true once -----------------------------------------------------------------------------------------------


@lie(Untrusted, "map.root", of=GHOST, then=GONE)
def withdrawn_record_under_a_fresh_header(stage: Stage) -> Lie:
    def answer(query: Query) -> Answer:
        fresh = stage.bribed.ask(query)
        old = merchant_of(stage.past.answer)
        return with_merchant(fresh, entry=old.entry, links=old.links)

    return Lie(answer=answer)


@lie(Untrusted, "header.stale", of=GHOST, then=GONE)
def withdrawn_record_under_its_own_old_header(stage: Stage) -> Lie:
    return stage.again(stage.past.view)


@lie(Unreachable, "node.behind", of=GHOST, then=GONE, starts=WARM)
def withdrawn_record_under_an_older_header_than_the_wallets(stage: Stage) -> Lie:
    return stage.again(stage.past.view)


@lie(Unreachable, "node.behind", of=GHOST, then=GONE)
def old_answer_with_its_header_after_a_fresh_view(stage: Stage) -> Lie:
    old = stage.past

    def answer(query: Query) -> Answer:
        sealed = stage.bribed.seal(query, old.result)
        return dataclasses.replace(old.answer, header=old.view.header, validators=old.view.validators, sealed=sealed)

    return Lie(network=stage.bribed.broken_network, answer=answer)


# --- other validators -------------------------------------------------------------------------------------------------


@lie(Untrusted, "header.next_validators", starts=f"{COLD}+{WARM}")
def validators_of_the_liars_own(stage: Stage) -> Lie:
    return stage.of_a_set(stage.strangers)


@lie(Untrusted, "header.next_validators", starts=f"{COLD}+{WARM}")
def chain_of_the_liars_own_from_genesis_on(stage: Stage) -> Lie:
    return stage.of_a_set(stage.strangers, between="made up")


@lie(Untrusted, "header.chain_id")
def chain_of_another_name(stage: Stage) -> Lie:
    return stage.of_a_set(stage.strangers, between="made up", chain_id="onecode-other")


@lie(Untrusted, "header.validators", starts=f"{COLD}+{WARM}")
def liars_validators_beside_the_true_header(stage: Stage) -> Lie:
    return stage.viewed(lambda view: dataclasses.replace(view, validators=stage.strangers))


# --- forks ------------------------------------------------------------------------------------------------------------


@lie(Untrusted, "header.power", starts=f"{COLD}+{WARM}")
def fork_signed_by_less_than_a_third(stage: Stage) -> Lie:
    return stage.signed_by(TOTAL // 6)


@lie(Untrusted, "header.power", starts=f"{COLD}+{WARM}")
def fork_signed_by_exactly_a_third(stage: Stage) -> Lie:
    return stage.signed_by(TOTAL // 3)


@lie(Untrusted, "header.power", starts=f"{COLD}+{WARM}")
def fork_signed_by_half(stage: Stage) -> Lie:
    return stage.signed_by(TOTAL // 2)


@lie(Untrusted, "header.power", starts=f"{COLD}+{WARM}")
def fork_signed_by_exactly_two_thirds(stage: Stage) -> Lie:
    return stage.signed_by(2 * TOTAL // 3)


@lie(Untrusted, "header.next_validators", starts=f"{COLD}+{WARM}")
def fork_of_less_than_a_third_alone(stage: Stage) -> Lie:
    return stage.of_a_set(stage.forger.own_set(stage.members, TOTAL // 6))


@lie(Untrusted, "header.next_validators", starts=f"{COLD}+{WARM}")
def fork_of_exactly_a_third_alone(stage: Stage) -> Lie:
    return stage.of_a_set(stage.forger.own_set(stage.members, TOTAL // 3))


@lie(Untrusted, "header.next_validators", starts=f"{COLD}+{WARM}")
def fork_of_half_alone(stage: Stage) -> Lie:
    return stage.of_a_set(stage.forger.own_set(stage.members, TOTAL // 2))


@lie(Untrusted, "header.next_validators", starts=f"{COLD}+{WARM}")
def fork_of_exactly_two_thirds_alone(stage: Stage) -> Lie:
    return stage.of_a_set(stage.forger.own_set(stage.members, 2 * TOTAL // 3))


@lie(Untrusted, "header.next_validators", starts=f"{COLD}+{WARM}")
def fork_of_half_with_headers_between(stage: Stage) -> Lie:
    return stage.of_a_set(stage.forger.own_set(stage.members, TOTAL // 2), between="made up")


@lie(Untrusted, "node.refused")
def fork_of_half_and_no_headers_between(stage: Stage) -> Lie:
    return stage.of_a_set(stage.forger.own_set(stage.members, TOTAL // 2), between="none")


@lie(Untrusted, "header.commit_block")
def header_altered_under_its_true_commit(stage: Stage) -> Lie:
    real = stage.bribed.header("latest")
    header = dataclasses.replace(real.header.header, app_hash=stage.false.app_hash)
    return stage.under(dataclasses.replace(real, header=dataclasses.replace(real.header, header=header)))


# --- votes that make an old header look fresh -------------------------------------------------------------------------

old = lie(Untrusted, "header.stale", of=GHOST, then=GONE)
forged = lie(Untrusted, "header.signature", of=GHOST, then=GONE)


@old
def forged_fresh_vote_behind_the_old_quorum(stage: Stage) -> Lie:
    return stage.votes(
        lambda signed: (
            *signed.commit.votes[:3],
            dataclasses.replace(stage.fresh(signed, 3), signature=os.urandom(64)),
        )
    )


@forged
def forged_fresh_vote_before_the_old_quorum(stage: Stage) -> Lie:
    return stage.votes(
        lambda signed: (
            dataclasses.replace(stage.fresh(signed, 0), signature=os.urandom(64)),
            *signed.commit.votes[1:],
        )
    )


@forged
def true_votes_dated_anew(stage: Stage) -> Lie:
    now_ns = time.time_ns()
    return stage.votes(
        lambda signed: [
            dataclasses.replace(one, timestamp_ns=now_ns) if one.flag is VoteFlag.COMMIT else one
            for one in signed.commit.votes
        ]
    )


@old
def a_third_of_the_power_dates_its_vote_anew(stage: Stage) -> Lie:
    return stage.votes(lambda signed: (stage.fresh(signed, 0), *signed.commit.votes[1:]))


@old
def less_than_a_third_dates_its_vote_anew(stage: Stage) -> Lie:
    return stage.votes(lambda signed: (*signed.commit.votes[:2], stage.fresh(signed, 2), signed.commit.votes[3]))


@lie(Untrusted, "header.vote_address", of=GHOST, then=GONE)
def one_fresh_vote_at_three_places(stage: Stage) -> Lie:
    return stage.votes(lambda signed: (*[stage.fresh(signed, 0)] * 3, signed.commit.votes[3]))


@forged
def one_fresh_vote_at_three_places_under_their_own_addresses(stage: Stage) -> Lie:
    def change(signed: SignedHeader) -> tuple[CommitVote, ...]:
        vote, places = stage.fresh(signed, 0), stage.members.validators
        return tuple(dataclasses.replace(vote, validator_address=one.address) for one in places)

    return stage.votes(change)


@forged
def fresh_votes_of_another_round(stage: Stage) -> Lie:
    return stage.votes(lambda signed: [stage.fresh(signed, place, round=signed.commit.round + 1) for place in range(4)])


@forged
def fresh_votes_of_another_height(stage: Stage) -> Lie:
    height = stage.past.view.header.header.height + 1
    return stage.votes(lambda signed: [stage.fresh(signed, place, height=height) for place in range(4)])


@lie(Untrusted, "header.commit_height", of=GHOST, then=GONE)
def fresh_commit_of_another_height(stage: Stage) -> Lie:
    height = stage.past.view.header.header.height + 1
    return stage.votes(lambda signed: [stage.fresh(signed, place, height=height) for place in range(4)], height=height)


@lie(Untrusted, "header.commit_block", of=GHOST, then=GONE)
def fresh_commit_of_the_newest_block(stage: Stage) -> Lie:
    newest = stage.bribed.header("latest").header.commit
    return stage.again(
        dataclasses.replace(
            stage.past.view,
            header=dataclasses.replace(
                stage.past.view.header,
                commit=dataclasses.replace(newest, height=stage.past.view.header.header.height),
            ),
        )
    )


@forged
def fresh_votes_for_nothing_counted_as_votes(stage: Stage) -> Lie:
    nothing = BlockId(hash=b"", parts_total=0, parts_hash=b"")
    return stage.votes(lambda signed: [stage.fresh(signed, place, block_id=nothing) for place in range(4)])


@lie(Untrusted, "header.power", of=GHOST, then=GONE)
def fresh_votes_marked_as_for_nothing(stage: Stage) -> Lie:
    return stage.votes(
        lambda signed: [dataclasses.replace(stage.fresh(signed, place), flag=VoteFlag.NIL) for place in range(4)]
    )


# --- lines ------------------------------------------------------------------------------------------------------------


def begin(line: Line, *headers: str) -> None:
    line.wfile.write("\r\n".join(("HTTP/1.1 200 OK", *headers, "", "")).encode())


@lie(Unreachable, "http.timeout", timeout_ms=HANGS_MS)
def hangs(stage: Stage) -> Lie:
    return Lie(line=lambda line: time.sleep(HANGS_MS / 1000 + 1))


@lie(Unreachable, "http.timeout", timeout_ms=HANGS_MS)
def drips_bytes(stage: Stage) -> Lie:
    def drip(line: Line) -> None:
        begin(line, "content-type: application/cbor", "content-length: 1000")
        until = time.monotonic() + HANGS_MS / 1000 + 1
        while time.monotonic() < until:
            line.wfile.write(b"\xa7")
            time.sleep(0.2)

    return Lie(line=drip)


@lie(Malformed, "http.too_large")
def answers_a_gigabyte(stage: Stage) -> Lie:
    def flood(line: Line) -> None:
        begin(line, f"content-length: {1 << 30}")
        for _ in range((1 << 30) // len(PIECE)):
            line.wfile.write(PIECE)

    return Lie(line=flood)


@lie(Unreachable, "http.answer_encoding")
def answers_a_gigabyte_in_a_megabyte(stage: Stage) -> Lie:
    packed = gzip.compress(bytes(1 << 20) * 64) * 16

    def bomb(line: Line) -> None:
        begin(line, "content-encoding: gzip", f"content-length: {len(packed)}")
        line.wfile.write(packed)

    return Lie(line=bomb)


@lie(Unreachable, "http.unreachable")
def header_lines_without_end(stage: Stage) -> Lie:
    def endless(line: Line) -> None:
        line.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1 << 16):
            line.wfile.write(b"x: " + bytes([120]) * 1000 + b"\r\n")

    return Lie(line=endless)


@lie(Unreachable, "http.unreachable")
def closes_early(stage: Stage) -> Lie:
    def close(line: Line) -> None:
        begin(line, "content-type: application/cbor", "content-length: 1000")
        line.wfile.write(PIECE[:100])

    return Lie(line=close)


@lie(Unreachable, "http.status")
def redirects(stage: Stage) -> Lie:
    def redirect(line: Line) -> None:
        where = f"location: {stage.bribed.url}{line.path}"
        line.wfile.write(f"HTTP/1.1 307 Temporary Redirect\r\n{where}\r\ncontent-length: 0\r\n\r\n".encode())

    return Lie(line=redirect)


@lie(Malformed, "wire.trailing")
def nonsense(stage: Stage) -> Lie:
    def babble(line: Line) -> None:
        begin(line, "content-type: application/cbor", "content-length: 100")
        line.wfile.write(bytes(100))

    return Lie(line=babble)
