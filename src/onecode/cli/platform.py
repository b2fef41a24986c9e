"""`onecode platform`: a platform's operator against its running server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onecode.cli.bulk import publish_many
from onecode.cli.code import read_file
from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.cli.wallet import money
from onecode.errors import Malformed, Misconfigured
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from onecode.network.client import PlatformClient
    from onecode.query.evidence import EvidenceFile

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path)
TOKEN_VARIABLE = "ONECODE_OPERATOR_TOKEN"  # noqa: S105 # the variable's name, not a token


def reached(command: F) -> F:
    """The options that say which platform, and prove that its operator asks."""
    for option in (
        click.option("--config", type=_FILE, help="The platform's configuration file: has address and token."),
        click.option("--url", help="The platform's address, instead of --config."),
        click.option("--token", envvar=TOKEN_VARIABLE, help=f"Operator token; better in {TOKEN_VARIABLE}."),
    ):
        command = option(command)
    return command


def operator_client(config: Path | None, url: str | None, token: str | None) -> PlatformClient:
    """A client of the platform that the options name."""
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
@reached
def sign(file: Path, handed: Path | None, config: Path | None, url: str | None, token: str | None) -> None:
    """Sign a merchant up: FILE holds the record's data as JSON."""
    from onecode.network.agreement import build_agreement

    agreement = build_agreement(_object(file), _object(handed) if handed else {}, now_ms())
    answer = operator_client(config, url, token).sign(agreement)
    console().show(answer, _standing(answer))


@platform.command()
@click.argument("merchant", required=False)
@click.option("--from", "file", type=_FILE, help="Many at once: CSV with a header line, or JSON lines, one a merchant.")
@reached
def publish(merchant: str | None, file: Path | None, config: Path | None, url: str | None, token: str | None) -> None:
    """Publish the record of MERCHANT (id as text or hex), or its next version; with --from sign and publish many.

    What --from published stands in FILE.journal: after a stop, or when rows were mended, give the same command again.
    """
    if (merchant is None) == (file is None):
        raise Malformed("cli.publish", "name one merchant, or a file of many by --from", field="merchant")
    client = operator_client(config, url, token)
    if file is not None:
        publish_many(file, client)
    elif merchant is not None:
        answer = client.publish(merchant_hex(merchant))
        console().show(answer, _standing(answer))


@platform.command()
@click.argument("merchant")
@reached
def withdraw(merchant: str, config: Path | None, url: str | None, token: str | None) -> None:
    """Withdraw the record of MERCHANT: no more payments from now on."""
    answer = operator_client(config, url, token).withdraw(merchant_hex(merchant))
    console().show(answer, _standing(answer))


@platform.command()
@click.argument("file", type=_FILE)
@reached
def alias_bind(file: Path, config: Path | None, url: str | None, token: str | None) -> None:
    """Bind an old label to a merchant: FILE is what `onecode merchant consent --alias --json` printed."""
    from onecode.network.agreement import alias_body

    merchant, body = alias_body(_object(file))
    answer = operator_client(config, url, token).bind_alias(merchant, body)
    console().show(answer, pairs(*((name, answer.get(name)) for name in ("merchant_text", "guid", "values", "state"))))


@platform.command()
@click.argument("merchant")
@reached
def aliases(merchant: str, config: Path | None, url: str | None, token: str | None) -> None:
    """List the labels of other schemes that were bound to MERCHANT here, and whether they still are."""
    rows = operator_client(config, url, token).aliases(merchant_hex(merchant))
    lines = [
        f"{row['guid']}  {' '.join(row['values'])}  {row['state']}{'' if row['bound'] else ', not bound'}"
        for row in rows
    ]
    console().show({"aliases": rows}, lines or ["no aliases"])


@platform.command()
@reached
def merchants(config: Path | None, url: str | None, token: str | None) -> None:
    """List merchants with the state of their records."""
    rows = operator_client(config, url, token).merchants()
    lines = [f"{row['merchant_text']}  {row['state']:<11} {row['agreement']['display_name']}" for row in rows]
    console().show({"merchants": rows}, lines or ["no merchants yet"])


@platform.command()
@click.option("--retire", "last", type=click.IntRange(min=1), help="End this epoch and older ones.")
@click.option("--show", is_flag=True, help="Only list the epochs.")
@reached
def rotate_epoch(last: int | None, show: bool, config: Path | None, url: str | None, token: str | None) -> None:
    """Make a new epoch key; records are sealed under it once the enclaves have had the time to get it.

    With --retire the live records under old epochs are published again, the chain then refuses those epochs, and their
    keys are erased. After a stop, or when what was in the way is mended, give the same command again.
    """
    from onecode.cli.epochs import retire, show_epochs

    client = operator_client(config, url, token)
    if last is not None:
        retire(client, last)
    else:
        show_epochs(client.epochs() if show else client.make_epoch())


@platform.command()
@reached
def books(config: Path | None, url: str | None, token: str | None) -> None:
    """Show the trial balance; debits and credits of each currency are equal."""
    answer = operator_client(config, url, token).books()
    rows = [f"{row['kind']:<9} {row['owner'] or '-':<64} {_money(row, 'balance_minor')}" for row in answer["balances"]]
    totals = [f"{'sum':<9} {row['currency']:<64} {_money(row, 'total_minor')}" for row in answer["totals"]]
    console().show(answer, [*rows, *totals] or ["nothing is booked yet"])


@platform.command()
@click.argument("payment")
@click.option("--amount-minor", type=click.IntRange(min=0), required=True, help="Of the amount, in minor units.")
@click.option("--tip-minor", type=click.IntRange(min=0), default=0, help="Of the tip, in minor units.")
@click.option("--reason", help="What the payer is told.")
@click.option("--key", help="Idempotency key: the same again after a lost answer; a random one otherwise.")
@reached
def refund(
    payment: str,
    amount_minor: int,
    tip_minor: int,
    reason: str | None,
    key: str | None,
    config: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Give back a part of PAYMENT, or all of it; never more than was paid."""
    import secrets

    body = {"amount_minor": amount_minor, "tip_minor": tip_minor} | ({"reason": reason} if reason else {})
    answer = operator_client(config, url, token).refund(payment, key or secrets.token_hex(16), body)
    rows = [(name, answer.get(name)) for name in ("refund_id", "payment_id", "reason")]
    rows += [(name.removesuffix("_minor"), _money(answer, name)) for name in ("total_minor", "refunded_minor")]
    console().show(answer, pairs(*rows))


@platform.command()
@click.argument("payment")
@click.option("--out", type=_FILE, required=True, help="Where the file is written.")
@click.option("--until", type=click.IntRange(min=1), help="A later checkpoint's serial: the way up to it is added.")
@click.option("--trust", "trust_file", type=_FILE, help="A later trust file: the headers up to it are added.")
@click.option("--node", help="Node to fetch those headers from; else that of --config.")
@reached
def evidence(
    payment: str,
    out: Path,
    until: int | None,
    trust_file: Path | None,
    node: str | None,
    config: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Write the evidence of PAYMENT into one file, for `onecode verify evidence`: with its place in the platform's
    checkpoint, as soon as there is one."""
    from onecode.cli.code import write_file
    from onecode.cli.verify import trust_file_height
    from onecode.network.client import NodeClient
    from onecode.network.evidence import add_trace
    from onecode.platform.config import load_config
    from onecode.query.evidence import parse_evidence

    file = parse_evidence(operator_client(config, url, token).evidence(payment, until))
    if trust_file is not None:
        if node is None and config is None:
            raise Misconfigured("cli.node_missing", "give --node, or --config of the platform", field="node")
        node_url = node if node is not None or config is None else load_config(config).node_url
        file = add_trace(NodeClient(str(node_url)), file, trust_file_height(read_file(trust_file)))
    raw = file.encoded()
    write_file(out, raw)
    plain = {"payment_id": payment, "file": str(out), "bytes": len(raw), "headers": len(file.trace)}
    plain |= _place(file)
    console().show(plain, pairs(*plain.items()))


def _place(file: EvidenceFile) -> dict[str, Any]:
    """In which checkpoint the payment stands; nothing while its period is not over."""
    from onecode.proof.checkpoint import checkpoint_hash, parse_body

    if file.place is None:
        return {"checkpoint": None}
    raw = file.place.checkpoint.body
    last = (raw, *file.place.later)[-1]
    return {
        "checkpoint": parse_body(raw).serial,
        "countersigned": len(file.place.checkpoint.countersignatures),
        "up_to": checkpoint_hash(file.chain_id, last).hex(),
    }


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
