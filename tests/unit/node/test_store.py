"""The store on disk: visibility, halting when room runs out, one writer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from onecode.errors import Misconfigured, Unreachable
from onecode.node.store import StoreConfig, open_reader, open_writer
from onecode.registry.store import MemoryStore, Table, envelope_key, link_key

SMALL = StoreConfig(map_bytes=1 << 20)


def test_a_snapshot_sees_commits_whole_and_stays(tmp_path: Path) -> None:
    store = open_writer(tmp_path / "new" / "store", SMALL)
    store.put(Table.META, b"a", b"1")
    store.put(Table.LINKS, b"a", b"2")
    assert store.get(Table.META, b"a") == b"1"
    with store.snapshot() as before:
        assert before.get(Table.META, b"a") is None
        store.commit()
        assert before.get(Table.META, b"a") is None
        with store.snapshot() as after:
            assert (after.get(Table.META, b"a"), after.get(Table.LINKS, b"a")) == (b"1", b"2")
    store.delete(Table.META, b"a")
    store.delete(Table.META, b"never there")
    store.rollback()
    assert store.get(Table.META, b"a") == b"1"
    store.close()
    again = open_writer(tmp_path / "new" / "store", SMALL)
    assert again.get(Table.LINKS, b"a") == b"2"
    again.close()


def test_scan_is_in_order_of_keys_and_of_one_table(tmp_path: Path) -> None:
    store = open_writer(tmp_path, SMALL)
    for number in (3, 1, 2):
        store.put(Table.VALUES, bytes((number,)), b"v%d" % number)
    store.put(Table.NODES, b"\x02", b"other table")
    store.commit()
    with store.snapshot() as view:
        assert list(view.scan(Table.VALUES)) == [(b"\1", b"v1"), (b"\2", b"v2"), (b"\3", b"v3")]
        assert [key for key, _ in view.scan(Table.VALUES, b"\2")] == [b"\2", b"\3"]
        assert list(view.scan(Table.LINKS)) == []
    store.warm()
    store.close()


def test_a_full_map_halts_and_stays_halted(tmp_path: Path) -> None:
    store = open_writer(tmp_path, SMALL)
    store.put(Table.META, b"kept", b"1")
    store.commit()
    with pytest.raises(Misconfigured) as caught:
        for number in range(10_000):
            store.put(Table.VALUES, b"%d" % number, bytes(2000))
    assert caught.value.code == "store.map_full"
    for act in (store.commit, store.raise_failure, lambda: store.get(Table.META, b"kept")):
        with pytest.raises(Misconfigured):
            act()
    store.close()
    roomy = open_writer(tmp_path, StoreConfig(map_bytes=64 << 20))
    assert roomy.get(Table.META, b"kept") == b"1"
    assert roomy.get(Table.VALUES, b"0") is None
    roomy.close()


def test_one_writer_a_store(tmp_path: Path) -> None:
    store = open_writer(tmp_path, SMALL)
    with pytest.raises(Misconfigured) as caught:
        open_writer(tmp_path, SMALL)
    assert caught.value.code == "store.locked"
    store.close()
    open_writer(tmp_path, SMALL).close()


def test_a_reader_before_the_writer_is_told_to_come_again(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        open_reader(tmp_path, SMALL)
    open_writer(tmp_path, SMALL).close()
    reader = open_reader(tmp_path, SMALL)
    with reader.snapshot() as view:
        assert view.get(Table.META, b"a") is None
    reader.close()


def test_the_write_transaction_stays_on_its_thread(tmp_path: Path) -> None:
    store = open_writer(tmp_path, SMALL)
    store.put(Table.META, b"a", b"1")
    errors: list[BaseException] = []

    def other() -> None:
        try:
            store.put(Table.META, b"b", b"2")
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(errors) == 1
    store.close()


def test_keys_of_links_and_envelopes_are_told_apart() -> None:
    store = MemoryStore()
    merchant, platform = b"m" * 20, b"p" * 20
    store.put(Table.LINKS, link_key(merchant, "pay"), b"links")
    store.put(Table.ENVELOPES, envelope_key(merchant, platform, "pay"), b"sealed")
    assert store.get(Table.LINKS, merchant + b"pay") == b"links"
    assert store.get(Table.ENVELOPES, merchant + platform + b"pay") == b"sealed"
