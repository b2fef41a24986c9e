"""A merchant's own side: its two keys in a directory, and what they sign.

The controller key consents and unlinks; the recovery key outranks it and belongs somewhere else: both are made in one
directory so that a small shop can begin.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onecode.code.identity import merchant_id, merchant_text, prefix_of, recovery_hash
from onecode.errors import Misconfigured
from onecode.host.files import load_private, save_private
from onecode.host.keyring import load_key, save_key
from onecode.registry.transactions import (
    Consent,
    Kind,
    MerchantUnlink,
    Purpose,
    SignerKind,
    build_transaction,
    sign_consent,
)
from onecode.schema import Message
from onecode.wire import SigningKey

STATE_FILE, CONTROLLER_FILE, RECOVERY_FILE = "merchant.json", "controller.key", "recovery.key"
CONSENT_MS = 24 * 3600 * 1000
TRANSACTION_VALID_MS = 15 * 60_000
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Merchant:
    """nonce: the last one that the controller used; consent_serial: the current one, as the chain counts it.

    birth: controller key and recovery hash from which the id was made; they stay when the keys are replaced.
    """

    directory: Path
    chain_id: str
    controller: SigningKey
    recovery_public: bytes
    nonce: int
    consent_serial: int
    birth: tuple[bytes, bytes]

    @property
    def id(self) -> bytes:
        """20 bytes."""
        return merchant_id(*self.birth)

    @property
    def prefix(self) -> str:
        return prefix_of(self.chain_id)

    @property
    def text(self) -> str:
        return merchant_text(self.id, self.prefix)


def create_merchant(directory: Path, chain_id: str, entropy: Callable[[int], bytes]) -> Merchant:
    """New keys in `directory` (0700, files 0600), never over old ones; `entropy(n)` gives n fresh random bytes."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    controller, recovery = SigningKey.from_seed(entropy(32)), SigningKey.from_seed(entropy(32))
    save_key(directory / CONTROLLER_FILE, controller)
    save_key(directory / RECOVERY_FILE, recovery)
    birth = (controller.public, recovery_hash(recovery.public))
    merchant = Merchant(directory, chain_id, controller, recovery.public, 0, 0, birth)
    save_merchant(merchant, replace=False)
    return merchant


def load_merchant(directory: Path) -> Merchant:
    """The merchant in `directory`; its recovery key need not be there."""
    try:
        state = json.loads(load_private(directory / STATE_FILE))
        if state["version"] != _VERSION:
            raise KeyError
        return Merchant(
            directory,
            str(state["chain_id"]),
            load_key(directory / CONTROLLER_FILE),
            bytes.fromhex(state["recovery"]),
            int(state["nonce"]),
            int(state["consent_serial"]),
            (bytes.fromhex(state["birth"][0]), bytes.fromhex(state["birth"][1])),
        )
    except (KeyError, TypeError, ValueError):
        raise Misconfigured(
            "merchant.file", f"{directory / STATE_FILE} is not what `onecode merchant keys` writes", field="keys"
        ) from None


def save_merchant(merchant: Merchant, *, replace: bool = True) -> None:
    """Write what the directory says of the merchant, durably."""
    state = {
        "version": _VERSION,
        "chain_id": merchant.chain_id,
        "merchant": merchant.text,
        "recovery": merchant.recovery_public.hex(),
        "nonce": merchant.nonce,
        "consent_serial": merchant.consent_serial,
        "birth": [key.hex() for key in merchant.birth],
    }
    save_private(merchant.directory / STATE_FILE, json.dumps(state, indent=1).encode() + b"\n", replace=replace)


def build_consent(merchant: Merchant, platform: bytes, service: str, now_ms: int, valid_ms: int = CONSENT_MS) -> bytes:
    """The encoded `SignedConsent` by which `platform` may publish for this merchant and service."""
    consent = Consent(
        purpose=Purpose.PUBLISH,
        merchant=merchant.id,
        platform=platform,
        service=service,
        consent_serial=merchant.consent_serial,
        expires_ms=now_ms + valid_ms,
    )
    return sign_consent(merchant.chain_id, consent, merchant.controller).encoded()


def build_unlink(merchant: Merchant, platform: bytes, service: str, now_ms: int) -> bytes:
    """The transaction by which the merchant ends a platform's link, whatever that platform wants."""
    return build_signed(merchant, Kind.MERCHANT_UNLINK, MerchantUnlink(platform=platform, service=service), now_ms)


def build_signed(merchant: Merchant, kind: Kind, payload: Message, now_ms: int) -> bytes:
    """A transaction of the controller key with its next nonce."""
    return build_transaction(
        merchant.chain_id,
        kind,
        payload,
        signer=merchant.id,
        signer_kind=SignerKind.CONTROLLER,
        key=merchant.controller,
        nonce=merchant.nonce + 1,
        valid_until_ms=now_ms + TRANSACTION_VALID_MS,
    )
