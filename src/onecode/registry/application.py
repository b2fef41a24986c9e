"""The replicated state machine: blocks in, results and app hash out. Whoever calls it owns store, engine and clock.

`execute` is consensus and depends on nothing but the store, the block and the rules. `check`, `prepare` and `process`
serve the pool and the proposer: `check` and `prepare` execute on overlays that are thrown away, `process` looks at no
state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onecode.errors import Misconfigured
from onecode.proof.governance import VALIDATORS_KEY
from onecode.proof.map import Section
from onecode.registry.admission import Inspected, Nonces, admit, inspect
from onecode.registry.context import Context
from onecode.registry.events import Event
from onecode.registry.genesis import RULE_VERSION, Genesis, begin
from onecode.registry.results import Result
from onecode.registry.rules import RULES
from onecode.registry.signatures import SignatureCache, Signatures
from onecode.registry.state import Committed, Effects, State
from onecode.registry.store import Writer
from onecode.registry.transactions import RecordPublish, RecordWithdraw

RECOVERY_SHARE = 8  # an eighth of each block is kept for recovery keys
TRANSACTION_OVERHEAD_BYTES = 5  # tag and length of a transaction in a block
INSPECTED_BYTES_MAX = 16 << 20  # raw bytes of inspected transactions that are remembered
RECHECK_ITEMS_MAX = 4_000  # items executed again after a block; beyond that only admission is judged again


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """`code` and `item_codes` (one an item of a batch, else none) are consensus; `detail` and `events` are not."""

    code: Result
    item_codes: tuple[Result, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def detail(self) -> str:
        """The result in words."""
        failed = [index for index, code in enumerate(self.item_codes) if code]
        if not failed:
            return self.code.meaning
        first = self.item_codes[failed[0]]
        return f"{self.code.meaning}; {len(failed)} items failed, the first at {failed[0]}: {first.meaning}"


@dataclass(frozen=True, slots=True)
class ValidatorUpdate:
    """For the engine: power 0 removes the validator."""

    key: bytes
    power: int


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    results: tuple[TransactionResult, ...]
    app_hash: bytes
    validator_updates: tuple[ValidatorUpdate, ...]


class Application:
    """One registry over one store. Not for several threads at once.

    writer: the store's open write transaction, which holds the last executed block. Nobody else changes the registry's
    tables while the application lives; after an abort a new application is made.
    """

    def __init__(self, writer: Writer, chain_id: str, *, signatures: Signatures | None = None, height: int = 0) -> None:
        """`height` is that of the last executed block in `writer`: what `check` judges is for the one after."""
        self._writer = writer
        self._base = Committed(writer, chain_id)
        self._signatures = signatures or SignatureCache()
        self._inspected: dict[bytes, Inspected] = {}
        self._inspected_bytes = 0
        self._height = height
        self._taken: dict[bytes, Effects] = {}  # what `check` took since the last block, and what it does
        self._waiting: dict[bytes, Effects] = {}  # the same of what it took before and the block left as it was
        self.restart_pool()

    def init_chain(self, genesis: Genesis) -> bytes:
        """Write the genesis into an empty store, also again into one that was rolled back; returns the first app hash.
        Raises `Malformed` where the genesis does not fit together."""
        self._base = Committed(self._writer, self._base.chain_id)  # an engine that died early initialises again
        state = State(self._base)
        begin(state, genesis)
        app_hash = state.finish_block(self._writer)
        self.restart_pool()
        return app_hash

    def rolled_back(self, height: int) -> None:
        """Begin anew from the store, whose open transaction was dropped: the block of `height` is the last one."""
        self._base = Committed(self._writer, self._base.chain_id)
        self._height = height
        self._taken, self._waiting = {}, {}
        self.restart_pool()

    def execute(self, height: int, time_ms: int, transactions: Sequence[bytes]) -> BlockOutcome:
        """Execute a decided block and write its state; `time_ms` is the block's time."""
        state = State(self._base)
        if state.rules().version_at(height) != RULE_VERSION:
            raise Misconfigured(
                "registry.rule_version", f"block {height} follows rules that this version lacks: upgrade"
            )
        updates = _change_validators(state, time_ms)
        results = []
        for raw in transactions:
            call = self._inspect(raw)
            if isinstance(call, Result):
                results.append(TransactionResult(call))
            else:
                results.append(self._run(state, call, height, time_ms, Nonces.ASCENDING))
        app_hash = state.finish_block(self._writer)
        self._height = height
        self._waiting, self._taken = _untouched(self._taken, state.changed()), {}
        self.restart_pool()
        return BlockOutcome(tuple(results), app_hash, updates)

    def check(self, transaction: bytes, time_ms: int, *, recheck: bool = False) -> Result:
        """Whether the pool takes the transaction (`OK`), or keeps it (`recheck`, after a block).

        It is executed on an overlay that holds what the pool took since the last block, so that the second update of a
        record does not wait for the first one's block. After a block the overlay is empty: the engine rechecks what is
        still waiting, in order, and thereby fills it again. A batch is not executed again if the block changed nothing
        that it stands on, and no proposal of this node has found it to fail.
        """
        call = self._inspect(transaction)
        if isinstance(call, Result):
            return call
        known = self._waiting.get(transaction) or self._taken.get(transaction) if recheck else None
        if known is not None:
            code = admit(self._pool, call, time_ms, Nonces.ONCE)
            if not code:
                self._pool.redo(known)
                self._taken[transaction] = known
            return code
        if recheck:
            self._rechecked_items += _items(call)
            if self._rechecked_items > RECHECK_ITEMS_MAX:
                return admit(self._pool, call, time_ms, Nonces.ONCE)
        mark = self._pool.mark()
        code = self._run(self._pool, call, self._height + 1, time_ms, Nonces.ONCE).code
        if code:
            self._pool.rollback(mark)
        elif isinstance(call.payload, RecordPublish | RecordWithdraw):
            self._taken[transaction] = self._pool.effects(mark)
        return code

    def restart_pool(self) -> None:
        """Forget what `check` took since the last block: whatever still waits is checked again."""
        self._pool = State(self._base, trial=True)
        self._rechecked_items = 0

    def judge(self, height: int, time_ms: int, candidates: Sequence[bytes]) -> list[TransactionResult]:
        """What would become of each of `candidates`, executed in this order in a block of their own; changes nothing.

        For an engine without a pool: unlike `check` it does not remember what it took.
        """
        state = State(self._base, trial=True)
        _change_validators(state, time_ms)
        results = []
        for raw in candidates:
            call = self._inspect(raw)
            if isinstance(call, Result):
                results.append(TransactionResult(call))
                continue
            mark = state.mark()
            result = self._run(state, call, height, time_ms, Nonces.ASCENDING)
            if result.code:
                state.rollback(mark)
            results.append(result)
        return results

    def prepare(self, height: int, time_ms: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]:
        """The transactions of a new block: those of `candidates` that succeed, in the order they are to be executed.

        Recovery keys come first, up to their share of the block; then all others, each key's in order of its nonces.
        """
        state = State(self._base, trial=True)
        _change_validators(state, time_ms)
        calls = [call for call in map(self._inspect, candidates) if isinstance(call, Inspected)]
        block: list[bytes] = []
        left = bytes_max

        def take(waiting: Iterable[Inspected], share: int) -> list[Inspected]:
            """Execute and take what fits into `share`; returns what did not fit."""
            nonlocal left
            over, floor = [], left - min(share, left)
            for call in waiting:
                size = len(call.raw) + TRANSACTION_OVERHEAD_BYTES
                if left - size < floor:
                    over.append(call)
                    continue
                mark = state.mark()
                if self._run(state, call, height, time_ms, Nonces.ASCENDING).code:
                    state.rollback(mark)
                    self._doubt(call.raw)
                else:
                    block.append(call.raw)
                    left -= size
            return over

        recovery = take([call for call in calls if call.by_recovery_key], bytes_max // RECOVERY_SHARE)
        take(_in_nonce_order([call for call in calls if not call.by_recovery_key]), left)
        take(recovery, left)
        return block

    def process(self, transactions: Sequence[bytes]) -> bool:
        """Whether a proposed block holds only what is right as far as can be told without state."""
        return all(isinstance(self._inspect(raw), Inspected) for raw in transactions)

    def _doubt(self, transaction: bytes) -> None:
        """Have the next recheck execute it again: time alone can make a transaction worthless, as a consent's end does.

        An engine shows a proposer the first transactions of its pool only. What fails there and stays keeps others out.
        """
        self._taken.pop(transaction, None)
        self._waiting.pop(transaction, None)

    # --- one transaction

    def _run(self, state: State, call: Inspected, height: int, time_ms: int, nonces: Nonces) -> TransactionResult:
        code = admit(state, call, time_ms, nonces)
        if code:
            return TransactionResult(code)
        body = call.body
        context = Context(state, self._signatures, height, time_ms, body.signer, call.lead.kind, call.lead.key)
        mark = state.mark()
        code = RULES[body.kind](context, call.payload)
        if code:
            state.rollback(mark)
            context.events.clear()
        return TransactionResult(code, tuple(context.item_codes), tuple(context.events))

    def _inspect(self, raw: bytes) -> Inspected | Result:
        """Steps 1 to 3 of admission, done once for each transaction: only those that passed are remembered."""
        known = self._inspected.get(raw)
        if known is not None:
            return known
        call = inspect(self._base.chain_id, raw, self._signatures)
        if isinstance(call, Inspected):
            self._inspected[raw] = call
            self._inspected_bytes += len(raw)
            while self._inspected_bytes > INSPECTED_BYTES_MAX:
                oldest = next(iter(self._inspected))
                del self._inspected[oldest]
                self._inspected_bytes -= len(oldest)
        return call


def _untouched(taken: dict[bytes, Effects], changed: set[tuple[Section, bytes]]) -> dict[bytes, Effects]:
    """Those batches of records that a block has left as they were. They read the leaves that they write, governance and
    platforms, and floors, which change only with the entry that they write."""
    if any(section in (Section.GOVERNANCE, Section.PLATFORMS) for section, _ in changed):
        return {}
    return {raw: effects for raw, effects in taken.items() if changed.isdisjoint(effects[0])}


def _items(call: Inspected) -> int:
    return len(call.payload.items) if isinstance(call.payload, RecordPublish | RecordWithdraw) else 1


def _in_nonce_order(calls: list[Inspected]) -> list[Inspected]:
    """The same calls, each key's among themselves by nonce: gossip may have turned two around."""
    places: dict[tuple[bytes, bytes], list[int]] = {}
    for index, call in enumerate(calls):
        places.setdefault((call.body.signer, call.lead.key), []).append(index)
    ordered = list(calls)
    for indices in places.values():
        by_nonce = sorted((calls[index] for index in indices), key=lambda call: call.body.nonce)
        for index, call in zip(indices, by_nonce, strict=True):
            ordered[index] = call
    return ordered


def _change_validators(state: State, time_ms: int) -> tuple[ValidatorUpdate, ...]:
    """A pending validator set whose time has come takes effect by itself: the one effect that needs no transaction."""
    leaf = state.validators()
    if leaf.pending_ms is None or time_ms < leaf.pending_ms:
        return ()
    before = {validator.key: validator.power for validator in leaf.validators}
    after = {validator.key: validator.power for validator in leaf.pending}
    changed = dataclasses.replace(leaf, validators=leaf.pending, pending=(), pending_ms=None)
    state.put(Section.GOVERNANCE, VALIDATORS_KEY, changed)
    keys = sorted(before.keys() | after.keys())
    return tuple(ValidatorUpdate(key, after.get(key, 0)) for key in keys if before.get(key) != after.get(key))
