"""`onecode network`: a network of several organisations, of which each runs these commands on machines of its own.

Here: the founding. No private key leaves its organisation; all that is sent around is public and can be checked by all.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onecode.cli.code import read_file, write_file
from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.cli.network_words import (
    begin_ms,
    ceremony_terms,
    join_plain,
    node_plain,
    platform_name,
    show_ceremony,
    word_plain,
)
from onecode.errors import Malformed, Misconfigured
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from onecode.network.ceremony import VerifiedCeremony
    from onecode.network.organisation import Organisation, OrganisationPlaces

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False)
DATA = click.option("--data", type=DIRECTORY, required=True, help="The organisation's own directory.")
OUT = click.option("--out", type=FILE, required=True, help="File to write.")
ROOT_KEY = click.option("--root-key", type=FILE, help="File with the root key, where it is in its safe place already.")


def opened(data: Path) -> tuple[OrganisationPlaces, Organisation]:
    """The organisation of a directory."""
    from onecode.network.organisation import OrganisationPlaces, load_organisation

    places = OrganisationPlaces(data.absolute())
    return places, load_organisation(places)


@click.group(cls=OnecodeGroup)
def network() -> None:
    """A network of several organisations, each with its own keys and machines (docs/operations.md)."""


@network.command()
@DATA
@click.option("--chain-id", required=True, help="The chain's id, agreed by all, e.g. onecode-2027.")
@click.option("--name", required=True, help="The organisation's name, as all others will see it.")
@click.option("--observer", is_flag=True, help="An auditor's node without a vote; no platform.")
def keys(data: Path, chain_id: str, name: str, observer: bool) -> None:
    """Make all keys of this organisation, here. Nothing is sent anywhere."""
    from onecode.host.keyring import load_key
    from onecode.network.organisation import OrganisationPlaces, create_member, create_observer, node_id_in

    places = OrganisationPlaces(data.absolute())
    if observer:
        create_observer(places, chain_id, name, secrets.token_bytes)
        plain = {"node_id": node_id_in(places), "observer_key": load_key(places.observer_key).public.hex()}
        lines = [*pairs(*plain.items()), "A member proposes them: onecode network propose observer NODE_ID KEY"]
        console().show(plain, lines)
        return
    organisation = create_member(places, chain_id, name, secrets.token_bytes, now_ms())
    plain = {"platform": platform_name(organisation), "node_id": node_id_in(places), "keys": str(places.keys)}
    lines = [
        *pairs(*plain.items()),
        f"{places.root_key} outranks all others: after the join request move it to a safe, off this machine.",
        "SIMULATED: simulated-vendor.key stands in for a maker of processors; the enclave protects nothing from root.",
    ]
    console().show(plain, lines)


def addresses(command: F) -> F:
    """Where the node is reached by others, and where its processes listen."""
    options = (
        click.option("--p2p", help="HOST:PORT where other engines reach this node's. Not with --sentry."),
        click.option(
            "--sentry", "sentries", multiple=True, help="ID@HOST:PORT of a sentry; may be given several times."
        ),
        click.option("--p2p-listen", default="0.0.0.0:26656", show_default=True, help="Where the engine listens."),
        click.option("--api-listen", default="127.0.0.1:8080", show_default=True, help="Where the node's API listens."),
        click.option("--rpc-port", type=click.IntRange(1, 65_535), default=26_657, show_default=True, help="Loopback."),
        click.option("--engine", type=FILE, help="CometBFT; else bin/cometbft of this checkout, or on the path."),
        click.option(
            "--peer", "peers", multiple=True, help="Connect to these alone: ID@HOST:PORT; else to all others."
        ),
        click.option("--one-machine", is_flag=True, help="All nodes on one machine: for tests, never in production."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def with_addresses(
    places: OrganisationPlaces, organisation: Organisation, url: str, given: dict[str, Any]
) -> Organisation:
    """The organisation with what the options of `addresses` say."""
    import dataclasses

    from onecode.network.local import engine_directories
    from onecode.network.organisation import node_id_in
    from onecode.network.plan import find_engine

    if bool(given["p2p"]) == bool(given["sentries"]):
        raise Malformed("cli.p2p", "give --p2p, or the sentries by --sentry", field="p2p")
    own = given["sentries"] or (f"{node_id_in(places)}@{given['p2p']}",)
    return dataclasses.replace(
        organisation,
        node_url=url,
        own_peers=tuple(own),
        p2p_listen=given["p2p_listen"],
        api_listen=given["api_listen"],
        rpc_port=given["rpc_port"],
        peers=tuple(given["peers"]) or None,
        engine_binary=str(find_engine(given["engine"], engine_directories())),
        one_machine=given["one_machine"],
    )


@network.command()
@DATA
@OUT
@click.option("--api", "url", required=True, help="Public address of this node's API, e.g. https://node.example.")
@click.option("--platform", "platform_url", help="Public address of the platform's server.")
@click.option("--key-service", "key_service_url", help="Public address of the key service, which all nodes call.")
@click.option("--platform-listen", default="127.0.0.1:8081", show_default=True, help="Where the server listens.")
@click.option(
    "--key-service-listen", default="127.0.0.1:8082", show_default=True, help="Where the key service listens."
)
@click.option("--sandbox", is_flag=True, help="The platform's accounts are funded with SIMULATED money.")
@ROOT_KEY
@addresses
def join_request(data: Path, out: Path, url: str, root_key: Path | None, sandbox: bool, **given: Any) -> None:
    """Write what the others need of this organisation, signed by its root key. Nothing in it is secret.

    Give it again with other addresses until the ceremony is collected; the keys stay.
    """
    import dataclasses

    from onecode.network.armour import armour
    from onecode.network.ceremony import verify_join
    from onecode.network.organisation import make_join_request, save_organisation

    places, organisation = opened(data)
    require_member(organisation)
    organisation = with_addresses(places, organisation, url, given)
    options = dict(organisation.options)
    if sandbox:
        options["platform"] = {"sandbox": True, "sandbox_opening_minor": {"EUR": 100_000, "CNY": 1_000_000}}
    own = {name: given[name] for name in ("platform_url", "key_service_url", "platform_listen", "key_service_listen")}
    organisation = dataclasses.replace(organisation, options=options, **own)
    request = make_join_request(places, organisation, root_key)
    verified = verify_join(request)
    save_organisation(places, organisation)
    write_file(out, armour(request))
    plain = join_plain(verified)
    console().show(plain, [*pairs(*plain.items()), f"{out}: send it to all others, and read the platform id aloud."])


@network.command("addresses")
@DATA
@click.option("--api", "url", required=True, help="Public address of this node's API.")
@addresses
def set_addresses(data: Path, url: str, **given: Any) -> None:
    """Set where this node is reached and listens, from its next start on: an observer's, or one that moves.

    What the chain says of a member's node is set by `add-node`, of its platform by its server's operator.
    """
    from onecode.network.organisation import save_organisation

    places, organisation = opened(data)
    organisation = with_addresses(places, organisation, url, given)
    save_organisation(places, organisation)
    plain = {"node_url": url, "peers": list(organisation.own_peers), "listen": organisation.p2p_listen}
    console().show(plain, pairs(*plain.items()))


@network.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Check FILE (a join request, a node request, a ceremony or a signature) and print what it says.

    Whose key signed a signature is checked with the ceremony, by `install`.
    """
    from onecode.network.armour import parse_armoured
    from onecode.network.ceremony import (
        Ceremony,
        GenesisSignature,
        JoinRequest,
        NodeBody,
        NodeRequest,
        verify_ceremony,
        verify_join,
        verify_node,
        verify_word,
    )
    from onecode.schema import parse

    found = parse_armoured(read_file(file), JoinRequest, NodeRequest, Ceremony, GenesisSignature)
    if isinstance(found, Ceremony):
        show_ceremony(verify_ceremony(found))
        return
    plain: dict[str, Any] = {}
    if isinstance(found, JoinRequest):
        plain = join_plain(verify_join(found))
    elif isinstance(found, NodeRequest):
        plain = node_plain(verify_node(found, parse(NodeBody, found.body, path="node").chain_id))
    elif isinstance(found, GenesisSignature):
        verify_word(found)
        plain = word_plain(found)
    console().show(plain, pairs(*plain.items()))


@network.command()
@click.argument("files", type=FILE, nargs=-1, required=True)
@OUT
@click.option("--parameters", type=FILE, help="JSON: parameters of the chain, services, measurements, power.")
@click.option("--time", "time_text", help="When the chain begins, e.g. 2027-01-15T09:00:00Z; else now.")
def collect(files: Sequence[Path], out: Path, parameters: Path | None, time_text: str | None) -> None:
    """Put all join requests FILES into one ceremony. Anybody may do this; everybody checks it."""
    from onecode.network.armour import armour, parse_armoured
    from onecode.network.ceremony import JoinRequest, verify_ceremony, verify_join
    from onecode.network.ceremony import collect as collected

    requests = [(file.name, parse_armoured(read_file(file), JoinRequest, field=file.name)) for file in files]
    chain_id = verify_join(requests[0][1]).chain_id
    ceremony = collected(requests, ceremony_terms(chain_id, parameters, begin_ms(time_text)))
    verified = verify_ceremony(ceremony)
    write_file(out, armour(ceremony))
    show_ceremony(verified)


@network.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, help="Write the genesis here too, as JSON.")
def genesis(file: Path, out: Path | None) -> None:
    """Compute the genesis of the ceremony in FILE: the same for everybody, whoever collected it."""
    from onecode.schema import to_plain

    verified = load_ceremony(file)
    if out is not None:
        write_file(out, json.dumps(to_plain(verified.genesis), indent=1).encode() + b"\n")
    show_ceremony(verified)


def load_ceremony(file: Path) -> VerifiedCeremony:
    """A ceremony's file, checked."""
    from onecode.network.armour import parse_armoured
    from onecode.network.ceremony import Ceremony, verify_ceremony

    return verify_ceremony(parse_armoured(read_file(file), Ceremony))


@network.command()
@click.argument("file", type=FILE)
@DATA
@click.option("--hash", "said", required=True, help="The genesis hash, as the others read it aloud.")
@OUT
def sign_genesis(file: Path, data: Path, said: str, out: Path) -> None:
    """Sign the genesis of the ceremony in FILE, by this organisation's governance key."""
    from onecode.network.armour import armour
    from onecode.network.founding import sign_ceremony

    places, organisation = opened(data)
    signature = sign_ceremony(places, organisation, load_ceremony(file), said)
    write_file(out, armour(signature))
    plain = {"genesis_hash": signature.genesis_hash.hex(), "platform": platform_name(organisation), "file": str(out)}
    console().show(plain, pairs(*plain.items()))


@network.command()
@click.argument("file", type=FILE)
@click.argument("signatures", type=FILE, nargs=-1, required=True)
@DATA
@click.option("--hash", "said", help="The genesis hash, as a member reads it aloud; needed by who is not in it.")
def install(file: Path, signatures: Sequence[Path], data: Path, said: str | None) -> None:
    """Take the ceremony in FILE with the SIGNATURES of all its organisations as this node's genesis."""
    from onecode.network.armour import parse_armoured
    from onecode.network.ceremony import Ceremony, GenesisSignature
    from onecode.network.founding import install as installed

    places, organisation = opened(data)
    found = [parse_armoured(read_file(one), GenesisSignature, field=one.name) for one in signatures]
    verified = installed(places, organisation, parse_armoured(read_file(file), Ceremony), found, said)
    plain = {"chain_id": organisation.chain_id, "genesis_hash": verified.genesis_hash.hex(), "signatures": len(found)}
    console().show(plain, [*pairs(*plain.items()), f"onecode network up --data {data} starts the node"])


def require_member(organisation: Organisation) -> None:
    """Raise `Misconfigured` for a directory without the keys of a platform."""
    from onecode.network.organisation import MEMBER

    if organisation.kind != MEMBER:
        raise Misconfigured("organisation.kind", "this needs a member's directory, which has its keys", field="data")
