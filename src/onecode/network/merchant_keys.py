"""A merchant's keys over time: order keys, a new controller, recovery, and the sheet that recovery is printed on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from onecode.errors import Misconfigured
from onecode.host.files import load_private, save_private
from onecode.host.keyring import load_key, save_key
from onecode.network.merchant import (
    CONTROLLER_FILE,
    RECOVERY_FILE,
    TRANSACTION_VALID_MS,
    Merchant,
    build_signed,
)
from onecode.registry.transactions import (
    Body,
    Kind,
    MerchantOrderkeys,
    MerchantRecover,
    MerchantRecoverCancel,
    MerchantRotate,
    SignerKind,
    Transaction,
    sign_body,
    sign_possession,
)
from onecode.wire import SigningKey

ORDER_FILE, NEXT_FILE = "order.key", "controller.next.key"
GROUP_CHARS = 4


def make_order_key(merchant: Merchant, entropy: Callable[[int], bytes]) -> SigningKey:
    """The key that a till signs dynamic codes with: the one there is, or a new one."""
    path = merchant.directory / ORDER_FILE
    if not path.exists():
        save_key(path, SigningKey.from_seed(entropy(32)))
    return load_key(path)


def build_orderkeys(merchant: Merchant, keys: tuple[bytes, ...], now_ms: int) -> bytes:
    """The transaction by which these keys, and no others, sign the merchant's orders."""
    return build_signed(merchant, Kind.MERCHANT_ORDERKEYS, MerchantOrderkeys(order_keys=tuple(sorted(keys))), now_ms)


def make_next_key(merchant: Merchant, entropy: Callable[[int], bytes]) -> SigningKey:
    """The controller key that is to come. It is on disk before anything is sent, so no crash can lose it."""
    path = merchant.directory / NEXT_FILE
    if not path.exists():
        save_key(path, SigningKey.from_seed(entropy(32)))
    return load_key(path)


def build_rotate(merchant: Merchant, following: SigningKey, now_ms: int) -> bytes:
    """The transaction by which the controller gives way to `following` at once; outstanding consents end."""
    possession = sign_possession(merchant.chain_id, merchant.id, following)
    payload = MerchantRotate(controller=following.public, possession=possession)
    return build_signed(merchant, Kind.MERCHANT_ROTATE, payload, now_ms)


def build_recover(merchant: Merchant, recovery: SigningKey, following: SigningKey, now_ms: int) -> bytes:
    """The transaction by which the recovery key makes `following` the controller after the network's delay."""
    possession = sign_possession(merchant.chain_id, merchant.id, following)
    payload = MerchantRecover(controller=following.public, possession=possession)
    return _by_recovery(merchant, Kind.MERCHANT_RECOVER, payload.encoded(), recovery, now_ms)


def build_recover_cancel(merchant: Merchant, recovery: SigningKey, now_ms: int) -> bytes:
    """The transaction by which the recovery key ends a recovery that is pending."""
    payload = MerchantRecoverCancel().encoded()
    return _by_recovery(merchant, Kind.MERCHANT_RECOVER_CANCEL, payload, recovery, now_ms)


def _by_recovery(merchant: Merchant, kind: Kind, payload: bytes, recovery: SigningKey, now_ms: int) -> bytes:
    body = Body(
        kind=kind,
        signer=merchant.id,
        nonce=now_ms,  # rising, gaps allowed: the clock serves, and a sheet of paper keeps no count
        valid_until_ms=now_ms + TRANSACTION_VALID_MS,
        payload=payload,
    )
    signature = sign_body(merchant.chain_id, body, merchant.id, SignerKind.RECOVERY, recovery)
    return Transaction(body=body.encoded(), signatures=(signature,)).encoded()


def take_next_controller(merchant: Merchant) -> Merchant:
    """The next key as the controller, once the chain has it; the old one is kept beside it. May be cut and repeated."""
    path, following = merchant.directory / CONTROLLER_FILE, merchant.directory / NEXT_FILE
    old, new = load_private(path), load_private(following)
    if old != new:
        save_private(path.with_name(f"controller.before.{merchant.nonce}.key"), old, replace=True)
        save_private(path, new, replace=True)
    following.unlink()
    return dataclasses.replace(merchant, controller=load_key(path))


def recovery_sheet(merchant: Merchant) -> list[str]:
    """What to print and lock away: whose it is, the recovery key's seed in groups with a check, what to do with it."""
    recovery = load_recovery(merchant, None)
    seed = recovery.seed.hex()
    groups = [seed[at : at + GROUP_CHARS] for at in range(0, len(seed), GROUP_CHARS)]
    return [
        "ONECODE RECOVERY SHEET",
        "",
        f"merchant      {merchant.text}",
        f"chain         {merchant.chain_id}",
        f"public key    {recovery.public.hex()}",
        "",
        *("   ".join(groups[at : at + 4]) for at in range(0, len(groups), 4)),
        "",
        "These 64 characters outrank every other key of this merchant. Whoever reads them can take it over.",
        "Print this, lock it away, delete the file recovery.key. If the controller key is lost or stolen:",
        "type them into a file (spaces do not matter) and give `onecode merchant recover --recovery FILE`.",
    ]


def load_recovery(merchant: Merchant, path: Path | None) -> SigningKey:
    """The recovery key in a file, as written by `merchant keys` or typed in from the sheet; it must be this one's."""
    data = load_private(path or merchant.directory / RECOVERY_FILE)
    try:
        seed = bytes.fromhex("".join(data.decode("ascii").split()))
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise Misconfigured("merchant.recovery_seed", "the recovery key is 64 hexadecimal digits", field="recovery")
    key = SigningKey.from_seed(seed)
    if key.public != merchant.recovery_public:
        raise Misconfigured("merchant.recovery_other", "that is not this merchant's recovery key", field="recovery")
    return key
