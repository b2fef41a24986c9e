"""`python -m bench.join`: how long a node takes to join a chain with many merchants by state sync, and what it costs.

Two validators begin with a registry that holds the merchants already (their store is built from the leaves upwards;
genesis, consensus and proofs are the real ones), make a snapshot, and a third node joins: real engines, each with the
application beside it, over their own connections on this machine. Restored are entries, links and envelopes, each chunk
verified; the map's nodes are built anew. Memory is what a process has of its own (`RssAnon`): pages of the store are
the kernel's to take back.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.figures import Figure, machine, save, show
from bench.nodes import free_port
from bench.state import merchant_rows
from bench.world import PLATFORMS, genesis, key
from onecode.host.clock import now_ms
from onecode.node.blocks import load_first, load_proven, load_state
from onecode.node.engine_home import EngineSettings, StateSync, node_id, write_home
from onecode.node.engine_process import serve_application
from onecode.node.restore import restoring
from onecode.node.snapshot_maker import SnapshotOptions
from onecode.node.snapshots import Shelf, parse_metadata
from onecode.node.store import StoreConfig, open_reader, open_writer
from onecode.proof.governance import ValidatorLeaf
from onecode.proof.map import Section
from onecode.record.payment import SERVICE_PAY
from onecode.registry.genesis import Genesis, parse_genesis
from onecode.registry.map import build, section_roots
from onecode.registry.store import Table, envelope_key, link_key
from onecode.schema import to_plain

ENGINE = Path(__file__).parents[1] / "bin" / "cometbft"
OUTPUT = Path("build/bench-join.json")
MERCHANTS = 1_000_000
VALIDATORS = 2
HEARTBEAT_MS = 1_000
BEFORE_SNAPSHOT_MS = 20_000
WAIT_S = 3_600.0
MIB = 1 << 20
STORE = StoreConfig(meta_sync=False)


@dataclass
class Peak:
    """Most memory of its own, and processor time, of a process while it was looked at."""

    bytes: int = 0
    cpu_s: float = 0.0

    def look(self, pid: int) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
            times = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        except OSError:
            return
        found = [line for line in status.splitlines() if line.startswith("RssAnon")]
        self.bytes = max(self.bytes, int(found[0].split()[1]) << 10 if found else 0)
        self.cpu_s = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


class Member:
    """One node: an engine, and the application beside it as a process of its own."""

    def __init__(self, directory: Path, number: int) -> None:
        self.name = f"n{number}"
        self.directory = directory / self.name
        self.directory.mkdir()
        self.store, self.snapshots = self.directory / "store", self.directory / "snapshots"
        self.rpc_port, self.address = free_port(), f"127.0.0.1:{free_port()}"
        self.keys = (key(f"join validator {number}"), key(f"join engine {number}"))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, genesis_path: Path, members: list[Member], snapshot_ms: int, sync: StateSync | None = None) -> None:
        socket = self.directory / "s"
        settings = EngineSettings(
            home=self.directory / "engine",
            application=socket,
            rpc_port=self.rpc_port,
            p2p=self.address,
            moniker=self.name,
            peers=tuple(f"{node_id(one.keys[1])}@{one.address}" for one in members if one is not self),
            heartbeat_ms=HEARTBEAT_MS,
            one_machine=True,
            state_sync=sync,
        )
        write_home(settings, parse_genesis(genesis_path.read_bytes()), *self.keys)
        given = [str(self.store), str(socket), str(self.rpc_port), str(genesis_path), str(self.snapshots)]
        peers = [one.partition("@")[0] for one in settings.peers]
        with (self.directory / "log").open("ab") as log:
            own = [sys.executable, "-m", "bench.join", "--application", *given, str(snapshot_ms), *peers]
            self.processes.append(subprocess.Popen(own, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            wait_for(socket.exists, "the application's socket", 60)
            engine = [str(ENGINE), "start", "--home", str(settings.home)]
            self.processes.append(subprocess.Popen(engine, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def rpc(self, method: str, **parameters: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.rpc_port, timeout=10)
        try:
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
            connection.request("POST", "/", json.dumps(request), {"content-type": "application/json"})
            return json.loads(connection.getresponse().read()).get("result")
        except OSError:
            return None
        finally:
            connection.close()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)
    return found


def serve(given: list[str]) -> None:
    """The application of one node, in its own process."""
    store, socket, port, genesis_path, snapshots, snapshot_ms, *peers = given
    serve_application(
        store_path=Path(store),
        store_config=STORE,
        socket_path=Path(socket),
        rpc_port=int(port),
        genesis=parse_genesis(Path(genesis_path).read_bytes()),
        clock_ms=now_ms,
        configured_peers=peers,
        snapshots=SnapshotOptions(Path(snapshots), int(snapshot_ms), kept=1),
    )


def fill(path: Path, count: int) -> None:
    """A store with so many merchants and no chain yet."""
    store = open_writer(path, STORE)
    entries: list[tuple[bytes, bytes]] = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for chunk in merchant_rows(count, pool):
            for one in chunk:
                entries.append((one.merchant, one.entry))
                store.put(Table.LINKS, link_key(one.merchant, SERVICE_PAY), one.links)
                for platform, envelope, _ in one.sealed:
                    store.put(Table.ENVELOPES, envelope_key(one.merchant, platform, SERVICE_PAY), envelope)
    build(store, Section.MERCHANTS, entries)
    store.commit()
    store.close()


def write_genesis(path: Path, validators: list[Member]) -> Genesis:
    leaves = (ValidatorLeaf(key=one.keys[0].public, power=10, platform=PLATFORMS[0].id) for one in validators)
    begun = replace(genesis(), validators=tuple(sorted(leaves, key=lambda leaf: leaf.key)), time_ms=now_ms())
    path.write_text(json.dumps(to_plain(begun)), "utf-8")
    return begun


def measure(directory: Path, count: int) -> list[Figure]:
    """Build, make a snapshot, join; figures of the two."""
    start = time.monotonic()
    members = [Member(directory, number) for number in range(VALIDATORS + 1)]
    fill(members[0].store, count)
    for member in members[1:VALIDATORS]:
        member.store.mkdir(mode=0o700)
        shutil.copy(members[0].store / "data.mdb", member.store / "data.mdb")
    print(f"{count:,} merchants in the stores of {VALIDATORS} validators after {time.monotonic() - start:.0f} s")
    write_genesis(directory / "genesis.json", members[:VALIDATORS])
    with ExitStack() as stack:
        for member in members:
            stack.callback(member.stop)
        due_ms = now_ms() + BEFORE_SNAPSHOT_MS  # an interval that long ends once: one snapshot, at that time
        for member in members[:VALIDATORS]:
            member.start(directory / "genesis.json", members, due_ms)
        figures = list(_made(members[0], due_ms))
        figures += _joined(members, directory / "genesis.json")
    return figures


def _made(member: Member, due_ms: int) -> Iterator[Figure]:
    """The snapshot of a validator that goes on deciding blocks meanwhile."""
    wait_for(lambda: now_ms() > due_ms, "the time of the snapshot")
    start, peak = time.monotonic(), Peak()
    application = member.processes[0].pid
    shelf = Shelf(member.snapshots)

    def done() -> bool:
        for pid in Path(f"/proc/{application}/task/{application}/children").read_text("ascii").split():
            peak.look(int(pid))
        return bool(shelf.heights())

    wait_for(done, "a snapshot")
    (info,) = shelf.offered(1 << 60)
    size = sum(path.stat().st_size for path in (member.snapshots / str(info.height)).iterdir())
    yield Figure("snapshot made", round(time.monotonic() - start, 1), "s")
    yield Figure("snapshot made, processor time", round(peak.cpu_s, 1), "s")
    yield Figure("snapshot made, memory", round(peak.bytes / MIB), "MiB")
    yield Figure("snapshot", round(size / MIB), "MiB")
    yield Figure("snapshot, chunks", info.chunks, "")
    yield Figure("snapshot, metadata", round(len(info.metadata) / 1024), "KiB")
    yield Figure("merchants in it", parse_metadata(info.metadata).leaves[0], "")


def _joined(members: list[Member], genesis_path: Path) -> Iterator[Figure]:
    """The time from the start of the new node until it serves a proven state, and what it took."""
    *validators, joiner = members
    shelves = [Shelf(one.snapshots) for one in validators]
    wait_for(lambda: all(shelf.heights() for shelf in shelves), "the other validators' snapshots")
    (height,) = {shelf.heights()[0] for shelf in shelves}
    wait_for(lambda: validators[0].rpc("commit", height=str(height + 3)), "headers above the snapshot")
    trusted = validators[0].rpc("commit", height="2")["signed_header"]["commit"]["block_id"]["hash"]
    servers = tuple(f"http://127.0.0.1:{one.rpc_port}" for one in validators)
    peak, start = Peak(), time.monotonic()
    joiner.start(genesis_path, members, 0, StateSync(servers, 2, bytes.fromhex(trusted)))
    reader = open_reader(joiner.store, STORE)
    offered_s = restored_s = 0.0
    while True:
        time.sleep(0.1)
        peak.look(joiner.processes[0].pid)
        with reader.snapshot() as view:
            state, proven, under_way = load_state(view), load_proven(view), restoring(view)
        spent_s = time.monotonic() - start
        offered_s = offered_s or (spent_s if under_way else 0.0)
        restored_s = restored_s or (spent_s if state.height else 0.0)
        if proven is not None:
            break
        if spent_s > WAIT_S or joiner.processes[0].poll() is not None:
            raise RuntimeError((joiner.directory / "log").read_text("utf-8", "replace")[-2_000:])
    with reader.snapshot() as view, open_reader(validators[0].store, STORE).snapshot() as source:
        same = section_roots(view) == section_roots(source)
        first = load_first(view)
    if not same or first <= height:
        raise RuntimeError("the joined node has another state than the validators")
    reader.close()
    yield Figure("join: found a snapshot to restore", round(offered_s, 1), "s")
    yield Figure("join: fetched, verified, written, map built", round(restored_s - offered_s, 1), "s")
    yield Figure("join: from its start until it serves a proven state", round(spent_s, 1), "s")
    yield Figure("join: processor time of the application", round(peak.cpu_s, 1), "s")
    yield Figure("join: memory of the application", round(peak.bytes / MIB), "MiB")
    yield Figure("join: size of the new store", round((joiner.store / "data.mdb").stat().st_blocks * 512 / MIB), "MiB")


def main() -> None:
    if sys.argv[1:2] == ["--application"]:
        serve(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merchants", type=int, default=MERCHANTS)
    parser.add_argument("--directory", type=Path, help="where stores are built (default: a temporary directory)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory(prefix="join-", dir=given.directory) as name:
        figures = measure(Path(name), given.merchants)
    rows = [[one.name, f"{one.value:,}", one.unit] for one in figures]
    show(f"Joining a chain with {given.merchants:,} merchants", ["", "", ""], rows)
    save(given.output, about, figures)


if __name__ == "__main__":
    main()
