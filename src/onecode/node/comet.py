"""A validator of a network of several: the application on a thread, the engine as a process, and who waits for what.

Both live and die together: when the engine ends, so does the application, whose process then ends and is started again
by its supervisor. An acknowledged transaction is durable and, but for blocks of a replay, proven.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.node.abci_server import AbciServer
from onecode.node.blocks import load_block, load_place
from onecode.node.engine_home import EngineSettings, write_home
from onecode.node.engine_process import serve_application
from onecode.node.engine_rpc import EngineRpc
from onecode.node.solo import Included
from onecode.node.store import ReaderStore, StoreConfig
from onecode.registry.application import TransactionResult
from onecode.registry.genesis import Genesis
from onecode.registry.results import Result
from onecode.wire import SigningKey, sha256

SUBMITTERS = 4  # threads that hand transactions to the engine
ENGINE_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class CometConfig:
    """binary: of CometBFT. wait_ms: how long a transaction waits for its block before its outcome is unknown."""

    binary: Path
    settings: EngineSettings
    store_path: Path
    store_config: StoreConfig
    keep_blocks: int = 0
    wait_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    future: Future[Included]
    until_s: float


class Comet:
    """`start` before `enqueue`; `stop` ends both. The same use as `onecode.node.solo.Solo`."""

    def __init__(
        self,
        config: CometConfig,
        genesis: Genesis,
        validator_key: SigningKey,
        node_key: SigningKey,
        clock_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._genesis = genesis
        self._keys = (validator_key, node_key)
        self._clock_ms = clock_ms
        self._lock = threading.Lock()
        self._waiting: dict[bytes, list[_Waiting]] = {}
        self._stopping = False
        self._failure: OnecodeError | None = None
        self._listening: Future[tuple[AbciServer, ReaderStore]] = Future()
        self._thread = threading.Thread(target=self._serve, name="abci", daemon=True)
        self._submitters = ThreadPoolExecutor(SUBMITTERS, "submit")
        self._rpcs = threading.local()
        self._engine: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Open the store and start the engine; call it on the main thread, whose end then ends the engine too."""
        binary, settings = self._config.binary, self._config.settings
        if not os.access(binary, os.X_OK):
            raise Misconfigured("engine.binary", f"cannot run {binary}: make cometbft", field="engine_binary")
        self._thread.start()
        self._listening.result()
        write_home(settings, self._genesis, *self._keys)
        own = [sys.executable, "-m", "onecode.node.engine_exec", str(os.getpid())]
        self._engine = subprocess.Popen(
            [*own, str(binary), "start", "--home", str(settings.home)],
            stdin=subprocess.DEVNULL,
            stdout=2,  # this process's own output is for its supervisor
        )
        threading.Thread(target=self._watch, args=(self._engine,), name="engine", daemon=True).start()

    def enqueue(self, transaction: bytes) -> Future[Included]:
        """Hand over a transaction from any thread. The future's `Unreachable` means that the outcome is unknown."""
        waiting = _Waiting(Future(), time.monotonic() + self._config.wait_ms / 1000)
        waiting.future.set_running_or_notify_cancel()
        hashed = sha256(transaction)
        with self._lock:
            if self._stopping or self._failure is not None:
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
                on_block=self._settle,
                on_listening=lambda server, store: self._listening.set_result((server, store)),
            )
        except OnecodeError as error:
            failure = error
        except Exception as error:  # whatever it is, those who wait must hear of it, and the process must end
            failure = Misconfigured("node.failed", f"the node failed inside: {error!r}")
        with self._lock:
            self._failure = self._failure or failure or Unreachable("engine.ended", "the engine ended: see its log")
            left = [one for several in self._waiting.values() for one in several]
            self._waiting.clear()
        if not self._listening.done():
            self._listening.set_exception(self._failure)
        for one in left:
            one.future.set_exception(_unknown())

    def _watch(self, engine: subprocess.Popen[bytes]) -> None:
        """An engine that ends before it connected closes nothing that the server would notice."""
        engine.wait()
        self._listening.result()[0].stop()

    def _settle(
        self, height: int, time_ms: int, transactions: Sequence[bytes], results: Sequence[TransactionResult]
    ) -> None:
        """Answer for a block that is durable; give up on what has waited too long."""
        for transaction, result in zip(transactions, results, strict=True):
            self._answer(sha256(transaction), Included(height, time_ms, result))
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

    def _answer(self, hashed: bytes, outcome: Included | OnecodeError) -> None:
        with self._lock:
            several = self._waiting.pop(hashed, [])
        for one in several:
            if isinstance(outcome, OnecodeError):
                one.future.set_exception(outcome)
            else:
                one.future.set_result(outcome)

    # --- the submitters' threads

    def _submit(self, hashed: bytes, transaction: bytes) -> None:
        if not hasattr(self._rpcs, "own"):
            self._rpcs.own = EngineRpc(self._config.settings.rpc_port)
        try:
            code = self._rpcs.own.submit(transaction)
            if code is None:  # it waits, and is answered with its block, or it was decided before
                before = self._decided_before(hashed)
                if before is not None:
                    self._answer(hashed, before)
            elif code:
                self._answer(hashed, Included(None, None, TransactionResult(_result(code))))
        except OnecodeError as error:
            self._answer(hashed, error)

    def _decided_before(self, hashed: bytes) -> Included | None:
        with self._listening.result()[1].snapshot() as view:
            place = load_place(view, hashed)
            block = None if place is None else load_block(view, place[0])
        if place is None or block is None:
            return None
        result = block.results[place[1]]
        items = tuple(_result(code) for code in result.item_codes)
        return Included(block.height, block.time_ms, TransactionResult(_result(result.code), items))


def _result(code: int) -> Result:
    for result in Result:
        if result == code:
            return result
    raise Misconfigured("engine.code", f"the engine gave the result code {code}, which this version does not know")


def _unknown() -> Unreachable:
    return Unreachable("engine.unknown", "whether the transaction was decided is not known: look it up by its hash")
