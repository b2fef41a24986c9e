"""The load generator counts what the server counted, sends each body once, and sees errors."""

from __future__ import annotations

import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.load import Load, Target, measure, parse_response, percentile, read_bodies, report, request_bytes
from bench.queries import frames

pytestmark = pytest.mark.clock


class Server(socketserver.ThreadingTCPServer):
    """Answers each request with its own body, in two packets; 503 where the body says so."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: Counter[bytes] = Counter()
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        while line := self.rfile.readline():
            assert line == b"POST /v1/query HTTP/1.1\r\n"
            length = 0
            while (header := self.rfile.readline().strip()) != b"":
                if header.lower().startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            body = self.rfile.read(length)
            with server.lock:
                server.seen[body] += 1
            status = b"503 Busy" if body == b"busy" else b"200 OK"
            self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nx-more: 1\r\n\r\n" % (status, len(body)))
            self.wfile.flush()
            self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def requests(*bodies: bytes) -> list[bytes]:
    return [request_bytes("/v1/query", body) for body in bodies]


def test_each_body_is_sent_once_and_every_answer_counted(server: Server) -> None:
    bodies = [b"body %d" % number for number in range(200)]
    load = Load([Target(server.port, requests(*bodies), repeat=False)], connections=8, sample_every=10)
    first, _ = load.run(20)
    rest = [load.run(0.1)[0] for _ in range(8)]  # what was on its way when the bodies ran out
    load.close()
    assert first.exhausted
    assert first.answers + sum(one.answers for one in rest) == 200
    assert len(first.latencies_ns) == first.answers
    assert first.errors + sum(one.errors for one in rest) == 0
    assert server.seen == Counter(bodies)
    assert first.samples
    for target, number, answer in first.samples:
        assert (target, answer) == (0, bodies[number])


def test_errors_are_no_answers(server: Server) -> None:
    load = Load([Target(server.port, requests(b"fine", b"busy"), repeat=False)], connections=1)
    outcome, _ = load.run(20)
    load.close()
    assert (outcome.answers, outcome.errors) == (1, 1)


def test_a_server_that_closes_is_an_error() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as closing:
        threading.Thread(target=closing.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        load = Load([Target(int(closing.server_address[1]), requests(b"x"), repeat=True)], connections=1)
        try:
            outcome, _ = load.run(5)
        except ConnectionError:
            return
        finally:
            load.close()
            closing.shutdown()
    assert (outcome.answers, outcome.errors) == (0, 1)


def test_two_targets_share_the_connections(server: Server) -> None:
    with Server() as other:
        threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        targets = [Target(server.port, requests(b"a"), repeat=True), Target(other.port, requests(b"b"), repeat=True)]
        load = Load(targets, connections=4)
        outcome, _ = load.run(0.3)
        load.close()
        other.shutdown()
    assert set(server.seen) == {b"a"}
    assert set(other.seen) == {b"b"}
    sent = server.seen[b"a"] + other.seen[b"b"]
    assert sent - 4 <= outcome.answers <= sent


def test_from_another_process(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.chdir(root)
    path = tmp_path / "bodies"
    path.write_bytes(frames([b"one", b"two"]))
    measured = measure(
        [(server.port, path)],
        path="/v1/query",
        seconds=0.3,
        connections=2,
        repeat=True,
        sample_every=1,
        allow_wrk=False,
    )
    assert measured.generator == "bench/load.py"
    assert set(server.seen) == {b"one", b"two"}
    assert 0 < measured.answers <= server.seen.total()
    assert measured.errors == 0
    assert {answer for _, _, answer in measured.samples} == {b"one", b"two"}
    assert measured.cpu_us["load"] > 0


def test_bodies_survive_their_file(tmp_path: Path) -> None:
    bodies = [b"", b"x" * 300, b"\x00\xff"]
    path = tmp_path / "bodies"
    path.write_bytes(frames(bodies))
    assert read_bodies(path) == bodies


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", (200, 38, 40)),
        (b"HTTP/1.1 200 OK\r\nContent-Length:2\r\nx: 1\r\n\r\nok", (200, 43, 45)),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", (404, 26, 26)),
        (b"HTTP/1.1 200 OK\r\ncontent-le", None),
    ],
)
def test_a_response_is_read_by_its_length(data: bytes, found: tuple[int, int, int] | None) -> None:
    assert parse_response(data) == found


def test_a_report_holds_rate_percentiles_and_histogram() -> None:
    from bench.load import Outcome

    outcome = Outcome(answers=4, errors=0, latencies_ns=[1_000_000, 2_000_000, 3_000_000, 100_000_000])
    said = report(outcome, 2.0)
    assert said["rate"] == 2.0
    assert (said["p50_us"], said["p99_us"]) == (3_000, 100_000)
    assert sum(said["histogram_us"].values()) == 4
    assert percentile([], 0.5) == 0
