"""One organisation's own directory: its keys, what it tells the others, and the files that its processes are run by.

Nobody else's private key is ever in it. On one machine for all of a network there is `onecode up` instead.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onecode.code.identity import platform_id
from onecode.errors import Misconfigured
from onecode.host.files import load_private, save_private
from onecode.host.keyring import SEED_BYTES, load_key, save_key
from onecode.network.ceremony import (
    JoinBody,
    JoinRequest,
    NodeBody,
    NodeRequest,
    node_id_of,
    require_peer,
    require_url,
    sign_join,
    sign_node,
)
from onecode.platform.genesis import ROOT_KEY_FILE, TRUST_FILE, create_platform_keys, key_file
from onecode.proof.governance import Admission
from onecode.proof.leaves import PlatformNode, Role
from onecode.schema import Text, from_plain, to_plain
from onecode.wire import CHAIN_ID_CHARS_MAX, SigningKey

FILE = "organisation.json"
MEMBER, NODE, OBSERVER = "member", "node", "observer"  # with a platform; one more node of a member; an auditor's node
OPERATOR_TOKEN_BYTES = 24
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Organisation:
    """What `organisation.json` holds; its owner may edit it. Addresses of its own processes are HOST:PORT.

    kind: MEMBER, NODE or OBSERVER. root: its public root key, hex; of a NODE that of its member; none of an OBSERVER.
    own_peers: where other engines reach it, `id@host:port`: its node or its sentries. peers: whom its engine connects
    to; None: all others of the ceremony. vendors: further SIMULATED vendors whose enclaves get its keys, hex. builds:
    further enclave builds that its key service allows, hex, beside this installation's. options: further options of
    "node", "enclave", "platform", "key_service", which win over all others.
    """

    chain_id: str
    name: str
    kind: str = MEMBER
    root: str = ""
    node_url: str = ""
    platform_url: str | None = None
    key_service_url: str | None = None
    api_listen: str = "127.0.0.1:8080"
    platform_listen: str = "127.0.0.1:8081"
    key_service_listen: str = "127.0.0.1:8082"
    p2p_listen: str = "0.0.0.0:26656"
    rpc_port: int = 26_657
    own_peers: tuple[str, ...] = ()
    peers: tuple[str, ...] | None = None
    vendors: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    engine_binary: str = ""
    one_machine: bool = False
    operator_token: str = field(default="", repr=False)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def platform(self) -> bytes:
        """The id of its platform, 20 bytes."""
        if not self.root:
            raise Misconfigured(
                "organisation.observer", "an observer is no platform: give a member's --data", field="data"
            )
        return platform_id(bytes.fromhex(self.root))


@dataclass(frozen=True, slots=True)
class OrganisationPlaces:
    """Where everything lies under the organisation's directory."""

    directory: Path

    @property
    def file(self) -> Path:
        return self.directory / FILE

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    @property
    def admission(self) -> Path:
        return self.keys / "admission.json"

    @property
    def root_key(self) -> Path:
        return self.keys / ROOT_KEY_FILE

    @property
    def validator_key(self) -> Path:
        return self.keys / "validator.key"

    @property
    def node_key(self) -> Path:
        return self.keys / "engine-node.key"

    @property
    def observer_key(self) -> Path:
        return self.keys / "observer.key"

    @property
    def vendor_key(self) -> Path:
        """The SIMULATED vendor's key, which stands in for a maker of processors."""
        return self.keys / "simulated-vendor.key"

    @property
    def ceremony(self) -> Path:
        return self.directory / "network.ceremony"

    @property
    def signatures(self) -> Path:
        return self.directory / "signatures"

    @property
    def genesis(self) -> Path:
        return self.directory / "genesis.json"

    @property
    def trust(self) -> Path:
        return self.directory / TRUST_FILE

    @property
    def node(self) -> Path:
        return self.directory / "node"

    @property
    def platform(self) -> Path:
        return self.directory / "platform"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def running(self) -> Path:
        return self.directory / "running.lock"

    def role_key(self, role: Role) -> Path:
        return self.keys / key_file(role)


def load_organisation(places: OrganisationPlaces) -> Organisation:
    """The organisation of a directory; `Misconfigured` says what its file lacks."""
    if not places.file.exists():
        raise Misconfigured(
            "organisation.none", f"{places.directory} is no organisation's: make its keys first", field="data"
        )
    try:
        given: dict[str, Any] = json.loads(load_private(places.file))
        if given.pop("version") != _VERSION:
            raise KeyError
        for name in ("own_peers", "vendors", "builds"):
            given[name] = tuple(given.get(name, ()))
        if given.get("peers") is not None:
            given["peers"] = tuple(given["peers"])
        return Organisation(**given)
    except (ValueError, TypeError, KeyError) as error:
        raise Misconfigured(
            "organisation.file", f"{places.file} is not as it was written: {error}", field="data"
        ) from None


def save_organisation(places: OrganisationPlaces, organisation: Organisation) -> None:
    """Keep it, mode 0600: it holds the operator's token."""
    stored = {"version": _VERSION, **asdict(organisation)}
    save_private(places.file, json.dumps(stored, indent=1).encode() + b"\n", replace=True)


# --- keys ------------------------------------------------------------------------------------------------------------


def create_member(
    places: OrganisationPlaces, chain_id: str, name: str, entropy: Callable[[int], bytes], now_ms: int
) -> Organisation:
    """All keys of a new member, each in a file of its own that is never overwritten."""
    _require_new(places, chain_id, name)
    admission = create_platform_keys(places.keys, chain_id=chain_id, name=name, entropy=entropy, now_ms=now_ms)
    save_private(places.admission, json.dumps(to_plain(admission), indent=1).encode() + b"\n")
    _create_node_keys(places, entropy)
    save_key(places.vendor_key, SigningKey.from_seed(entropy(SEED_BYTES)))
    organisation = Organisation(
        chain_id, name, MEMBER, admission.root.hex(), operator_token=secrets.token_hex(OPERATOR_TOKEN_BYTES)
    )
    save_organisation(places, organisation)
    return organisation


def create_observer(
    places: OrganisationPlaces, chain_id: str, name: str, entropy: Callable[[int], bytes]
) -> Organisation:
    """The keys of an auditor's node without a vote: the engine's node key, and the one it reads with."""
    _require_new(places, chain_id, name)
    places.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_key(places.node_key, SigningKey.from_seed(entropy(SEED_BYTES)))
    save_key(places.observer_key, SigningKey.from_seed(entropy(SEED_BYTES)))
    organisation = Organisation(chain_id, name, OBSERVER)
    save_organisation(places, organisation)
    return organisation


def create_node(
    places: OrganisationPlaces, member: OrganisationPlaces, name: str, entropy: Callable[[int], bytes]
) -> Organisation:
    """One more node of a member, in a directory of its own: new engine and validator keys, and no key of the platform
    but the SIMULATED vendor's. The directory is then moved to the node's machine."""
    owner = load_organisation(member)
    _require_new(places, owner.chain_id, name)
    places.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    _create_node_keys(places, entropy)
    save_private(places.vendor_key, load_private(member.vendor_key))
    _copy_founding(member, places)
    organisation = Organisation(
        owner.chain_id,
        name,
        NODE,
        owner.root,
        platform_url=owner.platform_url,
        engine_binary=owner.engine_binary,
        one_machine=owner.one_machine,
        options={name: owner.options[name] for name in ("node", "enclave") if name in owner.options},
    )
    save_organisation(places, organisation)
    return organisation


def _create_node_keys(places: OrganisationPlaces, entropy: Callable[[int], bytes]) -> None:
    save_key(places.validator_key, SigningKey.from_seed(entropy(SEED_BYTES)))
    save_key(places.node_key, SigningKey.from_seed(entropy(SEED_BYTES)))


def _copy_founding(source: OrganisationPlaces, target: OrganisationPlaces) -> None:
    """Ceremony, signatures and trust file: public, and checked again where they are used."""
    target.signatures.mkdir(mode=0o700, exist_ok=True)
    for path in (source.ceremony, *sorted(source.signatures.glob("*")), source.trust):
        if not path.exists():
            raise Misconfigured(
                "organisation.not_founded", f"{path} is missing: start the first node first", field="data"
            )
        save_private(target.directory / path.relative_to(source.directory), path.read_bytes(), replace=True)


def _require_new(places: OrganisationPlaces, chain_id: str, name: str) -> None:
    if places.file.exists():
        raise Misconfigured("organisation.exists", f"{places.directory} has keys already; they are kept", field="data")
    if places.keys.exists():
        what = f"{places.keys} is there, {FILE} is not: it is written last. Where no key of it was told to anybody"
        raise Misconfigured("organisation.cut_off", f"{what}, remove it; else restore {FILE}", field="data")
    if not 1 <= len(chain_id.encode("utf-8")) <= CHAIN_ID_CHARS_MAX or chain_id.startswith("solo-"):
        what = f"a chain id has 1 to {CHAIN_ID_CHARS_MAX} bytes and does not begin with solo-"
        raise Misconfigured("organisation.chain_id", what, field="chain_id")
    Text(CHAIN_ID_CHARS_MAX).load(chain_id, "chain_id")
    if not 1 <= len(name) <= 64:
        raise Misconfigured("organisation.name", "a name has 1 to 64 characters", field="name")
    Text(64).load(name, "name")
    places.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    places.directory.chmod(0o700)  # one that was there may be open to others


# --- requests --------------------------------------------------------------------------------------------------------


def node_id_in(places: OrganisationPlaces) -> str:
    """How other engines know this directory's."""
    return node_id_of(load_key(places.node_key).public)


def make_node_request(places: OrganisationPlaces, organisation: Organisation) -> NodeRequest:
    """Its node with its validator key, signed by both."""
    require_url(organisation.node_url, "node_url")
    for peer in organisation.own_peers:
        require_peer(peer, "own_peers")
    node = load_key(places.node_key)
    validator = load_key(places.validator_key)
    body = NodeBody(
        chain_id=organisation.chain_id,
        platform=organisation.platform,
        validator=validator.public,
        node=node.public,
        peers=organisation.own_peers,
        url=organisation.node_url,
        simulated_vendor=load_key(places.vendor_key).public,
    )
    return sign_node(body, validator, node)


def make_join_request(places: OrganisationPlaces, organisation: Organisation, root_file: Path | None) -> JoinRequest:
    """All that the others need of a member, signed by its root key, which may lie elsewhere by now."""
    root = load_key(root_file or places.root_key)
    if root.public.hex() != organisation.root:
        raise Misconfigured("organisation.root", "that is not this organisation's root key", field="root_key")
    request = make_node_request(places, organisation)
    body = JoinBody(chain_id=organisation.chain_id, admission=load_admission(places, organisation), node=request)
    return sign_join(body, root)


def load_admission(places: OrganisationPlaces, organisation: Organisation) -> Admission:
    """How it is admitted, with the addresses of now. Its sentries are nodes of its own, at the same address."""
    stored = from_plain(Admission, json.loads(load_private(places.admission)), "admission")
    ids = dict.fromkeys((node_id_in(places), *(peer.partition("@")[0] for peer in organisation.own_peers)))
    return Admission(
        root=stored.root,
        name=stored.name,
        keys=stored.keys,
        url=organisation.platform_url,
        key_service_url=organisation.key_service_url,
        nodes=tuple(PlatformNode(node_id=one, url=organisation.node_url) for one in ids),
    )
