"""From a picture to a payment by the commands alone, over a network that is stopped, started again and killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_S, STOP_S, COMMAND_S = 60, 20, 30
RECORD = {
    "legal_name": "Lanzhou Noodle House Ltd",
    "display_name": "Lanzhou Noodle House",
    "mcc": "5812",
    "country": "CN",
    "city": "Shanghai",
    "time_zone": "Asia/Shanghai",
    "terms": {
        "accounts": [
            {"merchant_number": "m-1", "settlement_reference": "s-1", "currency": "CNY", "store_labels": []},
        ],
        "tip_mode": "prompt",
    },
}
LABEL = [
    "--name",
    "Lanzhou Noodle House",
    "--city",
    "Shanghai",
    "--mcc",
    "5812",
    "--currency",
    "CNY",
    "--country",
    "CN",
]


def command(*words: object, exit_code: int = 0) -> dict[str, Any]:
    """What a command prints, or its problem where it is to fail."""
    done = subprocess.run(
        [sys.executable, "-m", "onecode", *map(str, words), "--json"],
        capture_output=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == exit_code, (words, done.returncode, done.stderr.decode())
    value = json.loads(done.stdout if exit_code == 0 else done.stderr)
    assert isinstance(value, dict)
    return value


@contextmanager
def network(data: Path, stop: signal.Signals) -> Iterator[dict[str, Any]]:
    """`onecode up`, ended with `stop`; afterwards nothing of it may run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "onecode", "up", "--data", str(data), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read().decode()
        addresses = json.loads(line)
        yield addresses
        process.send_signal(stop)
        code = process.wait(STOP_S)
        assert code == (-9 if stop == signal.SIGKILL else 0), process.stderr.read().decode()
        for url in (addresses["node"], *(one["url"] for one in addresses["platforms"])):
            require_gone(url)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def require_gone(url: str) -> None:
    """Nobody answers at `url` any more, soon."""
    until = time.monotonic() + STOP_S
    while time.monotonic() < until:
        try:
            httpx.get(url, timeout=1, trust_env=False)
        except httpx.TransportError:
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} still answers")


def sign_shop(tmp_path: Path, platform: dict[str, Any]) -> str:
    """Keys, code, agreement and publication, by the commands; returns the merchant id."""
    shop = command("merchant", "keys", tmp_path / "shop")["merchant"]
    command("code", "make", "--keys", tmp_path / "shop", *LABEL, "--out", tmp_path / "code.png")
    handed, record = tmp_path / "handed.json", tmp_path / "record.json"
    handed.write_text(json.dumps(command("merchant", "consent", tmp_path / "shop", "--platform", platform["id"])))
    record.write_text(json.dumps(RECORD))
    config = ("--config", platform["config"])
    assert command("platform", "sign", record, "--handed", handed, *config)["till_token"]
    assert command("platform", "publish", shop, *config)["state"] == "live"
    return str(shop)


def test_a_payer_pays_by_a_picture_and_data_outlive_the_network(tmp_path: Path) -> None:
    data, picture, wallet = tmp_path / "net", tmp_path / "code.png", tmp_path / "wallet"
    with network(data, signal.SIGINT) as addresses:
        alder, birch = addresses["platforms"]
        shop = sign_shop(tmp_path, alder)
        command("wallet", "enroll", wallet, "--profile", alder["wallet_profile"])
        found = command("wallet", "resolve", wallet, picture)
        assert (found["name"], found["platform"], found["differences"]) == ("Lanzhou Noodle House", "Alder Pay", [])
        paid = command("wallet", "pay", wallet, picture, "--amount", "28.50", "--tip", "1", "--note", "noodles")
        assert (paid["state"], paid["total"]) == ("posted", "29.50 CNY")
        key = ("--key", paid["idempotency_key"])
        again = command("wallet", "pay", wallet, picture, "--amount", "28.50", "--tip", "1", "--note", "noodles", *key)
        assert again["payment_id"] == paid["payment_id"]
        other = command("wallet", "pay", wallet, picture, "--amount", "5", *key, exit_code=4)
        assert other["code"] == "payment.key_reused"
        command("wallet", "enroll", tmp_path / "stranger", "--profile", birch["wallet_profile"])
        refused = command("wallet", "resolve", tmp_path / "stranger", picture, exit_code=4)
        assert refused["code"] == "platform.absent"
        second = subprocess.run(
            [sys.executable, "-m", "onecode", "up", "--data", str(data)],
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert second.returncode == 5
        assert b"[network.port_taken]" in second.stderr
        height = command("node", "status", addresses["node"])["height"]
    with network(data, signal.SIGKILL) as addresses:
        assert command("node", "status", addresses["node"])["height"] > height
        assert addresses["platforms"][0]["url"] == alder["url"]
        assert command("wallet", "pay", wallet, picture, "--amount", "3")["state"] == "posted"
        assert len(command("wallet", "history", wallet)["payments"]) == 2
        books = command("platform", "books", "--config", alder["config"])
        assert {total["total_minor"] for total in books["totals"]} == {0}
        command("merchant", "unlink", tmp_path / "shop", "--platform", alder["id"], "--node", addresses["node"])
        assert command("wallet", "pay", wallet, picture, "--amount", "3", exit_code=4)["code"] == "platform.absent"
        (listed,) = command("platform", "merchants", "--config", alder["config"])["merchants"]
        assert listed["merchant_text"] == shop
    with network(data, signal.SIGTERM) as addresses:  # a network that was killed starts again
        assert command("wallet", "resolve", wallet, picture, exit_code=4)["code"] == "platform.absent"
    run_node_alone(data / "node" / "node.json")


def run_node_alone(config: Path) -> None:
    """`onecode node run`: the node's own process, ended by a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "onecode", "node", "run", str(config)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert command("node", "status", url)["chain_id"] == "solo-onecode"
        process.terminate()
        assert process.wait(STOP_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
