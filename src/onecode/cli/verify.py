"""`onecode verify`: checking what others say, offline, against a trust file and a root key of one's own choice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecode.cli.code import read_file
from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.cli.merchant import now_ms
from onecode.cli.wallet import money, receipt_plain
from onecode.errors import Malformed

if TYPE_CHECKING:
    from onecode.query.evidence import VerifiedEvidence

_FILE = click.Path(path_type=Path)
SOLO_WORD = "one organisation's word: a chain of one validator can say anything"
CHAIN_WORD = "more than two thirds of the chain's validators"


@click.group(cls=OnecodeGroup)
def verify() -> None:
    """Check what others say, offline."""


@verify.command()
@click.argument("file", type=_FILE)
@click.option("--trust", "trust_file", type=_FILE, required=True, help="Trust file that you believe: the checkpoint.")
@click.option("--root", required=True, help="Public root key, hex, that the trust file must be signed under.")
@click.option("--allow-solo", is_flag=True, help="Accept a chain of one validator, one organisation's word.")
def evidence(file: Path, trust_file: Path, root: str, allow_solo: bool) -> None:
    """Check a payment's evidence in FILE: who was to get the money, and that it went there."""
    from onecode.proof.trust import verify_trust_file
    from onecode.query.evidence import parse_evidence, verify_evidence

    given = parse_evidence(read_file(file))
    raw, now = read_file(trust_file), now_ms()
    trust, _ = verify_trust_file(raw, _root(root), checkpoint_chain(raw), now, allow_solo=allow_solo)
    found = verify_evidence(given, trust, now)
    plain = evidence_plain(found)
    console().show(plain, ["the evidence holds", *pairs(*((name, value) for name, value in plain.items()))])


def _root(text: str) -> bytes:
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""
    if len(root) != 32:
        raise Malformed("cli.root", "a root key is 32 bytes in hex", field="root")
    return root


def checkpoint_chain(raw: bytes) -> str:
    """The chain that a trust file names, unverified: which one is trusted, the pinned root decides."""
    from onecode.proof.trust import TrustBody, TrustFile
    from onecode.schema import parse

    return parse(TrustBody, parse(TrustFile, raw, path="trust_file").body, path="trust_file.body").chain_id


def checkpoint_height(raw: bytes) -> int:
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
        "header_signed": datetime.fromtimestamp(found.header.signed_ms / 1000, UTC).isoformat(timespec="seconds"),
        "word_of": SOLO_WORD if found.is_solo else CHAIN_WORD,
    }


def _partner(found: VerifiedEvidence) -> str | None:
    """What the record's platform said, where it is another than the payer's."""
    if found.receipt.platform == found.record.link.platform:
        return None
    return "has not confirmed" if found.partner is None else found.partner.state.name.lower()
