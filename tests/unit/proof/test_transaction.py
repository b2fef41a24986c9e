"""Proofs of transactions: every step fails alone, and real trees of every size and place lead to their roots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from onecode.errors import Untrusted
from onecode.proof.header import BlockId, header_hash, merkle_root
from onecode.proof.light import Trust, VerifiedHeader, trusted_state, verify_header
from onecode.proof.transaction import (
    TransactionProof,
    aunts_root,
    merkle_aunts,
    result_bytes,
    verify_transaction_proof,
)
from onecode.schema import parse
from onecode.wire import sha256
from vectors.proof_chain import make_header, signed_by, validator_set

MEMBERS = validator_set([1, 2, 3, 4])
NOW_MS = 1_800_000_000_000
TRANSACTIONS = (b"first", b"second", b"third")
RESULTS = ((0, (0, 44)), (24, (44,)), (0, ()))


def proven(place: int = 1, **changes: Any) -> tuple[TransactionProof, VerifiedHeader]:
    """A proof of one of three transactions of block 6, under header 7."""
    hashes = [sha256(raw) for raw in TRANSACTIONS]
    results = [result_bytes(code, items) for code, items in RESULTS]
    block = replace(make_header(6, MEMBERS), data_hash=merkle_root(hashes))
    named = BlockId(hash=header_hash(block), parts_total=1, parts_hash=header_hash(block))
    header = replace(make_header(7, MEMBERS), last_block_id=named, last_results_hash=merkle_root(results))
    signed = signed_by(header, [1, 2, 3, 4], [header.time_ns // 1_000_000] * 4)
    trust = Trust(trusted_state(header, MEMBERS), block_version=None, app_hash_bytes=None)
    verified = verify_header(signed, MEMBERS, trust, header.time_ns // 1_000_000)
    given: dict[str, Any] = {
        "header": signed,
        "validators": MEMBERS,
        "block": block,
        "index": place,
        "total": 3,
        "transaction_aunts": merkle_aunts(hashes)[place],
        "result_aunts": merkle_aunts(results)[place],
        "code": RESULTS[place][0],
        "item_codes": RESULTS[place][1],
    }
    return TransactionProof(**given | changes), verified


@pytest.mark.parametrize("place", range(3))
def test_a_proof_gives_height_place_and_result(place: int) -> None:
    proof, header = proven(place)
    assert parse(TransactionProof, proof.encoded()) == proof
    found = verify_transaction_proof(proof, TRANSACTIONS[place], header)
    assert (found.height, found.index, found.code, found.item_codes) == (6, place, *RESULTS[place])


@pytest.mark.parametrize(
    ("step", "changes", "code"),
    [
        (3, {"index": 3}, "transaction.place"),
        (3, {"index": 0, "total": 0}, "transaction.place"),
        (4, {"index": 0}, "transaction.absent"),
        (4, {"total": 4, "index": 3}, "transaction.absent"),
        (4, {"transaction_aunts": ()}, "transaction.absent"),
        (4, {"transaction_aunts": (b"x" * 32,) * 2}, "transaction.absent"),
        (4, {"transaction_aunts": (b"x" * 32,) * 9}, "transaction.absent"),
        (5, {"code": 0}, "transaction.result"),
        (5, {"item_codes": ()}, "transaction.result"),
        (5, {"item_codes": (0,)}, "transaction.result"),
        (5, {"result_aunts": ()}, "transaction.result"),
    ],
)
def test_each_step_refuses_its_lie(step: int, changes: dict[str, Any], code: str) -> None:
    proof, header = proven(**changes)
    with pytest.raises(Untrusted) as caught:
        verify_transaction_proof(proof, TRANSACTIONS[1], header)
    assert caught.value.code == code, f"step {step}"


def test_other_headers_blocks_and_bytes_are_refused() -> None:
    proof, header = proven()
    other = replace(header, header_hash=b"o" * 32)
    swapped = replace(proof, block=replace(proof.block, height=5))
    later = replace(proof, block=replace(proof.block, time_ns=proof.block.time_ns + 1))
    for lie, raw, under, code in (
        (proof, b"second", other, "transaction.header"),
        (swapped, b"second", header, "transaction.block"),
        (later, b"second", header, "transaction.block"),
        (proof, b"second!", header, "transaction.absent"),
        (proof, b"first", header, "transaction.absent"),
    ):
        with pytest.raises(Untrusted) as caught:
            verify_transaction_proof(lie, raw, under)
        assert caught.value.code == code


@pytest.mark.parametrize("count", [*range(1, 18), 64, 100])
def test_ways_up_lead_to_the_root_and_only_from_their_place(count: int) -> None:
    items = [b"%d" % number for number in range(count)]
    root = merkle_root(items)
    for place, aunts in enumerate(merkle_aunts(items)):
        assert aunts_root(items[place], place, count, aunts) == root
        assert aunts_root(items[place], (place + 1) % count, count, aunts) != root or count == 1
        assert aunts_root(items[place], place, count, (*aunts, root)) is None
        assert aunts_root(items[place], place, count, aunts[1:]) is None or not aunts


def test_an_empty_block_has_no_place() -> None:
    assert merkle_aunts([]) == []
