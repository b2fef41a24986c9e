"""The keys that the platform's server holds, one file a role.

The root key is not here (it stays offline), nor the governance key, nor the key service's: another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onecode.errors import Misconfigured
from onecode.host.keyring import load_key
from onecode.wire import SigningKey


@dataclass(frozen=True, slots=True)
class Keyring:
    """transaction: signs registry transactions and member requests; record: records; device: credentials; receipt:
    receipts; anchor: trust files."""

    transaction: SigningKey
    record: SigningKey
    device: SigningKey
    receipt: SigningKey
    anchor: SigningKey


def load_keyring(transaction: Path, record: Path, device: Path, receipt: Path, anchor: Path) -> Keyring:
    """All keys of the server, each another one."""
    keys = Keyring(*(load_key(path) for path in (transaction, record, device, receipt, anchor)))
    publics = {keys.transaction.public, keys.record.public, keys.device.public, keys.receipt.public, keys.anchor.public}
    if len(publics) != 5:
        raise Misconfigured("keyring.reused", "two roles have the same key; each role needs its own", field="keys")
    return keys
