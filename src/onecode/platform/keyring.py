"""The keys that the platform's server holds: one file a role, 32 bytes of seed in hex, mode 0600.

The root key is not here (it stays offline), nor the governance key, nor the key service's: another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onecode.errors import Misconfigured
from onecode.platform.files import load_private, save_private
from onecode.wire import SigningKey

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Keyring:
    """transaction: signs registry transactions and member requests; record: records; device: credentials; receipt:
    receipts; anchor: trust files."""

    transaction: SigningKey
    record: SigningKey
    device: SigningKey
    receipt: SigningKey
    anchor: SigningKey


def load_key(path: Path) -> SigningKey:
    """The key in one file; raises `Misconfigured` without repeating what the file holds."""
    try:
        seed = bytes.fromhex(load_private(path).decode("ascii").strip())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise Misconfigured("keyring.seed", f"{path} must hold {SEED_BYTES} bytes in hex", field=path.name)
    return SigningKey.from_seed(seed)


def save_key(path: Path, key: SigningKey) -> None:
    """Write a key's seed; never over another."""
    save_private(path, key.seed.hex().encode("ascii") + b"\n")


def load_keyring(transaction: Path, record: Path, device: Path, receipt: Path, anchor: Path) -> Keyring:
    """All keys of the server, each another one."""
    keys = Keyring(*(load_key(path) for path in (transaction, record, device, receipt, anchor)))
    publics = {keys.transaction.public, keys.record.public, keys.device.public, keys.receipt.public, keys.anchor.public}
    if len(publics) != 5:
        raise Misconfigured("keyring.reused", "two roles have the same key; each role needs its own", field="keys")
    return keys
