"""The files that the engine starts from."""

from __future__ import annotations

import base64
import json
import tomllib
from dataclasses import replace
from pathlib import Path

from onecode.node.engine_home import NODE_ID_FILE, EngineSettings, StateSync, node_id, write_home
from unit.registry.world import CHAIN, World, signing_key

VALIDATOR, NODE = signing_key("validator"), signing_key("node")


def settings(home: Path) -> EngineSettings:
    return EngineSettings(
        home=home,
        application=Path("/run/some/s"),
        rpc_port=30_001,
        p2p="0.0.0.0:30000",
        moniker='a "quoted" name',
        peers=("aa@host:1", "bb@host:2"),
        heartbeat_ms=5_000,
    )


def test_configuration_and_keys(tmp_path: Path) -> None:
    write_home(settings(tmp_path), World().genesis, VALIDATOR, NODE)
    config = tomllib.loads((tmp_path / "config" / "config.toml").read_text("utf-8"))
    assert config["proxy_app"] == "unix:///run/some/s"
    assert config["moniker"] == 'a "quoted" name'
    assert config["rpc"]["laddr"] == "tcp://127.0.0.1:30001"  # never but on loopback
    assert config["p2p"]["persistent_peers"] == "aa@host:1,bb@host:2"
    assert config["p2p"]["addr_book_strict"] is True
    assert config["filter_peers"] is True
    assert config["consensus"]["create_empty_blocks"] is False
    assert config["consensus"]["create_empty_blocks_interval"] == "5000ms"
    genesis = json.loads((tmp_path / "config" / "genesis.json").read_text("utf-8"))
    assert (genesis["chain_id"], genesis["genesis_time"]) == (CHAIN, "2027-01-15T08:00:00.000Z")
    assert "validators" not in genesis
    key = json.loads((tmp_path / "config" / "priv_validator_key.json").read_text("utf-8"))
    assert base64.b64decode(key["pub_key"]["value"]) == VALIDATOR.public
    assert base64.b64decode(key["priv_key"]["value"]) == VALIDATOR.seed + VALIDATOR.public
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert len(bytes.fromhex(node_id(NODE))) == 20


def test_what_was_signed_last_is_never_overwritten(tmp_path: Path) -> None:
    write_home(settings(tmp_path), World().genesis, VALIDATOR, NODE)
    last_signed = tmp_path / "data" / "priv_validator_state.json"
    last_signed.write_text('{"height": "9", "round": 0, "step": 3}', "utf-8")
    write_home(settings(tmp_path), World().genesis, VALIDATOR, NODE)
    assert json.loads(last_signed.read_text("utf-8"))["height"] == "9"


def test_an_observer_has_a_key_of_its_own(tmp_path: Path) -> None:
    key = tmp_path / "config" / "priv_validator_key.json"
    write_home(settings(tmp_path), World().genesis, VALIDATOR, NODE)
    voting = key.read_text("utf-8")
    write_home(settings(tmp_path), World().genesis, None, NODE)
    observing = key.read_text("utf-8")
    assert observing != voting
    write_home(settings(tmp_path), World().genesis, None, NODE)
    assert key.read_text("utf-8") == observing
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_node_id_lies_beside_the_keys(tmp_path: Path) -> None:
    write_home(settings(tmp_path), World().genesis, None, NODE)
    assert (tmp_path / NODE_ID_FILE).read_text("ascii") == node_id(NODE)


def test_state_sync_is_off_unless_it_is_wanted(tmp_path: Path) -> None:
    wanted = StateSync(("https://a.example/v1/engine", "https://b.example/v1/engine"), 12, bytes(range(32)))
    left = tmp_path / "chunks" / "tm-statesync1"
    left.mkdir(parents=True)
    for chosen in (None, wanted):
        write_home(replace(settings(tmp_path), state_sync=chosen), World().genesis, VALIDATOR, NODE)
        config = tomllib.loads((tmp_path / "config" / "config.toml").read_text("utf-8"))
        assert config["statesync"]["enable"] is (chosen is not None)
        assert not left.exists()  # what a crash left is as large as the state
    assert config["statesync"]["rpc_servers"] == "https://a.example/v1/engine,https://b.example/v1/engine"
    assert (config["statesync"]["trust_height"], config["statesync"]["trust_period"]) == (12, "1209600s")
    assert config["statesync"]["trust_hash"] == bytes(range(32)).hex().upper()
    assert Path(config["statesync"]["temp_dir"]).is_dir()
