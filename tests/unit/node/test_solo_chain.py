"""The hashes that a header names, against two blocks that CometBFT made (the source is in the file)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from onecode.node.solo_chain import commit_hash, consensus_hash, data_hash, results_hash
from onecode.proof.comet_json import signed_header_from_rpc
from onecode.proof.transaction import result_data
from onecode.registry.application import TransactionResult
from onecode.registry.results import Result


@pytest.mark.parametrize("place", [0, 1])
def test_hashes_are_the_engines(root: Path, place: int) -> None:
    made = json.loads((root / "tests/vectors/node/cometbft_blocks.json").read_text())
    block = made["blocks"][place]
    header, last = block["header"], signed_header_from_rpc(block["last"])
    transactions = [base64.b64decode(transaction) for transaction in block["transactions"]]
    assert len(transactions) == 1
    assert data_hash(transactions).hex().upper() == header["data_hash"]
    assert commit_hash(last.commit).hex().upper() == header["last_commit_hash"]
    assert last.commit.block_id.hash.hex().upper() == header["last_block_id"]["hash"]
    params = made["block_params"]
    assert params["max_gas"] == "-1"
    assert consensus_hash(int(params["max_bytes"])).hex().upper() == header["consensus_hash"]
    assert all(result == {"code": 0, "data": None} for result in block["last_results"])
    results = [TransactionResult(Result.OK) for _ in block["last_results"]]
    assert len(results) == place  # the second block follows the one with a transaction
    assert results_hash(results).hex().upper() == header["last_results_hash"]
    assert data_hash([]).hex().upper() == header["evidence_hash"]


def test_item_codes_are_hashed_and_events_are_not() -> None:
    plain = TransactionResult(Result.OK)
    batch = TransactionResult(Result.OK, (Result.OK, Result.VERSION))
    assert result_data(plain.item_codes) == b""
    assert result_data(batch.item_codes) == bytes.fromhex("8200182c")  # [0, 44]
    assert len({results_hash([one]) for one in (plain, batch, TransactionResult(Result.QUOTA))}) == 3
