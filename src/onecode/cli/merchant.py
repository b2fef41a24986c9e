"""`onecode merchant`: a merchant's keys, its consents, and how it ends a platform's link by itself."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onecode.cli.code import payload_of
from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.errors import Declined, Malformed
from onecode.host.clock import now_ms
from onecode.record.payment import SERVICE_PAY

if TYPE_CHECKING:
    from onecode.network.aliases import LabelAlias

CHAIN_ID = "solo-onecode"  # of the network that `onecode up` makes
_KEYS = click.Path(path_type=Path, file_okay=False)


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
@click.option("--alias", "label", help="Picture or payload of an old label: consent to bind it, instead of a record.")
@click.option("--node", help="With --alias: address of any node, e.g. http://127.0.0.1:8600.")
@click.option("--guid", help="With --alias: which scheme, where the label has several.")
def consent(
    directory: Path,
    platform_given: str,
    service: str,
    hours: int,
    label: str | None,
    node: str | None,
    guid: str | None,
) -> None:
    """Sign that a platform may publish a record; hand it what this prints (with --json: all that it needs).

    With --alias: that it may bind the label of another scheme, which it speaks for, to this merchant.
    """
    from onecode.code.identity import parse_platform_text
    from onecode.network.agreement import hand_over
    from onecode.network.aliases import choose_alias, hand_over_alias
    from onecode.network.merchant import load_merchant

    found = load_merchant(directory)
    platform = parse_platform_text(platform_given, found.prefix)
    if label is not None:
        chosen = choose_alias(_aliases_of(label, node, found.prefix), guid, platform)
        alias = hand_over_alias(found, chosen, now_ms(), hours * 3_600_000)
        console().show({"platform": platform_given, **alias}, [str(alias["consent"])])
        return
    handed = hand_over(found, platform, service, now_ms(), hours * 3_600_000)
    console().show({"merchant": found.text, "platform": platform_given, **handed}, [handed["consent"]])


def _aliases_of(label: str, node: str | None, prefix: str) -> list[LabelAlias]:
    from onecode.network.aliases import fetch_aliases
    from onecode.network.client import NodeClient

    if node is None:
        raise Malformed("cli.node", "name a node by --node: it knows the schemes of labels", field="node")
    return fetch_aliases(NodeClient(node), payload_of(label), prefix)


@merchant.command()
@click.argument("directory", type=_KEYS)
@click.argument("label")
@click.option("--node", required=True, help="Address of any node, e.g. http://127.0.0.1:8600.")
@click.option("--guid", help="Which scheme, where the label has several.")
def release(directory: Path, label: str, node: str, guid: str | None) -> None:
    """Take back the alias that LABEL (an old label's picture or payload) is; it pays nobody from then on."""
    from onecode.network.aliases import build_release, choose_alias
    from onecode.network.client import NodeClient
    from onecode.network.merchant import load_merchant
    from onecode.network.merchant_sending import Effect, submit_signed

    found = load_merchant(directory)
    chosen = choose_alias(_aliases_of(label, node, found.prefix), guid)
    _, submitted = submit_signed(
        found, NodeClient(node), lambda merchant: build_release(merchant, chosen, now_ms()), Effect.SERIAL
    )
    if submitted.code:
        raise Declined("merchant.release_failed", f"the registry refused: {submitted.name} (result {submitted.code})")
    console().show(
        {"released": chosen.alias.guid, "height": submitted.height, "transaction": submitted.hash},
        [f"released the alias of {chosen.alias.guid} at height {submitted.height}"],
    )


@merchant.command()
@click.argument("directory", type=_KEYS)
@click.option("--platform", "platform_given", required=True, help="Platform id as text, e.g. ocsp1...")
@click.option("--node", required=True, help="Address of any node, e.g. http://127.0.0.1:8600.")
@click.option("--service", default=SERVICE_PAY, show_default=True, help="Service of the record.")
def unlink(directory: Path, platform_given: str, node: str, service: str) -> None:
    """End a platform's record, whatever that platform wants. No platform can stop it."""
    from onecode.code.identity import parse_platform_text
    from onecode.network.client import NodeClient
    from onecode.network.merchant import build_unlink, load_merchant
    from onecode.network.merchant_sending import Effect, submit_signed

    found = load_merchant(directory)
    platform = parse_platform_text(platform_given, found.prefix)
    _, submitted = submit_signed(
        found, NodeClient(node), lambda merchant: build_unlink(merchant, platform, service, now_ms()), Effect.SERIAL
    )
    if submitted.code:
        raise Declined("merchant.unlink_failed", f"the registry refused: {submitted.name} (result {submitted.code})")
    console().show(
        {"unlinked": platform_given, "height": submitted.height, "transaction": submitted.hash},
        [f"unlinked {platform_given} at height {submitted.height}"],
    )
