"""`onecode node`: run a node, ask one how it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from onecode.cli.console import OnecodeGroup, console


@click.group(cls=OnecodeGroup)
def node() -> None:
    """Run a node, or ask one for its state."""


@node.command()
@click.argument("url")
def status(url: str) -> None:
    """Show what the node at URL says of itself."""
    from onecode.network.client import NodeClient

    answer = NodeClient(url).status()
    console().show(answer, list(_flat(answer)))


def _flat(value: Any, name: str = "") -> list[str]:
    """Lines of dotted names and values."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _flat(item, f"{name}.{key}" if name else key)]
    if isinstance(value, list):
        return [line for index, item in enumerate(value) for line in _flat(item, f"{name}[{index}]")]
    return [f"{name}  {value}"]


@node.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def run(config: Path) -> None:
    """Run a node with the configuration file CONFIG until it is stopped."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "onecode.node", str(config)])  # noqa: S606 # signals reach the node itself
