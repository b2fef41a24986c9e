"""`onecode wallet trust` and `evidence`: what a wallet believes in, and the lies that it kept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import read_file
from onecode.cli.console import OnecodeCommand, console, pairs
from onecode.errors import Malformed
from onecode.wire import sha256

if TYPE_CHECKING:
    from onecode.proof.light import Trust
    from onecode.wallet.store import WalletStore

_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path)


@click.command(cls=OnecodeCommand)
@click.argument("directory", type=_DIRECTORY)
@click.option("--renew", is_flag=True, help="Fetch a new trust file from the wallet's own platform and begin from it.")
@click.option("--file", "file", type=_FILE, help="Begin from this trust file of the own platform.")
def trust(directory: Path, renew: bool, file: Path | None) -> None:
    """Show what the wallet in DIRECTORY believes in, since when and how long; take a new trust file."""
    from onecode.host.clock import now_ms
    from onecode.network.wallets import fetch_trust, profile_of, renew_trust
    from onecode.wallet.store import WalletStore

    profile = profile_of(directory)
    if renew or file is not None:
        renew_trust(directory, read_file(file) if file is not None else fetch_trust(profile))
    plain = trust_plain(WalletStore(directory), now_ms())
    console().show(plain, pairs(*plain.items()))


@click.command(cls=OnecodeCommand)
@click.argument("directory", type=_DIRECTORY)
@click.argument("name", required=False)
def evidence(directory: Path, name: str | None) -> None:
    """List the lies that the wallet in DIRECTORY kept; with NAME show one. The files are for the own platform."""
    from onecode.network.wallets import profile_of
    from onecode.wallet.store import WalletStore

    profile_of(directory)
    store = WalletStore(directory)
    if name is not None and not name.startswith("fork-"):
        raw = {"file": str(directory / "evidence" / name), "bytes": len(store.load_evidence(name))}
        console().show(raw, pairs(*raw.items()))
        return
    if name is not None:
        plain = fork_plain(store.load_evidence(name)) | {"file": str(directory / "evidence" / name)}
        console().show(plain, fork_lines(plain))
        return
    rows = [{"name": path.name, "bytes": path.stat().st_size} for path in store.list_evidence()]
    stop = store.load_stop()
    halted = stop.evidence if stop is not None else None
    lines = [f"{row['bytes']:>9,}  {row['name']}{'  halts this wallet' * (row['name'] == halted)}" for row in rows]
    console().show({"evidence": rows, "halted_by": halted}, lines or ["no evidence of lies"])


def trust_plain(store: WalletStore, now_ms: int) -> dict[str, Any]:
    """The header that a wallet starts from, and what witnesses say."""
    saved, compared, stop = store.load_header(), store.load_compared(), store.load_stop()
    if saved is None:
        raise Malformed("wallet.no_header", "the wallet has verified no header yet: resolve a code first")
    time_ms = saved.header.time_ns // 1_000_000
    until_ms = time_ms + saved.trusting_period_ms
    return {
        "chain_id": saved.chain_id,
        "height": saved.header.height,
        "header_time": moment(time_ms),
        "trusted_until": moment(until_ms),
        "expired": until_ms <= now_ms,
        "confirmed_height": compared.view.header.header.height if compared is not None else None,
        "confirmed_at": moment(compared.compared_ms) if compared is not None else None,
        "fork": f"height {stop.height}, evidence {stop.evidence}: renew the trust file" if stop is not None else None,
    }


def moment(time_ms: int) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def fork_plain(data: bytes, trust: Trust | None = None, now_ms: int = 0) -> dict[str, Any]:
    """What a file of a fork shows: from `trust` at `now_ms` or, without it, from its own beginning at its own time."""
    from onecode.proof.light import Trust, trusted_state
    from onecode.query.fork import parse_fork, verify_fork

    file = parse_fork(data)
    common = file.common
    own = Trust(trusted_state(common.header.header, common.validators))
    seen_ms = max(view.header.header.time_ns for view in (*file.first, *file.second)) // 1_000_000
    found = verify_fork(file, own, seen_ms) if trust is None else verify_fork(file, trust, now_ms)
    names = {one.key: one.platform.hex() for one in file.named.validators} if file.named is not None else {}

    def people(keys: tuple[bytes, ...]) -> list[dict[str, str | None]]:
        return [{"validator": sha256(key)[:20].hex(), "platform_by_file": names.get(key)} for key in keys]

    return {
        "chain_id": file.chain_id,
        "kind": str(found.kind),
        "common_height": found.common.header.height,
        "heights": [found.first.header.height, found.second.header.height],
        "header_hashes": [found.first.header_hash.hex(), found.second.header_hash.hex()],
        "guilty": people(found.guilty),
        "signed_first": people(found.first_signers),
        "signed_second": people(found.second_signers),
        "checked_from": "the trust file" if trust is not None else "the file's own common header",
    }


def fork_lines(plain: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = pairs(*((name, value) for name, value in plain.items() if not isinstance(value, list)))
    for name in ("guilty", "signed_first", "signed_second"):
        lines += [f"{name}: {one['validator']} of {one['platform_by_file'] or '?'}" for one in plain[name]]
    return lines
