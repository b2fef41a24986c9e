"""Sending a merchant's transactions so that no lost answer and no kill leaves it with a nonce it does not know.

What is about to be sent is on disk first, with what it will have used. The next command asks the node what became of
it, and sends the same bytes again where nothing did: a nonce is used once, so they cannot count twice.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from enum import StrEnum

from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.host.files import load_private, save_private
from onecode.network.client import NodeClient, Submitted
from onecode.network.merchant import Merchant, save_merchant
from onecode.network.merchant_keys import NEXT_FILE, take_next_controller
from onecode.registry.results import ADMISSION_MAX
from onecode.wire import sha256

PENDING_FILE = "pending.json"
POOL_WAIT_S = 2.0  # what a node took and has not put into a block yet is in one by then


class Effect(StrEnum):
    """What a transaction does to what the merchant keeps count of, beside using a nonce."""

    NONE = "none"
    SERIAL = "serial"  # unlink, release: consents that were given end
    ROTATE = "rotate"  # so does this, and the next controller key is the controller


def submit_signed(
    merchant: Merchant, node: NodeClient, build: Callable[[Merchant], bytes], effect: Effect
) -> tuple[Merchant, Submitted]:
    """Settle what was sent before, then build, send and settle this. The caller looks at `code`.

    `Unreachable` leaves it pending: the next command finds out. Any other error of the node means that it took nothing.
    """
    merchant = settle_pending(merchant, node)
    transaction = build(merchant)
    pending: dict[str, object] = {
        "transaction": transaction.hex(),
        "effect": effect.value,
        "nonce": merchant.nonce + 1,
        "consent_serial": merchant.consent_serial + (effect != Effect.NONE),
    }
    path = merchant.directory / PENDING_FILE
    save_private(path, json.dumps(pending).encode() + b"\n", replace=True)
    try:
        submitted = node.submit(transaction)
    except Unreachable:
        raise
    except OnecodeError:
        path.unlink()
        raise
    return _settle(merchant, pending, submitted.code), submitted


def settle_pending(merchant: Merchant, node: NodeClient) -> Merchant:
    """The merchant after whatever was sent before; sends it again if no node has it."""
    path = merchant.directory / PENDING_FILE
    if not path.exists():
        return merchant
    try:
        pending = json.loads(load_private(path))
        transaction = bytes.fromhex(pending["transaction"])
        Effect(pending["effect"])
    except (KeyError, TypeError, ValueError):
        raise Misconfigured("merchant.pending", f"{path} is not what this command writes", field="directory") from None
    code = node.look_up(sha256(transaction))
    if code is None:
        try:
            code = node.submit(transaction).code
        except Unreachable:
            raise
        except OnecodeError:  # too old by now, or waiting for a block already
            time.sleep(POOL_WAIT_S)
            code = node.look_up(sha256(transaction))
    if code is None:
        path.unlink()
        return merchant
    return _settle(merchant, pending, code)


def _settle(merchant: Merchant, pending: dict[str, object], code: int) -> Merchant:
    """Count what the transaction used. The same again changes nothing: all values are those after it."""
    done = code == 0
    effect = Effect(str(pending["effect"]))
    if done or code > ADMISSION_MAX:
        merchant = dataclasses.replace(merchant, nonce=int(str(pending["nonce"])))
    if done:
        merchant = dataclasses.replace(merchant, consent_serial=int(str(pending["consent_serial"])))
    if done and effect == Effect.ROTATE and (merchant.directory / NEXT_FILE).exists():
        merchant = take_next_controller(merchant)
    save_merchant(merchant)
    (merchant.directory / PENDING_FILE).unlink(missing_ok=True)
    return merchant
