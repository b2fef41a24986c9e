"""The writer that lags one block behind the engine.

LMDB opens only its newest snapshot. So block h stays the open write transaction until block h + 1 is decided, whose
header carries h's app hash, and only then is committed: whoever looks, at whatever moment, after any crash, sees a
state that a signed header proves. The engine replays what was open when the process died.

It serves any engine: `solo` calls it directly, the ABCI server from its one thread. Everything here runs on the thread
that first touches the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from onecode.errors import Misconfigured
from onecode.node.blocks import (
    State,
    StoredBlock,
    StoredHeader,
    load_block,
    load_state,
    prune,
    put_genesis,
    put_header,
    put_state,
    stored_result,
)
from onecode.node.store import WriterStore
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.registry.application import BlockOutcome, TransactionResult
from onecode.registry.results import Result

T = TypeVar("T")


class StateMachine(Protocol):
    """The replicated application over the open transaction: `onecode.registry.application.Application`."""

    def init_chain(self, genesis: Any) -> bytes: ...
    def rolled_back(self, height: int) -> None: ...
    def execute(self, height: int, time_ms: int, transactions: Sequence[bytes]) -> BlockOutcome: ...
    def check(self, transaction: bytes, time_ms: int, *, recheck: bool = False) -> Result: ...
    def judge(self, height: int, time_ms: int, candidates: Sequence[bytes]) -> list[TransactionResult]: ...
    def prepare(self, height: int, time_ms: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]: ...


class BlockWriter:
    """Executes decided blocks in the open transaction and commits each when the next one is decided."""

    def __init__(self, store: WriterStore, application: StateMachine, keep_blocks: int = 0) -> None:
        """`application` writes to `store` itself: it is made over the same object. keep_blocks: how many heights keep
        their block and header; 0 keeps all."""
        self._store = store
        self._keep_blocks = keep_blocks
        self._application = application
        with store.snapshot() as snapshot:
            self._committed = load_state(snapshot)
        self._executed = self._committed
        self._proof_recorded = False  # whether the header that proves `_executed` is in the open transaction
        self._newest: StoredBlock | None = None
        self._halted: BaseException | None = None

    def info(self) -> State:
        """The committed height and its app hash: the engine replays every block after it."""
        return self._committed

    @property
    def executed(self) -> State:
        """The newest block that was executed, committed or still open."""
        return self._executed

    @property
    def newest(self) -> StoredBlock | None:
        """The newest block that was executed here, committed or still open."""
        return self._newest

    def init_chain(self, genesis: Any) -> bytes:
        """The state before block 1; it becomes durable with header 1, which proves it, or with block 1. Returns its
        app hash."""
        if self._committed.app_hash:
            raise Misconfigured("node.chain_exists", "the store already holds a chain: use an empty directory")
        app_hash = self._guarded(lambda: self._restart(genesis))
        self._executed = State(0, app_hash)
        return app_hash

    def finalize(self, height: int, time_ms: int, transactions: Sequence[bytes]) -> BlockOutcome:
        """Execute a decided block. The block before it is provable now and committed first, unless `decided` was
        told to keep it open. `time_ms` is the block's time."""
        return self._guarded(lambda: self._finalize(height, time_ms, transactions))

    def decided(self, signed: SignedHeader, validators: ValidatorSet, *, commit: bool = True) -> None:
        """Record a decided header. If it is the one that proves the executed state, commit: state, block, results and
        header in one step. With commit=False it waits for the next one (`solo` writes two blocks at once).

        A header that comes late (after a replay) is recorded with the next commit. Raises `Misconfigured`, and halts,
        where header and state disagree. Does NOT verify signatures: its caller decided, or asked its own engine.
        """
        self._guarded(lambda: self._decided(StoredHeader(signed=signed, validators=validators), commit))

    def prove_committed(self, signed: SignedHeader, validators: ValidatorSet) -> None:
        """Record the header that proves the committed state, where a replay went by it: the state is served from then
        on. The open block is dropped and executed again. Raises as `decided` does."""
        self._guarded(lambda: self._prove_committed(StoredHeader(signed=signed, validators=validators)))

    def restored(self) -> None:
        """Go on from a state that came into the store from a snapshot and is durable."""
        self._committed = self._executed = load_state(self._store)
        self._newest = None
        self._proof_recorded = False
        self._application.rolled_back(self._committed.height)

    def check(self, transaction: bytes, time_ms: int, *, recheck: bool = False) -> Result:
        """What would become of a transaction after the newest executed block; changes nothing. `recheck`: the pool
        has it already and asks whether to keep it."""
        return self._asked(lambda: self._application.check(transaction, time_ms, recheck=recheck))

    def judge(self, height: int, time_ms: int, candidates: Sequence[bytes]) -> list[TransactionResult]:
        """What would become of each of `candidates` in a block of their own; changes nothing."""
        return self._asked(lambda: self._application.judge(height, time_ms, candidates))

    def prepare(self, height: int, time_ms: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]:
        """Those of `candidates` that the next block should hold, in its order; changes nothing."""
        return self._asked(lambda: self._application.prepare(height, time_ms, candidates, bytes_max))

    def _restart(self, genesis: Any) -> bytes:
        self._store.rollback()  # an engine that died before block 1 was committed initialises again
        app_hash = self._application.init_chain(genesis)
        put_genesis(self._store, app_hash)
        return app_hash

    def _finalize(self, height: int, time_ms: int, transactions: Sequence[bytes]) -> BlockOutcome:
        if height != self._executed.height + 1:
            raise Misconfigured(
                "node.height",
                f"the engine gave block {height} after {self._executed.height}: are the two of one chain?",
            )
        if self._executed.height > self._committed.height and not self._proof_recorded:
            self._commit()
        outcome = self._application.execute(height, time_ms, transactions)
        if len(outcome.results) != len(transactions):
            raise Misconfigured("node.results", "the application has not one result for each transaction")
        block = StoredBlock(
            height=height,
            time_ms=time_ms,
            transactions=tuple(transactions),
            results=tuple(map(stored_result, outcome.results)),
            app_hash=outcome.app_hash,
        )
        put_state(self._store, block)
        prune(self._store, height, self._keep_blocks)
        self._newest = block
        self._executed = State(height, outcome.app_hash)
        self._proof_recorded = False
        return outcome

    def _decided(self, header: StoredHeader, commit: bool) -> None:
        proves = header.signed.header.height == self._executed.height + 1
        if proves:
            _require_same(header.signed.header.app_hash, self._executed.app_hash)
        put_header(self._store, header, self._executed)
        if proves:
            self._proof_recorded = True
            if commit:
                self._commit()

    def _prove_committed(self, header: StoredHeader) -> None:
        executed, block = self._executed, load_block(self._store, self._executed.height)
        if block is None or not header.signed.header.height == executed.height == self._committed.height + 1:
            raise RuntimeError("only the state before the open block is proven late")
        _require_same(header.signed.header.app_hash, self._committed.app_hash)
        self._store.rollback()
        self._application.rolled_back(self._committed.height)
        put_header(self._store, header, self._committed)
        self._store.commit()
        self._executed = self._committed
        _require_same(self._finalize(block.height, block.time_ms, block.transactions).app_hash, executed.app_hash)

    def _commit(self) -> None:
        self._store.commit()
        self._committed = self._executed

    def _asked(self, act: Callable[[], T]) -> T:
        """For what changes nothing: only the store's own failure halts."""
        self._require_running()
        answer = act()
        self._store.raise_failure()
        return answer

    def _guarded(self, act: Callable[[], T]) -> T:
        """For what changes the state: any failure halts, since a node that cannot follow must not go on differently."""
        self._require_running()
        try:
            done = act()
            self._store.raise_failure()
        except BaseException as error:
            self._halted = error
            self._store.rollback()
            if isinstance(error, MemoryError):
                raise Misconfigured(
                    "store.memory", "memory has run out: give the node more and start it again"
                ) from error
            raise
        return done

    def _require_running(self) -> None:
        if self._halted is not None:
            raise Misconfigured("node.halted", f"the node has stopped: {self._halted}")


def _require_same(decided: bytes, computed: bytes) -> None:
    if decided != computed:
        raise Misconfigured(
            "node.app_hash", "the chain decided another state than this node computed: restore the node's store"
        )
