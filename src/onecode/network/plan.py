"""What a local network consists of, and where its files lie: one directory, made once, used again at every start."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from onecode.errors import Misconfigured, Unreachable
from onecode.host.files import load_private, save_private

PLAN_FILE = "network.json"
HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
PORTS_TRIED_MAX = 1_000
OPERATOR_TOKEN_BYTES = 24
HEADER_AGE_MS_MAX = 30_000
SOLO, COMETBFT = "solo", "cometbft"
NODE = "node"  # the one node of a solo network
VALIDATOR_POWER = 10
BINARY = "cometbft"
_VERSION = 2


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """One platform. slug: its directory's name; root: its first public root key, hex."""

    slug: str
    name: str
    port: int
    keys_port: int
    operator_token: str = field(repr=False)
    root: str = ""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def key_service_url(self) -> str:
        return f"http://{HOST}:{self.keys_port}"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node. slug: its directory's name; platform: slug of the platform that operates it; rpc_port and p2p_port: of
    its engine, 0 with solo; power: its vote, 0 for none."""

    slug: str
    platform: str
    api_port: int
    rpc_port: int = 0
    p2p_port: int = 0
    power: int = VALIDATOR_POWER

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def p2p(self) -> str:
        """Where other engines reach this one's."""
        return f"{HOST}:{self.p2p_port}"

    @property
    def process(self) -> str:
        """Its process's name, and its log file's."""
        return self.slug if self.slug == NODE else f"{self.slug}-node"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """One network. Delays are the genesis parameters of those names; bounds are of nodes, platforms and wallets.

    engine: "solo", with one node, or "cometbft", whose binary is engine_binary. measurement: hex, of the enclave build
    that the chain's policy allows.
    """

    chain_id: str
    nodes: tuple[NodePlan, ...]
    platforms: tuple[PlatformPlan, ...]
    governance_delay_ms: int
    heartbeat_ms: int
    header_age_ms_max: int
    sandbox_opening_minor: dict[str, int]
    engine: str = SOLO
    engine_binary: str = ""
    measurement: str = ""

    @property
    def allow_solo(self) -> bool:
        return self.engine == SOLO

    @property
    def node_port(self) -> int:
        """The API's port of the first node."""
        return self.nodes[0].api_port

    @property
    def node_url(self) -> str:
        """The API's address of the first node."""
        return self.nodes[0].url

    def node(self, slug: str) -> NodePlan:
        """The node of this slug."""
        found = next((one for one in self.nodes if one.slug == slug), None)
        if found is None:
            names = ", ".join(one.slug for one in self.nodes)
            raise Misconfigured("network.node_unknown", f"this network has no node {slug!r}, only {names}")
        return found

    def nodes_of(self, slug: str) -> tuple[NodePlan, ...]:
        """All nodes in the order in which the platform of this slug asks them: those that it operates first."""
        return tuple(sorted(self.nodes, key=lambda one: one.platform != slug))

    def operator(self, node: NodePlan) -> PlatformPlan:
        """The platform that operates the node."""
        return next((one for one in self.platforms if one.slug == node.platform), self.platforms[0])

    def platform(self, slug: str) -> PlatformPlan:
        """The platform of this slug."""
        found = next((one for one in self.platforms if one.slug == slug), None)
        if found is None:
            names = ", ".join(one.slug for one in self.platforms)
            raise Misconfigured("network.platform_unknown", f"this network has no platform {slug!r}, only {names}")
        return found

    def with_platform(self, platform: PlatformPlan) -> NetworkPlan:
        """The plan with `platform` added, or in its place."""
        others = tuple(one for one in self.platforms if one.slug != platform.slug)
        return replace(self, platforms=(*others, platform))


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies under the network's directory."""

    directory: Path

    @property
    def plan(self) -> Path:
        return self.directory / PLAN_FILE

    @property
    def genesis(self) -> Path:
        return self.directory / "genesis.json"

    @property
    def vendor_key(self) -> Path:
        """The SIMULATED vendor's key: it stands in for a maker of processors."""
        return self.directory / "simulated-vendor.key"

    @property
    def node(self) -> Path:
        """The directory of a solo network's node."""
        return self.node_directory(NODE)

    def node_directory(self, slug: str) -> Path:
        return self.directory / NODE if slug == NODE else self.directory / "nodes" / slug

    def validator_key(self, slug: str) -> Path:
        return self.directory / "validator.key" if slug == NODE else self.node_directory(slug) / "validator.key"

    def engine_node_key(self, slug: str) -> Path:
        """The key by which the node's engine is known to other engines."""
        return self.node_directory(slug) / "engine-node.key"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    def platform(self, slug: str) -> Path:
        return self.directory / "platforms" / slug

    def merchant(self, slug: str) -> Path:
        return self.directory / "merchants" / slug

    def wallet(self, slug: str) -> Path:
        return self.directory / "wallets" / slug


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now; below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    for port in secrets.SystemRandom().sample(PORTS, PORTS_TRIED_MAX):
        if len(found) == count:
            return found
        if _is_free(port):
            found.append(port)
    raise Unreachable("network.no_ports", f"no free ports between {PORTS.start} and {PORTS.stop}: stop something")


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port), reuse_port=False).close()
    except OSError:
        return False
    return True


def require_free(port: int, what: str) -> None:
    """Raise `Unreachable` if somebody listens on the port already."""
    if not _is_free(port):
        raise Unreachable(
            "network.port_taken", f"port {port} of {what} is taken: is this network running already?", field=what
        )


def plan_network(
    chain_id: str,
    names: Sequence[tuple[str, str]],
    *,
    governance_delay_ms: int,
    heartbeat_ms: int,
    sandbox_opening_minor: dict[str, int],
    engine_binary: Path | None = None,
) -> NetworkPlan:
    """A new network of platforms (slug, name), each with a random operator token, all on free ports.

    With an `engine_binary` each platform operates one validator; without, the first one operates the only node.
    """
    ports = iter(free_ports(1 + 5 * len(names)))
    platforms = tuple(_planned(slug, name, next(ports), next(ports)) for slug, name in names)
    if engine_binary is None:
        nodes: tuple[NodePlan, ...] = (NodePlan(NODE, platforms[0].slug, next(ports)),)
    else:
        nodes = tuple(NodePlan(one.slug, one.slug, next(ports), next(ports), next(ports)) for one in platforms)
    return NetworkPlan(
        chain_id=chain_id,
        nodes=nodes,
        platforms=platforms,
        governance_delay_ms=governance_delay_ms,
        heartbeat_ms=heartbeat_ms,
        header_age_ms_max=HEADER_AGE_MS_MAX,
        sandbox_opening_minor=sandbox_opening_minor,
        engine=SOLO if engine_binary is None else COMETBFT,
        engine_binary="" if engine_binary is None else str(engine_binary),
    )


def find_engine(given: Path | None, directories: Sequence[Path]) -> Path:
    """The engine's binary: the one that is given, else the first in the directories or on the path of programs."""
    places = [given] if given is not None else [directory / BINARY for directory in directories]
    for place in places:
        if os.access(place, os.X_OK) and place.is_file():
            return place.absolute()
    on_path = None if given is not None else shutil.which(BINARY)
    if on_path is None:
        where = f"{given} cannot be run" if given is not None else "there is no bin/cometbft, and none on the path"
        raise Misconfigured(
            "network.engine",
            f"{where}: `make cometbft` builds it (Go 1.25 or newer); --engine-binary names another place",
            field="engine_binary",
        )
    return Path(on_path)


def plan_platform(slug: str, name: str) -> PlatformPlan:
    """A new platform on free ports."""
    return _planned(slug, name, *free_ports(2))


def _planned(slug: str, name: str, port: int, keys_port: int) -> PlatformPlan:
    return PlatformPlan(slug, name, port, keys_port, secrets.token_hex(OPERATOR_TOKEN_BYTES))


def load_plan(places: Places) -> NetworkPlan:
    """The plan in the network's directory; one of version 1 is of a solo network."""
    try:
        stored: dict[str, Any] = json.loads(load_private(places.plan))
        version = stored.pop("version")
        platforms = tuple(PlatformPlan(**one) for one in stored.pop("platforms"))
        if version == 1:
            nodes: tuple[NodePlan, ...] = (NodePlan(NODE, platforms[0].slug, stored.pop("node_port")),)
        elif version == _VERSION:
            nodes = tuple(NodePlan(**one) for one in stored.pop("nodes"))
        else:
            raise KeyError
        if not nodes:
            raise KeyError
        return NetworkPlan(nodes=nodes, platforms=platforms, **stored)
    except (ValueError, TypeError, KeyError, IndexError):
        raise Misconfigured(
            "network.plan", f"{places.plan} is not what this version writes: use an empty directory", field="data"
        ) from None


def save_plan(places: Places, plan: NetworkPlan) -> None:
    """Keep the plan, mode 0600: it holds the operators' tokens."""
    stored = {"version": _VERSION, **asdict(plan)}
    save_private(places.plan, json.dumps(stored, indent=1).encode() + b"\n", replace=True)
