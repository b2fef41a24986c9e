"""`onecode wallet`: a payer's wallet in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import code_plain, foreign_plain, read_file
from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.cli.trust import evidence, trust
from onecode.code.currency import find_currency, format_amount, parse_amount_minor
from onecode.errors import Malformed

if TYPE_CHECKING:
    from onecode.record.receipt import Order, Receipt
    from onecode.wallet.resolve import Resolution
    from onecode.wallet.sync import SyncWallet

_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path)
_mode = click.option(
    "--match", type=click.Choice(["node", "wallet"]), default="node", show_default=True, help="Who picks the record."
)


@click.group(cls=OnecodeGroup)
def wallet() -> None:
    """Scan, prove who gets the money, pay."""


wallet.add_command(trust)
wallet.add_command(evidence)


@wallet.command()
@click.argument("directory", type=_DIRECTORY)
@click.option("--profile", type=_FILE, required=True, help="Profile file of the platform, as `onecode up` writes.")
def enroll(directory: Path, profile: Path) -> None:
    """Make a wallet in DIRECTORY and enrol it with its platform."""
    from onecode.network.wallets import enroll_wallet, load_profile

    loaded = load_profile(profile)
    account = enroll_wallet(directory, loaded)
    console().show(
        {"account": account.hex(), "platform": loaded.platform_name, "directory": str(directory)},
        [f"enrolled with {loaded.platform_name}: account {account.hex()} (sandbox: the money is simulated)"],
    )


@wallet.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("picture", type=_FILE)
def scan(directory: Path, picture: Path) -> None:
    """Read the code in PICTURE as this wallet does, without asking anyone."""
    from onecode.code.identity import prefix_of
    from onecode.code.reading import Code
    from onecode.network.wallets import open_wallet, profile_of

    prefix = prefix_of(profile_of(directory).chain_id)
    with open_wallet(directory) as opened:
        found = opened.scan(read_file(picture))
    plain: dict[str, Any] = {"payload": found.text}
    plain |= code_plain(found.code, prefix) if isinstance(found.code, Code) else foreign_plain(found.code)
    console().show(plain, pairs(*plain.items()))


@wallet.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("picture", type=_FILE)
@_mode
def resolve(directory: Path, picture: Path, match: str) -> None:
    """Prove who is paid by the code in PICTURE, without paying."""
    from onecode.network.wallets import open_wallet

    with open_wallet(directory) as opened:
        found = _resolve(opened, picture, match)[1]
        plain = resolution_plain(found) | {"nodes_passed_over": failures_plain(opened)}
    lines = pairs(*((name, value) for name, value in plain.items() if not isinstance(value, list)))
    lines += [f"the code differs: {d['code']}: {d['printed']!r} is {d['recorded']!r}" for d in plain["differences"]]
    lines += [f"passed over {f['node']}: {f['code']}" for f in plain["nodes_passed_over"]]
    console().show(plain, lines)


@wallet.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("picture", type=_FILE)
@click.option("--amount", help="What to pay, e.g. 12.50; left out where the code sets it.")
@click.option("--currency", help="Where the merchant takes several, e.g. EUR.")
@click.option("--tip", default="0", show_default=True, help="Tip in the same currency.")
@click.option("--note", help="A note to the merchant, up to 140 characters.")
@click.option("--key", help="Idempotency key of an earlier try of this very payment.")
@_mode
def pay(
    directory: Path,
    picture: Path,
    amount: str | None,
    currency: str | None,
    tip: str,
    note: str | None,
    key: str | None,
    match: str,
) -> None:
    """Prove who is paid by the code in PICTURE, and pay."""
    from onecode.network.wallets import open_wallet
    from onecode.wallet.pay import build_order

    with open_wallet(directory) as opened:
        scanned, found = _resolve(opened, picture, match)
        chosen = _currency(found, currency)
        exponent = find_currency(chosen).exponent
        order = build_order(
            found,
            None if amount is None else parse_amount_minor(amount, exponent),
            chosen,
            tip_minor=parse_amount_minor(tip, exponent, field="tip"),
            note=note,
            payload=scanned,
        )
        paid = opened.pay(found.target, order, idempotency_key=key)
    plain = receipt_plain(paid.receipt) | {"idempotency_key": paid.idempotency_key}
    console().show(plain, pairs(*plain.items()))


@wallet.command()
@click.argument("directory", type=_DIRECTORY)
def history(directory: Path) -> None:
    """List this wallet's payments."""
    from onecode.network.wallets import profile_of
    from onecode.record.receipt import PaymentRequest
    from onecode.schema import parse
    from onecode.wallet.pay import parse_receipt
    from onecode.wallet.store import WalletStore

    profile_of(directory)
    rows = []
    for payment in WalletStore(directory).load_payments():
        row: dict[str, Any] = {"idempotency_key": payment.idempotency_key}
        if payment.receipt is not None:
            row |= receipt_plain(_receipt(parse_receipt(payment.receipt).body))
        else:
            order = parse(PaymentRequest, payment.request).order
            row |= {"state": "no receipt: may have been paid", "total": money(order.amount_minor, order.currency)}
        rows.append(row)
    lines = [f"{row['total']:>14}  {row.get('name', '?')}  {row['state']}  {row['idempotency_key']}" for row in rows]
    console().show({"payments": rows}, lines or ["no payments yet"])


def _receipt(body: bytes) -> Receipt:
    from onecode.record.receipt import Receipt
    from onecode.schema import parse

    return parse(Receipt, body)


def _resolve(opened: SyncWallet, picture: Path, match: str) -> tuple[str, Resolution]:
    from onecode.query.messages import MatchMode

    scanned = opened.scan(read_file(picture))
    return scanned.text, opened.resolve(scanned, MatchMode[match.upper()])


def _currency(found: Resolution, given: str | None) -> str:
    accounts = list(dict.fromkeys(account.currency for account in found.terms.accounts))
    if found.order is not None:
        return found.order.currency.alpha
    if given is None and len(accounts) > 1:
        raise Malformed("cli.currency", f"the merchant takes {', '.join(accounts)}: name one", field="currency")
    return given or accounts[0]


def money(amount_minor: int, currency: str) -> str:
    """An amount with its currency, e.g. "12.50 EUR"."""
    return f"{format_amount(amount_minor, find_currency(currency).exponent)} {currency}"


def resolution_plain(found: Resolution) -> dict[str, Any]:
    """Who will be paid, as proven."""
    record, link, header = found.target.record, found.target.link, found.target.state.header
    return {
        "name": record.display_name,
        "legal_name": record.legal_name,
        "city": record.city,
        "country": record.country,
        "mcc": record.mcc,
        "platform": found.target.state.platforms[link.platform].name,
        "record_version": link.version,
        "height": header.header.height,
        "header_age_ms": found.header_age_ms,
        "currencies": list(dict.fromkeys(account.currency for account in found.terms.accounts)),
        "amount": money(found.order.amount_minor, found.order.currency.alpha) if found.order else None,
        "differences": [
            {"code": one.code, "printed": one.printed, "recorded": one.recorded} for one in found.differences
        ],
    }


def failures_plain(opened: SyncWallet) -> list[dict[str, str]]:
    """Nodes that were passed over, and why."""
    return [{"node": one.node_url, "code": one.error.code, "message": one.error.message} for one in opened.failures]


def receipt_plain(receipt: Receipt) -> dict[str, Any]:
    """A receipt for output."""
    order: Order = receipt.order
    return {
        "payment_id": receipt.payment_id,
        "name": receipt.display_name,
        "state": receipt.state.name.lower(),
        "amount": money(order.amount_minor, order.currency),
        "tip": money(order.tip_minor, order.currency),
        "fee": money(receipt.fee_minor, order.currency),
        "total": money(receipt.total_minor, order.currency),
        "reference": order.reference,
        "store_label": order.store_label,
        "time_ms": receipt.time_ms,
    }
