"""Validators on loopback for test_cometbft: real engines, each with the registry beside it, and a load of publishes."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from integration.abci_process import STORE
from onecode.errors import OnecodeError, Unreachable
from onecode.host.clock import now_ms
from onecode.node.blocks import load_place, load_proven
from onecode.node.engine_home import EngineSettings, StateSync, node_id, write_home
from onecode.node.store import ReaderStore, open_reader
from onecode.proof.governance import DAY_MS, DEFAULT_PARAMETERS, HOUR_MS, Parameters, ValidatorLeaf
from onecode.proof.leaves import PlatformNode, Role
from onecode.registry.genesis import Genesis
from onecode.registry.transactions import (
    Consent,
    Kind,
    Publication,
    Purpose,
    RecordPublish,
    SignerKind,
    build_transaction,
    sign_consent,
)
from onecode.schema import to_plain
from onecode.wire import sha256
from unit.registry.world import PAY, Merchant, Platform, signing_key

CHAIN_ID = "onecode-test"
TESTS = ROOT / "tests"
BINARY = ROOT / "bin" / "cometbft"
HEARTBEAT_MS = 1_000
BACK_S = 20.0


def require_engine() -> None:
    """The engine's binary, built if it must be. Without it and without Go the test is skipped, and fails in CI."""
    if not shutil.which("go") and not BINARY.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("NO ENGINE: CI must have Go >= 1.25, so that `make cometbft` can build it")
        pytest.skip("NO ENGINE, SO NO TEST OF THE DISTRIBUTED NETWORK: install Go >= 1.25, then `make cometbft`")
    subprocess.run(["bash", ROOT / "scripts" / "build_cometbft.sh", BINARY.parent], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Any, what: str, seconds: float = BACK_S) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


class Member:
    """One validator: an engine and its application, each a process that may be killed."""

    def __init__(self, directory: Path, name: str, **options: Any) -> None:
        """`options`: of the application, as abci_process.py takes them."""
        self.name, self.options = name, options
        self.script = "abci_process.py"
        self.directory = directory / name
        self.directory.mkdir()
        self.home, self.store, self.socket = self.directory / "engine", self.directory / "store", self.directory / "s"
        self.log = self.directory / "log"
        self.rpc_port, self.p2p_port = free_port(), free_port()
        self.validator_key, self.node_key = signing_key(f"{name}/validator"), signing_key(f"{name}/node")
        self.genesis = directory / "genesis.json"
        self.application: subprocess.Popen[bytes] | None = None
        self.engine: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.p2p_port}"

    @property
    def node_id(self) -> str:
        return node_id(self.node_key)

    def write(
        self,
        genesis: Genesis,
        members: list[Member],
        heartbeat_ms: int = HEARTBEAT_MS,
        state_sync: StateSync | None = None,
    ) -> None:
        """`members`: the peers to connect to; itself is passed over."""
        peers = [one for one in members if one is not self]
        self.options["configured_peers"] = [one.node_id for one in peers]
        settings = EngineSettings(
            home=self.home,
            application=self.socket,
            rpc_port=self.rpc_port,
            p2p=self.address,
            moniker=self.name,
            peers=tuple(f"{one.node_id}@{one.address}" for one in peers),
            heartbeat_ms=heartbeat_ms,
            one_machine=True,
            state_sync=state_sync,
        )
        write_home(settings, genesis, self.validator_key, self.node_key)

    def start(self) -> None:
        arguments = [self.store, self.socket, str(self.rpc_port), self.genesis, json.dumps(self.options)]
        with self.log.open("ab") as log:
            self.socket.unlink(missing_ok=True)
            self.application = subprocess.Popen(
                [sys.executable, TESTS / "integration" / self.script, *arguments],
                env={**os.environ, "PYTHONPATH": str(TESTS)},
                stdout=log,
                stderr=log,
            )
            wait_for(self._listens, "the application's socket")
            self.engine = subprocess.Popen([BINARY, "start", "--home", self.home], stdout=log, stderr=log)

    def _listens(self) -> bool:
        ended = self.application is None or self.application.poll() is not None
        assert not ended, self.log.read_text("utf-8", "replace")[-2000:]
        return self.socket.exists()

    def kill(self, who: str) -> None:
        """kill -9 of `application`, `engine` or `both`. The application ends with its engine. The engine should end
        with its application, but now and then hangs; in a node the kernel ends it with the writer, as is done here."""
        for process, named in ((self.application, "application"), (self.engine, "engine")):
            if process is not None and who in (named, "both"):
                process.kill()
        if self.engine is not None:
            try:
                self.engine.wait(5)
            except subprocess.TimeoutExpired:
                self.engine.kill()
                self.engine.wait()
        if self.application is not None:
            self.application.wait(60)

    def rpc(self, method: str, **parameters: Any) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.rpc_port, timeout=5)
        try:
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
            connection.request("POST", "/", json.dumps(request), {"Content-Type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def reader(self) -> ReaderStore:
        def opened() -> ReaderStore | None:
            try:
                return open_reader(self.store, STORE)
            except Unreachable:
                return None

        found: ReaderStore = wait_for(opened, "the store")
        return found


class Network:
    """`size` validators of equal power, others without a vote, and a platform for each client of the load. `nodes`:
    how many of the members are nodes of the first platform on chain."""

    def __init__(
        self,
        directory: Path,
        size: int,
        clients: int,
        others: int = 0,
        nodes: int = 0,
        parameters: Parameters = DEFAULT_PARAMETERS,
    ) -> None:
        self.members = [Member(directory, f"n{number}") for number in range(size + others)]
        self.platforms = [Platform(f"p{number}") for number in range(clients)]
        time_ms = now_ms()
        self.genesis = Genesis(
            chain_id=CHAIN_ID,
            time_ms=time_ms,
            parameters=parameters,
            platforms=(
                self.platforms[0].admission(time_ms, nodes=platform_nodes(self.members[:nodes])),
                *(platform.admission(time_ms) for platform in self.platforms[1:]),
            ),
            validators=tuple(
                ValidatorLeaf(key=member.validator_key.public, power=10, platform=self.platforms[0].id)
                for member in self.members[:size]
            ),
            services=(PAY,),
            measurements=(),
        )
        (directory / "genesis.json").write_text(json.dumps(to_plain(self.genesis)), "utf-8")
        for member in self.members:
            member.write(self.genesis, self.members)

    def start(self) -> None:
        for member in self.members:
            member.start()

    def stop(self) -> None:
        for member in self.members:
            member.kill("both")


def platform_nodes(members: list[Member]) -> tuple[PlatformNode, ...]:
    return tuple(PlatformNode(node_id=member.node_id, url="https://node.example") for member in members)


def publish(platform: Platform, merchant: Merchant, nonce: int, valid_ms: int = HOUR_MS // 2) -> bytes:
    """A merchant's first record."""
    return publish_many(platform, [merchant], nonce, valid_ms)


def publish_many(platform: Platform, merchants: list[Merchant], nonce: int, valid_ms: int = HOUR_MS // 2) -> bytes:
    """The first records of several merchants, in one transaction."""
    return build_transaction(
        CHAIN_ID,
        Kind.RECORD_PUBLISH,
        RecordPublish(items=tuple(_publication(platform, merchant) for merchant in merchants)),
        signer=platform.id,
        signer_kind=SignerKind.PLATFORM,
        key=platform.keys[Role.TRANSACTION],
        nonce=nonce,
        valid_until_ms=now_ms() + valid_ms,
    )


def _publication(platform: Platform, merchant: Merchant) -> Publication:
    consent = Consent(
        purpose=Purpose.PUBLISH,
        merchant=merchant.id,
        platform=platform.id,
        service=PAY,
        consent_serial=0,
        expires_ms=now_ms() + DAY_MS,
    )
    return Publication(
        merchant=merchant.id,
        service=PAY,
        version=1,
        epoch=1,
        audience=(),
        envelope=b"sealed " + merchant.id,
        commitment=sha256(merchant.id),
        consent=sign_consent(CHAIN_ID, consent, merchant.controller),
        birth=merchant.birth,
    )


class Load:
    """One client a platform, each publishing one merchant after another through a member's engine."""

    def __init__(self, network: Network, member: Member, store: ReaderStore) -> None:
        self.member = member
        self.store = store
        self.acknowledged: list[tuple[bytes, int]] = []
        self.published: list[bytes] = []
        self.refused: list[Any] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in network.platforms]
        for thread in self._threads:
            thread.start()

    def _run(self, platform: Platform) -> None:
        for number in count(1):
            if self._stopping.is_set():
                return
            merchant = Merchant(f"{platform.name}/{number}")
            transaction = publish(platform, merchant, number)
            until = time.monotonic() + 6
            sent_s = 0.0
            while time.monotonic() < until and not self._stopping.is_set():
                if time.monotonic() - sent_s > 1:  # an engine that was killed has forgotten it
                    sent_s = time.monotonic()
                    self._send(transaction)
                height = self._place(transaction)
                if height is not None:
                    self.acknowledged.append((transaction, height))
                    self.published.append(merchant.id)
                    break
                time.sleep(0.01)

    def _send(self, transaction: bytes) -> None:
        try:
            answer = self.member.rpc("broadcast_tx_sync", tx=base64.b64encode(transaction).decode("ascii"))
        except (OSError, http.client.HTTPException, ValueError):
            return
        if answer.get("result", {}).get("code"):
            self.refused.append(answer["result"])

    def _place(self, transaction: bytes) -> int | None:
        """Decided, durable and proven: what a node acknowledges."""
        try:
            with self.store.snapshot() as view:
                place = load_place(view, sha256(transaction))
                return None if place is None or load_proven(view) is None else place[0]
        except OnecodeError:
            return None

    def wait_for_more(self, number: int) -> None:
        before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= before + number, f"{number} more acknowledged")

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(15)
