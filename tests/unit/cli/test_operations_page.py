"""Every command that docs/operations.md gives is one that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from onecode.cli.main import cli

BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`(onecode [^`]+)`")


def commands(text: str) -> list[str]:
    found = INLINE.findall(text)
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            found += [part.strip() for part in line.split(" && ") if part.strip().startswith("onecode ")]
    return found


def fault(words: list[str]) -> str | None:
    """What is wrong with a command line; None if nothing is."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.commands.get(words[0])
        if inner is None:
            return f"there is no command {words[0]}"
        command, words = inner, words[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    unknown = [name for name in given if name not in known]
    return f"{command.name} has no {unknown[0]}" if unknown else None


@pytest.mark.parametrize(
    "line", ["onecode network fly", "onecode network up --fast", "onecode up --validators 4 --x=1"]
)
def test_a_wrong_command_is_seen(line: str) -> None:
    assert fault(shlex.split(line)[1:]) is not None


def test_every_command_of_the_page_is_there(root: Path) -> None:
    found = commands((root / "docs" / "operations.md").read_text("utf-8"))
    assert len(found) > 30
    faults = [(line, fault(shlex.split(line, comments=True)[1:])) for line in found]
    assert [one for one in faults if one[1]] == []
