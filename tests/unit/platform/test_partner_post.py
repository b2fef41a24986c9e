"""Requests to other platforms go to public https addresses, unless a network of one's own says otherwise."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from onecode.errors import Unreachable
from onecode.platform.partner_post import post_to_partner
from unit.platform.world import Server

pytestmark = pytest.mark.clock


class Nowhere(httpx.BaseTransport):
    """Notes where a request was to go, and goes nowhere."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(200, content=b"taken")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (None, "partner.no_address"),
        ("ftp://8.8.8.8", "partner.address"),
        ("https://8.8.8.8/?x=", "partner.address"),
        ("https://8.8.8.8/#", "partner.address"),
        ("https://user@8.8.8.8", "partner.address"),
        ("http://8.8.8.8", "partner.private_address"),
        ("https://127.0.0.1:8443", "partner.private_address"),
        ("https://10.0.0.1", "partner.private_address"),
        ("https://[::1]", "partner.private_address"),
        ("https://localhost", "partner.private_address"),
        ("https://name.invalid", "partner.name"),
        ("https://8.8.8.8/base/", None),
    ],
)
def test_only_public_addresses_are_asked(server: Server, url: str | None, code: str | None) -> None:
    config = dataclasses.replace(server.platform.config, partner_private_addresses=False)
    platform = dataclasses.replace(server.platform, config=config)
    leaf, road = dataclasses.replace(platform.chain.own_leaf(), url=url), Nowhere()
    client = httpx.Client(transport=road)
    if code is None:
        assert post_to_partner(platform, client, leaf, "/v1/x", b"body") == b"taken"
        (asked,) = road.asked
        assert (str(asked.url), asked.headers["host"]) == ("https://8.8.8.8/base/v1/x", "8.8.8.8")
        return
    with pytest.raises(Unreachable) as caught:
        post_to_partner(platform, client, leaf, "/v1/x", b"body")
    assert (caught.value.code, road.asked) == (code, [])
