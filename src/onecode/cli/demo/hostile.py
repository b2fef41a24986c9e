"""A bribed operator: a proxy in the demo's own process that stands before the honest node and lies.

It has everything a node's operator has: all requests and answers, and time. It has not: the validators' keys, the
enclave's keys, the platforms' keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from onecode.network.plan import HOST

Lie = Callable[[str, bytes], bytes]  # path and honest answer -> what is sent instead
TIMEOUT_S = 10.0


def honest(_path: str, answer: bytes) -> bytes:
    """No lie."""
    return answer


class BribedNode:
    """A node's address that can be told to lie. Use it as a context manager."""

    def __init__(self, node_url: str) -> None:
        self.lie: Lie = honest
        self.seen: list[tuple[str, bytes]] = []  # path and honest answer, in order: what can be replayed
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def do_GET(self) -> None:  # the name that http.server calls
                proxy.answer(self, b"")

            def do_POST(self) -> None:
                proxy.answer(self, self.rfile.read(int(self.headers.get("content-length", "0"))))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # http.server's name
                """Nothing is printed: the demo tells the story."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._http = httpx.Client(base_url=node_url, timeout=TIMEOUT_S, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> BribedNode:
        threading.Thread(target=self._server.serve_forever, name="bribed-node", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

    def fetch(self, path: str) -> bytes:
        """What the honest node says now."""
        return self._http.get(path).content

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Ask the honest node, lie, answer."""
        headers = {"content-type": request.headers["content-type"]} if "content-type" in request.headers else {}
        found = self._http.request(request.command, request.path, content=body, headers=headers)
        told = found.content
        if found.is_success:
            self.seen.append((request.path, found.content))
            told = self.lie(request.path, found.content)
        request.send_response(found.status_code)
        request.send_header("content-type", found.headers.get("content-type", "application/octet-stream"))
        request.send_header("content-length", str(len(told)))
        request.end_headers()
        request.wfile.write(told)
