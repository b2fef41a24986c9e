"""RPC JSON in and out, with what CometBFT v0.39.4 writes for a first block."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from onecode.errors import Malformed
from onecode.proof.comet_json import (
    signed_header_from_rpc,
    signed_header_to_rpc,
    validators_from_rpc,
    validators_to_rpc,
)
from onecode.proof.header import VoteFlag
from vectors.proof_chain import MEMBERS, NEXT, SIX, signed_by

RPC = signed_header_to_rpc(signed_by(NEXT, [0, None, 2, 3, 4, 5]))


def changed(path: str, value: Any) -> dict[str, Any]:
    table: Any = copy.deepcopy(RPC)
    *way, last = path.split(".")
    here = table
    for name in way:
        here = here[int(name) if name.isdigit() else name]
    here[last] = value
    return table  # type: ignore[no-any-return]


def test_a_signed_header_comes_back_as_it_was() -> None:
    signed = signed_by(NEXT, [0, None, 2, 3, 4, 5])
    assert signed_header_from_rpc(RPC) == signed
    assert validators_from_rpc(validators_to_rpc(MEMBERS)) == MEMBERS
    assert signed_header_from_rpc(signed_header_to_rpc(signed_by(NEXT, SIX))) == signed_by(NEXT, SIX)


def test_what_the_engine_writes_for_an_absent_vote() -> None:
    assert RPC["commit"]["signatures"][1] == {
        "block_id_flag": 1,
        "validator_address": "",
        "timestamp": "0001-01-01T00:00:00Z",
        "signature": None,
    }
    absent = signed_header_from_rpc(RPC).commit.votes[1]
    assert absent.flag is VoteFlag.ABSENT
    assert absent.timestamp_ns is absent.signature is absent.validator_address is None


def test_an_app_version_of_zero_is_left_out_by_the_engine() -> None:
    assert signed_header_from_rpc(changed("header.version", {"block": "11"})).header.app_version == 0


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2027-01-15T08:00:00.1Z", 1_800_000_000_100_000_000),
        ("2027-01-15T08:00:00.000000001Z", 1_800_000_000_000_000_001),
        ("2028-02-29T23:59:59.999999999Z", 1_835_481_599_999_999_999),
    ],
)
def test_times_are_exact(text: str, time_ns: int) -> None:
    header = signed_header_from_rpc(changed("header.time", text))
    assert header.header.time_ns == time_ns
    assert signed_header_to_rpc(header)["header"]["time"] == text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("header", None),
        ("header.height", "x"),
        ("header.height", "-1"),
        ("header.time", "2027-01-15 08:00:00Z"),
        ("header.time", "2027-01-15T08:00:00+00:00"),
        ("header.time", "2027-02-30T08:00:00Z"),
        ("header.time", "2027-01-15T08:00:00.0000000001Z"),
        ("header.time", "1969-12-31T23:59:59Z"),
        ("header.app_hash", "0G"),
        ("header.app_hash", "00" * 33),
        ("header.last_block_id", None),
        ("header.chain_id", "x" * 51),
        ("commit.round", 1 << 31),
        ("commit.signatures", []),
        ("commit.signatures.0.block_id_flag", 4),
        ("commit.signatures.0.signature", "AAAA"),
        ("commit.signatures.0.signature", "!"),
        ("commit.signatures.0.validator_address", "00"),
    ],
)
def test_anything_else_is_malformed(path: str, value: Any) -> None:
    with pytest.raises(Malformed):
        signed_header_from_rpc(changed(path, value))


def test_validators_with_other_keys_are_refused() -> None:
    rpc = validators_to_rpc(MEMBERS)
    rpc[3]["pub_key"]["type"] = "tendermint/PubKeySecp256k1"
    with pytest.raises(Malformed) as caught:
        validators_from_rpc(rpc)
    assert caught.value.code == "comet.key_type"


@pytest.mark.parametrize("value", [[], [{}], [None], None, [{"pub_key": None}]])
def test_validators_of_another_shape_are_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        validators_from_rpc(value)
