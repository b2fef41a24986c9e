"""The nodes that a platform asks: its own first, others where that one cannot be reached.

No node is believed in anything that a proof can show. That a transaction was refused is a node's word; the worst that
another's false word does is a record that its operator publishes once more.
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx

# Whatever was asked may be asked again elsewhere: reading changes nothing, and a transaction counts once by its bytes.
NOT_REACHED = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)


class NodesTransport(httpx.BaseTransport):
    """Sends each request to the first of `urls` that can be reached. A node that answers, even with an error, or that
    is slow, is not passed over."""

    def __init__(self, urls: Sequence[str], inner: httpx.BaseTransport | None = None) -> None:
        self._urls = [httpx.URL(url) for url in urls]
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises the last node's `httpx` error where none can be reached."""
        *first, last = self._urls
        for url in first:
            try:
                return self._inner.handle_request(_sent_to(url, request))
            except NOT_REACHED:
                continue
        return self._inner.handle_request(_sent_to(last, request))

    def close(self) -> None:
        self._inner.close()


def _sent_to(url: httpx.URL, request: httpx.Request) -> httpx.Request:
    """The same request to another node. The client's base is the first of them, without a path."""
    target = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)
    headers = httpx.Headers(request.headers)
    headers["host"] = target.netloc.decode("ascii")
    return httpx.Request(request.method, target, headers=headers, stream=request.stream, extensions=request.extensions)
