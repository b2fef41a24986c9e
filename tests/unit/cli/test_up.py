"""`onecode up` and `onecode demo` where they cannot begin: which option, and what to do."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onecode.cli.main import cli
from onecode.cli.up import addresses
from onecode.network import setup
from onecode.network.local import LocalNetwork, default_plan, validators_plan
from onecode.network.plan import Places

pytestmark = pytest.mark.clock


@pytest.fixture(autouse=True)
def no_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands run in this very process here, whose signals are not theirs."""
    monkeypatch.setattr("onecode.network.processes.end_on_signals", lambda: None)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("command", ["up", "demo"])
def test_an_engine_that_cannot_be_run_is_named_with_the_way_to_build_it(command: str, tmp_path: Path) -> None:
    refused = run(command, "--data", tmp_path / "net", "--validators", "4", "--engine-binary", tmp_path / "absent")
    assert refused.exit_code == 6
    assert "make cometbft" in refused.stderr and "network.engine" in refused.stderr
    assert not (tmp_path / "net" / "network.json").exists()


def test_three_validators_are_too_few_to_miss_one(tmp_path: Path) -> None:
    refused = run("up", "--data", tmp_path, "--validators", "3")
    assert refused.exit_code == 6 and "network.validators_number" in refused.stderr


def test_a_network_keeps_its_number_of_validators(tmp_path: Path) -> None:
    setup.create_network(Places(tmp_path), default_plan(), secrets.token_bytes)
    refused = run("up", "--data", tmp_path, "--validators", "4")
    assert refused.exit_code == 6 and "network.validators_changed" in refused.stderr


def test_every_node_is_told_with_its_operator(tmp_path: Path) -> None:
    engine = tmp_path / "cometbft"
    engine.touch(mode=0o755)
    network = LocalNetwork(tmp_path / "net", lambda: validators_plan(4, engine))
    plain = addresses(network)
    assert [(node["name"], node["operator"]) for node in plain["nodes"]] == [
        ("alder", "Alder Pay"),
        ("birch", "Birch Pay"),
        ("cedar", "Cedar Pay"),
        ("dogwood", "Dogwood Pay"),
    ]
    assert plain["node"] == plain["nodes"][0]["url"]
    profile = network.profile("cedar")
    assert profile.node_urls[0] == plain["nodes"][2]["url"] and len(set(profile.node_urls)) == 4
    assert not profile.allow_solo
