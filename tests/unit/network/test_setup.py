"""The files of a new network: four organisations, each with its own validator, and which header they believe first."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Sequence
from pathlib import Path

import pytest

from onecode.enclave.process import load_config as load_enclave_config
from onecode.errors import Untrusted
from onecode.host.clock import now_ms
from onecode.host.keyring import load_key
from onecode.keys.config import load_config as load_keys_config
from onecode.network import setup
from onecode.network.local import validators_plan
from onecode.network.newest import believe
from onecode.network.plan import NetworkPlan, Places
from onecode.node.config import load_config as load_node_config
from onecode.node.engine_home import node_id
from onecode.platform.config import load_config as load_platform_config
from onecode.query.messages import HeaderView
from onecode.registry.genesis import Genesis, parse_genesis
from onecode.schema import to_plain
from vectors.proof_chain import ABSENT, make_header, signed_by, validator_set

pytestmark = pytest.mark.clock


@pytest.fixture
def network(tmp_path: Path) -> tuple[Places, NetworkPlan]:
    engine = tmp_path / "cometbft"
    engine.touch(mode=0o755)
    places = Places(tmp_path / "network")
    return places, setup.create_network(places, validators_plan(4, engine), secrets.token_bytes)


def genesis_of(places: Places) -> Genesis:
    return parse_genesis(places.genesis.read_bytes())


def test_each_validator_belongs_to_its_operator_who_names_its_engine(network: tuple[Places, NetworkPlan]) -> None:
    places, plan = network
    genesis = genesis_of(places)
    owners = {validator.key: validator.platform for validator in genesis.validators}
    assert len(owners) == 4
    for node, admission in zip(plan.nodes, genesis.platforms, strict=True):
        assert owners[load_key(places.validator_key(node.slug)).public] == setup.identity_of(plan.operator(node))
        (named,) = admission.nodes
        assert named.node_id == node_id(load_key(places.engine_node_key(node.slug))) and named.url == node.url
    assert len({admission.nodes[0].node_id for admission in genesis.platforms}) == 4


def test_an_observer_is_no_validator(tmp_path: Path) -> None:
    engine = tmp_path / "cometbft"
    engine.touch(mode=0o755)
    plan = validators_plan(5, engine)
    *voting, last = plan.nodes
    plan = dataclasses.replace(plan, nodes=(*voting, dataclasses.replace(last, power=0)))
    places = Places(tmp_path / "network")
    setup.create_network(places, plan, secrets.token_bytes)
    assert len(genesis_of(places).validators) == 4


def test_every_component_takes_its_configuration_and_no_solo_chain(network: tuple[Places, NetworkPlan]) -> None:
    places, plan = network
    for node in plan.nodes:
        config = load_node_config(setup.write_node_config(places, plan, node))
        assert (config.engine, config.engine_listen, config.api_port) == ("cometbft", node.p2p, node.api_port)
        peers = (config.engine_peers or "").split(",")
        others = [one for one in plan.nodes if one != node]
        assert peers == [f"{setup.engine_id(places, one)}@{one.p2p}" for one in others]
        enclave = load_enclave_config(setup.write_enclave_config(places, plan, node))
        assert (enclave.allow_solo, enclave.node_id) == (False, node.slug)
        assert enclave.pinned_root == plan.platform(node.slug).root
        assert config.enclave_config == places.node_directory(node.slug) / setup.ENCLAVE_FILE
    for platform in plan.platforms:
        server, service = setup.write_platform_configs(places, plan, platform)
        found, keys = load_platform_config(server), load_keys_config(service)
        own, *others = plan.nodes_of(platform.slug)
        assert own.platform == platform.slug
        assert (found.node_url, found.other_node_urls) == (own.url, tuple(one.url for one in others))
        assert (found.allow_solo, keys.allow_solo, keys.node_url) == (False, False, own.url)


MEMBERS = validator_set([1, 2, 3, 4])


@pytest.fixture
def founded(network: tuple[Places, NetworkPlan]) -> tuple[Places, NetworkPlan]:
    """The network, with validators in its genesis whose keys these tests hold."""
    places, plan = network
    genesis = genesis_of(places)
    keys = [one.public_key for one in MEMBERS.validators]
    validators = tuple(dataclasses.replace(one, key=key) for one, key in zip(genesis.validators, keys, strict=True))
    places.genesis.write_text(json.dumps(to_plain(dataclasses.replace(genesis, validators=validators))), "utf-8")
    return places, plan


def view(plan: NetworkPlan, height: int, names: Sequence[int] = (1, 2, 3, 4), **changes: object) -> HeaderView:
    """A header of this chain, signed now by the validators of these names."""
    at_ms, members = now_ms(), validator_set(names)
    header = make_header(
        height, members, **{"chain_id": plan.chain_id, "time_ns": (at_ms - 60_000 + height) * 1_000_000} | changes
    )
    return HeaderView(header=signed_by(header, list(names), [at_ms] * len(names)), validators=members)


def refusal(places: Places, plan: NetworkPlan, shown: HeaderView) -> str:
    with pytest.raises(Untrusted) as caught:
        believe(places, plan, plan.platforms[0], shown, now_ms())
    return caught.value.code


def test_the_first_header_is_believed_by_the_validators_of_the_genesis(founded: tuple[Places, NetworkPlan]) -> None:
    places, plan = founded
    believe(places, plan, plan.platforms[0], view(plan, 2), now_ms())
    assert refusal(places, plan, view(plan, 2, (1, 2, 3, 5))) == "network.validators"
    assert refusal(places, plan, view(plan, 2, (1, 2, 3))) == "network.validators"
    assert refusal(places, plan, view(plan, 2, chain_id="another")) == "header.chain_id"
    given = view(plan, 2)
    votes = (*given.header.commit.votes[:2], ABSENT, ABSENT)
    commit = dataclasses.replace(given.header.commit, votes=votes)
    two = dataclasses.replace(given, header=dataclasses.replace(given.header, commit=commit))
    assert refusal(places, plan, two) == "header.power"
    assert refusal(places, plan, view(plan, 2, validators_hash=bytes(32))) == "header.validators"


def test_a_later_header_is_believed_from_the_trust_file(founded: tuple[Places, NetworkPlan]) -> None:
    places, plan = founded
    for platform in plan.platforms:
        setup.write_trust_file(places, platform, view(plan, 2))
    first = plan.platforms[0]
    later = view(plan, 9, (1, 2, 3, 5))  # one of four was replaced meanwhile: not those of the genesis any more
    believe(places, plan, first, later, now_ms())
    assert refusal(places, plan, view(plan, 9, (1, 5, 6, 7))) == "header.not_enough_trust"
    assert refusal(places, plan, view(plan, 1)) == "header.not_higher"


def test_a_trust_file_that_has_ended_is_begun_anew_from_the_genesis(founded: tuple[Places, NetworkPlan]) -> None:
    places, plan = founded
    first, month_ago_ns = plan.platforms[0], (now_ms() - 30 * 86_400_000) * 1_000_000
    setup.write_trust_file(places, first, view(plan, 2, time_ns=month_ago_ns))
    believe(places, plan, first, view(plan, 9), now_ms())
    assert refusal(places, plan, view(plan, 9, (1, 2, 3, 5))) == "network.validators"
