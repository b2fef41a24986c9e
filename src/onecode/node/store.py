"""The store on disk: one LMDB environment, one named database a table, one write transaction at a time.

A process that has the store open for writing also reads it through the same object: LMDB refuses to open one
environment twice in a process, and it must be opened after a fork. Durability is LMDB's default (no write map, sync at
every commit). Whatever LMDB cannot store halts the store for good: running out of room must never look like the refusal
of a transaction, or this node would disagree with the others.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import lmdb

from onecode.errors import Misconfigured, Unreachable
from onecode.registry.store import Table

LOCK_FILE = "writer.lock"


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How the store is opened; `map_bytes` must be the same in every process of a node.

    map_bytes: address space reserved, and the most that the store can hold; the file is as large as its contents.
    readers_max: read transactions at one time, over all processes.
    meta_sync: False saves a sync a commit; only where an engine replays what a power cut took.
    """

    map_bytes: int = 64 << 30
    readers_max: int = 126
    meta_sync: bool = True


class Snapshot:
    """The newest committed state, unchanging until the `with` block ends. Take it anew for every look; never await
    inside it: what it pins cannot be used again by the writer."""

    __slots__ = ("_tables", "_transaction")

    def __init__(self, transaction: lmdb.Transaction, tables: list[lmdb._Database]) -> None:
        self._transaction = transaction
        self._tables = tables

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self._transaction.get(key, None, self._tables[table])  # type: ignore[return-value] # no buffers asked

    def scan(self, table: Table, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows from key `start` on, in order of their keys."""
        with self._transaction.cursor(self._tables[table]) as cursor:
            if cursor.set_range(start):
                yield from cursor.iternext()  # type: ignore[misc] # no buffers asked

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._transaction.abort()


class ReaderStore:
    """The store as any process sees it."""

    def __init__(self, environment: lmdb.Environment, tables: list[lmdb._Database]) -> None:
        self._environment = environment
        self._tables = tables

    def snapshot(self) -> Snapshot:
        """The newest committed state, for one `with` block."""
        try:
            return Snapshot(self._environment.begin(), self._tables)
        except (lmdb.Error, MemoryError) as error:
            raise _halt(error) from error

    def warm(self) -> None:
        """Ask the kernel to read the file into memory: the first proofs are then as quick as later ones."""
        file = os.open(os.path.join(self._environment.path(), "data.mdb"), os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)

    def room(self) -> tuple[int, int]:
        """The most that the store can hold, and how much of it is or was in use, in bytes."""
        info, page = self._environment.info(), self._environment.stat()["psize"]
        return int(info["map_size"]), (int(info["last_pgno"]) + 1) * int(page)

    def commits(self) -> int:
        """How many commits the store has seen; from any thread."""
        try:
            return int(self._environment.info()["last_txnid"])
        except lmdb.Error as error:
            raise _halt(error) from error

    def close(self) -> None:
        """Close the environment; no snapshot may be open."""
        self._environment.close()


class WriterStore(ReaderStore):
    """The store as its one writer sees it: a `Writer` over the open write transaction, which begins by itself at the
    first access after `commit` or `rollback`. All of it on one thread; only `snapshot` may be used from others."""

    def __init__(self, environment: lmdb.Environment, tables: list[lmdb._Database], lock_file: int) -> None:
        super().__init__(environment, tables)
        self._lock_file = lock_file
        self._transaction: lmdb.Transaction | None = None
        self._thread = 0
        self._failure: Misconfigured | None = None

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self._open().get(key, None, self._tables[table])  # type: ignore[return-value] # no buffers asked

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        transaction = self._open()
        try:
            transaction.put(key, value, db=self._tables[table])
        except (lmdb.Error, MemoryError) as error:
            raise self._fail(error) from error

    def delete(self, table: Table, key: bytes) -> None:
        transaction = self._open()
        try:
            transaction.delete(key, db=self._tables[table])
        except (lmdb.Error, MemoryError) as error:
            raise self._fail(error) from error

    def empty(self, table: Table) -> None:
        """Forget every row of `table`; its pages are used again."""
        transaction = self._open()
        try:
            transaction.drop(self._tables[table], delete=False)
        except (lmdb.Error, MemoryError) as error:
            raise self._fail(error) from error

    def commit(self) -> None:
        """Make everything since the last commit durable and visible to new snapshots, in one step."""
        transaction = self._open()
        self._transaction = None
        try:
            transaction.commit()
            self._environment.reader_check()  # a reader that was killed would pin its pages for ever
        except (lmdb.Error, MemoryError) as error:
            raise self._fail(error) from error

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None

    def raise_failure(self) -> None:
        """Raise what halted the store, if anything did, even where a caller of `put` has swallowed it."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Roll back what is open, close the environment and let another process write."""
        self.rollback()
        super().close()
        os.close(self._lock_file)

    def _open(self) -> lmdb.Transaction:
        self.raise_failure()
        if self._transaction is None:
            self._thread = threading.get_ident()
            try:
                self._transaction = self._environment.begin(write=True)
            except (lmdb.Error, MemoryError) as error:
                raise self._fail(error) from error
        elif self._thread != threading.get_ident():
            raise RuntimeError("the write transaction belongs to another thread")
        return self._transaction

    def _fail(self, error: Exception) -> Misconfigured:
        self._failure = _halt(error)
        return self._failure


def open_writer(path: Path, config: StoreConfig = StoreConfig()) -> WriterStore:
    """Open the store in directory `path` for writing, made if it is not there.

    Raises `Misconfigured` if another process writes it, or if it cannot be opened.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock_file = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock_file)
        raise Misconfigured("store.locked", f"another process writes to {path}: one writer a store") from None
    try:
        return WriterStore(*_open_environment(path, config, readonly=False), lock_file)
    except BaseException:
        os.close(lock_file)
        raise


def open_reader(path: Path, config: StoreConfig = StoreConfig()) -> ReaderStore:
    """Open the store in directory `path` for reading; `Unreachable` until a writer has made it."""
    if not (path / "data.mdb").exists():
        raise Unreachable("store.absent", f"there is no store in {path} yet: start the node's writer first")
    return ReaderStore(*_open_environment(path, config, readonly=True))


def _open_environment(
    path: Path, config: StoreConfig, *, readonly: bool
) -> tuple[lmdb.Environment, list[lmdb._Database]]:
    try:
        environment = lmdb.open(
            str(path),
            map_size=config.map_bytes,
            max_dbs=len(Table),
            max_readers=config.readers_max,
            metasync=config.meta_sync,
            mode=0o600,
            readahead=False,
            readonly=readonly,
        )
    except (lmdb.Error, MemoryError) as error:
        raise _halt(error) from error
    try:
        names = [table.name.lower().encode("ascii") for table in sorted(Table)]
        # Place 0 is LMDB's own list of tables, so that a Table is its place.
        tables = [environment.open_db(None), *[environment.open_db(name, create=not readonly) for name in names]]
    except lmdb.NotFoundError:
        environment.close()
        raise Unreachable("store.absent", f"the store in {path} is still being made: try again") from None
    except (lmdb.Error, MemoryError) as error:
        environment.close()
        raise _halt(error) from error
    return environment, tables


def _halt(error: Exception) -> Misconfigured:
    """What stops the node, for something LMDB could not do."""
    if isinstance(error, lmdb.MapFullError):
        return Misconfigured("store.map_full", "the store is full: raise its map size in every process of the node")
    if isinstance(error, lmdb.DiskError):
        return Misconfigured("store.disk_full", "the disk is full: make room and start the node again")
    if isinstance(error, MemoryError | lmdb.MemoryError):
        return Misconfigured("store.memory", "memory has run out: give the node more and start it again")
    return Misconfigured("store.failed", f"the store failed ({error}): look at its disk, then start the node again")
