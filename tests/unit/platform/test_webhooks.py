"""Webhooks to a real receiver: signed as Standard Webhooks has it, sent again, given up, and never sent inwards."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from onecode.errors import Malformed, Unreachable
from onecode.host.clock import now_ms
from onecode.platform.webhook_target import parse_webhook_url, resolve_target
from onecode.platform.webhooks import WebhookSender, sign_delivery
from unit.platform.test_exchange import Trickle
from unit.platform.test_payments import code_of
from unit.platform.world import Keys, Merchant, Node, Payer, Server

pytestmark = pytest.mark.clock


class Receiver:
    """A merchant's server, which answers with `status`."""

    def __init__(self) -> None:
        self.status, self.heard = 200, []  # type: ignore[var-annotated]
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.heard.append((dict(self.headers), body))
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?shop=1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class World:
    """A platform that may send to loopback, whose clock can run ahead."""

    def __init__(self, server: Server, receiver: Receiver, ahead: list[int]) -> None:
        self.server, self.receiver, self.ahead = server, receiver, ahead
        self.sender = WebhookSender(server.platform)
        self.payer, self.merchant = Payer(server), server.live_merchant()
        self.path = f"/v1/merchants/{self.merchant.id.hex()}/webhook"

    def hook(self) -> str:
        answer = self.server.operator("PUT", self.path, json={"url": self.receiver.url})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["secret"])

    def pay(self) -> None:
        assert self.payer.pay(self.payer.request(self.merchant)).status_code == 201

    def deliveries(self) -> list[dict[str, Any]]:
        return list(self.server.operator("GET", "/v1/webhooks/deliveries").json())


@pytest.fixture
def world(node: Node, keys: list[Keys], tmp_path: Path) -> Iterator[World]:
    ahead, receiver = [0], Receiver()
    config = keys[0].config(
        tmp_path,
        node.url,
        webhook_private_addresses=True,
        webhook_retry_ms=1_000,
        webhook_attempts_max=3,
        webhook_timeout_ms=2_000,
        header_age_ms_max=3_600_000,
    )
    server = Server(config, lambda: now_ms() + ahead[0])
    made = World(server, receiver, ahead)
    yield made
    made.sender.close()
    server.stop()
    receiver.stop()


def verified(secret: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """As a receiver checks it, by the specification alone."""
    given = {name.lower(): value for name, value in headers.items()}
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    assert secret.startswith("whsec_") and 24 <= len(key) <= 64
    signed = f"{given['webhook-id']}.{given['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert given["webhook-signature"].split(" ") == [f"v1,{expected}"]
    return dict(json.loads(body))


def test_the_signature_is_that_of_the_specifications_example() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = sign_delivery(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_payment_is_told_once_and_signed(world: World) -> None:
    secret = world.hook()
    world.pay()
    world.sender.drain()
    world.sender.drain()
    ((headers, body),) = world.receiver.heard
    content = verified(secret, headers, body)
    assert (content["type"], content["data"]["total_minor"]) == ("payment.posted", 1_250)
    assert content["data"]["merchant"] == world.merchant.id.hex()
    assert content["data"]["signed_order"] is False
    assert content["timestamp"].endswith("Z")
    assert world.payer.account not in body.decode()
    assert abs(int({k.lower(): v for k, v in headers.items()}["webhook-timestamp"]) - now_ms() // 1000) < 10
    assert [row["state"] for row in world.deliveries()] == ["done"]


def test_it_is_sent_again_with_longer_pauses_under_the_same_id_and_then_given_up(world: World) -> None:
    secret = world.hook()
    world.receiver.status = 500
    world.pay()
    sent = []
    for step_ms in (0, 900, 200, 1_900, 200, 100_000):
        world.ahead[0] += step_ms
        world.sender.drain()
        sent.append(len(world.receiver.heard))
    assert sent == [1, 1, 2, 2, 3, 3]
    assert len({headers["webhook-id"] for headers, _ in world.receiver.heard}) == 1
    for headers, body in world.receiver.heard:
        verified(secret, headers, body)
    (dead,) = world.server.operator("GET", "/v1/webhooks/deliveries?state=dead").json()
    assert (dead["sent"], dead["error"]) == (3, "status 500")
    world.receiver.status = 204
    again = world.server.operator("POST", f"/v1/webhooks/deliveries/{dead['id']}/retry")
    assert again.json()["state"] == "waiting"
    world.sender.drain()
    assert [row["state"] for row in world.deliveries()] == ["done"]
    retry = world.server.operator("POST", f"/v1/webhooks/deliveries/{dead['id']}/retry")
    assert code_of(retry) == (409, "webhook.not_dead")
    unknown = world.server.operator("POST", "/v1/webhooks/deliveries/999/retry")
    assert code_of(unknown) == (404, "webhook.delivery_unknown")


def test_what_waits_survives_a_restart(world: World) -> None:
    world.hook()
    world.receiver.status = 503
    world.pay()
    world.sender.drain()
    world.receiver.status = 200
    world.ahead[0] += 2_000
    second = WebhookSender(world.server.platform)
    second.drain()
    second.close()
    assert [row["state"] for row in world.deliveries()] == ["done"]


def test_a_receiver_that_is_gone_or_a_hook_that_was_removed_ends_it(world: World) -> None:
    world.hook()
    world.receiver.status = 410
    world.pay()
    world.sender.drain()
    assert [row["state"] for row in world.deliveries()] == ["dead"]
    world.pay()
    removed = world.server.operator("DELETE", world.path)
    assert removed.json() == {"merchant": world.merchant.id.hex(), "url": None}
    assert [row["state"] for row in world.deliveries()] == ["dead", "dead"]
    world.pay()
    assert len(world.deliveries()) == 2
    assert code_of(world.server.operator("DELETE", world.path)) == (404, "webhook.unknown")


def test_a_redirect_is_not_followed(world: World) -> None:
    world.hook()
    world.receiver.status = 307
    world.pay()
    world.sender.drain()
    assert (len(world.receiver.heard), world.deliveries()[0]["error"]) == (1, "status 307")


def test_a_receiver_that_trickles_costs_one_timeout_a_round(world: World) -> None:
    trickle = Trickle(b"HTTP/1.1 200 OK\r\nx: ")
    try:
        world.server.operator("PUT", world.path, json={"url": trickle.url})
        for _ in range(3):
            world.pay()
        other = world.server.live_merchant()
        path = f"/v1/merchants/{other.id.hex()}/webhook"
        assert world.server.operator("PUT", path, json={"url": world.receiver.url}).status_code == 200
        assert world.payer.pay(world.payer.request(other), "other").status_code == 201
        began_s = time.monotonic()
        world.sender.drain()
        assert time.monotonic() - began_s < 4  # one timeout is 2 s
        assert len(world.receiver.heard) == 1
        slow = [row for row in world.deliveries() if row["merchant"] == world.merchant.id.hex()]
        assert sorted(row["sent"] for row in slow) == [0, 0, 1]
    finally:
        trickle.stop()


def test_what_is_due_goes_out_in_one_round_one_after_the_other(world: World) -> None:
    world.hook()
    for _ in range(3):
        world.pay()
    world.sender.drain()
    assert [row["state"] for row in world.deliveries()] == ["done"] * 3


def test_hooks_are_the_operators_and_of_signed_merchants(world: World) -> None:
    assert code_of(world.server.http.put(world.path, json={"url": world.receiver.url})) == (401, "http.token")
    stranger = f"/v1/merchants/{Merchant().id.hex()}/webhook"
    put = world.server.operator("PUT", stranger, json={"url": world.receiver.url})
    assert code_of(put) == (404, "merchant.unknown")
    assert code_of(world.server.operator("PUT", world.path, json={})) == (400, "webhook.request")
    assert code_of(world.server.operator("GET", "/v1/webhooks/deliveries?state=x")) == (400, "http.parameter")


# --- where webhooks may go

BAD_URLS = [
    "http://example.com/",
    "ftp://example.com/",
    "https://",
    "https:///path",
    "https://user:secret@example.com/",
    "https://example.com/#part",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://exa mple.com/",
    "https://例.example/",
    "x" * 600,
    "",
    None,
    7,
]
PRIVATE_HOSTS = [
    *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.5.5", "169.254.169.254", "0.0.0.0", "100.64.0.1"),  # noqa: S104
    *("224.0.0.1", "255.255.255.255"),
    *("[::1]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::]"),
    *("[64:ff9b::808:808]", "[2002:808:808::]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[2001:db8::1]"),
    *("[5f00::1]", "[4000::1]", "[fec0::1]", "[::ffff:8.8.8.8]", "[::8.8.8.8]", "[2001:20::1]", "[3fff::1]"),
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_url_that_is_not_plain_https_is_refused(url: Any) -> None:
    with pytest.raises(Malformed, match=r"webhook\.url"):
        parse_webhook_url(url, allow_private=False)


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    with pytest.raises(Malformed, match=r"webhook\.private"):
        parse_webhook_url(f"https://{host}/hook", allow_private=False)
    assert parse_webhook_url(f"http://{host}/hook", allow_private=True)


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
def test_a_name_for_an_address_that_is_not_public_is_refused_when_it_is_sent_to(host: str) -> None:
    with pytest.raises(Unreachable, match=r"webhook\.(private_)?name"):
        resolve_target(f"https://{host}/hook", allow_private=False)


def test_a_name_with_one_address_that_is_not_public_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*addresses: str) -> None:
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)

    found("8.8.8.8", "1.1.1.1")
    assert resolve_target("https://shop.example/", allow_private=False).address == "8.8.8.8"
    for addresses in (("8.8.8.8", "10.0.0.1"), ("10.0.0.1", "8.8.8.8")):
        found(*addresses)
        with pytest.raises(Unreachable, match=r"webhook\.private_name"):
            resolve_target("https://shop.example/", allow_private=False)


def test_public_addresses_of_both_kinds_are_taken() -> None:
    for host in ("8.8.8.8", "[2606:4700::1111]", "[2a00:1450::1]"):
        assert parse_webhook_url(f"https://{host}/hook", allow_private=False)


def test_the_connection_goes_to_the_address_that_was_checked_under_the_urls_name() -> None:
    target = resolve_target("https://localhost:8443/hook?x=1", allow_private=True)
    with httpx.Client() as client:
        request = target.request(client, b"{}", {})
    assert request.url.host in ("127.0.0.1", "::1") and request.url.port == 8443
    assert request.headers["host"] == "localhost:8443"
    assert request.extensions["sni_hostname"] == "localhost"
    assert request.url.raw_path == b"/hook?x=1"
