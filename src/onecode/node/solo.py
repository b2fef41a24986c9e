"""A network of one validator in this process: a queue of transactions, and one thread that makes blocks of them.

For one organisation on one machine, development and the demo. An acknowledged transaction is durable and proven, since
a block and the header that proves it are written in one step.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.node.blocks import load_proven, load_state
from onecode.node.solo_chain import SoloChain
from onecode.node.store import WriterStore
from onecode.node.writer import BlockWriter, StateMachine
from onecode.registry.application import TransactionResult
from onecode.registry.results import Result
from onecode.wire import SigningKey


@dataclass(frozen=True, slots=True)
class SoloConfig:
    """heartbeat_ms: an empty block after so long without one, so that the newest header stays fresh.
    queue_max: transactions that may wait. block_transactions_max, block_bytes_max: what one block takes of them.
    attempts_max: blocks that a transaction may be left out of, for quotas, before it is refused as busy.
    keep_blocks: heights that keep their block and header; 0 keeps all.
    """

    heartbeat_ms: int = 10_000
    queue_max: int = 10_000
    block_transactions_max: int = 2_000
    block_bytes_max: int = 4 << 20
    attempts_max: int = 10
    keep_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Included:
    """What became of a transaction: decided at `height`, or refused before any block (`height` None). proven: the next
    header is there; with `solo` it always is."""

    height: int | None
    time_ms: int | None
    result: TransactionResult
    proven: bool = True


@dataclass(frozen=True, slots=True)
class _Waiting:
    transaction: bytes
    future: Future[Included]
    attempts: int = 0


@dataclass(slots=True)
class _Queue:
    """What waits, and whether the thread shall end; all under the condition's lock."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: deque[_Waiting] = field(default_factory=deque)
    stopping: bool = False
    failure: OnecodeError | None = None


class Solo:
    """The block producer. `start` before `submit`; `stop` ends the thread and closes the store."""

    def __init__(
        self,
        *,
        store: WriterStore,
        application: StateMachine,
        key: SigningKey,
        chain_id: str,
        genesis: Any,
        clock_ms: Callable[[], int],
        config: SoloConfig = SoloConfig(),
        on_block: Callable[[int], None] | None = None,
    ) -> None:
        """`application` is made over `store`; `genesis` is what its `init_chain` takes, used on the first start.

        `on_block` is called on the producer's thread with the height of each newest provable state; it must not block.
        """
        self._store = store
        self._writer = BlockWriter(store, application, config.keep_blocks)
        self._chain = SoloChain(self._writer, key, chain_id, clock_ms, config.block_bytes_max)
        self._genesis = genesis
        self._config = config
        self._on_block = on_block
        self._queue = _Queue()
        self._thread = threading.Thread(target=self._run, name="solo", daemon=True)
        self._started: Future[None] = Future()

    def start(self) -> None:
        """Begin the chain, or go on with the one in the store; returns when the newest header is there to be served."""
        self._thread.start()
        self._started.result()

    def enqueue(self, transaction: bytes, *, proven: bool = True) -> Future[Included]:
        """Queue a transaction from any thread; what is decided here is proven. The future's `Unreachable` means that
        the outcome is unknown, but for `solo.queue_full`, which is raised at once."""
        with self._queue.changed:
            self._require_running()
            if len(self._queue.waiting) >= self._config.queue_max:
                raise Unreachable(
                    "solo.queue_full",
                    "too many transactions wait: send it again later",
                    status=429,
                    retry_after_ms=1000,
                )
            waiting = _Waiting(transaction, Future())
            waiting.future.set_running_or_notify_cancel()  # who stops waiting cannot take it back
            self._queue.waiting.append(waiting)
            self._queue.changed.notify()
        return waiting.future

    async def submit(self, transaction: bytes) -> Included:
        """Queue a transaction and wait until it is decided and proven, or refused."""
        return await asyncio.wrap_future(self.enqueue(transaction))

    def stop(self) -> None:
        """End the thread after the block at hand and close the store; what still waits fails as `Unreachable`."""
        with self._queue.changed:
            self._queue.stopping = True
            self._queue.changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self._store.close()

    def wait(self, timeout_ms: int | None = None) -> None:
        """Wait until the producer ends; raises what halted it, on which the process must exit."""
        self._thread.join(None if timeout_ms is None else timeout_ms / 1000)
        if self._queue.failure is not None:
            raise self._queue.failure

    def _require_running(self) -> None:
        if self._queue.stopping or self._queue.failure is not None:
            raise Unreachable("solo.stopped", "this node takes no transactions now: ask another one or later")

    # --- the producer's thread

    def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            self._open()
            self._started.set_result(None)
            next_heartbeat = time.monotonic() + self._config.heartbeat_ms / 1000
            while (taken := self._take(next_heartbeat)) is not None:
                batch = taken
                made_block = bool(batch) and self._produce(batch)
                if not made_block and time.monotonic() >= next_heartbeat:  # a flood of refusals must not stop the pulse
                    self._chain.heartbeat()
                    made_block = True
                if made_block:
                    self._announce()
                    next_heartbeat = time.monotonic() + self._config.heartbeat_ms / 1000
            self._end(batch, None)
        except Exception as error:  # whatever it is, those who wait must hear of it, and the process must end
            self._end(batch, error)
        finally:
            self._store.rollback()

    def _open(self) -> None:
        with self._store.snapshot() as snapshot:
            fresh, newest = not load_state(snapshot).height, load_proven(snapshot)
        if fresh:
            self._chain.start(self._genesis)
        elif newest is None:
            raise Misconfigured("solo.store", "the store was not written by a network of one validator")
        else:
            self._chain.resume(newest)
            self._chain.heartbeat()  # the newest header is as old as the stop
        self._announce()

    def _take(self, until: float) -> list[_Waiting] | None:
        """The next transactions; none when a heartbeat is due; None when the thread shall end."""
        queue = self._queue
        with queue.changed:
            while not queue.waiting and not queue.stopping:
                left = until - time.monotonic()
                if left <= 0:
                    return []
                queue.changed.wait(left)
            if queue.stopping:
                return None
            batch: list[_Waiting] = []
            size = 0
            while queue.waiting and len(batch) < self._config.block_transactions_max:
                size += len(queue.waiting[0].transaction)
                if batch and size > self._config.block_bytes_max:
                    break
                batch.append(queue.waiting.popleft())
            return batch

    def _produce(self, batch: list[_Waiting]) -> bool:
        """One block of what the application picks; the same bytes twice are one transaction with one result."""
        produced = self._chain.produce(list(dict.fromkeys(waiting.transaction for waiting in batch)))
        results = {} if produced is None else dict(zip(produced.transactions, produced.results, strict=True))
        left: list[_Waiting] = []
        for waiting in batch:
            result = results.get(waiting.transaction)
            if produced is not None and result is not None:
                waiting.future.set_result(Included(produced.height, produced.time_ms, result))
            else:
                left.append(waiting)
        judged = self._chain.judge([waiting.transaction for waiting in left]) if left else []
        again = [waiting for waiting, result in zip(left, judged, strict=True) if self._may_wait(waiting, result)]
        with self._queue.changed:  # in their order, before those that came later
            self._queue.waiting.extendleft(replace(waiting, attempts=waiting.attempts + 1) for waiting in again[::-1])
        return produced is not None

    def _may_wait(self, waiting: _Waiting, result: TransactionResult) -> bool:
        """Whether a transaction that the application left out waits for another block; it is answered if not.

        `result` is what would become of it after the newest block, and after those that wait before it.
        """
        if result.code and result.code != Result.QUOTA:
            waiting.future.set_result(Included(None, None, result))
        elif waiting.attempts >= self._config.attempts_max:
            waiting.future.set_exception(
                Unreachable("solo.busy", "the signer's quota is used up: send it again later", status=429)
            )
        else:
            return True
        return False

    @property
    def queue_length(self) -> int:
        """Transactions that wait for a block; from any thread."""
        return len(self._queue.waiting)

    def _announce(self) -> None:
        if self._on_block is not None:
            self._on_block(self._writer.info().height)

    def _end(self, batch: list[_Waiting], error: Exception | None) -> None:
        """No transaction is left without an answer, and none is taken from here on."""
        with self._queue.changed:
            if error is not None:
                self._queue.failure = _failure(error)
            self._queue.stopping = True
            waiting = [*batch, *self._queue.waiting]
            self._queue.waiting.clear()
        for each in waiting:
            if not each.future.done():
                each.future.set_exception(
                    Unreachable("solo.unknown", "the node stopped: whether the transaction was decided is not known")
                )
        if not self._started.done():
            self._started.set_exception(error or Misconfigured("solo.closed", "the chain was stopped before it began"))


def _failure(error: Exception) -> OnecodeError:
    if isinstance(error, OnecodeError):
        return error
    if isinstance(error, MemoryError):
        return Misconfigured("store.memory", "memory has run out: give the node more and start it again")
    return Misconfigured("node.failed", f"the node failed inside: {error!r}")
