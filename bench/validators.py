"""Whole nodes of a chain of their own on this machine: several validators with engines, or one with `solo`.

Each has one query worker, and one enclave process where it is asked for. All keys are derived from labels; the
platforms are those of `bench.world`. Engines' messages go into files beside the nodes.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.attested import EnclaveSocket, Ground, grant_keys, write_enclave
from bench.load import children
from bench.nodes import free_port
from bench.processes import Child, write_private
from bench.world import PLATFORMS, genesis, key
from onecode.host.clock import now_ms
from onecode.node.engine_home import node_id
from onecode.proof.governance import ValidatorLeaf
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.leaves import PlatformNode
from onecode.query.messages import HeaderView, NetworkView
from onecode.registry.genesis import Genesis
from onecode.schema import parse, to_plain
from onecode.wire import SigningKey

CHAIN_ID, SOLO_ID = "bench-network", "solo-bench-network"
ENGINE = Path(__file__).parents[1] / "bin" / "cometbft"
READY_S = 90.0
POWER = 10
ROLES = ("writer", "engine", "worker", "enclave", "supervisor")


@dataclass(frozen=True, slots=True)
class Validator:
    """One node. url: of its API. rpc_port: of its engine, if it has one."""

    chain_id: str
    name: str
    directory: Path
    url: str
    rpc_port: int
    process: Child

    def connect(self, timeout_s: float = 60.0) -> http.client.HTTPConnection:
        """A connection of one's own to the API."""
        place = urlsplit(self.url)
        return http.client.HTTPConnection(str(place.hostname), place.port, timeout=timeout_s)

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def get(self, path: str) -> bytes:
        """An answer of the API."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{self.name} answers {path} with {answer.status}: {body[:200]!r}")
        return body

    def newest(self) -> HeaderView:
        """The header that proves what the node answers from."""
        return parse(HeaderView, self.get("/v1/headers/latest"))

    def header_at(self, height: int) -> tuple[SignedHeader, ValidatorSet]:
        view = parse(HeaderView, self.get(f"/v1/headers/{height}"))
        return view.header, view.validators

    def roles(self) -> dict[str, list[int]]:
        """Process ids by role."""
        said: dict[str, Any] = json.loads((self.directory / "data" / "running.json").read_text("utf-8"))
        writer, enclave = said["pids"]["writer"], said["pids"]["enclave"]
        return {
            "writer": [writer],
            "engine": [pid for pid in children(writer) if _name(pid) == ENGINE.name],
            "worker": said["pids"]["workers"],
            "enclave": [enclave, *children(enclave)] if enclave else [],
            "supervisor": [said["pid"]],
        }


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def wait_for(condition: Callable[[], bool], what: str, seconds: float = READY_S) -> None:
    """Return once `condition` holds, which may raise while it cannot tell."""
    until = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, http.client.HTTPException, RuntimeError):
            pass
        if time.monotonic() > until:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


def _keys(number: int) -> tuple[SigningKey, SigningKey]:
    return key(f"bench validator {number}"), key(f"bench engine {number}")


def _nodes(root: bytes, count: int) -> tuple[PlatformNode, ...]:
    """The node that the platform with this root key operates, if it has one: engines let in no others."""
    return tuple(
        PlatformNode(node_id=node_id(_keys(number)[1]), url="http://127.0.0.1")
        for number in range(count)
        if PLATFORMS[number].root.public == root
    )


def _genesis(chain_id: str, count: int) -> Genesis:
    validators = (
        ValidatorLeaf(key=_keys(number)[0].public, power=POWER, platform=PLATFORMS[number].id)
        for number in range(count)
    )
    begun = genesis()
    return replace(
        begun,
        chain_id=chain_id,
        validators=tuple(sorted(validators, key=lambda leaf: leaf.key)),
        platforms=tuple(replace(one, nodes=_nodes(one.root, count)) for one in begun.platforms),
        time_ms=now_ms(),
    )


@contextmanager
def running(
    directory: Path, count: int, chain_id: str = CHAIN_ID, *, enclaves: bool = False, heartbeat_ms: int = 1_000
) -> Iterator[list[Validator]]:
    """So many validators of equal power, ready and in agreement; they end with the context. With `enclaves` each node
    waits for one (`supply_enclaves`). `SOLO_ID` is a chain of one node."""
    directory.mkdir()
    engine = "solo" if chain_id == SOLO_ID else "cometbft"
    (directory / "genesis.json").write_text(json.dumps(to_plain(_genesis(chain_id, count))), "utf-8")
    listen = [f"127.0.0.1:{free_port()}" for _ in range(count)]
    peers = [f"{node_id(_keys(number)[1])}@{listen[number]}" for number in range(count)]
    with ExitStack() as stack:
        found = []
        for number in range(count):
            own = directory / f"n{number}"
            own.mkdir()
            for name, one in zip(("validator", "engine"), _keys(number), strict=True):
                write_private(own / f"{name}.key", one.seed.hex().encode())
            rpc_port = free_port()
            config = {
                "chain_id": chain_id,
                "data_dir": "data",
                "genesis": "../genesis.json",
                "validator_key": "validator.key",
                "node_id": f"bench-{number}",
                "engine": engine,
                "api_port": 0,
                "workers": 1,
                "heartbeat_ms": heartbeat_ms,
                "store_map_bytes": 8 << 30,
                "address_requests_per_s": 0,
                "start_timeout_ms": int(READY_S * 1000),
            }
            if engine == "cometbft":
                config |= {
                    "engine_binary": str(ENGINE),
                    "engine_node_key": "engine.key",
                    "engine_rpc_port": rpc_port,
                    "engine_listen": listen[number],
                    "engine_peers": ",".join(peer for at, peer in enumerate(peers) if at != number) or None,
                    "engine_one_machine": True,
                }
            if enclaves:
                config |= {"enclave_config": "enclave.json", "enclave_socket": "data/enclave.sock"}
            (own / "node.json").write_text(json.dumps(config), "utf-8")
            child = Child("onecode.node", str(own / "node.json"), log=own / "messages")
            found.append((own, rpc_port, stack.enter_context(child)))
        nodes = [
            Validator(chain_id, f"n{number}", own, child.wait_ready()["url"], rpc_port, child)
            for number, (own, rpc_port, child) in enumerate(found)
        ]
        for node in nodes:
            wait_for(lambda node=node: node.newest().header.header.height > 1, f"{node.name} has a header")  # type: ignore[misc]
        yield nodes


def supply_enclaves(nodes: Sequence[Validator]) -> list[bytes]:
    """Give every node's enclave a trust file and all platforms' keys; returns the enclaves' query keys."""
    view = parse(NetworkView, nodes[0].get("/v1/network"))
    ground = Ground(nodes[0].chain_id, view.header, view.validators, view.policy)
    sockets = [node.directory / "data" / "enclave.sock" for node in nodes]
    for number, (node, path) in enumerate(zip(nodes, sockets, strict=True)):
        write_enclave(node.directory, ground, f"bench-{number}", path, 1)
    found = []
    for node, path in zip(nodes, sockets, strict=True):
        connection = EnclaveSocket(path)
        status = connection.wait_height(view.header.header.height)
        grant_keys(connection.call, ground, node.header_at)
        connection.close()
        found.append(status.query_key)
    return found
