"""`onecode audit`: a span of the chain in one file, and everything in it checked offline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import read_file
from onecode.cli.console import OnecodeGroup, console
from onecode.cli.verify import CHAIN_WORD, SOLO_WORD, root_key, trust_file_chain
from onecode.errors import Malformed, Misconfigured
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from onecode.network.audit import Credential, Summary
    from onecode.registry.genesis import Genesis
    from onecode.registry.span import Anchors, SpanManifest, VerifiedSpan

_FILE = click.Path(path_type=Path)
Told = Callable[[int], None]


@click.group(cls=OnecodeGroup)
def audit() -> None:
    """Keep a span of the chain in a file, and check such a file offline."""


@audit.command()
@click.option("--from", "first", type=int, required=True, help="First height.")
@click.option("--to", "last", type=int, help="Last height; the newest that is proven where it is left out.")
@click.option("-o", "--output", type=_FILE, required=True, help="File to write; FILE.part until it is whole.")
@click.option("--config", type=_FILE, help="A platform's configuration file: has node, chain, id and key.")
@click.option("--node", "url", help="The node's address, instead of that in --config.")
@click.option("--chain", help="The chain's id, with --key.")
@click.option("--key", type=_FILE, help="Key file of the platform (transaction or key-service) or of the observer.")
@click.option("--member", help="The platform's id in hex, with --key.")
@click.option("--observer", help="The observer's node id, with --key.")
def export(first: int, last: int | None, output: Path, url: str | None, config: Path | None, **by_key: Any) -> None:
    """Fetch all transactions, results and signed headers of a span of heights from a node.

    Members and observers may. When it was stopped, give the same command again: it goes on where it was.
    """
    from onecode.network.audit import NodeBlocks, export_span

    address, credential = _credential(url, config, **by_key)
    blocks = NodeBlocks(address, credential)
    try:
        with _progress("exporting", first, last) as told:
            manifest = export_span(blocks, output, first, last, told)
    except KeyboardInterrupt:
        click.echo("stopped; give the same command again to go on", err=True)
        raise
    finally:
        blocks.close()
    plain = {"file": str(output), "from": manifest.from_height, "to": manifest.to_height, "chain_id": manifest.chain_id}
    said = f"{output}: heights {manifest.from_height} to {manifest.to_height} of {manifest.chain_id}"
    console().show(plain, [said])


def _credential(
    url: str | None, config: Path | None, chain: str | None, key: Path | None, member: str | None, observer: str | None
) -> tuple[str, Credential]:
    """The node's address, and how requests to it are signed."""
    from onecode.host.keyring import load_key
    from onecode.platform.config import load_config
    from onecode.query.requests import MEMBER_HEADER, OBSERVER_HEADER, member_header, observer_header

    if config is not None:
        loaded = load_config(config)
        signing, platform = load_key(loaded.transaction_key_file), loaded.platform
        chain, url = loaded.chain_id, url or loaded.node_url
    elif url is None or chain is None or key is None or (member is None) == (observer is None):
        raise Misconfigured(
            "cli.audit", "give --config, or --node, --chain, --key and one of --member and --observer", field="config"
        )
    else:
        signing, platform = load_key(key), b"" if member is None else _hex(member, 20, "member")
    if platform:
        return url, lambda method, path: {
            MEMBER_HEADER: member_header(chain, platform, signing, method, path, b"", now_ms())
        }
    return url, lambda method, path: {
        OBSERVER_HEADER: observer_header(chain, observer or "", signing, method, path, b"", now_ms())
    }


@audit.command()
@click.argument("file", type=_FILE)
@click.option("--trust", "trust_file", type=_FILE, help="Trust file that you believe, with --root.")
@click.option("--root", help="Public root key, hex, that the trust file must be signed under.")
@click.option("--genesis", "genesis_file", type=_FILE, help="Genesis that you believe; the span begins at height 1.")
@click.option("--header", help="Hash, hex, of a header that you believe: one of the span, or the one after it.")
@click.option("--replay", is_flag=True, help="Execute every transaction again from --genesis and compare each state.")
@click.option("--allow-solo", is_flag=True, help="Accept a chain of one validator, one organisation's word.")
def verify(
    file: Path,
    trust_file: Path | None,
    root: str | None,
    genesis_file: Path | None,
    header: str | None,
    replay: bool,
    allow_solo: bool,
) -> None:
    """Check every header, vote, transaction and result in FILE against what you believe, and say what it holds."""
    from onecode.network.audit import read_manifest, verify_file
    from onecode.proof.trust import SOLO_PREFIX
    from onecode.registry.genesis import parse_genesis
    from onecode.registry.replay import genesis_anchor
    from onecode.registry.span import Anchors

    manifest, at_ms = read_manifest(file), now_ms()
    if manifest.chain_id.startswith(SOLO_PREFIX) and not allow_solo:
        raise Misconfigured("cli.solo", "a solo chain is one organisation's word; --allow-solo takes it", field="file")
    if replay and (genesis_file is None or manifest.from_height != 1):
        raise Misconfigured("cli.replay", "a replay needs --genesis and a span from height 1 on", field="replay")
    genesis = None if genesis_file is None else parse_genesis(read_file(genesis_file))
    anchors = Anchors(
        header_hash=None if header is None else _hex(header, 32, "header"),
        trust=_trust(trust_file, root, at_ms, allow_solo=allow_solo),
        genesis=None if genesis is None else genesis_anchor(genesis),
    )
    with _progress("checking", manifest.from_height, manifest.to_height) as told:
        if replay and genesis is not None:
            span, summary = _replayed(file, anchors, genesis, at_ms, told)
        else:
            span, summary = verify_file(file, anchors, at_ms, told)
    _show(span, summary, replay=replay)


def _replayed(file: Path, anchors: Anchors, genesis: Genesis, at_ms: int, told: Told) -> tuple[VerifiedSpan, Summary]:
    """Verify and execute, over a store that is thrown away."""
    from onecode.network.audit import verify_file
    from onecode.node.store import StoreConfig, open_writer
    from onecode.registry.replay import Replay

    with tempfile.TemporaryDirectory(prefix="onecode-audit-") as directory:
        store = open_writer(Path(directory) / "store", StoreConfig(meta_sync=False))
        try:
            return verify_file(file, anchors, at_ms, told, Replay(store, genesis), store)
        finally:
            store.close()


def _trust(path: Path | None, root: str | None, at_ms: int, *, allow_solo: bool) -> Any:
    from onecode.proof.trust import verify_trust_file

    if path is None:
        return None
    if root is None:
        raise Misconfigured("cli.audit", "a trust file is believed for its root alone: give --root", field="root")
    raw = read_file(path)
    trust, _ = verify_trust_file(raw, root_key(root), trust_file_chain(raw), at_ms, allow_solo=allow_solo)
    return trust


def _hex(text: str, size: int, name: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size:
        raise Malformed("cli.hex", f"--{name} is {size} bytes in hex", field=name)
    return raw


@contextmanager
def _progress(what: str, first: int, last: int | None) -> Iterator[Told]:
    """A bar on the error output, over the heights."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None if last is None else last - first + 1)
        yield lambda height: progress.update(task, completed=height - first + 1)


# --- what is shown


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).isoformat(timespec="seconds")


def _show(span: VerifiedSpan, summary: Summary, *, replay: bool) -> None:
    if console().as_json:
        console().show(_plain(span, summary, replay=replay), [])
        return
    from rich.console import Console
    from rich.table import Table

    plain, manifest = _plain(span, summary, replay=replay), span.manifest
    screen = Console()
    facts = Table(title=f"The file holds: {manifest.chain_id}", show_header=False, title_justify="left")
    facts.add_column()
    facts.add_column(overflow="fold")  # a hash is to be copied whole
    for name in ("heights", "blocks_signed", "transactions", "rests_on", "word_of", "replayed", "end_hash"):
        value = plain[name]
        facts.add_row(name.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
    screen.print(facts)
    kinds = Table("kind", "result", "transactions", title="Transactions", title_justify="left")
    for one in plain["by_kind"]:
        kinds.add_row(one["kind"], one["result"], f"{one['count']:,}")
    screen.print(kinds)
    changes = Table("height", "validators", title="Validators", title_justify="left")
    changes.add_row(str(manifest.from_height), f"{plain['validators_first']} at the beginning")
    for one in plain["validator_changes"]:
        changes.add_row(str(one["height"]), one["change"])
    screen.print(changes)


def _plain(span: VerifiedSpan, summary: Summary, *, replay: bool) -> dict[str, Any]:
    manifest: SpanManifest = span.manifest
    solo = manifest.chain_id.startswith("solo-")
    return {
        "holds": True,
        "chain_id": manifest.chain_id,
        "heights": f"{manifest.from_height} to {manifest.to_height}",
        "from": manifest.from_height,
        "to": manifest.to_height,
        "blocks_signed": f"{_time(summary.first_ns)} to {_time(summary.last_ns)}",
        "transactions": summary.transactions,
        "transaction_bytes": summary.bytes,
        "by_kind": [
            {"kind": kind, "result": result, "count": count} for (kind, result), count in sorted(summary.counts.items())
        ],
        "validators_first": summary.validators_first,
        "validator_changes": [{"height": height, "change": change} for height, change in summary.changes],
        "rests_on": list(span.rests_on),
        "word_of": SOLO_WORD if solo else CHAIN_WORD,
        "replayed": "every state and result follows from the rules" if replay else "no: results and states as signed",
        "end_hash": span.end_hash.hex(),
    }
