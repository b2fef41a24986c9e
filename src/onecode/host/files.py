"""Files that only the platform's own user may read, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from onecode.errors import Misconfigured

FILE_BYTES_MAX = 1 << 20


def load_private(path: Path) -> bytes:
    """The file's bytes; raises `Misconfigured` if it is missing, too large, or open to group or others."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Misconfigured("file.unreadable", f"{path} cannot be read: {error.strerror}", field=path.name) from None
    if mode & 0o077:
        raise Misconfigured("file.mode", f"{path} is open to others: chmod 600 it", field=path.name)
    if len(data) > FILE_BYTES_MAX:
        raise Misconfigured("file.size", f"{path} is larger than {FILE_BYTES_MAX} bytes", field=path.name)
    return data


def save_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write the file with mode 0600, durably; an existing one is kept unless `replace`. A crash leaves old or new."""
    if not replace and path.exists():
        raise Misconfigured("file.exists", f"{path} exists already and is not overwritten", field=path.name)
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.replace(draft, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
