"""Configuration of a key service: one JSON file, one frozen dataclass."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onecode.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class KeysConfig:
    """Options of the configuration file. Documented in docs/spec/configuration.md."""

    chain_id: str  # the chain whose enclaves it serves
    platform: str  # hex of the platform's id
    node_url: str  # its own node
    trust_file: str  # path of the trust file it starts from
    pinned_root: str  # hex of the root key under which the trust file must be signed
    key_file: str  # path of its signing key (hex seed), mode 0600; role `key-service` on chain
    epochs_file: str  # path of the platform's epoch keys, mode 0600
    measurements: tuple[str, ...]  # hex of the enclave builds that this operator allows, whatever the chain says
    vendors: tuple[str, ...] = ()  # hex of SIMULATED vendor keys whose evidence is accepted
    allow_simulated: bool = False  # accept SIMULATED evidence; development only
    allow_solo: bool = False  # accept a chain of one organisation
    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    lease_ms: int = 3_600_000  # how long a grant lasts, at most an hour
    lease_openings: int = 1_000_000  # how many envelopes may be opened under one grant
    header_age_ms_max: int = 30_000  # oldest header under which keys are released
    challenge_ms: int = 60_000  # how long a challenge may be answered
    body_bytes_max: int = 262_144  # largest request body
    node_timeout_ms: int = 10_000  # how long its node may take


def load_config(path: Path) -> KeysConfig:
    """The configuration in a JSON file; `Misconfigured` names what is wrong."""
    try:
        given: dict[str, Any] = json.loads(path.read_text("utf-8"))
        unknown = set(given) - {f.name for f in fields(KeysConfig)}
        if unknown:
            raise Misconfigured("config.unknown", f"unknown option {min(unknown)!r} in {path}", field=min(unknown))
        for name in ("measurements", "vendors"):
            given[name] = tuple(given.get(name, ()))
        return KeysConfig(**given)
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured("config.unreadable", f"cannot use the configuration {path}: {error}") from error
