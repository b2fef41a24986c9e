"""A real network of one validator in this process, behind the node's own API, and platforms that work with it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from onecode.code.identity import merchant_id, platform_id, recovery_hash
from onecode.code.label import OrderTerms, StaticLabel, build_dynamic
from onecode.host.clock import now_ms
from onecode.host.files import save_private
from onecode.host.keyring import load_key
from onecode.node.api import NodeApi, writer_down
from onecode.node.config import parse_config as parse_node_config
from onecode.node.http import HttpServer
from onecode.node.link import Link, LinkLimits
from onecode.node.producer import SubmissionServer
from onecode.node.solo import Solo, SoloConfig
from onecode.node.store import StoreConfig, open_writer
from onecode.platform.app import PlatformApp
from onecode.platform.config import PlatformConfig, load_config
from onecode.platform.context import Platform
from onecode.platform.genesis import (
    ANCHOR_CERTIFICATE_FILE,
    EPOCH_KEY_FILE,
    ROOT_KEY_FILE,
    TRUST_FILE,
    create_platform_keys,
    key_file,
)
from onecode.platform.outbox import Sender
from onecode.platform.process import open_notices, open_platform
from onecode.platform.trust import build_trust_file
from onecode.proof.governance import DEFAULT_PARAMETERS, Admission, Parameters, ValidatorLeaf
from onecode.proof.leaves import Role
from onecode.proof.trust import AnchorCertificate
from onecode.query.messages import HeaderView
from onecode.query.requests import DEVICE_KEY_HEADER, device_header, device_key_header
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode
from onecode.record.receipt import Order, PaymentRequest
from onecode.registry.application import Application
from onecode.registry.genesis import Genesis
from onecode.registry.transactions import (
    Consent,
    Kind,
    MerchantFreeze,
    MerchantOrderkeys,
    MerchantUnlink,
    PlatformSuspend,
    Purpose,
    SignerKind,
    build_transaction,
    sign_consent,
)
from onecode.schema import Message, parse, to_plain
from onecode.wire import SigningKey
from unit.platform.conformance import require_documented

CHAIN_ID = "solo-platform"
OPERATOR = "operator-token-of-the-tests"
DAY_MS = 24 * 3600 * 1000
OPENING = {"EUR": 100_000, "JPY": 50_000}


def new_key() -> SigningKey:
    return SigningKey.from_seed(secrets.token_bytes(32))


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)


class Node:
    """Engine, store and API of a node without an enclave."""

    def __init__(self, directory: Path, platforms: list[Admission]) -> None:
        validator = new_key()
        numbers = {spec.name: getattr(DEFAULT_PARAMETERS, spec.name) for spec in Parameters.FIELDS}
        genesis = Genesis(
            chain_id=CHAIN_ID,
            time_ms=now_ms(),
            parameters=Parameters(**{**numbers, "freeze_platforms": 1, "governance_delay_ms": 0}),
            platforms=tuple(platforms),
            validators=(ValidatorLeaf(key=validator.public, power=10, platform=platform_id(platforms[0].root)),),
            services=("pay",),
            measurements=(),
        )
        config = parse_node_config(
            {
                "chain_id": CHAIN_ID,
                "data_dir": str(directory),
                "genesis": "genesis.json",
                "validator_key": "validator.key",
                "node_id": "node",
                "address_requests_per_s": 0,
            },
            directory,
        )
        store = open_writer(config.store_path, StoreConfig(map_bytes=256 << 20))
        self.solo = Solo(
            store=store,
            application=Application(store, CHAIN_ID),
            key=validator,
            chain_id=CHAIN_ID,
            genesis=genesis,
            clock_ms=now_ms,
            config=SoloConfig(heartbeat_ms=3_000),
        )
        self.solo.start()
        self._loop = Loop()
        self._config = config
        self.decided_path = config.decided_path
        self._store = store
        self.port = self._loop.run(self._start())
        self.url = f"http://127.0.0.1:{self.port}"

    async def _start(self) -> int:
        await SubmissionServer(self.solo, 256).start(self._config.submission_socket)
        self._writer = Link(self._config.submission_socket, LinkLimits(256, 10_000), writer_down)
        self._writer.start()
        api = NodeApi(self._config, self._store, [], self._writer)
        self._server = HttpServer(api.router(), self._config.http_limits())
        port = await self._server.start("127.0.0.1", 0)
        while not self._writer.up:
            await asyncio.sleep(0.01)
        return port

    async def _stop(self) -> None:
        await self._server.stop(100)
        await self._writer.stop()

    def stop(self) -> None:
        self._loop.run(self._stop())
        self.solo.stop()
        self._loop.stop()

    def newest(self) -> HeaderView:
        return parse(HeaderView, httpx.get(f"{self.url}/v1/headers/latest").content)

    def submit(
        self, kind: Kind, payload: Message, *, signer: bytes, by: SignerKind, key: SigningKey, nonce: int
    ) -> int:
        raw = build_transaction(
            CHAIN_ID,
            kind,
            payload,
            signer=signer,
            signer_kind=by,
            key=key,
            nonce=nonce,
            valid_until_ms=now_ms() + 60_000,
        )
        return int(self.solo.enqueue(raw).result(10).result.code)


class Merchant:
    """A merchant with its keys, as it signs up at a platform."""

    def __init__(self) -> None:
        self.controller, self.recovery, self.order_key = new_key(), new_key(), new_key()
        self.recovery_hash = recovery_hash(self.recovery.public)
        self.id = merchant_id(self.controller.public, self.recovery_hash)
        self.nonce = 0

    def consent(self, platform: bytes, serial: int = 0, **changes: Any) -> Any:
        values = {
            "purpose": Purpose.PUBLISH,
            "merchant": self.id,
            "platform": platform,
            "service": "pay",
            "consent_serial": serial,
            "expires_ms": now_ms() + DAY_MS,
        }
        return sign_consent(CHAIN_ID, Consent(**(values | changes)), self.controller)

    def agreement(self, platform: bytes, serial: int = 0, **changes: Any) -> dict[str, Any]:
        return {
            "controller": self.controller.public.hex(),
            "recovery_hash": self.recovery_hash.hex(),
            "service": "pay",
            "consent": to_plain(self.consent(platform, serial)),
            "legal_name": "Café Exemple SARL",
            "display_name": "Café Exemple",
            "kyb_level": "full",
            "mcc": "5812",
            "country": "FR",
            "city": "Lyon",
            "valid_from_ms": now_ms() - DAY_MS,
            "valid_until_ms": now_ms() + 300 * DAY_MS,
            "audience": [],
            "time_zone": "Europe/Paris",
            "terms": to_plain(terms()),
            **changes,
        }

    def send(self, node: Node, kind: Kind, payload: Message) -> None:
        self.nonce += 1
        code = node.submit(
            kind, payload, signer=self.id, by=SignerKind.CONTROLLER, key=self.controller, nonce=self.nonce
        )
        assert code == 0

    def set_order_key(self, node: Node) -> None:
        self.send(node, Kind.MERCHANT_ORDERKEYS, MerchantOrderkeys(order_keys=(self.order_key.public,)))

    def unlink(self, node: Node, platform: bytes) -> None:
        self.send(node, Kind.MERCHANT_UNLINK, MerchantUnlink(platform=platform, service="pay"))

    def code(self, amount_minor: int, reference: str, expiry_ms: int | None = None) -> str:
        label = StaticLabel(self.id, "ocs", "5812", "978", "FR", "Cafe", "Lyon", tip_prompt=True)
        order = OrderTerms(amount_minor, reference, expiry_ms or now_ms() + 600_000)
        return build_dynamic(label, order, self.order_key.sign_bytes, CHAIN_ID)


def terms(**changes: Any) -> PaymentTerms:
    account = AcquiringAccount(
        merchant_number="M-1", settlement_reference="S-1", currency="EUR", amount_max_minor=50_000, store_labels=()
    )
    return PaymentTerms(**({"accounts": (account,), "tip_mode": TipMode.PROMPT} | changes))


class Keys:
    """What a platform has in files before it runs, and how it was admitted."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        with socket.create_server(("127.0.0.1", 0)) as free:  # the address that the chain names to partners
            self.port = free.getsockname()[1]
        self.admission = create_platform_keys(
            directory,
            chain_id=CHAIN_ID,
            name=name,
            entropy=secrets.token_bytes,
            now_ms=now_ms(),
            url=f"http://127.0.0.1:{self.port}",
        )
        self.id = platform_id(self.admission.root)

    def key(self, role: Role) -> SigningKey:
        return load_key(self.directory / key_file(role))

    def save_trust(self, node: Node) -> None:
        certificate = parse(AnchorCertificate, (self.directory / ANCHOR_CERTIFICATE_FILE).read_bytes())
        file = build_trust_file(node.newest(), certificate, self.key(Role.ANCHOR), now_ms())
        save_private(self.directory / TRUST_FILE, file.encoded(), replace=True)

    def freeze(self, node: Node, merchant: bytes) -> None:
        code = node.submit(
            Kind.MERCHANT_FREEZE,
            MerchantFreeze(merchant=merchant),
            signer=self.id,
            by=SignerKind.PLATFORM,
            key=self.key(Role.GOVERNANCE),
            nonce=now_ms(),
        )
        assert code == 0

    def suspend(self, node: Node) -> None:
        root = load_key(self.directory / ROOT_KEY_FILE)
        code = node.submit(
            Kind.PLATFORM_SUSPEND, PlatformSuspend(), signer=self.id, by=SignerKind.ROOT, key=root, nonce=1
        )
        assert code == 0

    def options(self, data_dir: Path, node_url: str) -> dict[str, Any]:
        files = {
            f"{role.name.lower()}_key_file": str(self.directory / key_file(role))
            for role in (Role.TRANSACTION, Role.RECORD, Role.DEVICE, Role.RECEIPT, Role.ANCHOR)
        }
        return {
            "chain_id": CHAIN_ID,
            "name": self.name,
            "root_public_key": self.admission.root.hex(),
            "data_dir": str(data_dir),
            "node_url": node_url,
            "port": 0,
            "operator_token": OPERATOR,
            "trust_file": str(self.directory / TRUST_FILE),
            "anchor_certificate_file": str(self.directory / ANCHOR_CERTIFICATE_FILE),
            "epoch_key_file": str(self.directory / EPOCH_KEY_FILE),
            "allow_solo": True,
            "sandbox": True,
            "sandbox_opening_minor": OPENING,
            "outbox_retry_ms": 50,
            "partner_private_addresses": True,
            **files,
        }

    def config(self, directory: Path, node_url: str, **changes: Any) -> PlatformConfig:
        path = directory / "platform.json"
        options = self.options(directory / "data", node_url) | changes
        save_private(path, json.dumps(options).encode(), replace=True)
        return load_config(path)


class Server:
    """One platform behind real HTTP."""

    def __init__(self, config: PlatformConfig, clock_ms: Callable[[], int] = now_ms) -> None:
        self.platform: Platform = open_platform(config, clock_ms)
        self.sender = Sender(self.platform)
        listener = socket.create_server(("127.0.0.1", config.port))
        self.notices = open_notices(self.platform)
        app = PlatformApp(self.platform, self.sender, self.notices).starlette()
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            timeout=20,
            event_hooks={"response": [require_documented]},
        )

    def stop(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(5)
        self.notices.close()
        self.platform.database.close()

    def operator(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {OPERATOR}"} | options.pop("headers", {})
        return self.http.request(method, path, headers=headers, **options)

    def live_merchant(self, merchant: Merchant | None = None, **changes: Any) -> Merchant:
        """A merchant with a published record; `till` is its token."""
        merchant = merchant or Merchant()
        signed = self.operator("POST", "/v1/merchants", json=merchant.agreement(self.platform.id, **changes))
        assert signed.status_code == 201, signed.text
        merchant.till = signed.json()["till_token"]  # type: ignore[attr-defined]
        published = self.operator("POST", f"/v1/merchants/{merchant.id.hex()}/publish")
        assert published.status_code == 200, published.text
        assert published.json()["state"] == "live"
        return merchant


def key_proof(device: SigningKey, body: bytes, at_ms: int | None = None) -> str:
    """That the device enrols by this body itself."""
    return device_key_header(CHAIN_ID, device, "POST", "/v1/devices", body, at_ms or now_ms())


def enrol(server: Server, device: SigningKey, **body: Any) -> httpx.Response:
    """The answer to a device that enrols."""
    content = json.dumps({"device": device.public.hex(), **body}).encode()
    at_ms = server.platform.clock_ms()
    headers = {"content-type": "application/json", DEVICE_KEY_HEADER: key_proof(device, content, at_ms)}
    return server.http.post("/v1/devices", content=content, headers=headers)


class Payer:
    """A device with an account."""

    def __init__(self, server: Server, **body: Any) -> None:
        self.server, self.device = server, new_key()
        answer = enrol(server, self.device, **body)
        assert answer.status_code == 201, answer.text
        self.credential = bytes.fromhex(answer.json()["credential"])
        self.account = answer.json()["account"]

    def send(
        self, method: str, path: str, body: bytes = b"", key: str | None = None, at_ms: int | None = None, **more: str
    ) -> httpx.Response:
        headers = {
            "onecode-device": device_header(
                CHAIN_ID, self.credential, self.device, method, path, body, at_ms or now_ms(), key
            ),
            "content-type": "application/cbor",
            **more,
        }
        if key is not None:
            headers["idempotency-key"] = key
        return self.server.http.request(method, path, content=body, headers=headers)

    def request(self, merchant: Merchant, **order: Any) -> PaymentRequest:
        """What a wallet would send now: version and commitment of the newest link."""
        view = self.server.platform.chain.fetch_merchant(merchant.id, "pay")
        assert view.state is not None
        link = view.state.link_of(self.server.platform.id)
        assert link is not None
        return PaymentRequest(
            merchant=merchant.id,
            service="pay",
            platform=self.server.platform.id,
            version=link.version,
            commitment=link.commitment,
            order=Order(**({"amount_minor": 1_250, "currency": "EUR", "tip_minor": 0} | order)),
        )

    def pay(self, request: PaymentRequest, key: str | None = None) -> httpx.Response:
        return self.send("POST", "/v1/payments", request.encoded(), key or os.urandom(8).hex())

    def balance(self, currency: str = "EUR") -> int:
        balances = self.send("GET", "/v1/account").json()["balances"]
        return int(next(row["balance_minor"] for row in balances if row["currency"] == currency))
