"""Views of a store: what is put together from encoded parts is what the messages would encode, and proves itself."""

from __future__ import annotations

import dataclasses

import pytest

from onecode.attest.software import SoftwareAttester
from onecode.enclave.core import Enclave, EnclaveSettings
from onecode.enclave.frames import EnclaveQuery, HeaderUpdate, PlatformsPart
from onecode.errors import Malformed, Unreachable, Untrusted
from onecode.node.blocks import StoredBlock, StoredHeader, load_state, put_header, put_state
from onecode.node.enclave_port import PLATFORMS_PART_BYTES
from onecode.node.view import (
    Head,
    answer_bytes,
    enclave_query_bytes,
    find,
    find_merchant,
    header_update_bytes,
    leaf_view_bytes,
    load_head,
    member_view_bytes,
    network_view_bytes,
    platform_parts,
    platforms_part_bytes,
    raw_list,
    state_mark,
)
from onecode.proof.governance import ENCLAVE_POLICY_KEY, PLATFORMS_KEY, PlatformsLeaf, ProposalKind, SchemeLeaf
from onecode.proof.leaves import PlatformLeaf, alias_key
from onecode.proof.light import Trust, trusted_state
from onecode.proof.map import Section, app_hash, verify_absence, verify_presence, verify_roots
from onecode.query.messages import Alias, Answer, ClearQuery, LeafView, MemberView, NetworkView
from onecode.query.verify import verify_enclave, verify_platforms, verify_policy
from onecode.registry.map import load, section_roots, update
from onecode.registry.transactions import AliasBind, Kind, Purpose
from onecode.schema import parse
from onecode.wire import FRAME_BYTES_MAX, SigningKey, encode, sha256
from unit.registry.codes_merchants import attest_call
from unit.registry.world import CHAIN, PAY, World, signing_key
from vectors.proof_chain import make_header, signed_by, validator_set

MEMBERS = validator_set([1, 2, 3, 4])


def prove_state(world: World, height: int) -> None:
    """Record the world's state as that of block `height`, and the header that proves it."""
    proven = app_hash(section_roots(world.store))
    put_state(
        world.store, StoredBlock(height=height, time_ms=world.time_ms, transactions=(), results=(), app_hash=proven)
    )
    header = make_header(height + 1, MEMBERS, app_hash=proven, chain_id=CHAIN)
    signed = signed_by(header, [1, 2, 3, 4], [world.time_ms] * 4)
    put_header(world.store, StoredHeader(signed=signed, validators=MEMBERS), load_state(world.store))


@pytest.fixture
def world() -> World:
    world = World()
    for platform in world.platforms[:2]:
        world.link(world.merchants[0], platform)
    prove_state(world, 7)
    return world


def clear(world: World, **changes: object) -> ClearQuery:
    given = {"merchant": world.merchants[0].id} | changes
    return ClearQuery(protocol=1, chain_id=CHAIN, service=PAY, query_key=b"k" * 32, **given)  # type: ignore[arg-type]


def answered(world: World, asked: ClearQuery, head: Head) -> tuple[Answer, EnclaveQuery]:
    """The answer, and what the enclave gets; both in their one encoding."""
    found = find(world.store, asked)
    raw, query = answer_bytes(asked, head, found, b"sealed"), enclave_query_bytes(b"query", head, found)
    answer, enclave_query = parse(Answer, raw), parse(EnclaveQuery, query)
    assert (answer.encoded(), enclave_query.encoded()) == (raw, query)
    assert (enclave_query.aliases, enclave_query.merchant) == (answer.aliases, answer.merchant)
    assert enclave_query.height == answer.height == head.height
    return answer, enclave_query


def test_an_answer_has_all_that_the_wallet_lacks(world: World) -> None:
    head = load_head(world.store)
    answer, query = answered(world, clear(world), head)
    assert answer.height == 8 and answer.header is not None and answer.validators == MEMBERS
    verify_roots(answer.roots, answer.header.header.app_hash)
    listed = sorted(platform.id for platform in world.platforms[:2])
    assert sorted(verify_platforms(answer.platforms, answer.roots, {})) == listed  # not the third one
    assert answer.merchant is not None and answer.merchant.entry is not None
    verify_presence(
        answer.roots, Section.MERCHANTS, world.merchants[0].id, answer.merchant.entry, answer.merchant.proof
    )
    assert len(query.envelopes) == 2
    short, _ = answered(world, clear(world, have_height=8, have_platforms_root=head.platforms_root), head)
    assert (short.header, short.validators, short.platforms) == (None, None, None)


def test_absence_of_merchant_and_of_service(world: World) -> None:
    head = load_head(world.store)
    absent = b"x" * 20
    answer, query = answered(world, clear(world, merchant=absent), head)
    assert answer.merchant is not None and answer.merchant.entry is None and query.envelopes == ()
    verify_absence(answer.roots, Section.MERCHANTS, absent, answer.merchant.proof)
    other = find_merchant(world.store, world.merchants[0].id, "food")
    assert (other.listed, other.envelopes) == ((), ())


def test_aliases_name_a_merchant_or_are_proven_absent(world: World) -> None:
    bound, other = Alias(guid="com.scheme", values=("77",)), Alias(guid="com.scheme", values=("78",))
    speaker, merchant = world.platforms[0], world.merchants[0]
    scheme = SchemeLeaf(platform=speaker.id, sub_objects=("01",), effective_ms=0)
    assert world.govern(ProposalKind.SCHEME_ASSIGN, guid="com.scheme", scheme=scheme).name == "OK"
    world.pass_time(2 * 3_600_000)
    consent = world.consent(
        merchant, speaker, purpose=Purpose.ALIAS, service=None, alias=alias_key("com.scheme", ("77",))
    )
    bind = AliasBind(guid="com.scheme", values=("77",), merchant=merchant.id, consent=consent)
    assert world.run(world.platform_call(speaker, Kind.ALIAS_BIND, bind)).name == "OK"
    prove_state(world, 9)
    head = load_head(world.store)
    answer, query = answered(world, clear(world, merchant=None, aliases=(other, bound)), head)
    assert answer.aliases is not None and [given.leaf is None for given in answer.aliases] == [True, False]
    assert answer.merchant is not None and answer.merchant.merchant == merchant.id
    assert len(query.envelopes) == 2
    nothing, _ = answered(world, clear(world, merchant=None, aliases=(other,)), head)
    assert nothing.merchant is None and nothing.platforms is None


def test_a_query_names_one_subject(world: World) -> None:
    with pytest.raises(Malformed, match="or aliases"):
        find(world.store, clear(world, merchant=None))
    with pytest.raises(Malformed, match="not both"):
        find(world.store, clear(world, aliases=(Alias(guid="a", values=("1",)),)))


def test_a_head_is_loaded_again_when_the_state_changes(world: World) -> None:
    head, mark = load_head(world.store), state_mark(world.store)
    world.link(world.merchants[1], world.platforms[0])
    prove_state(world, 8)
    assert state_mark(world.store) != mark
    newer = load_head(world.store, head)
    assert newer.height == 9 and newer.platforms is head.platforms  # no platform changed
    assert world.govern(ProposalKind.PLATFORM_SUSPEND, platform=world.platforms[2].id).name == "OK"
    prove_state(world, 10)
    assert load_head(world.store, newer).platforms[world.platforms[2].id] != head.platforms[world.platforms[2].id]


def test_a_state_that_no_header_proves_is_not_served(world: World) -> None:
    unproven = StoredBlock(height=8, time_ms=world.time_ms, transactions=(), results=(), app_hash=b"x" * 32)
    put_state(world.store, unproven)
    with pytest.raises(Unreachable, match="no proven state"):
        load_head(world.store)


@pytest.mark.parametrize("with_platforms", [True, False])
def test_a_header_update_is_the_enclaves_message(world: World, with_platforms: bool) -> None:
    head = load_head(world.store)
    raw = header_update_bytes(head, with_platforms=with_platforms)
    parsed = parse(HeaderUpdate, raw)
    assert parsed.encoded() == raw
    assert (parsed.platforms is not None) == with_platforms
    verify_presence(parsed.roots, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, parsed.policy, parsed.policy_proof)


def test_the_network_view_has_what_each_platform_says_of_the_nodes_enclave(world: World) -> None:
    """And nothing that anybody says of another enclave."""
    one, two, _ = world.platforms
    assert world.run(attest_call(world, one, "elsewhere"), attest_call(world, two)).name == "OK"
    assert world.run(attest_call(world, one, node_id="of another name")).name == "OK"
    prove_state(world, 9)
    head = load_head(world.store)
    query_key = signing_key("enclave").public
    raw = network_view_bytes(world.store, head, query_key)
    view = parse(NetworkView, raw)
    assert view.encoded() == raw
    policy = verify_policy(view.roots, view.policy, view.policy_proof)
    assert {given.query_key for given in view.enclaves} == {query_key}
    names = {
        given.platform: verify_enclave(given, view.roots, given.platform, policy, world.time_ms, world.time_ms).node_id
        for given in view.enclaves
    }
    assert names == {one.id: "of another name", two.id: "node"}


def test_views_are_their_messages(world: World) -> None:
    head = load_head(world.store)
    network = network_view_bytes(world.store, head, b"k" * 32)
    view = parse(NetworkView, network)
    assert view.encoded() == network and view.enclaves == () and len(view.platforms) == 3
    assert network_view_bytes(world.store, head, None) == network
    verify_policy(view.roots, view.policy, view.policy_proof)
    member = member_view_bytes(world.store, head, world.merchants[0].id, PAY)
    parsed = parse(MemberView, member)
    assert parsed.encoded() == member and len(parsed.envelopes) == 2 and len(parsed.platforms) == 3
    for key in (world.platforms[0].id, b"x" * 20):
        leaf = leaf_view_bytes(world.store, head, Section.PLATFORMS, key)
        assert parse(LeafView, leaf).encoded() == leaf


@pytest.mark.parametrize("count", [0, 1, 23, 24, 255, 256, 1000])
def test_a_list_of_encoded_values_is_the_list_encoded(count: int) -> None:
    items = list(range(count))
    assert raw_list([encode(item) for item in items]) == encode(items)


def large_world() -> World:
    """A network of 1,000 platforms, each with the keys of all roles and addresses."""
    world = World()
    one = load(world.store, Section.PLATFORMS, world.platforms[0].id)
    assert one is not None
    leaf = dataclasses.replace(
        parse(PlatformLeaf, one), url="https://" + "u" * 180, key_service_url="https://" + "k" * 180
    )
    listed = load(world.store, Section.GOVERNANCE, PLATFORMS_KEY)
    assert listed is not None
    ids = sorted({*parse(PlatformsLeaf, listed).platforms, *(sha256(b"%d" % number)[:20] for number in range(997))})
    update(world.store, Section.PLATFORMS, {platform: leaf.encoded() for platform in ids})
    update(world.store, Section.GOVERNANCE, {PLATFORMS_KEY: PlatformsLeaf(platforms=tuple(ids)).encoded()})
    prove_state(world, 7)
    return world


def test_an_enclave_takes_a_thousand_platforms_in_parts() -> None:
    """All of them do not fit into one frame; each part and the header with the last one do."""
    world = large_world()
    head = load_head(world.store)
    assert len(header_update_bytes(head, with_platforms=True)) > FRAME_BYTES_MAX
    trust = Trust(trusted_state(head.signed.header, MEMBERS))
    settings = EnclaveSettings(CHAIN, "node-1", trust)
    enclave = Enclave(settings, SoftwareAttester(SigningKey.from_seed(b"v" * 32), b"m" * 32), bytes, world.time_ms)
    *ahead, last = platform_parts(head, PLATFORMS_PART_BYTES)
    assert ahead and sum(map(len, [*ahead, last])) == 1000
    for part in ahead:
        raw = platforms_part_bytes(head, part)
        assert len(raw) < FRAME_BYTES_MAX
        parsed = parse(PlatformsPart, raw)
        assert parsed.encoded() == raw
        enclave.accept_platforms(parsed)
    raw = header_update_bytes(head, with_platforms=True, part=last)
    assert len(raw) < FRAME_BYTES_MAX
    enclave.accept_header(parse(HeaderUpdate, raw), world.time_ms)
    assert enclave.status().platforms_root == head.platforms_root
    assert len(enclave._known[8].platforms) == 1000


def test_a_part_is_not_believed_before_its_header() -> None:
    world = large_world()
    head = load_head(world.store)
    trust = Trust(trusted_state(head.signed.header, MEMBERS))
    settings = EnclaveSettings(CHAIN, "node-1", trust)
    enclave = Enclave(settings, SoftwareAttester(SigningKey.from_seed(b"v" * 32), b"m" * 32), bytes, world.time_ms)
    *ahead, last = platform_parts(head, PLATFORMS_PART_BYTES)
    part = parse(PlatformsPart, platforms_part_bytes(head, ahead[0]))
    forged = dataclasses.replace(part.platforms[0], leaf=b"\xa0")
    enclave.accept_platforms(dataclasses.replace(part, platforms=(forged,)))
    with pytest.raises(Untrusted, match="root"):
        enclave.accept_header(
            parse(HeaderUpdate, header_update_bytes(head, with_platforms=True, part=last)), world.time_ms
        )
    for number in range(5):  # roots without a header are forgotten
        enclave.accept_platforms(dataclasses.replace(part, root=bytes((number,)) * 32))
    assert len(enclave._ahead) == 2
