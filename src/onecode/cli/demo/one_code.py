"""Act 1: one picture, two platforms, two wallets."""

from __future__ import annotations

import hashlib

from onecode.cli.demo.stage import CITY, COUNTRY, CURRENCY, MCC, NAMES, SHOP, A, B, Stage, Stopwatch
from onecode.code.currency import find_currency
from onecode.code.image import png_bytes, terminal_text
from onecode.code.label import StaticLabel, build_static
from onecode.query.messages import MatchMode


def play(stage: Stage) -> None:
    """The shop prints once; A and B sign it; a wallet of each pays by the same picture."""
    story, network = stage.story, stage.network
    story.act("One noodle shop, one PNG")
    _print_code(stage)
    stage.sign_shop(A, [network.identity(B).hex()])
    stage.sign_shop(B, [])
    for slug in (A, B):
        stage.enroll(slug)
    watch = Stopwatch()
    with (
        story.step(f"Wallet A ({NAMES[A]}) scans the PNG; the node matches; it proves and pays") as step,
        stage.wallet(A, watch) as wallet,
    ):
        found = stage.resolve(wallet, watch, MatchMode.NODE)
        story.require(found.target.link.platform == network.identity(A), "matched another platform")
        step.note = stage.pay(wallet, A, found, 28_00, "beef noodles")
    watch = Stopwatch()
    with (
        story.step(f"Wallet B ({NAMES[B]}) scans the same PNG, gets what it may read, matches by itself, pays") as step,
        stage.wallet(B, watch, partners=(network.identity(A),)) as wallet,
    ):
        found = stage.resolve(wallet, watch, MatchMode.WALLET)
        read = [NAMES[B], *(found.target.state.platforms[other.link.platform].name for other in found.others)]
        story.require(found.target.link.platform == network.identity(B), "matched another platform")
        story.require(len(found.others) == 1, "the wallet did not get the record that a partner shares with it")
        step.note = f"candidates {' and '.join(read)}; its own wins. {stage.pay(wallet, B, found, 36_50, 'lamb')}"
        step.facts = {"candidates": read}
    for slug in (A, B):
        stage.hear_till(slug)


def _print_code(stage: Stage) -> None:
    story, shop = stage.story, stage.shop
    with story.step(f"{SHOP} (made up) prints one code, and never again") as step:
        payload = build_static(
            StaticLabel(
                merchant_id=shop.id,
                prefix=shop.prefix,
                mcc=MCC,
                currency=find_currency(CURRENCY).numeric,
                country=COUNTRY,
                name=SHOP,
                city=CITY,
            )
        )
        picture = png_bytes(payload)
        stage.picture.write_bytes(picture)
        stage.sha256 = hashlib.sha256(picture).hexdigest()
        step.note = f"{stage.picture}\nmerchant {shop.text}\nSHA-256 {stage.sha256}"
        step.facts = {"picture": str(stage.picture), "sha256": stage.sha256, "merchant": shop.text}
    story.show(terminal_text(payload))
