"""The node's HTTP API under /v1: reads of the newest provable state, queries to the enclave, transactions."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import onecode
from onecode.attest.evidence import SIMULATED_KINDS
from onecode.enclave.frames import EnclaveStatus
from onecode.errors import Malformed, OnecodeError, Unreachable, Untrusted
from onecode.node.child import now_ms
from onecode.node.config import NodeConfig
from onecode.node.enclave_port import EnclavePort, enclave_down
from onecode.node.link import Link
from onecode.node.routes import CBOR, Reply, Request, Response, Router, internal, json_response, problem
from onecode.node.store import ReaderStore
from onecode.node.submission import SUBMIT, Submission, Submitted, Wait, refused, result_name, submitted_plain
from onecode.node.view import (
    Found,
    Head,
    answer_bytes,
    enclave_query_bytes,
    find,
    header_view_bytes,
    leaf_view_bytes,
    load_head,
    member_view_bytes,
    network_view_bytes,
    state_mark,
)
from onecode.proof.leaves import ID, SERVICE
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.proof.map import Section
from onecode.query.messages import PROTOCOL, QUERY_BYTES_MAX, ClearQuery, HeaderView, Query
from onecode.query.requests import MEMBER_HEADER, parse_member, verify_member
from onecode.registry.store import Reader
from onecode.registry.transactions import TRANSACTION_BYTES_MAX
from onecode.schema import parse

API_VERSION = 1
PUBLIC_SECTIONS = (Section.PLATFORMS, Section.GOVERNANCE, Section.ENCLAVES, Section.COUNTERS)
HEADER_AGE_MS_MAX = 30_000  # by which a wallet still takes an answer
QUERY_ATTEMPTS = 10  # heights that may pass by before a query is refused as busy
STATUS_TIMEOUT_S = 1.0


class NodeApi:
    """Routes of one worker. `look` is called for every question, so that no answer is older than the store."""

    def __init__(self, config: NodeConfig, store: ReaderStore, ports: list[EnclavePort], writer: Link) -> None:
        self._config = config
        self._store = store
        self._ports = ports
        self._writer = writer
        self._head: Head | None = None
        self._mark = b""
        self._turn = 0
        self._signed_ms: tuple[int, int] = (0, 0)  # height, when its header was signed

    def router(self) -> Router:
        router = Router()
        router.add("POST", "/v1/query", self.query)
        router.add("GET", "/v1/network", self.network)
        router.add("GET", "/v1/headers/latest", self.latest_header)
        router.add("GET", "/v1/headers/{height}", self.header)
        router.add("GET", "/v1/leaves/{section}/{key}", self.leaf)
        router.add("GET", "/v1/members/merchants/{merchant}", self.member_merchant)
        router.add("GET", "/v1/health", self.health)
        router.add_async("GET", "/v1/status", self.status)
        router.add_async("POST", "/v1/transactions", self.transaction)
        return router

    # --- the newest state

    def look(self, reader: Reader) -> Head:
        """The head of this snapshot, loaded once for each state; the enclave is told of a newer one."""
        mark = state_mark(reader)
        if self._head is None or mark != self._mark:
            self._head = load_head(reader, self._head)
            self._mark = mark
        for port in self._ports:
            port.follow(self._head)
        return self._head

    def poll(self) -> None:
        """Notice a newer state without being asked."""
        with self._store.snapshot() as reader:
            self.look(reader)

    # --- queries

    def query(self, request: Request, reply: Reply) -> None:
        """Hand a query with what the chain says to the enclave; its sealed result goes back with the proofs."""
        _require_cbor(request)
        query = parse(Query, request.body, size_max=QUERY_BYTES_MAX, path="query")
        clear = parse(ClearQuery, query.clear, path="query.clear")
        if clear.protocol != PROTOCOL:
            raise Malformed("query.protocol", f"protocol {clear.protocol} is not spoken; use {PROTOCOL}")
        if clear.chain_id != self._config.chain_id:
            raise Untrusted("query.chain", "the query is for another chain", field="chain_id")
        self._ask(request.body, clear, reply, QUERY_ATTEMPTS)

    def _ask(self, raw: bytes, clear: ClearQuery, reply: Reply, attempts: int) -> None:
        port = self._port()
        if port.require_up().query_key != clear.query_key:
            raise Malformed(
                "query.enclave_unknown",
                "the query is sealed to another enclave; fetch the network view again",
                field="query_key",
            )
        with self._store.snapshot() as reader:
            head = self.look(reader)
            found = find(reader, clear) if port.knows(head.height) else None
        if found is None:
            port.wait(partial(self._ask_again, raw, clear, reply, attempts - 1))
            return
        port.ask(enclave_query_bytes(raw, head, found), partial(_answer, clear, head, found, reply))

    def _ask_again(
        self, raw: bytes, clear: ClearQuery, reply: Reply, attempts: int, error: OnecodeError | None
    ) -> None:
        """Ask at the newest height, now that the enclave has answered for it."""
        try:
            if error is not None:
                raise error
            if not attempts:
                raise Unreachable("node.busy", "the node has all it can do: ask again or another one")
            self._ask(raw, clear, reply, attempts)
        except OnecodeError as refusal:
            reply(problem(refusal))
        except Exception as failure:
            reply(internal(failure))

    def _port(self) -> EnclavePort:
        """The next connection to the enclave that works."""
        for _ in self._ports:
            self._turn = (self._turn + 1) % len(self._ports)
            if self._ports[self._turn].up:
                return self._ports[self._turn]
        raise enclave_down()

    # --- reads

    def network(self, request: Request, reply: Reply) -> None:
        status = next((port.status for port in self._ports if port.up), None)
        with self._store.snapshot() as reader:
            body = network_view_bytes(reader, self.look(reader), status.query_key if status else None)
        reply(Response(200, body, CBOR))

    def latest_header(self, request: Request, reply: Reply) -> None:
        with self._store.snapshot() as reader:
            head = self.look(reader)
        reply(Response(200, HeaderView(header=head.signed, validators=head.validator_set).encoded(), CBOR))

    def header(self, request: Request, reply: Reply) -> None:
        text = request.parameters["height"]
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise Malformed("http.parameter", "a height is a decimal number", field="height")
        with self._store.snapshot() as reader:
            body = header_view_bytes(reader, int(text))
        reply(Response(200, body, CBOR))

    def leaf(self, request: Request, reply: Reply) -> None:
        name = request.parameters["section"]
        section = next((section for section in Section if section.name.lower() == name), None)
        if section is None:
            raise Malformed("http.parameter", "there is no such section of the map", field="section", status=404)
        key = _hex(request.parameters["key"], "key", 1, 1024)
        with self._store.snapshot() as reader:
            head = self.look(reader)
            if section not in PUBLIC_SECTIONS:
                self._require_member(request, head)
            body = leaf_view_bytes(reader, head, section, key)
        reply(Response(200, body, CBOR))

    def member_merchant(self, request: Request, reply: Reply) -> None:
        merchant = ID.load(_hex(request.parameters["merchant"], "merchant", 20, 20), "merchant")
        service = SERVICE.load(request.query("service") or "pay", "service")
        with self._store.snapshot() as reader:
            head = self.look(reader)
            self._require_member(request, head)
            body = member_view_bytes(reader, head, merchant, service)
        reply(Response(200, body, CBOR))

    def _require_member(self, request: Request, head: Head) -> bytes:
        """The platform that signed the request with one of its keys on chain."""
        header = request.headers.get(MEMBER_HEADER)
        if header is None:
            raise Untrusted("request.member", "members only: sign the request as docs/spec says", field=MEMBER_HEADER)
        proof = parse_member(header)
        leaf = head.leaves.get(proof.platform)
        if leaf is None:
            raise Untrusted("request.platform", "no such platform is on chain", field=MEMBER_HEADER)
        return verify_member(self._config.chain_id, proof, leaf, request.method, request.target, request.body, now_ms())

    # --- transactions

    async def transaction(self, request: Request) -> Response:
        """Hand a transaction to the writer and wait as long as was asked for."""
        _require_cbor(request)
        if not 1 <= len(request.body) <= TRANSACTION_BYTES_MAX:
            raise Malformed(
                "transaction.size", f"a transaction has 1 to {TRANSACTION_BYTES_MAX} bytes", field="body", status=413
            )
        name = request.query("wait") or "decided"
        wait = next((wait for wait in Wait if wait.name.lower() == name), None)
        if wait is None:
            raise Malformed("http.parameter", "wait is decided, proven or none", field="wait")
        submission = Submission(transaction=request.body, wait=wait).encoded()
        submitted = parse(Submitted, await self._writer.call(SUBMIT, submission), path="submitted")
        error = refused(submitted)
        if error is not None and submitted.code is not None:
            return problem(error, {"result": result_name(submitted.code), "result_code": submitted.code})
        return json_response(200, submitted_plain(submitted))

    # --- what an operator looks at

    def health(self, request: Request, reply: Reply) -> None:
        """200 while wallets get fresh answers here."""
        with self._store.snapshot() as reader:
            head = self.look(reader)
        age_ms = now_ms() - self._when_signed(head)
        if age_ms > HEADER_AGE_MS_MAX:
            raise Unreachable("node.stale", f"the newest header is {age_ms} ms old: does the chain make blocks?")
        if self._ports and not any(port.up for port in self._ports):
            raise enclave_down()
        if not self._writer.up:
            raise writer_down()
        reply(json_response(200, {"healthy": True, "height": head.height, "header_age_ms": age_ms}))

    async def status(self, request: Request) -> Response:
        with self._store.snapshot() as reader:
            head = self.look(reader)
        enclaves = await asyncio.gather(*map(self._enclave_status, self._ports[:1]))
        return json_response(
            200,
            {
                "chain_id": self._config.chain_id,
                "node_id": self._config.node_id,
                "engine": self._config.engine,
                "height": head.height,
                "header_age_ms": now_ms() - self._when_signed(head),
                "platforms": len(head.platforms),
                "writer": {"up": self._writer.up, "in_flight": self._writer.in_flight},
                "enclave": enclaves[0] if enclaves else None,
                "versions": {"onecode": onecode.__version__, "api": API_VERSION, "query_protocol": PROTOCOL},
            },
        )

    async def _enclave_status(self, port: EnclavePort) -> dict[str, Any]:
        try:
            status = await asyncio.wait_for(port.fetch_status(), STATUS_TIMEOUT_S)
        except (OnecodeError, TimeoutError):
            return {"up": False}
        return {"up": True, "in_flight": sum(port.link.in_flight for port in self._ports), **enclave_plain(status)}

    def _when_signed(self, head: Head) -> int:
        """When the head's header was signed; verified from its own commit, once for each height."""
        height, signed_ms = self._signed_ms
        if height != head.height:
            trust = Trust(trusted_state(head.signed.header, head.validator_set))
            signed_ms = verify_header(head.signed, head.validator_set, trust, now_ms()).signed_ms
            self._signed_ms = (head.height, signed_ms)
        return signed_ms


def enclave_plain(status: EnclaveStatus) -> dict[str, Any]:
    """An enclave's status for JSON. `simulated` says that its evidence proves nothing about memory."""
    return {
        "query_key": status.query_key.hex(),
        "kind": status.kind,
        "simulated": status.kind in SIMULATED_KINDS,
        "measurement": status.measurement.hex(),
        "node_id": status.node_id,
        "height": status.height,
        "leases": [
            {"platform": one.platform.hex(), "expires_ms": one.expires_ms, "openings_left": one.openings_left}
            for one in status.leases
        ],
    }


def writer_down() -> OnecodeError:
    return Unreachable("node.writer_down", "the node's writer does not run: ask again or another node")


def _answer(clear: ClearQuery, head: Head, found: Found, reply: Reply, sealed: bytes | OnecodeError) -> None:
    """The enclave's word on a query, with the proofs; its open refusals as errors."""
    if isinstance(sealed, OnecodeError):
        reply(problem(sealed))
    else:
        reply(Response(200, answer_bytes(clear, head, found, sealed), CBOR))


def _require_cbor(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/cbor":
        raise Malformed("http.media_type", "send the body as application/cbor", field="content-type", status=415)


def _hex(text: str, field: str, least: int, most: int) -> bytes:
    """Bytes in lower-case hex, of a length from `least` to `most`."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if raw.hex() != text or not least <= len(raw) <= most:
        raise Malformed("http.parameter", f"{field} is lower-case hex of {least} to {most} bytes", field=field)
    return raw
