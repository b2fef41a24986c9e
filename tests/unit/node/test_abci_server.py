"""The application's end of the socket: what is sent when, and when it ends."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import onecode.node.abci_server as abci_server_module
from onecode.errors import Misconfigured, OnecodeError, Unreachable
from onecode.node.abci_messages import Method, read_uvarint
from onecode.node.abci_server import CONNECTIONS, AbciServer
from onecode.proof.protobuf import bytes_field, uvarint

ECHO, FLUSH = bytes.fromhex("050a030a0161"), bytes.fromhex("021200")
ECHOED, FLUSHED = bytes.fromhex("0512030a0161"), bytes.fromhex("021a00")


class Handler:
    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.idled = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def answer(self, method: int, message: bytes) -> bytes:
        self.threads.add(threading.get_ident())
        self.free.wait(20)
        if method != Method.ECHO:
            raise Misconfigured("node.height", "no such method")
        return message

    def idle(self) -> None:
        self.threads.add(threading.get_ident())
        self.idled.set()


class Served:
    def __init__(self, path: Path) -> None:
        self.path, self.handler = path, Handler()
        self.server = AbciServer(path, self.handler)
        self.raised: list[OnecodeError] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.server.serve()
        except OnecodeError as error:
            self.raised.append(error)

    def connect(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(5)
        connected.connect(str(self.path))
        return connected

    def ended(self) -> list[str]:
        self.thread.join(5)
        assert not self.thread.is_alive()
        return [error.code for error in self.raised]


@pytest.fixture
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="abci-") as short:
        serving = Served(Path(short) / "s")
        yield serving
        serving.server.stop()
        serving.thread.join(5)


def receive(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        assert more
        data += more
    return data


def test_answers_wait_for_flush_and_keep_their_order(served: Served) -> None:
    with served.connect() as connected:
        connected.sendall(ECHO + ECHO)
        connected.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connected.recv(1)
        connected.settimeout(5)
        for byte in ECHO + FLUSH:  # however it comes in pieces
            connected.sendall(bytes((byte,)))
        assert receive(connected, 3 * len(ECHOED) + len(FLUSHED)) == ECHOED * 3 + FLUSHED
        served.server.stop()
        assert served.ended() == []


def test_four_connections_on_one_thread_and_no_more(served: Served) -> None:
    four = [served.connect() for _ in range(CONNECTIONS)]
    for connected in four:
        connected.sendall(ECHO + FLUSH)
    for connected in four:
        assert receive(connected, len(ECHOED + FLUSHED)) == ECHOED + FLUSHED
    assert len(served.handler.threads) == 1
    with pytest.raises(ConnectionRefusedError):
        served.connect()
    four[2].close()  # the engine ended
    assert served.ended() == ["abci.engine_gone"]
    assert isinstance(served.raised[0], Unreachable)
    for connected in four:
        connected.close()


@pytest.mark.parametrize(("bound", "whole"), [(32 << 20, True), (1 << 20, False)])
def test_the_engine_writes_on_while_it_waits_for_an_answer_up_to_a_bound(
    served: Served, monkeypatch: pytest.MonkeyPatch, bound: int, whole: bool
) -> None:
    monkeypatch.setattr(abci_server_module, "PENDING_BYTES_MAX", bound)
    many = 8 << 20  # a socket of its own takes far less
    served.handler.free.clear()
    with served.connect() as connected:
        connected.settimeout(30 if whole else 1)
        echo = bytes_field(1, bytes_field(1, bytes(1 << 16)))
        requests = (uvarint(len(echo)) + echo) * (many >> 16)
        if whole:
            connected.sendall(requests)
        else:
            with pytest.raises(TimeoutError):
                connected.sendall(requests)
        served.handler.free.set()
        served.server.stop()
        assert served.ended() == []


def test_an_error_is_told_and_ends_it(served: Served) -> None:
    with served.connect() as connected:
        connected.sendall(ECHO + bytes.fromhex("021a00"))  # Info
        told = receive(connected, len(ECHOED) + 2)[len(ECHOED) :]
        found = read_uvarint(told, 0)
        assert found is not None
        assert b"no such method" in told + receive(connected, found[0] - 1)
        assert served.ended() == ["node.height"]


def test_a_length_that_no_engine_sends_ends_it(served: Served) -> None:
    with served.connect() as connected:
        connected.sendall(bytes.fromhex("ffffffffff01"))
        assert served.ended() == ["abci.too_large"]


def test_only_the_owner_may_connect(served: Served) -> None:
    assert served.path.stat().st_mode & 0o777 == 0o600


def test_a_socket_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as raised:
        AbciServer(tmp_path / "absent" / "s", Handler())
    assert raised.value.code == "abci.socket"


def test_the_handler_is_called_when_the_engine_asks_nothing(served: Served) -> None:
    assert served.handler.idled.wait(10)
    assert served.handler.threads == {served.thread.ident}
