"""Which addresses from the chain this node calls: any member could name one inside its operator's network.

A name is resolved before each call, and every address it has must be public. Between that and the call the name may
change: an operator whose internal services trust their callers lets the node out through a proxy.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from onecode.errors import Declined, Unreachable


async def require_callable(url: str, *, allow_private: bool) -> None:
    """Raise `Declined` unless `url` is one this node may call: https and public, or anything of http where private
    addresses are allowed; without user, query and fragment, so that its path is what the node appends."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Declined("relay.url", "a key service's address on chain is no URL", field="key_service_url") from None
    schemes = ("http", "https") if allow_private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or parts.username or parts.password or set(url) & set("?#\\"):
        raise Declined("relay.url", "a key service's address on chain is not one to call", field="key_service_url")
    if allow_private:
        return
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port or 443, type=socket.SOCK_STREAM)
    except OSError:
        raise Unreachable("relay.name", "a key service's name cannot be resolved") from None
    if not all(ipaddress.ip_address(address[4][0]).is_global for address in found):
        raise Declined("relay.private", "a key service's address is not public; see relay_private_addresses")
