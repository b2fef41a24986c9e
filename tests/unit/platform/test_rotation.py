"""Rotating the epoch key: nothing is sealed under a key that enclaves have not got, and no record is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from onecode.cli.main import cli
from onecode.errors import Declined
from onecode.host.clock import now_ms
from onecode.platform.epochs import create_epochs, load_epochs
from onecode.platform.merchants import publish
from onecode.platform.rotation import AGAIN_MS
from onecode.platform.schema import OutboxRow, OutboxState, RecordRow, RecordState
from onecode.record.envelope import SignedRecord
from onecode.record.schema import parse_record
from onecode.registry.transactions import Kind, PlatformEpoch, SignerKind
from onecode.schema import parse
from unit.platform.test_payments import code_of
from unit.platform.world import OPERATOR, Keys, Merchant, Node, Payer, Server

pytestmark = pytest.mark.clock

LEAD_MS = 20_000  # short, since the node refuses requests that are signed a minute ahead


class Rotating:
    """A platform with an epoch file of its own, and a clock that a test moves on."""

    def __init__(self, node: Node, keys: Keys, directory: Path) -> None:
        self.ahead_ms = 0
        self.path = directory / "epochs.json"
        create_epochs(self.path, lambda size: b"1" * size)
        options = {"epoch_key_file": str(self.path), "epoch_lead_ms": LEAD_MS}
        self.server = Server(keys.config(directory, node.url, **options), lambda: now_ms() + self.ahead_ms)

    def ask(self, method: str, path: str) -> Any:
        return self.server.operator(method, path)

    def rotate(self) -> dict[str, Any]:
        return dict(self.ask("POST", "/v1/epochs").json())

    def live(self) -> dict[bytes, tuple[int, int]]:
        """Version and epoch of each live record."""
        with self.server.platform.database.read() as session:
            rows = session.scalars(select(RecordRow).where(RecordRow.state == RecordState.LIVE))
            return {row.merchant: (row.version, row.epoch) for row in rows}


@pytest.fixture
def rotating(node: Node, keys: list[Keys], tmp_path: Path) -> Iterator[Rotating]:
    made = Rotating(node, keys[3], tmp_path)
    yield made
    made.server.stop()


@pytest.fixture
def fresh_chain(rotating: Rotating) -> Rotating:
    """The chain as if no test before had raised `epoch_min`: records begin above it."""
    leaf = rotating.server.platform.chain.fetch_own_leaf()
    if leaf.epoch_min > 1:
        text = rotating.path.read_text().replace('"epoch": 1', f'"epoch": {leaf.epoch_min}')
        rotating.path.write_text(text)
    return rotating


def test_a_new_key_is_used_after_its_lead_time(fresh_chain: Rotating) -> None:
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    made = rotating.rotate()
    assert (made["current"], [row["epoch"] for row in made["epochs"]]) == (first, [first, first + 1])
    assert 0 < made["epochs"][1]["used_from_ms"] - now_ms() <= LEAD_MS
    assert code_of(rotating.ask("POST", "/v1/epochs")) == (409, "epoch.waiting")
    merchant = server.live_merchant()
    rotating.ahead_ms = LEAD_MS - 10_000
    publish(server.platform, merchant.id, "pay")
    server.sender.drain()
    assert rotating.live() == {merchant.id: (2, first)}
    rotating.ahead_ms = LEAD_MS + 1
    publish(server.platform, merchant.id, "pay")
    server.sender.drain()
    assert rotating.live() == {merchant.id: (3, first + 1)}
    shown = rotating.ask("GET", "/v1/epochs").json()
    assert (shown["current"], [row["records"] for row in shown["epochs"]]) == (first + 1, [0, 1])


def test_an_epoch_ends_after_its_records_moved_on(fresh_chain: Rotating) -> None:
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    merchants = [server.live_merchant() for _ in range(3)]
    payer = Payer(server)
    named = payer.request(merchants[0])
    changed = merchants[1].agreement(server.platform.id, display_name="Not Yet")
    assert server.operator("POST", "/v1/merchants", json=changed).status_code == 200
    path = f"/v1/epochs/{first}/retire"
    assert code_of(rotating.ask("POST", path)) == (409, "epoch.in_use")
    rotating.rotate()
    assert code_of(rotating.ask("POST", path)) == (409, "epoch.in_use")
    rotating.ahead_ms = LEAD_MS + 1
    begun = rotating.ask("POST", path).json()
    assert (begun["left"], begun["waiting"], begun["done"], begun["stuck"]) == (3, 3, False, [])
    assert rotating.ask("POST", path).json() == begun  # nothing twice
    server.sender.drain()
    assert rotating.live() == {merchant.id: (2, first + 1) for merchant in merchants}
    raising = rotating.ask("POST", path).json()
    assert (raising["left"], raising["waiting"], raising["done"]) == (0, 1, False)
    assert sorted(load_epochs(rotating.path)) == [first, first + 1]  # no key goes before the chain refuses its epoch
    server.sender.drain()
    assert server.platform.chain.fetch_own_leaf().epoch_min == first + 1
    done = rotating.ask("POST", path).json()
    assert (done["epoch_min"], done["waiting"], done["done"]) == (first + 1, 0, True)
    assert sorted(load_epochs(rotating.path)) == [first + 1]
    assert rotating.ask("POST", path).json() == done
    with server.platform.database.read() as session:
        row = session.get_one(RecordRow, (merchants[1].id, "pay", 2))
        record = parse_record(parse(SignedRecord, row.signed_record).record)
    assert record.display_name == "Café Exemple"  # what was agreed since is not published by a rotation
    rotating.ahead_ms = 0  # the payer's clock is not ahead
    assert payer.pay(named).status_code == 201  # the grace for a rotation


def test_the_command_rotates_and_watches_the_end(fresh_chain: Rotating, monkeypatch: pytest.MonkeyPatch) -> None:
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    merchant = server.live_merchant()
    monkeypatch.setattr("onecode.cli.epochs.time.sleep", lambda _: server.sender.drain())  # as in the background

    def run(*arguments: str) -> Any:
        reached = ("--url", str(server.http.base_url), "--token", OPERATOR, "--json")
        return CliRunner().invoke(cli, ["platform", "rotate-epoch", *arguments, *reached])

    made = run()
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["current"] == first
    assert run("--retire", str(first)).exit_code == Declined.exit_code
    rotating.ahead_ms = LEAD_MS + 1
    ended = run("--retire", str(first))
    assert ended.exit_code == 0, ended.output
    said = json.loads(ended.stdout)
    assert (said["epoch_min"], said["left"], said["done"]) == (first + 1, 0, True)
    assert rotating.live() == {merchant.id: (2, first + 1)}
    assert [row["epoch"] for row in json.loads(run("--show").stdout)["epochs"]] == [first + 1]


def test_the_command_ends_where_records_are_in_the_way(fresh_chain: Rotating, node: Node) -> None:
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    server.live_merchant().unlink(node, server.platform.id)
    rotating.rotate()
    rotating.ahead_ms = LEAD_MS + 1
    reached = ["--url", str(server.http.base_url), "--token", OPERATOR]
    ended = CliRunner().invoke(cli, ["platform", "rotate-epoch", "--retire", str(first), *reached])
    assert ended.exit_code == Declined.exit_code
    assert "epoch.no_link" in ended.stderr and "epoch.stuck" in ended.stderr


def test_what_is_in_the_way_of_an_end_is_told_and_can_be_mended(fresh_chain: Rotating, node: Node) -> None:
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    gone, stays = server.live_merchant(), server.live_merchant()
    gone.unlink(node, server.platform.id)
    rotating.rotate()
    rotating.ahead_ms = LEAD_MS + 1
    path = f"/v1/epochs/{first}/retire"

    def retired() -> dict[str, Any]:
        answer = dict(rotating.ask("POST", path).json())
        server.sender.drain()
        return answer

    assert [row["code"] for row in retired()["stuck"]] == ["epoch.no_link"]
    stuck = retired()
    assert (stuck["left"], stuck["waiting"], stuck["done"]) == (1, 0, False)
    assert [(row["merchant"], row["code"]) for row in stuck["stuck"]] == [(gone.id.hex(), "epoch.no_link")]
    assert server.platform.chain.fetch_own_leaf().epoch_min <= first  # nothing ends while a record needs it
    assert server.operator("POST", f"/v1/merchants/{gone.id.hex()}/withdraw").json()["state"] == "withdrawn"
    assert not retired()["done"]
    assert retired()["done"]
    assert rotating.live() == {stays.id: (2, first + 1)}


def test_a_frozen_merchant_keeps_back_its_own_record_alone(fresh_chain: Rotating, node: Node, keys: list[Keys]) -> None:
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    frozen, moves = server.live_merchant(), server.live_merchant()
    keys[3].freeze(node, frozen.id)
    rotating.rotate()
    rotating.ahead_ms = LEAD_MS + 1
    path = f"/v1/epochs/{first}/retire"
    for _ in range(2):
        answer = rotating.ask("POST", path).json()
        assert [(row["merchant"], row["code"]) for row in answer["stuck"]] == [(frozen.id.hex(), "epoch.frozen")]
        server.sender.drain()
    assert rotating.live() == {frozen.id: (1, first), moves.id: (2, first + 1)}
    assert server.operator("POST", f"/v1/merchants/{frozen.id.hex()}/withdraw").json()["state"] == "withdrawn"
    assert not rotating.ask("POST", path).json()["done"]
    server.sender.drain()
    assert rotating.ask("POST", path).json()["done"]


def test_a_record_that_the_chain_refused_is_tried_again_later(fresh_chain: Rotating) -> None:
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    merchant: Merchant = server.live_merchant()
    rotating.rotate()
    rotating.ahead_ms = LEAD_MS + 1
    path = f"/v1/epochs/{first}/retire"
    assert rotating.ask("POST", path).json()["waiting"] == 1
    with server.platform.database.write() as session:  # as `_finish` leaves it
        row = session.scalars(select(OutboxRow).where(OutboxRow.state == OutboxState.WAITING)).one()
        row.state = OutboxState.FAILED
        record = session.get_one(RecordRow, (merchant.id, "pay", 2))
        record.state, record.refusal = RecordState.FAILED, "platform_inactive"
    assert [row["code"] for row in rotating.ask("POST", path).json()["stuck"]] == ["epoch.refused"]
    with server.platform.database.write() as session:
        session.get_one(RecordRow, (merchant.id, "pay", 2)).created_ms -= AGAIN_MS
    assert rotating.ask("POST", path).json()["stuck"] == []
    server.sender.drain()
    assert rotating.live() == {merchant.id: (2, first + 1)}


def test_the_epochs_end_is_settled_after_a_lost_answer(fresh_chain: Rotating, node: Node) -> None:
    """The chain has it: it is not asked for twice, and is no failure."""
    rotating, server = fresh_chain, fresh_chain.server
    (first,) = load_epochs(rotating.path)
    rotating.rotate()
    rotating.ahead_ms = LEAD_MS + 1
    path = f"/v1/epochs/{first}/retire"
    assert rotating.ask("POST", path).json()["waiting"] == 1
    chain = server.platform.chain
    assert chain.fetch_own_leaf().epoch_min <= first
    payload = PlatformEpoch(epoch_min=first + 1)
    nonce = chain.last_nonce() + 1_000_000
    key = server.platform.keys.transaction
    code = node.submit(
        Kind.PLATFORM_EPOCH, payload, signer=server.platform.id, by=SignerKind.PLATFORM, key=key, nonce=nonce
    )
    assert code == 0
    server.sender.drain()
    assert rotating.ask("POST", path).json()["done"]
