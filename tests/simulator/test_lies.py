"""Every lie of a node is refused by its own code, and the next node is asked; proven facts are final."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from chain_world import MERCHANT, NOW_MS, make_record
from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.leaves import KeyState, PlatformStatus, Role
from onecode.query.messages import Answer, MatchMode, NetworkView, Opened, Query, Result
from simulator.lies import LIES, Lie
from simulator.world import RETIRED_KEY, SCHEME, STATIC, Chain, HostileNode, Lab, Node, foreign, same_record

EACH_LIE = pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)


def mode_of(lie: Lie) -> MatchMode:
    return MatchMode.WALLET if lie.wallet_mode else MatchMode.NODE


@EACH_LIE
def test_a_lie_is_refused(lab: Lab, lie: Lie) -> None:
    wallet = lab.wallet(lie.tell(lab.chain))
    with pytest.raises(OnecodeError) as caught:
        wallet.resolve(wallet.read(STATIC), mode_of(lie))
    assert (type(caught.value), caught.value.code) == (lie.branch, lie.code)


@EACH_LIE
def test_the_next_node_is_asked_and_the_lie_is_kept(lab: Lab, lie: Lie) -> None:
    hostile = lie.tell(lab.chain)
    wallet = lab.wallet(hostile, Node(lab.chain))
    found = wallet.resolve(wallet.read(STATIC), mode_of(lie)).target
    expected = lab.chain.a if lab.chain.a.id in lab.chain.records else lab.chain.b
    assert same_record(found, lab.chain, expected)
    assert [failure.node_url for failure in wallet.failures] == ["http://node-0"]


# --- what is proven is final ------------------------------------------------------------------------------------------


def frozen_merchant(chain: Chain) -> None:
    chain.entry_changes = {"frozen_from_ms": NOW_MS - 1000, "frozen_until_ms": NOW_MS + 1000}


def withdrawn_by_all(chain: Chain) -> None:
    chain.records.clear()


def service_never_published(chain: Chain) -> None:
    chain.entry_changes = {"services": ()}


def own_platform_suspended(chain: Chain) -> None:
    chain.leaves[chain.a.id] = chain.a.leaf(status=PlatformStatus.SUSPENDED)


def partner_suspended_and_no_own_record(chain: Chain) -> None:
    chain.publish(chain.b, make_record(chain.b.id, audience=(chain.a.id,)))
    del chain.records[chain.a.id]
    chain.leaves[chain.b.id] = chain.b.leaf(status=PlatformStatus.SUSPENDED)


def partner_whose_audience_lacks_the_wallet(chain: Chain) -> None:
    del chain.records[chain.a.id]


def record_expired(chain: Chain) -> None:
    chain.publish(chain.a, make_record(chain.a.id, valid_until_ms=NOW_MS - 1))


FACTS: list[tuple[Callable[[Chain], None], str]] = [
    (frozen_merchant, "merchant.frozen"),
    (withdrawn_by_all, "platform.absent"),
    (service_never_published, "service.absent"),
    (own_platform_suspended, "network.own_suspended"),
    (partner_suspended_and_no_own_record, "platform.absent"),
    (partner_whose_audience_lacks_the_wallet, "platform.absent"),
    (record_expired, "record.expired"),
]


@pytest.mark.parametrize(("fact", "code"), FACTS, ids=[fact.__name__ for fact, _ in FACTS])
def test_a_proven_no_is_final(lab: Lab, fact: Callable[[Chain], None], code: str) -> None:
    fact(lab.chain)
    second = Node(lab.chain)
    wallet = lab.wallet(Node(lab.chain), second)
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == code
    assert second.asked == 0
    assert wallet.failures == []


def test_a_merchant_that_nobody_published_is_declined(lab: Lab) -> None:
    code = lab.wallet().read(STATIC).code
    wallet = lab.wallets[0]
    with pytest.raises(Declined) as caught:
        wallet.resolve(dataclasses.replace(code, merchant_id=b"n" * 20))  # type: ignore[type-var]
    assert caught.value.code == "merchant.absent"


# --- faults of the own platform that the chain shows ------------------------------------------------------------------


def test_a_record_that_names_another_audience_than_its_link(lab: Lab) -> None:
    lab.chain.publish(lab.chain.a, make_record(lab.chain.a.id), audience=(lab.chain.b.id,))
    wallet = lab.wallet()
    with pytest.raises(Untrusted) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "record.audience"


def test_a_record_signed_with_a_revoked_key(lab: Lab) -> None:
    leaf = lab.chain.a.leaf()
    keys = tuple(
        dataclasses.replace(key, state=KeyState.REVOKED) if key.role == Role.RECORD else key for key in leaf.keys
    )
    lab.chain.leaves[lab.chain.a.id] = dataclasses.replace(leaf, keys=keys)
    wallet = lab.wallet()
    with pytest.raises(Untrusted) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "platform.key_state"


def test_an_enclave_that_another_platform_attested_is_not_asked(lab: Lab) -> None:
    lab.chain.attested_by = (lab.chain.b.id,)
    wallet = lab.wallet()
    with pytest.raises(Unreachable) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "enclave.none"


@pytest.mark.parametrize(("left_ms", "asked"), [(1, True), (0, False)])
def test_an_attestation_ends_at_its_time(lab: Lab, left_ms: int, asked: bool) -> None:
    lab.chain.attested_until_ms = NOW_MS + left_ms
    wallet = lab.wallet()
    if asked:
        assert same_record(wallet.resolve(wallet.read(STATIC)).target, lab.chain, lab.chain.a)
        return
    with pytest.raises(Unreachable) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "enclave.none"


def test_a_build_that_leaves_the_policy_gets_no_query_more(lab: Lab) -> None:
    """Its attestation has not ended; a wallet that knew the enclave refuses it with its next network view."""
    wallet = lab.wallet()
    wallet.resolve(wallet.read(STATIC))
    lab.chain.policy = dataclasses.replace(lab.chain.policy, measurements=(), serial=2)
    lab.chain.height += 1
    lab.now_ms += 28_001  # the view is not used again
    lab.chain.header = lambda *args, **changes: Chain.header(  # type: ignore[method-assign]
        lab.chain, *args, **(changes | {"signed_ms": lab.now_ms})
    )
    with pytest.raises(Unreachable) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "enclave.none"


@pytest.mark.parametrize(("later_ms", "asked"), [(0, True), (1, False)])
def test_a_build_counts_from_its_time_on_by_the_headers_clock(lab: Lab, later_ms: int, asked: bool) -> None:
    effective_ms = NOW_MS - 2000 + later_ms  # the header is signed 2 s before the wallet's now
    builds = tuple(dataclasses.replace(one, effective_ms=effective_ms) for one in lab.chain.policy.measurements)
    lab.chain.policy = dataclasses.replace(lab.chain.policy, measurements=builds)
    wallet = lab.wallet()
    if asked:
        assert same_record(wallet.resolve(wallet.read(STATIC)).target, lab.chain, lab.chain.a)
        return
    with pytest.raises(Unreachable) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "enclave.none"


def test_what_cannot_be_asked_is_passed_over(lab: Lab) -> None:
    """A removed build and another platform's word come first; the enclave behind them is asked."""
    lab.chain.attested_by = (lab.chain.b.id, lab.chain.a.id)

    def view(node: HostileNode, honest: NetworkView) -> NetworkView:
        retired = lab.chain.proven_enclave(RETIRED_KEY, lab.chain.a.id)
        return dataclasses.replace(honest, enclaves=(retired, *honest.enclaves))

    wallet = lab.wallet(HostileNode(lab.chain, view=view))
    assert same_record(wallet.resolve(wallet.read(STATIC)).target, lab.chain, lab.chain.a)


# --- aliases, time, heights -------------------------------------------------------------------------------------------


def test_a_conflicting_alias_cannot_be_hidden(lab: Lab) -> None:
    lab.chain.aliases = {(SCHEME, "SHOP-1"): MERCHANT, (SCHEME, "SHOP-3"): b"o" * 20}

    def first_alone(node: HostileNode, answer: Answer, query: Query) -> Answer:
        return dataclasses.replace(answer, aliases=(answer.aliases or ())[:1], merchant=node.merchant(MERCHANT))

    def second_absent(node: HostileNode, answer: Answer, query: Query) -> Answer:
        first, second = answer.aliases or ()
        hidden = dataclasses.replace(second, leaf=None)
        return dataclasses.replace(answer, aliases=(first, hidden), merchant=node.merchant(MERCHANT))

    for alter, code in ((first_alone, "alias.withheld"), (second_absent, "map.root")):
        wallet = lab.wallet(HostileNode(lab.chain, alter=alter))
        with pytest.raises(Untrusted) as caught:
            wallet.resolve(wallet.read(foreign("SHOP-1", "SHOP-3")))
        assert caught.value.code == code


def test_a_halted_chain_is_stale_after_the_bound(lab: Lab) -> None:
    wallet = lab.wallet()
    wallet.resolve(wallet.read(STATIC))
    lab.now_ms = NOW_MS + 28_000
    wallet.resolve(wallet.read(STATIC))
    lab.now_ms = NOW_MS + 28_001
    with pytest.raises(Untrusted) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "header.stale"


def test_an_answer_that_was_held_back_is_stale(lab: Lab) -> None:
    class Slow(Node):
        def answer_bytes(self, query: Query) -> bytes:
            lab.now_ms += 40_000
            return super().answer_bytes(query)

    wallet = lab.wallet(Slow(lab.chain))
    with pytest.raises(Untrusted) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "header.stale"


def test_platforms_known_from_before_do_not_count_after_one_changed(lab: Lab) -> None:
    chain = lab.chain
    opened = chain.publish(chain.b, make_record(chain.b.id, audience=(chain.a.id,))).encoded()
    del chain.records[chain.a.id]

    def forge(node: HostileNode, result: Result) -> Result:
        given = (Opened(platform=chain.b.id, signed_record=opened),)
        return Result(query_id=result.query_id, opened=given)

    def withhold(node: HostileNode, answer: Answer, query: Query) -> Answer:
        return dataclasses.replace(answer, platforms=None)

    wallet = lab.wallet(HostileNode(chain, forge=forge, alter=withhold))
    wallet.resolve(wallet.read(STATIC))
    chain.leaves[chain.b.id] = chain.b.leaf(status=PlatformStatus.SUSPENDED)
    chain.height += 1
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "platform.absent"


def test_a_node_behind_the_wallets_newest_header_is_passed_over(lab: Lab) -> None:
    wallet = lab.wallet()
    wallet.resolve(wallet.read(STATIC))
    lab.chain.height -= 1
    again = lab.wallet()  # the newest header is kept in the wallet's directory
    with pytest.raises(Unreachable) as caught:
        again.resolve(again.read(STATIC))
    assert caught.value.code == "node.behind"


def test_two_headers_of_one_height_are_kept_as_evidence(lab: Lab) -> None:
    wallet = lab.wallet()
    wallet.resolve(wallet.read(STATIC))
    lab.now_ms += 28_001  # the view is not used again
    lab.chain.header = lambda *args, **changes: Chain.header(  # type: ignore[method-assign]
        lab.chain, *args, **(changes | {"signed_ms": lab.now_ms, "app_version": 2})
    )
    with pytest.raises(Untrusted) as caught:
        wallet.resolve(wallet.read(STATIC))
    assert caught.value.code == "header.fork"
    assert [path.name.split("-")[0] for path in (lab.directory / "evidence").iterdir()] == ["fork"]


def test_what_is_no_answer_is_passed_over(lab: Lab) -> None:
    class Garbage(Node):
        def answer_bytes(self, query: Query) -> bytes:
            return b"\xff" * 100

    wallet = lab.wallet(Garbage(lab.chain), Node(lab.chain))
    assert same_record(wallet.resolve(wallet.read(STATIC)).target, lab.chain, lab.chain.a)
    assert isinstance(wallet.failures[0].error, Malformed)
