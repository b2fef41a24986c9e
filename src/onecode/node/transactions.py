"""Transactions over HTTP: handed to the writer, waited for, looked up, and proven."""

from __future__ import annotations

from onecode.errors import Malformed
from onecode.node.blocks import StoredBlock, load_block, load_header, load_place
from onecode.node.decided import Decided, OpenBlock
from onecode.node.link import Link
from onecode.node.routes import (
    CBOR,
    Request,
    Response,
    hex_bytes,
    json_response,
    problem,
    require_cbor,
)
from onecode.node.store import ReaderStore
from onecode.node.submission import (
    SUBMIT,
    Submission,
    Submitted,
    Wait,
    items_plain,
    refused,
    result_name,
    submitted_plain,
)
from onecode.proof.transaction import TransactionProof, merkle_aunts, result_bytes
from onecode.query.messages import TransactionStatus, TransactionView
from onecode.registry.store import Reader
from onecode.registry.transactions import TRANSACTION_BYTES_MAX
from onecode.schema import parse
from onecode.wire import sha256

BLOCKS_REMEMBERED = 4


class _Block:
    """A block with the ways up its two trees, worked out once for all of its transactions."""

    def __init__(self, block: StoredBlock) -> None:
        self.block = block
        self.transaction_aunts = merkle_aunts([sha256(raw) for raw in block.transactions])
        self.result_aunts = merkle_aunts([result_bytes(one.code, one.item_codes) for one in block.results])


class Transactions:
    """The transactions' routes of one worker."""

    def __init__(self, store: ReaderStore, writer: Link, decided: Decided) -> None:
        self._store = store
        self._decided = decided
        self._writer = writer
        self._blocks: dict[int, _Block] = {}

    async def submit(self, request: Request) -> Response:
        """Hand a transaction to the writer and wait as long as was asked for."""
        require_cbor(request)
        if not 1 <= len(request.body) <= TRANSACTION_BYTES_MAX:
            raise Malformed(
                "transaction.size", f"a transaction has 1 to {TRANSACTION_BYTES_MAX} bytes", field="body", status=413
            )
        name = request.query("wait") or "decided"
        wait = next((wait for wait in Wait if wait.name.lower() == name), None)
        if wait is None:
            raise Malformed("http.parameter", "wait is decided, proven or none", field="wait")
        submission = Submission(transaction=request.body, wait=wait).encoded()
        submitted = parse(Submitted, await self._writer.call(SUBMIT, submission), path="submitted")
        error = refused(submitted)
        if error is not None and submitted.code is not None:
            more = {"result": result_name(submitted.code), "result_code": submitted.code}
            return problem(error, more | {"items": items_plain(submitted.items)})
        if not wants_cbor(request):
            return json_response(200, submitted_plain(submitted))
        return Response(200, self._view(submitted.hash).encoded(), CBOR)

    def look_up(self, request: Request) -> Response:
        """What became of a transaction of a kept block."""
        view = self._view(hex_bytes(request.parameters["hash"], "hash", 32, 32))
        if wants_cbor(request):
            return Response(200, view.encoded(), CBOR)
        plain = {
            "hash": view.hash.hex(),
            "status": view.status.name.lower(),
            "height": view.height,
            "code": view.code,
            "name": None if view.code is None else result_name(view.code),
            "items": items_plain(view.item_codes),
        }
        return json_response(200, plain)

    def _view(self, hashed: bytes) -> TransactionView:
        opened = self._decided.load()  # before the snapshot: what leaves it meanwhile is in the store
        with self._store.snapshot() as reader:
            place = load_place(reader, hashed)
            found = None if place is None else self._load(reader, place[0])
            if place is None or found is None:
                return _unproven(hashed, opened if opened is not None and opened.follows(reader) else None)
            height, index = place
            own, after = load_header(reader, height), load_header(reader, height + 1)
        result = found.block.results[index]
        known = {"hash": hashed, "height": height, "code": result.code, "item_codes": result.item_codes}
        if own is None or after is None:
            return TransactionView(**known, status=TransactionStatus.DECIDED)  # type: ignore[arg-type]
        proof = TransactionProof(
            header=after.signed,
            validators=after.validators,
            block=own.signed.header,
            index=index,
            total=len(found.block.transactions),
            transaction_aunts=found.transaction_aunts[index],
            result_aunts=found.result_aunts[index],
            code=result.code,
            item_codes=result.item_codes,
        )
        return TransactionView(**known, status=TransactionStatus.PROVEN, proof=proof)  # type: ignore[arg-type]

    def _load(self, reader: Reader, height: int) -> _Block | None:
        known = self._blocks.get(height)
        if known is None:
            block = load_block(reader, height)
            if block is None:
                return None
            known = self._blocks[height] = _Block(block)
            while len(self._blocks) > BLOCKS_REMEMBERED:
                del self._blocks[next(iter(self._blocks))]
        return known


def _unproven(hashed: bytes, opened: OpenBlock | None) -> TransactionView:
    """What is said of a transaction that the store does not have."""
    if opened is None or hashed not in opened.places:
        return TransactionView(hash=hashed, status=TransactionStatus.UNKNOWN, item_codes=())
    result = opened.results[opened.places[hashed]]
    return TransactionView(
        hash=hashed,
        status=TransactionStatus.DECIDED,
        height=opened.height,
        code=result.code,
        item_codes=result.item_codes,
    )


def wants_cbor(request: Request) -> bool:
    """Whether the client asks for CBOR, with the proof, by its `Accept`."""
    accepted = request.headers.get("accept", "").lower()
    return any(part.partition(";")[0].strip() == "application/cbor" for part in accepted.split(","))
