"""`onecode merchant`: order keys and orders, a new controller key, recovery."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import write_file
from onecode.cli.console import console, pairs
from onecode.cli.merchant import merchant
from onecode.errors import Declined, Misconfigured
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from onecode.network.client import Submitted

_KEYS = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_NODE = click.option("--node", required=True, help="Address of any node, e.g. http://127.0.0.1:8600.")
_RECOVERY = click.option("--recovery", type=_FILE, help="File with the recovery key, instead of DIRECTORY's own.")
MINUTE_MS = 60_000


def _require_done(submitted: Submitted) -> None:
    if submitted.code:
        message = f"the registry refused: {submitted.name} (result {submitted.code})"
        raise Declined("merchant.transaction_failed", message)


@merchant.command()
@click.argument("directory", type=_KEYS)
@_NODE
def orderkeys(directory: Path, node: str) -> None:
    """Make a key for the till, and let it sign orders of this merchant."""
    from onecode.network.client import NodeClient
    from onecode.network.merchant import load_merchant
    from onecode.network.merchant_keys import build_orderkeys, make_order_key
    from onecode.network.merchant_sending import Effect, submit_signed

    found = load_merchant(directory)
    key = make_order_key(found, secrets.token_bytes)
    _, submitted = submit_signed(
        found, NodeClient(node), lambda merchant: build_orderkeys(merchant, (key.public,), now_ms()), Effect.NONE
    )
    _require_done(submitted)
    console().show(
        {"order_key": key.public.hex(), "height": submitted.height},
        [f"orders are signed by {key.public.hex()} from height {submitted.height} on"],
    )


@merchant.command()
@click.argument("directory", type=_KEYS)
@click.option("--amount", required=True, help="Amount in the currency's own form, e.g. 12.50.")
@click.option("--reference", required=True, help="Reference of this one order, up to 25 characters.")
@click.option("--name", required=True, help="Shop name, up to 25 ASCII characters.")
@click.option("--city", required=True, help="City, up to 15 ASCII characters.")
@click.option("--mcc", required=True, help="Merchant category code, 4 digits (ISO 18245).")
@click.option("--currency", required=True, help="Currency, e.g. EUR or 978 (ISO 4217).")
@click.option("--country", required=True, help="Country, 2 letters (ISO 3166-1).")
@click.option("--minutes", type=click.IntRange(1, 60), default=15, show_default=True, help="How long it can be paid.")
@click.option("--out", type=_FILE, help="PNG file to write; without it the code is shown on the terminal.")
def order(
    directory: Path, amount: str, reference: str, currency: str, minutes: int, out: Path | None, **words: Any
) -> None:
    """Sign a dynamic code: an order to be paid once, by the till's key of `onecode merchant orderkeys`."""
    from onecode.code.currency import find_currency, parse_amount_minor
    from onecode.code.image import png_bytes, terminal_text
    from onecode.code.label import OrderTerms, StaticLabel, build_dynamic
    from onecode.host.keyring import load_key
    from onecode.network.merchant import load_merchant
    from onecode.network.merchant_keys import ORDER_FILE

    found, unit = load_merchant(directory), find_currency(currency)
    if not (directory / ORDER_FILE).exists():
        raise Misconfigured("merchant.no_order_key", "make a key first: onecode merchant orderkeys", field="directory")
    label = StaticLabel(merchant_id=found.id, prefix=found.prefix, currency=unit.numeric, **words)
    terms = OrderTerms(parse_amount_minor(amount, unit.exponent), reference, now_ms() + minutes * MINUTE_MS)
    payload = build_dynamic(label, terms, load_key(directory / ORDER_FILE).sign_bytes, found.chain_id)
    plain = {"payload": payload, "expiry_ms": terms.expiry_ms}
    if out is not None:
        write_file(out, png_bytes(payload))
        console().show({**plain, "file": str(out)}, pairs(("payload", payload), ("file", out)))
        return
    console().show(plain, [terminal_text(payload), payload])


@merchant.command()
@click.argument("directory", type=_KEYS)
@_NODE
def rotate(directory: Path, node: str) -> None:
    """Replace the controller key at once. Consents that were given and not used end."""
    from onecode.network.client import NodeClient
    from onecode.network.merchant import load_merchant
    from onecode.network.merchant_keys import build_rotate, make_next_key
    from onecode.network.merchant_sending import Effect, settle_pending, submit_signed

    found = settle_pending(load_merchant(directory), NodeClient(node))
    following = make_next_key(found, secrets.token_bytes)
    _, submitted = submit_signed(
        found, NodeClient(node), lambda merchant: build_rotate(merchant, following, now_ms()), Effect.ROTATE
    )
    _require_done(submitted)
    console().show(
        {"controller": following.public.hex(), "height": submitted.height},
        [f"the controller is {following.public.hex()} from height {submitted.height} on"],
    )


@merchant.command()
@click.argument("directory", type=_KEYS)
@_NODE
@_RECOVERY
@click.option("--cancel", is_flag=True, help="End a recovery that is pending.")
def recover(directory: Path, node: str, recovery: Path | None, cancel: bool) -> None:
    """Take the merchant back by its recovery key: a new controller after the network's delay, 24 h by default.

    Until then the old controller signs nothing. When the delay is over, `onecode merchant recovered` takes the new key.
    """
    from onecode.network.client import NodeClient
    from onecode.network.merchant import load_merchant
    from onecode.network.merchant_keys import (
        NEXT_FILE,
        build_recover,
        build_recover_cancel,
        load_recovery,
        make_next_key,
    )
    from onecode.network.merchant_sending import settle_pending

    found = settle_pending(load_merchant(directory), NodeClient(node))
    key = load_recovery(found, recovery)
    if cancel:
        submitted = NodeClient(node).submit(build_recover_cancel(found, key, now_ms()))
        _require_done(submitted)
        (directory / NEXT_FILE).unlink(missing_ok=True)
        console().show({"cancelled": True, "height": submitted.height}, ["the recovery that was pending is ended"])
        return
    following = make_next_key(found, secrets.token_bytes)
    submitted = NodeClient(node).submit(build_recover(found, key, following, now_ms()))
    _require_done(submitted)
    console().show(
        {"controller": following.public.hex(), "height": submitted.height},
        [f"{following.public.hex()} is to be the controller after the network's delay; height {submitted.height}"],
    )


@merchant.command()
@click.argument("directory", type=_KEYS)
@_NODE
def recovered(directory: Path, node: str) -> None:
    """Take the new controller key into use, once the delay of a recovery is over.

    The key shows itself to the chain by registering the till's key again, which the recovery cleared.
    """
    import dataclasses

    from onecode.host.keyring import load_key
    from onecode.network.client import NodeClient
    from onecode.network.merchant import load_merchant
    from onecode.network.merchant_keys import NEXT_FILE, build_orderkeys, make_order_key
    from onecode.network.merchant_sending import Effect, settle_pending, submit_signed

    found = settle_pending(load_merchant(directory), NodeClient(node))
    if not (directory / NEXT_FILE).exists():
        raise Misconfigured("merchant.no_next_key", "no recovery is under way in this directory", field="directory")
    following, key = load_key(directory / NEXT_FILE), make_order_key(found, secrets.token_bytes)
    as_new = dataclasses.replace(found, controller=following)
    after, submitted = submit_signed(
        as_new, NodeClient(node), lambda merchant: build_orderkeys(merchant, (key.public,), now_ms()), Effect.ROTATE
    )
    _require_done(submitted)
    public = after.controller.public.hex()
    console().show({"controller": public}, [f"the controller is {public}"])


@merchant.command("recovery-sheet")
@click.argument("directory", type=_KEYS)
def recovery_sheet_command(directory: Path) -> None:
    """Print the sheet with the recovery key. It shows a secret: send it to a printer and to nothing else."""
    from onecode.network.merchant import load_merchant
    from onecode.network.merchant_keys import recovery_sheet

    found = load_merchant(directory)
    lines = recovery_sheet(found)
    console().show({"merchant": found.text, "lines": lines}, lines)
