"""The node's configuration: what is refused, and that docs/spec/configuration.md documents every option."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from onecode.enclave.process import EnclaveConfig
from onecode.errors import Misconfigured
from onecode.keys.config import KeysConfig
from onecode.node.config import RANGES, NodeConfig, load_config, parse_config

GIVEN = {
    "chain_id": "solo-x",
    "data_dir": "data",
    "genesis": "genesis.json",
    "validator_key": "/secret/validator.key",
    "node_id": "node-1",
}
SYNCED = {
    "state_sync_servers": "https://a.example, https://b.example/",
    "state_sync_trust_height": 5,
    "state_sync_trust_hash": "ab" * 32,
}
COMETBFT = {"engine": "cometbft", "engine_binary": "bin/cometbft", "engine_node_key": "node.key"}


def documented(root: Path, heading: str) -> dict[str, str]:
    """Option and default of each row under a heading."""
    page = (root / "docs" / "spec" / "configuration.md").read_text("utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {cells[1].strip().strip("`"): cells[2].strip() for cells in rows}


def shown(option: dataclasses.Field[Any]) -> str:
    if option.default is dataclasses.MISSING:
        return "needed"
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    return f"`{json.dumps(default)}`"


@pytest.mark.parametrize(
    ("heading", "config"), [("Node", NodeConfig), ("Enclave", EnclaveConfig), ("Key service", KeysConfig)]
)
def test_every_option_is_documented_with_its_default(root: Path, heading: str, config: type[Any]) -> None:
    assert documented(root, heading) == {option.name: shown(option) for option in dataclasses.fields(config)}


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GIVEN | {"workers": 3, "enclave_config": "enclave.json", "api_port": 0}))
    config = load_config(path)
    assert config.genesis == tmp_path / "genesis.json"
    assert config.validator_key == Path("/secret/validator.key")
    assert config.enclave_config == tmp_path / "enclave.json"
    assert config.enclave_path == tmp_path / "data" / "enclave.sock"
    assert (config.workers, config.heartbeat_ms, config.api_port) == (3, 10_000, 0)


@pytest.mark.parametrize("text", ["{", "[]", '"x"', ""])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(Misconfigured):
        load_config(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot read"):
        load_config(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"wokers": 2}, "config.unknown", "wokers"),
        ({"genesis": None}, "config.value", "genesis"),
        ({"workers": 0}, "config.value", "workers"),
        ({"workers": 65}, "config.value", "workers"),
        ({"workers": True}, "config.value", "workers"),
        ({"workers": "2"}, "config.value", "workers"),
        ({"api_port": 65_536}, "config.value", "api_port"),
        ({"heartbeat_ms": 0}, "config.value", "heartbeat_ms"),
        ({"node_id": ""}, "config.value", "node_id"),
        ({"node_id": "n" * 65}, "config.value", "node_id"),
        ({"chain_id": "c" * 51}, "config.value", "chain_id"),
        ({"engine": "paxos"}, "config.value", "engine"),
        ({"validator_key": None}, "config.missing", "validator_key"),
        ({"engine": "cometbft"}, "config.value", "engine_binary"),
        ({"engine": "cometbft", "engine_binary": "b"}, "config.value", "engine_node_key"),
        (COMETBFT, "config.value", "chain_id"),  # a solo chain's
        (COMETBFT | {"engine_rpc_port": 0}, "config.value", "engine_rpc_port"),
        ({"restart_delay_ms_min": 2, "restart_delay_ms_max": 1}, "config.value", "restart_delay_ms_min"),
        ({"data_dir": "d" * 120}, "config.value", "data_dir"),
        ({"snapshots_kept": 0}, "config.value", "snapshots_kept"),
        (SYNCED, "config.value", "state_sync_servers"),  # a solo chain has nobody who joins
        *(
            (COMETBFT | {"chain_id": "pay"} | SYNCED | {name: value}, "config.value", name)
            for name, value in (
                ("state_sync_servers", "https://a.example"),
                ("state_sync_servers", "https://a.example,b.example"),
                ("state_sync_trust_height", 0),
                ("state_sync_trust_height", None),
                ("state_sync_trust_hash", None),
                ("state_sync_trust_hash", "ab"),
                ("state_sync_trust_hash", "x" * 64),
            )
        ),
        ({"enclave_socket": "s" * 120}, "config.value", "enclave_socket"),
    ],
)
def test_a_wrong_option_is_named(changes: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_config(GIVEN | changes, Path("/x"))
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize("name", GIVEN)
def test_a_missing_option_is_named(name: str) -> None:
    given = {key: value for key, value in GIVEN.items() if key != name}
    with pytest.raises(Misconfigured) as caught:
        parse_config(given, Path("/x"))
    assert (caught.value.code, caught.value.field) == ("config.missing", name)


def test_ranges_are_of_options_that_exist() -> None:
    names = {option.name: option for option in dataclasses.fields(NodeConfig)}
    for name, (least, greatest) in RANGES.items():
        assert least <= names[name].default <= greatest
