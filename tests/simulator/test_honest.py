"""What an honest node's answer gives a wallet."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from chain_world import NOW_MS, make_record
from onecode.code.emv import with_crc
from onecode.code.image import png_bytes
from onecode.code.label import build_static
from onecode.errors import Declined, Unreachable, Untrusted
from onecode.query.messages import MatchMode
from onecode.wire import SigningKey, sha256
from simulator.world import LABEL, MERCHANT, ORDER_KEY, SCHEME, STATIC, Lab, Node, dynamic_code, foreign, same_record


@pytest.mark.parametrize("mode", MatchMode)
def test_from_picture_to_verified_record(lab: Lab, mode: MatchMode) -> None:
    wallet = lab.wallet()
    resolution = wallet.resolve(wallet.scan(png_bytes(STATIC)), mode)
    assert same_record(resolution.target, lab.chain, lab.chain.a)
    assert resolution.target.record.display_name == "Noodle House"
    assert (resolution.differences, resolution.others, resolution.order) == ((), (), None)
    assert resolution.header_age_ms == 2000
    assert wallet.failures == []


def test_wallet_mode_gives_the_partners_record_beside_the_own(lab: Lab) -> None:
    lab.chain.publish(lab.chain.b, make_record(lab.chain.b.id, audience=(lab.chain.a.id,)))
    wallet = lab.wallet()
    resolution = wallet.resolve(wallet.read(STATIC), MatchMode.WALLET)
    assert same_record(resolution.target, lab.chain, lab.chain.a)
    assert [record.record.platform for record in resolution.others] == [lab.chain.b.id]


@pytest.mark.parametrize("mode", MatchMode)
def test_a_partner_is_taken_where_the_own_platform_has_no_record(lab: Lab, mode: MatchMode) -> None:
    lab.chain.publish(lab.chain.b, make_record(lab.chain.b.id, audience=(lab.chain.a.id,)))
    del lab.chain.records[lab.chain.a.id]
    wallet = lab.wallet()
    assert same_record(wallet.resolve(wallet.read(STATIC), mode).target, lab.chain, lab.chain.b)


def test_a_second_question_uses_what_the_wallet_has(lab: Lab) -> None:
    node = Node(lab.chain)
    wallet = lab.wallet(node)
    wallet.resolve(wallet.read(STATIC))
    before = node.asked
    wallet.resolve(wallet.read(STATIC))
    assert node.asked == before + 1  # no second network view


def test_a_newer_header_comes_with_the_answer(lab: Lab) -> None:
    wallet = lab.wallet()
    wallet.resolve(wallet.read(STATIC))
    lab.chain.height += 1
    assert wallet.resolve(wallet.read(STATIC)).target.state.header.header.height == lab.chain.height
    kept = wallet.store.load_header()
    assert kept is not None
    assert kept.header.height == lab.chain.height


def test_differences_between_code_and_record_are_shown_and_the_record_wins(lab: Lab) -> None:
    label = dataclasses.replace(LABEL, name="Golden Palace", mcc="5999", country="FR", currency="840")
    wallet = lab.wallet()
    resolution = wallet.resolve(wallet.read(build_static(label)))
    found = {difference.code: (difference.printed, difference.recorded) for difference in resolution.differences}
    assert found == {
        "differs.name": ("Golden Palace", "Noodle House"),
        "differs.mcc": ("5999", "5812"),
        "differs.country": ("FR", "DE"),
        "differs.currency": ("USD", "EUR"),
    }
    assert resolution.target.record.display_name == "Noodle House"


def test_a_dynamic_order_is_verified_with_the_proven_order_keys(lab: Lab) -> None:
    lab.chain.entry_changes = {"order_keys": (ORDER_KEY.public,)}
    wallet = lab.wallet()
    order = wallet.resolve(wallet.read(dynamic_code())).order
    assert order is not None
    assert (order.amount_minor, order.reference) == (1250, "ORDER-7")


def test_an_order_by_a_key_that_is_not_the_merchants_is_refused(lab: Lab) -> None:
    lab.chain.entry_changes = {"order_keys": (ORDER_KEY.public,)}
    wallet = lab.wallet()
    with pytest.raises(Untrusted) as caught:
        wallet.resolve(wallet.read(dynamic_code(key=SigningKey.from_seed(sha256(b"a thief")))))
    assert caught.value.code == "code.order_signature"
    assert wallet.failures == []  # the code lies, not the node


def test_an_expired_order_is_declined(lab: Lab) -> None:
    lab.chain.entry_changes = {"order_keys": (ORDER_KEY.public,)}
    wallet = lab.wallet()
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.read(dynamic_code(expiry_ms=NOW_MS - 1)))
    assert caught.value.code == "code.order_expired"


def test_an_alias_leads_to_its_merchant(lab: Lab) -> None:
    lab.chain.aliases = {(SCHEME, "SHOP-1"): MERCHANT}
    wallet = lab.wallet()
    resolution = wallet.resolve(wallet.read(foreign("SHOP-1")))
    assert same_record(resolution.target, lab.chain, lab.chain.a)


def test_an_alias_stays_payable_while_its_scheme_changes_hands(lab: Lab) -> None:
    lab.chain.aliases = {(SCHEME, "SHOP-1"): MERCHANT}
    lab.chain.scheme_from_ms = NOW_MS + 3_600_000
    wallet = lab.wallet()
    resolution = wallet.resolve(wallet.read(foreign("SHOP-1")))
    assert same_record(resolution.target, lab.chain, lab.chain.a)


def test_a_scheme_is_asked_for_once(lab: Lab) -> None:
    class Counting(Node):
        schemes = 0

        def handle(self, request: httpx.Request) -> httpx.Response:
            Counting.schemes += "/v1/leaves/governance/" in str(request.url)
            return super().handle(request)

    lab.chain.aliases = {(SCHEME, "SHOP-1"): MERCHANT}
    wallet = lab.wallet(Counting(lab.chain))
    for _ in range(3):
        wallet.resolve(wallet.read(foreign("SHOP-1")))
    assert Counting.schemes == 1
    for _ in range(2):  # that nobody speaks for a scheme may change, and is proven each time
        with pytest.raises(Declined):
            wallet.resolve(wallet.read(foreign("SHOP-1", scheme="com.nobody")))
    assert Counting.schemes == 3


def test_an_amount_on_a_foreign_code_is_refused(lab: Lab) -> None:
    with pytest.raises(Untrusted) as caught:
        lab.wallet().read(with_crc(foreign("SHOP-1")[:-8] + "540510.00"))
    assert caught.value.code == "code.amount_unsigned"


def test_an_alias_of_a_frozen_merchant_is_declined(lab: Lab) -> None:
    lab.chain.aliases = {(SCHEME, "SHOP-1"): MERCHANT}
    lab.chain.entry_changes = {"frozen_until_ms": NOW_MS + 3_600_000}
    wallet = lab.wallet()
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.read(foreign("SHOP-1")))
    assert caught.value.code == "merchant.frozen"


def test_an_alias_that_nobody_bound_is_declined(lab: Lab) -> None:
    wallet = lab.wallet()
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.read(foreign("SHOP-2")))
    assert caught.value.code == "alias.absent"


def test_aliases_that_name_different_merchants_are_declined(lab: Lab) -> None:
    lab.chain.aliases = {(SCHEME, "SHOP-1"): MERCHANT, (SCHEME, "SHOP-3"): b"o" * 20}
    wallet = lab.wallet()
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.read(foreign("SHOP-1", "SHOP-3")))
    assert caught.value.code == "alias.conflict"


def test_a_scheme_that_nobody_speaks_for_is_declined(lab: Lab) -> None:
    wallet = lab.wallet()
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.read(foreign("SHOP-1", scheme="com.nobody")))
    assert caught.value.code == "alias.unassigned"


def test_a_node_that_is_down_is_passed_over(lab: Lab) -> None:
    class Down(Node):
        def handle(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

    wallet = lab.wallet(Down(lab.chain), Node(lab.chain))
    assert same_record(wallet.resolve(wallet.read(STATIC)).target, lab.chain, lab.chain.a)
    assert [(failure.node_url, type(failure.error)) for failure in wallet.failures] == [("http://node-0", Unreachable)]
