"""A validator of a network of several: the application on a thread, the engine as a process, and who waits for what.

Both live and die together: when the engine ends, so does the application, whose process then ends and is started again
by its supervisor. A transaction is acknowledged as decided once its block is executed: the engine has kept the block
before it hands it over, and gives it again after any crash. Proven it is once the next header is there.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.host.clock import now_ms
from onecode.node.abci_server import AbciServer
from onecode.node.blocks import StoredBlock, load_block, load_header, load_place, load_state
from onecode.node.decided import save_decided
from onecode.node.engine_home import EngineSettings, write_home
from onecode.node.engine_process import serve_application
from onecode.node.engine_rpc import EngineRpc, EngineStatus
from onecode.node.metrics import ENGINE, Board
from onecode.node.restore import restoring
from onecode.node.snapshot_maker import SnapshotOptions
from onecode.node.solo import Included
from onecode.node.store import ReaderStore, StoreConfig
from onecode.registry.application import TransactionResult
from onecode.registry.genesis import Genesis
from onecode.registry.results import Result
from onecode.wire import SigningKey, sha256

ASK_S = 1.0
ALONE_S = 35.0  # without any of the configured peers; longer than `HEALTHY_S` of its supervisor
STUCK_S = 120.0  # at one height while a peer is further on; longer than the longest block takes
LAG_TURNS = 3  # the peers' heights come in a long answer: asked for every so many times
SUBMITTERS = 4  # threads that hand transactions to the engine
ENGINE_STOP_S = 5.0
WATCH_S = 5.0
STALLED_S = 600.0  # without a commit, while the state is fetched

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CometConfig:
    """binary: of CometBFT. decided: where the newest decided block lies for the workers. wait_ms: how long a
    transaction waits for its block before its outcome is unknown. snapshots: when they are made; None makes and offers
    none."""

    binary: Path
    settings: EngineSettings
    store_path: Path
    store_config: StoreConfig
    decided: Path
    keep_blocks: int = 0
    wait_ms: int = 30_000
    snapshots: SnapshotOptions | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    future: Future[Included]
    until_s: float
    proven: bool  # waits for the header that proves the block


@dataclass(frozen=True, slots=True)
class _Open:
    """The newest block that was executed; where each transaction stands in it, by hash."""

    block: StoredBlock
    places: dict[bytes, int]

    def outcome(self, hashed: bytes, *, proven: bool = False) -> Included:
        return _outcome(self.block, self.places[hashed], proven=proven)


class Comet:
    """`start` before `enqueue`; `stop` ends both. The same use as `onecode.node.solo.Solo`."""

    def __init__(
        self,
        config: CometConfig,
        genesis: Genesis,
        validator_key: SigningKey | None,
        node_key: SigningKey,
        clock_ms: Callable[[], int],
        board: Board | None = None,
    ) -> None:
        """Without `validator_key` the node is an observer. `board`: of the families `ENGINE`."""
        self._config = config
        self._genesis = genesis
        self._keys = (validator_key, node_key)
        self._clock_ms = clock_ms
        self._board = board or Board(ENGINE)
        self._lock = threading.Lock()
        self._waiting: dict[bytes, list[_Waiting]] = {}
        self._open: _Open | None = None  # what is decided, and not durable here
        self._stopping = False
        self._failure: OnecodeError | None = None
        self._listening: Future[tuple[AbciServer, ReaderStore]] = Future()
        self._thread = threading.Thread(target=self._serve, name="abci", daemon=True)
        self._submitters = ThreadPoolExecutor(SUBMITTERS, "submit")
        self._rpcs = threading.local()
        self._engine: subprocess.Popen[bytes] | None = None
        self._lag_blocks = 0
        self._syncing = False  # the state comes from a snapshot, and no block has followed it yet

    def start(self) -> None:
        """Open the store and start the engine; call it on the main thread, whose end then ends the engine too."""
        binary, settings = self._config.binary, self._config.settings
        if not os.access(binary, os.X_OK):
            raise Misconfigured("engine.binary", f"cannot run {binary}: make cometbft", field="engine_binary")
        self._thread.start()
        self._listening.result()
        if settings.state_sync is not None and not self._begins():
            settings = replace(settings, state_sync=None)
        self._syncing = settings.state_sync is not None
        write_home(settings, self._genesis, *self._keys)
        own = [sys.executable, "-m", "onecode.node.engine_exec", str(os.getpid())]
        self._engine = subprocess.Popen(
            [*own, str(binary), "start", "--home", str(settings.home)],
            stdin=subprocess.DEVNULL,
            stdout=2,  # this process's own output is for its supervisor
        )
        self._board.add(self._board.place("engine_starts_total"))
        threading.Thread(target=self._watch, args=(self._engine,), name="engine", daemon=True).start()
        threading.Thread(target=self._ask, args=(self._engine,), name="engine status", daemon=True).start()

    def enqueue(self, transaction: bytes, *, proven: bool = True) -> Future[Included]:
        """Hand over a transaction from any thread, and wait until it is decided, or also proven. The future's
        `Unreachable` means that the outcome is unknown."""
        waiting = _Waiting(Future(), time.monotonic() + self._config.wait_ms / 1000, proven)
        waiting.future.set_running_or_notify_cancel()
        hashed = sha256(transaction)
        with self._lock:
            if self._stopping or self._failure is not None or self._syncing:
                raise Unreachable("engine.stopped", "this node takes no transactions now: ask another one or later")
            self._waiting.setdefault(hashed, []).append(waiting)
            self._submitters.submit(self._submit, hashed, transaction)
        return waiting.future

    @property
    def queue_length(self) -> int:
        """Transactions that wait for a block; from any thread."""
        return len(self._waiting)

    def wait(self) -> None:
        """Wait until the application ends; raises why, on which the process must exit."""
        self._thread.join()
        if self._failure is not None and not self._stopping:
            raise self._failure

    def stop(self) -> None:
        """End the engine, then the application; what still waits fails as `Unreachable`."""
        with self._lock:
            self._stopping = True
        if self._engine is not None and self._engine.poll() is None:
            self._engine.terminate()
            try:
                self._engine.wait(ENGINE_STOP_S)
            except subprocess.TimeoutExpired:
                self._engine.kill()
                self._engine.wait()
        if self._listening.done() and self._listening.exception() is None:
            self._listening.result()[0].stop()
        self._thread.join()
        self._submitters.shutdown(cancel_futures=True)

    def _begins(self) -> bool:
        """Whether the store holds no block yet but what an earlier state sync left."""
        with self._listening.result()[1].snapshot() as view:
            return load_state(view).height == 0 or restoring(view)

    # --- the application's thread

    def _serve(self) -> None:
        config, settings = self._config, self._config.settings
        failure: OnecodeError | None = None
        try:
            serve_application(
                store_path=config.store_path,
                store_config=config.store_config,
                socket_path=settings.application,
                rpc_port=settings.rpc_port,
                genesis=self._genesis,
                clock_ms=self._clock_ms,
                keep_blocks=config.keep_blocks,
                configured_peers=[peer.partition("@")[0] for peer in settings.peers],
                snapshots=config.snapshots,
                on_decided=self._decide,
                on_durable=self._settle,
                on_listening=lambda server, store: self._listening.set_result((server, store)),
            )
        except OnecodeError as error:
            failure = error
        except Exception as error:  # whatever it is, those who wait must hear of it, and the process must end
            log.error("the application failed inside", exc_info=error)
            failure = Misconfigured("node.failed", f"the node failed inside: {error!r}")
            if isinstance(error, MemoryError):
                failure = Misconfigured("store.memory", "memory has run out: give the node more and start it again")
        with self._lock:
            self._failure = self._failure or failure or Unreachable("engine.ended", "the engine ended: see its log")
            left = [one for several in self._waiting.values() for one in several]
            self._waiting.clear()
        if not self._listening.done():
            self._listening.set_exception(self._failure)
        for one in left:
            one.future.set_exception(_unknown())

    def _watch(self, engine: subprocess.Popen[bytes]) -> None:
        """An engine that ends before it connected closes nothing that the server would notice. One that has given up
        state sync says so to nobody, and is ended to begin anew."""
        server, store = self._listening.result()
        seen, since_s = -1, time.monotonic()
        while True:
            try:
                engine.wait(WATCH_S)
                break
            except subprocess.TimeoutExpired:
                if not self._syncing or not self._thread.is_alive():
                    continue
            with suppress(OnecodeError):
                commits = store.commits()
                if commits != seen:
                    seen, since_s = commits, time.monotonic()
            if time.monotonic() - since_s > STALLED_S:
                log.warning("state sync stands still: the engine is started again; do its peers offer snapshots?")
                engine.terminate()
        server.stop()

    def _ask(self, engine: subprocess.Popen[bytes]) -> None:
        """Note how the engine stands, for metrics and status. One that has been alone for long, or stood still while a
        peer went on, is ended, and with it the writer, which is started again: CometBFT gives up on peers that refused
        it or were long away, and does not go on by itself after its clock was far behind."""
        rpc = EngineRpc(self._config.settings.rpc_port)
        turn, height = 0, -1
        alone_since_s = still_since_s = time.monotonic()
        while engine.poll() is None:
            now_s = time.monotonic()
            try:
                status = self._note(rpc, lag=turn % LAG_TURNS == 0)
                turn += 1
                if status.peers or not self._config.settings.peers:
                    alone_since_s = now_s
                if status.height != height or not self._lag_blocks or self._syncing:
                    height, still_since_s = status.height, now_s
            except OnecodeError as error:  # it may be replaying, for as long as that takes
                log.debug("the engine gives no status: %s", error)
                alone_since_s = still_since_s = now_s
            if now_s - alone_since_s > ALONE_S or now_s - still_since_s > STUCK_S:
                what = "has none of its peers" if now_s - alone_since_s > ALONE_S else "stands still behind its peers"
                log.warning("the engine %s: starting it again; is this machine's clock right?", what)
                engine.terminate()
                break
            time.sleep(ASK_S)
        rpc.close()

    def _note(self, rpc: EngineRpc, *, lag: bool) -> EngineStatus:
        """Note how the engine stands; how far its peers are only with `lag`."""
        status = rpc.status()
        found = {
            "engine_asked_ms": now_ms(),
            "engine_height": status.height,
            "engine_first_block": status.first_block,
            "engine_peers": status.peers,
            "engine_catching_up": int(status.catching_up),
            "engine_validator_power": status.power,
        }
        if lag:  # a peer at height h + 1 decides the block after ours
            found["engine_lag_blocks"] = self._lag_blocks = max(0, rpc.furthest_peer() - 1 - status.height)
        for name, value in found.items():
            self._board.set(self._board.place(name), value)
        return status

    def _decide(self, block: StoredBlock) -> None:
        """Answer those who wait for the decision, once every worker can see the block."""
        places: dict[bytes, int] = {}
        for index, transaction in enumerate(block.transactions):
            places.setdefault(sha256(transaction), index)
        save_decided(self._config.decided, block, places)
        self._open = opened = _Open(block, places)
        for hashed in self._awaited(opened):
            first, durable = self._decided_before(hashed)  # a proposer may put the same bytes into a second block
            self._answer(hashed, first or opened.outcome(hashed), durable=durable)

    def _settle(self, block: StoredBlock, proven: bool) -> None:
        """Answer for a block that is durable; give up on what has waited too long."""
        self._syncing = False
        opened = self._open
        if opened is not None and opened.block.height == block.height:
            for hashed in self._awaited(opened):
                self._answer(hashed, opened.outcome(hashed, proven=proven), durable=True)
        now_s = time.monotonic()
        late: list[_Waiting] = []
        with self._lock:
            for hashed, several in list(self._waiting.items()):
                late += [one for one in several if one.until_s < now_s]
                several[:] = [one for one in several if one.until_s >= now_s]
                if not several:
                    del self._waiting[hashed]
        for one in late:
            one.future.set_exception(_unknown())

    def _awaited(self, opened: _Open) -> list[bytes]:
        with self._lock:
            return [hashed for hashed in self._waiting if hashed in opened.places]

    def _answer(self, hashed: bytes, outcome: Included | OnecodeError, *, durable: bool = False) -> None:
        """Tell those who wait for a transaction; of one that is decided, and not `durable`, those who wait for no
        proof."""
        decided = isinstance(outcome, Included) and outcome.height is not None
        with self._lock:
            several = self._waiting.pop(hashed, [])
            stay = [one for one in several if one.proven and decided and not durable]
            if stay:
                self._waiting[hashed] = stay
        for one in several:
            if one in stay:
                continue
            if isinstance(outcome, OnecodeError):
                one.future.set_exception(outcome)
            else:
                one.future.set_result(outcome)

    # --- the submitters' threads

    def _submit(self, hashed: bytes, transaction: bytes) -> None:
        if not hasattr(self._rpcs, "own"):
            self._rpcs.own = EngineRpc(self._config.settings.rpc_port, self._config.wait_ms)
        try:
            code = self._rpcs.own.submit(transaction)
            if code == 0:  # it waits, and is answered with its block
                return
            before, durable = self._decided_before(hashed)  # an engine that was started again has forgotten it
            if before is not None:
                self._answer(hashed, before, durable=durable)
            elif code is not None:
                self._answer(hashed, Included(None, None, TransactionResult(_result(code))))
        except OnecodeError as error:
            self._answer(hashed, error)

    def _decided_before(self, hashed: bytes) -> tuple[Included | None, bool]:
        """What became of it, and whether its block is durable. The open block is looked at first: what leaves it
        meanwhile is in the store."""
        opened = self._open
        with self._listening.result()[1].snapshot() as view:
            place = load_place(view, hashed)
            block = None if place is None else load_block(view, place[0])
            proven = place is not None and load_header(view, place[0] + 1) is not None
        if place is None or block is None:
            return (opened.outcome(hashed) if opened is not None and hashed in opened.places else None), False
        return _outcome(block, place[1], proven=proven), True


def _outcome(block: StoredBlock, index: int, *, proven: bool) -> Included:
    result = block.results[index]
    items = tuple(_result(code) for code in result.item_codes)
    return Included(block.height, block.time_ms, TransactionResult(_result(result.code), items), proven)


def _result(code: int) -> Result:
    for result in Result:
        if result == code:
            return result
    raise Misconfigured("engine.code", f"the engine gave the result code {code}, which this version does not know")


def _unknown() -> Unreachable:
    return Unreachable("engine.unknown", "whether the transaction was decided is not known: look it up by its hash")
