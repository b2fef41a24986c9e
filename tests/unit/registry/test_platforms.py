"""Keys, root, endpoints of platforms, and what enclaves their key services attest."""

from __future__ import annotations

import dataclasses

import pytest

from onecode.proof.governance import DAY_MS, Measurement, ProposalKind
from onecode.proof.leaves import EnclaveLeaf, KeyState, PlatformNode, Role, enclave_key
from onecode.proof.map import Section
from onecode.registry.events import EnclaveAttested, EnclaveRevoked, PlatformChanged
from onecode.registry.results import Result
from onecode.registry.transactions import (
    Kind,
    PlatformEndpoints,
    PlatformEpoch,
    PlatformKeys,
    PlatformNodes,
    PlatformRoot,
    PlatformSuspend,
)
from unit.registry.codes_admission import key, set_keys
from unit.registry.codes_merchants import attest_call, revoke_call
from unit.registry.world import BUILD, Platform, World, signing_key


def enclave(world: World, platform: Platform) -> EnclaveLeaf | None:
    key = enclave_key(signing_key("enclave").public, platform.id)
    return world.state.get(Section.ENCLAVES, key, EnclaveLeaf)


def test_a_key_goes_from_active_to_retired_to_revoked() -> None:
    world = World()
    for state in KeyState:
        assert set_keys(world, key(Role.RECORD, "new", state)) == Result.OK
        found = world.leaf(world.platforms[0]).key(Role.RECORD, signing_key("new").public)
        assert found is not None
        assert (found.state, found.height, found.since_ms) == (state, world.height, world.time_ms)
        assert set_keys(world, key(Role.RECORD, "new", state)) == Result.KEY_STATE


@pytest.mark.parametrize("state", [KeyState.RETIRED, KeyState.REVOKED])
def test_a_key_that_is_not_active_signs_no_transaction(state: KeyState) -> None:
    world = World()
    platform = world.platforms[0]
    epoch = PlatformEpoch(epoch_min=1)
    assert set_keys(world, key(Role.TRANSACTION, f"{platform.name}/TRANSACTION", state)) == Result.OK
    assert world.run(world.platform_call(platform, Kind.PLATFORM_EPOCH, epoch)) == Result.KEY_REFUSED
    assert set_keys(world, key(Role.TRANSACTION, "next")) == Result.OK
    call = world.platform_call(platform, Kind.PLATFORM_EPOCH, epoch, key=signing_key("next"))
    assert world.run(call) == Result.OK


def test_keys_are_all_set_or_none() -> None:
    world = World()
    before = world.leaf(world.platforms[0])
    assert (
        set_keys(world, key(Role.RECORD, "new"), key(Role.RECORD, "never seen", KeyState.REVOKED)) == Result.KEY_STATE
    )
    assert world.leaf(world.platforms[0]) == before


def test_only_the_root_sets_keys() -> None:
    world = World()
    platform = world.platforms[0]
    payload = PlatformKeys(keys=(key(Role.RECORD, "new"),))
    call = world.platform_call(platform, Kind.PLATFORM_KEYS, payload, key=platform.keys[Role.TRANSACTION])
    assert world.run(call) == Result.KEY_REFUSED


def test_anchor_keys_are_certified_for_at_most_90_days() -> None:
    world = World()
    name = "platform-0/ANCHOR"
    for not_after_ms in (None, world.time_ms, world.time_ms + 91 * DAY_MS):
        assert set_keys(world, key(Role.ANCHOR, name, not_after_ms=not_after_ms)) == Result.KEY_EXPIRY
    assert set_keys(world, key(Role.RECORD, "new", not_after_ms=world.time_ms + DAY_MS)) == Result.KEY_EXPIRY
    assert set_keys(world, key(Role.ANCHOR, name, not_after_ms=world.time_ms + 90 * DAY_MS)) == Result.OK
    assert set_keys(world, key(Role.ANCHOR, name, KeyState.RETIRED)) == Result.OK
    found = world.leaf(world.platforms[0]).key(Role.ANCHOR, signing_key(name).public)
    assert found is not None
    assert found.not_after_ms is not None  # retiring it does not make it last for ever


def test_revoked_keys_make_room() -> None:
    world = World()
    names = [f"device {index}" for index in range(57)]
    assert set_keys(world, *[key(Role.DEVICE, name) for name in names]) == Result.OK
    assert set_keys(world, key(Role.DEVICE, "one more")) == Result.KEYS_FULL
    assert set_keys(world, key(Role.DEVICE, names[5], KeyState.REVOKED)) == Result.OK
    assert set_keys(world, key(Role.DEVICE, names[6], KeyState.REVOKED)) == Result.OK
    assert set_keys(world, key(Role.DEVICE, "one more")) == Result.OK
    leaf = world.leaf(world.platforms[0])
    assert len(leaf.keys) == 64
    assert leaf.key(Role.DEVICE, signing_key(names[5]).public) is None
    assert leaf.key(Role.DEVICE, signing_key(names[6]).public) is not None


def test_the_root_is_replaced_by_the_old_root() -> None:
    world = World()
    platform, new = world.platforms[0], signing_key("new root")
    for payload, code in (
        (PlatformRoot(root=new.public, possession=bytes(64)), Result.POSSESSION),
        (PlatformRoot(root=platform.root.public, possession=bytes(64)), Result.KEY_REUSED),
        (PlatformRoot(root=new.public, possession=world.possession(platform.id, new)), Result.OK),
    ):
        assert world.run(world.platform_call(platform, Kind.PLATFORM_ROOT, payload)) == code
    assert world.leaf(platform).root == new.public
    suspend = PlatformSuspend()
    assert world.run(world.platform_call(platform, Kind.PLATFORM_SUSPEND, suspend)) == Result.KEY_REFUSED
    assert world.run(world.platform_call(platform, Kind.PLATFORM_SUSPEND, suspend, key=new)) == Result.OK


def test_endpoints_and_nodes() -> None:
    world = World()
    platform = world.platforms[0]
    nodes = (PlatformNode(node_id="n1", url="https://n1.example"),)
    endpoints = PlatformEndpoints(url="https://p.example", key_service_url="https://k.example")
    result = world.result(world.platform_call(platform, Kind.PLATFORM_ENDPOINTS, endpoints))
    assert result.events == (PlatformChanged(platform.id),)
    assert world.run(world.platform_call(platform, Kind.PLATFORM_NODES, PlatformNodes(nodes=nodes))) == Result.OK
    leaf = world.leaf(platform)
    assert (leaf.url, leaf.key_service_url, leaf.nodes) == ("https://p.example", "https://k.example", nodes)
    assert world.run(world.platform_call(platform, Kind.PLATFORM_SUSPEND, PlatformSuspend())) == Result.OK
    for kind, payload in ((Kind.PLATFORM_ENDPOINTS, endpoints), (Kind.PLATFORM_NODES, PlatformNodes(nodes=()))):
        assert world.run(world.platform_call(platform, kind, payload)) == Result.PLATFORM_INACTIVE
    epoch = world.platform_call(platform, Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=1))
    assert world.run(epoch) == Result.OK  # it only narrows


def test_attestations_come_and_go() -> None:
    world = World()
    one, two, _ = world.platforms
    result = world.result(attest_call(world, one))
    assert result.events == (EnclaveAttested(one.id, signing_key("enclave").public, world.time_ms - 1000 + DAY_MS),)
    assert world.run(attest_call(world, two)) == Result.OK
    first, second = enclave(world, one), enclave(world, two)
    assert first is not None and second is not None
    assert (first.node_id, first.kind, first.measurement) == ("node", "software", BUILD)
    assert first.expires_ms < second.expires_ms
    assert world.run(attest_call(world, one)) == Result.OK  # renewed in place
    renewed = enclave(world, one)
    assert renewed is not None and renewed.expires_ms > second.expires_ms
    assert world.result(revoke_call(world, one)).events == (EnclaveRevoked(one.id, signing_key("enclave").public),)
    assert (enclave(world, one), enclave(world, two)) == (None, second)
    assert world.run(revoke_call(world, one)) == Result.ATTESTATION_UNKNOWN
    assert world.run(revoke_call(world, two)) == Result.OK
    assert enclave(world, two) is None


def test_what_another_platform_says_of_a_query_key_hinders_nobody() -> None:
    """A member attests another node's query key first, as something else, and renews that every block."""
    world = World(platforms=70)
    squatter, own, *others = world.platforms
    assert world.run(attest_call(world, squatter, node_id="squatter")) == Result.OK
    assert world.run(*(attest_call(world, other, node_id="squatter") for other in others)) == Result.OK
    assert world.run(attest_call(world, squatter, node_id="squatter"), attest_call(world, own)) == Result.OK
    held, squat = enclave(world, own), enclave(world, squatter)
    assert held is not None and squat is not None
    assert (held.node_id, squat.node_id) == ("node", "squatter")
    assert world.run(revoke_call(world, squatter)) == Result.OK
    assert enclave(world, own) == held


def test_a_build_is_attested_from_its_time_on_and_refused_at_once_when_it_goes() -> None:
    world = World()
    old = Measurement(kind="software", measurement=BUILD, effective_ms=0)
    new = Measurement(kind="software", measurement=bytes(32), effective_ms=0)
    assert world.govern(ProposalKind.ENCLAVE_POLICY, measurements=(new,)) == Result.OK
    assert world.state.enclave_policy().serial == 1
    attest_old, attest_new = attest_call(world, world.platforms[0]), None
    assert world.run(attest_old) == Result.MEASUREMENT_REFUSED
    attest_new = attest_call(world, world.platforms[0], measurement=bytes(32))
    assert world.run(attest_new) == Result.MEASUREMENT_REFUSED
    world.pass_time(world.genesis.parameters.governance_delay_ms)
    assert world.govern(ProposalKind.ENCLAVE_POLICY, measurements=(old, new)) == Result.OK  # `new` keeps its time
    assert world.run(attest_call(world, world.platforms[0], measurement=bytes(32))) == Result.OK


def test_a_suspended_platform_revokes_and_does_not_attest() -> None:
    world = World()
    platform = world.platforms[0]
    assert world.run(attest_call(world, platform)) == Result.OK
    assert world.run(world.platform_call(platform, Kind.PLATFORM_SUSPEND, PlatformSuspend())) == Result.OK
    assert world.run(attest_call(world, platform)) == Result.PLATFORM_INACTIVE
    assert world.run(revoke_call(world, platform)) == Result.OK


def test_an_admission_that_revokes_its_own_key_lacks_the_role() -> None:
    world, new = World(), Platform("new")
    admission = new.admission()
    revoked = dataclasses.replace(admission.keys[0], state=KeyState.REVOKED)
    code = world.govern(
        ProposalKind.PLATFORM_ADMIT, admission=dataclasses.replace(admission, keys=(*admission.keys, revoked))
    )
    assert code == Result.ADMISSION_KEYS
