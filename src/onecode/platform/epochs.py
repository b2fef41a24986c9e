"""The platform's epoch keys on disk: records are sealed under the newest one, the key service releases them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from onecode.attest.epochs import EPOCH_KEY_BYTES, encode_epochs, parse_epochs
from onecode.platform.files import load_private, save_private


def create_epochs(path: Path, entropy: Callable[[int], bytes]) -> dict[int, bytes]:
    """A new file with epoch 1; `entropy(n)` gives n fresh random bytes. Never overwrites one that is there."""
    epochs = {1: entropy(EPOCH_KEY_BYTES)}
    save_private(path, encode_epochs(epochs))
    return epochs


def rotate_epochs(path: Path, entropy: Callable[[int], bytes]) -> int:
    """Add the next epoch; returns it. Records published from now on are sealed under it; old ones keep theirs."""
    epochs = load_epochs(path)
    epoch = max(epochs) + 1
    save_private(path, encode_epochs({**epochs, epoch: entropy(EPOCH_KEY_BYTES)}), replace=True)
    return epoch


def load_epochs(path: Path) -> dict[int, bytes]:
    """Epoch keys by epoch."""
    return parse_epochs(load_private(path))


def current_epoch(epochs: Mapping[int, bytes]) -> int:
    """The epoch that new records are sealed under."""
    return max(epochs)
