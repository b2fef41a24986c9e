"""`onecode up`: keeps a network running on this machine: two platforms and a node, or validators of four platforms."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.console import OnecodeCommand, console
from onecode.errors import Misconfigured

if TYPE_CHECKING:
    from onecode.network.local import LocalNetwork

WATCH_S = 0.5


@click.command(cls=OnecodeCommand)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("onecode-network"),
    show_default=True,
    help="Directory of the network; what it holds goes on at the next start.",
)
@click.option(
    "--validators",
    type=click.IntRange(min=1),
    help="1, the default: a solo chain with two platforms. 4 or more: so many platforms, each with a CometBFT node.",
)
@click.option(
    "--engine-binary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CometBFT for --validators; else bin/cometbft of this project, or the one on the path.",
)
def up(data: Path, validators: int | None, engine_binary: Path | None) -> None:
    """Run a network until ctrl-C. For one machine: all keys of all organisations lie in its directory; its enclaves and
    its money are SIMULATED."""
    from onecode.network.local import LocalNetwork, default_plan, validators_plan
    from onecode.network.plan import NetworkPlan
    from onecode.network.processes import end_on_signals

    def plan() -> NetworkPlan:
        return default_plan() if validators in (None, 1) else validators_plan(validators or 0, engine_binary)

    end_on_signals()
    with LocalNetwork(data, plan) as network:
        if validators not in (None, len(network.plan.nodes)):
            raise Misconfigured(
                "network.validators_changed",
                f"{data} holds a network of {len(network.plan.nodes)} validators: use another directory",
                field="validators",
            )
        network.start()
        plain = addresses(network)
        console().show(plain, _lines(plain))
        try:
            while True:
                network.require_running()
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return


def addresses(network: LocalNetwork) -> dict[str, Any]:
    """Where everything is; writes each platform's wallet profile."""
    from onecode.code.identity import platform_text, prefix_of
    from onecode.network.wallets import PROFILE_FILE, save_profile

    prefix = prefix_of(network.plan.chain_id)
    platforms = []
    for platform in network.plan.platforms:
        directory = network.places.platform(platform.slug)
        save_profile(directory / PROFILE_FILE, network.profile(platform.slug))
        platforms.append(
            {
                "name": platform.name,
                "id": platform_text(network.identity(platform.slug), prefix),
                "url": platform.url,
                "config": str(directory / "platform.json"),
                "wallet_profile": str(directory / PROFILE_FILE),
            }
        )
    return {
        "ready": True,
        "chain_id": network.plan.chain_id,
        "node": network.plan.node_url,
        "nodes": [
            {"name": node.slug, "operator": network.plan.operator(node).name, "url": node.url, "power": node.power}
            for node in network.plan.nodes
        ],
        "engine": network.plan.engine,
        "platforms": platforms,
        "simulated": ["enclave evidence", "money", "independence of the members"],
        "governance_delay_ms": network.plan.governance_delay_ms,
    }


def _lines(plain: dict[str, Any]) -> list[str]:
    if plain["engine"] == "solo":
        lines = [f"node      {plain['node']}   chain {plain['chain_id']} (solo: one organisation's word)"]
    else:
        lines = [
            f"chain {plain['chain_id']}: {len(plain['nodes'])} validators, but on one machine, with all their keys",
            *(f"node      {node['url']}   of {node['operator']}" for node in plain["nodes"]),
        ]
    for platform in plain["platforms"]:
        lines += [
            f"{platform['name']}   {platform['url']}",
            f"  id              {platform['id']}",
            f"  operator        --config {platform['config']}",
            f"  wallet profile  {platform['wallet_profile']}",
        ]
    return [
        *lines,
        "SIMULATED: enclave evidence, money, and that the members are independent.",
        f"Governance delay: {plain['governance_delay_ms'] / 1000} s (1 h in production).",
        "ctrl-C stops it.",
    ]
