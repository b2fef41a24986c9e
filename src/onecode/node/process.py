"""A node as processes: this supervisor, the writer, the query workers and the enclave. `python -m onecode.node CONFIG`.

The supervisor also carries what attestation needs between enclave and key services (`node/relay.py`). Every child ends
with it, however it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import uvloop

from onecode.enclave.frames import FrameKind
from onecode.errors import Malformed, Misconfigured, OnecodeError, Unreachable
from onecode.node.child import die_with_parent, stop_event
from onecode.node.config import NodeConfig, load_config
from onecode.node.enclave_port import enclave_down
from onecode.node.link import Link, LinkLimits
from onecode.node.metrics import PROCESSES, SUPERVISOR, Board
from onecode.node.producer import serve_writer
from onecode.node.relay import Relay
from onecode.node.store import open_reader
from onecode.node.supervision import Child
from onecode.node.worker import serve_worker

STATE_FILE = "running.json"  # in the data directory while the node runs: its address and process ids
FILE_POLL_S = 0.2
RELAY_IN_FLIGHT_MAX = 64

log = logging.getLogger(__name__)


def reserve_port(host: str, port: int) -> socket.socket:
    """A bound socket that keeps the port for the node's workers, who share it; it never listens itself.

    `Misconfigured` if another process has the port: to share it with a stranger would split the requests.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        raise Misconfigured(
            "node.port", f"cannot use {host} port {port}: {error.strerror}", field="api_port"
        ) from error
    return held


class Node:
    """The supervisor's view of one node."""

    def __init__(self, config: NodeConfig, config_path: Path, port: int) -> None:
        self._config = config
        host = f"[{config.api_host}]" if ":" in config.api_host else config.api_host
        self._url = f"http://{host}:{port}"
        delays_ms = (config.restart_delay_ms_min, config.restart_delay_ms_max)
        self._board = Board(SUPERVISOR, config.boards_path / "supervisor")
        watched: dict[str, Any] = {
            "hung_timeout_ms": config.hung_timeout_ms,
            "on_change": self._write_state,
            "count": self._count,
        }
        own = [sys.executable, "-m", "onecode.node", str(config_path), "--parent", str(os.getpid())]
        self._writer = Child("writer", [*own, "--role", "writer"], delays_ms, **watched)
        worker = [*own, "--role", "worker", "--port", str(port), "--number"]
        self._workers = [
            Child("worker", [*worker, str(number)], delays_ms, **watched) for number in range(config.workers)
        ]
        self._enclave: Child | None = None
        if config.enclave_config is not None:
            enclave = [sys.executable, "-m", "onecode.enclave", str(config.enclave_config)]
            self._enclave = Child("enclave", enclave, delays_ms, before=self._wait_for_enclave, **watched)
        self._ready = False

    def describe(self) -> dict[str, Any]:
        """What the ready line and the state file say."""
        return {
            "ready": self._ready,
            "url": self._url,
            "chain_id": self._config.chain_id,
            "node_id": self._config.node_id,
            "pid": os.getpid(),
            "pids": {
                "writer": self._writer.pid,
                "workers": [worker.pid for worker in self._workers],
                "enclave": self._enclave.pid if self._enclave is not None else None,
            },
        }

    def _count(self, what: str, name: str) -> None:
        self._board.add(self._board.place(what) + PROCESSES.index(name))

    def _write_state(self) -> None:
        path = self._config.data_dir / STATE_FILE
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self.describe()) + "\n", "utf-8")
        new.replace(path)

    async def _wait_for_enclave(self) -> None:
        """An enclave needs a trust file, and a new chain has a header to trust only once the node runs."""
        while self._config.enclave_config is not None and not self._config.enclave_config.exists():
            await asyncio.sleep(FILE_POLL_S)

    async def run(self) -> None:
        """Start everything, say so, and keep it running until a signal. Raises what makes it impossible."""
        stop = stop_event()
        children = [self._writer, *self._workers, *([self._enclave] if self._enclave is not None else [])]
        keeping = [asyncio.create_task(child.keep(), name=child.name) for child in children]
        if self._config.enclave_config is not None or self._config.enclave_socket is not None:
            keeping.append(asyncio.create_task(self._relay(), name="relay"))
        if self._enclave is not None:
            keeping.append(asyncio.create_task(self._watch_enclave(self._enclave), name="enclave watch"))
        starting = asyncio.create_task(self._start(children))
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, starting, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            if starting in done:
                starting.result()
                done, _ = await asyncio.wait({stopped, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped, starting}:
                task.result()  # nothing here ends by itself but by an error
        finally:
            await self._stop([stopped, starting, *keeping])

    async def _start(self, children: list[Child]) -> None:
        waiting = children
        if self._config.enclave_config is not None and not self._config.enclave_config.exists():
            waiting = [child for child in children if child is not self._enclave]
        try:
            async with asyncio.timeout(self._config.start_timeout_ms / 1000):
                for child in waiting:
                    await child.ready.wait()
        except TimeoutError:
            raise Unreachable("node.start", "the node's processes were not ready in time; see their messages") from None
        self._ready = True
        self._write_state()
        sys.stdout.write(json.dumps(self.describe()) + "\n")
        sys.stdout.flush()

    async def _stop(self, tasks: list[asyncio.Task[Any]]) -> None:
        """End the workers first, so that what they took is answered; then the enclave, then the writer."""
        grace_ms = self._config.stop_grace_ms + 1_000  # theirs, and a little
        self._ready = False
        await asyncio.gather(*(worker.stop(grace_ms) for worker in self._workers))
        if self._enclave is not None:
            await self._enclave.stop(grace_ms)
        await self._writer.stop(grace_ms)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(OSError):
            (self._config.data_dir / STATE_FILE).unlink()

    async def _watch_enclave(self, enclave: Child) -> None:
        """The enclave says nothing by itself: ask each of its processes, so that one that hangs is noticed."""
        limits = LinkLimits(RELAY_IN_FLIGHT_MAX, self._config.hung_timeout_ms)
        paths = [self._config.enclave_path, *self._config.enclave_worker_paths]
        links = [Link(path, limits, enclave_down) for path in paths]
        for link in links:
            link.start()
        try:
            while True:
                await asyncio.sleep(min(1.0, self._config.hung_timeout_ms / 10_000))
                with suppress(OnecodeError):
                    await asyncio.gather(*(link.call(FrameKind.STATUS, b"") for link in links))
                    enclave.beat()
        finally:
            await asyncio.gather(*(link.stop() for link in links))

    async def _relay(self) -> None:
        """Supply the enclave with keys, once there is a store to read."""
        await self._writer.ready.wait()
        store = open_reader(self._config.store_path, self._config.store_config())
        limits = LinkLimits(RELAY_IN_FLIGHT_MAX, self._config.enclave_timeout_ms)
        link = Link(self._config.enclave_path, limits, enclave_down)
        link.start()
        try:
            async with httpx.AsyncClient(timeout=self._config.relay_timeout_ms / 1000) as client:
                await Relay(self._config, store, link, client).run()
        finally:
            await link.stop()
            store.close()


def run_node(config_path: Path) -> None:
    """Run the node of a configuration file until SIGTERM or SIGINT. Raises the error that ended it."""
    config = load_config(config_path)
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with reserve_port(config.api_host, config.api_port) as held:
        uvloop.run(_run(config, config_path, held.getsockname()[1]))


async def _run(config: NodeConfig, config_path: Path, port: int) -> None:
    await Node(config, config_path, port).run()


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m onecode.node", description="Run a node.")
    parser.add_argument("config", type=Path, help="configuration file (JSON)")
    parser.add_argument("--role", choices=("writer", "worker"), help=argparse.SUPPRESS)  # how it starts its parts
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: list[str]) -> int:
    """`python -m onecode.node CONFIG.json`; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.ERROR)
    arguments = _arguments(given)
    try:
        if arguments.role is None:
            run_node(arguments.config)
            return 0
        if arguments.parent is None:
            raise Malformed("node.role", "a part of a node is started by the node alone")
        die_with_parent(arguments.parent)
        config = load_config(arguments.config)
        if arguments.role == "writer":
            uvloop.run(serve_writer(config))
        else:
            uvloop.run(serve_worker(config, arguments.port or config.api_port, arguments.number))
    except OnecodeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0
