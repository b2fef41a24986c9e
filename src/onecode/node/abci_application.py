"""The registry behind CometBFT: what each call of ABCI 2.0 does to the writer that lags one block.

`FinalizeBlock` of height h first takes the signed header h from the engine. It carries the app hash of block h - 1,
which is still open, and so makes it durable together with that header; then block h is executed and left open. `Info`
reports what is durable, and the handshake replays the rest. During that replay the engine answers no questions: blocks
become durable without their headers and nothing is served from them (`docs/spec/engine.md`). As soon as the engine
answers, the header that proves what is durable is fetched; the others with later blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import onecode
from onecode.errors import Malformed, Misconfigured, Unreachable
from onecode.node import abci_messages as messages
from onecode.node.abci_messages import DecidedBlock, EngineValidator, Method, ProposalStatus
from onecode.node.abci_snapshots import AbciSnapshots
from onecode.node.blocks import StoredBlock, load_first, load_header, load_proven
from onecode.node.peers import PEER_ADDRESS, PEER_ID, PeerFilter
from onecode.node.snapshot_maker import SnapshotMaker
from onecode.node.solo_chain import APP_VERSION, NANOS_PER_MS
from onecode.node.store import WriterStore
from onecode.node.writer import BlockWriter
from onecode.proof.header import SignedHeader, ValidatorSet, header_hash
from onecode.proof.transaction import result_bytes
from onecode.registry.application import Application
from onecode.registry.genesis import Genesis
from onecode.registry.results import Result
from onecode.registry.store import MemoryStore, Reader, Table, height_key

HEADERS_KEY = b"engine.headers"  # in META: every header below this height(8) is in the store, or was pruned
BACKFILL_A_BLOCK = 32
PRUNED_AT_ONCE = 10  # heights that the engine is told to forget together, since each time costs it a sync
_REFUSED = 1  # of a query

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
        configured_peers: Sequence[str] = (),
        snapshots: SnapshotMaker | None = None,
        on_decided: Callable[[StoredBlock], None] | None = None,
        on_durable: Callable[[StoredBlock, bool], None] | None = None,
    ) -> None:
        """`writer` is made over `store` and `application`. `clock_ms` is for the pool and the peers alone.

        `configured_peers`: node ids of the engine's peers in the node's own configuration.

        `snapshots` makes them; without it none is made or offered.

        `on_decided` is called with each block as soon as it is executed: the engine keeps it, and gives it again after
        any crash. `on_durable` is called when it is durable here, and says whether it is proven, as it is but for
        blocks of a replay. Neither may block; both are for blocks that this process executed.
        """
        self._store = store
        self._writer = writer
        self._application = application
        self._genesis = genesis
        self._headers = headers
        self._clock_ms = clock_ms
        self._peers = PeerFilter(store, configured_peers)
        self._configured_peers = configured_peers
        self._snapshots = AbciSnapshots(store, writer, genesis.chain_id, snapshots, self._restored)
        self._refused_last = ""
        self._on_decided = on_decided
        self._on_durable = on_durable
        self._time_ms = 0  # of the newest executed block
        self._unproven: bytes | None = None  # after a replay: hash of the header that proves what is durable
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
        } | self._snapshots.calls()

    def answer(self, method: int, message: bytes) -> bytes:
        """The response's message to one request. Whatever it raises must end the process."""
        call = self._calls.get(method)
        if call is None:
            raise Malformed("abci.method", f"the engine asks for method {method}, which this application has not")
        return call(message)

    def idle(self) -> None:
        """Called while the engine asks nothing: after a replay, fetch the header that proves what is durable."""
        if self._unproven is None:
            return
        height = self._writer.executed.height
        try:
            signed, validators = self._headers.header(height)
        except Unreachable as error:
            log.info("no header %d yet: %s", height, error)
            return
        self._require_own(signed, self._unproven)
        self._unproven = None
        self._writer.prove_committed(signed, validators)

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
        self._snapshots.before_chain()
        return messages.init_chain_response(validators, self._begin())

    def _begin(self) -> bytes:
        """Write the genesis. An engine that died before it kept block 1 asks again for one that is durable."""
        state = self._writer.info()
        if not state.app_hash:
            return self._writer.init_chain(self._genesis)
        same = Application(MemoryStore(), self._genesis.chain_id).init_chain(self._genesis) == state.app_hash
        if state.height or not same:
            raise Misconfigured("node.chain_exists", "the store already holds a chain: use an empty directory")
        return state.app_hash

    def _query(self, message: bytes) -> bytes:
        """Which peers the engine may have; all else is asked of the node's own API."""
        path, height = messages.parse_query(message).path, self._writer.info().height
        if path.startswith(PEER_ADDRESS):  # who it is is asked once that is proven
            return messages.query_response(0, "", height)
        if not path.startswith(PEER_ID):
            return messages.query_response(_REFUSED, "queries are answered with proofs by the node's own API", height)
        node_id = path.removeprefix(PEER_ID)
        if self._peers.admits(node_id, self._now_ms()):
            return messages.query_response(0, "", height)
        level = logging.INFO if node_id == self._refused_last else logging.WARNING  # it may knock many times a second
        self._refused_last = node_id
        log.log(level, "the engine %s was not let in: it is no node of an active platform or observer", node_id)
        return messages.query_response(_REFUSED, "the peer is no node of an active platform or observer", height)

    def _check_tx(self, message: bytes) -> bytes:
        request = messages.parse_check_tx(message)
        if not self._writer.executed.app_hash:  # the state is still being fetched
            return messages.check_tx_response(Result.QUOTA, "this node has no state yet: ask another one")
        code = self._writer.check(request.transaction, self._now_ms(), recheck=request.recheck)
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
        self._snapshots.before_block()
        reachable = self._record(block)
        time_ms, before = block.time_ns // NANOS_PER_MS, self._writer.newest
        outcome = self._writer.finalize(block.height, time_ms, block.transactions)
        self._time_ms = time_ms
        with self._store.snapshot() as durable:
            after_replay = load_proven(durable) is None and self._writer.info().app_hash
        self._tell(before, proven=not after_replay)
        self._unproven = block.header_hash if after_replay else None
        self._snapshots.executed(block.height, time_ms, provable=not after_replay)
        if reachable:
            self._fill_headers(block.height)
        return messages.finalize_block_response(
            [result_bytes(one.code, one.item_codes) for one in outcome.results],
            [EngineValidator(one.key, one.power) for one in outcome.validator_updates],
            outcome.app_hash,
        )

    def _tell(self, before: StoredBlock | None, *, proven: bool) -> None:
        """The block before has become durable, the newest is decided."""
        if before is not None and self._on_durable is not None:
            self._on_durable(before, proven)
        if self._writer.newest is not None and self._on_decided is not None:
            self._on_decided(self._writer.newest)

    def _commit(self, _: bytes) -> bytes:
        """Nothing becomes durable: the block waits for the header that proves it. The engine checks all that waits
        again right after this, also what came since FinalizeBlock. It may forget what the store has forgotten."""
        self._application.restart_pool()
        with self._store.snapshot() as durable:
            keep_from = self._snapshots.keep_from(min(load_first(durable), _load_known(durable)))
        return messages.commit_response(keep_from - keep_from % PRUNED_AT_ONCE)

    def _restored(self) -> None:
        """The state came from a snapshot: nothing that was read before holds."""
        self._peers = PeerFilter(self._store, self._configured_peers)

    def _now_ms(self) -> int:
        return max(self._time_ms, self._clock_ms())

    def _record(self, block: DecidedBlock) -> bool:
        """Take the header of a decided block, which proves the one before; whether the engine could be asked."""
        stored = load_header(self._store, block.height)
        if stored is not None:  # recorded when it proved the committed state
            self._require_own(stored.signed, block.header_hash)
            return False
        try:
            signed, validators = self._headers.header(block.height)
        except Unreachable as error:
            log.info("no header %d yet: %s", block.height, error)
            return False
        self._require_own(signed, block.header_hash)
        self._writer.decided(signed, validators)
        return True

    @staticmethod
    def _require_own(signed: SignedHeader, hashed: bytes) -> None:
        if header_hash(signed.header) != hashed:
            raise Misconfigured("engine.other", "the engine that answers is not the one that drives this application")

    def _fill_headers(self, height: int) -> None:
        """Fetch headers that a replay went by, from the lowest on, a few with each block."""
        known = _load_known(self._store)
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


def _load_known(reader: Reader) -> int:
    """The height below which every header is in the store, or was pruned."""
    stored = reader.get(Table.META, HEADERS_KEY)
    return 1 if stored is None else int.from_bytes(stored, "big")
