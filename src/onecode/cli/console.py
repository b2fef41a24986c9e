"""What a command prints: lines for a person, or with `--json` one JSON object a line for a program."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from onecode.errors import OnecodeError

DEBUG_VARIABLE = "ONECODE_DEBUG"
EXIT_UNEXPECTED = 70  # sysexits.h: an internal software error
EXIT_INTERRUPTED = 130  # as a shell reports SIGINT


@dataclass(slots=True)
class Console:
    """One run of the command. `as_json` is set by `--json`, wherever it stands."""

    as_json: bool = False

    def show(self, plain: Mapping[str, Any], lines: Sequence[str]) -> None:
        """The command's result: `plain` with `--json`, else `lines`."""
        if self.as_json:
            click.echo(json.dumps(plain, ensure_ascii=False))
        else:
            click.echo("\n".join(lines))

    def fail(self, error: OnecodeError) -> None:
        """An error of the tree, on the error output."""
        click.echo(json.dumps(error.problem(), ensure_ascii=False) if self.as_json else f"error: {error}", err=True)

    def fail_unexpected(self, error: BaseException) -> None:
        """An error that no one foresaw: its kind and a way to see more, never a traceback unless asked for."""
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exception(error, file=sys.stderr)
        detail = f"{type(error).__name__}: {error}"
        if self.as_json:
            click.echo(json.dumps({"title": "Unexpected", "detail": detail, "code": "cli.unexpected"}), err=True)
        else:
            click.echo(f"error: unexpected {detail}; {DEBUG_VARIABLE}=1 shows where", err=True)


def pairs(*rows: tuple[str, object]) -> list[str]:
    """Lines of names and values in two columns; a value of None is left out."""
    shown = [(name, str(value)) for name, value in rows if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in shown]


def console() -> Console:
    """The console of the command that runs."""
    return click.get_current_context().find_root().ensure_object(Console)


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().ensure_object(Console).as_json = True


class OnecodeCommand(click.Command):
    """A command with `--json`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        option = click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_json,
            help="Print JSON for programs.",
        )
        self.params.append(option)


class OnecodeGroup(click.Group):
    """A group whose commands all have `--json`."""

    command_class = OnecodeCommand
    group_class = type
