"""`onecode up`: keeps a network of two platforms running on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.console import OnecodeCommand, console

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
def up(data: Path) -> None:
    """Run a node and two platforms until ctrl-C. For one machine: its enclave and its money are SIMULATED."""
    from onecode.network.local import LocalNetwork
    from onecode.network.processes import end_on_signals

    end_on_signals()
    with LocalNetwork(data) as network:
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
        "platforms": platforms,
        "simulated": ["enclave evidence", "money", "independence of the members"],
        "governance_delay_ms": network.plan.governance_delay_ms,
    }


def _lines(plain: dict[str, Any]) -> list[str]:
    lines = [f"node      {plain['node']}   chain {plain['chain_id']} (solo: one organisation's word)"]
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
