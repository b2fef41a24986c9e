"""Addresses from the chain: only public ones over https, with the path that the node appends."""

from __future__ import annotations

import asyncio

import pytest

from onecode.errors import OnecodeError
from onecode.node.addresses import require_callable


def refused(url: str, *, allow_private: bool = False) -> str | None:
    try:
        asyncio.run(require_callable(url, allow_private=allow_private))
    except OnecodeError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8",
        "ftp://8.8.8.8",
        "https://",
        "https://user:secret@8.8.8.8",
        "https://8.8.8.8/admin?x=",
        "https://8.8.8.8/#",
        "https://8.8.8.8\\@10.0.0.1",
        "https://8.8.8.8:99999",
        "https://[::1",
        "nothing",
    ],
)
def test_what_is_no_service_is_refused(url: str) -> None:
    assert refused(url) == "relay.url"


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[fd00::1]", "localhost"])
def test_private_addresses_are_refused_unless_allowed(host: str) -> None:
    assert refused(f"https://{host}/keys") == "relay.private"
    assert refused(f"http://{host}/keys", allow_private=True) is None
    assert refused(f"http://{host}/keys?x=", allow_private=True) == "relay.url"


def test_public_addresses_are_called() -> None:
    assert refused("https://8.8.8.8/keys") is None
    assert refused("https://[2001:4860:4860::8888]:8443") is None
