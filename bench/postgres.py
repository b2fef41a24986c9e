"""A PostgreSQL server for one measurement, and the smallest client that asks it as fast as it can be asked from Python.

Protocol 3.0 over a Unix socket: one prepared statement, its questions pipelined on one connection, all of a loop's turn
in one write.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER = "postgres"
SELECT = "SELECT platform, record FROM records WHERE merchant = $1 AND service = $2"
Rows = list[list[bytes]]


def installed() -> bool:
    return all(shutil.which(name) for name in ("postgres", "initdb", "pg_ctl"))


@contextmanager
def running(directory: Path) -> Iterator[tuple[Path, int]]:
    """A server on a Unix socket in `directory`, which must not exist: the socket's path, and the server's process id.

    As root it runs as the user `postgres`, since `initdb` refuses root.
    """
    directory.mkdir(mode=0o700)
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        found = pwd.getpwnam(USER)
        os.chown(directory, found.pw_uid, found.pw_gid)
        identity = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": ()}
    data = directory / "data"

    def act(*command: str) -> None:
        subprocess.run(command, check=True, cwd=directory, stdout=subprocess.DEVNULL, **identity)

    act("initdb", "-D", str(data), "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8")
    options = f"-k {directory} -c listen_addresses= -c shared_buffers=1GB -c fsync=off -c jit=off"
    act("pg_ctl", "-D", str(data), "-o", options, "-l", str(directory / "log"), "-w", "start")
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        yield directory / ".s.PGSQL.5432", pid
    finally:
        act("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def startup() -> bytes:
    body = struct.pack(">I", 196608) + f"user\0{USER}\0database\0{USER}\0\0".encode()
    return struct.pack(">I", len(body) + 4) + body


def split(buffer: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole messages in `buffer` as (kind, body), and what is left."""
    found, at, end = [], 0, len(buffer)
    while end - at >= 5:
        length = int.from_bytes(buffer[at + 1 : at + 5], "big")
        if end - at - 1 < length:
            break
        found.append((buffer[at], buffer[at + 5 : at + 1 + length]))
        at += 1 + length
    return found, buffer[at:]


class _Setup:
    """A blocking connection for making the table."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._buffer = b""
        self._socket.sendall(startup())
        self.until(b"Z")

    def until(self, *kinds: bytes) -> None:
        while True:
            found, self._buffer = split(self._buffer + self._socket.recv(1 << 16))
            for kind, body in found:
                if kind == ord("E"):
                    raise RuntimeError(f"PostgreSQL: {body!r}")
                if bytes((kind,)) in kinds:
                    return

    def act(self, statement: str) -> None:
        self._socket.sendall(message(b"Q", statement.encode() + b"\0"))
        self.until(b"Z")

    def copy(self, rows: Iterable[tuple[bytes, str, bytes, bytes]]) -> None:
        self._socket.sendall(message(b"Q", b"COPY records FROM STDIN\0"))
        self.until(b"G")
        for merchant, service, platform, record in rows:
            line = f"\\\\x{merchant.hex()}\t{service}\t\\\\x{platform.hex()}\t\\\\x{record.hex()}\n"
            self._socket.sendall(message(b"d", line.encode()))
        self._socket.sendall(message(b"c", b""))
        self.until(b"Z")

    def close(self) -> None:
        self._socket.close()


def fill(path: Path, rows: Iterable[tuple[bytes, str, bytes, bytes]]) -> None:
    """The table of the directory with its index."""
    setup = _Setup(path)
    setup.act("CREATE TABLE records (merchant bytea, service text, platform bytea, record bytea)")
    setup.copy(rows)
    setup.act("CREATE UNIQUE INDEX by_merchant ON records (merchant, service, platform)")
    setup.act("VACUUM ANALYZE records")
    setup.close()


class Client(asyncio.Protocol):
    """One connection of a server process. `ask` calls back with the rows of one question."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._rows: Rows = []
        self._waiting: deque[Callable[[Rows], None]] = deque()
        self._out: list[bytes] = []
        self.ready = asyncio.Event()
        self._prepared = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        parse = message(b"P", b"s\0" + SELECT.encode() + b"\0\0\0") + message(b"S", b"")
        self._transport.write(startup() + parse)  # type: ignore[union-attr]

    def ask(self, merchant: bytes, service: bytes, done: Callable[[Rows], None]) -> None:
        """Bind (binary in, binary out), execute, sync."""
        values = b"".join(struct.pack(">I", len(value)) + value for value in (merchant, service))
        bind = b"\0s\0\0\x01\0\x01\0\x02%s\0\x01\0\x01" % values
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(message(b"B", bind) + b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\x04")
        self._waiting.append(done)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        found, self._buffer = split(self._buffer + data if self._buffer else data)
        for kind, body in found:
            if kind == 68:  # D, a row
                self._rows.append(_columns(body))
            elif kind == 90:  # Z, the end of one question
                rows, self._rows = self._rows, []
                if self._waiting:
                    self._waiting.popleft()(rows)
            elif kind == 49 and not self._prepared:  # 1, the statement is prepared
                self._prepared = True
                self.ready.set()
            elif kind == 69:  # E
                raise RuntimeError(f"PostgreSQL: {body!r}")


def _columns(body: bytes) -> list[bytes]:
    at, values = 2, []
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big")
        values.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    return values
