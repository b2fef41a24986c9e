"""What an operator and a newcomer look at: health, status, the network in words, metrics, the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import onecode
from onecode.attest.evidence import SIMULATED_KINDS
from onecode.enclave.frames import EnclaveStatus
from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.host.clock import now_ms
from onecode.node.blocks import load_first
from onecode.node.config import NodeConfig
from onecode.node.enclave_port import EnclavePort, enclave_down
from onecode.node.engine_home import NODE_ID_FILE
from onecode.node.link import Link
from onecode.node.metrics import (
    ENGINE,
    ENGINE_UP,
    SUPERVISOR,
    TEXT,
    WRITER,
    Board,
    Family,
    exposition,
    read_board,
    read_boards,
)
from onecode.node.openapi import document
from onecode.node.routes import Reply, Request, Response, Router, json_response
from onecode.node.store import ReaderStore
from onecode.node.view import Head
from onecode.proof.governance import (
    PARAMETERS_KEY,
    RULES_KEY,
    SERVICES_KEY,
    VALIDATORS_KEY,
    Parameters,
    RulesLeaf,
    ServicesLeaf,
    ValidatorsLeaf,
)
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.proof.map import Section
from onecode.query.messages import PROTOCOL
from onecode.registry.genesis import GENESIS_BYTES_MAX, parse_genesis
from onecode.registry.map import load
from onecode.registry.store import Reader
from onecode.schema import M, parse, to_plain
from onecode.wire import sha256

API_VERSION = 1
HEADER_AGE_MS_MAX = 30_000  # by which a wallet still takes an answer
STATUS_TIMEOUT_S = 1.0
ENGINE_SILENT_MS = 10_000  # after which an engine that gave no status counts as down


class Operations:
    """The operator's routes of one worker."""

    def __init__(
        self,
        config: NodeConfig,
        store: ReaderStore,
        ports: Sequence[EnclavePort],
        writer: Link,
        look: Callable[[Reader], Head],
    ) -> None:
        self._config = config
        self._store = store
        self._ports = ports
        self._writer = writer
        self._look = look
        self._signed_ms: tuple[int, int] = (0, 0)  # height, when its header was signed
        self._openapi: Response | None = None
        self._router: Router | None = None
        self.board: Board | None = None

    def describe(self, router: Router) -> None:
        """Take the routes that the OpenAPI document is made of."""
        self._router = router

    # --- health and status

    def health(self, request: Request, reply: Reply) -> None:
        """200 while wallets get fresh answers here."""
        with self._store.snapshot() as reader:
            head = self._look(reader)
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
            head, first = self._look(reader), load_first(reader)
        enclaves = await asyncio.gather(*map(self._enclave_status, self._ports[:1]))
        return json_response(
            200,
            {
                "chain_id": self._config.chain_id,
                "node_id": self._config.node_id,
                "engine": self._engine(head, first),
                "height": head.height,
                "first_block": first,
                "header_age_ms": now_ms() - self._when_signed(head),
                "platforms": len(head.platforms),
                "writer": {"up": self._writer.up, "in_flight": self._writer.in_flight},
                "enclave": enclaves[0] if enclaves else None,
                "versions": self._versions,
            },
        )

    def _engine(self, head: Head, first: int) -> dict[str, Any]:
        """The engine as the writer saw it last, at most a second or two ago."""
        if self._config.engine == "solo":
            power = sum(one.power for one in head.validator_set.validators)
            found = {"node_id": None, "up": self._writer.up, "height": head.height, "first_block": first}
            return {"kind": "solo", **found, "peers": 0, "lag_blocks": 0, "catching_up": False, "power": power}
        seen = read_board(ENGINE, self._config.engine_board)
        return {
            "kind": self._config.engine,
            "node_id": self._engine_id,
            "up": self._engine_up(seen),
            "height": seen["engine_height"],
            "first_block": seen["engine_first_block"],
            "peers": seen["engine_peers"],
            "lag_blocks": seen["engine_lag_blocks"],
            "catching_up": bool(seen["engine_catching_up"]),
            "power": seen["engine_validator_power"],
        }

    def _engine_up(self, seen: dict[str, int]) -> bool:
        return self._writer.up and now_ms() - seen["engine_asked_ms"] < ENGINE_SILENT_MS

    @property
    def _engine_id(self) -> str | None:
        try:
            return (self._config.engine_path / NODE_ID_FILE).read_text("ascii")
        except OSError:  # the writer is about to make it
            return None

    @property
    def _versions(self) -> dict[str, Any]:
        return {"onecode": onecode.__version__, "api": API_VERSION, "query_protocol": PROTOCOL}

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

    # --- the network

    @cached_property
    def _genesis_hash(self) -> str:
        """SHA-256 of the encoded `Genesis`: the same for every way to write its JSON."""
        try:
            with self._config.genesis.open("rb") as file:
                return sha256(parse_genesis(file.read(GENESIS_BYTES_MAX + 1)).encoded()).hex()
        except OSError as error:
            raise Misconfigured(
                "node.genesis", f"cannot read the genesis: {error.strerror}", field="genesis"
            ) from error

    def network(self, request: Request, reply: Reply) -> None:
        """The network in words. Nothing here is proven: for that there are `/v1/network` and `/v1/leaves`."""
        at_ms = now_ms()
        with self._store.snapshot() as reader:
            head = self._look(reader)
            parameters = _leaf(reader, PARAMETERS_KEY, Parameters)
            services = _leaf(reader, SERVICES_KEY, ServicesLeaf)
            validators = _leaf(reader, VALIDATORS_KEY, ValidatorsLeaf)
            rules = _leaf(reader, RULES_KEY, RulesLeaf)
        members = [
            {
                "platform": platform.hex(),
                "name": leaf.name,
                "active": leaf.active_at(at_ms),
                "url": leaf.url,
                "key_service_url": leaf.key_service_url,
            }
            for platform, leaf in head.leaves.items()
        ]
        network = {
            "chain_id": self._config.chain_id,
            "genesis_hash": self._genesis_hash,
            "engine": self._config.engine,
            "height": head.height,
            "members": members,
            "services": list(services.services_at(at_ms)),
            "parameters": to_plain(parameters),
            "validators": [to_plain(validator) for validator in validators.validators],
            "rule_version": rules.version_at(head.height),
            "versions": self._versions,
        }
        reply(json_response(200, network))

    def openapi(self, request: Request, reply: Reply) -> None:
        if self._openapi is None:
            self._openapi = json_response(200, document(self._router or Router()))
        reply(self._openapi)

    # --- metrics

    def metrics(self, request: Request, reply: Reply) -> None:
        """The counters of all processes of the node, and how it stands now."""
        config, board = self._config, self.board
        parts = []
        if board is not None:
            parts.append(exposition(board.families, read_boards(board.families, config.worker_boards)))
        parts.append(exposition(WRITER, read_boards(WRITER, [config.boards_path / "writer"])))
        parts.append(exposition(SUPERVISOR, read_boards(SUPERVISOR, [config.boards_path / "supervisor"])))
        if config.engine != "solo":
            parts.append(exposition(ENGINE, read_boards(ENGINE, [config.engine_board])))
            up = int(self._engine_up(read_board(ENGINE, config.engine_board)))
            parts.append(exposition([ENGINE_UP], [up]))
        with self._store.snapshot() as reader:
            head = self._look(reader)
        map_bytes, used_bytes = self._store.room()
        now = (
            ("enclave_workers", "Workers of the enclave as configured.", len(self._ports)),
            ("enclave_up", "Workers of the enclave that can be asked.", sum(port.up for port in self._ports)),
            ("writer_up", "Whether the writer can be reached.", int(self._writer.up)),
            ("height", "Height of the newest signed header.", head.height),
            ("header_age_ms", "How long ago it was signed.", max(0, now_ms() - self._when_signed(head))),
            ("platforms", "Platforms that were ever admitted.", len(head.platforms)),
            ("store_map_bytes", "Most that the store can hold.", map_bytes),
            ("store_used_bytes", "Pages of the store that are or were in use.", used_bytes),
        )
        families = [Family(name, "gauge", text) for name, text, _ in now]
        parts.append(exposition(families, [value for *_, value in now]))
        reply(Response(200, "".join(parts).encode("utf-8"), TEXT))


def _leaf(reader: Reader, key: bytes, kind: type[M]) -> M:
    raw = load(reader, Section.GOVERNANCE, key)
    if raw is None:
        raise Misconfigured("node.leaf_missing", "a leaf of the genesis is gone: restore the node's store")
    return parse(kind, raw)


def enclave_plain(status: EnclaveStatus) -> dict[str, Any]:
    """An enclave's status for JSON. `simulated` says that its evidence proves nothing about memory."""
    return {
        "query_key": status.query_key.hex(),
        "kind": status.kind,
        "simulated": status.kind in SIMULATED_KINDS,
        "measurement": status.measurement.hex(),
        "node_id": status.node_id,
        "height": status.height,
        "leases": [{"platform": one.platform.hex(), "expires_ms": one.expires_ms} for one in status.leases],
    }


def writer_down() -> OnecodeError:
    return Unreachable(
        "node.writer_down", "the node's writer does not run: ask again or another node", retry_after_ms=1_000
    )
