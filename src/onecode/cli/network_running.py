"""`onecode network`: running one organisation's node, seeing how all stand, its further nodes and its keys."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import read_file, write_file
from onecode.cli.console import console, pairs
from onecode.cli.network import (
    DATA,
    DIRECTORY,
    FILE,
    OUT,
    ROOT_KEY,
    addresses,
    network,
    opened,
    require_member,
    with_addresses,
)
from onecode.cli.network_words import SIMULATED_BUILD, node_plain
from onecode.errors import Misconfigured, Unreachable
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from rich.table import Table

    from onecode.network.client import NodeClient

WATCH_S = 0.5
STATUS_S = 1.0
ROLES = ("transaction", "record", "device", "key-service", "receipt", "governance", "anchor")


@network.command()
@DATA
@click.option("--trust", type=FILE, help="A member's trust file, where the genesis is more than 14 days old.")
@click.option(
    "--state-sync", is_flag=True, help="A new node fetches a proven snapshot, not all blocks; needs a trust file."
)
def up(data: Path, trust: Path | None, state_sync: bool) -> None:
    """Run this organisation's node, key service and platform until ctrl-C or SIGTERM (`onecode network down`)."""
    from onecode.network.beginning import given_trust, own_trust
    from onecode.network.founding import load_founding
    from onecode.network.processes import end_on_signals
    from onecode.network.running import Run

    end_on_signals()
    places, organisation = opened(data)
    ceremony = load_founding(places, organisation)
    given, sync_from = read_file(trust) if trust is not None else None, None
    if state_sync:
        sync_from = own_trust(places, organisation, now_ms())
        if sync_from is None and given is None:
            raise Misconfigured(
                "cli.state_sync", "state sync begins at a header that is trusted: give --trust", field="trust"
            )
        if sync_from is None and given is not None:
            sync_from = given_trust(ceremony, given, now_ms())
    try:
        with Run(places, organisation, ceremony) as run:
            run.start_node(sync_from)
            run.begin(given, _tell)
            run.wait_ready()
            _tell_build(run.node)
            plain = {
                "ready": True,
                "chain_id": organisation.chain_id,
                "kind": organisation.kind,
                "node": run.node.url,
                "platform": organisation.platform_listen if organisation.kind == "member" else None,
                "logs": str(places.logs),
            }
            console().show(plain, pairs(*plain.items()))
            while True:
                run.keep()
                time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return


def _tell_build(node: NodeClient) -> None:
    """Say so where the chain's policy does not allow the enclave of this installation: it would get no keys."""
    from onecode.enclave.measure import code_measurement
    from onecode.network.proposals import load_leaf
    from onecode.proof.governance import ENCLAVE_POLICY_KEY, EnclavePolicy
    from onecode.proof.map import Section

    try:
        policy = load_leaf(node, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, EnclavePolicy)
    except Unreachable:
        return
    own = code_measurement()
    if policy is None or not policy.allows(SIMULATED_BUILD, own, now_ms()):
        _tell("the chain does not allow this enclave build, so it gets no keys; allow it by governance:")
        _tell(f"onecode network propose build {own.hex()}")


def _tell(line: str) -> None:
    click.echo(line, err=True)


@network.command()
@DATA
def down(data: Path) -> None:
    """Stop what `onecode network up` runs of this directory; returns when all of it has ended."""
    from onecode.network.running import stop_running

    places, _ = opened(data)
    stopped = stop_running(places)
    console().show({"stopped": stopped}, ["stopped" if stopped else "nothing was running"])


# --- how all stand ---------------------------------------------------------------------------------------------------


@network.command()
@click.option("--data", type=DIRECTORY, help="An organisation's directory: asks its own node who there is.")
@click.option("--node", "urls", multiple=True, help="Address of a node to ask, too or instead; several times.")
@click.option("--once", is_flag=True, help="Print the table once, instead of again and again.")
def status(data: Path | None, urls: Sequence[str], once: bool) -> None:
    """Show all known nodes: height, lag, peers, vote, enclave and keys. What each says of itself is not proven."""
    from rich.console import Console as Terminal
    from rich.live import Live

    from onecode.network.standing import fetch_standing

    names = _known(data, urls)
    if once or console().as_json:
        found = fetch_standing(names)
        terminal = Terminal(width=None if Terminal().is_terminal else 160)
        with terminal.capture() as shown:
            terminal.print(_table(found))
        console().show(found, [shown.get().rstrip()])
        return
    try:
        with Live(_table(fetch_standing(names)), auto_refresh=False) as live:
            while True:
                time.sleep(STATUS_S)
                names = _known(data, urls) or names
                live.update(_table(fetch_standing(names)), refresh=True)
    except KeyboardInterrupt:
        return


def _known(data: Path | None, urls: Sequence[str]) -> dict[str, str]:
    from onecode.network.client import NodeClient
    from onecode.network.founding import load_founding
    from onecode.network.options import local_node_url
    from onecode.network.standing import TIMEOUT_MS, known_nodes

    clients, ceremony = [NodeClient(url, TIMEOUT_MS) for url in urls], None
    if data is not None:
        places, organisation = opened(data)
        ceremony = load_founding(places, organisation)
        clients.append(NodeClient(local_node_url(organisation), TIMEOUT_MS))
        clients += [NodeClient(one.node.body.url, TIMEOUT_MS) for one in ceremony.organisations]
    names = known_nodes(ceremony, clients) | {}
    for url in urls:
        names.setdefault(url.rstrip("/"), url)
    if not names:
        raise Misconfigured("cli.nodes", "give --data of an organisation, or --node", field="node")
    return names


def _table(found: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from onecode.network.standing import COLUMNS, standing_cells

    title = f"height {found['height']}, {found['validators']} validators answer with power {found['power']}"
    table = Table(*COLUMNS, title=title, title_justify="left")
    for row in found["nodes"]:
        table.add_row(*(escape(cell) for cell in standing_cells(row)), style=None if row["up"] else "red")
    return table


# --- further nodes ---------------------------------------------------------------------------------------------------


@network.command()
@DATA
@click.option("--to", "target", type=DIRECTORY, required=True, help="New directory, to be moved to the node's machine.")
@click.option("--name", required=True, help="The node's name, for this organisation alone.")
@click.option("--api", "url", required=True, help="Public address of the new node's API.")
@addresses
def add_node(data: Path, target: Path, name: str, url: str, **given: Any) -> None:
    """Make one more node of this organisation, without a vote, and list it on chain: a replacement, or a sentry."""
    from onecode.network.client import NodeClient
    from onecode.network.options import local_node_url
    from onecode.network.organisation import NODE, OrganisationPlaces, create_node, node_id_in, save_organisation
    from onecode.network.own_leaf import add_node as listed
    from onecode.proof.leaves import PlatformNode

    places, organisation = opened(data)
    require_member(organisation)
    new = OrganisationPlaces(target.absolute())
    made = opened(target)[1] if new.file.exists() else create_node(new, places, name, secrets.token_bytes)
    if (made.kind, made.root) != (NODE, organisation.root):
        raise Misconfigured("organisation.not_its_node", f"{target} is not a further node of {organisation.name}")
    save_organisation(new, with_addresses(new, made, url, given))
    node_id = node_id_in(new)
    node = NodeClient(local_node_url(organisation))
    submitted = listed(places, organisation, node, PlatformNode(node_id=node_id, url=url), now_ms())
    plain = {"node_id": node_id, "directory": str(new.directory), "height": submitted.height}
    console().show(plain, [*pairs(*plain.items()), f"move {target} to its machine; onecode network up --data {target}"])


@network.command()
@click.argument("node_id")
@DATA
def remove_node(node_id: str, data: Path) -> None:
    """Take a node of this organisation off the chain's list: other engines refuse its next connection."""
    from onecode.network.client import NodeClient
    from onecode.network.options import local_node_url
    from onecode.network.own_leaf import remove_node as unlisted

    places, organisation = opened(data)
    require_member(organisation)
    submitted = unlisted(places, organisation, NodeClient(local_node_url(organisation)), node_id, now_ms())
    console().show({"node_id": node_id, "height": submitted.height}, [f"removed at height {submitted.height}"])


@network.command()
@DATA
@OUT
def node_request(data: Path, out: Path) -> None:
    """Write this node's validator key, signed by itself, for `onecode network add-validator`."""
    from onecode.network.armour import armour
    from onecode.network.ceremony import verify_node
    from onecode.network.organisation import make_node_request

    places, organisation = opened(data)
    request = make_node_request(places, organisation)
    plain = node_plain(verify_node(request, organisation.chain_id))
    write_file(out, armour(request))
    console().show(plain, [*pairs(*plain.items()), f"{out}: hand it to who proposes the validator"])


# --- keys ------------------------------------------------------------------------------------------------------------


@network.command()
@click.argument("role", type=click.Choice(ROLES))
@DATA
@ROOT_KEY
def rotate_key(role: str, data: Path, root_key: Path | None) -> None:
    """Make a new key of ROLE, put it on chain by the root key, retire the old one. Restart what uses it.

    The anchor key needs this every 90 days. After a stop give the same command again.
    """
    from onecode.network.client import NodeClient
    from onecode.network.options import local_node_url
    from onecode.network.own_leaf import rotate_key as rotated
    from onecode.proof.leaves import Role

    places, organisation = opened(data)
    require_member(organisation)
    found = Role[role.upper().replace("-", "_")]
    node = NodeClient(local_node_url(organisation))
    key = rotated(places, organisation, node, found, root_key, secrets.token_bytes, now_ms())
    plain = {"role": role, "key": key.public.hex()}
    console().show(
        plain, [*pairs(*plain.items()), "onecode network down, then up: the processes read it at their start"]
    )


@network.command()
@DATA
@click.option("--after", "last", type=click.IntRange(min=1), required=True, help="The highest epoch ever used.")
def replace_epochs(data: Path, last: int) -> None:
    """Make a new file of epoch keys where the old one is lost for good. Then retire the epochs up to --after.

    Records under the lost keys cannot be read until they are published again, which retiring does.
    """
    from onecode.platform.epochs import replace_epochs as replaced
    from onecode.platform.genesis import EPOCH_KEY_FILE

    places, organisation = opened(data)
    require_member(organisation)
    epoch = replaced(places.keys / EPOCH_KEY_FILE, last, secrets.token_bytes)
    lines = [f"epoch {epoch} in {places.keys / EPOCH_KEY_FILE}", "onecode network down, then up, then:"]
    lines.append(f"onecode platform rotate-epoch --retire {last} --config {places.platform / 'platform.json'}")
    console().show({"epoch": epoch}, lines)
