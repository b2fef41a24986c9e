"""How a platform comes to be: its keys in files, the admission that the network's genesis or governance takes.

Everything here is done once, offline: the root key signs, and then belongs in a safe.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onecode.host.files import save_private
from onecode.host.keyring import SEED_BYTES, save_key
from onecode.platform.epochs import create_epochs
from onecode.proof.governance import DAY_MS, Admission
from onecode.proof.leaves import KeyState, PlatformKey, PlatformNode, Role
from onecode.proof.trust import certify_anchor
from onecode.wire import SigningKey

ANCHOR_DAYS = 89  # a day less than the most, so that clocks may differ
ROOT_KEY_FILE = "root.key"
EPOCH_KEY_FILE = "epochs.json"
ANCHOR_CERTIFICATE_FILE = "anchor.certificate"
TRUST_FILE = "trust.cbor"


def key_file(role: Role) -> str:
    """The file name of a role's key, e.g. "key-service.key"."""
    return f"{role.name.lower().replace('_', '-')}.key"


def server_key_options(keys: Path) -> dict[str, str]:
    """The options of a platform's server that name its keys in the directory `keys`."""
    roles = (Role.TRANSACTION, Role.RECORD, Role.DEVICE, Role.RECEIPT, Role.ANCHOR)
    return {
        "anchor_certificate_file": str(keys / ANCHOR_CERTIFICATE_FILE),
        "epoch_key_file": str(keys / EPOCH_KEY_FILE),
        **{f"{role.name.lower()}_key_file": str(keys / key_file(role)) for role in roles},
    }


def key_service_key_options(keys: Path) -> dict[str, str]:
    """The options of a platform's key service that name its keys in the directory `keys`."""
    return {"key_file": str(keys / key_file(Role.KEY_SERVICE)), "epochs_file": str(keys / EPOCH_KEY_FILE)}


def create_platform_keys(
    directory: Path,
    *,
    chain_id: str,
    name: str,
    entropy: Callable[[int], bytes],
    now_ms: int,
    url: str | None = None,
    key_service_url: str | None = None,
    nodes: tuple[PlatformNode, ...] = (),
) -> Admission:
    """Root key, one key for each role, the anchor's certificate and the first epoch key, in files of `directory`.

    `entropy(n)` gives n fresh random bytes. Returns the message by which the platform is admitted. Never overwrites.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = SigningKey.from_seed(entropy(SEED_BYTES))
    save_key(directory / ROOT_KEY_FILE, root)
    anchor_not_after_ms = now_ms + ANCHOR_DAYS * DAY_MS
    keys = []
    for role in Role:
        key = SigningKey.from_seed(entropy(SEED_BYTES))
        save_key(directory / key_file(role), key)
        not_after_ms = None
        if role == Role.ANCHOR:
            not_after_ms = anchor_not_after_ms
            certificate = certify_anchor(chain_id, root, key.public, not_after_ms)
            save_private(directory / ANCHOR_CERTIFICATE_FILE, certificate.encoded())
        keys.append(
            PlatformKey(
                role=role,
                key=key.public,
                state=KeyState.ACTIVE,
                height=0,
                since_ms=now_ms,
                not_after_ms=not_after_ms,
            )
        )
    create_epochs(directory / EPOCH_KEY_FILE, entropy)
    return Admission(
        root=root.public, name=name, keys=tuple(keys), url=url, key_service_url=key_service_url, nodes=nodes
    )
