"""An old label of another scheme is paid unprinted: bound by alias, refused with proof after its release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from onecode.cli.main import cli
from onecode.cli.up import addresses
from onecode.code.emv import with_crc
from onecode.code.image import png_bytes
from onecode.code.tlv import DataObject, join_objects
from onecode.network.local import LocalNetwork
from onecode.network.plan import plan_network

SCHEME, OTHER_SCHEME = "A000000999010111", "x.example.bank"  # made up
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
        "tip_mode": "none",
    },
}


def old_label(*accounts: tuple[str, dict[str, str]], amount: str | None = None) -> str:
    """A label as it hangs on counters: no city, no category, the scheme's own sub-objects."""
    templates = (
        str(DataObject(f"{29 + index}", join_objects([DataObject("00", guid), *map(DataObject, subs, subs.values())])))
        for index, (guid, subs) in enumerate(accounts)
    )
    paid = "" if amount is None else str(DataObject("54", amount))
    return with_crc("000201010211" + "".join(templates) + "5303156" + paid + "5802CN5907NOODLES")


PROXY = {"01": "0066812345678", "02": "not part of it"}
LABEL = old_label((SCHEME, PROXY))


def command(*words: object, exit_code: int = 0) -> dict[str, Any]:
    """What a command prints, or its problem where it is to fail."""
    done = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert done.exit_code == exit_code, (words, done.exit_code, done.stderr)
    value = json.loads(done.stdout if exit_code == 0 else done.stderr)
    assert isinstance(value, dict)
    return value


class Shop:
    """A merchant of the first platform, with its keys and a live record."""

    def __init__(self, directory: Path, network: dict[str, Any], name: str) -> None:
        self.keys, self.node = directory / name, network["node"]
        self.platform, self.other = network["platforms"]
        self.id = command("merchant", "keys", self.keys, "--chain-id", network["chain_id"])["merchant"]
        handed, record = directory / f"{name}.handed", directory / f"{name}.record"
        consent = command("merchant", "consent", self.keys, "--platform", self.platform["id"])
        handed.write_text(json.dumps(consent), "utf-8")
        record.write_text(json.dumps(RECORD), "utf-8")
        self.config = ("--config", self.platform["config"])
        command("platform", "sign", record, "--handed", handed, *self.config)
        assert command("platform", "publish", self.id, *self.config)["state"] == "live"

    def consent(self, label: object, path: Path, *more: object) -> Path:
        """The merchant's consent for an alias, in a file."""
        words = ("--platform", self.platform["id"], "--alias", label, "--node", self.node, *more)
        path.write_text(json.dumps(command("merchant", "consent", self.keys, *words)), "utf-8")
        return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalNetwork, dict[str, Any]]]:
    def plan() -> Any:
        return plan_network(
            "solo-alias",
            [("alder", "Alder Pay"), ("birch", "Birch Pay")],
            governance_delay_ms=500,
            heartbeat_ms=1_000,
            sandbox_opening_minor={"CNY": 100_000},
        )

    with LocalNetwork(tmp_path_factory.mktemp("alias"), plan) as running:
        running.start()
        yield running, addresses(running)


def test_an_old_label_is_paid_unprinted_until_its_merchant_releases_it(
    network: tuple[LocalNetwork, dict[str, Any]], tmp_path: Path
) -> None:
    running, reached = network
    shop = Shop(tmp_path, reached, "shop")
    picture, wallet = tmp_path / "old.png", tmp_path / "wallet"
    picture.write_bytes(png_bytes(LABEL))
    command("wallet", "enroll", wallet, "--profile", shop.platform["wallet_profile"])

    # nobody speaks for the scheme
    assert command("wallet", "resolve", wallet, picture, exit_code=4)["code"] == "alias.unassigned"
    words = ("merchant", "consent", shop.keys, "--platform", shop.platform["id"], "--alias", picture)
    assert command(*words, "--node", shop.node, exit_code=4)["code"] == "alias.none"
    assert command(*words, exit_code=2)["code"] == "cli.node"

    # Alder does, and nothing is bound
    running.assign_scheme(SCHEME, "alder", ("01",))
    assert command("wallet", "resolve", wallet, picture, exit_code=4)["code"] == "alias.absent"

    # bound by Alder with the merchant's consent, by nobody else; twice is once
    handed = shop.consent(picture, tmp_path / "alias.json")
    refused = command("platform", "alias-bind", handed, "--config", shop.other["config"], exit_code=3)
    assert refused["code"] == "alias.consent"
    for _ in range(2):
        assert command("platform", "alias-bind", handed, *shop.config)["state"] == "done"
    (listed,) = command("platform", "aliases", shop.id, *shop.config)["aliases"]
    assert (listed["guid"], listed["values"], listed["bound"]) == (SCHEME, [PROXY["01"]], True)

    # paid unprinted: the name is the record's, and where the label says otherwise is said
    found = command("wallet", "resolve", wallet, picture)
    assert found["name"] == "Lanzhou Noodle House"
    assert [(one["code"], one["printed"]) for one in found["differences"]] == [("differs.name", "NOODLES")]
    paid = command("wallet", "pay", wallet, picture, "--amount", "28.50")
    assert (paid["state"], paid["total"], paid["name"]) == ("posted", "28.50 CNY", "Lanzhou Noodle House")

    # what else such a label may be
    (tmp_path / "amount.png").write_bytes(png_bytes(old_label((SCHEME, PROXY), amount="1.00")))
    assert command("wallet", "pay", wallet, tmp_path / "amount.png", "--amount", "1", exit_code=3)["code"] == (
        "code.amount_unsigned"
    )
    (tmp_path / "stranger.png").write_bytes(png_bytes(old_label((SCHEME, {"01": "0066899999999"}))))
    assert command("wallet", "resolve", wallet, tmp_path / "stranger.png", exit_code=4)["code"] == "alias.absent"

    # released by the merchant, whatever any platform wants: refused with proof, and the old consent binds no more
    command("merchant", "release", shop.keys, picture, "--node", shop.node)
    assert command("wallet", "pay", wallet, picture, "--amount", "1", exit_code=4)["code"] == "alias.absent"
    refused = command("platform", "alias-bind", handed, *shop.config, exit_code=4)
    assert (refused["code"], "consent-serial" in refused["detail"]) == ("alias.refused", True), refused
    (listed,) = command("platform", "aliases", shop.id, *shop.config)["aliases"]
    assert not listed["bound"]
    again = command("merchant", "release", shop.keys, picture, "--node", shop.node, exit_code=4)
    assert (again["code"], "alias-unknown" in again["detail"]) == ("transaction.declined", True), again

    # a new consent binds it again
    handed = shop.consent(LABEL, tmp_path / "alias.json")
    assert command("platform", "alias-bind", handed, *shop.config)["state"] == "done"
    assert command("wallet", "resolve", wallet, picture)["name"] == "Lanzhou Noodle House"


def test_a_label_whose_aliases_name_two_merchants_is_refused(
    network: tuple[LocalNetwork, dict[str, Any]], tmp_path: Path
) -> None:
    running, reached = network
    first, second = (Shop(tmp_path, reached, name) for name in ("first", "second"))
    running.assign_scheme(OTHER_SCHEME, "alder", ("03", "01"))
    one, two = {"01": "a", "03": "c"}, {"01": "a", "03": "d"}
    for shop, subs in ((first, one), (second, two)):
        handed = shop.consent(old_label((OTHER_SCHEME, subs)), tmp_path / "alias.json")
        assert json.loads(handed.read_text("utf-8"))["values"] == [subs["03"], subs["01"]]
        assert command("platform", "alias-bind", handed, *shop.config)["state"] == "done"
    wallet = tmp_path / "wallet"
    command("wallet", "enroll", wallet, "--profile", first.platform["wallet_profile"])
    both = tmp_path / "both.png"
    both.write_bytes(png_bytes(old_label((OTHER_SCHEME, one), (OTHER_SCHEME, two))))
    assert command("wallet", "pay", wallet, both, "--amount", "1", exit_code=4)["code"] == "alias.conflict"
    several = command("merchant", "release", first.keys, both, "--node", first.node, exit_code=2)
    assert several["code"] == "alias.several"
    taken = second.consent(old_label((OTHER_SCHEME, one)), tmp_path / "taken.json")
    refused = command("platform", "alias-bind", taken, *second.config, exit_code=4)
    assert "alias-bound" in refused["detail"]
