"""`onecode platform`: what waits and was given up, webhooks, checkpoints, and taking a payment back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onecode.cli.console import console, pairs
from onecode.cli.platform import merchant_hex, operator_client, platform, reached
from onecode.errors import Declined

_STATE = click.option("--state", type=click.Choice(["waiting", "done", "dead"]), help="Of this state only.")


@platform.command()
@click.argument("payment")
@reached
def void(payment: str, config: Path | None, url: str | None, token: str | None) -> None:
    """Take PAYMENT back in full: nothing of it was refunded, and no partner shares it."""
    answer = operator_client(config, url, token).void(payment)
    console().show(answer, pairs(*((name, answer.get(name)) for name in ("payment_id", "state", "refusal"))))


@platform.command()
@_STATE
@reached
def notices(state: str | None, config: Path | None, url: str | None, token: str | None) -> None:
    """List the newest notices to partners, and why they wait."""
    rows = operator_client(config, url, token).notices(state)
    lines = [
        f"{row['id']:>6} {row['kind']:<7} {row['state']:<8} {row['partner']}  {row['error'] or ''}" for row in rows
    ]
    console().show({"notices": rows}, lines or ["no notices"])


@platform.command()
@click.argument("merchant")
@click.argument("address", required=False)
@click.option("--remove", is_flag=True, help="No more deliveries to MERCHANT.")
@reached
def webhook(
    merchant: str, address: str | None, remove: bool, config: Path | None, url: str | None, token: str | None
) -> None:
    """Send MERCHANT's events to ADDRESS from now on; its new secret is shown this once."""
    if remove == (address is not None):
        raise click.UsageError("give an ADDRESS, or --remove")
    client, shop = operator_client(config, url, token), merchant_hex(merchant)
    answer = client.remove_webhook(shop) if address is None else client.set_webhook(shop, address)
    console().show(answer, pairs(*answer.items()))


@platform.command()
@_STATE
@click.option("--retry", type=click.IntRange(min=0), help="Send this one again, which was given up.")
@reached
def deliveries(state: str | None, retry: int | None, config: Path | None, url: str | None, token: str | None) -> None:
    """List the newest deliveries to webhooks."""
    client = operator_client(config, url, token)
    rows = client.deliveries(state) if retry is None else [client.retry_delivery(retry)]
    lines = [f"{row['id']:>6} {row['state']:<8} sent {row['sent']:>2}  {row['error'] or ''}" for row in rows]
    console().show({"deliveries": rows}, lines or ["no deliveries"])


@platform.command()
@click.option("--from", "first", type=click.IntRange(min=1), default=1, help="Serial of the first one; at most 20.")
@click.option("--of", "other", help="Id in hex of another platform: its checkpoints that this one countersigned.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the checkpoint with the serial --from to this file."
)
@click.option("--waiting", is_flag=True, help="What is not countersigned yet and why; lies of other platforms.")
@reached
def checkpoints(
    first: int,
    other: str | None,
    out: Path | None,
    waiting: bool,
    config: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """List the platform's checkpoints, or write one to a file: keep it, or its hash, to check evidence later."""
    client = operator_client(config, url, token)
    if waiting:
        found = client.waiting_checkpoints()
        console().show(found, _waiting_lines(found))
        return
    rows = client.checkpoints(first, other)
    if out is not None:
        _write(out, rows, first)
    lines = [f"{row['serial']:>6} {row['hash']} {row['receipts']:>6} receipts, {_countersigned(row)}" for row in rows]
    console().show({"checkpoints": rows}, lines or ["no checkpoints yet"])


def _countersigned(row: dict[str, Any]) -> str:
    return "countersigned" if row["complete"] else f"not yet countersigned ({len(row['countersigned_by'])} of 2)"


def _waiting_lines(found: dict[str, Any]) -> list[str]:
    waiting = [f"{row['serial']:>6} {row['platform']}  {row['error'] or 'not asked yet'}" for row in found["waiting"]]
    forks = [f"{row['serial']:>6} {row['platform']}  contradicts: {row['code']}" for row in found["forks"]]
    return [*waiting, *forks] or ["nothing waits"]


def _write(out: Path, rows: list[dict[str, Any]], serial: int) -> None:
    from onecode.cli.code import write_file

    if not rows or rows[0]["serial"] != serial:
        raise Declined("cli.checkpoint", f"there is no checkpoint with the serial {serial} yet", status=404)
    write_file(out, bytes.fromhex(rows[0]["checkpoint"]))
