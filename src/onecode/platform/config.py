"""The platform's configuration: one JSON file, read once at the start. Every option: docs/spec/platform.md."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from onecode.code.currency import BY_ALPHA
from onecode.code.identity import platform_id
from onecode.errors import Misconfigured
from onecode.host.files import load_private
from onecode.wire import CHAIN_ID_CHARS_MAX

OPERATOR_TOKEN_CHARS_MIN = 24
AMOUNT_MINOR_MAX = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class PlatformConfig:
    """Paths that are not absolute are taken from the configuration file's directory."""

    chain_id: str
    name: str
    root_public_key: bytes = field(metadata={"bytes": 32})
    data_dir: Path
    node_url: str
    port: int = field(metadata={"range": (0, 65_535)})
    operator_token: str = field(repr=False)
    trust_file: Path  # where the light client starts the first time
    transaction_key_file: Path
    record_key_file: Path
    device_key_file: Path
    receipt_key_file: Path
    anchor_key_file: Path
    anchor_certificate_file: Path
    epoch_key_file: Path
    host: str = "127.0.0.1"
    allow_solo: bool = False
    header_age_ms_max: int = field(default=30_000, metadata={"range": (1_000, 3_600_000)})
    leaf_age_ms_max: int = field(default=2_000, metadata={"range": (0, 30_000)})
    node_timeout_ms: int = field(default=15_000, metadata={"range": (100, 120_000)})
    request_timeout_ms: int = field(default=30_000, metadata={"range": (100, 300_000)})
    long_poll_ms_max: int = field(default=20_000, metadata={"range": (0, 20_000)})
    body_bytes_max: int = field(default=64 * 1024, metadata={"range": (1_024, 1 << 20)})
    connections_max: int = field(default=1_000, metadata={"range": (1, 100_000)})
    other_node_urls: tuple[str, ...] = ()
    outbox_retry_ms: int = field(default=1_000, metadata={"range": (10, 600_000)})
    transaction_valid_ms: int = field(default=15 * 60_000, metadata={"range": (1_000, 3_600_000)})
    credential_ms: int = field(default=24 * 3_600_000, metadata={"range": (1_000, 24 * 3_600_000)})
    merchant_fee_hundredths_percent: int = field(default=0, metadata={"range": (0, 9_999)})
    payment_minor_max: int = field(default=100_000_000, metadata={"range": (1, AMOUNT_MINOR_MAX)})
    partners: tuple[bytes, ...] = field(default=(), metadata={"bytes": 20})
    partner_timeout_ms: int = field(default=10_000, metadata={"range": (100, 120_000)})
    partner_retry_ms: int = field(default=1_000, metadata={"range": (10, 600_000)})
    partner_pending_ms: int = field(default=120_000, metadata={"range": (1_000, 3_600_000)})
    partner_private_addresses: bool = False
    clearing_minor_max: int = field(default=100_000_000, metadata={"range": (0, AMOUNT_MINOR_MAX)})
    rotation_grace_ms: int = field(default=2 * 3_600_000, metadata={"range": (0, 24 * 3_600_000)})
    epoch_lead_ms: int = field(default=35 * 60_000, metadata={"range": (0, 24 * 3_600_000)})
    webhook_private_addresses: bool = False
    webhook_timeout_ms: int = field(default=10_000, metadata={"range": (100, 60_000)})
    webhook_retry_ms: int = field(default=5_000, metadata={"range": (10, 3_600_000)})
    webhook_attempts_max: int = field(default=12, metadata={"range": (1, 100)})
    countersigners: tuple[bytes, ...] = field(default=(), metadata={"bytes": 20})
    checkpoint_period_ms: int = field(default=24 * 3_600_000, metadata={"range": (1_000, 24 * 3_600_000)})
    checkpoint_retry_ms: int = field(default=5_000, metadata={"range": (10, 600_000)})
    trust_output_file: Path | None = None
    stream_ms_max: int = field(default=600_000, metadata={"range": (100, 24 * 3_600_000)})
    streams_max: int = field(default=200, metadata={"range": (0, 100_000)})
    header_bytes_max: int = field(default=16 * 1024, metadata={"range": (4_096, 1 << 20)})
    sandbox: bool = False
    sandbox_opening_minor: dict[str, int] = field(default_factory=dict)
    sandbox_accounts_max: int = field(default=10_000, metadata={"range": (0, 10_000_000)})

    @property
    def platform(self) -> bytes:
        """The platform's id, 20 bytes. A platform whose root was replaced keeps the id of its first root."""
        return platform_id(self.root_public_key)

    @property
    def witnesses(self) -> tuple[bytes, ...]:
        """Whom to ask to countersign checkpoints, and for whom to countersign."""
        return self.countersigners or self.partners


def _refuse(name: str, what: str) -> Misconfigured:
    return Misconfigured("config.option", f"the option {name} must be {what}", field=name)


def _value(spec: dataclasses.Field[Any], value: Any, directory: Path) -> Any:
    """One option's value, checked; `spec.type` is the annotation's text."""
    name, kind = spec.name, str(spec.type)
    if kind == "int":
        low, high = spec.metadata["range"]
        if type(value) is not int or not low <= value <= high:
            raise _refuse(name, f"a whole number from {low} to {high}")
        return value
    if kind == "bool":
        if type(value) is not bool:
            raise _refuse(name, "true or false")
        return value
    if kind == "dict[str, int]":
        if type(value) is not dict or not all(
            currency in BY_ALPHA and type(amount) is int and 0 < amount <= AMOUNT_MINOR_MAX
            for currency, amount in value.items()
        ):
            raise _refuse(name, "an object of minor units by ISO 4217 currency")
        return dict(value)
    if kind == "tuple[bytes, ...]":
        if type(value) is not list:
            raise _refuse(name, "a list of ids in hex")
        return tuple(_bytes(spec, one) for one in value)
    if kind == "tuple[str, ...]":
        if type(value) is not list or not all(type(one) is str and one for one in value):
            raise _refuse(name, "a list of texts")
        return tuple(value)
    if type(value) is not str or not value:
        raise _refuse(name, "text")
    if kind in ("Path", "Path | None"):
        return directory / value
    return _bytes(spec, value) if kind == "bytes" else value


def _bytes(spec: dataclasses.Field[Any], value: Any) -> bytes:
    try:
        raw = bytes.fromhex(value)
    except (ValueError, TypeError):
        raw = b""
    if len(raw) != spec.metadata["bytes"]:
        raise _refuse(spec.name, f"{spec.metadata['bytes']} bytes in hex")
    return raw


def parse_config(data: bytes, directory: Path) -> PlatformConfig:
    """The configuration in a JSON object; unknown, missing and ill-typed options raise `Misconfigured`."""
    try:
        given = json.loads(data)
    except ValueError:
        given = None
    if type(given) is not dict:
        raise Misconfigured("config.json", "the configuration is not a JSON object", field="config")
    specs = {spec.name: spec for spec in dataclasses.fields(PlatformConfig)}
    for name in given:
        if name not in specs:
            raise Misconfigured("config.unknown", f"there is no option {name}; see docs/spec/platform.md", field=name)
    required = [
        name
        for name, spec in specs.items()
        if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
    ]
    for name in required:
        if name not in given:
            raise Misconfigured("config.missing", f"the option {name} is missing", field=name)
    config = PlatformConfig(**{name: _value(specs[name], value, directory) for name, value in given.items()})
    if not 1 <= len(config.chain_id.encode("utf-8")) <= CHAIN_ID_CHARS_MAX:
        raise _refuse("chain_id", f"1 to {CHAIN_ID_CHARS_MAX} bytes long")
    if len(config.operator_token) < OPERATOR_TOKEN_CHARS_MIN:
        raise _refuse("operator_token", f"at least {OPERATOR_TOKEN_CHARS_MIN} characters, random")
    for name, url in (("node_url", config.node_url), *(("other_node_urls", one) for one in config.other_node_urls)):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise _refuse(name, "an http or https address")
    return config


def load_config(path: Path) -> PlatformConfig:
    """The configuration in a file that only its owner may read, since it holds the operator's token."""
    return parse_config(load_private(path), path.parent.absolute())
