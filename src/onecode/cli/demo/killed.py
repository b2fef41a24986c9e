"""Four validators alone: one is killed in the middle of the story, and the story goes on."""

from __future__ import annotations

from onecode.cli.demo.stage import NAMES, A, B, Stage, Stopwatch
from onecode.query.messages import MatchMode


def play(stage: Stage) -> None:
    """kill -9 of B's whole node: its wallets ask the next one, its server too, and three of four decide."""
    story, network = stage.story, stage.network
    story.act(f"{NAMES[B]}'s validator is killed")
    with story.step(f"kill -9 of every process of {NAMES[B]}'s node") as step:
        processes = network.node_processes(B)
        network.kill_node(B)
        left = [network.plan.operator(node).name for node in network.running_nodes()]
        step.note = f"gone: {', '.join(processes)}\nleft: the validators of {', '.join(left)}"
        step.facts = {"killed": B, "processes": sorted(processes), "validators": len(left)}
    watch = Stopwatch()
    with story.step(f"Wallet B ({NAMES[B]}), whose own node that was, scans the same PNG and pays") as step:
        with stage.wallet(B, watch) as wallet:
            found = stage.resolve(wallet, watch, MatchMode.NODE)
            passed_over = {failure.node_url for failure in wallet.failures}
            story.require(passed_over == {network.plan.node(B).url}, "the dead node was not passed over")
            step.note = stage.pay(wallet, B, found, 22_00, "dumplings")
        step.note = f"asked the next node, another organisation's, and proved its answer. {step.note}"
        step.facts = {"passed_over": sorted(passed_over)}
    with story.step(f"{NAMES[A]} publishes a new version: three validators of four decide") as step:
        with story.timed("publish with one of four dead"):
            published = network.operator(A).publish(stage.shop.id.hex())
        story.require(published["state"] == "live", f"the record is {published['state']}")
        stage.settle("publish")
        step.note = f"record version {published['version']} is proven on chain"
        step.facts = {"platform": NAMES[A], "version": published["version"]}
    watch = Stopwatch()
    with story.step("Wallet A pays by the new version") as step, stage.wallet(A, watch) as wallet:
        found = stage.resolve(wallet, watch, MatchMode.NODE)
        story.require(found.target.link.version == published["version"], "the wallet got another version")
        step.note = stage.pay(wallet, A, found, 8_00, "pickles")
