"""Where webhooks may go: https to public addresses; loopback, private addresses and plain http only where configured.

A name is resolved once for each delivery and the connection goes to the very address that was checked, so that a name
that changes its address in between gains nothing. Redirects are not followed, and proxies not used.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from onecode.errors import Malformed, Unreachable

URL_CHARS_MAX = 500
UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291; all else is local, multicast, translated or not given out
SPECIAL = tuple(
    ipaddress.ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)  # IANA's registry of special addresses: Teredo and other protocols, documentation, 6to4


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address: what to connect to, and what name to ask for there."""

    url: httpx.URL
    host: str
    address: str

    def request(self, client: httpx.Client, body: bytes, headers: dict[str, str]) -> httpx.Request:
        """A POST to the checked address under the URL's own name, which its certificate must be for."""
        return client.build_request(
            "POST",
            self.url.copy_with(host=self.address),
            content=body,
            headers={**headers, "host": self.url.netloc.decode("ascii")},
            extensions={"sni_hostname": self.host},
        )


def parse_webhook_url(text: object, *, allow_private: bool) -> str:
    """The URL of a webhook as it may be stored: https, or http too where private addresses are allowed."""
    if type(text) is not str or not 1 <= len(text) <= URL_CHARS_MAX or not all("!" <= char <= "~" for char in text):
        raise Malformed("webhook.url", f"give a url of 1 to {URL_CHARS_MAX} printable ASCII characters", field="url")
    try:
        parts, url = urlsplit(text), httpx.URL(text)
        port = parts.port
    except (ValueError, httpx.InvalidURL):
        raise Malformed("webhook.url", "the url does not parse", field="url") from None
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes or not url.host or port == 0 or parts.username or parts.password or parts.fragment:
        raise Malformed(
            "webhook.url", f"give an {' or '.join(schemes)} address without a user or fragment", field="url"
        )
    try:
        literal = ipaddress.ip_address(url.host)
    except ValueError:
        return text
    if not allow_private and not _is_public(literal):
        raise Malformed("webhook.private", "webhooks go to public addresses only", field="url")
    return text


def resolve_target(text: str, *, allow_private: bool) -> Target:
    """The address to deliver to now; `Unreachable` where the name has none, or one that is not allowed."""
    url = httpx.URL(parse_webhook_url(text, allow_private=allow_private))
    try:
        found = socket.getaddrinfo(
            url.host, url.port or (443 if url.scheme == "https" else 80), type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        raise Unreachable("webhook.name", "the webhook's host has no address", field="url") from None
    addresses = [ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]
    if not allow_private and not all(_is_public(address) for address in addresses):
        raise Unreachable("webhook.private_name", "the webhook's host has an address that is not public", field="url")
    return Target(url, url.host, str(addresses[0]))


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """IPv6: what is given out for general use, and nothing that may lead on to an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address) and (
        address not in UNICAST or any(address in special for special in SPECIAL)
    ):
        return False
    return address.is_global and not address.is_multicast
