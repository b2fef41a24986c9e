"""A wallet against a real node: real processes, real chain, real enclave (simulated evidence)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.node_network import CHAIN_ID, DEVICE, Merchant, Network
from onecode.code.image import png_bytes
from onecode.code.label import StaticLabel, build_static
from onecode.errors import Declined, Unreachable
from onecode.host.clock import now_ms
from onecode.proof.leaves import Role
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.messages import MatchMode
from onecode.wallet.config import WalletConfig
from onecode.wallet.store import WalletStore
from onecode.wallet.sync import SyncWallet

NOODLES, NOBODY = Merchant("noodles"), Merchant("nobody")
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = (sockets[0].getsockname()[1], sockets[1].getsockname()[1])
    for one in sockets:
        one.close()
    network = Network(tmp_path_factory.mktemp("node"), ports)
    network.start()
    try:
        network.attest()
        network.publish(network.a, NOODLES.publication(network.a))
        yield network
    finally:
        network.stop()


@pytest.fixture
def wallet(network: Network, tmp_path: Path) -> Iterator[SyncWallet]:
    view, anchor = network.network(), network.a.keys[Role.ANCHOR]
    body = TrustBody(
        chain_id=CHAIN_ID,
        header=view.header,
        validators=view.validators,
        trusting_period_ms=14 * DAY_MS,
        issued_ms=now_ms(),
    )
    certificate = certify_anchor(CHAIN_ID, network.a.root, anchor.public, now_ms() + DAY_MS)
    store = WalletStore(tmp_path)
    store.load_device(DEVICE.seed)
    store.save_credential(network.a.credential(DEVICE))
    config = WalletConfig(
        chain_id=CHAIN_ID,
        platform=network.a.id,
        platform_root=network.a.root.public,
        platform_url="http://127.0.0.1:9",
        node_urls=("http://127.0.0.1:9", str(network.client.base_url)),
        trust_file=sign_trust_file(body, certificate, anchor).encoded(),
        allow_solo=True,
    )
    with SyncWallet(config, tmp_path) as opened:
        yield opened


def label(merchant: Merchant) -> bytes:
    return png_bytes(
        build_static(
            StaticLabel(
                merchant_id=merchant.id,
                prefix="ocs",
                mcc="5812",
                currency="978",
                country="DE",
                name="Noodle House",
                city="Berlin",
            )
        )
    )


@pytest.mark.parametrize("mode", MatchMode)
def test_from_picture_to_verified_record(network: Network, wallet: SyncWallet, mode: MatchMode) -> None:
    found = wallet.resolve(wallet.scan(label(NOODLES)), mode)
    assert (found.target.state.merchant, found.target.record.platform) == (NOODLES.id, network.a.id)
    assert [type(failure.error) for failure in wallet.failures] == [Unreachable]  # the node that is not there


def test_a_newer_record_is_seen_at_once(network: Network, wallet: SyncWallet) -> None:
    before = wallet.resolve(wallet.scan(label(NOODLES))).target
    network.publish(network.a, NOODLES.publication(network.a, before.link.version + 1, consented=False))
    after = wallet.resolve(wallet.scan(label(NOODLES))).target
    assert after.link.version == before.link.version + 1
    assert after.state.header.header.height > before.state.header.header.height


def test_absence_is_proven(wallet: SyncWallet) -> None:
    with pytest.raises(Declined) as caught:
        wallet.resolve(wallet.scan(label(NOBODY)))
    assert caught.value.code == "merchant.absent"
