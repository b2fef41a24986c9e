"""The engine's own directory: its configuration, genesis and keys, written from ours before each start.

Source: CometBFT v0.39 `config/toml.go`, `types/genesis.go`, `privval/file.go`, `p2p/key.go`. The rest is
left to the engine's defaults. The reasons for the values: docs/spec/engine.md.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from onecode.node.solo_chain import APP_VERSION
from onecode.registry.genesis import Genesis
from onecode.wire import SigningKey, sha256

BLOCK_BYTES_MAX = 4 << 20
TRANSACTION_BYTES_MAX = 512 << 10
POOL_BYTES_MAX = 64 << 20  # the application keeps what waits decoded, so the engine's own 1 GiB is too much
PEER_BYTES_A_SECOND = 64 << 20  # with the engine's own 5 MB a full block takes 0.8 s to each
EVIDENCE_AGE_S = 14 * 86_400  # the trusting period: as long as a validator is held to its votes
EVIDENCE_AGE_BLOCKS = 100_000
CHUNKS = "chunks"  # in the engine's directory: those of a snapshot that were fetched
NODE_ID_FILE = "node_id"  # in the engine's directory, for who must not read its keys
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StateSync:
    """Where a node that joins takes the state from. servers: URLs that answer the light client's questions, of at least
    two organisations (`POST /v1/engine`). trust_height, trust_hash: the header that it starts from; younger than
    trust_period_s."""

    servers: tuple[str, ...]
    trust_height: int
    trust_hash: bytes
    trust_period_s: int = EVIDENCE_AGE_S


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """home: the engine's directory. application: our socket, which the engine connects to. rpc_port: on loopback
    alone, since it gives control of the pool. p2p: host:port that other engines reach. peers: `id@host:port` of each.
    heartbeat_ms: an empty block after so long without one. one_machine: peers share an address, as in tests.
    state_sync: begin with a snapshot of the state."""

    home: Path
    application: Path
    rpc_port: int
    p2p: str
    moniker: str
    peers: tuple[str, ...] = ()
    heartbeat_ms: int = 10_000
    one_machine: bool = False
    state_sync: StateSync | None = None


def node_id(key: SigningKey) -> str:
    """How other engines name the one with this node key."""
    return sha256(key.public)[:20].hex()


def write_home(
    settings: EngineSettings, genesis: Genesis, validator_key: SigningKey | None, node_key: SigningKey
) -> None:
    """Write configuration, genesis and keys anew. What the validator signed last is only made, never overwritten: an
    engine that forgets it may sign one height twice. Without a validator key (an observer) one is made that has no
    vote, since an engine does not start without."""
    config, data = settings.home / "config", settings.home / "data"
    for directory in (config, data):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    validator_key = validator_key or _observer_key(settings.home / "observer.key")
    shutil.rmtree(settings.home / CHUNKS, ignore_errors=True)  # of a state sync that a crash ended
    if settings.state_sync is not None:
        (settings.home / CHUNKS).mkdir(mode=0o700)
    _write(config / "config.toml", _toml(settings))
    _write(config / "genesis.json", json.dumps(engine_genesis(genesis), indent=1))
    address = sha256(validator_key.public)[:20].hex().upper()
    public, private = _key("PubKeyEd25519", validator_key.public), _private(validator_key)
    _write(
        config / "priv_validator_key.json",
        json.dumps({"address": address, "pub_key": public, "priv_key": private}),
    )
    _write(config / "node_key.json", json.dumps({"priv_key": _private(node_key)}))
    _write(settings.home / NODE_ID_FILE, node_id(node_key))
    last_signed = data / "priv_validator_state.json"
    if not last_signed.exists():
        _write(last_signed, json.dumps({"height": "0", "round": 0, "step": 0}))


def _observer_key(path: Path) -> SigningKey:
    """A key that no validator set names: the same one at each start, never one that was configured."""
    if not path.exists():
        _write(path, secrets.token_bytes(32).hex())
    return SigningKey.from_seed(bytes.fromhex(path.read_text("ascii")))


def engine_genesis(genesis: Genesis) -> dict[str, Any]:
    """The engine's genesis. It names no validators: `InitChain` answers with the registry's."""
    time = _EPOCH + timedelta(milliseconds=genesis.time_ms)
    return {
        "genesis_time": time.strftime("%Y-%m-%dT%H:%M:%S") + f".{genesis.time_ms % 1000:03d}Z",
        "chain_id": genesis.chain_id,
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": str(BLOCK_BYTES_MAX), "max_gas": "-1"},
            "evidence": {
                "max_age_num_blocks": str(EVIDENCE_AGE_BLOCKS),
                "max_age_duration": str(EVIDENCE_AGE_S * 1_000_000_000),
                "max_bytes": str(1 << 20),
            },
            "validator": {"pub_key_types": ["ed25519"]},
            "version": {"app": str(APP_VERSION)},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "app_hash": "",
    }


def _toml(settings: EngineSettings) -> str:
    """The engine's configuration; numbers from trials, see docs/spec/engine.md."""
    tables: dict[str, dict[str, Any]] = {
        "": {
            "proxy_app": f"unix://{settings.application}",
            "moniker": settings.moniker,
            "log_level": "statesync:info,*:error" if settings.state_sync is not None else "error",
            "filter_peers": True,
        },
        "rpc": {"laddr": f"tcp://127.0.0.1:{settings.rpc_port}", "pprof_laddr": ""},
        "p2p": {
            "laddr": f"tcp://{settings.p2p}",
            "persistent_peers": ",".join(settings.peers),
            "addr_book_strict": not settings.one_machine,
            "allow_duplicate_ip": settings.one_machine,
            "pex": False,
            "flush_throttle_timeout": "2ms",
            "send_rate": PEER_BYTES_A_SECOND,
            "recv_rate": PEER_BYTES_A_SECOND,
        },
        "mempool": {"max_tx_bytes": TRANSACTION_BYTES_MAX, "max_txs_bytes": POOL_BYTES_MAX},
        "consensus": {
            "timeout_propose": "1s",
            "timeout_commit": "100ms",
            "skip_timeout_commit": True,
            "peer_gossip_sleep_duration": "10ms",
            "create_empty_blocks": False,
            "create_empty_blocks_interval": f"{settings.heartbeat_ms}ms",
        },
        "tx_index": {"indexer": "null"},
        "statesync": _state_sync(settings.state_sync, settings.home / CHUNKS),
    }
    lines = []
    for name, values in tables.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]  # TOML's strings are JSON's here
    return "\n".join(lines) + "\n"


def _state_sync(wanted: StateSync | None, chunks: Path) -> dict[str, Any]:
    if wanted is None:
        return {"enable": False}
    return {
        "enable": True,
        "rpc_servers": ",".join(wanted.servers),
        "trust_height": wanted.trust_height,
        "trust_hash": wanted.trust_hash.hex().upper(),
        "trust_period": f"{wanted.trust_period_s}s",
        "discovery_time": "5s",
        "chunk_request_timeout": "10s",
        "chunk_fetchers": "8",
        "temp_dir": str(chunks),
    }


def _key(kind: str, data: bytes) -> dict[str, str]:
    return {"type": f"tendermint/{kind}", "value": base64.b64encode(data).decode("ascii")}


def _private(key: SigningKey) -> dict[str, str]:
    return _key("PrivKeyEd25519", key.seed + key.public)


def _write(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read it."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
