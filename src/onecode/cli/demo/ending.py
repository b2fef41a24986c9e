"""The end: who received what, and the books."""

from __future__ import annotations

from onecode.cli.demo.stage import CURRENCY, NAMES, Stage
from onecode.cli.wallet import money


def play(stage: Stage) -> None:
    """Every platform's own books, each adding up to zero and to what its wallets paid."""
    story, merchant = stage.story, stage.shop.id.hex()
    story.heading("Who received what")
    rows: list[list[str]] = []
    with story.step("The books of each platform add up to zero, and to what was paid"):
        for slug, name in ((slug, NAMES[slug]) for slug in sorted(stage.till_tokens)):
            books = stage.network.operator(slug).books()
            totals = {one["currency"]: one["total_minor"] for one in books["totals"]}
            story.require(set(totals.values()) <= {0}, f"the books of {name} do not add up: {totals}")
            received = sum(
                one["balance_minor"]
                for one in books["balances"]
                if one["kind"] == "merchant" and one["owner"] == merchant
            )
            paid = [one for one in stage.paid if one.slug == slug]
            story.require(received == sum(one.amount_minor for one in paid), f"{name} owes the shop another amount")
            rows.append([name, str(len(paid)), money(received, CURRENCY), money(totals[CURRENCY], CURRENCY)])
    total = sum(one.amount_minor for one in stage.paid)
    rows.append(["all", str(len(stage.paid)), money(total, CURRENCY), ""])
    story.table("Received by the shop (SIMULATED money)", ["platform", "payments", "owed to the shop", "books"], rows)
