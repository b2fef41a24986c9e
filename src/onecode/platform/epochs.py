"""The platform's epoch keys on disk. The key service releases them all; records are sealed under the newest one that
enclaves have had the time to get: `lead_ms` after it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from onecode.attest.epochs import (
    EPOCH_KEY_BYTES,
    EPOCHS_MAX,
    StoredEpoch,
    encode_stored_epochs,
    parse_stored_epochs,
)
from onecode.errors import Declined
from onecode.host.files import load_private, save_private


def create_epochs(path: Path, entropy: Callable[[int], bytes]) -> dict[int, StoredEpoch]:
    """A new file with epoch 1; `entropy(n)` gives n fresh random bytes. Never overwrites one that is there."""
    epochs = {1: StoredEpoch(entropy(EPOCH_KEY_BYTES))}
    save_private(path, encode_stored_epochs(epochs))
    return epochs


def replace_epochs(path: Path, last: int, entropy: Callable[[int], bytes]) -> int:
    """A new file in place of one that is lost, with the epoch after `last`, the highest that was ever used; returns it.
    Records under lost keys open no more: they are published again when `last` is retired. Never overwrites."""
    save_private(path, encode_stored_epochs({last + 1: StoredEpoch(entropy(EPOCH_KEY_BYTES))}))
    return last + 1


def rotate_epochs(path: Path, entropy: Callable[[int], bytes], now_ms: int) -> int:
    """Add the next epoch, made now; returns it. Old keys stay, and so do the records under them. One at a time."""
    epochs = load_epochs(path)
    if len(epochs) == EPOCHS_MAX:
        raise Declined("epoch.full", f"the file holds {EPOCHS_MAX} epochs: retire old ones first")
    epoch = max(epochs) + 1
    made = StoredEpoch(entropy(EPOCH_KEY_BYTES), now_ms)
    save_private(path, encode_stored_epochs({**epochs, epoch: made}), replace=True)
    return epoch


def erase_epochs(path: Path, last: int) -> None:
    """Erase the keys of epochs up to `last`: whatever was sealed under them opens no more. One at a time."""
    epochs = load_epochs(path)
    kept = {number: epoch for number, epoch in epochs.items() if number > last}
    if kept and len(kept) < len(epochs):
        save_private(path, encode_stored_epochs(kept), replace=True)


def load_epochs(path: Path) -> dict[int, StoredEpoch]:
    """Epochs by number."""
    return parse_stored_epochs(load_private(path))


def current_epoch(epochs: Mapping[int, StoredEpoch], now_ms: int, lead_ms: int) -> int:
    """The epoch that new records are sealed under: the newest that was made `lead_ms` ago."""
    return max((number for number, epoch in epochs.items() if epoch.made_ms + lead_ms <= now_ms), default=min(epochs))
