"""A query worker: HTTP in front, the store's newest snapshot behind, the enclave and the writer beside it."""

from __future__ import annotations

import asyncio
import logging

from onecode.errors import OnecodeError, Unreachable
from onecode.node.api import NodeApi, writer_down
from onecode.node.blocks import load_header
from onecode.node.child import keep_beating, say_ready, stop_event
from onecode.node.config import NodeConfig
from onecode.node.enclave_port import EnclavePort
from onecode.node.http import HttpServer
from onecode.node.link import Link, LinkLimits
from onecode.node.store import ReaderStore, open_reader
from onecode.query.messages import HeaderView

STORE_RETRY_S = 0.05

log = logging.getLogger(__name__)


async def wait_for_store(config: NodeConfig) -> ReaderStore:
    """The store, as soon as the writer has made it."""
    while True:
        try:
            return open_reader(config.store_path, config.store_config())
        except Unreachable:
            await asyncio.sleep(STORE_RETRY_S)


def open_ports(config: NodeConfig, store: ReaderStore) -> list[EnclavePort]:
    """The connections to the enclave; none where the node has no enclave."""
    if config.enclave_config is None and config.enclave_socket is None:
        return []
    limits = LinkLimits(config.queries_in_flight_max, config.enclave_timeout_ms)

    def header_at(height: int) -> HeaderView | None:
        with store.snapshot() as reader:
            stored = load_header(reader, height)
        return None if stored is None else HeaderView(header=stored.signed, validators=stored.validators)

    return [EnclavePort(path, limits, header_at) for path in config.enclave_worker_paths]


async def poll_head(api: NodeApi, config: NodeConfig, server: HttpServer) -> None:
    """Look for a newer state for ever, so that the enclave knows its header before the first query under it."""
    while True:
        try:
            api.poll(len(server.connections))
        except Unreachable:
            pass  # not ready yet, or the writer is replaying
        except OnecodeError as error:
            log.error("the state cannot be read: %s", error)
        await asyncio.sleep(config.head_poll_ms / 1000)


async def serve_worker(config: NodeConfig, port: int, number: int = 0) -> None:
    """Serve the API on `port`, shared with the other workers, until told to stop. `number` is this worker's."""
    store = await wait_for_store(config)
    stop = stop_event()  # until here a signal ends the process at once
    store.warm()
    ports = open_ports(config, store)
    limits = LinkLimits(config.submissions_in_flight_max, config.submission_timeout_ms)
    writer = Link(config.submission_socket, limits, writer_down)
    for link in [*(one.link for one in ports), writer]:
        link.start()
    api = NodeApi(config, store, ports, writer)
    meter = api.meter(number)
    server = HttpServer(api.router(), config.http_limits(), meter)
    polling = asyncio.create_task(poll_head(api, config, server))
    await server.start(config.api_host, port)
    say_ready()
    beating = asyncio.create_task(keep_beating())
    await stop.wait()
    await server.stop(config.stop_grace_ms)
    polling.cancel()
    beating.cancel()
    for link in [*(one.link for one in ports), writer]:
        await link.stop()
    await asyncio.gather(polling, beating, return_exceptions=True)
    store.close()
