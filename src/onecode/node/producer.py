"""The writer process: the chain's one writer, and the socket on which the workers hand it transactions."""

from __future__ import annotations

import asyncio
import gc
import os
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from onecode.enclave.frames import FrameKind, Refusal, unpack
from onecode.errors import Malformed, Misconfigured, OnecodeError, Unreachable
from onecode.host.clock import now_ms
from onecode.node.blocks import load_state
from onecode.node.child import keep_beating, say_ready, stop_event
from onecode.node.comet import Comet, CometConfig
from onecode.node.config import NodeConfig
from onecode.node.engine_home import EngineSettings, StateSync
from onecode.node.link import frame_bytes
from onecode.node.metrics import ENGINE, WRITER, Board
from onecode.node.snapshot_maker import SnapshotOptions
from onecode.node.solo import Included, Solo, SoloConfig
from onecode.node.store import open_writer
from onecode.node.submission import SUBMIT, Submission, Submitted, Wait
from onecode.registry.application import Application
from onecode.registry.genesis import GENESIS_BYTES_MAX, Genesis, parse_genesis
from onecode.schema import parse
from onecode.wire import SigningKey, sha256

CONNECTIONS_MAX = 64
# Leaves that are kept decoded are many objects in no cycle: with Python's own thresholds, walking them all took 130 to
# 160 ms, several times in a busy minute.
GARBAGE_THRESHOLDS = (50_000, 50, 100)


class Producer(Protocol):
    """What makes blocks of transactions: `Solo` or `Comet`."""

    def start(self) -> None: ...
    def enqueue(self, transaction: bytes, *, proven: bool = True) -> Future[Included]: ...
    @property
    def queue_length(self) -> int: ...
    def wait(self) -> None: ...
    def stop(self) -> None: ...


class Submissions(asyncio.Protocol):
    """One worker's connection. `server` bounds what all of them together have under way."""

    def __init__(self, server: SubmissionServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._server.connections += 1
        if self._server.connections > CONNECTIONS_MAX:
            transport.abort()  # type: ignore[attr-defined]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._server.connections -= 1

    def data_received(self, data: bytes) -> None:
        try:
            frames, self._buffer = unpack(self._buffer + data if self._buffer else data)
        except OnecodeError:
            if self._transport is not None:
                self._transport.abort()
            return
        for request_id, kind, payload in frames:
            try:
                self._server.submit(kind, payload, partial(self._reply, request_id))
            except OnecodeError as error:
                self._reply(request_id, error)

    def _reply(self, request_id: int, outcome: Submitted | OnecodeError) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if isinstance(outcome, OnecodeError):
            refusal = Refusal(branch=outcome.branch, code=outcome.code, detail=outcome.message[:300])
            self._transport.write(frame_bytes(request_id, FrameKind.ERROR, refusal.encoded()))
        else:
            self._transport.write(frame_bytes(request_id, FrameKind.OK, outcome.encoded()))


class SubmissionServer:
    """Takes transactions for the engine. At most `in_flight_max` wait for a block at one time."""

    def __init__(self, producer: Producer, in_flight_max: int, board: Board | None = None) -> None:
        self._board = board or Board(WRITER)
        self._producer = producer
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._loop = asyncio.get_running_loop()
        self.connections = 0

    async def start(self, path: Path) -> asyncio.AbstractServer:
        path.unlink(missing_ok=True)
        old_mask = os.umask(0o177)
        try:
            return await self._loop.create_unix_server(lambda: Submissions(self), str(path))
        finally:
            os.umask(old_mask)

    def submit(self, kind: int, payload: bytes, reply: Any) -> None:
        """Queue one transaction; `reply` is called on the loop with what became of it."""
        if kind != SUBMIT:
            raise Malformed("frame.kind", f"frame kind {kind} is not known", field="kind")
        submission = parse(Submission, payload, path="submission")
        if self._in_flight >= self._in_flight_max:
            raise Unreachable("node.busy", "the node has all it can do: ask again or another one", retry_after_ms=1_000)
        hashed = sha256(submission.transaction)
        future = self._producer.enqueue(submission.transaction, proven=submission.wait == Wait.PROVEN)
        self._in_flight += 1
        self._measure()
        if submission.wait == Wait.NONE:
            reply(Submitted(hash=hashed, items=()))
            reply = None
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._settle, hashed, done, reply))

    def _settle(self, hashed: bytes, done: Future[Included], reply: Any) -> None:
        self._in_flight -= 1
        self._measure()
        error = done.exception()
        self._count(error, done)
        if reply is None:
            return
        if error is not None:
            known = isinstance(error, OnecodeError)
            reply(error if known else Misconfigured("node.failed", "the writer failed inside; see its log"))
            return
        included = done.result()
        result = included.result
        items = tuple(int(code) for code in result.item_codes)
        proven = included.height is not None and included.proven
        reply(Submitted(hash=hashed, height=included.height, code=int(result.code), items=items, proven=proven))

    def _count(self, error: BaseException | None, done: Future[Included]) -> None:
        place = 3
        if error is None:
            included = done.result()
            place = 2 if included.height is None else int(bool(included.result.code))
        self._board.add(self._board.place("transactions_total") + place)

    def _measure(self) -> None:
        self._board.set(self._board.place("transactions_in_flight"), self._in_flight)
        self._board.set(self._board.place("queue_length"), self._producer.queue_length)


def load_key(path: Path, field: str = "validator_key") -> SigningKey:
    """The validator's key, or the engine's node key: a file with 64 hex digits that only its owner may read."""
    try:
        if path.stat().st_mode & 0o077:
            raise Misconfigured("node.key_mode", f"{path} may be read by others: chmod 600 it", field=field)
        seed = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise Misconfigured("node.key", f"cannot read the key in {path}: {error}", field=field) from error
    if len(seed) != 32:
        raise Misconfigured("node.key", f"the key in {path} has not 64 hex digits", field=field)
    return SigningKey.from_seed(seed)


def load_genesis(config: NodeConfig, key: SigningKey | None) -> Genesis:
    """The genesis, if it is the one of this chain and, with `solo`, of this validator. With several organisations a
    validator may have been admitted later, or the node be an observer."""
    try:
        if config.genesis.stat().st_size > GENESIS_BYTES_MAX:
            raise Misconfigured("node.genesis", f"{config.genesis} is too large for a genesis", field="genesis")
        genesis = parse_genesis(config.genesis.read_bytes())
    except OSError as error:
        raise Misconfigured(
            "node.genesis", f"cannot read {config.genesis}: {error.strerror}", field="genesis"
        ) from error
    except Malformed as error:
        raise Misconfigured("node.genesis", f"{config.genesis}: {error}", field="genesis") from error
    if genesis.chain_id != config.chain_id:
        raise Misconfigured("node.genesis", f"the genesis is for the chain {genesis.chain_id}", field="chain_id")
    named = key is not None and any(validator.key == key.public for validator in genesis.validators)
    if config.engine == "solo" and not named:
        raise Misconfigured("node.genesis", "the validator key is not in the genesis", field="validator_key")
    return genesis


def open_producer(config: NodeConfig) -> Producer:
    """The engine that the configuration names, not started yet."""
    key = None if config.validator_key is None else load_key(config.validator_key)
    genesis = load_genesis(config, key)
    if config.engine == "cometbft" or key is None:
        return _open_comet(config, genesis, key)
    store = open_writer(config.store_path, config.store_config())
    with store.snapshot() as snapshot:
        height = load_state(snapshot).height
    return Solo(
        store=store,
        application=Application(store, config.chain_id, height=height),
        key=key,
        chain_id=config.chain_id,
        genesis=genesis,
        clock_ms=now_ms,
        config=SoloConfig(heartbeat_ms=config.heartbeat_ms, keep_blocks=config.keep_blocks),
    )


def _open_comet(config: NodeConfig, genesis: Genesis, key: SigningKey | None) -> Comet:
    if config.engine_binary is None or config.engine_node_key is None:
        raise Misconfigured("config.missing", "cometbft needs engine_binary and engine_node_key", field="engine_binary")
    settings = EngineSettings(
        home=config.engine_path,
        application=config.engine_socket,
        rpc_port=config.engine_rpc_port,
        p2p=config.engine_listen,
        moniker=config.node_id,
        peers=tuple(config.engine_peers.split(",")) if config.engine_peers else (),
        heartbeat_ms=config.heartbeat_ms,
        one_machine=config.engine_one_machine,
        state_sync=_state_sync(config),
    )
    comet = CometConfig(
        binary=config.engine_binary,
        settings=settings,
        store_path=config.store_path,
        store_config=config.store_config(),
        decided=config.decided_path,
        keep_blocks=config.keep_blocks,
        wait_ms=config.submission_timeout_ms,
        snapshots=SnapshotOptions(config.snapshots_path, config.snapshot_interval_ms, config.snapshots_kept),
    )
    node_key = load_key(config.engine_node_key, "engine_node_key")
    return Comet(comet, genesis, key, node_key, now_ms, Board(ENGINE, config.engine_board))


def _state_sync(config: NodeConfig) -> StateSync | None:
    if config.state_sync_servers is None or config.state_sync_trust_height is None:
        return None
    servers = tuple(f"{url.strip().rstrip('/')}/v1/engine" for url in config.state_sync_servers.split(","))
    return StateSync(servers, config.state_sync_trust_height, bytes.fromhex(config.state_sync_trust_hash or ""))


async def serve_writer(config: NodeConfig) -> None:
    """Produce blocks until told to stop; raises what halted the chain."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    stop = stop_event()
    producer = open_producer(config)
    producer.start()
    board = Board(WRITER, config.boards_path / "writer")
    submissions = SubmissionServer(producer, config.submissions_in_flight_max, board)
    server = await submissions.start(config.submission_socket)
    say_ready()
    beating = asyncio.create_task(keep_beating())
    halted = asyncio.create_task(asyncio.to_thread(producer.wait))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({halted, stopped}, return_when=asyncio.FIRST_COMPLETED)
    server.close()
    beating.cancel()
    await asyncio.to_thread(producer.stop)
    stopped.cancel()
    await halted
