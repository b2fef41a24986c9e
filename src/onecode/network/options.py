"""Configuration files of one organisation's processes, written anew at each start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onecode.enclave.measure import code_measurement
from onecode.errors import Misconfigured
from onecode.host.files import save_private
from onecode.host.keyring import load_key
from onecode.network.ceremony import VerifiedCeremony, node_id_of
from onecode.network.organisation import OBSERVER, Organisation, OrganisationPlaces, node_id_in
from onecode.network.plan import COMETBFT
from onecode.network.wallets import PROFILE_FILE, WalletProfile, save_profile
from onecode.platform.genesis import key_service_key_options, server_key_options
from onecode.proof.light import Trust

_ONE_MACHINE = {
    "engine_one_machine": True,
    "relay_private_addresses": True,
    "relay_poll_ms": 200,
    "relay_retry_ms_max": 1_000,
    "workers": 1,
}


def host_port(text: str, field: str) -> tuple[str, int]:
    """`HOST:PORT` in its parts."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise Misconfigured("organisation.listen", f"{text!r} is not HOST:PORT", field=field)
    return host.strip("[]"), int(port)


def _write(path: Path, options: dict[str, Any], more: dict[str, Any] | None) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_private(path, json.dumps(options | (more or {}), indent=1).encode() + b"\n", replace=True)
    return path


def peers_of(places: OrganisationPlaces, organisation: Organisation, ceremony: VerifiedCeremony) -> tuple[str, ...]:
    """Whom its engine connects to: those that it names, else every other one of the ceremony."""
    if organisation.peers is not None:
        return organisation.peers
    own = node_id_in(places)
    return tuple(
        peer for one in ceremony.organisations if node_id_of(one.node.body.node) != own for peer in one.node.body.peers
    )


def write_node(
    places: OrganisationPlaces, organisation: Organisation, ceremony: VerifiedCeremony, sync_from: Trust | None = None
) -> Path:
    """Configuration of the node. Its enclave starts as soon as `write_enclave` has written its file. `sync_from`:
    where state sync begins."""
    host, port = host_port(organisation.api_listen, "api_listen")
    options: dict[str, Any] = {
        "chain_id": organisation.chain_id,
        "data_dir": str(places.node),
        "genesis": str(places.genesis),
        "node_id": node_id_in(places),
        "api_host": host,
        "api_port": port,
        "engine": COMETBFT,
        "engine_binary": organisation.engine_binary,
        "engine_node_key": str(places.node_key),
        "engine_rpc_port": organisation.rpc_port,
        "engine_listen": organisation.p2p_listen,
        "engine_peers": ",".join(peers_of(places, organisation, ceremony)) or None,
    }
    if places.validator_key.exists():  # an observer has none, and that of a removed validator is destroyed
        options["validator_key"] = str(places.validator_key)
    if organisation.kind != OBSERVER:
        options |= {
            "enclave_config": str(places.node / "enclave.json"),
            "enclave_socket": str(places.node / "enclave.sock"),
        }
    if sync_from is not None:
        options |= {
            "state_sync_servers": ",".join(other_nodes(organisation, ceremony)),
            "state_sync_trust_height": sync_from.state.header.height,
            "state_sync_trust_hash": sync_from.state.header_hash.hex(),
        }
    if organisation.one_machine:
        options |= _ONE_MACHINE
    return _write(places.node / "node.json", options, organisation.options.get("node"))


def other_nodes(organisation: Organisation, ceremony: VerifiedCeremony) -> list[str]:
    """Addresses of the other organisations' nodes."""
    return [one.node.body.url for one in ceremony.organisations if one.node.body.url != organisation.node_url]


def write_enclave(places: OrganisationPlaces, organisation: Organisation) -> Path:
    """Configuration of the enclave, which starts from the organisation's own trust file."""
    options = {
        "chain_id": organisation.chain_id,
        "node_id": node_id_in(places),
        "socket": str(places.node / "enclave.sock"),
        "trust_file": str(places.trust),
        "pinned_root": organisation.root,
        "vendor_key": str(places.vendor_key),
    }
    return _write(places.node / "enclave.json", options, organisation.options.get("enclave"))


def write_platform(
    places: OrganisationPlaces, organisation: Organisation, ceremony: VerifiedCeremony
) -> tuple[Path, Path]:
    """Configurations of the platform's server and of its key service."""
    host, port = host_port(organisation.platform_listen, "platform_listen")
    keys_host, keys_port = host_port(organisation.key_service_listen, "key_service_listen")
    common = {"chain_id": organisation.chain_id, "node_url": f"http://{_local(organisation.api_listen)}"}
    server: dict[str, Any] = common | {
        "name": organisation.name,
        "root_public_key": organisation.root,
        "data_dir": str(places.platform / "data"),
        "host": host,
        "port": port,
        "operator_token": organisation.operator_token,
        "trust_file": str(places.trust),
        **server_key_options(places.keys),
        "other_node_urls": other_nodes(organisation, ceremony),
        "countersigners": [
            one.platform.hex() for one in ceremony.organisations if one.platform != organisation.platform
        ],
        "trust_output_file": str(places.trust),
        "partner_private_addresses": organisation.one_machine,
    }
    vendors = {one.node.body.simulated_vendor for one in ceremony.organisations} - {None}
    vendors.add(load_key(places.vendor_key).public)
    service: dict[str, Any] = common | {
        "platform": organisation.platform.hex(),
        "trust_file": str(places.trust),
        "pinned_root": organisation.root,
        **key_service_key_options(places.keys),
        "measurements": sorted({code_measurement().hex(), *organisation.builds}),
        "vendors": sorted({one.hex() for one in vendors if one is not None} | set(organisation.vendors)),
        "allow_simulated": True,
        "host": keys_host,
        "port": keys_port,
    }
    return (
        _write(places.platform / "platform.json", server, organisation.options.get("platform")),
        _write(places.platform / "key-service.json", service, organisation.options.get("key_service")),
    )


def write_profile(places: OrganisationPlaces, organisation: Organisation, ceremony: VerifiedCeremony) -> Path | None:
    """What a wallet of its platform is built with: its own node first. None where the platform has no address."""
    if organisation.platform_url is None:
        return None
    profile = WalletProfile(
        chain_id=organisation.chain_id,
        platform=organisation.platform.hex(),
        platform_name=organisation.name,
        platform_root=organisation.root,
        platform_url=organisation.platform_url,
        node_urls=(organisation.node_url, *other_nodes(organisation, ceremony)),
    )
    save_profile(places.platform / PROFILE_FILE, profile)
    return places.platform / PROFILE_FILE


def _local(listen: str) -> str:
    """Where a process on this machine reaches what listens there."""
    host, port = host_port(listen, "api_listen")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "::") else f"{host}:{port}"  # noqa: S104 # compared, not bound


def local_node_url(organisation: Organisation) -> str:
    """The API of its own node, for its own processes."""
    return f"http://{_local(organisation.api_listen)}"
