"""Act 4: the shop ends a platform's record by itself."""

from __future__ import annotations

import time

from onecode.cli.demo.stage import CURRENCY, NAMES, A, B, Stage, Stopwatch
from onecode.errors import Declined
from onecode.host.clock import now_ms
from onecode.network.merchant import build_unlink
from onecode.network.merchant_sending import Effect, submit_signed
from onecode.query.messages import MatchMode
from onecode.record.payment import SERVICE_PAY
from onecode.wallet.pay import build_order


def play(stage: Stage) -> None:
    """The shop's key unlinks B; wallet B learns it by proof, and B itself pays no more."""
    story, network = stage.story, stage.network
    story.act(f"The shop fires {NAMES[B]}")
    watch = Stopwatch()
    with stage.wallet(B, watch) as wallet:
        with story.step("Wallet B resolves once more, so that everything it keeps is warm"):
            before = stage.resolve(wallet, watch, MatchMode.NODE)
        scanned = wallet.scan(stage.read_picture())
        with story.step("The shop signs the end of that record with its own key and hands it to the node") as step:
            platform = network.identity(B)
            stage.shop, submitted = submit_signed(
                stage.shop,
                network.node,
                lambda shop: build_unlink(shop, platform, SERVICE_PAY, now_ms()),
                Effect.SERIAL,
            )
            accepted = time.perf_counter()
            story.require(submitted.code == 0, f"the registry refused: {submitted.name}")
            step.note = f"accepted at height {submitted.height}; {NAMES[B]} was not asked"
            if stage.distributed:
                step.note += f"; every running node proves it {stage.settle('unlink'):,.0f} ms later"
        with story.step("Wallet B scans the same PNG and is refused, with a proof") as step:
            refusal = story.refusal(lambda: wallet.resolve(scanned), Declined, "platform.absent")
            refused_ms = (time.perf_counter() - accepted) * 1000
            story.measure("unlink: accepted to B refused", refused_ms)
            step.note = f"{refusal.message} [{refusal.code}], {refused_ms / 1000:.3f} s after the shop's word counted"
            step.facts = {"code": refusal.code, "seconds": round(refused_ms / 1000, 3)}
        with story.step(f"{NAMES[B]} itself refuses a payment of the record that wallet B still has") as step:
            order = build_order(before, 10_00, CURRENCY)
            refusal = story.refusal(lambda: wallet.pay(before.target, order), Declined, "payment.link")
            step.note = f"{refusal.message} [{refusal.code}]"
            step.facts = {"code": refusal.code}
    watch = Stopwatch()
    with story.step("Wallet A pays as before, by the same PNG") as step, stage.wallet(A, watch) as wallet:
        found = stage.resolve(wallet, watch, MatchMode.NODE)
        step.note = stage.pay(wallet, A, found, 28_00, "beef noodles again")
