"""`onecode platform publish --from`: many rows with a progress bar, errors by row, and a way to go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onecode.cli.console import console
from onecode.errors import Declined

if TYPE_CHECKING:
    from onecode.network.bulk import RowOutcome
    from onecode.network.client import PlatformClient


def publish_many(file: Path, client: PlatformClient) -> None:
    """Publish every row of `file` that was not before; exits with `Declined` if a row failed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from onecode.host.clock import now_ms
    from onecode.network.bulk import Journal, publish_rows, read_rows

    rows, journal = read_rows(file), Journal(file)
    before = sum(row in journal for row in rows)
    failed: list[RowOutcome] = []
    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("publishing", total=len(rows), completed=before)

        def told(outcome: RowOutcome) -> None:
            progress.advance(task)
            if outcome.error is not None:
                failed.append(outcome)
                progress.console.print(f"line {outcome.row.number}: {outcome.error}", markup=False, highlight=False)

        try:
            publish_rows(rows, client, journal, now_ms, told)
        except KeyboardInterrupt:
            click.echo(f"stopped; give the same command again to go on ({journal.path} says what is done)", err=True)
            raise
    done = sum(row in journal for row in rows)
    errors = [
        {"line": one.row.number, "code": one.error.code, "field": one.error.field, "message": one.error.message}
        for one in failed
        if one.error is not None
    ]
    plain = {"rows": len(rows), "before": before, "published": done - before, "failed": errors}
    console().show(plain, [f"{done} of {len(rows)} rows are published, {before} of them before; {len(failed)} failed"])
    if failed:
        raise Declined("bulk.rows", f"{len(failed)} rows were not published; mend them and give the command again")
