"""The measurement of the simulated kind: SHA-384 over the code that runs inside the enclave."""

from __future__ import annotations

import hashlib
from pathlib import Path

TRUSTED = ("errors.py", "wire.py", "kinds.py", "schema.py", "host", "record", "proof", "query", "attest", "enclave")


def code_measurement() -> bytes:
    """48 bytes over relative path and content of every module of the enclave's rooms, in order of path.

    A process that measures itself proves nothing: hardware kinds are measured from outside. SIMULATED.
    """
    package = Path(__file__).resolve().parent.parent
    files = [path for name in TRUSTED for path in sorted((package / name).rglob("*.py"))]
    files += [package / name for name in TRUSTED if name.endswith(".py")]
    digest = hashlib.sha384()
    for path in sorted(files):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha384(path.read_bytes()).digest())
    return digest.digest()
