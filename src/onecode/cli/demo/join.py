"""Act 2: a platform joins later, and nothing is printed again."""

from __future__ import annotations

import time

from onecode.cli.demo.stage import GOVERNANCE_DELAY_MS, NAMES, A, C, Stage, Stopwatch
from onecode.network.governance import enough
from onecode.query.messages import MatchMode

BLOCK_MARGIN_MS = 200  # between this clock and the block's time


def play(stage: Stage) -> None:
    """C is admitted by the others, signs the shop, and a wallet of it pays by the same picture."""
    story, network = stage.story, stage.network
    story.act(f"{NAMES[C]} joins later")
    began = time.perf_counter()
    with story.step(f"{NAMES[A]} proposes to admit {NAMES[C]}") as step:
        platform, proposal = network.propose_platform(C, NAMES[C])
        members = [one.slug for one in network.plan.platforms]
        needed = next(number for number in range(1, len(members) + 1) if enough(number, len(members)))
        step.note = f"proposal {proposal.hex()[:16]}…; one approval of the {needed} that are needed"
    who = members[1:needed]
    approve = f"{' and '.join(NAMES[slug] for slug in who)} approve{'s' if len(who) == 1 else ''}"
    with story.step(f"{approve}: {needed} of {len(members)} active platforms, more than 2/3") as step:
        for slug in who:
            network.approve(slug, proposal)
        step.note = f"takes effect after the governance delay: {GOVERNANCE_DELAY_MS / 1000} s here, 1 h in production"
    enclaves = "every enclave gets" if stage.distributed else "the enclave gets"
    with story.step(f"{NAMES[C]} starts its server and key service; {enclaves} its keys (SIMULATED evidence)") as step:
        time.sleep((GOVERNANCE_DELAY_MS + BLOCK_MARGIN_MS) / 1000)
        network.join(platform)
        if stage.distributed:
            step.note = "it runs no node of its own yet: it asks the others', and proves what they say"
    story.measure("join: proposal to keys released", (time.perf_counter() - began) * 1000)
    stage.sign_shop(C, [])
    stage.enroll(C)
    watch = Stopwatch()
    with story.step(f"Wallet C ({NAMES[C]}) scans the same PNG and pays") as step, stage.wallet(C, watch) as wallet:
        found = stage.resolve(wallet, watch, MatchMode.NODE)
        story.require(found.target.link.platform == network.identity(C), "matched another platform")
        step.note = stage.pay(wallet, C, found, 19_00, "tea eggs")
        step.facts = {"sha256": stage.sha256}
    stage.hear_till(C)
    story.say(f"   Nothing was reprinted: the PNG still has SHA-256 {stage.sha256}")
