"""Three platforms over real HTTP: checkpoints cut, sealed and countersigned, forks refused, evidence years later."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import IntegrityError

from onecode.errors import Malformed, OnecodeError, Unreachable, Untrusted
from onecode.host.clock import now_ms
from onecode.platform.checkpoints import cut_checkpoint, load_checkpoints
from onecode.platform.countersign_requests import verify_word
from onecode.platform.header_hashes import follow_headers
from onecode.platform.process import open_checkpoints
from onecode.platform.schema import CheckpointRow, CountersignatureRow, HeaderHash, ReceiptRow, WitnessedRow
from onecode.proof.checkpoint import (
    Checkpoint,
    CheckpointBody,
    Countersignature,
    checkpoint_hash,
    countersign,
    parse_body,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
    verify_checkpoint_chain,
)
from onecode.proof.header import header_hash, merkle_root
from onecode.proof.leaves import KeyState, Role
from onecode.proof.transaction import merkle_path
from onecode.proof.trust import certify_anchor
from onecode.query.evidence import EvidenceFile, NamedCheckpoint, parse_evidence, verify_evidence
from onecode.query.messages import HeaderView, MemberView
from onecode.query.requests import MEMBER_HEADER, member_header
from onecode.record.receipt import SignedReceipt
from onecode.schema import parse
from onecode.wire import sha256
from unit.platform.test_evidence import export
from unit.platform.test_partners import Road
from unit.platform.test_refunds import refund
from unit.platform.world import CHAIN_ID, DAY_MS, Keys, Node, Payer, Server, new_key

pytestmark = pytest.mark.clock

PATH = "/v1/checkpoints/countersign"
PERIOD_MS = 300  # below what a configuration may say
LATER_MS = 5 * 365 * DAY_MS


class Three:
    """Alpha, beta and gamma, who countersign for each other."""

    def __init__(self, node: Node, keys: list[Keys], directory: Path) -> None:
        self.node, self.keys, self.directory = node, keys[:3], directory
        for one in self.keys:
            (directory / one.name).mkdir()
        self.servers = [self.open(index) for index in range(3)]
        self.keepers = [open_checkpoints(server.platform) for server in self.servers]
        self.roads = []
        for keeper in self.keepers:
            road, any_keeper = Road(), keeper
            any_keeper._client = httpx.Client(transport=road, timeout=5)
            self.roads.append(road)
        self.shop = self.servers[2].live_merchant()

    def open(self, index: int, **changes: Any) -> Server:
        own = self.keys[index]
        config = own.config(
            self.directory / own.name,
            self.node.url,
            port=own.port,
            countersigners=[one.id.hex() for one in self.keys if one.id != own.id],
            checkpoint_retry_ms=10,
            **changes,
        )
        return Server(dataclasses.replace(config, checkpoint_period_ms=PERIOD_MS))

    def stop(self) -> None:
        for keeper, server in zip(self.keepers, self.servers, strict=True):
            keeper.close()
            server.stop()

    def restart(self, index: int) -> Server:
        """The platform's server, ended and begun again with what its database holds."""
        self.keepers[index].close()
        self.servers[index].stop()
        self.servers[index] = self.open(index)
        self.keepers[index] = open_checkpoints(self.servers[index].platform)
        return self.servers[index]

    def block(self) -> None:
        self.shop.set_order_key(self.node)

    def shown(self, index: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            start = found[-1]["serial"] + 1 if found else 1
            more = self.servers[index].http.get(f"/v1/checkpoints?from={start}").json()
            if not more:
                return found
            found += more

    def next(self, index: int) -> dict[str, Any]:
        """Go on until the platform has one checkpoint more, with a header after its period, and has asked for words."""
        before = len(self.shown(index))
        for _ in range(1_000):
            self.block()
            self.keepers[index].drain()
            found = self.shown(index)
            if len(found) > before:
                return self._asked(index)
            time.sleep(0.05)
        raise AssertionError("no checkpoint")

    def _asked(self, index: int) -> dict[str, Any]:
        """The newest checkpoint, after asking for words a while; nothing more is cut meanwhile."""
        keeper: Any = self.keepers[index]
        for _ in range(100):
            for other in self.servers[index].platform.config.witnesses:
                keeper._ask(other)
            if self.shown(index)[-1]["complete"] or self.roads[index].is_down:
                break
            time.sleep(0.02)
        return self.shown(index)[-1]

    def settle(self, index: int) -> None:
        """Until no cut waits for its header."""
        while True:
            with self.servers[index].platform.database.read() as session:
                if session.scalar(select(CheckpointRow.serial).where(CheckpointRow.hash.is_(None))) is None:
                    return
            self.block()
            self.keepers[index].drain()

    def last(self, index: int) -> Checkpoint:
        return parse_checkpoint(bytes.fromhex(self.shown(index)[-1]["checkpoint"]))

    def ask(self, asked: int, checkpoint: Checkpoint, asking: int = 0, **how: Any) -> httpx.Response:
        """Platform `asking` asks another for its word on a checkpoint."""
        body = checkpoint.encoded()
        key = how.get("key", self.keys[asking].key(Role.TRANSACTION))
        proof = member_header(CHAIN_ID, how.get("as_id", self.keys[asking].id), key, "POST", PATH, body, now_ms())
        headers = {MEMBER_HEADER: proof, "content-type": how.get("media", "application/cbor")}
        return self.servers[asked].http.post(PATH, content=body, headers=headers)

    def forge(self, real: Checkpoint, view: HeaderView | None = None, **changes: Any) -> Checkpoint:
        """What alpha could sign instead."""
        keys = self.servers[0].platform.keys
        body = dataclasses.replace(parse_body(real.body), **changes)
        header = view.header if view is not None else real.header
        validators = view.validators if view is not None else real.validators
        return sign_checkpoint(body, header, validators, self.servers[0].platform.certificate, keys.anchor)


@pytest.fixture
def three(node: Node, keys: list[Keys], tmp_path: Path) -> Iterator[Three]:
    made = Three(node, keys, tmp_path)
    yield made
    made.stop()


def pay(server: Server) -> str:
    payer, merchant = Payer(server), server.live_merchant()
    answer = payer.pay(payer.request(merchant))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["payment_id"])


def counted(server: Server) -> dict[int, list[bytes]]:
    """What each sealed checkpoint commits to, by the platform's own books."""
    with server.platform.database.read() as session:
        rows = list(session.scalars(select(CheckpointRow).order_by(CheckpointRow.serial)))
        found, after = {}, 0
        for row in rows:
            inside = select(ReceiptRow.hash).where(ReceiptRow.id > after, ReceiptRow.id <= row.last_receipt)
            found[row.serial] = list(session.scalars(inside.order_by(ReceiptRow.id)))
            after = row.last_receipt
    return found


# --- making and countersigning


def test_two_others_countersign_and_every_receipt_and_refund_stands_in_one_checkpoint(three: Three) -> None:
    alpha = three.servers[0]
    first = three.next(0)
    assert (first["serial"], first["receipts"]) == (1, 0)
    assert first["complete"] and set(first["countersigned_by"]) == {one.id.hex() for one in three.keys[1:]}
    payment = pay(alpha)
    assert refund(alpha, payment, "back", amount_minor=250).status_code == 201
    second = three.next(0)
    pay(alpha)
    third = three.next(0)
    assert [second["receipts"], third["receipts"]] == [2, 1]
    chain = [parse_checkpoint(bytes.fromhex(one["checkpoint"])) for one in three.shown(0)]
    found = verify_checkpoint_chain(chain, CHAIN_ID)
    assert all(one.is_countersigned and one.root == three.keys[0].admission.root for one in found)
    hashes = counted(alpha)
    assert [one.body.receipts_root for one in found] == [merkle_root(hashes[one.body.serial]) for one in found]
    witnessed = three.servers[1].http.get(f"/v1/checkpoints?platform={alpha.platform.id.hex()}").json()
    assert [one["hash"] for one in witnessed] == [one["hash"] for one in three.shown(0)]
    assert witnessed[0]["countersigned_by"] == [three.keys[1].id.hex()]
    assert alpha.operator("GET", "/v1/checkpoints/waiting").json() == {"waiting": [], "forks": []}


def test_periods_without_a_look_are_one_and_nothing_is_cut_twice(three: Three) -> None:
    first = three.next(0)
    three.settle(0)
    cut_from = three.shown(0)[-1]["until_ms"]
    time.sleep(2.5 * PERIOD_MS / 1_000)
    assert cut_checkpoint(three.servers[0].platform)
    assert cut_checkpoint(three.servers[0].platform)  # the same one waits for its header
    second = three.next(0)
    assert second["from_ms"] == cut_from >= first["until_ms"]
    assert second["until_ms"] - second["from_ms"] >= 2 * PERIOD_MS
    assert (second["until_ms"] - second["from_ms"]) % PERIOD_MS == 0


def test_a_countersigner_that_is_down_is_asked_again_and_its_answer_may_be_lost(three: Three) -> None:
    three.roads[0].is_down = True
    first = three.next(0)
    assert (first["complete"], first["countersigned_by"]) == (False, [])
    waiting = three.servers[0].operator("GET", "/v1/checkpoints/waiting").json()["waiting"]
    assert {row["platform"] for row in waiting} == {one.id.hex() for one in three.keys[1:]}
    assert all("partner.silent" in row["error"] for row in waiting)
    three.roads[0].is_down, three.roads[0].is_losing = False, True
    _drain_until(three, lambda: three.roads[0].sent >= 2)
    assert three.shown(0)[0]["countersigned_by"] == []
    words = three.servers[1].http.get(f"/v1/checkpoints?platform={three.keys[0].id.hex()}").json()
    assert len(words) >= 1
    three.roads[0].is_losing = False
    _drain_until(three, lambda: three.shown(0)[0]["complete"])
    kept = parse_checkpoint(bytes.fromhex(words[0]["checkpoint"])).countersignatures[0]
    assert kept in parse_checkpoint(bytes.fromhex(three.shown(0)[0]["checkpoint"])).countersignatures


def _drain_until(three: Three, reached: Any) -> None:
    for _ in range(1_000):
        three.keepers[0].drain()
        if reached():
            return
        three.block()
    raise AssertionError("not reached")


# --- what a countersigner refuses


def test_a_second_history_is_refused_and_kept_as_evidence(three: Three) -> None:
    three.next(0)
    real = three.last(0)
    fork = three.forge(real, receipts=0, receipts_root=merkle_root(()), from_ms=parse_body(real.body).from_ms - 1)
    answer = three.ask(1, fork)
    assert (answer.status_code, answer.json()["code"]) == (401, "countersign.fork")
    kept = three.servers[1].operator("GET", "/v1/checkpoints/waiting").json()["forks"]
    assert [(row["code"], row["serial"]) for row in kept] == [("countersign.fork", 1)]
    shown = verify_checkpoint(parse_checkpoint(bytes.fromhex(kept[0]["checkpoint"])), CHAIN_ID)
    assert shown.root == three.keys[0].admission.root  # alpha's own signature under another history
    again = three.ask(1, real)
    assert again.status_code == 200  # the same one gets the same word
    word = parse(Countersignature, again.content)
    assert word in real.countersignatures


def test_a_word_is_given_only_for_what_the_own_chain_shows(three: Three, node: Node) -> None:
    three.next(0)
    real = three.last(0)
    body, hashed = parse_body(real.body), checkpoint_hash(CHAIN_ID, real.body)
    three.block()
    view = node.newest()
    height = view.header.header.height
    platform = three.servers[0].platform
    follow_headers(platform, view)
    with platform.database.read() as session:
        rows = session.scalars(
            select(HeaderHash.hash).where(HeaderHash.height > body.height, HeaderHash.height <= height)
        )
        hashes = list(rows)
    signed_ms = verify_checkpoint(three.forge(real), CHAIN_ID).header.signed_ms
    good = {
        "serial": 2,
        "previous": hashed,
        "from_ms": body.until_ms,
        "until_ms": max(body.until_ms + 1, signed_ms),
        "first_height": body.height + 1,
        "height": height,
        "header_hash": header_hash(view.header.header),
        "headers_root": merkle_root(hashes),
        "receipts": 0,
        "receipts_root": merkle_root(()),
    }
    cases: dict[str, dict[str, Any]] = {
        "countersign.headers": {"headers_root": merkle_root([bytes(32), *hashes])},
        "checkpoint.link": {"serial": 3},
        "checkpoint.gap": {"first_height": body.height + 2, "headers_root": merkle_root(hashes[1:])},
        "checkpoint.early": {"until_ms": now_ms() + 3_600_000},
    }
    if height == body.height + 1:
        three.block()
    for code, changes in cases.items():
        forged = three.forge(real, view, **(good | changes))
        try:
            verify_checkpoint(forged, CHAIN_ID)
        except OnecodeError:
            assert code in ("checkpoint.early", "checkpoint.gap")
        answer = three.ask(1, forged)
        assert answer.status_code == 401, answer.text
        assert answer.json()["code"] in (code, "checkpoint.heights")
    assert three.ask(1, three.forge(real, view, **good)).status_code == 200


def test_a_header_of_another_chain_with_good_votes_is_refused(three: Three, node: Node) -> None:
    """Validators who sign two chains: the countersigner's own node shows the other one."""
    three.next(0)
    real = three.last(0)
    three.block()
    view = _rewritten(node.newest(), node)
    body = parse_body(real.body)
    hashed = header_hash(view.header.header)
    forged = three.forge(
        real,
        view,
        serial=2,
        previous=checkpoint_hash(CHAIN_ID, real.body),
        from_ms=body.until_ms,
        until_ms=body.until_ms + 1,
        first_height=view.header.header.height,
        height=view.header.header.height,
        header_hash=hashed,
        headers_root=merkle_root([hashed]),
        receipts=0,
        receipts_root=merkle_root(()),
    )
    with three.servers[1].platform.database.write() as session:
        session.execute(text("DROP TRIGGER witnessed_no_delete"))
        session.execute(delete(WitnessedRow))  # as if nothing had been seen of alpha before
    answer = three.ask(1, forged)
    assert answer.json()["code"] == "countersign.header"
    assert (
        three.servers[1].operator("GET", "/v1/checkpoints/waiting").json()["forks"][0]["code"] == "countersign.header"
    )


def _rewritten(view: HeaderView, node: Node) -> HeaderView:
    """Another header of the same height, signed by the validators all the same."""
    from onecode.proof.header import vote_sign_bytes

    header = dataclasses.replace(view.header.header, data_hash=sha256(b"other transactions"))
    hashed, commit = header_hash(header), view.header.commit
    block = dataclasses.replace(commit.block_id, hash=hashed, parts_hash=hashed)
    commit = dataclasses.replace(commit, block_id=block)
    chain: Any = node.solo._chain
    key = chain._key
    votes = tuple(
        dataclasses.replace(vote, signature=key.sign_bytes(vote_sign_bytes(CHAIN_ID, commit, vote.timestamp_ns or 0)))
        for vote in commit.votes
    )
    signed = dataclasses.replace(view.header, header=header, commit=dataclasses.replace(commit, votes=votes))
    return HeaderView(header=signed, validators=view.validators)


def test_who_may_ask_and_under_which_keys(three: Three, keys: list[Keys]) -> None:
    three.next(0)
    real = dataclasses.replace(three.last(0), countersignatures=())
    assert three.ask(1, real, as_id=keys[3].id, key=keys[3].key(Role.TRANSACTION)).json()["code"] == (
        "countersign.unknown"
    )
    assert three.ask(1, real, asking=2).json()["code"] == "countersign.other"
    assert three.ask(1, real, media="application/json").status_code == 415
    assert three.servers[1].http.post(PATH, content=real.encoded()).json()["code"] == "partner.unsigned"
    root, anchor = new_key(), new_key()
    certificate = certify_anchor(CHAIN_ID, root, anchor.public, now_ms() + DAY_MS)
    forged = sign_checkpoint(parse_body(real.body), real.header, real.validators, certificate, anchor)
    assert three.ask(1, forged).json()["code"] == "countersign.root"
    certificate = certify_anchor(CHAIN_ID, _root(keys[0]), anchor.public, now_ms() + DAY_MS)
    forged = sign_checkpoint(parse_body(real.body), real.header, real.validators, certificate, anchor)
    assert three.ask(1, forged).json()["code"] == "platform.key_unknown"


def _root(keys: Keys) -> Any:
    from onecode.host.keyring import load_key
    from onecode.platform.genesis import ROOT_KEY_FILE

    return load_key(keys.directory / ROOT_KEY_FILE)


def test_a_word_under_another_root_than_the_chains_is_no_word(three: Three) -> None:
    three.next(0)
    made = three.last(0)
    root, anchor = new_key(), new_key()
    certificate = certify_anchor(CHAIN_ID, root, anchor.public, now_ms() + DAY_MS)
    beta = three.keys[1].id
    word = countersign(CHAIN_ID, checkpoint_hash(CHAIN_ID, made.body), beta, certificate, anchor, now_ms())
    platform = three.servers[0].platform
    with pytest.raises(Untrusted, match=r"countersign\.answer"):
        verify_word(platform, beta, platform.chain.platform_leaf(beta), made, word)


def test_a_word_by_an_anchor_key_that_was_taken_back_is_no_word(three: Three) -> None:
    three.next(0)
    made = three.last(0)
    platform, beta = three.servers[0].platform, three.servers[1].platform
    leaf = platform.chain.platform_leaf(beta.id)
    assert leaf is not None
    anchor = beta.keys.anchor
    hashed = checkpoint_hash(CHAIN_ID, made.body)
    word = countersign(CHAIN_ID, hashed, beta.id, beta.certificate, anchor, now_ms())
    verify_word(platform, beta.id, leaf, made, word)
    keys = tuple(
        dataclasses.replace(key, state=KeyState.REVOKED) if key.key == anchor.public else key for key in leaf.keys
    )
    with pytest.raises(Untrusted, match=r"platform\.key_state"):
        verify_word(platform, beta.id, dataclasses.replace(leaf, keys=keys), made, word)


def test_a_serial_that_no_database_takes_is_malformed(three: Three) -> None:
    three.next(0)
    forged = three.forge(three.last(0), serial=(1 << 63) - 1, previous=bytes([1]) * 32)
    raw = forged.encoded().replace(((1 << 63) - 1).to_bytes(8, "big"), (1 << 63).to_bytes(8, "big"))
    with pytest.raises(Malformed):
        parse_body(parse_checkpoint(raw).body)


def test_two_first_checkpoints_that_come_at_once_are_not_both_signed(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one seen may have any serial: another one that came meanwhile counts."""
    from onecode.platform import countersigning

    three.roads[0].is_down = True
    three.next(0)
    first, second = three.last(0), (three.next(0), three.last(0))[1]
    assert (parse_body(first.body).serial, parse_body(second.body).serial) == (1, 2)
    other = three.forge(first, from_ms=parse_body(first.body).from_ms - 1)
    compare, asked = countersigning._require_chain, list[int]()

    def interleaved(*given: Any) -> None:
        compare(*given)
        monkeypatch.setattr(countersigning, "_require_chain", compare)
        asked.append(three.ask(1, second).status_code)

    monkeypatch.setattr(countersigning, "_require_chain", interleaved)
    refused = three.ask(1, other)
    assert asked == [200]
    assert (refused.status_code, refused.json().get("code")) == (401, "countersign.past")


def test_more_headers_than_are_compared_at_once_accuse_nobody(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    from onecode.platform import countersigning

    three.roads[0].is_down = True
    three.next(0)
    monkeypatch.setattr(countersigning, "COVERED_MAX", 0)
    answer = three.ask(1, three.last(0))
    assert (answer.status_code, answer.json()["code"]) == (503, "countersign.far")
    assert three.servers[1].operator("GET", "/v1/checkpoints/waiting").json()["forks"] == []


def test_a_countersigner_whose_own_certificate_ended_accuses_nobody(three: Three) -> None:
    three.roads[0].is_down = True
    three.next(0)
    beta = three.servers[1].platform
    ended = certify_anchor(CHAIN_ID, _root(three.keys[1]), beta.keys.anchor.public, now_ms() - 1)
    object.__setattr__(beta, "certificate", ended)
    answer = three.ask(1, three.last(0))
    assert (answer.status_code, answer.json()["code"]) == (500, "checkpoint.certificate")
    assert three.servers[1].operator("GET", "/v1/checkpoints/waiting").json()["forks"] == []


# --- the cut


def test_a_clock_that_is_days_ahead_makes_no_cut(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    """A cut is durable: with a time that is yet to come, it would hold up every checkpoint until then."""
    ahead_ms = [3 * DAY_MS]
    server = Server(keys[0].config(tmp_path, node.url), lambda: now_ms() + ahead_ms[0])
    keeper = open_checkpoints(server.platform)
    try:
        with pytest.raises(Unreachable):
            keeper.drain()
        ahead_ms[0] = 0
        keeper.drain()
        (made,) = server.http.get("/v1/checkpoints").json()
        assert made["until_ms"] <= now_ms()
    finally:
        keeper.close()
        server.stop()


def test_a_crash_between_cut_and_seal_leaves_every_receipt_in_one_checkpoint(three: Three) -> None:
    three.next(0)
    seen = []
    for _ in range(2):
        three.settle(0)
        seen.append(pay(three.servers[0]))
        while not cut_checkpoint(three.servers[0].platform):  # durable; and here the process ends
            three.block()
        alpha = three.restart(0)
        seen.append(pay(alpha))  # after the cut: it belongs to the next one
        three.next(0)
    three.next(0)
    hashes = [one for each in counted(three.servers[0]).values() for one in each]
    with three.servers[0].platform.database.read() as session:
        assert hashes == list(session.scalars(select(ReceiptRow.hash).order_by(ReceiptRow.id)))
    assert len(hashes) == len(set(hashes)) == len(seen)
    serials = {payment: _serial(export(three.servers[0], payment)) for payment in seen}
    assert serials[seen[0]] < serials[seen[1]] <= serials[seen[2]] < serials[seen[3]]
    assert [parse_body(one.checkpoint.body).receipts for one in load_checkpoints(three.servers[0].platform, 1)] == [
        len(each) for each in counted(three.servers[0]).values()
    ]


def _serial(file: EvidenceFile) -> int:
    assert file.place is not None
    return parse_body(file.place.checkpoint.body).serial


def test_what_was_sealed_or_counted_is_never_changed(three: Three) -> None:
    pay(three.servers[0])
    three.next(0)
    database = three.servers[0].platform.database
    for statement in (
        update(ReceiptRow).values(hash=bytes(32)),
        delete(ReceiptRow),
        update(CheckpointRow).values(last_receipt=0),
        delete(CheckpointRow),
        update(HeaderHash).values(hash=bytes(32)),
    ):
        with pytest.raises(IntegrityError), database.write() as session:
            session.execute(statement)
    with pytest.raises(IntegrityError), three.servers[1].platform.database.write() as session:
        session.execute(update(WitnessedRow).values(hash=bytes(32)))


def test_a_node_that_shows_another_past_is_found_out(three: Three, node: Node) -> None:
    three.next(0)
    platform = three.servers[0].platform
    other = _rewritten(node.newest(), node)
    with pytest.raises(Untrusted, match=r"header\.fork"):
        follow_headers(platform, other)


# --- evidence, years later


@dataclasses.dataclass
class Paid:
    three: Three
    file: EvidenceFile
    named: bytes

    def check(self, file: EvidenceFile, named: bytes | None = None) -> Any:
        trust = NamedCheckpoint(CHAIN_ID, named or self.named)
        return verify_evidence(parse_evidence(file.encoded()), trust, now_ms() + LATER_MS)

    def placed(self, **changes: Any) -> EvidenceFile:
        assert self.file.place is not None
        return dataclasses.replace(self.file, place=dataclasses.replace(self.file.place, **changes))


def test_evidence_holds_years_later_against_the_hash_that_a_checker_kept(three: Three) -> None:
    alpha = three.servers[0]
    three.next(0)
    payment = pay(alpha)
    assert export(alpha, payment).place is None
    early = alpha.operator("GET", f"/v1/payments/{payment}/evidence?checkpoint=2")
    assert early.json()["code"] == "checkpoint.none_yet"
    pay(alpha)
    second, third = three.next(0), three.next(0)
    case = Paid(three, export(alpha, payment), bytes.fromhex(second["hash"]))
    found = case.check(case.file)
    assert found.checkpoint.is_countersigned and found.receipt.payment_id == payment
    assert found.is_solo
    _later(case, alpha, payment, bytes.fromhex(third["hash"]))
    _forged(case)
    kept = three.servers[2].http.get(f"/v1/checkpoints?from=2&platform={alpha.platform.id.hex()}").json()[0]
    assert kept["hash"] == second["hash"]  # who countersigned can name it too


def _later(case: Paid, alpha: Server, payment: str, third: bytes) -> None:
    """A checker who kept a later checkpoint's hash needs the bodies up to it, and nothing else."""
    with pytest.raises(Untrusted, match=r"checkpoint\.named"):
        case.check(case.file, third)
    headers = {"accept": "application/cbor"}
    raw = alpha.operator("GET", f"/v1/payments/{payment}/evidence?checkpoint=3", headers=headers)
    file = parse_evidence(raw.content)
    assert file.place is not None and len(file.place.later) == 1
    assert case.check(file, third).receipt.payment_id == payment
    for serial in (1, 999):
        refused = alpha.operator("GET", f"/v1/payments/{payment}/evidence?checkpoint={serial}")
        assert refused.json()["code"] == "checkpoint.until"


def _forged(case: Paid) -> None:
    place, file = case.file.place, case.file
    assert place is not None
    view = parse(MemberView, file.view)
    other_header = dataclasses.replace(view.header.header, app_hash=bytes(32))
    forged_view = dataclasses.replace(view, header=dataclasses.replace(view.header, header=other_header))
    signed = parse(SignedReceipt, file.receipt)
    other = case.three.next(1)
    beta = parse_checkpoint(bytes.fromhex(other["checkpoint"]))
    cases: list[tuple[EvidenceFile, str]] = [
        (dataclasses.replace(file, place=None), "evidence.no_checkpoint"),
        (case.placed(header_aunts=(*place.header_aunts, bytes(32))), "checkpoint.header_path"),
        (case.placed(receipt_index=place.receipt_index + 1), "checkpoint.receipt_path"),
        (case.placed(receipt_aunts=(bytes(32), *place.receipt_aunts[1:])), "checkpoint.receipt_path"),
        (case.placed(later=(place.checkpoint.body,)), "checkpoint.link"),
        (dataclasses.replace(file, view=forged_view.encoded()), "checkpoint.header_path"),
        (
            dataclasses.replace(file, receipt=dataclasses.replace(signed, signature=bytes(64)).encoded()),
            "signature.bad",
        ),
        (case.placed(checkpoint=beta), "checkpoint.named"),
    ]
    for forged, code in cases:
        with pytest.raises(Untrusted) as caught:
            case.check(forged)
        assert caught.value.code == code
    with pytest.raises(Untrusted, match=r"evidence\.chain"):
        verify_evidence(file, NamedCheckpoint("other", case.named), now_ms())
    _of_another_platform(case, beta)
    _made_later(case)


def _of_another_platform(case: Paid, beta: Checkpoint) -> None:
    """A checkpoint of beta, whole and named, that counts alpha's receipt: beta cannot know of it."""
    place, view = case.file.place, parse(MemberView, case.file.view)
    assert place is not None
    hashed = header_hash(view.header.header)
    body = dataclasses.replace(
        parse_body(beta.body),
        first_height=view.header.header.height,
        headers_root=merkle_root([hashed, header_hash(beta.header.header)]),
        height=beta.header.header.height,
        receipts=1,
        receipts_root=merkle_root([sha256(case.file.receipt)]),
    )
    body = dataclasses.replace(body, headers_root=_root_over(case, body))
    platform = case.three.servers[1].platform
    made = sign_checkpoint(body, beta.header, beta.validators, platform.certificate, platform.keys.anchor)
    with platform.database.read() as session:
        rows = session.scalars(
            select(HeaderHash.hash)
            .where(HeaderHash.height.between(body.first_height, body.height))
            .order_by(HeaderHash.height)
        )
        path = merkle_path(list(rows), 0)
    forged = case.placed(checkpoint=made, header_aunts=path, receipt_index=0, receipt_aunts=(), later=())
    with pytest.raises(Untrusted, match=r"evidence\.checkpoint_platform"):
        case.check(forged, checkpoint_hash(CHAIN_ID, made.body))


def _root_over(case: Paid, body: CheckpointBody) -> bytes:
    """Of beta's own header hashes, extended down to the payment's."""
    platform = case.three.servers[1].platform
    follow_headers(platform, platform.chain.fetch_newest(), body.first_height)
    with platform.database.read() as session:
        rows = session.scalars(
            select(HeaderHash.hash)
            .where(HeaderHash.height.between(body.first_height, body.height))
            .order_by(HeaderHash.height)
        )
        return merkle_root(list(rows))


def _made_later(case: Paid) -> None:
    """A receipt that alpha's receipt key signs after the day, for a payment that never was, stands in no checkpoint."""
    from onecode.record.receipt import sign_receipt, verify_receipt

    receipt = verify_receipt(CHAIN_ID, parse(SignedReceipt, case.file.receipt))
    again = dataclasses.replace(receipt, payment_id="f" * 32)
    raw = sign_receipt(CHAIN_ID, again, case.three.servers[0].platform.keys.receipt).encoded()
    with pytest.raises(Untrusted, match=r"checkpoint\.receipt_path"):
        case.check(dataclasses.replace(case.file, receipt=raw))


def test_a_payment_that_was_checked_under_a_header_of_the_period_before_is_still_shown(three: Three) -> None:
    """Header before the cut, receipt after it: the checkpoint reaches back to the header."""
    alpha = three.servers[0]
    three.next(0)
    payer, merchant = Payer(alpha), alpha.live_merchant()
    request = payer.request(merchant)
    while not cut_checkpoint(alpha.platform):
        three.block()
    paid = payer.pay(request)
    assert paid.status_code == 201
    three.next(0)
    last = three.next(0)
    file = export(alpha, paid.json()["payment_id"])
    assert file.place is not None
    named = checkpoint_hash(CHAIN_ID, file.place.checkpoint.body)
    found = verify_evidence(file, NamedCheckpoint(CHAIN_ID, named), now_ms() + LATER_MS)
    assert found.checkpoint is not None and found.checkpoint.body.serial <= last["serial"]


# --- the API


def test_bad_questions_for_checkpoints(three: Three) -> None:
    http = three.servers[0].http
    assert http.get("/v1/checkpoints?platform=ab").status_code == 400
    assert http.get("/v1/checkpoints?from=x").status_code == 400
    assert http.get(f"/v1/checkpoints?platform={'00' * 20}").json() == []
    own = three.keys[0].id.hex()
    three.next(0)
    assert http.get(f"/v1/checkpoints?platform={own}").json() == http.get("/v1/checkpoints").json()
    assert three.servers[0].http.get("/v1/checkpoints/waiting").status_code == 401


def test_other_bytes_are_no_checkpoint(three: Three) -> None:
    three.next(0)
    raw = three.last(0).encoded()
    for bad in (b"", raw[:-1], raw + b"\0"):
        with pytest.raises(Malformed):
            parse_checkpoint(bad)


def test_a_checkpoint_brings_a_fresh_trust_file(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    from onecode.proof.trust import verify_trust_file

    config = keys[0].config(tmp_path, node.url, trust_output_file="fresh.cbor")
    server = Server(config)
    keeper = open_checkpoints(server.platform)
    try:
        keeper.drain()
        path = tmp_path / "fresh.cbor"
        trust, _ = verify_trust_file(path.read_bytes(), keys[0].admission.root, CHAIN_ID, now_ms(), allow_solo=True)
        assert trust.state.header_hash.hex() == server.http.get("/v1/checkpoints").json()[0]["header_hash"]
    finally:
        keeper.close()
        server.stop()


def test_a_countersigner_without_the_old_headers_says_so_and_is_asked_for_later_ones(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onecode.platform import countersigning

    three.roads[0].is_down = True
    three.next(0)
    three.next(0)
    three.keepers[1].drain()  # beta begins to keep headers only now
    monkeypatch.setattr(countersigning, "BACK_MAX", -1)
    three.roads[0].is_down = False
    for _ in range(100):
        three.next(0)
        with three.servers[0].platform.database.read() as session:
            rows = list(
                session.scalars(select(CountersignatureRow).where(CountersignatureRow.platform == three.keys[1].id))
            )
        if any(row.signed is not None for row in rows):
            break
    assert rows[0].is_refused and rows[-1].signed is not None
