"""The file of a platform's epoch keys, as bytes: what the platform seals with and its key service releases.

JSON, so that an operator can see which epochs there are: {"version": 1, "epochs": [{"epoch": 1, "key": "hex"}, ...]},
ascending by epoch; a key that was made by a rotation has its time, "made_ms". Reading and writing the file is the
caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from onecode.errors import Misconfigured

EPOCHS_VERSION = 1
EPOCH_KEY_BYTES = 32
EPOCHS_MAX = 64  # a grant carries no more


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """One key of the file. made_ms: when it was made; 0 for the first one, which is used from the start."""

    key: bytes = field(repr=False)
    made_ms: int = 0


def _broken(what: str) -> Misconfigured:
    return Misconfigured("epochs.file", f"the epoch key file {what}", field="epoch_key_file")


def parse_epochs(data: bytes) -> dict[int, bytes]:
    """Epoch keys (32 bytes) by epoch (1 and up), ascending; raises `Misconfigured` and never repeats a key."""
    return {number: epoch.key for number, epoch in parse_stored_epochs(data).items()}


def parse_stored_epochs(data: bytes) -> dict[int, StoredEpoch]:
    """As `parse_epochs`, with the time at which each key was made."""
    try:
        file = json.loads(data)
        if set(file) != {"version", "epochs"} or file["version"] != EPOCHS_VERSION:
            raise _broken(f"is not of version {EPOCHS_VERSION}")
        epochs: dict[int, StoredEpoch] = {}
        for entry in file["epochs"]:
            number, key, made_ms = entry["epoch"], bytes.fromhex(entry["key"]), entry.get("made_ms", 0)
            if not set(entry) <= {"epoch", "key", "made_ms"} or type(number) is not int or len(key) != EPOCH_KEY_BYTES:
                raise _broken("holds an entry that is not an epoch with a key of 32 bytes")
            if type(made_ms) is not int or made_ms < 0:
                raise _broken("holds a made_ms that is no time")
            if number <= max(epochs, default=0):
                raise _broken("does not list its epochs ascending, from 1 up, each once")
            epochs[number] = StoredEpoch(key, made_ms)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _broken("is not what `encode_epochs` writes") from None
    if not 1 <= len(epochs) <= EPOCHS_MAX:
        raise _broken(f"must hold 1 to {EPOCHS_MAX} epochs")
    return epochs


def encode_epochs(epochs: Mapping[int, bytes]) -> bytes:
    """The file that holds these epoch keys, all to be used from the start."""
    return encode_stored_epochs({number: StoredEpoch(key) for number, key in epochs.items()})


def encode_stored_epochs(epochs: Mapping[int, StoredEpoch]) -> bytes:
    """The file that holds these epochs."""
    entries = [
        {"epoch": number, "key": epoch.key.hex()} | ({"made_ms": epoch.made_ms} if epoch.made_ms else {})
        for number, epoch in sorted(epochs.items())
    ]
    return json.dumps({"version": EPOCHS_VERSION, "epochs": entries}, indent=1).encode() + b"\n"
