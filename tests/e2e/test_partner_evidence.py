"""A partner's record is paid over a real network with its enclave; the evidence is checked by the commands, offline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from integration.edited_network import EditedNetwork
from onecode.cli.main import cli
from onecode.cli.up import addresses
from onecode.code.identity import parse_merchant_text
from onecode.code.image import png_bytes
from onecode.code.label import StaticLabel, build_static
from onecode.network.local import LocalNetwork
from onecode.network.plan import plan_network
from onecode.network.wallets import PROFILE_FILE, open_wallet, profile_of, save_profile
from onecode.record.receipt import Order

ORDER = Order(amount_minor=2_850, currency="CNY", tip_minor=100)


def command(*words: object, exit_code: int = 0) -> dict[str, Any]:
    """What a command prints, or its problem where it is to fail."""
    done = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert done.exit_code == exit_code, (words, done.exit_code, done.stdout, done.stderr)
    value = json.loads(done.stdout if exit_code == 0 else done.stderr)
    assert isinstance(value, dict)
    return value


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalNetwork, dict[str, Any]]]:
    def plan() -> Any:
        return plan_network(
            "solo-partner",
            [("alder", "Alder Pay"), ("birch", "Birch Pay"), ("cedar", "Cedar Pay")],
            governance_delay_ms=500,
            heartbeat_ms=1_000,
            sandbox_opening_minor={"CNY": 100_000},
        )

    def short_days(options: dict[str, Any]) -> None:
        options |= {"checkpoint_period_ms": 1_000, "checkpoint_retry_ms": 100}

    with EditedNetwork(tmp_path_factory.mktemp("partner"), plan, {"platform.json": short_days}) as running:
        running.start()
        yield running, addresses(running)


def sign_shop(directory: Path, birch: dict[str, Any], alder_id: bytes) -> str:
    """A shop of Birch's whose record Alder's payers may pay by; its id as text."""
    shop = command("merchant", "keys", directory / "shop", "--chain-id", "solo-partner")["merchant"]
    handed, record = directory / "handed.json", directory / "record.json"
    handed.write_text(json.dumps(command("merchant", "consent", directory / "shop", "--platform", birch["id"])))
    account = {"merchant_number": "m-1", "settlement_reference": "s-1", "currency": "CNY", "store_labels": []}
    record.write_text(
        json.dumps(
            {
                "legal_name": "Lanzhou Noodle House Ltd",
                "display_name": "Lanzhou Noodle House",
                "mcc": "5812",
                "country": "CN",
                "city": "Shanghai",
                "audience": [alder_id.hex()],
                "terms": {"accounts": [account], "tip_mode": "prompt"},
            }
        )
    )
    command("platform", "sign", record, "--handed", handed, "--config", birch["config"])
    assert command("platform", "publish", shop, "--config", birch["config"])["state"] == "live"
    return str(shop)


def test_a_partners_record_is_paid_refunded_and_its_evidence_checked(
    network: tuple[LocalNetwork, dict[str, Any]], tmp_path: Path
) -> None:
    running, reached = network
    alder, birch, _ = reached["platforms"]
    shop = parse_merchant_text(sign_shop(tmp_path, birch, running.identity("alder")), "ocs")
    wallet = tmp_path / "wallet"
    command("wallet", "enroll", wallet, "--profile", alder["wallet_profile"])
    profile = dataclasses.replace(profile_of(wallet), partners=(running.identity("birch").hex(),))
    save_profile(wallet / PROFILE_FILE, profile)
    early = tmp_path / "early.trust"
    early.write_bytes(running.operator("alder").trust_file())

    label = build_static(StaticLabel(shop, "ocs", "5812", "156", "CN", "Lanzhou", "Shanghai"))
    (tmp_path / "code.png").write_bytes(png_bytes(label))
    with open_wallet(wallet) as opened:
        found = opened.resolve(opened.scan((tmp_path / "code.png").read_bytes()))
        assert found.target.link.platform == running.identity("birch")
        paid = opened.pay(found.target, ORDER)  # Alder asks the enclave as a wallet of its own
        receipt = paid.receipt
        assert (receipt.state.name, receipt.total_minor) == ("POSTED", 2_950)
        assert (receipt.platform, receipt.record_platform) == (running.identity("alder"), running.identity("birch"))
        second = opened.pay(found.target, ORDER)
        assert second.receipt.state.name == "POSTED"

        # the shop gives a part back; it reaches the payer through both platforms
        books = {
            one: command("platform", "books", "--config", platform["config"])
            for one, platform in (("alder", alder), ("birch", birch))
        }
        assert clearing(books["alder"]) == -clearing(books["birch"]) == 2 * 2_950
        theirs = payment_at(running, shop.hex(), tmp_path)
        command("platform", "refund", theirs, "--amount-minor", 850, "--reason", "cold", "--config", birch["config"])
        refunds = wait_for(lambda: opened.refunds(paid))
        assert [(one.refund.total_minor, one.refund.reason) for one in refunds] == [(850, "cold")]
        too_much = ("platform", "refund", theirs, "--amount-minor", 2_001, "--config", birch["config"])
        assert command(*too_much, exit_code=4)["code"] == "refund.too_much"

    # evidence, from an earlier checkpoint and from a later one
    file, late = tmp_path / "payment.evidence", tmp_path / "late.trust"
    export = ("platform", "evidence", receipt.payment_id, "--out", file, "--config", alder["config"])
    command(*export)
    root = profile.platform_root
    check = ("verify", "evidence", file, "--root", root, "--allow-solo", "--trust")
    said = command(*check, early)
    assert (said["record_of"], said["taken_by"], said["partner"]) == ("Birch Pay", "Alder Pay", "posted")
    assert said["name"] == "Lanzhou Noodle House" and said["total"] == "29.50 CNY"
    assert "one organisation's word" in said["word_of"]
    height = said["height"]
    wait_for(lambda: running.node.status()["height"] > height + 1)
    late.write_bytes(running.operator("alder").trust_file())
    assert command(*check, late, exit_code=3)["code"] == "evidence.trace_end"
    assert command(*export, "--trust", late)["headers"] > 0
    assert command(*check, late)["payment_id"] == receipt.payment_id
    assert command(*check, early)["payment_id"] == receipt.payment_id
    # ... and from a checkpoint that two others have countersigned, which the checker keeps
    kept = tmp_path / "kept.checkpoint"
    listing = ("platform", "checkpoints", "--config", alder["config"], "--from")

    def countersigned() -> int | None:
        serial = command(*export)["checkpoint"]
        return serial if serial and command(*listing, serial)["checkpoints"][0]["complete"] else None

    serial = wait_for(countersigned)
    command(*listing, serial, "--out", kept)
    named = ("verify", "evidence", tmp_path / "checkpoint.evidence", "--allow-solo", "--checkpoint", kept)
    command(*export[:4], named[2], *export[5:])
    roots = [one.root for one in running.plan.platforms]
    said = command(*named, *(word for one in roots for word in ("--root", one)))
    assert (said["payment_id"], said["checkpoint_serial"]) == (receipt.payment_id, serial)
    command(*export, "--trust", late)

    running.stop()  # offline
    assert command(*check, late)["payment_id"] == receipt.payment_id
    assert command(*named)["payment_id"] == receipt.payment_id
    assert command(*named[:4], "--checkpoint", "ab" * 32, exit_code=3)["code"] == "checkpoint.named"

    # what a checker does not believe
    assert command("verify", "evidence", file, "--root", root, "--trust", late, exit_code=3)["code"] == "trust.solo"
    other = ("verify", "evidence", file, "--root", "00" * 32, "--allow-solo", "--trust", late)
    assert command(*other, exit_code=3)["code"] == "trust.root"
    assert command(*other[:4], "zz", *other[5:], exit_code=2)["code"] == "cli.root"
    file.write_bytes(file.read_bytes()[:-1])
    assert command(*check, late, exit_code=2)["code"] == "wire.truncated"


def clearing(books: dict[str, Any]) -> int:
    assert {row["total_minor"] for row in books["totals"]} == {0}
    return sum(row["balance_minor"] for row in books["balances"] if row["kind"] == "clearing")


def payment_at(running: LocalNetwork, merchant: str, directory: Path) -> str:
    """The shop's first payment as its own platform knows it, from the database behind it."""
    from sqlalchemy import create_engine, text

    engine = create_engine(f"sqlite:///{running.places.platform('birch') / 'data' / 'platform.sqlite3'}")
    with engine.connect() as connection:
        query = text("SELECT payment_id FROM payments WHERE lower(hex(merchant)) = :merchant ORDER BY rowid")
        return str(connection.execute(query, {"merchant": merchant}).scalars().first())


def wait_for(action: Any, seconds: float = 60.0) -> Any:
    """What `action` gives once it gives something."""
    import time

    until = time.monotonic() + seconds
    while not (found := action()):
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.1)
    return found
