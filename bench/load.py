"""A load generator for HTTP/1.1: keep-alive, no pipelining, one thread, bodies from a file, each sent once in turn.

`python -m bench.load --target PORT:FILE ...` prints one JSON object. It shares the cores with what it measures, so it
does as little as it can: epoll, one read and one write a request, no parser but for status and content-length.
`measure` uses `wrk` in its place where that is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_LENGTH = b"\r\ncontent-length:"
_RECEIVE_BYTES = 1 << 16
SAMPLES_MAX = 200
WRK_SCRIPT = Path(__file__).with_name("wrk.lua")


def read_bodies(path: Path) -> list[bytes]:
    """The bodies in a file of `queries.frames`."""
    data, at, bodies = path.read_bytes(), 0, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        bodies.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return bodies


def cpu_s(pids: Sequence[int]) -> float:
    """Processor time that these processes and their children have used."""
    return sum(map(process_s, [*pids, *(child for pid in pids for child in children(pid))]))


def process_s(pid: int) -> float:
    """Processor time that one process has used, all its threads; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def children(pid: int) -> list[int]:
    """The processes that a process's main thread has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@dataclass(slots=True)
class Target:
    """One port with the requests for it. `next` is the next to send; `repeat` begins again at the end."""

    port: int
    requests: list[bytes]
    repeat: bool
    next: int = 0


@dataclass(slots=True)
class Outcome:
    """What was counted. latencies_ns: of each answer; samples: (target, number of the body, answer's body)."""

    answers: int = 0
    errors: int = 0
    exhausted: bool = False
    latencies_ns: list[int] = field(default_factory=list)
    samples: list[tuple[int, int, bytes]] = field(default_factory=list)


def parse_response(data: bytes) -> tuple[int, int, int] | None:
    """Status, start and end of the body of the response in `data`, or None while its head is not whole.

    A response without content-length counts as one without a body: the servers here always send it.
    """
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    at = data.find(_LENGTH, 0, head + 2)
    if at < 0:
        at = data[:head].lower().find(_LENGTH)  # another spelling
    length = 0 if at < 0 else int(data[at + len(_LENGTH) : data.find(b"\r\n", at + 2)])
    return int(data[9:12]), head + 4, head + 4 + length


class _Connection:
    __slots__ = ("buffer", "number", "sent_ns", "socket", "target")

    def __init__(self, target: int, port: int) -> None:
        self.target, self.buffer, self.number, self.sent_ns = target, b"", 0, 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, target: Target) -> bool:
        """Send the target's next request; False if it has none left."""
        if target.next == len(target.requests):
            if not target.repeat:
                return False
            target.next = 0
        self.number = target.next
        target.next += 1
        self.sent_ns = time.perf_counter_ns()
        self.socket.sendall(target.requests[self.number])
        return True


class Load:
    """Connections to all targets. `run` may be called again: it goes on where it stopped."""

    def __init__(self, targets: Sequence[Target], connections: int, sample_every: int = 0) -> None:
        self._targets = targets
        self._sample_every = sample_every
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        for number in range(connections):
            place = number % len(targets)
            connection = _Connection(place, targets[place].port)
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
            connection.send(targets[place])

    def run(self, seconds: float) -> tuple[Outcome, float]:
        """Send and count for so long, or until a target has no request left; returns also the time it took."""
        outcome = Outcome()
        start = time.perf_counter()
        end = start + seconds
        connections, poll = self._connections, self._epoll.poll
        while time.perf_counter() < end and not outcome.exhausted and connections:
            for descriptor, _ in poll(0.1):
                connection = connections[descriptor]
                data = connection.socket.recv(_RECEIVE_BYTES)
                if not data:
                    self._drop(descriptor, outcome)
                    continue
                if connection.buffer:
                    data = connection.buffer + data
                found = parse_response(data)
                if found is None or found[2] > len(data):
                    connection.buffer = data
                    continue
                connection.buffer = b""
                self._count(connection, found, data, outcome)
                if not connection.send(self._targets[connection.target]):
                    outcome.exhausted = True
        return outcome, time.perf_counter() - start

    def _count(self, connection: _Connection, found: tuple[int, int, int], data: bytes, outcome: Outcome) -> None:
        outcome.latencies_ns.append(time.perf_counter_ns() - connection.sent_ns)
        if found[0] != 200:
            outcome.errors += 1
            return
        outcome.answers += 1
        if self._sample_every and outcome.answers % self._sample_every == 0 and len(outcome.samples) < SAMPLES_MAX:
            outcome.samples.append((connection.target, connection.number, data[found[1] : found[2]]))

    def _drop(self, descriptor: int, outcome: Outcome) -> None:
        """The server closed: an error, and this connection is gone."""
        self._epoll.unregister(descriptor)
        self._connections.pop(descriptor).socket.close()
        outcome.errors += 1

    def close(self) -> None:
        for connection in self._connections.values():
            connection.socket.close()
        self._epoll.close()


def request_bytes(path: str, body: bytes) -> bytes:
    """One request."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cbor\r\ncontent-length: "
    return head.encode("ascii") + b"%d\r\n\r\n%s" % (len(body), body)


def percentile(ascending: Sequence[int], share: float) -> int:
    """The value below which `share` of them lie."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else 0


def report(outcome: Outcome, spent_s: float) -> dict[str, Any]:
    """What a run is in JSON. Latencies in microseconds; the histogram's buckets are powers of two from 1 µs."""
    ordered = sorted(outcome.latencies_ns)
    histogram: dict[int, int] = {}
    for value in ordered:
        bucket = 1 << max(0, (value // 1000).bit_length())
        histogram[bucket] = histogram.get(bucket, 0) + 1
    return {
        "answers": outcome.answers,
        "errors": outcome.errors,
        "seconds": spent_s,
        "rate": outcome.answers / spent_s if spent_s else 0.0,
        "p50_us": percentile(ordered, 0.50) / 1000,
        "p99_us": percentile(ordered, 0.99) / 1000,
        "histogram_us": {str(bucket): count for bucket, count in histogram.items()},
        "exhausted": outcome.exhausted,
    }


# --- from another process --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """One run as a caller sees it. cpu_us: processor time an answer, by group of processes; `load` is the generator."""

    rate: float
    answers: int
    errors: int
    p50_us: float
    p99_us: float
    exhausted: bool
    cpu_us: dict[str, float]
    samples: list[tuple[int, int, bytes]]
    generator: str


def generator_name(*, allow_wrk: bool = True) -> str:
    """Which generator `measure` uses."""
    return "wrk" if allow_wrk and shutil.which("wrk") else "bench/load.py"


def measure(
    targets: Sequence[tuple[int, Path]],
    *,
    path: str,
    seconds: float,
    warm_s: float = 0.0,
    connections: int = 32,
    groups: Mapping[str, Sequence[int]] | None = None,
    repeat: bool = False,
    sample_every: int = 0,
    allow_wrk: bool = True,
) -> Measured:
    """Load `targets` (port, file of bodies) for so long. `groups` name processes whose processor time is wanted."""
    groups = groups or {}
    if generator_name(allow_wrk=allow_wrk) == "wrk":
        return _measure_wrk(targets, path, seconds, connections, groups, repeat=repeat)
    command = [sys.executable, "-m", "bench.load", "--path", path, "--seconds", str(seconds), "--warm", str(warm_s)]
    command += ["--connections", str(connections), "--sample-every", str(sample_every)]
    command += [f"--target={port}:{file}" for port, file in targets]
    command += [f"--group={name}={','.join(map(str, pids))}" for name, pids in groups.items()]
    command += ["--repeat"] if repeat else []
    with tempfile.NamedTemporaryFile() as samples:
        done = subprocess.run([*command, "--samples", samples.name], check=True, capture_output=True, text=True)
        said = json.loads(done.stdout)
        kept = [(target, number, bytes.fromhex(body)) for target, number, body in json.loads(samples.read() or "[]")]
    return _measured(said, said["cpu_s"], kept, "bench/load.py")


def _measured(
    said: Mapping[str, Any], used_s: Mapping[str, float], samples: list[tuple[int, int, bytes]], generator: str
) -> Measured:
    answers = max(1, said["answers"])
    return Measured(
        rate=said["rate"],
        answers=said["answers"],
        errors=said["errors"],
        p50_us=said["p50_us"],
        p99_us=said["p99_us"],
        exhausted=said["exhausted"],
        cpu_us={name: 1e6 * value / answers for name, value in used_s.items()},
        samples=samples,
        generator=generator,
    )


def _measure_wrk(
    targets: Sequence[tuple[int, Path]],
    path: str,
    seconds: float,
    connections: int,
    groups: Mapping[str, Sequence[int]],
    *,
    repeat: bool,
) -> Measured:
    """One `wrk` a target; the script sends each body once and prints the whole histogram. No warm-up, no samples."""
    before = {name: cpu_s(pids) for name, pids in groups.items()}
    own_before = os.times()
    each, duration = str(max(1, connections // len(targets))), f"{max(1, round(seconds))}s"
    running = [
        subprocess.Popen(
            ["wrk", "-t1", "-c", each, "-d", duration, "-s", str(WRK_SCRIPT), f"http://127.0.0.1:{port}{path}"],
            env={**os.environ, "BODIES": str(file), "REPEAT": "1" if repeat else ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for port, file in targets
    ]
    said = [json.loads(child.communicate()[0].rpartition("\nONECODE ")[2]) for child in running]
    used = {name: cpu_s(pids) - before[name] for name, pids in groups.items()}
    own = os.times()
    used["load"] = own.children_user + own.children_system - own_before.children_user - own_before.children_system
    latencies: list[tuple[int, int]] = sorted((int(us), count) for one in said for us, count in one["latencies_us"])
    ordered = [1000 * us for us, count in latencies for _ in range(count)]
    total = {
        "answers": sum(one["answers"] for one in said),
        "errors": sum(one["errors"] for one in said),
        "rate": sum(1e6 * one["answers"] / one["duration_us"] for one in said),
        "p50_us": percentile(ordered, 0.50) / 1000,
        "p99_us": percentile(ordered, 0.99) / 1000,
        "exhausted": any(one["exhausted"] for one in said),
    }
    return _measured(total, used, [], "wrk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", required=True, metavar="PORT:FILE")
    parser.add_argument("--path", default="/v1/query")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm", type=float, default=0.0, help="seconds before the count begins")
    parser.add_argument("--repeat", action="store_true", help="begin again where the bodies end")
    parser.add_argument("--group", action="append", default=[], metavar="NAME=PID,PID")
    parser.add_argument("--sample-every", type=int, default=0)
    parser.add_argument("--samples", type=Path)
    options = parser.parse_args()
    targets = []
    for given in options.target:
        port, _, name = given.partition(":")
        requests = [request_bytes(options.path, body) for body in read_bodies(Path(name))]
        targets.append(Target(int(port), requests, options.repeat))
    groups = {name: list(map(int, pids.split(","))) for name, _, pids in (one.partition("=") for one in options.group)}
    load = Load(targets, options.connections, options.sample_every)
    if options.warm:
        load.run(options.warm)
    before, own_before = {name: cpu_s(pids) for name, pids in groups.items()}, time.process_time()
    outcome, spent_s = load.run(options.seconds)
    used = {name: cpu_s(pids) - before[name] for name, pids in groups.items()}
    used["load"] = time.process_time() - own_before
    load.close()
    if options.samples:
        options.samples.write_text(json.dumps([(place, number, body.hex()) for place, number, body in outcome.samples]))
    print(json.dumps({**report(outcome, spent_s), "cpu_s": used}))


if __name__ == "__main__":
    main()
