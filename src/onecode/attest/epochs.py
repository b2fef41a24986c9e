"""The file of a platform's epoch keys, as bytes: what the platform seals with and its key service releases.

JSON, so that an operator can see which epochs there are: {"version": 1, "epochs": [{"epoch": 1, "key": "hex"}, ...]},
ascending by epoch. Reading and writing the file is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from onecode.errors import Misconfigured

EPOCHS_VERSION = 1
EPOCH_KEY_BYTES = 32
EPOCHS_MAX = 64  # a grant carries no more


def _broken(what: str) -> Misconfigured:
    return Misconfigured("epochs.file", f"the epoch key file {what}", field="epoch_key_file")


def parse_epochs(data: bytes) -> dict[int, bytes]:
    """Epoch keys (32 bytes) by epoch (1 and up), ascending; raises `Misconfigured` and never repeats a key."""
    try:
        file = json.loads(data)
        if set(file) != {"version", "epochs"} or file["version"] != EPOCHS_VERSION:
            raise _broken(f"is not of version {EPOCHS_VERSION}")
        epochs: dict[int, bytes] = {}
        for entry in file["epochs"]:
            number, key = entry["epoch"], bytes.fromhex(entry["key"])
            if set(entry) != {"epoch", "key"} or type(number) is not int or len(key) != EPOCH_KEY_BYTES:
                raise _broken("holds an entry that is not an epoch with a key of 32 bytes")
            if number <= max(epochs, default=0):
                raise _broken("does not list its epochs ascending, from 1 up, each once")
            epochs[number] = key
    except (ValueError, TypeError, KeyError):
        raise _broken("is not what `encode_epochs` writes") from None
    if not 1 <= len(epochs) <= EPOCHS_MAX:
        raise _broken(f"must hold 1 to {EPOCHS_MAX} epochs")
    return epochs


def encode_epochs(epochs: Mapping[int, bytes]) -> bytes:
    """The file that holds these epoch keys."""
    entries = [{"epoch": number, "key": epochs[number].hex()} for number in sorted(epochs)]
    return json.dumps({"version": EPOCHS_VERSION, "epochs": entries}, indent=1).encode() + b"\n"
