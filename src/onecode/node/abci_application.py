"""The registry behind CometBFT: what each call of ABCI 2.0 does to the writer that lags one block.

`FinalizeBlock` of height h first takes the signed header h from the engine. It carries the app hash of block h - 1,
which is still open, and so makes it durable together with that header; then block h is executed and left open. `Info`
reports what is durable, and the handshake replays the rest. During that replay the engine answers no questions: blocks
become durable without their headers, nothing is served from them (`docs/spec/engine.md`), and the headers are fetched
with later blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import onecode
from onecode.errors import Malformed, Misconfigured, Unreachable
from onecode.node import abci_messages as messages
from onecode.node.abci_messages import DecidedBlock, EngineValidator, Method, ProposalStatus
from onecode.node.blocks import load_first, load_header
from onecode.node.solo_chain import APP_VERSION, NANOS_PER_MS
from onecode.node.store import WriterStore
from onecode.node.writer import BlockWriter
from onecode.proof.header import SignedHeader, ValidatorSet, header_hash
from onecode.proof.protobuf import varint_field
from onecode.proof.transaction import result_bytes
from onecode.registry.application import Application, TransactionResult
from onecode.registry.genesis import Genesis
from onecode.registry.store import Table, height_key

HEADERS_KEY = b"engine.headers"  # in META: every header below this height(8) is in the store, or was pruned
BACKFILL_A_BLOCK = 32

log = logging.getLogger(__name__)


class Headers(Protocol):
    """Where decided headers come from: `onecode.node.engine_rpc.EngineRpc`."""

    def header(self, height: int) -> tuple[SignedHeader, ValidatorSet]: ...


class AbciApplication:
    """One engine's application; all calls on the thread of the store's write transaction."""

    def __init__(
        self,
        *,
        store: WriterStore,
        writer: BlockWriter,
        application: Application,
        genesis: Genesis,
        headers: Headers,
        clock_ms: Callable[[], int],
        on_block: Callable[[int, int, Sequence[bytes], Sequence[TransactionResult]], None] | None = None,
    ) -> None:
        """`writer` is made over `store` and `application`. `clock_ms` is for the pool alone.

        `on_block` is called with height, time, transactions and results of each block that has become durable, but for
        those that an earlier process executed. It must not block.
        """
        self._store = store
        self._writer = writer
        self._application = application
        self._genesis = genesis
        self._headers = headers
        self._clock_ms = clock_ms
        self._on_block = on_block
        self._open_block: tuple[int, int, Sequence[bytes], Sequence[TransactionResult]] | None = None
        self._time_ms = 0  # of the newest executed block
        self._pool_closed = False  # between FinalizeBlock and Commit
        self._calls: dict[int, Callable[[bytes], bytes]] = {
            Method.ECHO: lambda message: message,
            Method.INFO: self._info,
            Method.INIT_CHAIN: self._init_chain,
            Method.QUERY: self._query,
            Method.CHECK_TX: self._check_tx,
            Method.PREPARE_PROPOSAL: self._prepare_proposal,
            Method.PROCESS_PROPOSAL: self._process_proposal,
            Method.FINALIZE_BLOCK: self._finalize_block,
            Method.COMMIT: self._commit,
            Method.LIST_SNAPSHOTS: lambda _: b"",
            Method.LOAD_SNAPSHOT_CHUNK: lambda _: b"",
            Method.OFFER_SNAPSHOT: lambda _: varint_field(1, messages.SNAPSHOT_ABORT),
            Method.APPLY_SNAPSHOT_CHUNK: lambda _: varint_field(1, messages.SNAPSHOT_ABORT),
        }

    def answer(self, method: int, message: bytes) -> bytes:
        """The response's message to one request. Whatever it raises must end the process."""
        call = self._calls.get(method)
        if call is None:
            raise Malformed("abci.method", f"the engine asks for method {method}, which this application has not")
        return call(message)

    def _info(self, _: bytes) -> bytes:
        """Height and app hash are of one transaction of the store, so no replay can apply a block twice."""
        state = self._writer.info()
        return messages.info_response(onecode.__version__, APP_VERSION, state.height, state.app_hash)

    def _init_chain(self, message: bytes) -> bytes:
        """The registry's genesis decides the validators; the engine's own file may name the same or none."""
        request, genesis = messages.parse_init_chain(message), self._genesis
        if (request.chain_id, request.initial_height) != (genesis.chain_id, 1):
            raise Misconfigured(
                "engine.genesis", f"the engine's genesis is for {request.chain_id} from {request.initial_height}"
            )
        validators = [EngineValidator(one.key, one.power) for one in genesis.validators]
        if request.validators and set(request.validators) != set(validators):
            raise Misconfigured("engine.validators", "the engine's genesis names other validators than the registry's")
        return messages.init_chain_response(validators, self._writer.init_chain(genesis))

    def _query(self, _: bytes) -> bytes:
        return messages.query_response(1, "queries are answered with proofs by the node's own API", self._height())

    def _check_tx(self, message: bytes) -> bytes:
        request = messages.parse_check_tx(message)
        time_ms = max(self._time_ms, self._clock_ms())
        if self._pool_closed:
            # All that waits is checked again right after Commit; to remember this one now would make it refuse itself.
            height = self._writer.executed.height + 1
            code = self._writer.judge(height, time_ms, [request.transaction])[0].code
        else:
            code = self._writer.check(request.transaction, time_ms, recheck=request.recheck)
        return messages.check_tx_response(code, code.meaning)

    def _prepare_proposal(self, message: bytes) -> bytes:
        request = messages.parse_prepare_proposal(message)
        time_ms = request.time_ns // NANOS_PER_MS
        chosen = self._writer.prepare(request.height, time_ms, request.transactions, request.bytes_max)
        return messages.prepare_proposal_response(chosen)

    def _process_proposal(self, message: bytes) -> bytes:
        request = messages.parse_process_proposal(message)
        right = self._application.process(request.transactions)
        return messages.process_proposal_response(ProposalStatus.ACCEPT if right else ProposalStatus.REJECT)

    def _finalize_block(self, message: bytes) -> bytes:
        block = messages.parse_finalize_block(message)
        reachable = self._record(block)
        time_ms = block.time_ns // NANOS_PER_MS
        outcome = self._writer.finalize(block.height, time_ms, block.transactions)
        if self._open_block is not None and self._on_block is not None:
            self._on_block(*self._open_block)
        self._open_block = (block.height, time_ms, block.transactions, outcome.results)
        self._time_ms = time_ms
        self._pool_closed = True
        if reachable:
            self._fill_headers(block.height)
        return messages.finalize_block_response(
            [result_bytes(one.code, one.item_codes) for one in outcome.results],
            [EngineValidator(one.key, one.power) for one in outcome.validator_updates],
            outcome.app_hash,
        )

    def _commit(self, _: bytes) -> bytes:
        """Nothing: the block waits for the header that proves it. No height is given up, so the engine prunes none."""
        self._pool_closed = False
        return b""

    def _height(self) -> int:
        return self._writer.info().height

    def _record(self, block: DecidedBlock) -> bool:
        """Take the header of a decided block, which proves the one before; whether the engine could be asked."""
        if load_header(self._store, block.height) is not None:  # recorded when it proved the committed state
            return False
        try:
            signed, validators = self._headers.header(block.height)
        except Unreachable as error:
            log.info("no header %d yet: %s", block.height, error)
            return False
        if header_hash(signed.header) != block.header_hash:
            raise Misconfigured("engine.other", "the engine that answers is not the one that drives this application")
        self._writer.decided(signed, validators)
        return True

    def _fill_headers(self, height: int) -> None:
        """Fetch headers that a replay went by, from the lowest on, a few with each block."""
        stored = self._store.get(Table.META, HEADERS_KEY)
        known = 1 if stored is None else int.from_bytes(stored, "big")
        at, left = max(known, load_first(self._store)), BACKFILL_A_BLOCK
        while at <= height:
            if load_header(self._store, at) is None:
                if not left:
                    break
                left -= 1
                try:
                    self._writer.decided(*self._headers.header(at))
                except Unreachable as error:
                    log.info("no header %d yet: %s", at, error)
                    break
            at += 1
        if at != known:
            self._store.put(Table.META, HEADERS_KEY, height_key(at))
