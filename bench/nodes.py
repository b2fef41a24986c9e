"""The node that is measured: its own worker and enclave processes over a state that stands still.

Differences from a node in service, all in its configuration: the writer does not run, so no header comes; enclave and
key services take a header of up to an hour; the worker has no limit by address (all load comes from one).
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.attested import EnclaveSocket, grant_keys, write_enclave
from bench.processes import Child, write_private
from bench.state import State
from bench.world import CHAIN_ID, VALIDATOR, key

NODE_ID = "bench"


@dataclass(frozen=True, slots=True)
class Served:
    """One node: a port for each of its workers, so that load is even, and the processes' ids."""

    ports: list[int]
    query_key: bytes
    workers: list[int]
    enclave: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start_node(stack: ExitStack, state: State, directory: Path, processes: int) -> Served:
    """Start so many workers and one enclave with as many workers; returns when the enclave holds all keys. `stack`
    ends them."""
    directory.mkdir()
    (directory / "store").symlink_to(state.store.absolute())
    write_private(directory / "validator.key", key(VALIDATOR).seed.hex().encode())
    enclave = write_enclave(directory, state.ground, NODE_ID, directory / "enclave.sock", processes)
    worker = {
        "chain_id": CHAIN_ID,
        "data_dir": str(directory),
        "genesis": "genesis.json",
        "validator_key": "validator.key",
        "node_id": NODE_ID,
        "enclave_socket": str(directory / "enclave.sock"),
        "enclave_workers": processes,
        "address_requests_per_s": 0,
    }
    (directory / "node.json").write_text(json.dumps(worker))
    enclave_process = stack.enter_context(Child("onecode.enclave", str(enclave)))
    enclave_process.wait_ready()
    ports, workers = [free_port() for _ in range(processes)], []
    for port in ports:
        own = ["--role", "worker", "--parent", str(os.getpid()), "--port", str(port)]
        workers.append(stack.enter_context(Child("onecode.node", str(directory / "node.json"), *own)))
    for child in workers:
        child.wait_ready()
    connection = EnclaveSocket(directory / "enclave.sock")
    status = connection.wait_height(state.head.height)
    grant_keys(connection.call, state.ground, state.header_at)
    connection.close()
    return Served(ports, status.query_key, [child.pid for child in workers], enclave_process.pid)
