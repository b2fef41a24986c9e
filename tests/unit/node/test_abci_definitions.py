"""ABCI's bytes against the engine's own definitions: every message that the application reads or writes, every enum."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from onecode.node import abci_messages as messages
from onecode.node.abci_messages import EngineValidator, Method, ProposalStatus
from onecode.node.restore import Offer, Verdict
from onecode.node.snapshots import SnapshotInfo
from onecode.proof.transaction import result_bytes, result_data
from unit.node.engine_definitions import Definitions, engine_source

ROUNDS = 60
DEPTH = 4
NOT_ANSWERED = {"extend_vote", "verify_vote_extension", "insert_tx", "reap_txs"}
TEXTS = ("", "a", "链", "/p2p/filter/id/" + "0" * 40)
BYTES = (b"", b"\x00", b"\xff" * 32, bytes(300))
RANGES = {
    FieldDescriptor.TYPE_BOOL: (0, 1),
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
}


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return Definitions(engine_source())


def number(random: Random, low: int, high: int) -> int:
    """Often at an edge."""
    return random.choice((0, 1, low, high, 127 if high > 127 else 1, random.randint(low, high)))


def drawn(field: FieldDescriptor, random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_STRING:
        return random.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.choice(BYTES) or random.randbytes(random.randrange(200))
    return number(random, *RANGES[field.type])


def fill(message: Any, random: Random, depth: int = DEPTH) -> Any:
    """Any of a message's fields, with messages in them, whether the application reads them or not."""
    for field in message.DESCRIPTOR.fields:
        one_of = field.containing_oneof
        if random.random() < 0.25 or (one_of is not None and message.WhichOneof(one_of.name)):
            continue
        nested = field.type == FieldDescriptor.TYPE_MESSAGE
        if field.is_repeated:
            for _ in range(random.randrange(4)):
                if nested:
                    fill(getattr(message, field.name).add(), random, depth - 1)
                else:
                    getattr(message, field.name).append(drawn(field, random))
        elif not nested:
            setattr(message, field.name, drawn(field, random))
        elif depth:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(inner, random, depth - 1)
    return message


# --- what the engine asks


def _time_ns(time: Any) -> int:
    return int(time.seconds * 1_000_000_000 + time.nanos)


def _snapshot(snapshot: Any) -> SnapshotInfo:
    return SnapshotInfo(snapshot.height, snapshot.format, snapshot.chunks, snapshot.hash, snapshot.metadata)


READ: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], Any]]] = {
    "RequestInitChain": (
        messages.parse_init_chain,
        lambda asked: messages.InitChain(
            asked.chain_id,
            asked.initial_height,
            tuple(EngineValidator(one.pub_key.ed25519, one.power) for one in asked.validators),
        ),
    ),
    "RequestQuery": (messages.parse_query, lambda asked: messages.Query(asked.path)),
    "RequestCheckTx": (messages.parse_check_tx, lambda asked: messages.CheckTx(asked.tx, asked.type == 1)),
    "RequestPrepareProposal": (
        messages.parse_prepare_proposal,
        lambda asked: messages.Proposal(asked.height, _time_ns(asked.time), tuple(asked.txs), asked.max_tx_bytes),
    ),
    "RequestProcessProposal": (
        messages.parse_process_proposal,
        lambda asked: messages.Proposal(asked.height, _time_ns(asked.time), tuple(asked.txs), 0),
    ),
    "RequestFinalizeBlock": (
        messages.parse_finalize_block,
        lambda asked: messages.DecidedBlock(asked.height, _time_ns(asked.time), tuple(asked.txs), asked.hash),
    ),
    "RequestOfferSnapshot": (
        messages.parse_offer_snapshot,
        lambda asked: messages.SnapshotOffer(_snapshot(asked.snapshot), asked.app_hash),
    ),
    "RequestLoadSnapshotChunk": (
        messages.parse_load_snapshot_chunk,
        lambda asked: messages.ChunkWanted(asked.height, asked.format, asked.chunk),
    ),
    "RequestApplySnapshotChunk": (
        messages.parse_apply_snapshot_chunk,
        lambda asked: messages.ChunkGiven(asked.index, asked.chunk, asked.sender),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_the_engine_writes_is_read(definitions: Definitions, name: str) -> None:
    parse, expected = READ[name]
    for seed in range(ROUNDS):
        asked = fill(getattr(definitions, name)(), Random(f"{name}/{seed}"))
        assert parse(asked.SerializeToString()) == expected(asked)


def test_every_request_is_told_from_the_others(definitions: Definitions) -> None:
    known = {method.name.lower() for method in Method}
    fields = definitions.Request.DESCRIPTOR.fields
    assert {field.name for field in fields} == known | NOT_ANSWERED
    for field in fields:
        if field.name in known:
            request = definitions.Request()
            inner = getattr(request, field.name)
            inner.SetInParent()
            fill(inner, Random(field.name))
            assert messages.parse_request(request.SerializeToString()) == (
                Method[field.name.upper()],
                inner.SerializeToString(),
            )


# --- what the application answers

HEIGHT_MAX, UINT32_MAX = (1 << 63) - 1, (1 << 32) - 1


def _height(random: Random) -> int:
    return number(random, 0, HEIGHT_MAX)


def _short(random: Random) -> int:
    return number(random, 0, UINT32_MAX)


def _some(random: Random, draw: Callable[[Random], Any]) -> list[Any]:
    return [draw(random) for _ in range(random.randrange(4))]


def _bytes(random: Random) -> bytes:
    return random.choice(BYTES)


def _text(random: Random) -> str:
    return random.choice(TEXTS)


def _validator(random: Random) -> EngineValidator:
    return EngineValidator(random.randbytes(32), _height(random))


def _updates(ours: list[EngineValidator]) -> list[dict[str, Any]]:
    return [{"pub_key": {"ed25519": one.key}, "power": one.power} for one in ours]


def _info(random: Random) -> tuple[bytes, dict[str, Any]]:
    version, rules, height, app_hash = _text(random), _height(random), _height(random), _bytes(random)
    fields = {"data": "onecode", "version": version, "app_version": rules}
    body = messages.info_response(version, rules, height, app_hash)
    return body, fields | {"last_block_height": height, "last_block_app_hash": app_hash}


def _init_chain(random: Random) -> tuple[bytes, dict[str, Any]]:
    validators, app_hash = _some(random, _validator), _bytes(random)
    fields = {"validators": _updates(validators), "app_hash": app_hash}
    return messages.init_chain_response(validators, app_hash), fields


def _query(random: Random) -> tuple[bytes, dict[str, Any]]:
    code, detail, height = _short(random), _text(random), _height(random)
    return messages.query_response(code, detail, height), {"code": code, "log": detail, "height": height}


def _check_tx(random: Random) -> tuple[bytes, dict[str, Any]]:
    code, detail = _short(random), _text(random)
    return messages.check_tx_response(code, detail), {"code": code, "log": detail}


def _commit(random: Random) -> tuple[bytes, dict[str, Any]]:
    height = _height(random)
    return messages.commit_response(height), {"retain_height": height}


def _prepare_proposal(random: Random) -> tuple[bytes, dict[str, Any]]:
    transactions = _some(random, _bytes)
    return messages.prepare_proposal_response(transactions), {"txs": transactions}


def _process_proposal(random: Random) -> tuple[bytes, dict[str, Any]]:
    status = random.choice(list(ProposalStatus))
    return messages.process_proposal_response(status), {"status": status.name}


def _finalize_block(random: Random) -> tuple[bytes, dict[str, Any]]:
    results = _some(random, lambda random: (_short(random), _some(random, lambda random: random.randrange(200))))
    validators, app_hash = _some(random, _validator), _bytes(random)
    body = messages.finalize_block_response([result_bytes(*one) for one in results], validators, app_hash)
    tx_results = [{"code": code, "data": result_data(codes)} for code, codes in results]
    return body, {"tx_results": tx_results, "validator_updates": _updates(validators), "app_hash": app_hash}


def _list_snapshots(random: Random) -> tuple[bytes, dict[str, Any]]:
    names = ("height", "format", "chunks", "hash", "metadata")
    found = _some(
        random, lambda random: (_height(random), _short(random), _short(random), _bytes(random), _bytes(random))
    )
    body = messages.list_snapshots_response([SnapshotInfo(*one) for one in found])
    return body, {"snapshots": [dict(zip(names, one, strict=True)) for one in found]}


def _load_snapshot_chunk(random: Random) -> tuple[bytes, dict[str, Any]]:
    chunk = random.choice((None, *BYTES))
    return messages.load_snapshot_chunk_response(chunk), {"chunk": chunk or b""}


def _offer_snapshot(random: Random) -> tuple[bytes, dict[str, Any]]:
    result = random.choice(list(Offer))
    return messages.offer_snapshot_response(result), {"result": result.name}


def _apply_snapshot_chunk(random: Random) -> tuple[bytes, dict[str, Any]]:
    result, refetch, reject = random.choice(list(Verdict)), _some(random, _short), _some(random, lambda _: "é" * 20)
    body = messages.apply_snapshot_chunk_response(result, refetch, reject)
    return body, {"result": result.name, "refetch_chunks": refetch, "reject_senders": reject}


def _echo(random: Random) -> tuple[bytes, dict[str, Any]]:
    """The message of the request, as it is."""
    text = _text(random)
    return messages.bytes_field(1, text.encode("utf-8")), {"message": text}


WRITTEN = {
    Method.ECHO: _echo,
    Method.FLUSH: lambda _: (b"", {}),
    Method.INFO: _info,
    Method.INIT_CHAIN: _init_chain,
    Method.QUERY: _query,
    Method.CHECK_TX: _check_tx,
    Method.COMMIT: _commit,
    Method.LIST_SNAPSHOTS: _list_snapshots,
    Method.OFFER_SNAPSHOT: _offer_snapshot,
    Method.LOAD_SNAPSHOT_CHUNK: _load_snapshot_chunk,
    Method.APPLY_SNAPSHOT_CHUNK: _apply_snapshot_chunk,
    Method.PREPARE_PROPOSAL: _prepare_proposal,
    Method.PROCESS_PROPOSAL: _process_proposal,
    Method.FINALIZE_BLOCK: _finalize_block,
}


def _in_frame(definitions: Definitions, framed: bytes) -> Any:
    found = messages.read_uvarint(framed, 0)
    assert found is not None and found[0] == len(framed) - found[1]
    return definitions.Response.FromString(framed[found[1] :])


@pytest.mark.parametrize("method", Method)
def test_what_the_application_writes_is_what_the_engine_would(definitions: Definitions, method: Method) -> None:
    name = "Response" + "".join(map(str.capitalize, method.name.split("_")))
    for seed in range(ROUNDS):
        body, fields = WRITTEN[method](Random(f"{name}/{seed}"))
        assert body == getattr(definitions, name)(**fields).SerializeToString(deterministic=True)
        read = _in_frame(definitions, messages.response(method, body))
        assert read.WhichOneof("value") == method.name.lower()
        assert getattr(read, method.name.lower()).SerializeToString(deterministic=True) == body


def test_an_exception_is_one_to_the_engine(definitions: Definitions) -> None:
    read = _in_frame(definitions, messages.exception("no such height 高"))
    assert (read.WhichOneof("value"), read.exception.error) == ("exception", "no such height 高")


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        (ProposalStatus, "ResponseProcessProposal.ProposalStatus"),
        (Offer, "ResponseOfferSnapshot.Result"),
        (Verdict, "ResponseApplySnapshotChunk.Result"),
    ],
)
def test_verdicts_have_the_engines_numbers(definitions: Definitions, ours: Any, name: str) -> None:
    assert {one.name: one.value for one in ours} | {"UNKNOWN": 0} == definitions.values(name)


def test_a_recheck_has_the_engines_number(definitions: Definitions) -> None:
    assert definitions.values("CheckTxType") == {"NEW": 0, "RECHECK": messages._RECHECK}


def test_no_message_of_ours_is_left_out() -> None:
    assert {parse.__name__ for parse, _ in READ.values()} | {"parse_request"} == {
        name for name in vars(messages) if name.startswith("parse_")
    }
    written = {f"{method.name.lower()}_response" for method in WRITTEN}
    assert written >= {name for name in vars(messages) if name.endswith("_response")}
