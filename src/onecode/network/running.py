"""Runs one organisation's processes: its node with engine and enclave, its key service, its platform's server.

They are started in this order, started again when they end, and stopped in the reverse one. Who runs them holds a
record lock on `running.lock`. The kernel knows whose it is, and takes it back however that process ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.host.clock import now_ms
from onecode.host.files import save_private
from onecode.network.beginning import believe_newest, own_trust, write_trust
from onecode.network.ceremony import VerifiedCeremony
from onecode.network.client import NodeClient, PlatformClient
from onecode.network.options import host_port, local_node_url, write_enclave, write_node, write_platform, write_profile
from onecode.network.organisation import MEMBER, NODE, OBSERVER, Organisation, OrganisationPlaces
from onecode.network.plan import find_engine, require_free
from onecode.network.processes import Child, stop_children
from onecode.proof.light import Trust
from onecode.proof.trust import verify_trust_file

READY_TIMEOUT_MS = 60_000
STOP_TIMEOUT_MS = 60_000
RESTART_S = 1.0
TELL_S = 10.0
POLL_S = 0.1
_FLOCK = struct.Struct("hhqqi")  # fcntl(2), 64-bit Linux: type, whence, start, length, process id
_LATER = ("header.stale", "header.not_higher")  # the chain stands, or this node has to catch up yet


class Run:
    """The processes of one directory. Use it as a context manager: leaving it stops what it started."""

    def __init__(self, places: OrganisationPlaces, organisation: Organisation, ceremony: VerifiedCeremony) -> None:
        self._places = places
        self._organisation = organisation
        self._ceremony = ceremony
        self._children: dict[str, Child] = {}
        self._starts: dict[str, tuple[str, Path]] = {}
        self._ended_s: dict[str, float] = {}
        self._lock: int | None = None  # descriptor of `running.json`
        self.node = NodeClient(local_node_url(organisation))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_node(self, sync_from: Trust | None = None) -> None:
        """Start the node. `sync_from`: a node without a state fetches a snapshot, which a header above this one proves,
        instead of all blocks since the genesis."""
        places, organisation = self._places, self._organisation
        self._lock = _take_lock(places)
        find_engine(Path(organisation.engine_binary), ())
        require_free(host_port(organisation.api_listen, "api_listen")[1], "api_listen")
        for directory in (places.node, places.platform, places.logs):
            directory.mkdir(mode=0o700, exist_ok=True)
        (places.node / "enclave.json").unlink(missing_ok=True)
        self._start("node", "onecode.node", write_node(places, organisation, self._ceremony, sync_from))

    def begin(self, trust_file: bytes | None, told: Callable[[str], None]) -> None:
        """Return when the organisation has a trust file that holds, and start what starts from it: enclave, key
        service, platform. The first time that takes a fresh header, and so more than 2/3 of the validators' power;
        later the file of before serves, so that a chain that halted is begun again. `told` hears what is waited for."""
        organisation = self._organisation
        if organisation.kind == NODE:
            self._fetch_trust(told)
        elif organisation.kind == MEMBER and not self._holds():
            self._wait_trust(trust_file, told)
        if organisation.kind == OBSERVER:
            return
        write_enclave(self._places, organisation)
        if organisation.kind == MEMBER:
            write_profile(self._places, organisation, self._ceremony)
            server, service = write_platform(self._places, organisation, self._ceremony)
            self._start("key-service", "onecode.keys", service)
            self._start("platform", "onecode.platform", server)

    def _holds(self) -> bool:
        """Whether its own trust file holds."""
        return own_trust(self._places, self._organisation, now_ms()) is not None

    def _wait_trust(self, given: bytes | None, told: Callable[[str], None]) -> None:
        said_s = time.monotonic()
        while True:
            self.keep()
            try:
                return self._believe(given)
            except OnecodeError as error:
                if not isinstance(error, Unreachable) and error.code not in _LATER:
                    raise
                if time.monotonic() - said_s > TELL_S:
                    said_s = time.monotonic()
                    told(f"waiting for the chain to begin, or for this node to catch up: {error}")
            time.sleep(POLL_S)

    def _believe(self, given: bytes | None) -> None:
        view = believe_newest(self._places, self._organisation, self._ceremony, given, now_ms(), self.node)
        write_trust(self._places, view, now_ms())

    def keep(self) -> None:
        """Start again what has ended, a second later; call it again and again."""
        for name, child in list(self._children.items()):
            code = child.ended()
            if code is None:
                continue
            if code == Misconfigured.exit_code:
                raise Misconfigured(
                    "organisation.process", f"{name} cannot work: see {self._places.logs / name}.log", field=name
                )
            if time.monotonic() - self._ended_s.setdefault(name, time.monotonic()) > RESTART_S:
                del self._ended_s[name]
                self._launch(name)

    def wait_ready(self) -> None:
        """Return when each process has said that it is ready."""
        until_s = time.monotonic() + READY_TIMEOUT_MS / 1000
        for child in list(self._children.values()):
            child.wait_ready(until_s)

    def stop(self) -> None:
        """Stop everything: servers first, the node last."""
        node = self._children.pop("node", None)
        stop_children(self._children.values())
        self._children.clear()
        if node is not None:
            stop_children([node])
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _fetch_trust(self, told: Callable[[str], None]) -> None:
        """The newest trust file of its platform, for one more node; the one that it has, where that cannot be had.
        Whatever answers there, a file that does not hold replaces none."""
        organisation, url = self._organisation, self._organisation.platform_url
        if url is None:
            return
        try:
            given = PlatformClient(url).trust_file()
            root = bytes.fromhex(organisation.root)
            verify_trust_file(given, root, organisation.chain_id, now_ms(), allow_solo=False)
            save_private(self._places.trust, given, replace=True)
        except OnecodeError as error:
            told(f"no newer trust file from {url}: {error}")

    def _start(self, name: str, module: str, config: Path) -> None:
        self._starts[name] = (module, config)
        self._launch(name)

    def _launch(self, name: str) -> None:
        module, config = self._starts[name]
        self._children[name] = Child(name, module, config, self._places.logs / f"{name}.log")


# --- who runs --------------------------------------------------------------------------------------------------------


def _take_lock(places: OrganisationPlaces) -> int:
    """The directory's lock, held while this open file is; `Unreachable` if another process has it. A record lock ends
    when its process closes any descriptor of the file: nothing else here may open it."""
    descriptor = os.open(places.running, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        raise Unreachable(
            "organisation.running", f"{places.directory} runs already: `onecode network down` stops it"
        ) from None
    return descriptor


def running_pid(places: OrganisationPlaces) -> int | None:
    """The process that runs this directory, as the kernel says."""
    try:
        with places.running.open("rb") as file:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, *_, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return None
    if kind == fcntl.F_UNLCK:
        return None
    if pid <= 0:
        raise Unreachable("organisation.elsewhere", f"{places.directory} is run from another machine or container")
    return int(pid)


def stop_running(places: OrganisationPlaces) -> bool:
    """Ask the process that runs this directory to end, and wait for it; whether there was one."""
    pid = running_pid(places)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until_s = time.monotonic() + STOP_TIMEOUT_MS / 1000
    while running_pid(places) is not None:
        if time.monotonic() > until_s:
            raise Unreachable("organisation.not_stopped", f"process {pid} does not end within {STOP_TIMEOUT_MS} ms")
        time.sleep(POLL_S)
    return True
