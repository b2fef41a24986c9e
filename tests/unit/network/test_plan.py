"""What a local network is planned to be, and that the plan outlives the process."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from onecode.errors import Misconfigured, Unreachable
from onecode.network.local import default_plan, validators_plan
from onecode.network.plan import (
    COMETBFT,
    HOST,
    PORTS,
    SOLO,
    NodePlan,
    Places,
    find_engine,
    free_ports,
    load_plan,
    require_free,
    save_plan,
)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Something that can be run, in the engine's place: a plan never runs it."""
    path = tmp_path / "cometbft"
    path.touch(mode=0o755)
    return path


def test_ports_are_different_and_out_of_the_kernels_way() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(port in PORTS for port in ports)


def test_a_taken_port_is_named() -> None:
    with socket.create_server((HOST, 0)) as listener:
        with pytest.raises(Unreachable) as caught:
            require_free(listener.getsockname()[1], "node")
        assert (caught.value.code, caught.value.field) == ("network.port_taken", "node")


def test_a_plan_is_kept_private_and_read_again(tmp_path: Path) -> None:
    places, plan = Places(tmp_path), default_plan()
    save_plan(places, plan)
    assert load_plan(places) == plan
    assert stat.S_IMODE(places.plan.stat().st_mode) == 0o600
    assert plan.platforms[0].operator_token not in repr(plan)


def test_a_plan_of_validators_is_kept_and_read_again(tmp_path: Path, engine: Path) -> None:
    places, plan = Places(tmp_path), validators_plan(4, engine)
    save_plan(places, plan)
    assert load_plan(places) == plan


def test_a_plan_of_version_1_is_of_a_solo_network(tmp_path: Path) -> None:
    places, plan = Places(tmp_path), default_plan()
    save_plan(places, plan)
    stored = json.loads(places.plan.read_bytes())
    (node,) = stored.pop("nodes")
    for later in ("engine", "engine_binary"):
        del stored[later]
    places.plan.write_text(json.dumps({**stored, "version": 1, "node_port": node["api_port"]}), "utf-8")
    assert load_plan(places) == plan
    assert (plan.engine, plan.allow_solo, places.node) == (SOLO, True, tmp_path / "node")


def test_each_of_four_platforms_operates_a_validator_and_asks_it_first(engine: Path) -> None:
    plan = validators_plan(4, engine)
    assert (plan.engine, plan.allow_solo, plan.engine_binary) == (COMETBFT, False, str(engine))
    assert not plan.chain_id.startswith("solo-")
    slugs = [platform.slug for platform in plan.platforms]
    assert slugs == ["alder", "birch", "cedar", "dogwood"]
    assert [(node.slug, node.platform, node.power > 0) for node in plan.nodes] == [(one, one, True) for one in slugs]
    assert [node.slug for node in plan.nodes_of("cedar")] == ["cedar", "alder", "birch", "dogwood"]
    assert [node.slug for node in plan.nodes_of("a platform without a node")] == slugs
    ports = [port for node in plan.nodes for port in (node.api_port, node.rpc_port, node.p2p_port)]
    ports += [port for platform in plan.platforms for port in (platform.port, platform.keys_port)]
    assert len(set(ports)) == 20


@pytest.mark.parametrize("validators", [0, 2, 3, 11])
def test_so_many_validators_that_one_may_be_missing(validators: int, engine: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        validators_plan(validators, engine)
    assert caught.value.code == "network.validators_number"


def test_without_an_engine_the_way_to_build_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    for given, directories in ((None, [tmp_path]), (tmp_path / "absent", []), (tmp_path, [])):
        with pytest.raises(Misconfigured, match="make cometbft") as caught:
            find_engine(given, directories)
        assert caught.value.code == "network.engine"


def test_the_projects_own_engine_goes_before_one_on_the_path(
    tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "cometbft").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other))
    assert find_engine(None, [engine.parent]) == engine
    assert find_engine(None, [tmp_path / "empty"]) == other / "cometbft"
    assert find_engine(other / "cometbft", [engine.parent]) == other / "cometbft"


def test_an_unknown_node_is_answered_with_the_known_ones(engine: Path) -> None:
    with pytest.raises(Misconfigured, match="only alder, birch, cedar, dogwood"):
        validators_plan(4, engine).node("elder")
    assert NodePlan("node", "alder", 1).process == "node"


@pytest.mark.parametrize(
    "broken", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "platforms": [{}]}', '{"version": 1, "platforms": []}']
)
def test_a_plan_that_is_none_is_refused(tmp_path: Path, broken: str) -> None:
    places = Places(tmp_path)
    places.plan.touch(mode=0o600)
    places.plan.write_text(broken, "utf-8")
    with pytest.raises(Misconfigured) as caught:
        load_plan(places)
    assert caught.value.code == "network.plan"


def test_an_unknown_platform_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="only alder, birch"):
        default_plan().platform("cedar")
