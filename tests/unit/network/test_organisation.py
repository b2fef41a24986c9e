"""An organisation's directory: the files that its processes are started with are ones that they take."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from onecode.enclave.measure import code_measurement
from onecode.enclave.process import load_config as load_enclave
from onecode.errors import Misconfigured
from onecode.keys.config import load_config as load_keys
from onecode.network.beginning import own_trust
from onecode.network.ceremony import VerifiedCeremony, verify_ceremony, verify_join
from onecode.network.options import host_port, peers_of, write_enclave, write_node, write_platform, write_profile
from onecode.network.organisation import (
    NODE,
    OBSERVER,
    Organisation,
    OrganisationPlaces,
    create_member,
    create_node,
    create_observer,
    load_organisation,
    make_join_request,
    node_id_in,
    save_organisation,
)
from onecode.network.running import require_stopped, running_pid, stop_running
from onecode.network.wallets import load_profile
from onecode.node.config import load_config as load_node
from onecode.platform.config import load_config as load_platform
from onecode.platform.files import save_private
from unit.network.founders import CHAIN_ID, FOUR, founded
from unit.registry.world import START_MS


@pytest.fixture
def ceremony() -> VerifiedCeremony:
    return verify_ceremony(founded())


@pytest.fixture
def member(tmp_path: Path) -> tuple[OrganisationPlaces, Organisation]:
    places = OrganisationPlaces(tmp_path / "elder")
    made = create_member(places, CHAIN_ID, "Elder Pay", os.urandom, START_MS)
    organisation = dataclasses.replace(
        made,
        node_url="https://node.elder.example",
        platform_url="https://pay.elder.example",
        key_service_url="https://keys.elder.example",
        own_peers=(f"{node_id_in(places)}@elder.example:26656",),
        api_listen="0.0.0.0:8080",
        engine_binary="/usr/bin/true",
        builds=("ab" * 48,),
        vendors=("cd" * 32,),
        options={"node": {"heartbeat_ms": 1_234}},
    )
    save_organisation(places, organisation)
    return places, load_organisation(places)


def test_what_is_saved_is_loaded(member: tuple[OrganisationPlaces, Organisation]) -> None:
    places, organisation = member
    assert load_organisation(places) == organisation
    assert organisation.operator_token not in repr(organisation)
    save_private(places.file, places.file.read_bytes().replace(b'"name"', b'"nom"'), replace=True)
    with pytest.raises(Misconfigured) as raised:
        load_organisation(places)
    assert raised.value.code == "organisation.file"


def test_each_process_takes_its_file(
    member: tuple[OrganisationPlaces, Organisation], ceremony: VerifiedCeremony
) -> None:
    places, organisation = member
    places.node.mkdir()
    node = load_node(write_node(places, organisation, ceremony))
    assert (node.node_id, node.heartbeat_ms, node.validator_key) == (
        node_id_in(places),
        1_234,
        places.validator_key,
    )
    assert (node.engine_peers or "").split(",") == list(peers_of(places, organisation, ceremony))
    assert len(peers_of(places, organisation, ceremony)) == 4
    assert not (node.engine_one_machine or node.relay_private_addresses)
    enclave = load_enclave(write_enclave(places, organisation))
    assert (enclave.node_id, enclave.pinned_root, enclave.allow_solo) == (node.node_id, organisation.root, False)
    assert (enclave.socket, node.enclave_path) == (str(node.enclave_path), Path(enclave.socket))
    server_file, service_file = write_platform(places, organisation, ceremony)
    server, service = load_platform(server_file), load_keys(service_file)
    assert (server.platform, server.node_url) == (organisation.platform, "http://127.0.0.1:8080")
    assert set(server.countersigners) == {one.id for one in FOUR}
    assert not server.sandbox
    assert set(service.measurements) == {code_measurement().hex(), "ab" * 48}
    vendors = {one.vendor.public.hex() for one in FOUR}
    assert vendors | {"cd" * 32} < set(service.vendors) and len(service.vendors) == 6
    profile = write_profile(places, organisation, ceremony)
    assert profile is not None
    assert load_profile(profile).node_urls == (organisation.node_url, *(one.url for one in sorted(FOUR, key=by_id)))


def by_id(founder: object) -> bytes:
    return bytes(founder.id)  # type: ignore[attr-defined]


def test_its_engine_connects_to_those_that_it_names(
    member: tuple[OrganisationPlaces, Organisation], ceremony: VerifiedCeremony
) -> None:
    places, organisation = member
    sentry = f"{'ab' * 20}@sentry.example:26656"
    behind = dataclasses.replace(organisation, peers=(sentry,), own_peers=(sentry,))
    assert load_node(write_node(places, behind, ceremony)).engine_peers == sentry
    join = verify_join(make_join_request(places, behind, None))
    assert {one.node_id for one in join.admission.nodes} == {node_id_in(places), "ab" * 20}
    assert join.node.body.peers == (sentry,)


def test_a_node_whose_key_was_destroyed_has_no_vote(
    member: tuple[OrganisationPlaces, Organisation], ceremony: VerifiedCeremony
) -> None:
    places, organisation = member
    places.validator_key.unlink()
    assert load_node(write_node(places, organisation, ceremony)).validator_key is None


def test_one_more_node_gets_no_key_of_the_platform(
    member: tuple[OrganisationPlaces, Organisation], tmp_path: Path, ceremony: VerifiedCeremony
) -> None:
    places, organisation = member
    new = OrganisationPlaces(tmp_path / "second")
    with pytest.raises(Misconfigured) as raised:
        create_node(new, places, "second", os.urandom)
    assert raised.value.code == "organisation.not_founded"
    places.signatures.mkdir()
    for path in (places.ceremony, places.trust):
        save_private(path, b"public")
    new = OrganisationPlaces(tmp_path / "third")
    made = create_node(new, places, "third", os.urandom)
    assert (made.kind, made.root, made.operator_token) == (NODE, organisation.root, "")
    assert sorted(path.name for path in new.keys.iterdir()) == [
        "engine-node.key",
        "simulated-vendor.key",
        "validator.key",
    ]
    for name in ("engine-node.key", "validator.key"):
        assert (new.keys / name).read_bytes() != (places.keys / name).read_bytes()
    node = load_node(write_node(new, dataclasses.replace(made, engine_binary="/usr/bin/true"), ceremony))
    assert node.enclave_config == new.node / "enclave.json"


def test_an_observers_node_has_neither_vote_nor_enclave(tmp_path: Path, ceremony: VerifiedCeremony) -> None:
    places = OrganisationPlaces(tmp_path / "auditor")
    made = dataclasses.replace(create_observer(places, CHAIN_ID, "Auditor", os.urandom), engine_binary="/usr/bin/true")
    node = load_node(write_node(places, made, ceremony))
    assert (made.kind, node.validator_key, node.enclave_config) == (OBSERVER, None, None)
    with pytest.raises(Misconfigured) as raised:
        _ = made.platform
    assert raised.value.code == "organisation.observer"
    assert own_trust(places, made, START_MS) is None


def test_another_process_of_the_same_number_is_not_taken_for_the_one_that_ran(
    member: tuple[OrganisationPlaces, Organisation],
) -> None:
    places, _ = member
    require_stopped(places)
    save_private(places.running, json.dumps({"pid": os.getpid(), "started": 1}).encode())
    assert running_pid(places) is None
    assert not stop_running(places)
    for damaged in (b"", b"[]", b'{"pid": "x"}', b"{}"):
        save_private(places.running, damaged, replace=True)
        assert running_pid(places) is None


@pytest.mark.parametrize("text", ["8080", ":8080", "host:", "host:x", "host:70000", "host:²"])
def test_where_a_process_listens_is_host_and_port(text: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        host_port(text, "api_listen")
    assert (raised.value.code, raised.value.field) == ("organisation.listen", "api_listen")
    assert host_port("[::1]:80", "api_listen") == ("::1", 80)
