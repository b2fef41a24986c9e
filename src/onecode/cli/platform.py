"""`onecode platform`: a platform's operator against its running server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onecode.cli.code import read_file
from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.cli.merchant import now_ms
from onecode.cli.wallet import money
from onecode.errors import Malformed, Misconfigured

if TYPE_CHECKING:
    from onecode.network.client import PlatformClient

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path)
TOKEN_VARIABLE = "ONECODE_OPERATOR_TOKEN"  # noqa: S105 # the variable's name, not a token


def _reached(command: F) -> F:
    """The options that say which platform, and prove that its operator asks."""
    for option in (
        click.option("--config", type=_FILE, help="The platform's configuration file: has address and token."),
        click.option("--url", help="The platform's address, instead of --config."),
        click.option("--token", envvar=TOKEN_VARIABLE, help=f"Operator token; better in {TOKEN_VARIABLE}."),
    ):
        command = option(command)
    return command


def _client(config: Path | None, url: str | None, token: str | None) -> PlatformClient:
    from onecode.network.client import PlatformClient
    from onecode.platform.config import load_config

    if config is not None:
        loaded = load_config(config)
        return PlatformClient(url or f"http://{loaded.host}:{loaded.port}", token or loaded.operator_token)
    if url is None or token is None:
        raise Misconfigured("cli.platform", "give --config, or --url and the operator's token", field="config")
    return PlatformClient(url, token)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_file(path))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Malformed("cli.json", f"{path} holds no JSON object", field="file")
    return value


@click.group(cls=OnecodeGroup)
def platform() -> None:
    """Sign merchants, publish their records, read the books."""


@platform.command()
@click.argument("file", type=_FILE)
@click.option("--handed", type=_FILE, help="What `onecode merchant consent --json` printed; else all is in FILE.")
@_reached
def sign(file: Path, handed: Path | None, config: Path | None, url: str | None, token: str | None) -> None:
    """Sign a merchant up: FILE holds the record's data as JSON."""
    from onecode.network.agreement import build_agreement

    agreement = build_agreement(_object(file), _object(handed) if handed else {}, now_ms())
    answer = _client(config, url, token).sign(agreement)
    console().show(answer, _standing(answer))


@platform.command()
@click.argument("merchant")
@_reached
def publish(merchant: str, config: Path | None, url: str | None, token: str | None) -> None:
    """Publish the record of MERCHANT (id as text or hex), or its next version."""
    answer = _client(config, url, token).publish(merchant_hex(merchant))
    console().show(answer, _standing(answer))


@platform.command()
@click.argument("merchant")
@_reached
def withdraw(merchant: str, config: Path | None, url: str | None, token: str | None) -> None:
    """Withdraw the record of MERCHANT: no more payments from now on."""
    answer = _client(config, url, token).withdraw(merchant_hex(merchant))
    console().show(answer, _standing(answer))


@platform.command()
@_reached
def merchants(config: Path | None, url: str | None, token: str | None) -> None:
    """List merchants with the state of their records."""
    rows = _client(config, url, token).merchants()
    lines = [f"{row['merchant_text']}  {row['state']:<11} {row['agreement']['display_name']}" for row in rows]
    console().show({"merchants": rows}, lines or ["no merchants yet"])


@platform.command()
@_reached
def books(config: Path | None, url: str | None, token: str | None) -> None:
    """Show the trial balance; debits and credits of each currency are equal."""
    answer = _client(config, url, token).books()
    rows = [f"{row['kind']:<9} {row['owner'] or '-':<64} {_money(row, 'balance_minor')}" for row in answer["balances"]]
    totals = [f"{'sum':<9} {row['currency']:<64} {_money(row, 'total_minor')}" for row in answer["totals"]]
    console().show(answer, [*rows, *totals] or ["nothing is booked yet"])


def _standing(answer: dict[str, Any]) -> list[str]:
    """How a merchant stands with the platform, in lines."""
    names = ("merchant_text", "state", "version", "refusal", "till_token")
    return pairs(*((name, answer.get(name)) for name in names))


def _money(row: dict[str, Any], name: str) -> str:
    """A signed amount of a row in its currency."""
    amount = row[name]
    return f"{'-' if amount < 0 else ' '}{money(abs(amount), row['currency'])}"


def merchant_hex(given: str) -> str:
    """A merchant id in hex, from hex or from its text."""
    from onecode.code.identity import parse_merchant_text

    if len(given) == 40 and all(char in "0123456789abcdef" for char in given):
        return given
    return parse_merchant_text(given, given.lower().rpartition("1")[0]).hex()
