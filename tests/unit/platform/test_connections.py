"""Slow and loud clients: heads that do not come, heads that do not end, too many at one time; and the event stream."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from onecode.platform.connections import Bounded
from unit.platform.test_payments import code_of
from unit.platform.world import Keys, Node, Payer, Server

pytestmark = pytest.mark.clock


@contextmanager
def process_of(keys: Keys, node: Node, directory: Path, **changes: Any) -> Iterator[str]:
    keys.config(directory, node.url, **changes)
    path = str(directory / "platform.json")
    process = subprocess.Popen([sys.executable, "-m", "onecode.platform", path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait()


def closed_after_s(sender: socket.socket, drip: bytes = b"") -> float:
    """How long until the server closes the connection, which gets a byte of `drip` now and then."""
    sender.settimeout(0.1)
    start = time.monotonic()
    while time.monotonic() - start < 10:
        try:
            if not sender.recv(65_536):
                break
        except TimeoutError:
            if drip:
                try:
                    sender.send(drip)
                except OSError:
                    break
        except ConnectionError:
            break
    return time.monotonic() - start


def test_heads_that_do_not_come_or_do_not_end_are_given_up(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    with process_of(keys[0], node, tmp_path, request_timeout_ms=700, header_bytes_max=4_096) as url:
        address = (httpx.URL(url).host, httpx.URL(url).port or 0)
        with socket.create_connection(address) as silent:
            assert closed_after_s(silent) < 3
        with socket.create_connection(address) as slow:
            slow.send(b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx-slow: ")
            assert closed_after_s(slow, b"a") < 3
        with socket.create_connection(address) as second:  # the first request is whole, the second one drips
            second.send(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
            time.sleep(0.3)
            assert b"200 OK" in second.recv(65_536)
            assert closed_after_s(second, b"G") < 3
        with socket.create_connection(address) as loud:
            loud.send(b"GET /v1/status HTTP/1.1\r\nx-long: " + b"a" * 8_192)
            loud.settimeout(5)
            assert b" 400 " in loud.recv(65_536)
        with httpx.Client(base_url=url) as client:  # an honest client keeps its connection
            for _ in range(3):
                assert client.get("/v1/status").status_code == 200
                time.sleep(0.4)


def test_too_many_at_one_time_are_told_to_try_again() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Any, _receive: Any, _send: Any) -> None:
        started.set()
        await release.wait()

    async def run() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(dict(message))

        async def receive() -> Any:
            return {"type": "http.request"}

        app = Bounded(slow, 1)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        first = asyncio.create_task(app(scope, receive, send))
        await started.wait()
        await app(scope, receive, send)
        release.set()
        await first
        await app(scope, receive, send)  # there is room again
        return sent

    start, body = asyncio.run(run())
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert json.loads(body["body"])["code"] == "http.busy"


# --- the event stream


def frames(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The stream's events, as a browser reads them."""
    frame: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            frame[name] = value
        elif frame:
            if "data" in frame:
                yield frame
            frame = {}


def stream_of(server: Server, merchant: Any, **headers: str) -> Any:
    given = {"authorization": f"Bearer {merchant.till}", **headers}
    return server.http.stream("GET", f"/v1/merchants/{merchant.id.hex()}/stream", headers=given)


def test_a_stream_tells_what_was_and_what_comes(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    request = payer.request(merchant)
    payer.pay(request)
    with stream_of(server, merchant) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = frames(response.iter_lines())
        first = next(found)
        with httpx.Client(base_url=server.http.base_url, timeout=20) as other:
            main, server.http = server.http, other
            payer.pay(request)
            server.http = main
        second = next(found)
    assert [first["event"], second["event"]] == ["payment.posted"] * 2
    assert json.loads(first["data"])["total_minor"] == 1_250
    assert int(second["id"]) > int(first["id"])
    with stream_of(server, merchant, **{"last-event-id": first["id"]}) as response:
        assert next(frames(response.iter_lines()))["id"] == second["id"]


def test_a_stream_ends_and_streams_are_counted(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    server = Server(keys[0].config(tmp_path, node.url, stream_ms_max=1_500, streams_max=1))
    try:
        merchant = server.live_merchant()
        with stream_of(server, merchant) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("retry:")
            till = {"authorization": f"Bearer {merchant.till}"}  # type: ignore[attr-defined]
            path = f"/v1/merchants/{merchant.id.hex()}/stream"
            refused = httpx.get(f"{server.http.base_url}{path}", headers=till)
            assert code_of(refused) == (429, "till.streams")
            assert list(frames(lines)) == []  # it ends by itself
        with stream_of(server, merchant) as response:
            assert response.status_code == 200
        wrong = httpx.get(f"{server.http.base_url}{path}", headers={"authorization": "Bearer x"})
        assert code_of(wrong) == (401, "till.token")
    finally:
        server.stop()


@pytest.mark.parametrize("number", ["x", "-1", "9" * 19])
def test_the_last_events_number_is_a_number(server: Server, number: str) -> None:
    with stream_of(server, server.live_merchant(), **{"last-event-id": number}) as response:
        response.read()
        assert code_of(response) == (400, "http.last_event")
