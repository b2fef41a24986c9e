"""Four validators of four organisations on one machine: paid through another's node, killed, stopped, gone on."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from integration.edited_network import record_data
from integration.engine_network import BINARY, require_engine
from onecode.code.image import png_bytes
from onecode.code.label import StaticLabel, build_static
from onecode.errors import Declined, Unreachable
from onecode.host.clock import now_ms
from onecode.network.agreement import build_agreement, hand_over
from onecode.network.local import LocalNetwork, validators_plan
from onecode.network.merchant import CONSENT_MS, Merchant, create_merchant
from onecode.network.plan import NetworkPlan
from onecode.network.setup import engine_id
from onecode.network.wallets import enroll_wallet, open_wallet
from onecode.proof.header import header_hash
from onecode.proof.leaves import PlatformLeaf
from onecode.proof.map import Section
from onecode.query.messages import HeaderView, LeafView
from onecode.record.payment import SERVICE_PAY
from onecode.schema import parse
from onecode.wallet.pay import build_order

PARTS = {"supervisor", "writer", "engine", "worker-0", "enclave", "enclave-worker-0"}
BACK_S = 30.0


def plan() -> NetworkPlan:
    return dataclasses.replace(validators_plan(4, BINARY), heartbeat_ms=1_000)


@dataclass
class Shop:
    network: LocalNetwork
    merchant: Merchant

    @property
    def picture(self) -> bytes:
        label = StaticLabel(
            merchant_id=self.merchant.id,
            prefix=self.merchant.prefix,
            mcc="5812",
            currency="978",
            country="DE",
            name="Noodle House",
            city="Berlin",
        )
        return png_bytes(build_static(label))

    def sign(self, slug: str) -> None:
        handed = hand_over(self.merchant, self.network.identity(slug), SERVICE_PAY, now_ms(), CONSENT_MS)
        self.network.operator(slug).sign(build_agreement(record_data(), handed, now_ms()))

    def publish(self, slug: str) -> int:
        published = self.network.operator(slug).publish(self.merchant.id.hex())
        assert published["state"] == "live"
        return int(published["version"])

    def pay(self, slug: str, *nodes: str) -> set[str]:
        """Pay with a wallet of this platform, which asks these nodes or else all; the addresses it passed over."""
        urls = tuple(self.network.plan.node(node).url for node in nodes)
        with open_wallet(
            self.network.places.wallet(slug),
            lambda config: dataclasses.replace(config, node_urls=urls or config.node_urls),
        ) as wallet:
            found = wallet.resolve(wallet.scan(self.picture))
            paid = wallet.pay(found.target, build_order(found, 1_00, "EUR"))
            assert paid.receipt.state.name == "POSTED"
            return {failure.node_url for failure in wallet.failures}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Published by two platforms of four; each has a payer."""
    require_engine()
    with LocalNetwork(tmp_path_factory.mktemp("four"), plan) as network:
        network.start()
        shop = Shop(
            network, create_merchant(network.places.merchant("shop"), network.plan.chain_id, secrets.token_bytes)
        )
        for slug in ("alder", "birch"):
            shop.sign(slug)
            shop.publish(slug)
            enroll_wallet(network.places.wallet(slug), network.profile(slug))
        network.wait_height(int(network.node.status()["height"]) - 1)
        yield shop
        network.require_running()


def one_header(network: LocalNetwork, height: int) -> None:
    """Every running node shows the same header of this height. One that replayed fetches those it went by later."""
    until = time.monotonic() + BACK_S
    hashes = set()
    for node in network.running_nodes():
        while (view := header_of(network, node.slug, height)) is None:
            assert time.monotonic() < until, f"{node.slug} has no header {height}"
            time.sleep(0.1)
        hashes.add(header_hash(view.header.header))
    assert len(hashes) == 1


def header_of(network: LocalNetwork, slug: str, height: int) -> HeaderView | None:
    try:
        return parse(HeaderView, network.client(slug).header(height), path="header")
    except Declined:
        return None


def test_every_node_runs_all_its_processes_and_is_named_on_chain(shop: Shop) -> None:
    network = shop.network
    pids = [network.node_processes(node.slug) for node in network.plan.nodes]
    assert all(set(one) == PARTS for one in pids)
    assert len({pid for one in pids for pid in one.values()}) == 4 * len(PARTS)
    for node in network.plan.nodes:
        view = parse(LeafView, network.node.leaf(Section.PLATFORMS, network.identity(node.platform)), path="leaf")
        leaf = parse(PlatformLeaf, view.leaf or b"", path="platform")
        assert [one.node_id for one in leaf.nodes] == [engine_id(network.places, node)]


def test_a_record_that_one_platform_published_is_proven_by_every_node(shop: Shop) -> None:
    for node in shop.network.plan.nodes:
        assert shop.pay("alder", node.slug) == set()


def test_one_of_four_killed_and_back(shop: Shop) -> None:
    network = shop.network
    own = network.plan.node("birch").url
    network.kill_node("birch")
    with pytest.raises(Unreachable):
        network.client("birch").status()
    assert shop.pay("birch") == {own}  # the wallet asks the next node, and so does its platform
    version = shop.publish("birch")
    assert version == 2 and shop.pay("birch") == {own}
    height = int(network.node.status()["height"])
    network.start_node("birch")
    network.wait_height(height - 1)
    one_header(network, height)
    for platform in network.plan.platforms:
        network.wait_leased(platform)
    network.wait_height(int(network.node.status()["height"]) - 1)
    assert shop.pay("birch", "birch") == set()


def test_two_of_four_stopped_halt_the_chain_and_one_of_them_lets_it_go_on(shop: Shop) -> None:
    network = shop.network
    for slug in ("cedar", "dogwood"):
        network.stop_node(slug)
    with pytest.raises(Unreachable):
        dataclasses.replace(network.operator("alder"), timeout_ms=2_000).publish(shop.merchant.id.hex())
    assert records(shop, "alder")[0]["state"] != "live"
    network.start_node("cedar")
    until = time.monotonic() + BACK_S
    while not any(one["state"] == "live" and one["version"] == 2 for one in records(shop, "alder")):
        assert time.monotonic() < until, "what was accepted before the halt is not on chain"
        time.sleep(0.2)
    network.start_node("dogwood")
    network.wait_height(int(network.node.status()["height"]) - 1)
    one_header(network, int(network.node.status()["height"]) - 1)


def records(shop: Shop, slug: str) -> list[dict[str, object]]:
    return [one for one in shop.network.operator(slug).merchants() if one["merchant"] == shop.merchant.id.hex()]


def test_the_supervisor_starts_again_what_dies(shop: Shop) -> None:
    network = shop.network
    before = network.node_processes("alder")
    os.kill(before["engine"], signal.SIGKILL)
    until = time.monotonic() + BACK_S
    while set(after := network.node_processes("alder")) != PARTS or after["engine"] == before["engine"]:
        assert time.monotonic() < until, f"not all processes are back: {after}"
        time.sleep(0.1)
    network.wait_height(int(network.client("birch").status()["height"]))
    assert shop.pay("alder", "alder") == set()


def test_a_network_that_was_stopped_goes_on(shop: Shop) -> None:
    network = shop.network
    height = int(network.node.status()["height"])
    network.stop()
    network.start()
    assert int(network.node.status()["height"]) >= height
    assert shop.pay("birch") == set()
