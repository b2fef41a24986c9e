"""Audit files of real chains, by the command: `solo` and CometBFT, stopped and resumed, verified, executed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration import engine_network, node_network
from integration.engine_network import require_engine
from integration.test_cometbft import RunningNode
from onecode.proof.leaves import Role
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.messages import HeaderView
from onecode.registry.transactions import Kind, RecordWithdraw, Withdrawal
from onecode.schema import parse
from onecode.wire import SigningKey

DAY_MS = 86_400_000


def onecode(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onecode", "audit", *arguments, "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def said(*arguments: str) -> dict[str, Any]:
    done = onecode(*arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def refusal(*arguments: str) -> str:
    done = onecode(*arguments)
    assert done.returncode in (2, 3, 4, 5, 6), done.stderr
    return str(json.loads(done.stderr)["code"])


def key_file(directory: Path, key: SigningKey) -> str:
    path = directory / "transaction.key"
    path.touch(0o600)
    path.write_text(key.seed.hex())
    return str(path)


@pytest.fixture(scope="module")
def solo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[node_network.Network]:
    network = node_network.start(tmp_path_factory.mktemp("audit"), enclave_config=None, heartbeat_ms=100)
    try:
        merchants = [node_network.Merchant(f"m{number}") for number in range(6)]
        for one in merchants:
            network.publish(network.a, one.publication(network.a))
        item = Withdrawal(merchant=merchants[0].id, service="pay", version=1)
        network.submit(network.a.transaction(Kind.RECORD_WITHDRAW, RecordWithdraw(items=(item,))))
        yield network
    finally:
        network.stop()


def by_member(network: node_network.Network) -> list[str]:
    key = key_file(network.directory, network.a.keys[Role.TRANSACTION])
    url = str(network.client.base_url)
    return ["--node", url, "--chain", node_network.CHAIN_ID, "--member", network.a.id.hex(), "--key", key]


def test_a_solo_chain_is_exported_verified_and_executed_again(solo: node_network.Network, tmp_path: Path) -> None:
    file, genesis = str(tmp_path / "span"), str(solo.directory / "genesis.json")
    told = said("export", "--from", "1", "-o", file, *by_member(solo))
    found = said("verify", file, "--genesis", genesis, "--replay", "--allow-solo")
    assert (found["from"], found["to"], found["transactions"]) == (1, told["to"], 7)
    assert found["by_kind"] == [
        {"kind": "record_publish", "result": "ok", "count": 6},
        {"kind": "record_withdraw", "result": "ok", "count": 1},
    ]
    assert said("verify", file, "--header", found["end_hash"], "--allow-solo")["holds"]
    assert refusal("verify", file, "--header", "00" * 32, "--allow-solo") == "audit.anchor_absent"
    assert refusal("verify", file, "--header", found["end_hash"]) == "cli.solo"
    raw = bytearray(Path(file).read_bytes())
    raw[len(raw) // 2] ^= 1
    Path(file).write_bytes(raw)
    assert onecode("verify", file, "--header", found["end_hash"], "--allow-solo").returncode in (2, 3)


def test_against_a_trust_file(solo: node_network.Network, tmp_path: Path) -> None:
    view = parse(HeaderView, solo.get("/v1/headers/3").content)
    now_ms = node_network.now_ms()
    body = TrustBody(
        chain_id=node_network.CHAIN_ID,
        header=view.header,
        validators=view.validators,
        trusting_period_ms=14 * DAY_MS,
        issued_ms=now_ms,
    )
    anchor = solo.a.keys[Role.ANCHOR]
    certificate = certify_anchor(node_network.CHAIN_ID, solo.a.root, anchor.public, now_ms + 80 * DAY_MS)
    trust = tmp_path / "trust.cbor"
    trust.write_bytes(sign_trust_file(body, certificate, anchor).encoded())
    pinned = ["--trust", str(trust), "--root", solo.a.root.public.hex(), "--allow-solo"]
    for first, last in ((2, 5), (5, 7)):
        file = str(tmp_path / f"from-{first}")
        said("export", "--from", str(first), "--to", str(last), "-o", file, *by_member(solo))
        assert said("verify", file, *pinned)["rests_on"][0].startswith("the trust file's header 3")
    said("export", "--from", "1", "--to", "1", "-o", str(tmp_path / "below"), *by_member(solo))
    assert refusal("verify", str(tmp_path / "below"), *pinned) == "audit.anchor_above"


def test_an_export_that_is_killed_goes_on(solo: node_network.Network, tmp_path: Path) -> None:
    node_network.wait_until(lambda: solo.status()["height"] > 60)
    whole, file = tmp_path / "whole", tmp_path / "span"
    said("export", "--from", "1", "--to", "60", "-o", str(whole), *by_member(solo))
    command = [sys.executable, "-m", "onecode", "audit", "export", "--from", "1", "--to", "60", "-o", str(file)]
    for _ in range(3):
        process = subprocess.Popen([*command, *by_member(solo)], stderr=subprocess.DEVNULL)
        part = tmp_path / "span.part"
        until = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < until and not (part.exists() and part.stat().st_size):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        if part.exists():
            assert onecode("verify", str(part), "--header", "00" * 32, "--allow-solo").returncode == 2
    said("export", "--from", "1", "--to", "60", "-o", str(file), *by_member(solo)) if not file.exists() else None
    assert file.read_bytes() == whole.read_bytes()


def test_who_is_no_member_gets_nothing(solo: node_network.Network, tmp_path: Path) -> None:
    stranger = node_network.key("a stranger")
    given = by_member(solo)
    given[-1] = key_file(tmp_path, stranger)
    assert refusal("export", "--from", "1", "-o", str(tmp_path / "span"), *given) == "platform.key_unknown"
    given[-2:] = ["--observer", "nobody", *given[-2:]]
    assert refusal("export", "--from", "1", "-o", str(tmp_path / "span"), *given) == "cli.audit"
    del given[4:6]
    assert refusal("export", "--from", "1", "-o", str(tmp_path / "span"), *given) == "request.observer"
    assert os.listdir(tmp_path) == ["transaction.key"]


@pytest.mark.timeout(600)  # the build of the engine included
def test_a_chain_of_the_engine() -> None:
    require_engine()
    with tempfile.TemporaryDirectory(prefix="net-") as short:
        directory = Path(short)
        network = engine_network.Network(directory, 1, clients=1)
        node = RunningNode(directory, network)
        try:
            for _ in range(5):
                node.publish()
            key = key_file(directory, node.platform.keys[Role.TRANSACTION])
            member = ["--member", node.platform.id.hex(), "--key", key, "--chain", engine_network.CHAIN_ID]
            file = str(directory / "span")
            said("export", "--from", "1", "-o", file, "--node", node.process.said["url"], *member)
        finally:
            node.process.stop(signal.SIGKILL)
        found = said("verify", file, "--genesis", str(directory / "genesis.json"), "--replay")
        assert found["by_kind"] == [{"kind": "record_publish", "result": "ok", "count": 5}]
        assert found["replayed"].startswith("every state")
        assert said("verify", file, "--header", found["end_hash"])["holds"]
