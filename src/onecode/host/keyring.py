"""Keys in files: 32 bytes of seed in hex, mode 0600, one file a key."""

from __future__ import annotations

from pathlib import Path

from onecode.errors import Misconfigured
from onecode.host.files import load_private, save_private
from onecode.wire import SigningKey

SEED_BYTES = 32


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
