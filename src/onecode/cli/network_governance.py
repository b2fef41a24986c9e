"""`onecode network`: proposals, approvals, validators. A decision needs more than 2/3 of the active platforms."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import read_file
from onecode.cli.console import OnecodeGroup, console
from onecode.cli.network import DATA, FILE, network, opened, require_member
from onecode.cli.network_words import SIMULATED_BUILD
from onecode.errors import Declined, Malformed
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from onecode.network.client import NodeClient
    from onecode.network.organisation import Organisation, OrganisationPlaces
    from onecode.network.proposals import Found, Proposals
    from onecode.proof.governance import Proposal

Build = Callable[["Proposals"], "Proposal"]


def _node(organisation: Organisation) -> NodeClient:
    from onecode.network.client import NodeClient
    from onecode.network.options import local_node_url

    return NodeClient(local_node_url(organisation))


def _propose(data: Path, build: Build) -> None:
    """Propose what `build` makes of the chain's state; this is the proposer's approval too."""
    from onecode.host.keyring import load_key
    from onecode.network.governance import Governor, submit_proposal
    from onecode.network.proposals import Proposals, fetch_proposal
    from onecode.proof.leaves import Role

    places, organisation = opened(data)
    require_member(organisation)
    node, time_ms = _node(organisation), now_ms()
    proposal = build(Proposals(node, time_ms, secrets.token_bytes(16)))
    governor = Governor(organisation.platform, load_key(places.role_key(Role.GOVERNANCE)))
    identity = submit_proposal(organisation.chain_id, node, governor, proposal, time_ms)
    _show(organisation, fetch_proposal(node, organisation.chain_id, identity), node)


def _show(organisation: Organisation, found: Found, node: NodeClient, more: str = "") -> None:
    """A proposal in words, and what it waits for."""
    lines = _lines(found, node)
    if not found.leaf.executed:
        lines.append(f"more approvals are needed: onecode network approve {found.identity.hex()} --data …")
    elif found.proposal.kind.name in ("VALIDATOR_SET", "PLATFORM_ADMIT", "PLATFORM_RESTORE", "OBSERVER_ADMIT"):
        lines.append("decided; what widens takes effect after the network's governance delay")
    console().show(_plain(found), [*lines, *([more] if more else [])])


def _lines(found: Found, node: NodeClient) -> list[str]:
    from onecode.network.proposals import load_replaced, platform_names, proposal_lines

    return proposal_lines(found, platform_names(node), load_replaced(node, found.proposal))


def _plain(found: Found) -> dict[str, Any]:
    from onecode.schema import to_plain

    return {
        "proposal": found.identity.hex(),
        "state": found.state,
        "approvals": [one.platform.hex() for one in found.leaf.approvals],
        "expires_ms": found.leaf.expires_ms,
        "says": to_plain(found.proposal),
    }


def _hex(text: str, size: int, field: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size:
        raise Malformed("cli.hex", f"{field} is {size} bytes in hex", field=field)
    return raw


def _platform(text: str, data: Path) -> bytes:
    """A platform's id, as text or hex."""
    from onecode.code.identity import parse_platform_text, prefix_of

    if len(text) == 40:
        return _hex(text, 20, "platform")
    return parse_platform_text(text, prefix_of(opened(data)[1].chain_id))


@network.command()
@click.argument("file", type=FILE)
@DATA
@click.option("--power", type=click.IntRange(min=1), help="Voting power; else that of the first validator of now.")
def add_validator(file: Path, data: Path, power: int | None) -> None:
    """Propose the validator of FILE (a node request or a join request) beside those of now."""
    from onecode.network.armour import parse_armoured
    from onecode.network.ceremony import JoinRequest, NodeRequest, verify_join, verify_node
    from onecode.schema import Message

    request: Message = parse_armoured(read_file(file), NodeRequest, JoinRequest)
    chain_id = opened(data)[1].chain_id
    if isinstance(request, JoinRequest):
        found = verify_join(request, chain_id).node
    elif isinstance(request, NodeRequest):
        found = verify_node(request, chain_id)
    _propose(data, lambda proposals: proposals.add_validator(found, power))


@network.command()
@click.argument("key")
@DATA
def remove_validator(key: str, data: Path) -> None:
    """Propose the validators of now without the one with the public KEY (hex). Destroy its private key afterwards."""
    _propose(data, lambda proposals: proposals.remove_validator(_hex(key, 32, "key")))


@network.group(cls=OnecodeGroup)
def propose() -> None:
    """Propose something else than a validator."""


@propose.command()
@click.argument("file", type=FILE)
@DATA
def admit(file: Path, data: Path) -> None:
    """Admit the organisation of the join request FILE as a platform. Its validator is a proposal of its own."""
    from onecode.network.armour import parse_armoured
    from onecode.network.ceremony import JoinRequest, verify_join

    join = verify_join(parse_armoured(read_file(file), JoinRequest), opened(data)[1].chain_id)
    _propose(data, lambda proposals: proposals.admit(join.admission))


@propose.command()
@click.argument("platform")
@DATA
def suspend(platform: str, data: Path) -> None:
    """Suspend PLATFORM (id as text or hex), at once."""
    found = _platform(platform, data)
    _propose(data, lambda proposals: proposals.suspend(found))


@propose.command()
@click.argument("platform")
@DATA
def restore(platform: str, data: Path) -> None:
    """Make PLATFORM (id as text or hex) active again."""
    found = _platform(platform, data)
    _propose(data, lambda proposals: proposals.restore(found))


@propose.command()
@click.argument("node_id")
@click.argument("key", required=False)
@DATA
@click.option("--remove", is_flag=True, help="Remove the observer, at once.")
def observer(node_id: str, key: str | None, data: Path, remove: bool) -> None:
    """Admit the observer node NODE_ID that reads with KEY, or remove it."""
    if remove == (key is not None):
        raise Malformed("cli.observer", "give the observer's key, or --remove", field="key")
    identity = _hex(node_id, 20, "node_id").hex()  # as engines write it
    raw = None if key is None else _hex(key, 32, "key")
    _propose(data, lambda proposals: proposals.observer(identity, raw))


@propose.command()
@click.argument("measurement")
@DATA
@click.option("--kind", default=SIMULATED_BUILD, show_default=True, help="Kind of its evidence.")
@click.option("--remove", is_flag=True, help="Allow it no more, at once.")
def build(measurement: str, data: Path, kind: str, remove: bool) -> None:
    """Allow enclaves with this MEASUREMENT (hex) beside those that are allowed now; before an upgrade."""
    try:
        raw = bytes.fromhex(measurement)
    except ValueError:
        raw = b""
    if not 32 <= len(raw) <= 64:
        raise Malformed("cli.measurement", "a measurement is 32 to 64 bytes in hex", field="measurement")
    _propose(data, lambda proposals: proposals.build(kind, raw, remove=remove))


@propose.command()
@click.argument("version", type=click.IntRange(min=1))
@click.argument("height", type=click.IntRange(min=1))
@DATA
def rules(version: int, height: int, data: Path) -> None:
    """Follow rule VERSION from HEIGHT on. A node that does not know it halts there: install it everywhere before."""
    _propose(data, lambda proposals: proposals.rules(version, height))


@network.command()
@click.argument("proposal")
@DATA
@click.option("--yes", is_flag=True, help="Do not ask.")
def approve(proposal: str, data: Path, yes: bool) -> None:
    """Show PROPOSAL (its id) and approve it by this organisation's governance key."""
    from onecode.host.keyring import load_key
    from onecode.network.governance import Governor, approve_proposal
    from onecode.network.proposals import fetch_proposal
    from onecode.proof.leaves import Role

    places, organisation = opened(data)
    require_member(organisation)
    node, identity = _node(organisation), _hex(proposal, 32, "proposal")
    found = fetch_proposal(node, organisation.chain_id, identity)
    if not yes:
        click.echo("\n".join(_lines(found, node)), err=True)
        if not click.confirm("approve?", err=True):
            raise Declined("cli.not_approved", "nothing was signed")
    governor = Governor(organisation.platform, load_key(places.role_key(Role.GOVERNANCE)))
    approve_proposal(organisation.chain_id, node, governor, identity, now_ms())
    _show(organisation, fetch_proposal(node, organisation.chain_id, identity), node)


@network.command()
@click.argument("proposal", required=False)
@DATA
def proposals(proposal: str | None, data: Path) -> None:
    """List the proposals of the last 100,000 blocks, or show the one with the id PROPOSAL."""
    from onecode.network.proposals import fetch_proposal, list_proposals

    places, organisation = opened(data)
    node = _node(organisation)
    if proposal is not None:
        found = [fetch_proposal(node, organisation.chain_id, _hex(proposal, 32, "proposal"))]
    else:
        found = list_proposals(node, organisation.chain_id, _reader(places, organisation))
    lines = [line for one in found for line in _lines(one, node)]
    console().show({"proposals": [_plain(one) for one in found]}, lines or ["no proposals"])


def _reader(places: OrganisationPlaces, organisation: Organisation) -> Callable[[str, str], dict[str, str]]:
    """Headers that prove a member, for a method and a path."""
    from onecode.host.keyring import load_key
    from onecode.proof.leaves import Role
    from onecode.query.requests import MEMBER_HEADER, member_header

    require_member(organisation)
    key = load_key(places.role_key(Role.TRANSACTION))

    def header(method: str, path: str) -> dict[str, str]:
        signed = member_header(organisation.chain_id, organisation.platform, key, method, path, b"", now_ms())
        return {MEMBER_HEADER: signed}

    return header
