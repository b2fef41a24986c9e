"""`onecode platform rotate-epoch`: a new epoch key, and the end of old ones, watched until it is reached."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.console import console, pairs
from onecode.errors import Declined

if TYPE_CHECKING:
    from onecode.network.client import PlatformClient

PAUSE_S = 0.5


def show_epochs(answer: dict[str, Any]) -> None:
    """The epochs, the one in use, and from when a new one is."""
    lines = [f"epoch {answer['current']} is in use; the chain takes epochs from {answer['epoch_min']} up"]
    for row in answer["epochs"]:
        since = row["used_from_ms"]
        used = (
            f", in use from {datetime.fromtimestamp(since / 1000, UTC).isoformat(timespec='seconds')}" if since else ""
        )
        lines.append(f"epoch {row['epoch']}: {row['records']} records{used}")
    console().show(answer, lines)


def retire(client: PlatformClient, last: int) -> None:
    """Go on until the epochs up to `last` are ended; `Declined` where records are in the way and nothing moves."""
    told = None
    while True:
        answer = client.retire_epochs(last)
        if answer["done"]:
            names = ("epoch", "epoch_min", "done")
            return console().show(answer, pairs(*((name, answer[name]) for name in names)))
        now = (answer["left"], answer["waiting"])
        if now != told:
            click.echo(f"{now[0]} records under old epochs, {now[1]} transactions on their way", err=True)
            told = now
        if answer["stuck"] and not answer["waiting"]:
            for row in answer["stuck"]:
                click.echo(f"{row['merchant']}: {row['detail']} [{row['code']}]", err=True)
            raise Declined("epoch.stuck", f"{answer['left']} records are in the way; mend them, give the command again")
        time.sleep(PAUSE_S)
