"""The engine as a child: what is said when it cannot be started or ends at once. All else: tests/integration."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import onecode.node.comet as comet_module
from onecode.errors import Misconfigured, Unreachable
from onecode.node.blocks import StoredBlock, put_state
from onecode.node.comet import Comet, CometConfig
from onecode.node.decided import Decided
from onecode.node.engine_home import EngineSettings, StateSync
from onecode.node.engine_rpc import EngineRpc, EngineStatus
from onecode.node.solo import Included
from onecode.node.store import StoreConfig, open_writer
from onecode.query.messages import BlockResult
from onecode.registry.results import Result
from onecode.wire import sha256
from unit.registry.world import START_MS, World, signing_key

pytestmark = pytest.mark.clock


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="comet-") as directory:  # a Unix socket's path is at most 107 bytes
        yield Path(directory)


def made(directory: Path, binary: str, peers: tuple[str, ...] = (), sync: StateSync | None = None) -> Comet:
    settings = EngineSettings(directory / "engine", directory / "s", 1, "127.0.0.1:1", "node", peers, state_sync=sync)
    store = StoreConfig(map_bytes=16 << 20)
    config = CometConfig(Path(binary), settings, directory / "store", store, directory / "decided")
    return Comet(config, World().genesis, signing_key("validator"), signing_key("node"), lambda: START_MS)


def sleeper(short: Path) -> Path:
    """In the engine's place: a process that does nothing."""
    binary = short / "sleeper"
    binary.write_text("#!/bin/sh\nexec sleep 60\n", "ascii")
    binary.chmod(0o700)
    return binary


def test_a_binary_that_is_not_there(short: Path) -> None:
    with pytest.raises(Misconfigured) as raised:
        made(short, "/absent").start()
    assert raised.value.code == "engine.binary"


def test_an_engine_that_ends_before_it_connects(short: Path) -> None:
    comet = made(short, "/bin/false")
    comet.start()
    with pytest.raises(Unreachable) as raised:
        comet.wait()
    assert raised.value.code == "engine.ended"
    with pytest.raises(Unreachable) as refused:
        comet.enqueue(b"a")
    assert refused.value.code == "engine.stopped"
    comet.stop()


def test_a_transaction_that_no_engine_takes(short: Path) -> None:
    comet = made(short, str(sleeper(short)))
    comet.start()
    with pytest.raises(Unreachable) as raised:
        comet.enqueue(b"a").result(10)
    assert raised.value.code == "engine.unreachable"
    assert comet.queue_length == 0
    comet.stop()


class Engine:
    """Stands for the application: what it tells of its blocks."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = open_writer(directory / "store", StoreConfig(map_bytes=16 << 20))
        self.ended, self.submitted = threading.Event(), threading.Semaphore(0)
        self.code: int | None = None  # of CheckTx; None: the engine has the bytes already
        monkeypatch.setattr(comet_module, "serve_application", self._serve)
        monkeypatch.setattr(EngineRpc, "submit", self._submit)
        self.comet = made(directory, str(sleeper(directory)))
        self.comet.start()

    def _serve(self, *, on_decided: Any, on_durable: Any, on_listening: Any, **_: Any) -> None:
        self.decide, self.settle = on_decided, on_durable
        on_listening(self, self.store)
        self.ended.wait(30)

    def _submit(self, *_: Any) -> int | None:
        self.submitted.release()
        return self.code

    def stop(self) -> None:
        self.ended.set()

    def send(self, transaction: bytes, *, proven: bool) -> Future[Included]:
        future = self.comet.enqueue(transaction, proven=proven)
        assert self.submitted.acquire(timeout=10)
        return future


@pytest.fixture
def engine(short: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    engine = Engine(short, monkeypatch)
    yield engine
    engine.comet.stop()
    engine.store.close()


def decided_block(height: int, *transactions: bytes) -> StoredBlock:
    results = tuple(BlockResult(code=0, item_codes=(), events=b"") for _ in transactions)
    return StoredBlock(height=height, time_ms=START_MS, transactions=transactions, results=results, app_hash=bytes(32))


def test_who_waits_for_the_decision_is_answered_when_every_worker_can_see_it(engine: Engine, short: Path) -> None:
    waits, more = engine.send(b"a", proven=False), engine.send(b"a", proven=True)
    seen: list[int] = []
    waits.add_done_callback(lambda _: seen.append(Decided(short / "decided").load().places[sha256(b"a")]))  # type: ignore[union-attr]
    engine.decide(decided_block(7, b"x", b"a"))
    assert (waits.result(10).height, waits.result(10).proven, seen) == (7, False, [1])
    assert not more.done()
    engine.settle(decided_block(7, b"x", b"a"), True)
    assert (more.result(10).height, more.result(10).proven) == (7, True)
    assert engine.comet.queue_length == 0


def test_what_the_open_block_holds_is_known_when_it_is_sent_again(engine: Engine) -> None:
    engine.decide(decided_block(7, b"a"))
    again, proof = engine.send(b"a", proven=False), engine.send(b"a", proven=True)
    assert (again.result(10).height, again.result(10).proven, proof.done()) == (7, False, False)
    engine.settle(decided_block(7, b"a"), False)  # durable, and its header was not to be had
    assert (proof.result(10).height, proof.result(10).proven) == (7, False)


def test_what_the_store_holds_is_known_when_it_is_sent_again(engine: Engine) -> None:
    put_state(engine.store, decided_block(6, b"a"))
    engine.store.commit()
    assert engine.send(b"a", proven=True).result(10).height == 6


def test_what_was_decided_is_known_to_a_node_whose_engine_has_forgotten_it(engine: Engine) -> None:
    put_state(engine.store, decided_block(6, b"a"))
    engine.store.commit()
    engine.decide(decided_block(7, b"b"))
    engine.code = Result.NONCE  # CheckTx of an engine that was started again: the nonce is used, by these very bytes
    durable, opened = engine.send(b"a", proven=True).result(10), engine.send(b"b", proven=False).result(10)
    assert [(one.height, one.result.code) for one in (durable, opened)] == [(6, Result.OK), (7, Result.OK)]
    refused = engine.send(b"c", proven=True).result(10)
    assert (refused.height, refused.result.code) == (None, Result.NONCE)


def test_what_a_proposer_puts_into_a_second_block_is_what_the_first_made_of_it(engine: Engine) -> None:
    put_state(engine.store, decided_block(6, b"a"))
    engine.store.commit()
    engine.code = Result.OK  # it waits still when the second block comes
    waits = engine.send(b"a", proven=True)
    again = BlockResult(code=Result.NONCE, item_codes=(), events=b"")
    engine.decide(StoredBlock(height=7, time_ms=START_MS, transactions=(b"a",), results=(again,), app_hash=bytes(32)))
    assert (waits.result(10).height, waits.result(10).result.code) == (6, Result.OK)


def test_a_store_that_cannot_be_opened(short: Path) -> None:
    (short / "store").write_bytes(b"no directory")
    with pytest.raises(Misconfigured):
        made(short, "/bin/false").start()


def _with_engine_that_says(short: Path, monkeypatch: pytest.MonkeyPatch, rpc: type[EngineRpc], ends: bool) -> None:
    """A node whose engine stands as `rpc` says: whether it is ended, so that it is started again."""
    monkeypatch.setattr(comet_module, "EngineRpc", rpc)
    monkeypatch.setattr(comet_module, "ASK_S", 0.05)
    comet = made(short, str(sleeper(short)), peers=("aa@127.0.0.1:1",))
    comet.start()
    with ThreadPoolExecutor(1) as waiting:
        ended = waiting.submit(comet.wait)
        if ends:
            assert isinstance(ended.exception(20), Unreachable)
        else:
            with pytest.raises(TimeoutError):
                ended.exception(2)
        comet.stop()


@pytest.mark.parametrize(("answers", "ends"), [(True, True), (False, False)])
def test_an_engine_alone_is_started_again_but_not_one_that_replays(
    short: Path, monkeypatch: pytest.MonkeyPatch, answers: bool, ends: bool
) -> None:
    class Rpc(EngineRpc):
        def status(self) -> EngineStatus:
            if not answers:  # as during a replay, however long it takes
                return super().status()
            return EngineStatus(height=1, first_block=1, catching_up=True, power=0, peers=0)

        def furthest_peer(self) -> int:
            return 0

    monkeypatch.setattr(comet_module, "ALONE_S", 0.3)
    _with_engine_that_says(short, monkeypatch, Rpc, ends)


@pytest.mark.parametrize(("moves", "ends"), [(False, True), (True, False)])
def test_an_engine_that_stands_still_behind_its_peers_is_started_again(
    short: Path, monkeypatch: pytest.MonkeyPatch, moves: bool, ends: bool
) -> None:
    heights = itertools.count(1)

    class Rpc(EngineRpc):
        def status(self) -> EngineStatus:
            height = next(heights) if moves else 1
            return EngineStatus(height=height, first_block=1, catching_up=False, power=10, peers=3)

        def furthest_peer(self) -> int:
            return 1_000

    monkeypatch.setattr(comet_module, "STUCK_S", 0.3)
    _with_engine_that_says(short, monkeypatch, Rpc, ends)


def test_an_engine_that_gave_up_state_sync_is_started_again(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comet_module, "WATCH_S", 0.05)
    monkeypatch.setattr(comet_module, "STALLED_S", 0.3)
    sync = StateSync(("http://a", "http://b"), 1, bytes(32))
    comet = made(short, str(sleeper(short)), sync=sync)
    comet.start()
    with pytest.raises(Unreachable) as refused:
        comet.enqueue(b"a")  # there is no state yet by which to judge it
    assert refused.value.code == "engine.stopped"
    with pytest.raises(Unreachable) as raised:
        comet.wait()
    assert raised.value.code == "engine.ended"
    comet.stop()
