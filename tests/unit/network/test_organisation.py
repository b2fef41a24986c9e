"""An organisation's directory: the files that its processes are started with are ones that they take."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from onecode.enclave.measure import code_measurement
from onecode.enclave.process import load_config as load_enclave
from onecode.errors import Misconfigured, Unreachable
from onecode.host.files import save_private
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
from onecode.network.running import Run, running_pid, stop_running
from onecode.network.wallets import load_profile
from onecode.node.config import load_config as load_node
from onecode.platform.config import load_config as load_platform
from unit.network.founders import CHAIN_ID, FOUR, founded
from unit.registry.world import START_MS

pytestmark = pytest.mark.clock


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


HOLD = """
import sys, time
from pathlib import Path
from onecode.network.organisation import OrganisationPlaces
from onecode.network.running import _take_lock
held = _take_lock(OrganisationPlaces(Path(sys.argv[1])))
print("held", flush=True)
time.sleep(600)
"""


def test_a_directory_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    create_observer(OrganisationPlaces(tmp_path / "open"), CHAIN_ID, "Auditor", os.urandom)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700


def test_one_process_alone_runs_a_directory_and_the_kernel_says_which(
    member: tuple[OrganisationPlaces, Organisation], ceremony: VerifiedCeremony
) -> None:
    places, organisation = member
    assert running_pid(places) is None
    save_private(places.running, str(os.getpid()).encode())  # whatever stands in the file
    assert running_pid(places) is None and not stop_running(places)
    words = [sys.executable, "-c", HOLD, str(places.directory)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"held\n"
            assert running_pid(places) == other.pid
            with Run(places, organisation, ceremony) as run, pytest.raises(Unreachable) as raised:
                run.start_node()
            assert raised.value.code == "organisation.running"
            assert not (places.node / "node.json").exists()
            assert running_pid(places) == other.pid
        finally:
            other.kill()
        other.wait()
        assert running_pid(places) is None  # though nobody tidied up


class Answering(BaseHTTPRequestHandler):
    """A platform whose trust file is none."""

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"something else")


def test_what_answers_in_the_platforms_place_does_not_take_the_trust_file_away(
    member: tuple[OrganisationPlaces, Organisation], ceremony: VerifiedCeremony
) -> None:
    places, organisation = member
    save_private(places.trust, b"the one that it has")
    told: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        node = dataclasses.replace(organisation, kind=NODE, platform_url=url)
        Run(places, node, ceremony)._fetch_trust(told.append)
        server.shutdown()
    assert places.trust.read_bytes() == b"the one that it has"
    assert len(told) == 1 and url in told[0]


@pytest.mark.parametrize("text", ["8080", ":8080", "host:", "host:x", "host:70000", "host:²"])
def test_where_a_process_listens_is_host_and_port(text: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        host_port(text, "api_listen")
    assert (raised.value.code, raised.value.field) == ("organisation.listen", "api_listen")
    assert host_port("[::1]:80", "api_listen") == ("::1", 80)
