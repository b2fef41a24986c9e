"""Configuration of a node: one JSON file. Documented in docs/spec/configuration.md, which a test compares with this."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from onecode.errors import Misconfigured
from onecode.node.http import HttpLimits
from onecode.node.store import StoreConfig
from onecode.wire import CHAIN_ID_CHARS_MAX

ENGINES = ("solo", "cometbft")
SOLO_PREFIX = "solo-"  # of chain ids; wallets tell by it that a chain is one organisation's word
KEEP_BLOCKS_MIN = 100
SOCKET_PATH_BYTES_MAX = 107  # what Linux takes for a Unix socket


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Options of a node. Paths are relative to the configuration file's directory; limits are for each worker."""

    chain_id: str
    data_dir: Path
    genesis: Path
    node_id: str
    validator_key: Path | None = None
    engine: str = "solo"
    engine_binary: Path | None = None
    engine_node_key: Path | None = None
    engine_rpc_port: int = 26_657
    engine_listen: str = "0.0.0.0:26656"
    engine_peers: str | None = None
    engine_one_machine: bool = False
    snapshot_interval_ms: int = 21_600_000
    snapshots_kept: int = 2
    state_sync_servers: str | None = None
    state_sync_trust_height: int | None = None
    state_sync_trust_hash: str | None = None
    api_host: str = "127.0.0.1"
    api_port: int = 8080
    workers: int = 2
    enclave_config: Path | None = None
    enclave_socket: Path | None = None
    enclave_workers: int = 1
    heartbeat_ms: int = 10_000
    store_map_bytes: int = 64 << 30
    keep_blocks: int = 1_000_000

    body_bytes_max: int = 524_288
    request_timeout_ms: int = 10_000
    idle_timeout_ms: int = 75_000
    connections_max: int = 1_000
    address_requests_per_s: int = 500
    address_burst: int = 1_000
    address_connections_max: int = 256
    streams_max: int = 64
    stream_ms_max: int = 3_600_000

    queries_in_flight_max: int = 512
    enclave_timeout_ms: int = 5_000
    submissions_in_flight_max: int = 256
    submission_timeout_ms: int = 30_000
    head_poll_ms: int = 50

    relay_poll_ms: int = 1_000
    relay_timeout_ms: int = 10_000
    relay_retry_ms_max: int = 30_000
    relay_private_addresses: bool = False

    restart_delay_ms_min: int = 200
    restart_delay_ms_max: int = 10_000
    start_timeout_ms: int = 30_000
    stop_grace_ms: int = 5_000
    hung_timeout_ms: int = 10_000

    @property
    def store_path(self) -> Path:
        return self.data_dir / "store"

    @property
    def submission_socket(self) -> Path:
        return self.data_dir / "writer.sock"

    @property
    def engine_path(self) -> Path:
        """The engine's own directory."""
        return self.data_dir / "engine"

    @property
    def engine_socket(self) -> Path:
        """Where the engine finds the application."""
        return self.data_dir / "abci.sock"

    @property
    def decided_path(self) -> Path:
        """The newest decided block, which the store does not show before its proof is there."""
        return self.data_dir / "decided"

    @property
    def snapshots_path(self) -> Path:
        """Where snapshots of the state lie, for nodes that join."""
        return self.data_dir / "snapshots"

    @property
    def boards_path(self) -> Path:
        """Where the processes keep their counters."""
        return self.data_dir / "metrics"

    @property
    def engine_board(self) -> Path:
        """What the writer saw of the engine."""
        return self.boards_path / "engine"

    @property
    def worker_boards(self) -> list[Path]:
        """The counters of the query workers, by their numbers."""
        return [self.boards_path / f"worker-{number}" for number in range(self.workers)]

    @property
    def enclave_worker_paths(self) -> list[Path]:
        """The sockets on which the enclave's workers answer queries."""
        return [Path(f"{self.enclave_path}.{number}") for number in range(self.enclave_workers)]

    @property
    def enclave_path(self) -> Path:
        """The enclave's socket."""
        return self.enclave_socket or self.data_dir / "enclave.sock"

    def http_limits(self) -> HttpLimits:
        return HttpLimits(
            body_bytes_max=self.body_bytes_max,
            request_timeout_ms=self.request_timeout_ms,
            idle_timeout_ms=self.idle_timeout_ms,
            connections_max=self.connections_max,
            address_requests_per_s=self.address_requests_per_s,
            address_burst=self.address_burst,
            address_connections_max=self.address_connections_max,
        )

    def store_config(self) -> StoreConfig:
        return StoreConfig(map_bytes=self.store_map_bytes, meta_sync=self.engine == "solo")


# Least and greatest value where 1 to 2^40 is not right.
RANGES = {
    "api_port": (0, 65_535),
    "engine_rpc_port": (1, 65_535),
    "workers": (1, 64),
    "enclave_workers": (1, 16),
    "store_map_bytes": (1 << 20, 1 << 46),
    "body_bytes_max": (16_384, 1 << 20),
    "address_requests_per_s": (0, 1 << 20),
    "address_connections_max": (0, 1 << 20),
    "keep_blocks": (0, 1 << 40),
    "snapshot_interval_ms": (0, 1 << 40),
    "snapshots_kept": (1, 10),
}


def load_config(path: Path) -> NodeConfig:
    """The configuration in a JSON file; `Misconfigured` names an option that is unknown, missing or out of range."""
    try:
        given: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured("config.unreadable", f"cannot read the configuration {path}: {error}") from error
    return parse_config(given, path.resolve().parent)


def parse_config(given: Any, directory: Path) -> NodeConfig:
    """The configuration in decoded JSON; relative paths are taken from `directory`."""
    if type(given) is not dict:
        raise _wrong("the configuration", "a JSON object")
    options = {option.name: option for option in fields(NodeConfig)}
    unknown = sorted(set(given) - set(options))
    if unknown:
        raise Misconfigured("config.unknown", f"there is no option {unknown[0]!r}", field=unknown[0])
    found: dict[str, Any] = {}
    for name, option in options.items():
        if name in given:
            found[name] = _value(name, str(option.type), given[name], directory)
        elif option.default is MISSING:
            raise Misconfigured("config.missing", f"the option {name} is needed", field=name)
    config = NodeConfig(**found)
    _require_consistent(config)
    return config


def _wrong(name: str, what: str) -> Misconfigured:
    return Misconfigured("config.value", f"{name} must be {what}", field=name)


def _value(name: str, kind: str, value: Any, directory: Path) -> Any:
    if value is None and kind.endswith("| None"):
        return None
    if kind.startswith("int"):
        least, greatest = RANGES.get(name, (1, 1 << 40))
        if type(value) is not int or not least <= value <= greatest:
            raise _wrong(name, f"a whole number from {least} to {greatest}")
        return value
    if kind == "bool":
        if type(value) is not bool:
            raise _wrong(name, "true or false")
        return value
    if type(value) is not str or not value:
        raise _wrong(name, "a text that is not empty")
    return directory / value if kind.startswith("Path") else value


def _require_consistent(config: NodeConfig) -> None:
    if config.engine not in ENGINES:
        raise _wrong("engine", f"one of {', '.join(ENGINES)}")
    if config.engine == "solo" and config.validator_key is None:
        raise Misconfigured("config.missing", "the option validator_key is needed for solo", field="validator_key")
    if config.engine == "cometbft":
        if config.engine_binary is None or config.engine_node_key is None:
            raise _wrong("engine_binary" if config.engine_binary is None else "engine_node_key", "a path, for cometbft")
        if config.chain_id.startswith(SOLO_PREFIX):
            raise _wrong("chain_id", f"one that does not begin with {SOLO_PREFIX}, for cometbft")
    if config.state_sync_servers is not None:
        _require_state_sync(config)
    if len(config.chain_id.encode("utf-8")) > CHAIN_ID_CHARS_MAX:
        raise _wrong("chain_id", f"at most {CHAIN_ID_CHARS_MAX} bytes")
    if len(config.node_id) > 64:
        raise _wrong("node_id", "at most 64 characters")
    if 0 < config.keep_blocks < KEEP_BLOCKS_MIN:
        raise _wrong("keep_blocks", f"0, which keeps all, or at least {KEEP_BLOCKS_MIN}")
    if config.restart_delay_ms_min > config.restart_delay_ms_max:
        raise _wrong("restart_delay_ms_min", "at most restart_delay_ms_max")
    for name, path in (("data_dir", config.submission_socket), ("enclave_socket", config.enclave_path)):
        if len(str(path).encode("utf-8")) > SOCKET_PATH_BYTES_MAX:
            raise _wrong(name, f"shorter: the socket {path} may have {SOCKET_PATH_BYTES_MAX} bytes")


def _require_state_sync(config: NodeConfig) -> None:
    """State sync starts from a header that the operator trusts, and asks two organisations."""
    servers = (config.state_sync_servers or "").split(",")
    if config.engine != "cometbft":
        raise _wrong("state_sync_servers", "null, unless the engine is cometbft")
    if len(servers) < 2 or not all(one.strip().startswith(("http://", "https://")) for one in servers):
        raise _wrong("state_sync_servers", "the API addresses of two nodes or more, with commas between")
    if config.state_sync_trust_height is None:
        raise _wrong("state_sync_trust_height", "the height of a header that is trusted")
    if not re.fullmatch("[0-9a-fA-F]{64}", config.state_sync_trust_hash or ""):
        raise _wrong("state_sync_trust_hash", "the hash of that header, 64 hex digits")
