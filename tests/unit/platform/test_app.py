"""The HTTP side: who may do what, limits, errors, tills, devices, the trust file."""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from onecode.host.clock import now_ms
from onecode.proof.trust import verify_trust_file
from onecode.query.credential import parse_credential
from onecode.query.requests import DEVICE_KEY_HEADER, device_header
from unit.platform.test_payments import code_of
from unit.platform.world import CHAIN_ID, OPENING, Keys, Merchant, Node, Payer, Server, enrol, key_proof, new_key

pytestmark = pytest.mark.clock


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/merchants"),
        ("POST", "/v1/merchants"),
        ("POST", f"/v1/merchants/{'00' * 20}/publish"),
        ("POST", f"/v1/merchants/{'00' * 20}/withdraw"),
        ("GET", "/v1/books"),
        ("POST", "/v1/payments/x/void"),
        ("GET", "/v1/payments/x/evidence"),
    ],
)
def test_the_operators_paths_need_the_operators_token(server: Server, method: str, path: str) -> None:
    assert code_of(server.http.request(method, path)) == (401, "http.token")
    wrong = {"authorization": "Bearer operator-token-of-the-test"}
    assert code_of(server.http.request(method, path, headers=wrong)) == (401, "http.token")


@pytest.mark.parametrize("path", ["/v1/account", "/v1/payments/x", "/v1/payments?idempotency_key=x"])
def test_the_payers_paths_need_a_devices_signature(server: Server, path: str) -> None:
    assert code_of(server.http.get(path)) == (401, "device.unsigned")
    assert code_of(server.http.get(path, headers={"onecode-device": "%%"})) == (400, "request.header")


def test_a_request_is_bound_to_path_body_key_and_time(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    body = payer.request(merchant).encoded()
    proof = device_header(CHAIN_ID, payer.credential, payer.device, "POST", "/v1/payments", body, now_ms(), "key-1")
    sent = {"onecode-device": proof, "content-type": "application/cbor"}

    def post(path: str, content: bytes, key: str) -> tuple[int, str]:
        return code_of(server.http.post(path, content=content, headers={**sent, "idempotency-key": key}))

    assert post("/v1/payments", body, "key-2") == (401, "signature.bad")
    assert post("/v1/payments", body + b"x", "key-1") == (401, "signature.bad")
    assert post("/v1/payments?x=1", body, "key-1") == (401, "signature.bad")
    assert code_of(payer.send("GET", "/v1/account", at_ms=now_ms() - 61_000)) == (401, "request.time")
    assert code_of(payer.send("POST", "/v1/payments", body)) == (400, "payment.key")
    assert payer.balance() == OPENING["EUR"]


def test_another_device_with_anothers_credential_is_nobody(server: Server, payer: Payer) -> None:
    payer.device = new_key()
    assert code_of(payer.send("GET", "/v1/account")) == (401, "signature.bad")


def test_a_blocked_device_is_refused_though_its_credential_runs(server: Server, payer: Payer) -> None:
    from onecode.platform.schema import Device

    with server.platform.database.write() as session:
        session.get_one(Device, payer.device.public).blocked = True
    assert code_of(payer.send("GET", "/v1/account")) == (403, "device.unknown")
    assert code_of(enrol(server, payer.device)) == (403, "device.taken")


# --- devices


def test_enrolment_gives_a_funded_account_and_a_credential_of_a_day(server: Server, payer: Payer) -> None:
    _, credential = parse_credential(payer.credential)
    assert credential.device == payer.device.public
    assert 0 < credential.valid_until_ms - credential.valid_from_ms <= 24 * 3_600_000
    account = payer.send("GET", "/v1/account").json()
    assert account["sandbox"] is True
    assert {row["currency"]: row["balance_minor"] for row in account["balances"]} == OPENING
    renewed = payer.send("POST", "/v1/devices/renew").json()
    assert renewed["account"] == payer.account
    again = enrol(server, payer.device).json()
    assert again["account"] == payer.account
    assert payer.balance() == OPENING["EUR"]


def test_an_account_is_joined_only_with_a_device_of_it(server: Server, payer: Payer) -> None:
    second = new_key()
    body = json.dumps({"device": second.public.hex(), "account": payer.account}).encode()
    proof = {DEVICE_KEY_HEADER: key_proof(second, body)}
    assert code_of(server.http.post("/v1/devices", content=body, headers=proof)) == (401, "device.account")
    assert code_of(Payer(server).send("POST", "/v1/devices", body, **proof)) == (401, "device.account")
    assert code_of(payer.send("POST", "/v1/devices", body)) == (401, "device.unproven")  # the account's alone
    assert payer.send("POST", "/v1/devices", body, **proof).json()["account"] == payer.account


def test_nobody_enrols_a_device_without_its_key(server: Server, payer: Payer) -> None:
    """A stranger who could would make the device's own enrolment answer with the stranger's account."""
    device, stranger = new_key(), new_key()
    alone = json.dumps({"device": device.public.hex()}).encode()
    joined = json.dumps({"device": device.public.hex(), "account": payer.account}).encode()

    def tried(body: bytes, proof: str | None) -> tuple[int, str]:
        headers = {} if proof is None else {DEVICE_KEY_HEADER: proof}
        return code_of(payer.send("POST", "/v1/devices", body, **headers))

    for body in (alone, joined):
        assert tried(body, None) == (401, "device.unproven")
        assert tried(body, key_proof(stranger, body)) == (401, "device.unproven")
    assert tried(joined, key_proof(device, alone)) == (401, "signature.bad")
    assert tried(alone, key_proof(device, alone, now_ms() - 61_000)) == (401, "request.time")
    assert tried(alone, "%%") == (400, "request.header")
    own = enrol(server, device)
    assert own.status_code == 201
    assert own.json()["account"] != payer.account


def test_the_sandbox_has_limits_and_can_be_off(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    server = Server(keys[0].config(tmp_path, node.url, sandbox_accounts_max=1))
    try:
        Payer(server)
        assert code_of(enrol(server, new_key())) == (409, "device.sandbox_full")
    finally:
        server.stop()
    server = Server(keys[0].config(tmp_path, node.url, sandbox=False))
    try:
        assert code_of(enrol(server, new_key())) == (409, "device.no_sandbox")
    finally:
        server.stop()


# --- tills


def test_a_till_hears_of_a_payment_while_it_waits(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    request = payer.request(merchant)
    heard: list[Any] = []
    headers = {"authorization": f"Bearer {merchant.till}"}  # type: ignore[attr-defined]

    def listen() -> None:
        heard.append(server.http.get(f"/v1/merchants/{merchant.id.hex()}/events?after=0", headers=headers).json())

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.1)
    assert payer.pay(request).status_code == 201
    thread.join(5)
    assert [event["type"] for event in heard[0]] == ["payment.posted"]
    after = heard[0][-1]["id"]
    path = f"/v1/merchants/{merchant.id.hex()}/events?after={after}&wait_ms=0"
    assert server.http.get(path, headers=headers).json() == []


def test_a_till_hears_its_own_merchant_only(server: Server, payer: Payer) -> None:
    one, other = server.live_merchant(), server.live_merchant()
    payer.pay(payer.request(one))
    path = f"/v1/merchants/{one.id.hex()}/events?wait_ms=0"
    headers = {"authorization": f"Bearer {other.till}"}  # type: ignore[attr-defined]
    assert code_of(server.http.get(path, headers=headers)) == (401, "till.token")
    assert server.http.get(f"/v1/merchants/{other.id.hex()}/events?wait_ms=0", headers=headers).json() == []


# --- limits and errors


def test_what_is_too_large_unknown_or_ill_formed_is_a_problem_document(server: Server, payer: Payer) -> None:
    large = server.http.post("/v1/devices", content=b"x" * (64 * 1024 + 1))
    assert code_of(large) == (413, "http.body_too_large")
    assert large.headers["content-type"] == "application/problem+json"
    assert code_of(server.http.get("/v1/nothing")) == (404, "http.path")
    assert code_of(server.http.get("/v1/payments/")) == (404, "http.path")
    assert code_of(server.http.delete("/v1/books")) == (405, "http.method")
    assert code_of(server.http.post("/v1/devices", content=b"{")) == (400, "http.json")
    assert code_of(server.http.post("/v1/devices", content=b'{"device":"","device":""}')) == (400, "http.json_twice")
    assert code_of(server.http.post("/v1/devices", json={"device": "zz"})) == (400, "http.hex")
    assert code_of(server.http.post("/v1/devices", json={"device": "00"})) == (400, "device.key")
    assert code_of(payer.send("POST", "/v1/payments", b"\xff", "k")) == (400, "wire.not_canonical")
    text = payer.send("POST", "/v1/payments", b"{}", "k", **{"content-type": "text/plain"})
    assert code_of(text) == (415, "http.media_type")
    assert code_of(server.operator("POST", "/v1/merchants/nonsense/publish"))[0] == 400


def test_a_body_that_does_not_come_is_given_up(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    server = Server(keys[0].config(tmp_path, node.url, request_timeout_ms=200))
    try:

        def slow() -> Any:
            yield b"{"
            time.sleep(0.6)
            yield b"}"

        assert code_of(server.http.post("/v1/devices", content=slow())) == (408, "http.timeout")
    finally:
        server.stop()


# --- the trust file and what is public


def test_the_trust_file_is_the_newest_proven_header_under_the_root(server: Server, keys: list[Keys]) -> None:
    response = server.http.get("/v1/trust-file")
    assert response.headers["content-type"] == "application/cbor"
    root = keys[0].admission.root
    trust, header = verify_trust_file(response.content, root, CHAIN_ID, now_ms(), allow_solo=True)
    newest = server.platform.chain.newest_view()
    assert newest is not None
    assert trust.state.header == newest.header.header
    assert now_ms() - header.signed_ms < 30_000


def test_status_and_health_are_public(server: Server) -> None:
    assert server.http.get("/v1/health").json() == {"status": "ok"}
    status = server.http.get("/v1/status").json()
    assert status["platform"] == server.platform.id.hex()
    assert (status["sandbox"], status["chain_id"]) == (True, CHAIN_ID)
    assert status["height"] > 0


def test_a_merchants_id_may_be_text(server: Server) -> None:
    merchant = Merchant()
    signed = server.operator("POST", "/v1/merchants", json=merchant.agreement(server.platform.id)).json()
    published = server.operator("POST", f"/v1/merchants/{signed['merchant_text']}/publish")
    assert published.json()["state"] == "live"


def test_an_unforeseen_failure_says_nothing_of_its_inside(server: Server) -> None:
    broken: Any = server.platform.chain
    broken.newest_view = lambda: secrets.token_hex(8).undefined  # type: ignore[attr-defined]
    response = server.http.get("/v1/status")
    assert code_of(response) == (500, "http.internal")
    assert "undefined" not in response.text
    assert dataclasses.is_dataclass(server.platform)
    assert isinstance(response, httpx.Response)
