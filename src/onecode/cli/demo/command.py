"""`onecode demo`: a story in five acts, with one code, real processes, and the same calls as every other command."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onecode.cli.console import OnecodeCommand, console
from onecode.errors import Misconfigured

if TYPE_CHECKING:
    from onecode.cli.demo.story import Story

PICTURE = "noodle-house.png"


@click.command(cls=OnecodeCommand)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to work in, kept afterwards; without it a new one, of which only the picture stays.",
)
def demo(data: Path | None) -> None:
    """Tell the story of one code in under a minute; exit code 0 only if every step held."""
    from onecode.cli.demo.story import Story
    from onecode.network.processes import end_on_signals

    end_on_signals()
    directory = data or Path(tempfile.mkdtemp(prefix="onecode-demo-"))
    network = directory / "network"
    if network.exists():
        raise Misconfigured(
            "demo.directory", f"{network} exists: the demo begins with an empty directory", field="data"
        )
    kept = data is not None
    try:
        _play(Story(console().as_json), network, directory / PICTURE)
    except Exception:
        kept = True
        click.echo(f"what ran, with its logs, is kept in {network}", err=True)
        raise
    finally:
        if not kept:
            shutil.rmtree(network, ignore_errors=True)


def _play(story: Story, directory: Path, picture: Path) -> None:
    from onecode.cli.demo import bribed, ending, fired, join, one_code, orders
    from onecode.cli.demo.stage import CHAIN_ID, NAMES, SHOP, A, B, Stage, demo_plan
    from onecode.network.local import LocalNetwork
    from onecode.network.merchant import create_merchant

    story.say("Onecode: print one QR once; any payment platform can start accepting it later.")
    story.say(
        "SIMULATED here: the enclave's evidence (software, proves nothing about memory), the money (sandbox),\n"
        "and that the members are independent: it is all one machine and one validator (a solo chain), so the\n"
        "chain is one organisation's word. Governance delay and heartbeat are shortened to seconds.\n"
        "Processes, proofs, seals and signatures are real."
    )
    with LocalNetwork(directory, demo_plan) as network:
        with story.step(f"Start the network: a node with its enclave, {NAMES[A]} and {NAMES[B]}") as step:
            network.start()
            step.note = f"{len(network.children)} processes and the node's own; chain {CHAIN_ID}"
        with story.step(f"{SHOP} makes its own keys") as step:
            shop = create_merchant(network.places.merchant("shop"), CHAIN_ID, secrets.token_bytes)
            step.note = "the merchant id is a hash of them: nobody assigned it"
        stage = Stage(story, network, shop, picture)
        for act in (one_code, join, bribed, fired, orders, ending):
            act.play(stage)
    story.end("All on one machine and a solo chain: with several validators a decision takes a round of votes more.")
