"""`onecode merchant`: a merchant's keys, its consents, and how it ends a platform's link by itself."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.errors import Declined
from onecode.record.payment import SERVICE_PAY

CHAIN_ID = "solo-onecode"  # of the network that `onecode up` makes
_KEYS = click.Path(path_type=Path, file_okay=False)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@click.group(cls=OnecodeGroup)
def merchant() -> None:
    """Hold a merchant's keys: consent, unlink, show."""


@merchant.command()
@click.argument("directory", type=_KEYS)
@click.option("--chain-id", default=CHAIN_ID, show_default=True, help="Chain on which the merchant will be published.")
def keys(directory: Path, chain_id: str) -> None:
    """Make a controller key and a recovery key in DIRECTORY."""
    from onecode.network.merchant import RECOVERY_FILE, create_merchant

    made = create_merchant(directory, chain_id, secrets.token_bytes)
    console().show(
        {"merchant": made.text, "merchant_hex": made.id.hex(), "directory": str(directory)},
        [
            *pairs(("merchant", made.text), ("keys in", directory)),
            f"Move {RECOVERY_FILE} to another place: it outranks the controller key.",
        ],
    )


@merchant.command()
@click.argument("directory", type=_KEYS)
def show(directory: Path) -> None:
    """Show the merchant in DIRECTORY."""
    from onecode.code.identity import recovery_hash
    from onecode.network.merchant import load_merchant

    found = load_merchant(directory)
    plain = {
        "merchant": found.text,
        "merchant_hex": found.id.hex(),
        "chain_id": found.chain_id,
        "controller": found.controller.public.hex(),
        "recovery_hash": recovery_hash(found.recovery_public).hex(),
        "nonce": found.nonce,
        "consent_serial": found.consent_serial,
    }
    console().show(plain, pairs(*plain.items()))


@merchant.command()
@click.argument("directory", type=_KEYS)
@click.option("--platform", "platform_given", required=True, help="Platform id as text, e.g. ocsp1...")
@click.option("--service", default=SERVICE_PAY, show_default=True, help="Service of the record.")
@click.option("--hours", type=click.IntRange(1, 24 * 30), default=24, show_default=True, help="How long it counts.")
def consent(directory: Path, platform_given: str, service: str, hours: int) -> None:
    """Sign that a platform may publish a record; hand it what this prints (with --json: all that it needs)."""
    from onecode.code.identity import parse_platform_text
    from onecode.network.agreement import hand_over
    from onecode.network.merchant import load_merchant

    found = load_merchant(directory)
    platform = parse_platform_text(platform_given, found.prefix)
    handed = hand_over(found, platform, service, now_ms(), hours * 3_600_000)
    console().show({"merchant": found.text, "platform": platform_given, **handed}, [handed["consent"]])


@merchant.command()
@click.argument("directory", type=_KEYS)
@click.option("--platform", "platform_given", required=True, help="Platform id as text, e.g. ocsp1...")
@click.option("--node", required=True, help="Address of any node, e.g. http://127.0.0.1:8600.")
@click.option("--service", default=SERVICE_PAY, show_default=True, help="Service of the record.")
def unlink(directory: Path, platform_given: str, node: str, service: str) -> None:
    """End a platform's record, whatever that platform wants. No platform can stop it."""
    from onecode.code.identity import parse_platform_text
    from onecode.network.client import NodeClient
    from onecode.network.merchant import build_unlink, load_merchant, save_unlinked

    found = load_merchant(directory)
    platform = parse_platform_text(platform_given, found.prefix)
    submitted = NodeClient(node).submit(build_unlink(found, platform, service, now_ms()))
    save_unlinked(found, submitted.code)
    if submitted.code:
        raise Declined("merchant.unlink_failed", f"the registry refused: {submitted.name} (result {submitted.code})")
    console().show(
        {"unlinked": platform_given, "height": submitted.height, "transaction": submitted.hash},
        [f"unlinked {platform_given} at height {submitted.height}"],
    )
