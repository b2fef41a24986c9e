"""SQLite behind SQLAlchemy: write-ahead log, a full sync at every commit, one writer at a time.

What is acknowledged has been synced; a crash at any point leaves the last committed transaction.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from onecode.errors import Misconfigured, Unreachable
from onecode.platform.schema import SCHEMA_VERSION, Base
from onecode.platform.schema_rules import RULES

FILE = "platform.sqlite3"
LOCK_FILE = "platform.lock"
BUSY_TIMEOUT_MS = 5_000
_BEGIN = "onecode_begin"


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction by itself; `_on_begin` does
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get(_BEGIN, 'DEFERRED')}")


class Database:
    """One database of one process. Sessions from any thread; writes one after another."""

    def __init__(self, engine: Engine, lock_file: int | None = None) -> None:
        self._engine = engine
        self._writing = engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        self._lock = threading.Lock()
        self._lock_file = lock_file

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent look; nothing written is kept."""
        with _reported(), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: durable when the block ends, undone if it raises. Call nothing slow inside."""
        with _reported(), self._lock, Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection and let another process open the database."""
        self._engine.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:  # locked, full, or the disk is gone
        raise Unreachable("database.failed", f"the platform's database failed: {error.orig}") from error


def open_database(directory: Path) -> Database:
    """Open the database in `directory`, made if it is not there. One process at a time."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock_file = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock_file)
        raise Misconfigured("database.locked", f"another process uses the database in {directory}") from None
    path = directory / FILE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = create_engine(f"sqlite:///{path}", pool_size=16, max_overflow=16)
    return _prepared(engine, lock_file)


def open_memory() -> Database:
    """A database in memory, on one connection: for tests of one thread."""
    return _prepared(create_engine("sqlite://", poolclass=StaticPool), None)


def _prepared(engine: Engine, lock_file: int | None) -> Database:
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    database = Database(engine, lock_file)
    with database.write() as session:
        version = session.scalar(text("PRAGMA user_version"))
        if version == 0:
            Base.metadata.create_all(session.connection())
            for rule in RULES:
                session.execute(text(rule))
            session.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
        elif version != SCHEMA_VERSION:
            raise Misconfigured(
                "database.version", f"the database has schema {version}; this program needs {SCHEMA_VERSION}"
            )
    return database
