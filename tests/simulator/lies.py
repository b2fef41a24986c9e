"""One function a lie: each makes a node that tells it, over a chain on which an honest answer would be paid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from chain_world import CHAIN_ID, MERCHANT, NOW_MS, SERVICE, make_record
from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.governance import ENCLAVE_POLICY_KEY, EnclavePolicy, Measurement
from onecode.proof.header import BlockId, CommitVote, SignedHeader, VoteFlag, validators_hash
from onecode.proof.leaves import LinkList, PlatformStatus, Role, ServiceEntry, links_hash
from onecode.proof.map import PathProof, Section, app_hash, key_hash
from onecode.query.messages import (
    Answer,
    HeaderView,
    NetworkView,
    Opened,
    ProvenMerchant,
    ProvenPlatform,
    Query,
    Result,
)
from onecode.record.envelope import sign_record
from onecode.registry.map import prove, section_roots
from onecode.wire import FRAME_BYTES_MAX, sha256
from simulator.world import RETIRED_BUILD, RETIRED_KEY, Chain, HostileNode, Node
from vectors.proof_chain import make_header, signed_by, validator_set, vote

STALE_MS = NOW_MS - 40_000
MEMBERS = validator_set([1, 2, 3, 4])


@dataclass(frozen=True)
class Lie:
    """A named lie and how a wallet that hears nothing else refuses it. `mode` of the query: node or wallet."""

    name: str
    tell: Callable[[Chain], HostileNode]
    branch: type[OnecodeError]
    code: str
    wallet_mode: bool = False


LIES: list[Lie] = []


def lie(
    branch: type[OnecodeError], code: str, *, wallet_mode: bool = False
) -> Callable[[Callable[[Chain], HostileNode]], Callable[[Chain], HostileNode]]:
    def keep(tell: Callable[[Chain], HostileNode]) -> Callable[[Chain], HostileNode]:
        LIES.append(Lie(tell.__name__, tell, branch, code, wallet_mode))
        return tell

    return keep


def merchant_of(answer: Answer) -> ProvenMerchant:
    assert answer.merchant is not None
    return answer.merchant


def with_merchant(answer: Answer, **changes: Any) -> Answer:
    return dataclasses.replace(answer, merchant=dataclasses.replace(merchant_of(answer), **changes))


# --- the record -------------------------------------------------------------------------------------------------------


@lie(Untrusted, "record.commitment")
def altered_record_signed_with_a_stolen_record_key(chain: Chain) -> HostileNode:
    def forge(node: HostileNode, result: Result) -> Result:
        record = make_record(chain.a.id, display_name="A thief's shop")
        signed = sign_record(CHAIN_ID, record, sha256(b"salt" + chain.a.id), chain.a.key(Role.RECORD))
        return dataclasses.replace(result, opened=(Opened(platform=chain.a.id, signed_record=signed.encoded()),))

    return HostileNode(chain, forge=forge)


@lie(Untrusted, "record.commitment")
def record_of_another_platform_under_the_own_id(chain: Chain) -> HostileNode:
    other = chain.publish(chain.b)

    def forge(node: HostileNode, result: Result) -> Result:
        return dataclasses.replace(result, opened=(Opened(platform=chain.a.id, signed_record=other.encoded()),))

    return HostileNode(chain, forge=forge)


@lie(Untrusted, "result.other_record")
def worse_partner_instead_of_the_own_platform(chain: Chain) -> HostileNode:
    other = chain.publish(chain.b, make_record(chain.b.id, audience=(chain.a.id,)))

    def forge(node: HostileNode, result: Result) -> Result:
        return dataclasses.replace(result, opened=(Opened(platform=chain.b.id, signed_record=other.encoded()),))

    return HostileNode(chain, forge=forge)


@lie(Unreachable, "record.unopened", wallet_mode=True)
def worse_partner_alone_in_mode_wallet(chain: Chain) -> HostileNode:
    other = chain.publish(chain.b, make_record(chain.b.id, audience=(chain.a.id,)))

    def forge(node: HostileNode, result: Result) -> Result:
        return dataclasses.replace(result, opened=(Opened(platform=chain.b.id, signed_record=other.encoded()),))

    return HostileNode(chain, forge=forge)


@lie(Untrusted, "result.other_record", wallet_mode=True)
def record_of_an_audience_without_the_wallet(chain: Chain) -> HostileNode:
    other = chain.publish(chain.b)

    def forge(node: HostileNode, result: Result) -> Result:
        more = Opened(platform=chain.b.id, signed_record=other.encoded())
        return dataclasses.replace(result, opened=(*result.opened, more))

    return HostileNode(chain, forge=forge)


@lie(Unreachable, "record.unopened")
def live_record_left_unopened(chain: Chain) -> HostileNode:
    return HostileNode(chain, forge=lambda node, result: dataclasses.replace(result, opened=()))


@lie(Untrusted, "result.other_record")
def one_record_twice(chain: Chain) -> HostileNode:
    return HostileNode(chain, forge=lambda node, result: dataclasses.replace(result, opened=result.opened * 2))


# --- the sealed result ------------------------------------------------------------------------------------------------


@lie(Untrusted, "result.other_query")
def reply_of_another_query_under_this_ones_key(chain: Chain) -> HostileNode:
    return HostileNode(chain, forge=lambda node, result: dataclasses.replace(result, query_id=b"o" * 16))


@lie(Untrusted, "reply.seal")
def reply_of_the_query_before(chain: Chain) -> HostileNode:
    kept: list[bytes] = [b"s" * 4096]

    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        before, kept[0] = kept[0], answer.sealed
        return dataclasses.replace(answer, sealed=before)

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "reply.seal")
def reply_of_an_enclave_that_was_not_asked(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        return dataclasses.replace(answer, sealed=answer.sealed[:12] + bytes(len(answer.sealed) - 12))

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "result.declined_unproven")
def enclave_says_no_without_proof(chain: Chain) -> HostileNode:
    def forge(node: HostileNode, result: Result) -> Result:
        return dataclasses.replace(result, opened=(), refusal="merchant.absent", branch="Declined", detail="no")

    return HostileNode(chain, forge=forge)


@lie(Untrusted, "node.refused")
def host_says_no_without_proof(chain: Chain) -> HostileNode:
    def reply(node: HostileNode, request: httpx.Request) -> httpx.Response | None:
        error = Declined("merchant.absent", "there is none")
        return httpx.Response(409, json=error.problem()) if request.url.path == "/v1/query" else None

    return HostileNode(chain, reply=reply)


@lie(Malformed, "http.too_large")
def answer_of_more_bytes_than_any_has(chain: Chain) -> HostileNode:
    def reply(node: HostileNode, request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, content=bytes(FRAME_BYTES_MAX + 1)) if request.url.path == "/v1/query" else None

    return HostileNode(chain, reply=reply)


# --- merchant and links -----------------------------------------------------------------------------------------------


@lie(Untrusted, "links.hash")
def altered_link(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        links = tuple(dataclasses.replace(link, version=link.version + 1) for link in chain.links().links)
        return with_merchant(answer, links=LinkList(links=links).encoded())

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "links.hash")
def one_link_withheld(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        links = tuple(link for link in chain.links().links if link.platform != chain.a.id)
        return with_merchant(answer, links=LinkList(links=links).encoded())

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "links.withheld")
def all_links_withheld(chain: Chain) -> HostileNode:
    return HostileNode(chain, alter=lambda node, answer, query: with_merchant(answer, links=None))


@lie(Untrusted, "answer.other_merchant")
def entry_of_another_merchant(chain: Chain) -> HostileNode:
    return HostileNode(chain, alter=lambda node, answer, query: with_merchant(answer, merchant=b"o" * 20))


@lie(Untrusted, "answer.other_merchant")
def merchant_left_out(chain: Chain) -> HostileNode:
    return HostileNode(chain, alter=lambda node, answer, query: dataclasses.replace(answer, merchant=None))


@lie(Untrusted, "map.root")
def made_up_entry(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        links = LinkList(links=tuple(link for link in chain.links().links if link.platform == chain.b.id))
        listed = ServiceEntry(service=SERVICE, links_hash=links_hash(CHAIN_ID, MERCHANT, SERVICE, links))
        entry = dataclasses.replace(chain.entry(), services=(listed,)).encoded()
        return with_merchant(answer, entry=entry, links=links.encoded())

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "map.root")
def absence_by_an_empty_slot(chain: Chain) -> HostileNode:
    return HostileNode(chain, alter=lambda node, answer, query: with_merchant(answer, entry=None, links=None))


@lie(Untrusted, "map.other_same_key")
def absence_by_the_merchants_own_leaf(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        given = merchant_of(answer)
        other = sha256(bytes((Section.MERCHANTS,)) + MERCHANT) + sha256(given.entry or b"")
        proof = dataclasses.replace(given.proof, other=other)
        return with_merchant(answer, entry=None, links=None, proof=proof)

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "map.root")
def absence_in_another_section(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        proof = prove(chain.store, Section.ALIASES, MERCHANT)
        return with_merchant(answer, entry=None, links=None, proof=proof)

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "map.app_hash")
def roots_of_an_empty_registry(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        roots = dataclasses.replace(answer.roots, roots=bytes(192))
        absent = ProvenMerchant(merchant=MERCHANT, proof=PathProof(depth=0, mask=b"", siblings=b""))
        return dataclasses.replace(answer, roots=roots, merchant=absent, platforms=chain.proven_platforms())

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "map.root")
def withdrawn_record_under_a_fresh_header(chain: Chain) -> HostileNode:
    """The own platform's record was withdrawn; the node shows entry and links from before, the new header with it."""
    before = chain.proven_merchant()
    old_links = chain.links().encoded()
    del chain.records[chain.a.id]
    chain.publish(chain.b, make_record(chain.b.id, audience=(chain.a.id,)))

    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        return with_merchant(answer, entry=before.entry, links=old_links)

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "map.root")
def freeze_hidden(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        thawed = dataclasses.replace(chain.entry(), frozen_from_ms=NOW_MS - 1000, frozen_until_ms=NOW_MS - 500)
        return with_merchant(answer, entry=thawed.encoded())

    return HostileNode(chain, alter=alter)


# --- platforms --------------------------------------------------------------------------------------------------------


def leaf_in_view(chain: Chain, leaf: bytes) -> HostileNode:
    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        given = tuple(
            dataclasses.replace(proven, leaf=leaf) if proven.platform == chain.a.id else proven
            for proven in honest.platforms
        )
        return dataclasses.replace(honest, platforms=given)

    return HostileNode(chain, view=view)


@lie(Untrusted, "map.root")
def platform_leaf_of_another_platform(chain: Chain) -> HostileNode:
    return leaf_in_view(chain, chain.b.leaf().encoded())


@lie(Untrusted, "map.root")
def platform_leaf_with_another_record_key(chain: Chain) -> HostileNode:
    return leaf_in_view(chain, dataclasses.replace(chain.a.leaf(), keys=chain.b.leaf().keys).encoded())


@lie(Untrusted, "map.root")
def platform_leaf_swapped_in_the_answer(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        proof = prove(chain.store, Section.PLATFORMS, chain.a.id)
        swapped = ProvenPlatform(platform=chain.a.id, leaf=chain.b.leaf().encoded(), proof=proof)
        return dataclasses.replace(answer, platforms=(swapped,))

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "map.root")
def suspended_partner_shown_as_active(chain: Chain) -> HostileNode:
    chain.leaves[chain.b.id] = chain.b.leaf(status=PlatformStatus.SUSPENDED)

    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        given = tuple(
            dataclasses.replace(proven, leaf=chain.b.leaf().encoded()) if proven.platform == chain.b.id else proven
            for proven in honest.platforms
        )
        return dataclasses.replace(honest, platforms=given)

    return HostileNode(chain, view=view)


@lie(Untrusted, "network.own_missing")
def own_platform_withheld(chain: Chain) -> HostileNode:
    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        return dataclasses.replace(
            honest, platforms=tuple(proven for proven in honest.platforms if proven.platform != chain.a.id)
        )

    return HostileNode(chain, view=view)


@lie(Untrusted, "platform.withheld")
def listed_platform_withheld(chain: Chain) -> HostileNode:
    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        return dataclasses.replace(
            honest, platforms=tuple(proven for proven in honest.platforms if proven.platform != chain.b.id)
        )

    return HostileNode(chain, view=view)


# --- the enclave's key ------------------------------------------------------------------------------------------------


@lie(Untrusted, "map.root")
def key_of_an_enclave_that_the_chain_does_not_list(chain: Chain) -> HostileNode:
    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        return dataclasses.replace(
            honest, enclaves=tuple(dataclasses.replace(given, query_key=b"k" * 32) for given in honest.enclaves)
        )

    return HostileNode(chain, view=view)


@lie(Untrusted, "map.root")
def word_of_another_platform_as_the_own_ones(chain: Chain) -> HostileNode:
    chain.attested_by = (chain.a.id, chain.b.id)

    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        other = next(given for given in honest.enclaves if given.platform == chain.b.id)
        return dataclasses.replace(honest, enclaves=(dataclasses.replace(other, platform=chain.a.id),))

    return HostileNode(chain, view=view)


@lie(Unreachable, "enclave.none")
def enclave_of_a_build_that_governance_removed(chain: Chain) -> HostileNode:
    """The own platform attested it before, and that has not ended."""

    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        return dataclasses.replace(honest, enclaves=(chain.proven_enclave(RETIRED_KEY, chain.a.id),))

    return HostileNode(chain, view=view)


def with_policy(chain: Chain, policy: bytes, proof: Callable[[PathProof], PathProof]) -> HostileNode:
    """A node with an enclave of the removed build, and a policy of its own choice."""

    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        return dataclasses.replace(
            honest,
            enclaves=(chain.proven_enclave(RETIRED_KEY, chain.a.id),),
            policy=policy,
            policy_proof=proof(honest.policy_proof),
        )

    return HostileNode(chain, view=view)


def older_policy(chain: Chain) -> EnclavePolicy:
    retired = Measurement(kind="software", measurement=RETIRED_BUILD, effective_ms=0)
    return dataclasses.replace(chain.policy, measurements=(*chain.policy.measurements, retired))


@lie(Untrusted, "map.root")
def forged_policy(chain: Chain) -> HostileNode:
    return with_policy(chain, older_policy(chain).encoded(), lambda proof: proof)


@lie(Untrusted, "map.root")
def policy_from_before_the_build_was_removed(chain: Chain) -> HostileNode:
    older = Chain()
    older.policy = older_policy(chain)
    older.header()
    proof = prove(older.store, Section.GOVERNANCE, ENCLAVE_POLICY_KEY)
    return with_policy(chain, older.policy.encoded(), lambda _: proof)


@lie(Untrusted, "map.root")
def policy_withheld(chain: Chain) -> HostileNode:
    return with_policy(chain, b"", lambda proof: proof)


@lie(Untrusted, "map.other_same_key")
def policy_said_to_be_absent(chain: Chain) -> HostileNode:
    other = key_hash(Section.GOVERNANCE, ENCLAVE_POLICY_KEY) + sha256(chain.policy.encoded())
    return with_policy(chain, b"", lambda proof: dataclasses.replace(proof, other=other))


@lie(Untrusted, "map.app_hash")
def view_of_a_registry_of_the_nodes_own_making(chain: Chain) -> HostileNode:
    made_up = Chain()
    made_up.leaves[chain.a.id] = made_up.a.leaf(name="A with another leaf")
    other = Node(made_up)
    return HostileNode(chain, view=lambda node, honest: dataclasses.replace(other.network(), header=honest.header))


@lie(Unreachable, "enclave.none")
def no_enclave_of_the_own_platform(chain: Chain) -> HostileNode:
    return HostileNode(chain, view=lambda node, honest: dataclasses.replace(honest, enclaves=()))


# --- headers ----------------------------------------------------------------------------------------------------------


def with_view_header(chain: Chain, header: Callable[[], SignedHeader]) -> HostileNode:
    return HostileNode(chain, view=lambda node, honest: dataclasses.replace(honest, header=header()))


@lie(Untrusted, "header.stale")
def stale_header_in_the_view(chain: Chain) -> HostileNode:
    return with_view_header(chain, lambda: chain.header(signed_ms=STALE_MS))


@lie(Untrusted, "header.stale")
def stale_header_in_the_answer(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        stale = chain.header(chain.height + 1, signed_ms=STALE_MS)
        return dataclasses.replace(answer, height=chain.height + 1, header=stale, validators=MEMBERS)

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "header.future")
def header_signed_in_the_future(chain: Chain) -> HostileNode:
    return with_view_header(chain, lambda: chain.header(signed_ms=NOW_MS + 60_000))


@lie(Untrusted, "header.chain_id")
def header_of_another_chain(chain: Chain) -> HostileNode:
    return with_view_header(chain, lambda: chain.header(chain_id="onecode-other"))


@lie(Untrusted, "header.power")
def half_of_the_voting_power(chain: Chain) -> HostileNode:
    def half() -> SignedHeader:
        signed: SignedHeader = chain.header()
        return signed_by(signed.header, [1, 2, None, None], [NOW_MS - 2000] * 4)

    return with_view_header(chain, half)


@lie(Untrusted, "header.signature")
def header_altered_after_it_was_signed(chain: Chain) -> HostileNode:
    def altered() -> SignedHeader:
        signed: SignedHeader = chain.header()
        changed = signed_by(dataclasses.replace(signed.header, app_hash=bytes(32)), [1, 2, 3, 4], [NOW_MS] * 4)
        votes = signed.commit.votes
        return dataclasses.replace(changed, commit=dataclasses.replace(changed.commit, votes=votes))

    return with_view_header(chain, altered)


@lie(Untrusted, "header.next_validators")
def header_by_validators_of_the_nodes_own_making(chain: Chain) -> HostileNode:
    strangers = validator_set(["x", "y"])

    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        header = make_header(3, strangers, app_hash=app_hash(section_roots(chain.store)))
        header = dataclasses.replace(header, height=11, time_ns=(NOW_MS - 10_000) * 1_000_000)
        assert header.validators_hash == validators_hash(strangers)
        signed = signed_by(header, ["x", "y"], [NOW_MS] * 2)
        return dataclasses.replace(honest, header=signed, validators=strangers)

    return HostileNode(chain, view=view)  # headers between are honest: the last step is the lie


@lie(Untrusted, "answer.height")
def answer_of_another_height_than_its_header(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        return dataclasses.replace(answer, height=99, header=chain.header(11), validators=MEMBERS)

    return HostileNode(chain, alter=alter)


@lie(Untrusted, "answer.header_withheld")
def header_withheld(chain: Chain) -> HostileNode:
    return HostileNode(chain, alter=lambda node, answer, query: dataclasses.replace(answer, height=99))


@lie(Unreachable, "node.behind")
def answer_from_before_the_wallets_newest_header(chain: Chain) -> HostileNode:
    def alter(node: HostileNode, answer: Answer, query: Query) -> Answer:
        old = chain.header(chain.height - 1)
        return dataclasses.replace(answer, height=chain.height - 1, header=old, validators=MEMBERS)

    return HostileNode(chain, alter=alter)


# --- chains and votes of the node's own making ------------------------------------------------------------------------


def forked_chain(chain: Chain, names: list[int | str], *, between: str) -> HostileNode:
    """A chain that `names` make up beside the true one. between: what the node gives of the way there."""
    members = validator_set(names)

    def header(height: int) -> SignedHeader:
        made = make_header(height, members, time_ns=(NOW_MS - 50_000 + 1000 * height) * 1_000_000, app_hash=bytes(32))
        return signed_by(made, names, [NOW_MS - 2000] * len(names))

    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        return dataclasses.replace(honest, header=header(chain.height), validators=members)

    def reply(node: HostileNode, request: httpx.Request) -> httpx.Response | None:
        if between == "true" or not request.url.path.startswith("/v1/headers/"):
            return None
        if between == "none":
            return httpx.Response(404, json={"title": "Declined", "status": 404, "code": "node.header_absent"})
        height = int(request.url.path.rsplit("/", 1)[1])
        return httpx.Response(200, content=HeaderView(header=header(height), validators=members).encoded())

    return HostileNode(chain, view=view, reply=reply)


@lie(Untrusted, "header.next_validators")
def chain_forked_by_a_quarter_of_the_power(chain: Chain) -> HostileNode:
    return forked_chain(chain, [1, "x", "y"], between="made up")


@lie(Untrusted, "header.next_validators")
def chain_forked_by_half_of_the_power(chain: Chain) -> HostileNode:
    return forked_chain(chain, [1, 2, "x"], between="made up")


@lie(Untrusted, "header.next_validators")
def chain_forked_by_half_of_the_power_after_true_headers(chain: Chain) -> HostileNode:
    return forked_chain(chain, [1, 2, "x"], between="true")


@lie(Untrusted, "node.refused")
def chain_forked_by_half_of_the_power_and_no_headers_between(chain: Chain) -> HostileNode:
    return forked_chain(chain, [1, 2, "x"], between="none")


def with_votes(chain: Chain, change: Callable[[SignedHeader], tuple[CommitVote, ...]]) -> HostileNode:
    """Four validators, whose votes of 40 s ago are changed."""

    def header() -> SignedHeader:
        signed = chain.header(signed_ms=STALE_MS)
        return dataclasses.replace(signed, commit=dataclasses.replace(signed.commit, votes=change(signed)))

    return with_view_header(chain, header)


def dated(signed: SignedHeader, name: int, **changes: Any) -> CommitVote:
    """A vote of that validator, dated now; `changes` are to what it signs."""
    return vote(signed.header, dataclasses.replace(signed.commit, **changes), name, NOW_MS * 1_000_000)


@lie(Untrusted, "header.stale")
def forged_fresh_votes_behind_an_old_quorum(chain: Chain) -> HostileNode:
    def change(signed: SignedHeader) -> tuple[CommitVote, ...]:
        return *signed.commit.votes[:3], dataclasses.replace(dated(signed, 4), signature=bytes(64))

    return with_votes(chain, change)


@lie(Untrusted, "header.signature")
def forged_fresh_votes_before_an_old_quorum(chain: Chain) -> HostileNode:
    def change(signed: SignedHeader) -> tuple[CommitVote, ...]:
        return dataclasses.replace(dated(signed, 1), signature=bytes(64)), *signed.commit.votes[1:]

    return with_votes(chain, change)


@lie(Untrusted, "header.stale")
def one_validator_dates_its_vote_anew(chain: Chain) -> HostileNode:
    return with_votes(chain, lambda signed: (dated(signed, 1), *signed.commit.votes[1:]))


@lie(Untrusted, "header.vote_address")
def one_fresh_vote_at_three_places(chain: Chain) -> HostileNode:
    return with_votes(chain, lambda signed: (*[dated(signed, 1)] * 3, signed.commit.votes[3]))


@lie(Untrusted, "header.signature")
def votes_for_nothing_counted_as_votes(chain: Chain) -> HostileNode:
    nothing = BlockId(hash=b"", parts_total=0, parts_hash=b"")
    return with_votes(chain, lambda signed: tuple(dated(signed, name, block_id=nothing) for name in (1, 2, 3, 4)))


@lie(Untrusted, "header.power")
def votes_marked_as_for_nothing(chain: Chain) -> HostileNode:
    def change(signed: SignedHeader) -> tuple[CommitVote, ...]:
        return tuple(dataclasses.replace(dated(signed, name), flag=VoteFlag.NIL) for name in (1, 2, 3, 4))

    return with_votes(chain, change)


@lie(Untrusted, "header.signature")
def votes_of_another_round(chain: Chain) -> HostileNode:
    return with_votes(chain, lambda signed: tuple(dated(signed, name, round=1) for name in (1, 2, 3, 4)))


@lie(Untrusted, "header.signature")
def votes_of_another_height(chain: Chain) -> HostileNode:
    height = chain.height + 1
    return with_votes(chain, lambda signed: tuple(dated(signed, name, height=height) for name in (1, 2, 3, 4)))
