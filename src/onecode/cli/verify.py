"""`onecode verify`: checking what others say, offline, against a trust file or a checkpoint of one's own choice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import read_file
from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.cli.wallet import money, receipt_plain
from onecode.errors import Malformed, Untrusted
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from onecode.proof.checkpoint import VerifiedCheckpoint
    from onecode.proof.light import Trust
    from onecode.query.evidence import NamedCheckpoint, VerifiedEvidence

_FILE = click.Path(path_type=Path)
HASH_DIGITS = 64
SOLO_WORD = "one organisation's word: a chain of one validator can say anything"
CHAIN_WORD = "more than two thirds of the chain's validators"


@click.group(cls=OnecodeGroup)
def verify() -> None:
    """Check what others say, offline."""


@verify.command()
@click.argument("file", type=_FILE)
@click.option("--trust", "trust_file", type=_FILE, help="Trust file that you believe, signed under --root.")
@click.option("--checkpoint", "named", help="Checkpoint that you believe: its hash, 64 hex digits, or a file you kept.")
@click.option(
    "--root", "roots", multiple=True, help="Root key in hex: of the trust file, or of who signed the checkpoint too."
)
@click.option("--allow-solo", is_flag=True, help="Accept a chain of one validator, one organisation's word.")
def evidence(file: Path, trust_file: Path | None, named: str | None, roots: tuple[str, ...], allow_solo: bool) -> None:
    """Check a payment's evidence in FILE: who was to get the money, and that it went there.

    Years later give --checkpoint: nothing then depends on keys of that time, only on what you name.
    """
    from onecode.query.evidence import parse_evidence, verify_evidence

    if (trust_file is None) == (named is None):
        raise Malformed("cli.believed", "give --trust with --root, or --checkpoint", field="checkpoint")
    given, pinned, now = parse_evidence(read_file(file)), [root_key(root) for root in roots], now_ms()
    if trust_file is not None:
        found = verify_evidence(given, _trust(trust_file, pinned, now, allow_solo), now)
    else:
        require_solo_allowed(given.chain_id, allow_solo)
        believed, kept = _named(str(named), given.chain_id)
        found = verify_evidence(given, believed, now)
        _require_signed(kept or found.checkpoint, believed, pinned)
    plain = evidence_plain(found)
    console().show(plain, ["the evidence holds", *pairs(*((name, value) for name, value in plain.items()))])


@verify.command()
@click.argument("files", type=_FILE, nargs=-1, required=True)
@click.option("--root", "roots", multiple=True, help="Root key in hex that signed or countersigned each of them.")
@click.option("--allow-solo", is_flag=True, help="Accept a chain of one validator, one organisation's word.")
def checkpoint(files: tuple[Path, ...], roots: tuple[str, ...], allow_solo: bool) -> None:
    """Check checkpoints of one platform in FILES, in order: each whole in itself and naming the one before."""
    from onecode.proof.checkpoint import parse_body, parse_checkpoint, verify_checkpoint_chain

    given, pinned = [parse_checkpoint(read_file(file)) for file in files], [root_key(root) for root in roots]
    chain_id = parse_body(given[0].body).chain_id
    require_solo_allowed(chain_id, allow_solo)
    found = verify_checkpoint_chain(given, chain_id)
    for one in found:
        require_roots(one, pinned)
    rows = [checkpoint_plain(one) for one in found]
    lines = [line for row in rows for line in (*pairs(*row.items()), "")]
    console().show({"checkpoints": rows}, ["the checkpoints hold", *lines])


def _trust(path: Path, pinned: list[bytes], now: int, allow_solo: bool) -> Trust:
    """What the trust file says, under the one root that is pinned."""
    from onecode.proof.trust import verify_trust_file

    if len(pinned) != 1:
        raise Malformed("cli.root", "give the trust file's root key by one --root", field="root")
    raw = read_file(path)
    return verify_trust_file(raw, pinned[0], trust_file_chain(raw), now, allow_solo=allow_solo)[0]


def _named(text: str, chain_id: str) -> tuple[NamedCheckpoint, VerifiedCheckpoint | None]:
    """The checkpoint that the checker believes: by its hash, or in a file, whose signatures are checked then."""
    from onecode.proof.checkpoint import parse_checkpoint, verify_checkpoint
    from onecode.query.evidence import NamedCheckpoint

    if len(text) == HASH_DIGITS and all(char in "0123456789abcdefABCDEF" for char in text):
        return NamedCheckpoint(chain_id, bytes.fromhex(text)), None
    kept = verify_checkpoint(parse_checkpoint(read_file(Path(text))), chain_id)
    return NamedCheckpoint(chain_id, kept.hash), kept


def _require_signed(given: VerifiedCheckpoint | None, believed: NamedCheckpoint, pinned: list[bytes]) -> None:
    """Raise unless these roots signed the very checkpoint that is believed: an older one may bear keys that were
    stolen since."""
    if pinned and (given is None or given.hash != believed.hash):
        raise Malformed(
            "cli.checkpoint_file", "give --checkpoint as a file, so that it shows who signed it", field="checkpoint"
        )
    if given is not None:
        require_roots(given, pinned)


def require_solo_allowed(chain_id: str, allow_solo: bool) -> None:
    """Raise for a chain that is one organisation's word, unless that was allowed."""
    from onecode.proof.trust import SOLO_PREFIX

    if chain_id.startswith(SOLO_PREFIX) and not allow_solo:
        raise Untrusted(
            "trust.solo", "a solo chain is one organisation's word: allow it with --allow-solo", field="chain_id"
        )


def require_roots(found: VerifiedCheckpoint, pinned: list[bytes]) -> None:
    """Raise unless each of these roots signed or countersigned the checkpoint."""
    for root in pinned:
        if root not in (found.root, *found.countersigned.values()):
            raise Untrusted(
                "checkpoint.root", f"no key under the root {root.hex()} signed this checkpoint", field="root"
            )


def checkpoint_plain(found: VerifiedCheckpoint) -> dict[str, Any]:
    """What a checkpoint says, and who says so."""
    body = found.body
    return {
        "checkpoint": found.hash.hex(),
        "checkpoint_serial": body.serial,
        "checkpoint_from": _time(body.from_ms),
        "checkpoint_until": _time(body.until_ms),
        "checkpoint_height": body.height,
        "checkpoint_receipts": body.receipts,
        "checkpoint_by": body.platform.hex(),
        "checkpoint_root": found.root.hex(),
        "countersigned_by": ", ".join(root.hex() for root in found.countersigned.values()) or "nobody yet",
    }


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


@verify.command()
@click.argument("file", type=_FILE)
@click.option("--trust", "trust_file", type=_FILE, required=True, help="Trust file from before the fork.")
@click.option("--root", required=True, help="Public root key, hex, that the trust file must be signed under.")
def fork(file: Path, trust_file: Path, root: str) -> None:
    """Check a fork in FILE, as a wallet keeps it: which validators signed two headers that contradict each other."""
    from onecode.cli.trust import fork_lines, fork_plain

    now = now_ms()
    plain = fork_plain(read_file(file), _trust(trust_file, [root_key(root)], now, True), now)
    console().show(plain, ["the fork is proven", *fork_lines(plain)])


def root_key(text: str) -> bytes:
    """A root key in hex."""
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""
    if len(root) != 32:
        raise Malformed("cli.root", "a root key is 32 bytes in hex", field="root")
    return root


def trust_file_chain(raw: bytes) -> str:
    """The chain that a trust file names, unverified: which one is trusted, the pinned root decides."""
    from onecode.proof.trust import TrustBody, TrustFile
    from onecode.schema import parse

    return parse(TrustBody, parse(TrustFile, raw, path="trust_file").body, path="trust_file.body").chain_id


def trust_file_height(raw: bytes) -> int:
    """The height of a trust file's header, unverified: only used to fetch what the checker then verifies."""
    from onecode.proof.trust import TrustBody, TrustFile
    from onecode.schema import parse

    body = parse(TrustBody, parse(TrustFile, raw, path="trust_file").body, path="trust_file.body")
    return body.header.header.height


def evidence_plain(found: VerifiedEvidence) -> dict[str, Any]:
    """What the evidence establishes."""
    record, link = found.record.record, found.record.link
    platforms = found.record.state.platforms
    return {
        **receipt_plain(found.receipt),
        "legal_name": record.legal_name,
        "taken_by": platforms[found.receipt.platform].name,
        "record_of": platforms[link.platform].name,
        "record_version": found.request.version,
        "partner": _partner(found),
        "signed_order": money(found.order.amount_minor, found.order.currency.alpha) if found.order else None,
        "chain_id": found.header.header.chain_id,
        "height": found.header.header.height,
        "header_signed": _time(found.header.signed_ms),
        "word_of": SOLO_WORD if found.is_solo else CHAIN_WORD,
        **(checkpoint_plain(found.checkpoint) if found.checkpoint is not None else {}),
    }


def _partner(found: VerifiedEvidence) -> str | None:
    """What the record's platform said, where it is another than the payer's."""
    if found.receipt.platform == found.record.link.platform:
        return None
    return "has not confirmed" if found.partner is None else found.partner.state.name.lower()
