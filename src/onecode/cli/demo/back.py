"""Four validators alone: the one that was killed comes back, and its node serves what was decided without it."""

from __future__ import annotations

import time

from onecode.cli.demo.stage import NAMES, A, B, Stage, Stopwatch
from onecode.proof.header import header_hash
from onecode.query.messages import HeaderView, MatchMode
from onecode.schema import parse


def play(stage: Stage) -> None:
    """B's node replays what it missed; a wallet that asks this node alone pays."""
    story, network = stage.story, stage.network
    story.act(f"{NAMES[B]}'s validator comes back")
    began = time.perf_counter()
    with story.step(f"{NAMES[B]}'s node starts again and replays the blocks that it missed") as step:
        height = int(network.node.status()["height"])
        network.start_node(B)
        network.wait_height(height - 1)
        story.measure("back: start to caught up", (time.perf_counter() - began) * 1000)
        step.note = f"it proves the state at height {height}; what it had signed before, it remembers"
    with story.step("All four show the same header of its height, and so the same app hash") as step:
        height = int(network.client(B).status()["height"])  # its newest: those that it went by it fetches later
        network.wait_height(height - 1)
        clients = [network.client(node.slug) for node in network.plan.nodes]
        headers = [parse(HeaderView, client.header(height), path="header").header.header for client in clients]
        hashes = {header_hash(header) for header in headers}
        story.require(len(hashes) == 1, "the nodes show different headers of one height")
        step.note = f"app hash {headers[0].app_hash.hex()[:16]}… at height {height}"
        step.facts = {"height": height, "app_hash": headers[0].app_hash.hex()}
    with story.step("Its enclave, new keys and all, is attested and gets every platform's keys (SIMULATED evidence)"):
        for platform in network.plan.platforms:
            network.wait_leased(platform)
        stage.settle("attestation")
    watch, address = Stopwatch(), network.plan.node(B).url
    with (
        story.step("Wallet A asks that node alone, and pays") as step,
        stage.wallet(A, watch, node_urls=(address,)) as wallet,
    ):
        found = stage.resolve(wallet, watch, MatchMode.NODE)
        step.note = stage.pay(wallet, A, found, 15_00, "sesame cakes")
