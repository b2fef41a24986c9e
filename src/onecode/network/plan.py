"""What a local network consists of, and where its files lie: one directory, made once, used again at every start."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from onecode.errors import Misconfigured, Unreachable
from onecode.platform.files import load_private, save_private

PLAN_FILE = "network.json"
HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
PORTS_TRIED_MAX = 1_000
OPERATOR_TOKEN_BYTES = 24
HEADER_AGE_MS_MAX = 30_000
_VERSION = 1


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
class NetworkPlan:
    """One network. Delays are the genesis parameters of those names; bounds are of node, platforms and wallets.

    measurement: hex, of the enclave build that the chain's policy allows.
    """

    chain_id: str
    node_port: int
    platforms: tuple[PlatformPlan, ...]
    governance_delay_ms: int
    heartbeat_ms: int
    header_age_ms_max: int
    sandbox_opening_minor: dict[str, int]
    measurement: str = ""

    @property
    def node_url(self) -> str:
        return f"http://{HOST}:{self.node_port}"

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
    def validator_key(self) -> Path:
        return self.directory / "validator.key"

    @property
    def node(self) -> Path:
        return self.directory / "node"

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
) -> NetworkPlan:
    """A new network of platforms (slug, name), each with a random operator token, all on free ports."""
    node_port, *ports = free_ports(1 + 2 * len(names))
    pairs = zip(ports[::2], ports[1::2], strict=True)
    platforms = tuple(_planned(slug, name, *pair) for (slug, name), pair in zip(names, pairs, strict=True))
    return NetworkPlan(
        chain_id=chain_id,
        node_port=node_port,
        platforms=platforms,
        governance_delay_ms=governance_delay_ms,
        heartbeat_ms=heartbeat_ms,
        header_age_ms_max=HEADER_AGE_MS_MAX,
        sandbox_opening_minor=sandbox_opening_minor,
    )


def plan_platform(slug: str, name: str) -> PlatformPlan:
    """A new platform on free ports."""
    return _planned(slug, name, *free_ports(2))


def _planned(slug: str, name: str, port: int, keys_port: int) -> PlatformPlan:
    return PlatformPlan(slug, name, port, keys_port, secrets.token_hex(OPERATOR_TOKEN_BYTES))


def load_plan(places: Places) -> NetworkPlan:
    """The plan in the network's directory."""
    try:
        stored: dict[str, Any] = json.loads(load_private(places.plan))
        if stored.pop("version") != _VERSION:
            raise KeyError
        platforms = tuple(PlatformPlan(**one) for one in stored.pop("platforms"))
        return NetworkPlan(platforms=platforms, **stored)
    except (ValueError, TypeError, KeyError):
        raise Misconfigured(
            "network.plan", f"{places.plan} is not what this version writes: use an empty directory", field="data"
        ) from None


def save_plan(places: Places, plan: NetworkPlan) -> None:
    """Keep the plan, mode 0600: it holds the operators' tokens."""
    stored = {"version": _VERSION, **asdict(plan)}
    save_private(places.plan, json.dumps(stored, indent=1).encode() + b"\n", replace=True)
