"""The messages of ABCI 2.0 that the application needs, as they cross the engine's socket.

Source: CometBFT v0.39 `proto/tendermint/abci/types.proto` and `abci/types/messages.go`: each message is an unsigned
varint of its length and a protobuf `Request` or `Response`, whose one field says what it is. Only the fields that are
used are read; others are skipped, as protobuf demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from onecode.errors import Malformed
from onecode.node.snapshots import SnapshotInfo
from onecode.proof.protobuf import NANOS_PER_SECOND, bytes_field, message_field, uvarint, varint_field

MESSAGE_BYTES_MAX = 64 << 20
_VARINT_BYTES_MAX = 10  # of 64 bits
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


class Method(IntEnum):
    """Field numbers of `Request`. The response's number is one more, since there `exception` is 1."""

    ECHO = 1
    FLUSH = 2
    INFO = 3
    INIT_CHAIN = 5
    QUERY = 6
    CHECK_TX = 8
    COMMIT = 11
    LIST_SNAPSHOTS = 12
    OFFER_SNAPSHOT = 13
    LOAD_SNAPSHOT_CHUNK = 14
    APPLY_SNAPSHOT_CHUNK = 15
    PREPARE_PROPOSAL = 16
    PROCESS_PROPOSAL = 17
    FINALIZE_BLOCK = 20


class ProposalStatus(IntEnum):
    ACCEPT = 1
    REJECT = 2


_EXCEPTION = 1
_RECHECK = 1


@dataclass(frozen=True, slots=True)
class EngineValidator:
    """An Ed25519 key and its power; power 0 removes it."""

    key: bytes
    power: int


@dataclass(frozen=True, slots=True)
class InitChain:
    chain_id: str
    initial_height: int
    validators: tuple[EngineValidator, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A question to the application by its path. The engine's own are about peers."""

    path: str


@dataclass(frozen=True, slots=True)
class CheckTx:
    transaction: bytes
    recheck: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """The transactions that shall become a block, or that a proposer put into one. bytes_max: 0 if that is not said."""

    height: int
    time_ns: int
    transactions: tuple[bytes, ...]
    bytes_max: int


@dataclass(frozen=True, slots=True)
class DecidedBlock:
    """A block as the engine has it executed; `header_hash` is its own header's."""

    height: int
    time_ns: int
    transactions: tuple[bytes, ...]
    header_hash: bytes


@dataclass(frozen=True, slots=True)
class SnapshotOffer:
    """A snapshot that a peer offers, and the app hash of its height, which the engine has verified."""

    snapshot: SnapshotInfo
    app_hash: bytes


@dataclass(frozen=True, slots=True)
class ChunkWanted:
    height: int
    format: int
    index: int


@dataclass(frozen=True, slots=True)
class ChunkGiven:
    """A chunk from the peer `sender`, an engine's node id."""

    index: int
    chunk: bytes
    sender: str


# --- decoding

Fields = dict[int, list[int | bytes]]


def read_uvarint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """A varint at `at` and the place after it; None if it goes on beyond the data. Raises `Malformed`."""
    number = 0
    for place in range(_VARINT_BYTES_MAX):
        if at + place >= len(data):
            return None
        byte = data[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & (1 << 64) - 1, at + place + 1
    raise Malformed("abci.varint", "a varint of the engine has more than 10 bytes")


def _whole_uvarint(data: bytes, at: int) -> tuple[int, int]:
    found = read_uvarint(data, at)
    if found is None:
        raise Malformed("abci.truncated", "a message of the engine ends within a field")
    return found


def read_fields(data: bytes) -> Fields:
    """All fields of a message by number, each with its values in order; raises `Malformed`."""
    fields: Fields = {}
    at = 0
    while at < len(data):
        key, at = _whole_uvarint(data, at)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _whole_uvarint(data, at)
        else:
            if kind == _LENGTH:
                size, at = _whole_uvarint(data, at)
            elif kind in _FIXED_BYTES:
                size = _FIXED_BYTES[kind]
            else:
                raise Malformed("abci.wire_type", f"a field of the engine has the wire type {kind}")
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise Malformed("abci.truncated", "a message of the engine ends within a field")
        fields.setdefault(number, []).append(value)
    return fields


def _unsigned(fields: Fields, number: int) -> int:
    """The last value of a uint32 or uint64 field; 0 where it is absent."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise Malformed("abci.field_type", f"field {number} of an engine's message is not a number")
    return value


def _number(fields: Fields, number: int) -> int:
    """The last value of an int32, int64 or enum field; 0 where it is absent."""
    value = _unsigned(fields, number)
    return value - (1 << 64) if value >> 63 else value


def _all_bytes(fields: Fields, number: int) -> tuple[bytes, ...]:
    values = fields.get(number, [])
    if not all(isinstance(value, bytes) for value in values):
        raise Malformed("abci.field_type", f"field {number} of an engine's message is not of bytes")
    return tuple(value for value in values if isinstance(value, bytes))


def _bytes(fields: Fields, number: int) -> bytes:
    values = _all_bytes(fields, number)
    return values[-1] if values else b""


def _time_ns(fields: Fields, number: int) -> int:
    time = read_fields(_bytes(fields, number))
    return _number(time, 1) * NANOS_PER_SECOND + _number(time, 2)


def parse_request(data: bytes) -> tuple[int, bytes]:
    """The field number of a `Request` (a `Method`, or one that is not known here) and the message in it."""
    fields = read_fields(data)
    if len(fields) != 1:
        raise Malformed("abci.request", "a request of the engine has not one message")
    number = next(iter(fields))
    return number, _bytes(fields, number)


def parse_init_chain(data: bytes) -> InitChain:
    fields = read_fields(data)
    validators = []
    for update in map(read_fields, _all_bytes(fields, 4)):
        validators.append(EngineValidator(_bytes(read_fields(_bytes(update, 1)), 1), _number(update, 2)))
    try:
        chain_id = _bytes(fields, 2).decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("abci.text", "the engine's chain id is not UTF-8", field="chain_id") from None
    return InitChain(chain_id, _number(fields, 6), tuple(validators))


def parse_query(data: bytes) -> Query:
    return Query(_bytes(read_fields(data), 2).decode("utf-8", "replace"))


def parse_check_tx(data: bytes) -> CheckTx:
    fields = read_fields(data)
    return CheckTx(_bytes(fields, 1), _number(fields, 2) == _RECHECK)


def parse_prepare_proposal(data: bytes) -> Proposal:
    fields = read_fields(data)
    return Proposal(_number(fields, 5), _time_ns(fields, 6), _all_bytes(fields, 2), _number(fields, 1))


def parse_process_proposal(data: bytes) -> Proposal:
    fields = read_fields(data)
    return Proposal(_number(fields, 5), _time_ns(fields, 6), _all_bytes(fields, 1), 0)


def parse_finalize_block(data: bytes) -> DecidedBlock:
    fields = read_fields(data)
    return DecidedBlock(_number(fields, 5), _time_ns(fields, 6), _all_bytes(fields, 1), _bytes(fields, 4))


def parse_offer_snapshot(data: bytes) -> SnapshotOffer:
    fields = read_fields(data)
    snapshot = read_fields(_bytes(fields, 1))
    info = SnapshotInfo(
        height=_unsigned(snapshot, 1),
        format=_unsigned(snapshot, 2),
        chunks=_unsigned(snapshot, 3),
        hash=_bytes(snapshot, 4),
        metadata=_bytes(snapshot, 5),
    )
    return SnapshotOffer(info, _bytes(fields, 2))


def parse_load_snapshot_chunk(data: bytes) -> ChunkWanted:
    fields = read_fields(data)
    return ChunkWanted(_unsigned(fields, 1), _unsigned(fields, 2), _unsigned(fields, 3))


def parse_apply_snapshot_chunk(data: bytes) -> ChunkGiven:
    fields = read_fields(data)
    return ChunkGiven(_unsigned(fields, 1), _bytes(fields, 2), _bytes(fields, 3).decode("utf-8", "replace"))


# --- encoding


def response(method: int, message: bytes) -> bytes:
    """The `Response` to a request of `method`, with its length in front."""
    return _framed(method + 1, message)


def exception(detail: str) -> bytes:
    """The `Response` that says that the application cannot go on; the engine stops at it."""
    return _framed(_EXCEPTION, bytes_field(1, detail.encode("utf-8")))


def _framed(number: int, message: bytes) -> bytes:
    body = uvarint(number << 3 | _LENGTH) + uvarint(len(message)) + message
    return uvarint(len(body)) + body


def info_response(version: str, app_version: int, height: int, app_hash: bytes) -> bytes:
    return (
        bytes_field(1, b"onecode")
        + bytes_field(2, version.encode("utf-8"))
        + varint_field(3, app_version)
        + varint_field(4, height)
        + bytes_field(5, app_hash)
    )


def _updates(number: int, validators: Sequence[EngineValidator]) -> bytes:
    return b"".join(
        message_field(number, message_field(1, message_field(1, one.key)) + varint_field(2, one.power))
        for one in validators
    )


def init_chain_response(validators: Sequence[EngineValidator], app_hash: bytes) -> bytes:
    return _updates(2, validators) + bytes_field(3, app_hash)


def check_tx_response(code: int, detail: str) -> bytes:
    return varint_field(1, code) + bytes_field(3, detail.encode("utf-8"))


def query_response(code: int, detail: str, height: int) -> bytes:
    return varint_field(1, code) + bytes_field(3, detail.encode("utf-8")) + varint_field(9, height)


def commit_response(retain_height: int) -> bytes:
    """`retain_height`: the engine may forget its blocks below; 0 keeps all."""
    return varint_field(3, retain_height)


def prepare_proposal_response(transactions: Sequence[bytes]) -> bytes:
    return b"".join(message_field(1, transaction) for transaction in transactions)


def process_proposal_response(status: ProposalStatus) -> bytes:
    return varint_field(1, status)


def finalize_block_response(results: Sequence[bytes], validators: Sequence[EngineValidator], app_hash: bytes) -> bytes:
    """`results`: one a transaction, as `proof.transaction.result_bytes` writes it (code and data)."""
    return b"".join(message_field(2, one) for one in results) + _updates(3, validators) + bytes_field(5, app_hash)


def list_snapshots_response(snapshots: Sequence[SnapshotInfo]) -> bytes:
    return b"".join(
        message_field(
            1,
            varint_field(1, one.height)
            + varint_field(2, one.format)
            + varint_field(3, one.chunks)
            + bytes_field(4, one.hash)
            + bytes_field(5, one.metadata),
        )
        for one in snapshots
    )


def load_snapshot_chunk_response(chunk: bytes | None) -> bytes:
    """Nothing for a chunk that is not there."""
    return bytes_field(1, chunk or b"")


def offer_snapshot_response(result: int) -> bytes:
    return varint_field(1, result)


def apply_snapshot_chunk_response(result: int, refetch: Sequence[int], reject: Sequence[str]) -> bytes:
    return (
        varint_field(1, result)
        + bytes_field(2, b"".join(map(uvarint, refetch)))
        + b"".join(bytes_field(3, sender.encode("utf-8")) for sender in reject)
    )
