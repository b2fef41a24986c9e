"""A real node for tests: genesis with two platforms, `solo`, and as processes the enclave and the key services."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from onecode.attest.epochs import encode_epochs
from onecode.code.identity import merchant_id, platform_id, recovery_hash
from onecode.enclave.measure import code_measurement
from onecode.host.clock import now_ms
from onecode.proof.governance import DAY_MS, DEFAULT_PARAMETERS, HOUR_MS, Admission, Measurement, ValidatorLeaf
from onecode.proof.leaves import KeyState, PlatformKey, Role
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.credential import sign_credential
from onecode.query.messages import (
    Answer,
    ClearQuery,
    Credential,
    HeaderView,
    MatchMode,
    NetworkView,
    Query,
    Result,
    SecretQuery,
)
from onecode.query.requests import member_header
from onecode.query.sealing import build_query, open_result
from onecode.record.envelope import RecordIds, commitment, seal_envelope, sign_record
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode
from onecode.record.schema import KybLevel, Record
from onecode.registry.genesis import Genesis
from onecode.registry.transactions import (
    PLATFORM_ROLE,
    Birth,
    Consent,
    Kind,
    Publication,
    Purpose,
    RecordPublish,
    SignerKind,
    build_transaction,
    sign_consent,
)
from onecode.schema import Message, parse, to_plain
from onecode.wire import SigningKey, sha256

CHAIN_ID = "solo-node-test"
CBOR = {"content-type": "application/cbor"}


def key(label: str) -> SigningKey:
    return SigningKey.from_seed(sha256(label.encode()))


DEVICE = key("a payer's device")


def wait_until(holds: Any, timeout_s: float = 20) -> Any:
    """The first true value of `holds()`."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")


class Platform:
    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.root = key(f"{name} root")
        self.id = platform_id(self.root.public)
        self.keys = {role: key(f"{name} {role.name}") for role in Role}
        self.epochs = {1: sha256(f"{name} epoch".encode())}

    def admission(self) -> Admission:
        ends_ms = now_ms() + 80 * DAY_MS
        keys = tuple(
            PlatformKey(
                role=role,
                key=self.keys[role].public,
                state=KeyState.ACTIVE,
                height=0,
                since_ms=0,
                not_after_ms=ends_ms if role == Role.ANCHOR else None,
            )
            for role in Role
        )
        url = f"http://127.0.0.1:{self.port}"
        return Admission(root=self.root.public, name=self.name, keys=keys, key_service_url=url, nodes=())

    def credential(self, device: SigningKey) -> bytes:
        body = Credential(
            platform=self.id,
            device=device.public,
            account=b"account",
            valid_from_ms=now_ms() - 1000,
            valid_until_ms=now_ms() + HOUR_MS,
        )
        return sign_credential(CHAIN_ID, body, self.keys[Role.DEVICE])

    def transaction(self, kind: Kind, payload: Message, **changes: Any) -> bytes:
        given = {
            "signer": self.id,
            "signer_kind": SignerKind.PLATFORM,
            "key": self.keys[PLATFORM_ROLE[kind]],
            "nonce": time.time_ns(),
            "valid_until_ms": now_ms() + HOUR_MS // 2,
        } | changes
        return build_transaction(CHAIN_ID, kind, payload, **given)  # type: ignore[arg-type]

    def member(self, method: str, path: str) -> dict[str, str]:
        header = member_header(CHAIN_ID, self.id, self.keys[Role.TRANSACTION], method, path, b"", now_ms())
        return {"onecode-member": header}


class Merchant:
    def __init__(self, name: str) -> None:
        self.controller, recovery = key(f"{name} controller"), key(f"{name} recovery")
        self.birth = Birth(controller=self.controller.public, recovery_hash=recovery_hash(recovery.public))
        self.id = merchant_id(self.birth.controller, self.birth.recovery_hash)

    def publication(self, platform: Platform, version: int = 1, *, consented: bool = True) -> Publication:
        record = Record(
            schema=1,
            merchant=self.id,
            platform=platform.id,
            service="pay",
            version=version,
            legal_name="Noodle House GmbH",
            display_name="Noodle House",
            kyb_level=KybLevel.FULL,
            mcc="5812",
            country="DE",
            city="Berlin",
            valid_from_ms=now_ms() - DAY_MS,
            valid_until_ms=now_ms() + DAY_MS,
            audience=(),
            time_zone="Europe/Berlin",
            terms=PaymentTerms(
                accounts=(
                    AcquiringAccount(
                        merchant_number="ACQ-1", settlement_reference="s-1", currency="EUR", store_labels=()
                    ),
                ),
                tip_mode=TipMode.NONE,
            ).encoded(),
        )
        ids = RecordIds(merchant=self.id, platform=platform.id, service="pay", version=version, epoch=1)
        signed = sign_record(CHAIN_ID, record, secrets.token_bytes(32), platform.keys[Role.RECORD])
        consent = Consent(
            purpose=Purpose.PUBLISH,
            merchant=self.id,
            platform=platform.id,
            service="pay",
            consent_serial=0,
            expires_ms=now_ms() + DAY_MS,
        )
        return Publication(
            merchant=self.id,
            service="pay",
            version=version,
            epoch=1,
            audience=(),
            envelope=seal_envelope(CHAIN_ID, ids, signed, platform.epochs[1], secrets.token_bytes(12)),
            commitment=commitment(CHAIN_ID, ids, signed.salt, signed.record),
            consent=sign_consent(CHAIN_ID, consent, self.controller) if consented else None,
            birth=self.birth,
        )


class Process:
    """A child that says on one line of JSON that it is ready."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"{arguments[0]} ended with {self.process.wait()}")
        self.said: dict[str, Any] = json.loads(line)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


class Network:
    """One node in `directory`. `start` brings up the node alone, `attest` its enclave and the key services."""

    def __init__(self, directory: Path, ports: tuple[int, int], **options: Any) -> None:
        self.directory = directory
        self.a, self.b = Platform("A", ports[0]), Platform("B", ports[1])
        self.vendor, self.validator = key("vendor"), key("validator")
        self.services: list[Process] = []
        self._secret("validator.key", self.validator.seed.hex().encode())
        self._secret("vendor.key", self.vendor.seed.hex().encode())
        genesis = Genesis(
            chain_id=CHAIN_ID,
            time_ms=now_ms(),
            parameters=DEFAULT_PARAMETERS,
            platforms=(self.a.admission(), self.b.admission()),
            validators=(ValidatorLeaf(key=self.validator.public, power=10, platform=self.a.id),),
            services=("pay",),
            measurements=(Measurement(kind="software", measurement=code_measurement(), effective_ms=0),),
        )
        (directory / "genesis.json").write_text(json.dumps(to_plain(genesis)))
        self.config: dict[str, Any] = {
            "chain_id": CHAIN_ID,
            "data_dir": "data",
            "genesis": "genesis.json",
            "validator_key": "validator.key",
            "node_id": "node-1",
            "api_port": 0,
            "workers": 2,
            "enclave_config": "enclave.json",
            "heartbeat_ms": 500,
            "relay_poll_ms": 100,
            "relay_private_addresses": True,
            "restart_delay_ms_min": 100,
            "store_map_bytes": 1 << 30,
        } | options
        self.node: Process | None = None

    def _secret(self, name: str, data: bytes) -> str:
        path = self.directory / name
        path.write_bytes(data)
        path.chmod(0o600)
        return str(path)

    def start(self) -> None:
        path = self.directory / "config.json"
        path.write_text(json.dumps(self.config))
        self.node = Process("onecode.node", str(path))
        self.config["api_port"] = int(self.node.said["url"].rpartition(":")[2])
        self.client = httpx.Client(base_url=self.node.said["url"], timeout=20)

    def attest(self, **key_service: Any) -> None:
        """Write the trust file of a header that the node gives, start enclave and key services, wait for the keys."""
        view = parse(HeaderView, self.get("/v1/headers/latest").content)
        body = TrustBody(
            chain_id=CHAIN_ID,
            header=view.header,
            validators=view.validators,
            trusting_period_ms=14 * DAY_MS,
            issued_ms=now_ms(),
        )
        anchor = self.a.keys[Role.ANCHOR]
        certificate = certify_anchor(CHAIN_ID, self.a.root, anchor.public, now_ms() + 80 * DAY_MS)
        file = sign_trust_file(body, certificate, anchor)
        trust = self._secret("trust.cbor", file.encoded())
        pinned = {
            "chain_id": CHAIN_ID,
            "trust_file": trust,
            "pinned_root": self.a.root.public.hex(),
            "allow_solo": True,
        }
        enclave = pinned | {
            "node_id": "node-1",
            "socket": str(self.directory / "data" / "enclave.sock"),
            "vendor_key": str(self.directory / "vendor.key"),
            "workers": self.config.get("enclave_workers", 1),
        }
        new = self.directory / "enclave.new"
        new.write_text(json.dumps(enclave))
        new.replace(self.directory / "enclave.json")
        self.pinned = pinned | key_service
        for platform in (self.a, self.b):
            self.start_key_service(platform)
        wait_until(lambda: len(self.leases()) == 2)

    def start_key_service(self, platform: Platform) -> None:
        options = self.pinned | {
            "platform": platform.id.hex(),
            "node_url": str(self.client.base_url),
            "key_file": self._secret(f"{platform.name}.key", platform.keys[Role.KEY_SERVICE].seed.hex().encode()),
            "epochs_file": self._secret(f"{platform.name}.epochs", encode_epochs(platform.epochs)),
            "measurements": [code_measurement().hex()],
            "vendors": [self.vendor.public.hex()],
            "allow_simulated": True,
            "port": platform.port,
        }
        path = self.directory / f"keys-{platform.name}.json"
        path.write_text(json.dumps(options))
        self.services.append(Process("onecode.keys", str(path)))

    def stop(self) -> None:
        for process in [*self.services, *([self.node] if self.node else [])]:
            process.stop()

    # --- what a client does

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def status(self) -> dict[str, Any]:
        return dict(self.get("/v1/status").json())

    def leases(self) -> list[Any]:
        return list((self.status()["enclave"] or {}).get("leases", []))

    def submit(self, transaction: bytes, wait: str = "decided") -> httpx.Response:
        return self.client.post(f"/v1/transactions?wait={wait}", content=transaction, headers=CBOR)

    def publish(self, platform: Platform, *items: Publication) -> dict[str, Any]:
        response = self.submit(platform.transaction(Kind.RECORD_PUBLISH, RecordPublish(items=items)))
        assert response.status_code == 200, response.text
        return dict(response.json())

    def network(self) -> NetworkView:
        return parse(NetworkView, self.get("/v1/network").content)

    def query(
        self, platform: Platform, query_key: bytes, device: SigningKey = DEVICE, **clear: Any
    ) -> tuple[ClearQuery, SecretQuery, Query]:
        given = ClearQuery(protocol=1, chain_id=CHAIN_ID, service="pay", query_key=query_key, **clear)
        secret = SecretQuery(
            query_id=secrets.token_bytes(16),
            credential=platform.credential(device),
            accepted=(platform.id,),
            mode=MatchMode.NODE,
            time_ms=now_ms(),
            reply_key=secrets.token_bytes(32),
        )
        return given, secret, build_query(given, secret, device)

    def ask(
        self, platform: Platform, query_key: bytes, device: SigningKey = DEVICE, **clear: Any
    ) -> tuple[ClearQuery, SecretQuery, Answer, Result]:
        given, secret, query = self.query(platform, query_key, device, **clear)
        response = self.client.post("/v1/query", content=query.encoded(), headers=CBOR)
        assert response.status_code == 200, response.text
        answer = parse(Answer, response.content)
        return given, secret, answer, open_result(CHAIN_ID, answer.sealed, secret.reply_key, sha256(query.clear))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(directory: Path, **options: Any) -> Network:
    first, second = free_ports(2)
    network = Network(directory, (first, second), **options)
    network.start()
    return network


def alive(pid: int) -> bool:
    """Whether a process runs (and is no zombie)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")
