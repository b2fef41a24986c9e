"""Exchanges with servers that may be slow on purpose: one deadline for all of an exchange, and a bounded answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from onecode.errors import Unreachable
from onecode.platform.exchange import exchange

TIMEOUT_MS = 400


class Trickle:
    """A server that says `first`, and then one byte after the other, each well within a read's timeout."""

    def __init__(self, first: bytes) -> None:
        self._first, self._stopping = first, threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._drip, args=(client,), daemon=True).start()
        except OSError:
            return

    def _drip(self, client: socket.socket) -> None:
        with client:
            try:
                client.recv(65_536)
                client.sendall(self._first)
                while not self._stopping.wait(0.1):
                    client.sendall(b"a")
            except OSError:
                return

    def stop(self) -> None:
        self._stopping.set()
        self._socket.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=TIMEOUT_MS / 1000, follow_redirects=False, trust_env=False) as made:
        yield made


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\nx: ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",  # the body's end is the connection's: cut off, it must not pass for whole
    ],
)
def test_a_server_that_trickles_is_left_at_the_deadline(client: httpx.Client, first: bytes) -> None:
    server = Trickle(first)
    try:
        began_s = time.monotonic()
        with pytest.raises(Unreachable, match=r"http\.deadline"):
            exchange(client, client.build_request("POST", server.url, content=b"x"), TIMEOUT_MS, 10_000)
        assert time.monotonic() - began_s < 3 * TIMEOUT_MS / 1000
    finally:
        server.stop()


def test_an_answer_that_is_too_large_or_packed_is_refused(client: httpx.Client) -> None:
    for head, code in (
        (b"content-length: 5000\r\n\r\n" + b"a" * 5_000, "size"),
        (b"content-encoding: gzip\r\n\r\n", "encoding"),
    ):
        server = Trickle(b"HTTP/1.1 200 OK\r\n" + head)
        try:
            with pytest.raises(Unreachable, match=rf"http\.answer_{code}"):
                exchange(client, client.build_request("POST", server.url, content=b"x"), TIMEOUT_MS, 4_999)
        finally:
            server.stop()


def test_an_answer_whose_body_is_not_asked_for_is_its_status(client: httpx.Client) -> None:
    server = Trickle(b"HTTP/1.1 307 Moved\r\nlocation: /x\r\ncontent-length: 5000\r\n\r\n")
    try:
        assert exchange(client, client.build_request("POST", server.url), TIMEOUT_MS, None) == (307, b"")
    finally:
        server.stop()
