"""The node's HTTP API under /v1: one table of routes, queries to the enclave, reads of the newest provable state."""

from __future__ import annotations

import asyncio
from functools import partial

from onecode.errors import Malformed, OnecodeError, Unreachable, Untrusted
from onecode.node.config import NodeConfig
from onecode.node.decided import Decided
from onecode.node.described import DESCRIBED
from onecode.node.enclave_port import EnclavePort, enclave_down
from onecode.node.engine_window import EngineWindow
from onecode.node.link import Link
from onecode.node.members import Members
from onecode.node.metrics import Board, Meter, worker_families
from onecode.node.operations import Operations, enclave_plain, writer_down
from onecode.node.routes import (
    CBOR,
    Reply,
    Request,
    Response,
    Router,
    hex_bytes,
    internal,
    problem,
    require_cbor,
    uint,
)
from onecode.node.store import ReaderStore
from onecode.node.transactions import Transactions
from onecode.node.view import (
    Found,
    Head,
    answer_bytes,
    enclave_query_bytes,
    find,
    header_view_bytes,
    leaf_view_bytes,
    load_head,
    network_view_bytes,
    state_mark,
)
from onecode.proof.map import Section
from onecode.query.messages import PROTOCOL, QUERY_BYTES_MAX, ClearQuery, HeaderView, Query
from onecode.registry.counters import FLOOR_TAG
from onecode.registry.store import Reader
from onecode.schema import parse

__all__ = ["NodeApi", "enclave_plain", "writer_down"]

PUBLIC_SECTIONS = (Section.PLATFORMS, Section.GOVERNANCE, Section.ENCLAVES, Section.COUNTERS)
QUERY_ATTEMPTS = 10  # heights that may pass by before a query is refused as busy
NEWER_WAIT_S = 15.0  # for a newer header, where one is asked for; a wallet waits a little longer
QUERY_ROUTE = ("POST", "/v1/query")


class NodeApi:
    """Routes of one worker. `look` is called for every question, so that no answer is older than the store."""

    def __init__(self, config: NodeConfig, store: ReaderStore, ports: list[EnclavePort], writer: Link) -> None:
        self._config = config
        self._store = store
        self._ports = ports
        self._head: Head | None = None
        self._mark = b""
        self._turn = 0
        self._waiting = 0  # readers that wait for a newer header
        self._changed = asyncio.Event()
        self._decided = Decided(config.decided_path)
        self._opened = 0  # height of the newest decided block that was seen
        self._members = Members(config, store, self.look, self._wait_for_change, self._decided)
        self._operations = Operations(config, store, ports, writer, self.look)
        self._transactions = Transactions(store, writer, self._decided)
        self._meter: Meter | None = None
        self._router = self._routes()

    def router(self) -> Router:
        return self._router

    def meter(self, number: int) -> Meter:
        """What counts this worker's answers, in the file of its number."""
        families = worker_families(self._router.labels)
        board = Board(families, self._config.worker_boards[number])
        self._operations.board = board
        timed = next(place for place, (*route, _) in enumerate(self._router.routes) if tuple(route) == QUERY_ROUTE)
        self._meter = Meter(board, timed)
        return self._meter

    def _routes(self) -> Router:
        router = Router()
        members, operations, transactions = self._members, self._operations, self._transactions
        handlers = {
            QUERY_ROUTE: self.query,
            ("GET", "/v1/network"): self.network,
            ("GET", "/v1/network.json"): operations.network,
            ("GET", "/v1/headers/{height}"): self.header,
            ("GET", "/v1/leaves/{section}/{key}"): self.leaf,
            ("GET", "/v1/transactions/{hash}"): lambda request, reply: reply(transactions.look_up(request)),
            ("GET", "/v1/members/merchants/{merchant}"): members.merchant,
            ("GET", "/v1/members/blocks/{height}"): members.block,
            ("GET", "/v1/members/events"): members.events,
            ("GET", "/v1/health"): operations.health,
            ("GET", "/v1/metrics"): operations.metrics,
            ("GET", "/v1/openapi.json"): operations.openapi,
        }
        for (method, pattern), handler in handlers.items():
            router.add(method, pattern, handler, DESCRIBED[method, pattern])
        for method, pattern, waiting in (
            ("GET", "/v1/headers/latest", self.latest_header),
            ("GET", "/v1/status", operations.status),
            ("POST", "/v1/transactions", transactions.submit),
            ("POST", "/v1/engine", EngineWindow(self._config).ask),
        ):
            router.add_async(method, pattern, waiting, DESCRIBED[method, pattern])
        operations.describe(router)
        return router

    # --- the newest state

    def look(self, reader: Reader) -> Head:
        """The head of this snapshot, loaded once for each state; the enclave is told of a newer one."""
        mark = state_mark(reader)
        if self._head is None or mark != self._mark:
            self._head = load_head(reader, self._head)
            self._mark = mark
            self._announce()
        for port in self._ports:
            port.follow(self._head)
        return self._head

    def poll(self, connections: int = 0) -> None:
        """Notice a newer state or decided block without being asked, and note what is under way."""
        opened = self._decided.load()
        if opened is not None and opened.height != self._opened:
            self._opened = opened.height
            self._announce()
        with self._store.snapshot() as reader:
            self.look(reader)
        if self._meter is not None:
            board = self._meter.board
            board.set(board.place("queries_in_flight"), sum(port.link.in_flight for port in self._ports))
            board.set(board.place("streams"), self._members.streams)
            board.set(board.place("connections"), connections)

    def _announce(self) -> None:
        """Wake who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_change(self, timeout_s: float) -> bool:
        """Whether a newer state came in time."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    # --- queries

    def query(self, request: Request, reply: Reply) -> None:
        """Hand a query with what the chain says to the enclave; its sealed result goes back with the proofs."""
        require_cbor(request)
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
                raise Unreachable(
                    "node.busy", "the node has all it can do: ask again or another one", retry_after_ms=1_000
                )
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

    async def latest_header(self, request: Request) -> Response:
        """The newest header; where that is of height `above`, the next one, or after a while the same again."""
        given = request.query("above")
        if given is None:
            head = self._newest()
        else:
            if self._waiting >= self._config.streams_max:
                raise Unreachable(
                    "http.streams", "this node has too many waiting readers", status=429, retry_after_ms=10_000
                )
            self._waiting += 1
            try:
                head = await self._newer(uint(given, "above"))
            finally:
                self._waiting -= 1
        return Response(200, HeaderView(header=head.signed, validators=head.validator_set).encoded(), CBOR)

    def _newest(self) -> Head:
        with self._store.snapshot() as reader:
            return self.look(reader)

    async def _newer(self, height: int) -> Head:
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + NEWER_WAIT_S
        while (head := self._newest()).height == height and (left_s := ends_s - loop.time()) > 0:
            await self._wait_for_change(left_s)
        return head

    def header(self, request: Request, reply: Reply) -> None:
        height = uint(request.parameters["height"], "height")
        with self._store.snapshot() as reader:
            body = header_view_bytes(reader, height)
        reply(Response(200, body, CBOR))

    def leaf(self, request: Request, reply: Reply) -> None:
        name = request.parameters["section"]
        section = next((section for section in Section if section.name.lower() == name), None)
        if section is None:
            raise Malformed("http.parameter", "there is no such section of the map", field="section", status=404)
        key = hex_bytes(request.parameters["key"], "key", 1, 1024)
        with self._store.snapshot() as reader:
            head = self.look(reader)
            if section not in PUBLIC_SECTIONS or (section == Section.COUNTERS and key.startswith(FLOOR_TAG)):
                self._members.require(request, reader, head)
            body = leaf_view_bytes(reader, head, section, key)
        reply(Response(200, body, CBOR))


def _answer(clear: ClearQuery, head: Head, found: Found, reply: Reply, sealed: bytes | OnecodeError) -> None:
    """The enclave's word on a query, with the proofs; its open refusals as errors."""
    if isinstance(sealed, OnecodeError):
        reply(problem(sealed))
    else:
        reply(Response(200, answer_bytes(clear, head, found, sealed), CBOR))
