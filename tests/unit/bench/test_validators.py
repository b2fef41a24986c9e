"""What is sent to validators: versions that fit the chain, records that hold, refusals that end a run."""

from __future__ import annotations

import json
import multiprocessing.pool
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
from bench import network
from bench.batches import Sealed
from bench.processes import Child
from bench.sending import Batch, Client, Pace, Sent, clients, send_one
from bench.stages import STAGES, Registry, Stages
from bench.timeline import SPANS, Timed, frame_bytes, parse_frame, spans_ms
from bench.validators import CHAIN_ID, Validator
from bench.withdrawals import Withdrawn
from bench.world import EPOCH, PLATFORMS, platforms_of
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from onecode.host.clock import now_ms
from onecode.record.envelope import RecordIds, open_envelope, verify_commitment, verify_signed_record
from onecode.record.payment import SERVICE_PAY

pytestmark = pytest.mark.clock

DAY_MS = 86_400_000


class Server(ThreadingHTTPServer):
    """A node that accepts, or refuses what begins with `no`; keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        assert isinstance(server, Server)
        server.seen.append(body)
        said = {"height": 7, "code": 0, "items": [{"code": int(body.startswith(b"no"))}]}
        answer = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing on the screen."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def node(server: Server) -> Validator:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return Validator(CHAIN_ID, "n0", Path(), url, 0, cast(Child, None))


def test_versions_follow_what_was_sent_and_not_what_was_prepared() -> None:
    client = clients(CHAIN_ID)[0]
    first, second = client.prepare([range(2), range(1)])
    assert (first.items, second.items) == (((0, 1), (1, 1)), ((0, 2),))
    client.sent(first)
    (again,) = client.prepare([range(3)])
    assert again.items == ((0, 2), (1, 2), (2, 1))


def test_a_registry_takes_all_that_clients_prepare(tmp_path: Path) -> None:
    registry, senders, stages = Registry(tmp_path), clients(CHAIN_ID)[:2], Stages()
    for _ in range(2):
        batches = [client.prepare([range(3)])[0] for client in senders]
        registry.block(batches, stages)
        for client, batch in zip(senders, batches, strict=True):
            client.sent(batch)
    assert stages.records == 12
    assert stages.us("execute") > 0
    one = sum(map(stages.us, STAGES))
    assert stages.machine_us(4) == pytest.approx(4 * one - 3 * stages.us("prepare"))
    with pytest.raises(RuntimeError, match="refused"):
        registry.block([clients(CHAIN_ID)[0].prepare([range(3)])[0]], stages)  # version 1 once more
    registry.close()


def test_sealed_records_are_taken_opened_and_withdrawn(tmp_path: Path) -> None:
    sealed = Sealed(CHAIN_ID, "sealed", now_ms() + DAY_MS // 48, now_ms() // DAY_MS * DAY_MS)
    own, partner = platforms_of(5)
    given = sealed.publication(5, own, partner)
    ids = RecordIds(merchant=sealed.merchant(5), platform=own.id, service=SERVICE_PAY, version=1, epoch=EPOCH)
    opened = open_envelope(CHAIN_ID, ids, given.envelope, AESGCMSIV(own.epoch_key))
    record = verify_signed_record(CHAIN_ID, ids, verify_commitment(CHAIN_ID, ids, opened, given.commitment))
    assert record.audience == (partner.id,)
    registry, senders = Registry(tmp_path), clients(CHAIN_ID)
    for one, other in ((own, partner), (partner, own)):
        batch = senders[PLATFORMS.index(one)].prepare_these([sealed.publication(5, one, other)])
        registry.block([batch], Stages())
    registry.block([senders[PLATFORMS.index(own)].prepare_withdrawal(sealed.merchant(5))], Stages())
    registry.close()


def test_a_refused_item_ends_the_run(server: Server) -> None:
    connection = node(server).connect()
    took_ms, height = send_one(connection, b"yes")
    assert took_ms > 0
    assert height == 7
    with pytest.raises(RuntimeError, match="refused"):
        send_one(connection, b"no")
    connection.close()


def test_paced_clients_send_their_batches_in_order_until_told_to_stop(server: Server) -> None:
    senders = [Client(one.publisher) for one in clients(CHAIN_ID)[:2]]
    work = [[Batch(b"%d %d" % (at, number), ((number, 1),)) for number in range(10_000)] for at in range(2)]
    with Pace([node(server)], senders, work, 1_000.0) as pace:
        while pace.records() < 20:
            threading.Event().wait(0.005)
    assert pace.records() == len(server.seen)
    for at in range(2):
        own = [body for body in server.seen if body.startswith(b"%d " % at)]
        assert own == [batch.transaction for batch in work[at][: len(own)]]
        assert len(senders[at].versions) == len(own) > 0


def test_batches_that_do_not_last_end_the_run(server: Server) -> None:
    senders = clients(CHAIN_ID)[:1]
    with (
        pytest.raises(RuntimeError, match="did not last"),
        Pace([node(server)], senders, [[Batch(b"one", ((0, 1),))]], 1e6) as pace,
    ):
        while not pace.records():
            threading.Event().wait(0.005)


def test_figures_of_a_row() -> None:
    sent = Sent(200, 4.0, [float(number) for number in range(1, 101)], 10, {"writer": 0.5})
    assert (sent.speed, sent.percentile_ms(0.99), sent.cpu_us("writer")) == (50.0, 100.0, 2_500.0)
    assert Withdrawn(refused=[[1.0, 5.0], [2.0, 3.0]]).refused_everywhere == [2.0, 5.0]


@pytest.mark.parametrize("size", [0, 125, 126, 1_000])
def test_websocket_frames(size: int) -> None:
    payload = bytes(range(256)) * 4
    sent = frame_bytes(payload[:size])
    head = 6 if size < 126 else 8
    assert sent[1] & 0x80  # a client's are masked
    assert (sent[head:], len(sent)) == (payload[:size], head + size)
    plain = sent[:1] + bytes((sent[1] & 0x7F,)) + sent[2 : head - 4] + payload[:size]
    assert parse_frame(plain + b"more") == (1, payload[:size], b"more")
    assert parse_frame(plain[:-1]) is None


def test_spans_add_up_and_need_every_step() -> None:
    names = ("propose", "prevote", "precommit", "commit")
    seen = {(height, name): height + at / 10 for height in (5, 6) for at, name in enumerate(names)}
    spans = spans_ms(seen, [Timed(4.5, 7.0, 5), Timed(4.5, 7.0, 6)])  # of the second, block 7 was not seen
    assert [name for name, _ in spans] == [name for name, *_ in SPANS]
    assert sum(ms for _, ms in spans) == pytest.approx(2_500.0)
    assert spans_ms({}, [Timed(0.0, 1.0, 5)]) == []


def test_without_the_engine_nothing_is_measured_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(network, "ENGINE", tmp_path / "cometbft")
    assert network.measure(tmp_path, cast(multiprocessing.pool.Pool, None)) == []
    assert "NOT MEASURED" in capsys.readouterr().out
