"""A network that four organisations found and run by `onecode network` alone, each in a directory of its own.

One machine and its ports stand in for four; the directories share nothing but what was sent. The tests build on each
other, in their order.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from integration.engine_network import BINARY, require_engine
from onecode.cli.main import cli
from onecode.network.plan import free_ports

NAMES = ("Alder", "Birch", "Cedar", "Dogwood")
START_S, WAIT_S, STOP_S = 150, 90, 60
LABEL = ["--name", "Noodle House", "--city", "Lanzhou", "--mcc", "5812", "--currency", "CNY", "--country", "CN"]
RECORD = {
    "legal_name": "Noodle House Ltd",
    "display_name": "Noodle House",
    "mcc": "5812",
    "country": "CN",
    "city": "Lanzhou",
    "terms": {
        "accounts": [{"merchant_number": "1", "settlement_reference": "1", "currency": "CNY", "store_labels": []}],
        "tip_mode": "none",
    },
}


def command(*words: object, exit_code: int = 0) -> dict[str, Any]:
    """What a command prints, or its problem where it is to fail. In this process; what runs on is `up` alone."""
    done = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert done.exit_code == exit_code, (words, done.exit_code, done.stderr)
    value = json.loads(done.stdout if exit_code == 0 else done.stderr)
    assert isinstance(value, dict)
    return value


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {WAIT_S} s: {what}"
        time.sleep(0.2)
    return found


def addresses(ports: list[int]) -> list[object]:
    api, p2p, rpc = ports[:3]
    words: list[object] = ["--api", f"http://127.0.0.1:{api}", "--api-listen", f"127.0.0.1:{api}"]
    words += ["--p2p", f"127.0.0.1:{p2p}", "--p2p-listen", f"127.0.0.1:{p2p}", "--rpc-port", rpc]
    return [*words, "--engine", BINARY, "--one-machine"]


class Organisations:
    """The directories, and what `onecode network up` runs of each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = free_ports(40)

    def data(self, name: str) -> Path:
        return self.directory / name

    def take_ports(self, number: int) -> list[int]:
        taken, self.ports = self.ports[:number], self.ports[number:]
        return taken

    def found(self) -> None:
        for name in NAMES:
            command("network", "keys", "--data", self.data(name), "--chain-id", "onecode-four", "--name", f"{name} Pay")
            ports = self.take_ports(5)
            words: list[object] = [*addresses(ports), "--sandbox", "--out", self.directory / f"{name}.join"]
            for what, port in (("platform", ports[3]), ("key-service", ports[4])):
                words += [f"--{what}", f"http://127.0.0.1:{port}", f"--{what}-listen", f"127.0.0.1:{port}"]
            command("network", "join-request", "--data", self.data(name), *words)
            self.edit(name)
        parameters, requests = self.directory / "parameters.json", sorted(self.directory.glob("*.join"))
        parameters.write_text('{"governance_delay_ms": 1000}')
        command("network", "collect", *requests, "--out", self.ceremony, "--parameters", parameters)

    def edit(self, name: str) -> None:
        """A heartbeat of a second, so that an idle chain goes on quickly."""
        file = self.data(name) / "organisation.json"
        stored = json.loads(file.read_text())
        stored["options"]["node"] = {"heartbeat_ms": 1_000}
        file.write_text(json.dumps(stored))

    @property
    def ceremony(self) -> Path:
        return self.directory / "network.ceremony"

    @property
    def signatures(self) -> list[Path]:
        return sorted(self.directory.glob("*.sig"))

    def launch(self, name: str, *more: object) -> None:
        words = [sys.executable, "-m", "onecode", "network", "up", "--data", str(self.data(name)), "--json"]
        words += map(str, more)
        with (self.directory / f"{name}.err").open("ab") as errors:
            self.running[name] = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)

    def wait_ready(self, name: str) -> dict[str, Any]:
        process = self.running[name]
        assert process.stdout is not None
        timer = time.monotonic()
        os.set_blocking(process.stdout.fileno(), False)
        line = b""
        while not line.endswith(b"\n"):
            line += process.stdout.read() or b""
            assert process.poll() is None and time.monotonic() - timer < START_S, self.said(name)
            time.sleep(0.05)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def said(self, name: str) -> str:
        logs = sorted((self.data(name) / "logs").glob("*.log"))
        return "\n".join([(self.directory / f"{name}.err").read_text(), *(log.read_text()[-2000:] for log in logs)])

    def down(self, name: str) -> None:
        assert command("network", "down", "--data", self.data(name)) == {"stopped": True}
        assert self.running.pop(name).wait(STOP_S) == 0

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def status(self, name: str = "Birch") -> dict[str, Any]:
        return command("network", "status", "--once", "--data", self.data(name))

    def decide(self, proposal: dict[str, Any]) -> None:
        """Birch and Cedar approve what Alder proposed: 3 of 4 platforms."""
        assert proposal["state"] == "open"
        states = [
            command("network", "approve", proposal["proposal"], "--yes", "--data", self.data(name))["state"]
            for name in ("Birch", "Cedar")
        ]
        assert states == ["open", "executed"]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisations]:
    require_engine()
    organisations = Organisations(tmp_path_factory.mktemp("o"))
    try:
        organisations.found()
        yield organisations
    finally:
        organisations.stop()


def test_each_computes_the_same_genesis_and_none_starts_before_all_have_signed(four: Organisations) -> None:
    computed = {command("network", "genesis", four.ceremony)["genesis_hash"] for _ in NAMES}
    assert len(computed) == 1
    (said,) = computed
    for name in NAMES:
        out = four.directory / f"{name}.sig"
        command("network", "sign-genesis", four.ceremony, "--data", four.data(name), "--hash", said, "--out", out)
    words = ("network", "install", four.ceremony, *four.signatures[1:], "--data", four.data("Alder"))
    assert command(*words, exit_code=3)["code"] == "ceremony.unsigned"
    for name in NAMES:
        command("network", "install", four.ceremony, *four.signatures, "--data", four.data(name))


def test_four_directories_make_one_chain(four: Organisations) -> None:
    for name in NAMES:
        four.launch(name)
    for name in NAMES:
        assert four.wait_ready(name)["kind"] == "member"
    found = wait_for(lambda: leased(four.status(), 4, 4), "every enclave has every platform's keys")
    assert (found["validators"], found["power"]) == (4, 40)
    assert {row["name"] for row in found["nodes"]} == {f"{name} Pay" for name in NAMES}
    assert all(row["up"] and row["engine_up"] and row["peers"] == 3 for row in found["nodes"])
    assert command("network", "up", "--data", four.data("Alder"), exit_code=5)["code"] == "organisation.running"


def leased(found: dict[str, Any], nodes: int, platforms: int) -> dict[str, Any] | None:
    rows = [row for row in found["nodes"] if row["up"]]
    return found if len(rows) == nodes and all(len(row["leases"]) == platforms for row in rows) else None


def test_a_merchant_is_published_at_one_and_paid(four: Organisations, tmp_path: Path) -> None:
    shop, config = tmp_path / "shop", four.data("Alder") / "platform" / "platform.json"
    profile = config.with_name("profile.json")
    command("merchant", "keys", shop, "--chain-id", "onecode-four")
    platform = command("network", "check", four.directory / "Alder.join")["platform"]
    handed, record = tmp_path / "handed.json", tmp_path / "record.json"
    handed.write_text(json.dumps(command("merchant", "consent", shop, "--platform", platform)))
    record.write_text(json.dumps(RECORD))
    command("platform", "sign", record, "--handed", handed, "--config", config)
    merchant = json.loads(handed.read_text())["merchant"]
    assert command("platform", "publish", merchant, "--config", config)["state"] == "live"
    picture, purse = tmp_path / "shop.png", tmp_path / "purse"
    command("code", "make", "--keys", shop, *LABEL, "--out", picture)
    command("wallet", "enroll", purse, "--profile", profile)
    paid = command("wallet", "pay", purse, picture, "--amount", "28.00")
    assert paid["state"] == "posted"


def test_one_more_node_joins_and_becomes_a_validator_by_vote(four: Organisations) -> None:
    alder = four.data("Alder")
    words = ["--to", four.data("Alder-2"), "--name", "alder-2", *addresses(four.take_ports(3))]
    made = command("network", "add-node", "--data", alder, *words)
    assert not list((four.data("Alder-2") / "keys").glob("root.key"))
    four.launch("Alder-2")
    assert four.wait_ready("Alder-2")["kind"] == "node"
    found = wait_for(lambda: leased(four.status(), 5, 4), "the new node's enclave has the keys")
    assert (found["validators"], found["power"]) == (4, 40)
    request = four.directory / "alder-2.node"
    assert (
        command("network", "node-request", "--data", four.data("Alder-2"), "--out", request)["node_id"]
        == made["node_id"]
    )
    proposal = command("network", "add-validator", request, "--data", alder)
    assert len(proposal["says"]["validators"]) == 5
    four.decide(proposal)
    found = wait_for(lambda: five(four.status()), "the fifth validator votes")
    assert found["power"] == 50
    listed = command("network", "proposals", "--data", four.data("Dogwood"))["proposals"]
    assert [(one["proposal"], one["state"]) for one in listed] == [(proposal["proposal"], "executed")]


def five(found: dict[str, Any]) -> dict[str, Any] | None:
    return found if found["validators"] == 5 else None


def test_a_validator_is_voted_out(four: Organisations) -> None:
    key = command("network", "check", four.directory / "alder-2.node")["validator"]
    proposal = command("network", "remove-validator", key, "--data", four.data("Alder"))
    assert key not in {one["key"] for one in proposal["says"]["validators"]}
    four.decide(proposal)
    wait_for(lambda: four.status()["validators"] == 4, "it votes no more")
    again = command("network", "remove-validator", key, "--data", four.data("Alder"), exit_code=4)
    assert again["code"] == "governance.validator_unknown"


def test_one_moves_behind_its_sentry_with_a_new_anchor_key_while_the_others_go_on(four: Organisations) -> None:
    alder, sentry = four.data("Alder"), command("network", "check", four.directory / "alder-2.node")["peers"]
    before = (alder / "keys" / "anchor.certificate").read_bytes()
    command("network", "rotate-key", "anchor", "--data", alder)
    assert (alder / "keys" / "anchor.certificate").read_bytes() != before
    four.down("Alder")
    height = four.status()["height"]
    wait_for(lambda: four.status()["height"] > height, "the chain goes on")
    url = row_of(four.status(), "Alder Pay")["url"]
    assert not row_of(four.status(), "Alder Pay")["up"]
    own = json.loads((alder / "organisation.json").read_text())
    p2p = four.take_ports(1)[0]  # where nobody else looks for it
    words: list[object] = ["--api", url, "--api-listen", own["api_listen"], "--rpc-port", own["rpc_port"]]
    words += ["--p2p", f"127.0.0.1:{p2p}", "--p2p-listen", f"127.0.0.1:{p2p}", "--peer", sentry]
    command("network", "addresses", "--data", alder, *words, "--engine", BINARY, "--one-machine")
    four.launch("Alder")
    four.wait_ready("Alder")
    found = wait_for(lambda: leased(four.status(), 5, 4), "its enclave has the keys again")
    row = row_of(found, "Alder Pay")
    assert (row["peers"], row["power"]) == (1, 10)


def row_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    (row,) = [row for row in found["nodes"] if row["name"] == name]
    return dict(row)


def test_an_auditor_follows_the_chain_without_a_vote(four: Organisations) -> None:
    auditor, ports = four.data("Auditor"), four.take_ports(3)
    words = ("--chain-id", "onecode-four", "--name", "Auditor", "--observer")
    made = command("network", "keys", "--data", auditor, *words)
    proposal = command(
        "network", "propose", "observer", made["node_id"], made["observer_key"], "--data", four.data("Alder")
    )
    four.decide(proposal)
    command("network", "addresses", "--data", auditor, *addresses(ports))
    said = command("network", "genesis", four.ceremony)["genesis_hash"]
    command("network", "install", four.ceremony, *four.signatures, "--data", auditor, "--hash", said)
    four.launch("Auditor")
    assert four.wait_ready("Auditor")["kind"] == "observer"
    url = f"http://127.0.0.1:{ports[0]}"

    def follows() -> bool:
        rows = {row["url"]: row for row in command("network", "status", "--node", url, "--once")["nodes"]}
        return bool(rows[url]["up"] and not rows[url]["power"] and rows[url]["lag"] <= 1 and len(rows) > 1)

    wait_for(follows, "the auditor's node has the newest header")


def test_a_fifth_organisation_is_admitted_and_starts_from_a_members_trust_file(four: Organisations) -> None:
    elder, ports = four.data("Elder"), four.take_ports(5)
    command("network", "keys", "--data", elder, "--chain-id", "onecode-four", "--name", "Elder Pay")
    request, trust = four.directory / "elder.request", four.directory / "birch.trust"
    words: list[object] = [*addresses(ports), "--key-service", f"http://127.0.0.1:{ports[4]}"]
    words += ["--platform-listen", f"127.0.0.1:{ports[3]}", "--key-service-listen", f"127.0.0.1:{ports[4]}"]
    command("network", "join-request", "--data", elder, "--out", request, *words)
    said = command("network", "genesis", four.ceremony)["genesis_hash"]
    command("network", "install", four.ceremony, *four.signatures, "--data", elder, "--hash", said)
    four.decide(command("network", "propose", "admit", request, "--data", four.data("Alder")))
    trust.write_bytes((four.data("Birch") / "trust.cbor").read_bytes())
    four.launch("Elder", "--trust", trust)
    assert four.wait_ready("Elder")["kind"] == "member"
    # its own enclave gets its own keys at once; the others' key services do not know its SIMULATED vendor yet
    wait_for(lambda: row_of(four.status(), "Elder Pay").get("leases"), "the new platform's enclave has keys")


def test_the_end_leaves_nothing_running(four: Organisations) -> None:
    for process in four.running.values():
        process.send_signal(signal.SIGTERM)
    assert [process.wait(STOP_S) for process in four.running.values()] == [0] * len(four.running)
    left = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if str(four.directory) in words:
            left.append(words)
    assert left == []
