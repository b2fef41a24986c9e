"""`onecode demo`: a story in five acts, with one code, real processes, and the same calls as every other command."""

from __future__ import annotations

import os
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
SIMULATED = "SIMULATED here: the enclave's evidence (software, proves nothing about memory), the money (sandbox),\n"
SOLO = (
    "and that the members are independent: it is all one machine and one validator (a solo chain), so the\n"
    "chain is one organisation's word. "
)
FOUR_VALIDATORS = (
    "and that the members are independent: four organisations with a validator each, but all on one machine,\n"
    "with all their keys in one directory. "
)
SHORTENED = (
    "Governance delay and heartbeat are shortened to seconds.\nProcesses, proofs, seals and signatures are real."
)


@click.command(cls=OnecodeCommand)
@click.option(
    "--validators",
    type=click.Choice(["1", "4"]),
    default="1",
    show_default=True,
    help="4: four organisations' CometBFT validators, one of which is killed in the middle and comes back.",
)
@click.option(
    "--engine-binary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CometBFT for --validators 4; else bin/cometbft of this project, or the one on the path.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to work in, kept afterwards; without it a new one, of which only the picture stays.",
)
def demo(validators: str, engine_binary: Path | None, data: Path | None) -> None:
    """Tell the story of one code in about a minute; exit code 0 only if every step held."""
    from onecode.cli.demo.story import Story
    from onecode.network.local import engine_directories
    from onecode.network.plan import find_engine
    from onecode.network.processes import end_on_signals

    end_on_signals()
    engine = find_engine(engine_binary, engine_directories()) if validators == "4" else None
    directory = data or Path(tempfile.mkdtemp(prefix="onecode-demo-"))
    network = directory / "network"
    if network.exists():
        raise Misconfigured(
            "demo.directory", f"{network} exists: the demo begins with an empty directory", field="data"
        )
    kept = data is not None
    try:
        _play(Story(console().as_json), network, directory / PICTURE, engine)
    except Exception:
        kept = True
        click.echo(f"what ran, with its logs, is kept in {network}", err=True)
        raise
    finally:
        if not kept:
            shutil.rmtree(network, ignore_errors=True)


def _play(story: Story, directory: Path, picture: Path, engine: Path | None) -> None:
    from onecode.cli.demo import back, bribed, ending, fired, join, killed, one_code, orders
    from onecode.cli.demo.stage import NAMES, SHOP, Stage, demo_plan
    from onecode.network.local import LocalNetwork
    from onecode.network.merchant import create_merchant

    story.say("Onecode: print one QR once; any payment platform can start accepting it later.")
    story.say(SIMULATED + (SOLO if engine is None else FOUR_VALIDATORS) + SHORTENED)
    with LocalNetwork(directory, lambda: demo_plan(engine)) as network:
        plan = network.plan
        names = [NAMES[platform.slug] for platform in plan.platforms]
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        nodes = "a node with its enclave" if engine is None else f"{len(plan.nodes)} validators with their enclaves"
        with story.step(f"Start the network: {nodes}, {listed}") as step:
            network.start()
            own = sum(len(network.node_processes(node.slug)) - 1 for node in plan.nodes)
            step.note = f"{len(network.children)} processes and {own} of the nodes' own; chain {plan.chain_id}"
        with story.step(f"{SHOP} makes its own keys") as step:
            shop = create_merchant(network.places.merchant("shop"), plan.chain_id, secrets.token_bytes)
            step.note = "the merchant id is a hash of them: nobody assigned it"
        stage = Stage(story, network, shop, picture)
        before, after = ([killed], [back]) if stage.distributed else ([], [])
        for act in (one_code, join, bribed, *before, fired, orders, *after, ending):
            act.play(stage)
    if engine is None:
        story.end(
            "All on one machine and a solo chain: with several validators a decision takes a round of votes more."
        )
    else:
        story.end(
            f"{len(plan.nodes)} validators on one machine of {os.cpu_count()} cores: real votes and proofs, no network"
            " between them.\nWhile one is dead, a block whose turn to propose was its own waits a second longer."
        )
