"""The application beside an engine, as one opens and serves it: store, writer, registry, socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from onecode.node.abci_application import AbciApplication
from onecode.node.abci_server import AbciServer
from onecode.node.blocks import StoredBlock, load_state
from onecode.node.engine_rpc import EngineRpc
from onecode.node.snapshot_maker import SnapshotMaker, SnapshotOptions
from onecode.node.store import ReaderStore, StoreConfig, open_writer
from onecode.node.writer import BlockWriter
from onecode.registry.application import Application
from onecode.registry.genesis import Genesis


def serve_application(
    *,
    store_path: Path,
    store_config: StoreConfig,
    socket_path: Path,
    rpc_port: int,
    genesis: Genesis,
    clock_ms: Callable[[], int],
    keep_blocks: int = 0,
    configured_peers: Sequence[str] = (),
    snapshots: SnapshotOptions | None = None,
    on_decided: Callable[[StoredBlock], None] | None = None,
    on_durable: Callable[[StoredBlock, bool], None] | None = None,
    on_listening: Callable[[AbciServer, ReaderStore], None] | None = None,
) -> None:
    """Serve one engine until it goes away, which raises `Unreachable`, or until `AbciServer.stop`; the whole of it on
    the calling thread. Raises what makes the node unable to follow. The block that is open is dropped: the engine
    replays it. `snapshots`: when and where they are made, for nodes that
    join. `on_listening` gets the server and the store before the first request."""
    store = open_writer(store_path, store_config)
    maker = SnapshotMaker(snapshots, store_path, store_config) if snapshots is not None else None
    try:
        if maker is not None:
            maker.start()
        with store.snapshot() as snapshot:
            height = load_state(snapshot).height
        application = Application(store, genesis.chain_id, height=height)
        with closing(EngineRpc(rpc_port)) as headers:
            handler = AbciApplication(
                store=store,
                writer=BlockWriter(store, application, keep_blocks),
                application=application,
                genesis=genesis,
                headers=headers,
                clock_ms=clock_ms,
                configured_peers=configured_peers,
                snapshots=maker,
                on_decided=on_decided,
                on_durable=on_durable,
            )
            server = AbciServer(socket_path, handler)
            if on_listening is not None:
                on_listening(server, store)
            server.serve()
    finally:
        if maker is not None:
            maker.close()
        store.rollback()
        store.close()
