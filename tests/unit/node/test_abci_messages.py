"""ABCI's bytes: literal messages as the engine writes them. Against its own definitions: test_abci_definitions.py."""

from __future__ import annotations

import pytest

from onecode.errors import Malformed
from onecode.node import abci_messages as messages
from onecode.node.abci_messages import EngineValidator, Method


def test_finalize_block_is_read() -> None:
    transactions, last_commit, header_hash = "0a0161" + "0a00", "1202" + "0801", "2202" + "beef"
    height, time = "2807", "3204" + "0804" + "1005"
    block = messages.parse_finalize_block(bytes.fromhex(transactions + last_commit + header_hash + height + time))
    assert block == messages.DecidedBlock(7, 4_000_000_005, (b"a", b""), b"\xbe\xef")


def test_check_tx_is_read() -> None:
    assert messages.parse_check_tx(bytes.fromhex("0a0161")) == messages.CheckTx(b"a", False)
    assert messages.parse_check_tx(bytes.fromhex("0a01611001")) == messages.CheckTx(b"a", True)


def test_init_chain_is_read() -> None:
    key = bytes(range(32))
    validator = b"\x0a\x22\x0a\x20" + key + b"\x10\x0a"
    data = b"\x12\x02ab" + b"\x22" + bytes((len(validator),)) + validator + b"\x30\x01"
    assert messages.parse_init_chain(data) == messages.InitChain("ab", 1, (EngineValidator(key, 10),))


def test_a_negative_number_is_read() -> None:
    minus_one = b"\xff" * 9 + b"\x01"
    assert messages.parse_prepare_proposal(b"\x08" + minus_one + b"\x12\x01a").bytes_max == -1


def test_fields_of_every_wire_type_are_skipped() -> None:
    assert (
        messages.parse_check_tx(b"\x79" + bytes(8) + b"\x7d" + bytes(4) + b"\x78\x05" + b"\x0a\x01a").transaction
        == b"a"
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x0a\x05a", "abci.truncated"),
        (b"\x10", "abci.truncated"),
        (b"\x10" + b"\xff" * 10, "abci.varint"),
        (b"\x0b", "abci.wire_type"),
        (b"\x08\x05", "abci.field_type"),
        (b"\x12\x00", "abci.field_type"),
    ],
)
def test_what_is_not_a_message_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as raised:
        messages.parse_check_tx(data)
    assert raised.value.code == code


def test_a_request_has_one_message() -> None:
    assert messages.parse_request(bytes.fromhex("a20100")) == (Method.FINALIZE_BLOCK, b"")
    for data in (b"", bytes.fromhex("0a001200")):
        with pytest.raises(Malformed) as raised:
            messages.parse_request(data)
        assert raised.value.code == "abci.request"


def test_responses_are_written() -> None:
    assert messages.response(Method.FLUSH, b"") == bytes.fromhex("021a00")
    assert messages.response(Method.FINALIZE_BLOCK, b"\x2a\x01h") == bytes.fromhex("06aa0103") + b"\x2a\x01h"
    assert messages.exception("no") == bytes.fromhex("060a040a02") + b"no"
    key = bytes(32)
    update = b"\x0a\x22\x0a\x20" + key
    block = messages.finalize_block_response([b"", b"\x08\x02"], [EngineValidator(key, 0)], b"h")
    assert block == b"\x12\x00" + b"\x12\x02\x08\x02" + b"\x1a\x24" + update + b"\x2a\x01h"
    assert messages.prepare_proposal_response([b"a", b""]) == b"\x0a\x01a\x0a\x00"
    assert messages.info_response("1", 1, 3, b"h") == b"\x0a\x07onecode\x12\x011\x18\x01\x20\x03\x2a\x01h"
