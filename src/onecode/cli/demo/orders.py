"""Act 5: a dynamic code is paid once, and an old label of another scheme is paid unprinted."""

from __future__ import annotations

import secrets

from onecode.cli.demo.stage import CITY, COUNTRY, CURRENCY, MCC, NAMES, SHOP, A, Paid, Stage, Stopwatch
from onecode.cli.wallet import money
from onecode.code.currency import find_currency
from onecode.code.emv import with_crc
from onecode.code.image import png_bytes
from onecode.code.label import OrderTerms, StaticLabel, build_dynamic
from onecode.code.tlv import DataObject, join_objects
from onecode.errors import Declined
from onecode.host.clock import now_ms
from onecode.network.agreement import alias_body
from onecode.network.aliases import choose_alias, fetch_aliases, hand_over_alias
from onecode.network.merchant_keys import build_orderkeys, make_order_key
from onecode.network.merchant_sending import Effect, submit_signed
from onecode.wallet.pay import build_order

AMOUNT_MINOR, REFERENCE = 23_00, "TABLE-7"
QUARTER_HOUR_MS = 15 * 60_000
SCHEME = "A000000999010111"  # made up
OLD_ACCOUNT = "0066812345678"


def play(stage: Stage) -> None:
    """The till signs an order; it is paid once. The label that hung there before is bound, and paid."""
    stage.story.act("An order is paid once; an old label is paid unprinted")
    _pay_an_order_once(stage)
    _pay_an_old_label(stage)


def _pay_an_order_once(stage: Stage) -> None:
    story, network = stage.story, stage.network
    with story.step("The shop lets its till sign orders: one key, by a transaction of its own") as step:
        key = make_order_key(stage.shop, secrets.token_bytes)
        stage.shop, submitted = submit_signed(
            stage.shop, network.node, lambda shop: build_orderkeys(shop, (key.public,), now_ms()), Effect.NONE
        )
        story.require(submitted.code == 0, f"the registry refused: {submitted.name}")
        label = StaticLabel(
            merchant_id=stage.shop.id,
            prefix=stage.shop.prefix,
            mcc=MCC,
            currency=find_currency(CURRENCY).numeric,
            country=COUNTRY,
            name=SHOP,
            city=CITY,
        )
        terms = OrderTerms(AMOUNT_MINOR, REFERENCE, now_ms() + QUARTER_HOUR_MS)
        picture = png_bytes(build_dynamic(label, terms, key.sign_bytes, stage.shop.chain_id))
        step.note = f"a code for {money(AMOUNT_MINOR, CURRENCY)}, reference {REFERENCE}, good for 15 minutes"
    with stage.wallet(A, Stopwatch()) as wallet:
        with story.step("Wallet A scans the till's code and pays the order that it shows") as step:
            scanned = wallet.scan(picture)
            found = wallet.resolve(scanned)
            paid = wallet.pay(found.target, build_order(found, payload=scanned.text)).receipt
            stage.paid.append(Paid(A, paid.order.amount_minor, paid.payment_id))
            story.require(paid.order.reference == REFERENCE, "the receipt is for another order")
            step.note = f"{money(paid.total_minor, CURRENCY)} for {paid.order.reference}; nothing was typed in"
        with story.step("The same code again: refused") as step:
            again = wallet.resolve(wallet.scan(picture))
            order = build_order(again, payload=scanned.text)
            refusal = story.refusal(lambda: wallet.pay(again.target, order), Declined, "payment.reference_used")
            step.note = f"{refusal.message} [{refusal.code}]"
            step.facts = {"code": refusal.code}


def _pay_an_old_label(stage: Stage) -> None:
    story, network = stage.story, stage.network
    label = _old_label()
    with story.step(f"By vote of the platforms, {NAMES[A]} speaks for the labels of an older scheme (made up)") as step:
        network.assign_scheme(SCHEME, A, ("01",))
        step.note = f"scheme {SCHEME}; governance delay 1.5 s here, 1 h in production"
    with story.step(f"The shop consents, and {NAMES[A]} binds the old label on its counter to it") as step:
        alias = choose_alias(fetch_aliases(network.node, label, stage.shop.prefix))
        handed = hand_over_alias(stage.shop, alias, now_ms())
        bound = network.operator(A).bind_alias(*alias_body(dict(handed)))
        story.require(bound["state"] == "done", f"the alias is {bound['state']}")
        step.note = "an alias, proven on chain; the label itself stays as it is"
    with (
        story.step("Wallet A scans the old label, which has no id of ours on it, and pays") as step,
        stage.wallet(A, Stopwatch()) as wallet,
    ):
        found = wallet.resolve(wallet.scan(png_bytes(label)))
        story.require(found.target.state.merchant == stage.shop.id, "resolved another merchant")
        step.note = stage.pay(wallet, A, found, 9_00, "green tea")
        step.facts = {"alias": SCHEME}


def _old_label() -> str:
    """A label as another scheme prints it: its own account object, no city, no category."""
    account = join_objects([DataObject("00", SCHEME), DataObject("01", OLD_ACCOUNT)])
    return with_crc(f"000201010211{DataObject('29', account)}53031565802CN5907NOODLES")
