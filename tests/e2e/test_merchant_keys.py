"""A merchant's keys over time, and many merchants at once, by commands on a real network."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from onecode.cli.main import cli
from onecode.cli.up import addresses
from onecode.network.local import LocalNetwork
from onecode.network.plan import plan_network
from onecode.proof.governance import DEFAULT_PARAMETERS

RECOVERY_DELAY_MS = 4_000
RECORD = {
    "legal_name": "Lanzhou Noodle House Ltd",
    "display_name": "Lanzhou Noodle House",
    "mcc": "5812",
    "country": "CN",
    "city": "Shanghai",
    "terms": {
        "accounts": [
            {"merchant_number": "m-1", "settlement_reference": "s-1", "currency": "CNY", "store_labels": []},
        ],
        "tip_mode": "none",
    },
}
LABEL = ("--name", "NOODLES", "--city", "Shanghai", "--mcc", "5812", "--currency", "CNY", "--country", "CN")


def command(*words: object, exit_code: int = 0) -> dict[str, Any]:
    """What a command prints, or its problem where it is to fail."""
    done = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert done.exit_code == exit_code, (words, done.exit_code, done.stderr)
    value = json.loads(done.stdout if exit_code == 0 else done.stderr.splitlines()[-1])
    assert isinstance(value, dict)
    return value


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    def plan() -> Any:
        return plan_network(
            "solo-keys",
            [("alder", "Alder Pay")],
            governance_delay_ms=500,
            heartbeat_ms=1_000,
            sandbox_opening_minor={"CNY": 100_000},
        )

    short = dataclasses.replace(DEFAULT_PARAMETERS, recovery_delay_ms=RECOVERY_DELAY_MS)  # 24 h in production
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onecode.network.setup.DEFAULT_PARAMETERS", short)
        network = LocalNetwork(tmp_path_factory.mktemp("keys"), plan)
    with network as running:
        running.start()
        yield addresses(running)


def sign_up(directory: Path, reached: dict[str, Any]) -> tuple[Path, str]:
    """A merchant with a live record: its keys' directory and its id."""
    (platform,) = reached["platforms"]
    keys = directory / "shop"
    shop = command("merchant", "keys", keys, "--chain-id", reached["chain_id"])["merchant"]
    handed, record = directory / "handed.json", directory / "record.json"
    handed.write_text(json.dumps(command("merchant", "consent", keys, "--platform", platform["id"])))
    record.write_text(json.dumps(RECORD))
    command("platform", "sign", record, "--handed", handed, "--config", platform["config"])
    assert command("platform", "publish", shop, "--config", platform["config"])["state"] == "live"
    return keys, shop


def test_an_order_is_signed_paid_and_ends_with_its_key(reached: dict[str, Any], tmp_path: Path) -> None:
    keys, _ = sign_up(tmp_path, reached)
    (platform,), node = reached["platforms"], reached["node"]
    picture, wallet = tmp_path / "order.png", tmp_path / "wallet"
    order = ("merchant", "order", keys, "--amount", "12.50", "--reference", "T-1", *LABEL, "--out", picture)
    assert command(*order, exit_code=6)["code"] == "merchant.no_order_key"
    first = command("merchant", "orderkeys", keys, "--node", node)["order_key"]
    command(*order)
    command("wallet", "enroll", wallet, "--profile", platform["wallet_profile"])
    paid = command("wallet", "pay", wallet, picture)
    assert (paid["state"], paid["amount"]) == ("posted", "12.50 CNY")
    assert command("wallet", "pay", wallet, picture, exit_code=4)["code"] == "payment.reference_used"

    (keys / "order.key").rename(keys / "order.old.key")
    assert command("merchant", "orderkeys", keys, "--node", node)["order_key"] != first
    refused = command("wallet", "resolve", wallet, picture, exit_code=3)
    assert refused["code"] == "code.order_signature"


def test_the_controller_is_replaced_and_taken_back(reached: dict[str, Any], tmp_path: Path) -> None:
    keys, shop = sign_up(tmp_path, reached)
    (platform,), node = reached["platforms"], reached["node"]
    before = command("merchant", "show", keys)
    rotated = command("merchant", "rotate", keys, "--node", node)["controller"]
    after = command("merchant", "show", keys)
    assert (after["merchant"], after["controller"]) == (shop, rotated)
    assert after["controller"] != before["controller"]
    assert after["consent_serial"] == before["consent_serial"] + 1
    command("merchant", "orderkeys", keys, "--node", node)  # the new key signs
    handed, record = tmp_path / "again.json", tmp_path / "record.json"  # its consents too: gone, and back
    command("merchant", "unlink", keys, "--platform", platform["id"], "--node", node)
    handed.write_text(json.dumps(command("merchant", "consent", keys, "--platform", platform["id"])))
    command("platform", "sign", record, "--handed", handed, "--config", platform["config"])
    assert command("platform", "publish", shop, "--config", platform["config"])["version"] == 2

    # the sheet alone takes the merchant back, after a delay in which the controller signs nothing
    lines = command("merchant", "recovery-sheet", keys)["lines"]
    typed = tmp_path / "typed.txt"
    typed.write_text("\n".join(line for line in lines if len(line.replace(" ", "")) == 16))
    typed.chmod(0o600)
    (keys / "recovery.key").rename(tmp_path / "locked.away")
    command("merchant", "recover", keys, "--node", node, "--recovery", typed)
    refused = command("merchant", "unlink", keys, "--platform", platform["id"], "--node", node, exit_code=4)
    assert refused["code"] in ("transaction.declined", "merchant.unlink_failed", "transaction.refused")
    early = command("merchant", "recovered", keys, "--node", node, exit_code=3)  # the delay is not over
    assert early["code"] == "transaction.untrusted"
    assert command("merchant", "show", keys)["controller"] == rotated
    command("merchant", "recover", keys, "--node", node, "--recovery", typed, "--cancel")
    assert command("merchant", "recovered", keys, "--node", node, exit_code=6)["code"] == "merchant.no_next_key"
    command("merchant", "unlink", keys, "--platform", platform["id"], "--node", node)

    # not cancelled, it takes effect: the old controller is out, the new one signs, its consents count
    taken = command("merchant", "recover", keys, "--node", node, "--recovery", typed)["controller"]
    time.sleep(RECOVERY_DELAY_MS / 1000 + 0.5)
    command("merchant", "orderkeys", keys, "--node", node, exit_code=3)
    assert command("merchant", "recovered", keys, "--node", node)["controller"] == taken
    handed.write_text(json.dumps(command("merchant", "consent", keys, "--platform", platform["id"])))
    command("platform", "sign", record, "--handed", handed, "--config", platform["config"])
    assert command("platform", "publish", shop, "--config", platform["config"])["state"] == "live"
    command("merchant", "unlink", keys, "--platform", platform["id"], "--node", node)

    other = tmp_path / "other.txt"
    other.write_text("ab" * 32)
    other.chmod(0o600)
    wrong = command("merchant", "recover", keys, "--node", node, "--recovery", other, exit_code=6)
    assert wrong["code"] == "merchant.recovery_other"


def bulk_file(directory: Path, reached: dict[str, Any], count: int) -> Path:
    (platform,) = reached["platforms"]
    rows = []
    for number in range(count):
        keys = directory / f"keys{number}"
        command("merchant", "keys", keys, "--chain-id", reached["chain_id"])
        handed = command("merchant", "consent", keys, "--platform", platform["id"])
        handed = {name: handed[name] for name in ("controller", "recovery_hash", "consent")}
        rows.append(RECORD | handed | {"display_name": f"Shop {number}"})
    rows[3]["mcc"] = "no"
    file = directory / "shops.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_many_are_published_over_an_interrupt_and_a_bad_row(reached: dict[str, Any], tmp_path: Path) -> None:
    (platform,) = reached["platforms"]
    file = bulk_file(tmp_path, reached, 40)
    words = [sys.executable, "-m", "onecode", "platform", "publish", "--from", str(file)]
    words += ["--config", platform["config"], "--json"]
    journal = file.with_name(file.name + ".journal")
    stopped = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (journal.exists() and journal.read_text().count("\n") >= 3):
        time.sleep(0.005)
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate(timeout=30)
    assert stopped.returncode == 130 and b"Traceback" not in told, told
    before = len({json.loads(line)["digest"] for line in journal.read_text().splitlines()})
    assert 3 <= before < 39

    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    answer = json.loads(done.stdout.splitlines()[0])
    assert done.returncode == 4 and b"Traceback" not in done.stderr
    assert (answer["rows"], answer["before"], answer["published"]) == (40, before, 39 - before)
    assert [(row["line"], row["field"]) for row in answer["failed"]] == [(4, "agreement.mcc")]
    listed = command("platform", "merchants", "--config", platform["config"])["merchants"]
    shops = [row for row in listed if row["agreement"]["display_name"].startswith("Shop ")]
    assert len(shops) == 39
    assert {(row["state"], row["version"]) for row in shops} == {("live", 1)}
