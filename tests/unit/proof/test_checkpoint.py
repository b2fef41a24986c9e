"""Checkpoints: whole in themselves, chained by hashes, with paths to headers and receipts; every step fails alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.proof.checkpoint import (
    NO_HASH,
    Checkpoint,
    CheckpointBody,
    Countersignature,
    checkpoint_hash,
    countersign,
    parse_body,
    parse_checkpoint,
    require_follows,
    sign_checkpoint,
    verify_checkpoint,
    verify_checkpoint_chain,
    verify_header_in_checkpoint,
    verify_named,
    verify_receipt_in_checkpoint,
)
from onecode.proof.header import BlockId, Header, header_hash, merkle_root
from onecode.proof.transaction import merkle_path
from onecode.proof.trust import ANCHOR_MS_MAX, certify_anchor
from onecode.wire import SigningKey, sha256
from vectors.proof_chain import CHAIN_ID, make_header, signed_by, validator_set

MEMBERS = validator_set([1, 2, 3, 4])
OTHERS = validator_set([5, 6, 7, 8])
ROOT, ANCHOR, ROOT_B, ANCHOR_B, ROOT_C, ANCHOR_C = (SigningKey.from_seed(bytes((n,)) * 32) for n in range(1, 7))
PLATFORM, B, C = bytes((1,)) * 20, bytes((2,)) * 20, bytes((3,)) * 20
RECEIPTS = tuple(b"receipt %d" % number for number in range(5))


def chain_of(first: int, last: int) -> list[Header]:
    """Headers that name each other."""
    headers: list[Header] = []
    for height in range(first, last + 1):
        header = make_header(height, MEMBERS)
        if headers:
            hashed = header_hash(headers[-1])
            header = dataclasses.replace(header, last_block_id=BlockId(hash=hashed, parts_total=1, parts_hash=hashed))
        headers.append(header)
    return headers


HEADERS = chain_of(6, 12)
SIGNED_MS = HEADERS[-1].time_ns // 1_000_000
END_MS = SIGNED_MS + 1_000  # of the anchor's certificate


def make_body(**changes: Any) -> CheckpointBody:
    values: dict[str, Any] = {
        "format": 1,
        "chain_id": CHAIN_ID,
        "platform": PLATFORM,
        "serial": 1,
        "previous": NO_HASH,
        "from_ms": SIGNED_MS - 2_000,
        "until_ms": SIGNED_MS - 1_000,
        "first_height": 6,
        "height": 12,
        "header_hash": header_hash(HEADERS[-1]),
        "headers_root": merkle_root([header_hash(one) for one in HEADERS]),
        "receipts": len(RECEIPTS),
        "receipts_root": merkle_root([sha256(one) for one in RECEIPTS]),
    }
    return CheckpointBody(**(values | changes))


def make(
    body: CheckpointBody | None = None, end_ms: int = END_MS, voters: tuple[int | None, ...] = (1, 2, 3, 4)
) -> Checkpoint:
    header = signed_by(HEADERS[-1], list(voters), [SIGNED_MS] * len(voters))
    certificate = certify_anchor(CHAIN_ID, ROOT, ANCHOR.public, end_ms)
    return sign_checkpoint(body or make_body(), header, MEMBERS, certificate, ANCHOR)


def word(made: Checkpoint, *, who: bytes = B, time_ms: int = SIGNED_MS + 500, end_ms: int = END_MS) -> Countersignature:
    root, anchor = {B: (ROOT_B, ANCHOR_B), C: (ROOT_C, ANCHOR_C)}.get(who, (ROOT, ANCHOR))
    certificate = certify_anchor(CHAIN_ID, root, anchor.public, end_ms)
    return countersign(CHAIN_ID, checkpoint_hash(CHAIN_ID, made.body), who, certificate, anchor, time_ms)


def countersigned(made: Checkpoint, *words: Countersignature) -> Checkpoint:
    return dataclasses.replace(made, countersignatures=words or (word(made), word(made, who=C)))


def test_a_countersigned_checkpoint_says_who_signed_it_and_needs_no_clock() -> None:
    made = make()
    found = verify_checkpoint(parse_checkpoint(countersigned(made).encoded()), CHAIN_ID)
    assert (found.hash, found.root) == (checkpoint_hash(CHAIN_ID, made.body), ROOT.public)
    assert found.countersigned == {B: ROOT_B.public, C: ROOT_C.public} and found.is_countersigned
    assert found.header.signed_ms == SIGNED_MS
    assert not verify_checkpoint(countersigned(made, word(made)), CHAIN_ID).is_countersigned
    assert verify_checkpoint(make(end_ms=SIGNED_MS + ANCHOR_MS_MAX), CHAIN_ID).countersigned == {}


def _unsigned(made: Checkpoint) -> Checkpoint:
    return dataclasses.replace(made, by=dataclasses.replace(made.by, signature=bytes(64)))


def _in_the_name_of_another(made: Checkpoint) -> Checkpoint:
    return countersigned(made, dataclasses.replace(word(made), platform=C))


def _of_another_header(made: Checkpoint) -> Checkpoint:
    return dataclasses.replace(made, header=signed_by(HEADERS[-2], [1, 2, 3, 4], [SIGNED_MS] * 4))


FORGED: dict[str, tuple[Callable[[], Checkpoint], str]] = {
    "1 chain": (lambda: make(make_body(chain_id="other")), "checkpoint.chain"),
    "2 serial 0": (lambda: make(make_body(serial=0)), "checkpoint.serial"),
    "2 first with one before": (lambda: make(make_body(previous=bytes((1,)) * 32)), "checkpoint.serial"),
    "2 second with none before": (lambda: make(make_body(serial=2)), "checkpoint.serial"),
    "2 period backwards": (lambda: make(make_body(from_ms=SIGNED_MS - 1_000)), "checkpoint.period"),
    "2 heights backwards": (lambda: make(make_body(first_height=13)), "checkpoint.heights"),
    "2 height 0": (lambda: make(make_body(first_height=0)), "checkpoint.heights"),
    "2 no receipts, a root": (lambda: make(make_body(receipts=0)), "checkpoint.receipts"),
    "2 receipts, no root": (lambda: make(make_body(receipts_root=merkle_root(()))), "checkpoint.receipts"),
    "3 header of another height": (lambda: _of_another_header(make()), "checkpoint.header"),
    "3 another hash": (lambda: make(make_body(header_hash=bytes(32))), "checkpoint.header"),
    "3 validators": (lambda: dataclasses.replace(make(), validators=OTHERS), "checkpoint.validators"),
    "3 too few votes": (lambda: make(voters=(1, 2, None, None)), "header.power"),
    "4 before the end": (lambda: make(make_body(until_ms=SIGNED_MS + 1)), "checkpoint.early"),
    "5 certificate over": (lambda: make(end_ms=SIGNED_MS), "trust.anchor_expired"),
    "5 certificate too long": (lambda: make(end_ms=SIGNED_MS + ANCHOR_MS_MAX + 1), "trust.anchor_expired"),
    "5 signature": (lambda: _unsigned(make()), "signature.bad"),
    "5 another body": (
        lambda: dataclasses.replace(make(), body=make_body(until_ms=SIGNED_MS - 1_001).encoded()),
        "signature.bad",
    ),
    "6 for another checkpoint": (
        lambda: countersigned(make(), word(make(make_body(from_ms=SIGNED_MS - 3_000)))),
        "signature.bad",
    ),
    "6 in the name of another": (lambda: _in_the_name_of_another(make()), "signature.bad"),
    "6 before the header": (
        lambda: countersigned(make(), word(make(), time_ms=SIGNED_MS - 5_001)),
        "checkpoint.countersigned_early",
    ),
    "6 certificate over": (lambda: countersigned(make(), word(make(), time_ms=END_MS)), "trust.anchor_expired"),
    "6 twice": (lambda: countersigned(make(), word(make()), word(make())), "checkpoint.countersigner_twice"),
    "6 by itself": (lambda: countersigned(make(), word(make(), who=PLATFORM)), "checkpoint.countersigner_twice"),
    "6 by its own root": (lambda: countersigned(make(), word(make(), who=bytes(20))), "checkpoint.countersigner_twice"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_checkpoint_is_refused_at_its_step(name: str) -> None:
    forge, code = FORGED[name]
    with pytest.raises(Untrusted) as caught:
        verify_checkpoint(forge(), CHAIN_ID)
    assert caught.value.code == code


def following(before: Checkpoint, **changes: Any) -> Checkpoint:
    last = parse_body(before.body)
    values = {
        "serial": last.serial + 1,
        "previous": checkpoint_hash(CHAIN_ID, before.body),
        "from_ms": last.until_ms,
        "until_ms": last.until_ms + 100,
    }
    return make(make_body(**(values | changes)))


def test_a_chain_of_checkpoints_holds_and_leads_from_an_old_one_to_the_one_named() -> None:
    first = make()
    second = following(first)
    third = following(second)
    found = verify_checkpoint_chain([first, second, third], CHAIN_ID)
    assert [one.body.serial for one in found] == [1, 2, 3]
    verify_named(found[0], [second.body, third.body], found[2].hash)
    verify_named(found[1], [], found[1].hash)
    for later, named in (([], found[1].hash), ([second.body], found[2].hash), ([second.body], found[0].hash)):
        with pytest.raises(Untrusted, match=r"checkpoint\.named"):
            verify_named(found[0], later, named)
    with pytest.raises(Untrusted, match=r"checkpoint\.link"):
        verify_named(found[0], [third.body], found[2].hash)
    with pytest.raises(Untrusted, match=r"checkpoint\.named"):  # what came before is not reached by an earlier one
        verify_named(found[2], [], found[1].hash)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"serial": 3}, "checkpoint.link"),
        ({"previous": bytes((9,)) * 32}, "checkpoint.link"),
        ({"platform": B}, "checkpoint.link"),
        ({"from_ms": SIGNED_MS - 999}, "checkpoint.gap"),
        ({"from_ms": SIGNED_MS - 1_500}, "checkpoint.gap"),
        ({"first_height": 14, "height": 14}, "checkpoint.gap"),
        ({"first_height": 6, "height": 11}, "checkpoint.gap"),
    ],
)
def test_what_does_not_follow_is_refused(changes: dict[str, Any], code: str) -> None:
    first = make()
    with pytest.raises(Untrusted) as caught:
        require_follows(
            parse_body(first.body), checkpoint_hash(CHAIN_ID, first.body), parse_body(following(first, **changes).body)
        )
    assert caught.value.code == code
    whole = {"first_height", "serial"}.isdisjoint(changes)
    if whole:
        with pytest.raises(Untrusted):
            verify_checkpoint_chain([first, following(first, **changes)], CHAIN_ID)


def test_each_header_and_receipt_stands_at_its_own_place() -> None:
    body = make_body()
    hashes = [header_hash(one) for one in HEADERS]
    for index, header in enumerate(HEADERS):
        path = merkle_path(hashes, index)
        verify_header_in_checkpoint(header, body, path)
        for other, aunts in ((dataclasses.replace(header, data_hash=bytes(32)), path), (header, path[:-1])):
            with pytest.raises(Untrusted, match=r"checkpoint\.header_path"):
                verify_header_in_checkpoint(other, body, aunts)
    for height in (5, 13):
        with pytest.raises(Untrusted, match=r"checkpoint\.header_path"):
            verify_header_in_checkpoint(make_header(height, MEMBERS), body, merkle_path(hashes, 0))
    leaves = [sha256(one) for one in RECEIPTS]
    for index, receipt in enumerate(RECEIPTS):
        path = merkle_path(leaves, index)
        verify_receipt_in_checkpoint(receipt, body, index, path)
        for wrong in ((b"another", index, path), (receipt, (index + 1) % 5, path), (receipt, 5, path)):
            with pytest.raises(Untrusted, match=r"checkpoint\.receipt_path"):
                verify_receipt_in_checkpoint(wrong[0], body, wrong[1], wrong[2])


def test_no_byte_of_a_checkpoint_can_be_changed() -> None:
    raw = countersigned(make()).encoded()
    honest = verify_checkpoint(parse_checkpoint(raw), CHAIN_ID)
    for place in range(0, len(raw), 3):
        changed = bytearray(raw)
        changed[place] ^= 1
        try:
            found = verify_checkpoint(parse_checkpoint(bytes(changed)), CHAIN_ID)
        except OnecodeError:
            continue
        assert (found.body, found.hash, found.countersigned) == (honest.body, honest.hash, honest.countersigned)


def test_another_format_is_refused_as_such() -> None:
    with pytest.raises(Malformed, match=r"checkpoint\.format"):
        verify_checkpoint(make(make_body(format=2)), CHAIN_ID)
