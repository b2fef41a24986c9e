"""State sync through the four snapshot calls: a state goes from one store to another, and no lie gets in."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onecode.errors import Misconfigured
from onecode.node import abci_messages as messages
from onecode.node import snapshot_maker
from onecode.node.abci_messages import Method, SnapshotOffer, parse_offer_snapshot, read_fields
from onecode.node.blocks import load_block, load_first, load_proven, load_state
from onecode.node.restore import RESTORE_KEY, Offer, Verdict, restoring
from onecode.node.snapshot_maker import SnapshotMaker, SnapshotOptions
from onecode.node.snapshot_making import make_snapshot, state_chunks
from onecode.node.snapshots import FORMAT, Shelf, SnapshotInfo, SnapshotMetadata, parse_metadata, snapshot_info
from onecode.node.store import StoreConfig
from onecode.proof.map import Section
from onecode.proof.protobuf import bytes_field, message_field, varint_field
from onecode.proof.range import LAST
from onecode.registry.chunks import Chunk, Row, parse_chunk
from onecode.registry.map import section_roots
from onecode.registry.results import Result
from onecode.registry.store import Table
from onecode.wire import sha256
from unit.node.test_abci_application import Engine, last
from unit.registry.world import Merchant

pytestmark = pytest.mark.clock

CHUNK_BYTES = 1_000
STATE = (Table.NODES, Table.VALUES, Table.LINKS, Table.ENVELOPES)
PEER = "a1" * 20


class Source(Engine):
    """A chain with some merchants, and the snapshot of its newest provable state."""

    def __init__(self, path: Path, merchants: int = 12) -> None:
        super().__init__(path / "source")
        self.merchants = [Merchant(f"m{number}") for number in range(merchants)]
        first, second = self.world.platforms[:2]
        app_hash = self.block(self.init_chain())
        if merchants:
            items = [self.world.first(merchant, first) for merchant in self.merchants]
            app_hash = self.block(app_hash, self.world.publish(first, *items))
            items = [self.world.first(merchant, second) for merchant in self.merchants[::3]]
            app_hash = self.block(app_hash, self.world.publish(second, *items))
            app_hash = self.block(app_hash, self.world.withdraw(first, self.merchants[0], 1))
        self.app_hash = self.block(app_hash)
        self.shelf = Shelf(path / "snapshots")
        with self.store.snapshot() as view:
            self.state = load_state(view)
            make_snapshot(view, self.shelf, self.state.height, 2, CHUNK_BYTES)
        (self.info,) = self.shelf.offered(self.state.height)

    def chunk(self, index: int) -> bytes:
        found = self.shelf.load_chunk(self.info.height, index)
        assert found is not None
        return found

    def rows(self, table: Table) -> dict[bytes, bytes]:
        with self.store.snapshot() as view:
            return dict(view.scan(table))


class Joiner(Engine):
    """A node without a state, on the chain of `source`."""

    def __init__(self, path: Path, source: Source) -> None:
        super().__init__(path)
        self.world, self.blocks = source.world, source.blocks

    def offer(self, info: SnapshotInfo, app_hash: bytes) -> Offer:
        snapshot = messages.list_snapshots_response([info])
        inner = read_fields(snapshot)[1][0]
        assert isinstance(inner, bytes)
        answer = self.application.answer(Method.OFFER_SNAPSHOT, message_field(1, inner) + bytes_field(2, app_hash))
        return Offer(int(read_fields(answer)[1][-1]))

    def apply(self, index: int, chunk: bytes) -> tuple[Verdict, list[Any], list[Any]]:
        request = varint_field(1, index) + bytes_field(2, chunk) + bytes_field(3, PEER.encode())
        answer = read_fields(self.application.answer(Method.APPLY_SNAPSHOT_CHUNK, request))
        return Verdict(int(answer[1][-1])), answer.get(2, []), answer.get(3, [])

    def join(self, source: Source) -> None:
        assert self.offer(source.info, source.state.app_hash) == Offer.ACCEPT
        for index in range(source.info.chunks):
            assert self.apply(index, source.chunk(index)) == (Verdict.ACCEPT, [], [])

    def rows(self, table: Table) -> dict[bytes, bytes]:
        with self.store.snapshot() as view:
            return dict(view.scan(table))


@pytest.fixture
def source(tmp_path: Path) -> Any:
    made = Source(tmp_path)
    yield made
    made.close()


@pytest.fixture
def joiner(tmp_path: Path, source: Source) -> Any:
    made = Joiner(tmp_path / "joiner", source)
    yield made
    made.close()


def test_a_state_is_restored_whole_and_the_chain_goes_on(source: Source, joiner: Joiner) -> None:
    assert source.info.chunks > len(Section) + 3  # several of merchants
    joiner.join(source)
    for table in STATE:
        assert joiner.rows(table) == source.rows(table), table
    info = read_fields(joiner.application.answer(Method.INFO, b""))
    assert (info[4][-1], last(info[5])) == (source.state.height, source.state.app_hash)
    with joiner.store.snapshot() as view:
        assert restoring(view)
        assert load_proven(view) is None  # nothing is served before its header is there
    following = source.state.height + 1
    assert joiner.finalize(following) == source.app_hash
    with joiner.store.snapshot() as view:
        assert not restoring(view)
        proven = load_proven(view)
        assert proven is not None
        assert proven.signed.header.height == following
        assert load_first(view) == following
        assert load_block(view, source.state.height) is None
    new = source.world.publish(
        source.world.platforms[0], source.world.first(Merchant("new"), source.world.platforms[0])
    )
    app_hash = source.block(source.app_hash, new)
    assert joiner.finalize(following + 1) == app_hash
    assert joiner.check(new) == Result.NONCE  # it is executed


def test_an_empty_registry_is_restored_too(tmp_path: Path) -> None:
    source = Source(tmp_path, merchants=0)
    joiner = Joiner(tmp_path / "joiner", source)
    joiner.join(source)
    assert joiner.rows(Table.NODES) == source.rows(Table.NODES)
    source.close()
    joiner.close()


def test_a_chunk_that_is_not_the_one_named_is_fetched_from_another(source: Source, joiner: Joiner) -> None:
    assert joiner.offer(source.info, source.state.app_hash) == Offer.ACCEPT
    chunk = source.chunk(0)
    for altered in (chunk[:-1] + bytes((chunk[-1] ^ 1,)), chunk[:-1], b"", source.chunk(1)):
        assert joiner.apply(0, altered) == (Verdict.RETRY, [b"\0"], [PEER.encode()])
    for index in range(source.info.chunks):
        assert joiner.apply(index, source.chunk(index))[0] == Verdict.ACCEPT
    assert joiner.rows(Table.VALUES) == source.rows(Table.VALUES)


def relabelled(source: Source, chunks: list[bytes], **changes: Any) -> SnapshotInfo:
    """The snapshot of a liar: other chunks, and metadata that names them."""
    metadata = parse_metadata(source.info.metadata)
    hashes = b"".join(map(sha256, chunks))
    return snapshot_info(source.info.height, dataclasses.replace(metadata, chunk_hashes=hashes, **changes).encoded())


def change(row: int = 0, **changes: Any) -> Callable[[Chunk], Chunk]:
    """A chunk with one row changed."""
    return lambda chunk: dataclasses.replace(
        chunk,
        rows=(*chunk.rows[:row], dataclasses.replace(chunk.rows[row], **changes), *chunk.rows[row + 1 :]),
    )


def first_links(chunk: Chunk) -> tuple[bytes, tuple[bytes, ...]]:
    return chunk.rows[0].beside[0]


LIES: dict[str, tuple[Callable[[Chunk], Chunk], str]] = {
    "a row left out": (lambda chunk: dataclasses.replace(chunk, rows=chunk.rows[1:]), "range.root"),
    "a row added": (lambda chunk: dataclasses.replace(chunk, rows=(*chunk.rows, Row(b"k", b"v"))), "range.leaves"),
    "rows turned round": (lambda chunk: dataclasses.replace(chunk, rows=chunk.rows[::-1]), "range.leaves"),
    "no rows": (lambda chunk: dataclasses.replace(chunk, rows=()), "range.proof"),
    "another value": (change(value=b"\xa0"), "range.root"),
    "another key": (change(key=b"k"), "range.leaves"),
    "no links": (change(beside=()), "snapshot.not_committed"),
    "a list more": (lambda chunk: change(beside=(first_links(chunk),) * 2)(chunk), "snapshot.not_committed"),
    "another list": (change(beside=((b"\xa1\x01\x80", ()),)), "snapshot.not_committed"),
    "another envelope": (
        lambda chunk: change(beside=((first_links(chunk)[0], (b"x",) * len(first_links(chunk)[1])),))(chunk),
        "snapshot.not_committed",
    ),
    "an envelope left out": (
        lambda chunk: change(beside=((first_links(chunk)[0], first_links(chunk)[1][1:]),))(chunk),
        "snapshot.not_committed",
    ),
    "another section": (lambda chunk: dataclasses.replace(chunk, section=Section.ALIASES), "range.leaves"),
    "a later range": (lambda chunk: dataclasses.replace(chunk, low=chunk.rows[0].key.ljust(32, b"\0")), "range.leaves"),
    "a wider range": (lambda chunk: dataclasses.replace(chunk, high=LAST), "range.proof"),
    "no proof": (lambda chunk: dataclasses.replace(chunk, proof=b""), "range.proof"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_snapshot_that_lies_is_given_up_and_its_sender_named(
    name: str, source: Source, joiner: Joiner, caplog: pytest.LogCaptureFixture
) -> None:
    lie, code = LIES[name]
    chunks = [source.chunk(index) for index in range(source.info.chunks)]
    chunk = parse_chunk(chunks[0])
    if "envelope" in name:  # the first merchant may have no link any more
        row = next(number for number, one in enumerate(chunk.rows) if one.beside[0][1])
        chunk = dataclasses.replace(chunk, rows=(chunk.rows[row], *chunk.rows[:row], *chunk.rows[row + 1 :]))
        altered = lie(chunk)
        altered = dataclasses.replace(
            altered, rows=(*altered.rows[1 : row + 1], altered.rows[0], *altered.rows[row + 1 :])
        )
    else:
        altered = lie(chunk)
    chunks[0] = altered.encoded()
    assert joiner.offer(relabelled(source, chunks), source.state.app_hash) == Offer.ACCEPT
    assert joiner.apply(0, chunks[0]) == (Verdict.REJECT_SNAPSHOT, [], [PEER.encode()])
    assert PEER in caplog.text
    assert f"[{code}]" in caplog.text
    assert not joiner.rows(Table.VALUES)
    joiner.join(source)  # an honest one is taken afterwards


def test_ranges_that_do_not_follow_on_one_another_are_refused(
    source: Source, joiner: Joiner, caplog: pytest.LogCaptureFixture
) -> None:
    chunks = [source.chunk(index) for index in range(source.info.chunks)]
    for order in ([0, 2, *range(2, len(chunks))], [0, 0, *range(1, len(chunks))]):
        told = [chunks[index] for index in order]
        assert joiner.offer(relabelled(source, told), source.state.app_hash) == Offer.ACCEPT
        assert joiner.apply(0, told[0])[0] == Verdict.ACCEPT
        assert joiner.apply(1, told[1])[0] == Verdict.REJECT_SNAPSHOT
        assert "[snapshot.gap]" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("change_of_count", [-1, 1])
def test_a_snapshot_with_too_few_or_too_many_chunks_is_refused(
    change_of_count: int, source: Source, joiner: Joiner
) -> None:
    chunks = [source.chunk(index) for index in range(source.info.chunks)]
    chunks = chunks[:-1] if change_of_count < 0 else [*chunks, chunks[-1]]
    assert joiner.offer(relabelled(source, chunks), source.state.app_hash) == Offer.ACCEPT
    verdicts = []
    for index, chunk in enumerate(chunks):
        verdicts.append(joiner.apply(index, chunk)[0])
        if verdicts[-1] != Verdict.ACCEPT:
            break
    assert verdicts[-1] == Verdict.REJECT_SNAPSHOT
    assert load_state(joiner.store).height == 0


def test_offers_that_cannot_be_are_refused(source: Source, joiner: Joiner, caplog: pytest.LogCaptureFixture) -> None:
    info, app_hash = source.info, source.state.app_hash
    assert joiner.offer(dataclasses.replace(info, format=FORMAT + 1), app_hash) == Offer.REJECT_FORMAT
    for wrong in (
        dataclasses.replace(info, height=0),
        dataclasses.replace(info, height=1 << 63),
        dataclasses.replace(info, chunks=info.chunks + 1),
        dataclasses.replace(info, chunks=0),
        dataclasses.replace(info, hash=bytes(32)),
        dataclasses.replace(info, metadata=info.metadata[:-1], hash=sha256(info.metadata[:-1])),
        dataclasses.replace(info, metadata=b"", hash=sha256(b"")),
    ):
        assert joiner.offer(wrong, app_hash) == Offer.REJECT_SENDER
    assert "[snapshot.metadata]" in caplog.text
    assert joiner.offer(info, bytes(32)) == Offer.REJECT_SENDER  # another state than the chain's
    assert "[map.app_hash]" in caplog.text
    assert joiner.apply(0, source.chunk(0))[0] == Verdict.ABORT  # nothing was accepted
    assert not joiner.rows(Table.META)


def test_a_store_that_holds_a_chain_takes_no_snapshot(source: Source) -> None:
    offer = SnapshotOffer(source.info, source.state.app_hash)
    request = message_field(1, last(read_fields(messages.list_snapshots_response([offer.snapshot]))[1]))
    request += bytes_field(2, offer.app_hash)
    assert parse_offer_snapshot(request) == offer
    before = {table: source.rows(table) for table in STATE}
    assert source.application.answer(Method.OFFER_SNAPSHOT, request) == varint_field(1, Offer.ABORT)
    assert {table: source.rows(table) for table in STATE} == before


def test_what_a_crash_leaves_is_recognised_and_begun_anew(source: Source, joiner: Joiner) -> None:
    assert joiner.offer(source.info, source.state.app_hash) == Offer.ACCEPT
    for index in range(3):
        joiner.apply(index, source.chunk(index))
    joiner.store.commit()  # as after many chunks
    joiner.close()
    joiner.open()
    assert 4 not in read_fields(joiner.application.answer(Method.INFO, b""))  # height 0
    with joiner.store.snapshot() as view:
        assert restoring(view)
        assert load_proven(view) is None
    joiner.join(source)
    assert joiner.rows(Table.NODES) == source.rows(Table.NODES)
    # Whole, but the engine had not taken note: it offers again, and that is taken.
    joiner.close()
    joiner.open()
    joiner.join(source)
    joiner.finalize(source.state.height + 1)
    joiner.store.rollback()
    assert joiner.offer(source.info, source.state.app_hash) == Offer.ABORT


def test_replay_from_genesis_after_an_unfinished_restoration(source: Source, joiner: Joiner) -> None:
    assert joiner.offer(source.info, source.state.app_hash) == Offer.ACCEPT
    joiner.apply(0, source.chunk(0))
    joiner.store.commit()
    joiner.close()
    joiner.open()
    joiner.init_chain()
    for height in range(1, source.state.height + 1):
        joiner.finalize(height)
    assert joiner.finalize(source.state.height + 1) == source.app_hash
    assert joiner.rows(Table.VALUES) == source.rows(Table.VALUES)
    assert RESTORE_KEY not in joiner.rows(Table.META)


def test_no_transaction_is_judged_without_a_state(source: Source, joiner: Joiner) -> None:
    transaction = source.world.publish(source.world.platforms[0])
    assert joiner.check(transaction) == Result.QUOTA
    joiner.join(source)
    assert joiner.check(transaction) != Result.QUOTA


def test_a_broken_store_gives_no_snapshot(source: Source, tmp_path: Path) -> None:
    key = next(iter(source.rows(Table.ENVELOPES)))
    source.store.rollback()
    source.store.delete(Table.ENVELOPES, key)
    source.store.commit()
    with source.store.snapshot() as view, pytest.raises(Misconfigured) as raised:
        make_snapshot(view, Shelf(tmp_path / "other"), 5, 2)
    assert raised.value.code == "registry.links_broken"
    assert Shelf(tmp_path / "other").heights() == []


def test_the_same_state_gives_the_same_snapshot(source: Source, joiner: Joiner, tmp_path: Path) -> None:
    joiner.join(source)
    shelf = Shelf(tmp_path / "again")
    with joiner.store.snapshot() as view:
        make_snapshot(view, shelf, source.info.height, 2, CHUNK_BYTES)
        assert section_roots(view) == section_roots(source.store)
        assert [chunk.section for chunk in state_chunks(view, 1 << 20)] == list(Section)
    assert shelf.offered(1 << 60) == [source.info]
    metadata = parse_metadata(source.info.metadata)
    assert isinstance(metadata, SnapshotMetadata)
    assert metadata.leaves[0] == len(source.merchants)


def test_the_process_makes_snapshots_when_they_are_due(source: Source, tmp_path: Path) -> None:
    maker = SnapshotMaker(
        SnapshotOptions(tmp_path / "made", 1_000, 1, CHUNK_BYTES), tmp_path / "source", StoreConfig(map_bytes=64 << 20)
    )
    maker.start()
    try:
        maker.committed(source.state.height, 5_100, 5_900)  # within one interval
        maker.committed(source.state.height, 5_900, 6_100)
        maker.settle()
        maker.wait(30)
        assert maker.shelf.offered(1 << 60) == [source.info]
        maker.committed(source.state.height + 1, 6_900, 7_100)  # which is not what the store holds
        maker.settle()
        maker.wait(30)
        assert maker.shelf.heights() == [source.state.height]
    finally:
        maker.close()
    none = SnapshotMaker(SnapshotOptions(tmp_path / "made", 0), tmp_path / "source", StoreConfig())
    none.start()
    assert none.shelf.heights() == []  # else the engine would keep all blocks above for ever
    none.committed(source.state.height, 0, 1 << 40)
    none.close()


def test_a_shelf_shows_nothing_half_and_drops_what_is_damaged(source: Source) -> None:
    shelf, height = source.shelf, source.info.height
    place = shelf.begin(height + 1)
    (place / "chunk-000000").write_bytes(b"half")
    assert shelf.heights() == [height]
    shelf.clear_unfinished()
    assert not place.exists()
    assert shelf.offered(height - 1) == []
    assert shelf.load_chunk(height, source.info.chunks) is None
    assert shelf.load_chunk(height + 1, 0) is None
    first = next(path for path in (source.path.parent / "snapshots").rglob("chunk-000000"))
    first.write_bytes(b"damaged")
    assert shelf.load_chunk(height, 0) is None
    assert shelf.heights() == []


@pytest.mark.parametrize("damage", [b"", b"damaged", b"\xa0"])
def test_damaged_metadata_does_not_end_the_node(source: Source, damage: bytes) -> None:
    """Any peer may ask for the list and for chunks: an error there would end the writer, again and again."""
    place = source.path.parent / "snapshots" / str(source.info.height)
    (place / "metadata").write_bytes(damage)
    assert source.shelf.load_chunk(source.info.height, 0) is None
    assert source.shelf.heights() == []
    place.mkdir()
    (place / "metadata").write_bytes(damage)
    assert source.shelf.offered(1 << 60) == []
    assert source.shelf.heights() == []
    place.write_bytes(b"no directory")
    assert source.shelf.offered(1 << 60) == []
    assert source.shelf.load_chunk(source.info.height, 0) is None


def test_what_a_failed_snapshot_has_written_is_removed_at_once(source: Source, tmp_path: Path) -> None:
    source.store.rollback()
    source.store.delete(Table.ENVELOPES, next(iter(source.rows(Table.ENVELOPES))))
    source.store.commit()
    options = SnapshotOptions(tmp_path / "made", 1_000, 1, CHUNK_BYTES)
    maker = SnapshotMaker(options, tmp_path / "source", StoreConfig(map_bytes=64 << 20))
    maker.start()
    try:
        maker.committed(source.state.height, 5_900, 6_100)
        maker.wait(30)
        assert list((tmp_path / "made").iterdir()) == []
    finally:
        maker.close()


def test_what_is_higher_than_the_store_does_not_crowd_out_what_is_made(source: Source) -> None:
    height, shelf = source.info.height, source.shelf
    for stale in (height + 5, height + 6):
        shelf.begin(stale)
        shelf.finish(stale, source.info.metadata, 4)
    with source.store.snapshot() as view:
        make_snapshot(view, shelf, height, 2, CHUNK_BYTES)
    assert shelf.heights() == [height]


def test_the_mark_goes_although_the_first_block_was_rolled_back(source: Source, joiner: Joiner) -> None:
    """The first block came while its header was out of reach: it is dropped and executed again once that is there."""
    joiner.join(source)
    joiner.up = False
    joiner.finalize(source.state.height + 1)
    joiner.up = True
    joiner.application.idle()
    app_hash = source.block(source.app_hash)
    for height in (source.state.height + 2, source.state.height + 3):
        assert joiner.finalize(height) == app_hash
        app_hash = source.block(app_hash)
    assert RESTORE_KEY not in joiner.rows(Table.META)


def test_who_cuts_an_honest_offer_elsewhere_gets_nobody_rejected(source: Source, joiner: Joiner) -> None:
    """The engine tells snapshots apart by the digits of their count, hash and metadata, joined: whoever is first with
    the same bytes cut elsewhere speaks for all who offer the honest one."""
    info, app_hash = source.info, source.state.app_hash
    assert 10 <= info.chunks < 100
    count = str(info.chunks)
    fewer = dataclasses.replace(info, chunks=int(count[0]), hash=count[1:].encode() + info.hash)
    assert joiner.offer(fewer, app_hash) == Offer.REJECT
    fewer = dataclasses.replace(fewer, hash=fewer.hash[:32], metadata=fewer.hash[32:] + info.metadata)
    assert joiner.offer(fewer, app_hash) == Offer.REJECT
    with joiner.store.snapshot() as view:
        assert not restoring(view)
    for at in (1, 31, 33, 100):
        both = info.hash + info.metadata
        moved = dataclasses.replace(info, hash=both[:at], metadata=both[at:])
        assert joiner.offer(moved, app_hash) == Offer.ACCEPT
    for index in range(info.chunks):
        assert joiner.apply(index, source.chunk(index)) == (Verdict.ACCEPT, [], [])


def test_a_maker_that_hangs_is_ended(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it looks, the store uses no page of that state again, and grows."""
    options = SnapshotOptions(tmp_path / "made", 1_000, 1, CHUNK_BYTES)
    maker = SnapshotMaker(options, tmp_path / "source", StoreConfig(map_bytes=64 << 20))
    maker.start()
    try:
        hanging = maker._process
        assert hanging is not None
        hanging.send_signal(signal.SIGSTOP)
        maker.committed(source.state.height, 5_900, 6_100)
        monkeypatch.setattr(snapshot_maker, "MAKE_S", 0.0)
        maker.settle()
        assert hanging.returncode is not None
        monkeypatch.undo()
        maker.committed(source.state.height, 6_900, 7_100)
        maker.settle()
        maker.wait(30)
        assert maker.shelf.heights() == [source.state.height]
    finally:
        maker.close()
