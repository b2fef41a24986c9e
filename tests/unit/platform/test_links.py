"""A merchant that ended its link by itself is shown so, and published again with a new consent."""

from __future__ import annotations

from typing import Any

import pytest

from onecode.platform import links
from onecode.platform.links import LinkKeeper
from unit.platform.world import Keys, Node, Server

pytestmark = pytest.mark.clock


def states(server: Server) -> dict[str, str]:
    return {row["merchant"]: row["state"] for row in server.operator("GET", "/v1/merchants").json()}


def test_an_unlinked_merchant_is_no_longer_shown_as_live(
    server: Server, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "BATCH", 2)
    shops = [server.live_merchant() for _ in range(3)]
    gone = sorted(shops, key=lambda shop: shop.id)[2]  # beyond the first batch
    gone.unlink(node, server.platform.id)
    keeper = LinkKeeper(server.platform)
    assert set(states(server).values()) == {"live"}
    keeper.check()
    keeper.check()
    assert {shop for shop, state in states(server).items() if state == "unlinked"} == {gone.id.hex()}
    refused = server.operator("POST", f"/v1/merchants/{gone.id.hex()}/withdraw")
    assert refused.json()["code"] == "merchant.not_live"
    agreement = gone.agreement(server.platform.id, serial=1)
    assert server.operator("POST", "/v1/merchants", json=agreement).status_code == 200
    published = server.operator("POST", f"/v1/merchants/{gone.id.hex()}/publish")
    assert (published.status_code, published.json()["state"]) == (200, "live"), published.text
    for _ in range(3):
        keeper.check()
    assert set(states(server).values()) == {"live"}


def test_of_a_frozen_merchant_nothing_is_concluded(server: Server, node: Node, keys: list[Keys]) -> None:
    shop: Any = server.live_merchant()
    keys[0].freeze(node, shop.id)
    LinkKeeper(server.platform).check()
    assert states(server) == {shop.id.hex(): "live"}
