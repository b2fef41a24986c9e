"""The enclave as a process: one Unix socket, frames in, frames out. Nothing else goes in or out.

`software` is SIMULATED: the process is hardened a little (not dumpable, no new privileges), but whoever is root on the
machine can read it. It logs nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onecode.attest.release import SealedGrant
from onecode.attest.software import SoftwareAttester
from onecode.enclave.core import Enclave, EnclaveSettings
from onecode.enclave.frames import (
    EnclaveQuery,
    EvidenceRequest,
    FrameKind,
    HeaderUpdate,
    Refusal,
    pack,
    unpack,
)
from onecode.enclave.measure import code_measurement
from onecode.errors import Malformed, Misconfigured, OnecodeError
from onecode.proof.trust import verify_trust_file
from onecode.schema import parse
from onecode.wire import SigningKey

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


@dataclass(frozen=True, slots=True)
class EnclaveConfig:
    """Configuration file of the enclave process (JSON). Documented in docs/spec/configuration.md."""

    chain_id: str  # the chain it serves
    node_id: str  # name of its node, bound in evidence
    socket: str  # path of the Unix socket it listens on, mode 0600
    trust_file: str  # path of the trust file it starts from
    pinned_root: str  # hex of the root key under which the trust file must be signed
    vendor_key: str  # path of the SIMULATED vendor key (hex seed)
    allow_solo: bool = False  # accept a chain of one organisation
    header_age_ms_max: int = 30_000  # oldest header under which a query is answered
    query_window_ms: int = 60_000  # how far a query's time may lie from this clock
    dumpable: bool = False  # let the same user read the process's memory; tests only


def load_config(path: Path) -> EnclaveConfig:
    """The configuration in a JSON file; `Misconfigured` names an unknown or missing option."""
    try:
        given: dict[str, Any] = json.loads(path.read_text("utf-8"))
        unknown = set(given) - {f.name for f in fields(EnclaveConfig)}
        if unknown:
            raise Misconfigured("config.unknown", f"unknown option {min(unknown)!r} in {path}", field=min(unknown))
        return EnclaveConfig(**given)
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured("config.unreadable", f"cannot use the configuration {path}: {error}") from error


def now_ms() -> int:
    return time.time_ns() // 1_000_000


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


def handle(enclave: Enclave, kind: int, payload: bytes) -> tuple[FrameKind, bytes]:
    """One frame's reply. Every error goes back as a `Refusal`; an unexpected one without its text."""
    try:
        if kind == FrameKind.QUERY:
            return FrameKind.OK, enclave.answer(parse(EnclaveQuery, payload, path="frame"), now_ms())
        if kind == FrameKind.HEADER:
            enclave.accept_header(parse(HeaderUpdate, payload, path="frame"), now_ms())
            return FrameKind.OK, b""
        if kind == FrameKind.STATUS:
            return FrameKind.OK, enclave.status().encoded()
        if kind == FrameKind.EVIDENCE:
            return FrameKind.OK, enclave.make_evidence(
                parse(EvidenceRequest, payload, path="frame"), now_ms()
            ).encoded()
        if kind == FrameKind.GRANT:
            enclave.accept_grant(parse(SealedGrant, payload, path="frame"), now_ms())
            return FrameKind.OK, b""
        raise Malformed("frame.kind", f"frame kind {kind} is not known", field="kind")
    except OnecodeError as error:
        refusal = Refusal(branch=error.branch, code=error.code, detail=error.message[:300])
    except Exception as error:  # the text of an unexpected error might hold what must not leave
        refusal = Refusal(branch="Misconfigured", code="enclave.internal", detail=type(error).__name__)
    return FrameKind.ERROR, refusal.encoded()


class _Connection(asyncio.Protocol):
    """Frames of one host connection; all replies of one read leave in one write."""

    def __init__(self, enclave: Enclave) -> None:
        self._enclave = enclave
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        try:
            frames, self._buffer = unpack(self._buffer + data if self._buffer else data)
        except OnecodeError:
            transport.abort()
            return
        replies = [pack(number, *handle(self._enclave, kind, payload)) for number, kind, payload in frames]
        if replies and not transport.is_closing():
            transport.write(b"".join(replies))


def harden(dumpable: bool) -> None:
    """End with the parent; no new privileges; memory not readable by the same user unless `dumpable`."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not dumpable:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


async def serve(config: EnclaveConfig) -> None:
    enclave = open_enclave(config)
    path = Path(config.socket)
    path.unlink(missing_ok=True)
    old_mask = os.umask(0o177)
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_unix_server(lambda: _Connection(enclave), str(path))
    finally:
        os.umask(old_mask)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), "simulated": True}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


def main(arguments: list[str]) -> int:
    """`python -m onecode.enclave CONFIG`"""
    import uvloop

    try:
        if len(arguments) != 1:
            raise Malformed("usage.arguments", "usage: python -m onecode.enclave CONFIG.json")
        config = load_config(Path(arguments[0]))
        harden(config.dumpable)
        uvloop.run(serve(config))
    except OnecodeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0
