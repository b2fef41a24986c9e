"""Several validators on this machine: whole nodes with the engine, one query worker each, no enclave unless asked for.

All keys are derived from labels; the platforms are those of `bench.world`, on a chain of this measurement's own.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from bench.nodes import free_port
from bench.processes import Child, write_private
from bench.world import PLATFORMS, genesis, key, now_ms
from onecode.node.engine_home import node_id
from onecode.proof.governance import ValidatorLeaf
from onecode.proof.leaves import PlatformNode
from onecode.query.messages import HeaderView
from onecode.schema import parse, to_plain
from onecode.wire import SigningKey

CHAIN_ID = "bench-network"
ENGINE = Path(__file__).parents[1] / "bin" / "cometbft"
READY_S = 60.0
POWER = 10


@dataclass(frozen=True, slots=True)
class Validator:
    """One node. url: of its API."""

    name: str
    directory: Path
    url: str
    rpc_port: int
    process: Child

    def connect(self, timeout_s: float = 60.0) -> http.client.HTTPConnection:
        """A connection of one's own to the API."""
        place = urlsplit(self.url)
        return http.client.HTTPConnection(str(place.hostname), place.port, timeout=timeout_s)

    def newest(self) -> HeaderView:
        """The header that proves what the node answers from."""
        connection = self.connect()
        try:
            connection.request("GET", "/v1/headers/latest")
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{self.name} has no header: {body[:200]!r}")
        return parse(HeaderView, body)


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


@contextmanager
def running(directory: Path, count: int, heartbeat_ms: int = 1_000) -> Iterator[list[Validator]]:
    """So many validators of equal power, ready and in agreement; they end with the context."""
    directory.mkdir()
    validators = tuple(
        sorted(
            (
                ValidatorLeaf(key=_keys(number)[0].public, power=POWER, platform=PLATFORMS[number].id)
                for number in range(count)
            ),
            key=lambda leaf: leaf.key,
        )
    )
    begun = genesis()
    admitted = tuple(replace(one, nodes=_nodes(one.root, count)) for one in begun.platforms)
    begun = replace(begun, chain_id=CHAIN_ID, validators=validators, platforms=admitted, time_ms=now_ms())
    (directory / "genesis.json").write_text(json.dumps(to_plain(begun)), "utf-8")
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
                "chain_id": CHAIN_ID,
                "data_dir": "data",
                "genesis": "../genesis.json",
                "validator_key": "validator.key",
                "node_id": f"bench-{number}",
                "engine": "cometbft",
                "engine_binary": str(ENGINE),
                "engine_node_key": "engine.key",
                "engine_rpc_port": rpc_port,
                "engine_listen": listen[number],
                "engine_peers": ",".join(peer for at, peer in enumerate(peers) if at != number) or None,
                "engine_one_machine": True,
                "api_port": 0,
                "workers": 1,
                "heartbeat_ms": heartbeat_ms,
                "store_map_bytes": 8 << 30,
                "address_requests_per_s": 0,
            }
            (own / "node.json").write_text(json.dumps(config), "utf-8")
            child = stack.enter_context(Child("onecode.node", str(own / "node.json")))
            found.append((own, rpc_port, child))
        nodes = [
            Validator(f"n{number}", own, child.wait_ready()["url"], rpc_port, child)
            for number, (own, rpc_port, child) in enumerate(found)
        ]
        for node in nodes:
            wait_for(lambda node=node: node.newest().header.header.height > 1, f"{node.name} has a header")  # type: ignore[misc]
        yield nodes
