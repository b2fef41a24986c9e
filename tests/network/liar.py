"""A node run by a liar: real HTTP in front of a real node. It passes on what the node says and changes what it likes.

It has what a bribed operator can have: the node's whole API, a device of its own at the wallet's platform, and the
query key of an enclave that the platform attested and that it then broke.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import httpx
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onecode.errors import Declined, OnecodeError, answer_error
from onecode.host.clock import now_ms
from onecode.proof.leaves import enclave_key
from onecode.query.messages import (
    Answer,
    ClearQuery,
    HeaderView,
    LeafView,
    MatchMode,
    NetworkView,
    ProvenEnclave,
    Query,
    Result,
    SecretQuery,
)
from onecode.query.sealing import build_query, open_query, open_result, seal_result
from onecode.schema import parse
from onecode.wallet.store import WalletStore
from onecode.wire import sha256

CBOR = "application/cbor"
SEAL_BYTES = 12 + 16  # nonce and tag of a sealed result
SAME_HEAD_TRIES = 200
THE_QUERYS = bytes(16)  # a query id that becomes that of the query

Line = BaseHTTPRequestHandler


@dataclasses.dataclass(frozen=True)
class Lie:
    """What the liar says itself; what is left out is the real node's word. line: it has the connection to itself."""

    network: Callable[[], NetworkView] | None = None
    answer: Callable[[Query], Answer] | None = None
    header: Callable[[str], HeaderView] | None = None
    line: Callable[[Line], None] | None = None


class Bribed:
    """The operator's part of the liar: what its real node says, and an enclave that has no secrets from it."""

    def __init__(self, chain_id: str, url: str, platform: bytes, device: WalletStore) -> None:
        self.chain_id, self.url, self.platform = chain_id, url, platform
        self.enclave = X25519PrivateKey.generate()
        self._device, self._credential = device.load_device(bytes(32)), device.load_credential() or b""
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=20)

    @property
    def query_key(self) -> bytes:
        return self.enclave.public_key().public_bytes_raw()

    def call(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        return self._http.request(method, path, content=body, headers={"content-type": CBOR} if body else {})

    def fetch(self, path: str, body: bytes = b"") -> bytes:
        given = self.call("POST" if body else "GET", path, body)
        if not given.is_success:
            raise answer_error(given.status_code, given.content)
        return given.content

    def network(self) -> NetworkView:
        return parse(NetworkView, self.fetch("/v1/network"), path="network")

    def header(self, name: int | str) -> HeaderView:
        return parse(HeaderView, self.fetch(f"/v1/headers/{name}"), path="header")

    def ask(self, query: Query) -> Answer:
        return parse(Answer, self.fetch("/v1/query", query.encoded()), path="answer")

    def broken_network(self) -> NetworkView:
        """The node's view with the broken enclave alone, which the chain lists as it lists the honest one."""
        key = enclave_key(self.query_key, self.platform)
        for _ in range(SAME_HEAD_TRIES):
            leaf = parse(LeafView, self.fetch(f"/v1/leaves/enclaves/{key.hex()}"), path="leaf")
            view = self.network()
            if leaf.header == view.header:
                broken = ProvenEnclave(
                    query_key=self.query_key, platform=self.platform, leaf=leaf.leaf or b"", proof=leaf.proof
                )
                return dataclasses.replace(view, enclaves=(broken,))
            time.sleep(0.01)
        raise AssertionError("the node's head moved between each two requests")

    def opened(self, clear: ClearQuery, *accepted: bytes) -> tuple[Answer, Result]:
        """What the honest enclave answers to the operator's own device; with `accepted`, all that it may read."""
        given = next(one for one in self.network().enclaves if one.platform == self.platform)
        clear = dataclasses.replace(clear, query_key=given.query_key)
        secret = SecretQuery(
            query_id=os.urandom(16),
            credential=self._credential,
            accepted=(self.platform, *accepted),
            mode=MatchMode.WALLET if accepted else MatchMode.NODE,
            time_ms=now_ms(),
            reply_key=os.urandom(32),
        )
        answer = self.ask(build_query(clear, secret, self._device))
        return answer, open_result(self.chain_id, answer.sealed, secret.reply_key, sha256(clear.encoded()))

    def seal(self, query: Query, result: Result, size: int = 8192) -> bytes:
        """A result of the operator's choice, sealed for whoever sent this query to the broken enclave."""
        secret, _, clear_hash = open_query(query, self.chain_id, self.enclave)
        if result.query_id == THE_QUERYS:
            result = dataclasses.replace(result, query_id=secret.query_id)
        return seal_result(self.chain_id, result, secret.reply_key, clear_hash, size, os.urandom(12))

    def answer(self, query: Query, change: Callable[[Result], Result], *accepted: bytes) -> Answer:
        """The honest proof with the result changed."""
        honest, opened = self.opened(parse(ClearQuery, query.clear), *accepted)
        changed = change(dataclasses.replace(opened, query_id=THE_QUERYS))
        return dataclasses.replace(honest, sealed=self.seal(query, changed, len(honest.sealed) - SEAL_BYTES))


class Liar:
    """The server. `lie` is what it tells now; with an empty one it is an honest proxy."""

    def __init__(self, bribed: Bribed) -> None:
        self.bribed, self.lie = bribed, Lie()
        self.over = threading.Event()
        self.mistakes: list[str] = []  # of the test itself
        self.told = 0
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the wallet has gone
                    self.close_connection = True

            def do_GET(self) -> None:
                liar.serve(self)

            def do_POST(self) -> None:
                liar.serve(self)

            def log_message(self, *what: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Liar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, line: Line) -> None:
        body, lie = line.rfile.read(int(line.headers.get("content-length") or 0)), self.lie
        self.told += 1
        if lie.line is not None:
            line.close_connection = True
            lie.line(line)
            return
        try:
            status, kind, content = self._reply(lie, line.command, line.path, body)
        except OnecodeError as error:
            status, kind, content = error.status, "application/problem+json", json.dumps(error.problem()).encode()
        except Exception:
            self.mistakes.append(traceback.format_exc())
            raise
        line.send_response(status)
        line.send_header("content-type", kind)
        line.send_header("content-length", str(len(content)))
        line.end_headers()
        line.wfile.write(content)

    def _reply(self, lie: Lie, method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        if path == "/v1/network" and lie.network is not None:
            return 200, CBOR, lie.network().encoded()
        if path == "/v1/query" and lie.answer is not None:
            return 200, CBOR, lie.answer(parse(Query, body)).encoded()
        if path.startswith("/v1/headers/") and lie.header is not None:
            return 200, CBOR, lie.header(path.rsplit("/", 1)[1]).encoded()
        given = self.bribed.call(method, path, body)
        return given.status_code, given.headers.get("content-type", CBOR), given.content


def absent() -> OnecodeError:
    """What a node says that does not have a header."""
    return Declined("node.header_absent", "this node has no header of that height", status=404)
