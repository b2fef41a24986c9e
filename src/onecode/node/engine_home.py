"""The engine's own directory: its configuration, genesis and keys, written from ours before each start.

Source: CometBFT v0.39 `config/toml.go`, `types/genesis.go`, `privval/file.go`, `p2p/key.go`. The rest is
left to the engine's defaults. The reasons for the values: docs/spec/engine.md.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from onecode.node.solo_chain import APP_VERSION
from onecode.registry.genesis import Genesis
from onecode.wire import SigningKey, sha256

BLOCK_BYTES_MAX = 4 << 20
TRANSACTION_BYTES_MAX = 512 << 10
EVIDENCE_AGE_S = 14 * 86_400  # the trusting period: as long as a validator is held to its votes
EVIDENCE_AGE_BLOCKS = 100_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """home: the engine's directory. application: our socket, which the engine connects to. rpc_port: on loopback
    alone, since it gives control of the pool. p2p: host:port that other engines reach. peers: `id@host:port` of each.
    heartbeat_ms: an empty block after so long without one. one_machine: peers share an address, as in tests."""

    home: Path
    application: Path
    rpc_port: int
    p2p: str
    moniker: str
    peers: tuple[str, ...] = ()
    heartbeat_ms: int = 10_000
    one_machine: bool = False


def node_id(key: SigningKey) -> str:
    """How other engines name the one with this node key."""
    return sha256(key.public)[:20].hex()


def write_home(settings: EngineSettings, genesis: Genesis, validator_key: SigningKey, node_key: SigningKey) -> None:
    """Write configuration, genesis and keys anew. What the validator signed last is only made, never overwritten: an
    engine that forgets it may sign one height twice."""
    config, data = settings.home / "config", settings.home / "data"
    for directory in (config, data):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(config / "config.toml", _toml(settings))
    _write(config / "genesis.json", json.dumps(engine_genesis(genesis), indent=1))
    address = sha256(validator_key.public)[:20].hex().upper()
    public, private = _key("PubKeyEd25519", validator_key.public), _private(validator_key)
    _write(
        config / "priv_validator_key.json",
        json.dumps({"address": address, "pub_key": public, "priv_key": private}),
    )
    _write(config / "node_key.json", json.dumps({"priv_key": _private(node_key)}))
    last_signed = data / "priv_validator_state.json"
    if not last_signed.exists():
        _write(last_signed, json.dumps({"height": "0", "round": 0, "step": 0}))


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
            "log_level": "error",
        },
        "rpc": {"laddr": f"tcp://127.0.0.1:{settings.rpc_port}", "pprof_laddr": ""},
        "p2p": {
            "laddr": f"tcp://{settings.p2p}",
            "persistent_peers": ",".join(settings.peers),
            "addr_book_strict": not settings.one_machine,
            "allow_duplicate_ip": settings.one_machine,
            "pex": False,
            "flush_throttle_timeout": "2ms",
        },
        "mempool": {"max_tx_bytes": TRANSACTION_BYTES_MAX},
        "consensus": {
            "timeout_propose": "1s",
            "timeout_commit": "100ms",
            "peer_gossip_sleep_duration": "10ms",
            "create_empty_blocks": False,
            "create_empty_blocks_interval": f"{settings.heartbeat_ms}ms",
        },
        "tx_index": {"indexer": "null"},
    }
    lines = []
    for name, values in tables.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]  # TOML's strings are JSON's here
    return "\n".join(lines) + "\n"


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
