"""The enclave as processes: an attested parent and forked workers; frames on Unix sockets go in and out, nothing else.

The parent makes evidence and takes grants on the configured socket; each worker answers queries on a socket of its own,
the same path with `.0`, `.1`, … behind it. A worker verifies every header itself; what is counted is counted together
(`shared.py`). When one of them dies the whole enclave ends, and begins again with new keys.

`software` is SIMULATED: the processes are hardened a little (not dumpable, no new privileges), but whoever is root on
the machine can read them. They log nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import uvloop

from onecode.attest.software import SoftwareAttester
from onecode.enclave.core import Enclave, EnclaveSettings
from onecode.enclave.measure import code_measurement
from onecode.enclave.serving import serve_parent, serve_worker
from onecode.errors import Malformed, Misconfigured, OnecodeError
from onecode.host.clock import now_ms
from onecode.proof.trust import verify_trust_file
from onecode.wire import SigningKey

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
WORKER_TIMEOUT_S = 5.0
WORKERS_MAX = 64


@dataclass(frozen=True, slots=True)
class EnclaveConfig:
    """Configuration file of the enclave process (JSON). Documented in docs/spec/configuration.md."""

    chain_id: str  # the chain it serves
    node_id: str  # name of its node, bound in evidence
    socket: str  # path of its control socket, mode 0600; the workers' have .0, .1, … behind it
    trust_file: str  # path of the trust file it starts from
    pinned_root: str  # hex of the root key under which the trust file must be signed
    vendor_key: str  # path of the SIMULATED vendor key (hex seed)
    allow_solo: bool = False  # accept a chain of one organisation
    header_age_ms_max: int = 30_000  # oldest header under which a query is answered
    query_window_ms: int = 60_000  # how far a query's time may lie from this clock
    workers: int = 1  # processes that answer queries, each on a socket of its own
    dumpable: bool = False  # let the same user read the process's memory; tests only


def load_config(path: Path) -> EnclaveConfig:
    """The configuration in a JSON file; `Misconfigured` names an unknown or missing option."""
    try:
        given: dict[str, Any] = json.loads(path.read_text("utf-8"))
        unknown = set(given) - {f.name for f in fields(EnclaveConfig)}
        if unknown:
            raise Misconfigured("config.unknown", f"unknown option {min(unknown)!r} in {path}", field=min(unknown))
        config = EnclaveConfig(**given)
        if not 1 <= config.workers <= WORKERS_MAX:
            raise Misconfigured("config.value", f"workers must be 1 to {WORKERS_MAX} in {path}", field="workers")
        return config
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured("config.unreadable", f"cannot use the configuration {path}: {error}") from error


def open_enclave(config: EnclaveConfig) -> Enclave:
    """An enclave that trusts what its configuration pins."""
    trust, _ = verify_trust_file(
        Path(config.trust_file).read_bytes(),
        bytes.fromhex(config.pinned_root),
        config.chain_id,
        now_ms(),
        allow_solo=config.allow_solo,
    )
    settings = EnclaveSettings(config.chain_id, config.node_id, trust, config.header_age_ms_max, config.query_window_ms)
    vendor = SigningKey.from_seed(bytes.fromhex(Path(config.vendor_key).read_text("ascii").strip()))
    return Enclave(settings, SoftwareAttester(vendor, code_measurement()), secrets.token_bytes, now_ms())


def harden(dumpable: bool) -> None:
    """End with the parent; no new privileges; memory not readable by the same user unless `dumpable`."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not dumpable:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def listen(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner may use."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    old_mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(old_mask)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def run_enclave(config: EnclaveConfig) -> int:
    """Fork the workers, then serve. Nothing has an event loop or a thread before the forks."""
    enclave = open_enclave(config)
    control = listen(Path(config.socket))
    listeners = [listen(Path(f"{config.socket}.{number}")) for number in range(config.workers)]
    orders: list[socket.socket] = []
    news: list[socket.socket] = []
    children: list[int] = []
    for listener in listeners:
        order, worker_order = socket.socketpair()
        new, worker_new = socket.socketpair()
        child = os.fork()
        if child == 0:
            harden(config.dumpable)  # what was asked of the kernel for the parent does not hold for a fork
            for unused in (control, order, new, *(one for one in listeners if one is not listener), *orders, *news):
                unused.close()
            worker_order.setblocking(False)
            worker_new.setblocking(False)
            uvloop.run(serve_worker(enclave, listener, worker_order, worker_new))
            os._exit(1)
        worker_order.close()
        worker_new.close()
        order.settimeout(WORKER_TIMEOUT_S)
        new.setblocking(False)
        orders.append(order)
        news.append(new)
        children.append(child)
    for listener in listeners:
        listener.close()
    try:
        return uvloop.run(serve_parent(enclave, control, orders, news))
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """`python -m onecode.enclave CONFIG`"""
    try:
        if len(arguments) != 1:
            raise Malformed("usage.arguments", "usage: python -m onecode.enclave CONFIG.json")
        config = load_config(Path(arguments[0]))
        harden(config.dumpable)
        return run_enclave(config)
    except OnecodeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
