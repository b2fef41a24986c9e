"""Makes a local network's files: keys, genesis, first state, trust files, configurations of all its processes.

One machine holds every key here, the root keys too: fit for development and demonstrations, and said so on screen.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onecode.code.identity import platform_id
from onecode.enclave.measure import code_measurement
from onecode.errors import Misconfigured
from onecode.host.clock import now_ms
from onecode.host.files import save_private
from onecode.host.keyring import load_key, save_key
from onecode.network.plan import (
    COMETBFT,
    HOST,
    NODE,
    NetworkPlan,
    NodePlan,
    Places,
    PlatformPlan,
    load_plan,
    save_plan,
)
from onecode.node.blocks import load_proven
from onecode.node.engine_home import node_id
from onecode.node.solo import Solo
from onecode.node.store import open_writer
from onecode.platform.genesis import (
    ANCHOR_CERTIFICATE_FILE,
    TRUST_FILE,
    create_platform_keys,
    key_file,
    key_service_key_options,
    server_key_options,
)
from onecode.platform.trust import build_trust_file
from onecode.proof.governance import DEFAULT_PARAMETERS, Admission, Measurement, ValidatorLeaf
from onecode.proof.leaves import PlatformNode, Role
from onecode.proof.trust import AnchorCertificate
from onecode.query.messages import HeaderView
from onecode.record.payment import SERVICE_PAY
from onecode.registry.application import Application
from onecode.registry.genesis import Genesis, parse_genesis
from onecode.schema import parse, to_plain
from onecode.wire import SigningKey

ENCLAVE_FILE = "enclave.json"
KIND_SIMULATED = "software"


def create_network(places: Places, plan: NetworkPlan, entropy: Callable[[int], bytes]) -> NetworkPlan:
    """A new network in an empty directory; returns the plan with the platforms' roots. The plan is written last."""
    if places.plan.exists():
        raise Misconfigured("network.exists", f"{places.directory} holds a network already", field="data")
    places.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_key(places.vendor_key, SigningKey.from_seed(entropy(32)))
    for node in plan.nodes:
        create_node_keys(places, plan, node, entropy)
    admissions = []
    for platform in plan.platforms:
        admission = create_keys(places, plan, platform, entropy)
        admissions.append(admission)
        plan = plan.with_platform(dataclasses.replace(platform, root=admission.root.hex()))
    plan = dataclasses.replace(plan, measurement=code_measurement().hex())
    genesis = _genesis(places, plan, tuple(admissions))
    places.genesis.write_text(json.dumps(to_plain(genesis), indent=1) + "\n", "utf-8")
    save_plan(places, plan)
    return plan


def create_node_keys(places: Places, plan: NetworkPlan, node: NodePlan, entropy: Callable[[int], bytes]) -> None:
    """A node's directory with its validator's key and, where there is an engine, the key that engines know it by."""
    places.node_directory(node.slug).mkdir(mode=0o700, parents=True, exist_ok=True)
    save_key(places.validator_key(node.slug), SigningKey.from_seed(entropy(32)))
    if plan.engine == COMETBFT:
        save_key(places.engine_node_key(node.slug), SigningKey.from_seed(entropy(32)))


def engine_id(places: Places, node: NodePlan) -> str:
    """The name by which other engines know the node's."""
    return node_id(load_key(places.engine_node_key(node.slug)))


def platform_nodes(places: Places, plan: NetworkPlan, platform: PlatformPlan) -> tuple[PlatformNode, ...]:
    """What the chain says of the platform's nodes; nothing where there is no engine."""
    own = [node for node in plan.nodes if node.platform == platform.slug and plan.engine == COMETBFT]
    return tuple(PlatformNode(node_id=engine_id(places, node), url=node.url) for node in own)


def create_keys(
    places: Places, plan: NetworkPlan, platform: PlatformPlan, entropy: Callable[[int], bytes]
) -> Admission:
    """A platform's keys; returns what admits it."""
    return create_platform_keys(
        keys_directory(places, platform),
        chain_id=plan.chain_id,
        name=platform.name,
        entropy=entropy,
        now_ms=now_ms(),
        url=platform.url,
        key_service_url=platform.key_service_url,
        nodes=platform_nodes(places, plan, platform),
    )


def keys_directory(places: Places, platform: PlatformPlan) -> Path:
    return places.platform(platform.slug) / "keys"


def load_role_key(places: Places, platform: PlatformPlan, role: Role) -> SigningKey:
    """One of a platform's keys."""
    return load_key(keys_directory(places, platform) / key_file(role))


def identity_of(platform: PlatformPlan) -> bytes:
    """The platform's id, 20 bytes."""
    return platform_id(bytes.fromhex(platform.root))


def measurement_of(plan: NetworkPlan) -> Measurement:
    """The enclave build that the plan names; the registry sets its own time."""
    return Measurement(kind=KIND_SIMULATED, measurement=bytes.fromhex(plan.measurement), effective_ms=0)


def _genesis(places: Places, plan: NetworkPlan, admissions: tuple[Admission, ...]) -> Genesis:
    """The first state. Where the engines decide, each validator belongs to the platform that operates its node."""
    return Genesis(
        chain_id=plan.chain_id,
        time_ms=now_ms(),
        parameters=dataclasses.replace(DEFAULT_PARAMETERS, governance_delay_ms=plan.governance_delay_ms),
        platforms=admissions,
        validators=tuple(
            ValidatorLeaf(
                key=load_key(places.validator_key(node.slug)).public,
                power=node.power,
                platform=identity_of(plan.operator(node)),
            )
            for node in plan.nodes
            if node.power
        ),
        services=(SERVICE_PAY,),
        measurements=(measurement_of(plan),),
    )


def advance_chain(places: Places, plan: NetworkPlan) -> HeaderView:
    """Begin a solo chain, or add an empty block to it, while its node is not running: its newest header, fresh."""
    store = open_writer(places.node / "store")
    solo = Solo(
        store=store,
        application=Application(store, plan.chain_id),
        key=load_key(places.validator_key(NODE)),
        chain_id=plan.chain_id,
        genesis=parse_genesis(places.genesis.read_bytes()),
        clock_ms=now_ms,
    )
    try:
        solo.start()
        with store.snapshot() as snapshot:
            newest = load_proven(snapshot)
    finally:
        solo.stop()
    if newest is None:
        raise Misconfigured("network.store", f"the store in {places.node} proves no state: use an empty directory")
    return HeaderView(header=newest.signed, validators=newest.validators)


def write_trust_file(places: Places, platform: PlatformPlan, view: HeaderView) -> Path:
    """The platform's trust file for a header that its own operator believes."""
    raw = (keys_directory(places, platform) / ANCHOR_CERTIFICATE_FILE).read_bytes()
    certificate = parse(AnchorCertificate, raw, path="anchor_certificate")
    anchor = load_role_key(places, platform, Role.ANCHOR)
    path = places.platform(platform.slug) / TRUST_FILE
    save_private(path, build_trust_file(view, certificate, anchor, now_ms()).encoded(), replace=True)
    return path


def _write(path: Path, options: dict[str, Any]) -> Path:
    save_private(path, json.dumps(options, indent=1).encode() + b"\n", replace=True)
    return path


def write_enclave_config(places: Places, plan: NetworkPlan, node: NodePlan) -> Path:
    """Configuration of the node's enclave, which starts from its operator's trust file. The node starts its enclave
    when this file is there."""
    operator, directory = plan.operator(node), places.node_directory(node.slug)
    return _write(
        directory / ENCLAVE_FILE,
        {
            "chain_id": plan.chain_id,
            "node_id": _name(node),
            "socket": str(directory / "enclave.sock"),
            "trust_file": str(places.platform(operator.slug) / TRUST_FILE),
            "pinned_root": operator.root,
            "vendor_key": str(places.vendor_key),
            "allow_solo": plan.allow_solo,
            "header_age_ms_max": plan.header_age_ms_max,
        },
    )


def write_node_config(places: Places, plan: NetworkPlan, node: NodePlan) -> Path:
    """Configuration of a node, with one process of each kind."""
    directory = places.node_directory(node.slug)
    options: dict[str, Any] = {
        "chain_id": plan.chain_id,
        "data_dir": str(directory),
        "genesis": str(places.genesis),
        "validator_key": str(places.validator_key(node.slug)),
        "node_id": _name(node),
        "api_host": HOST,
        "api_port": node.api_port,
        "workers": 1,
        "enclave_config": str(directory / ENCLAVE_FILE),
        "enclave_socket": str(directory / "enclave.sock"),
        "heartbeat_ms": plan.heartbeat_ms,
        "relay_poll_ms": 200,
        "relay_retry_ms_max": 1_000,
        "relay_private_addresses": True,
    }
    if plan.engine == COMETBFT:
        others = [one for one in plan.nodes if one.slug != node.slug]
        options |= {
            "engine": COMETBFT,
            "engine_binary": plan.engine_binary,
            "engine_node_key": str(places.engine_node_key(node.slug)),
            "engine_rpc_port": node.rpc_port,
            "engine_listen": node.p2p,
            "engine_peers": ",".join(f"{engine_id(places, one)}@{one.p2p}" for one in others),
            "engine_one_machine": True,
        }
    return _write(directory / "node.json", options)


def _name(node: NodePlan) -> str:
    """The name that the enclave's evidence binds."""
    return "node-1" if node.slug == NODE else node.slug


def write_platform_configs(places: Places, plan: NetworkPlan, platform: PlatformPlan) -> tuple[Path, Path]:
    """Configurations of the platform's server and of its key service."""
    directory, keys = places.platform(platform.slug), keys_directory(places, platform)
    nodes = plan.nodes_of(platform.slug)
    server = {
        "chain_id": plan.chain_id,
        "name": platform.name,
        "root_public_key": platform.root,
        "data_dir": str(directory / "data"),
        "node_url": nodes[0].url,
        "other_node_urls": [node.url for node in nodes[1:]],
        "host": HOST,
        "port": platform.port,
        "operator_token": platform.operator_token,
        "trust_file": str(directory / TRUST_FILE),
        **server_key_options(keys),
        "allow_solo": plan.allow_solo,
        "header_age_ms_max": plan.header_age_ms_max,
        "sandbox": True,
        "sandbox_opening_minor": plan.sandbox_opening_minor,
        "partner_private_addresses": True,
        "partners": [identity_of(one).hex() for one in plan.platforms if one.slug != platform.slug],
    }
    service = {
        "chain_id": plan.chain_id,
        "platform": identity_of(platform).hex(),
        "node_url": nodes[0].url,
        "trust_file": str(directory / TRUST_FILE),
        "pinned_root": platform.root,
        **key_service_key_options(keys),
        "measurements": [code_measurement().hex()],
        "vendors": [load_key(places.vendor_key).public.hex()],
        "allow_simulated": True,
        "allow_solo": plan.allow_solo,
        "host": HOST,
        "port": platform.keys_port,
        "header_age_ms_max": plan.header_age_ms_max,
    }
    return _write(directory / "platform.json", server), _write(directory / "key-service.json", service)


def open_network(places: Places, plan: Callable[[], NetworkPlan], entropy: Callable[[int], bytes]) -> NetworkPlan:
    """The network in the directory, made from `plan()` where there is none."""
    return load_plan(places) if places.plan.exists() else create_network(places, plan(), entropy)
