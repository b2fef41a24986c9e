"""What members of the network and admitted observers read: merchants, blocks, and the stream of changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.host.clock import now_ms
from onecode.node.blocks import load_block, load_first, load_header, load_state
from onecode.node.config import NodeConfig
from onecode.node.decided import Decided, OpenBlock
from onecode.node.routes import CBOR, Reply, Request, Response, Streaming, hex_bytes, uint
from onecode.node.store import ReaderStore
from onecode.node.streams import Channel
from onecode.node.submission import result_name
from onecode.node.view import Head, listed_platforms, member_view_bytes, raw_list, raw_map
from onecode.proof.governance import ObserverLeaf, observer_key
from onecode.proof.leaves import ID, SERVICE
from onecode.proof.map import Section
from onecode.query.messages import BlockResult
from onecode.query.requests import (
    MEMBER_HEADER,
    OBSERVER_HEADER,
    parse_member,
    parse_observer,
    verify_member,
    verify_observer,
)
from onecode.registry.map import load
from onecode.registry.narrowing import NARROWING_HEADER, narrowing_header
from onecode.registry.store import Reader
from onecode.schema import parse
from onecode.wire import encode, sha256

NDJSON = b"application/x-ndjson"
PART_BLOCKS_MAX = 64
PART_BYTES_MAX = 1 << 18
QUIET_S = 5.0  # a line at least so often, so that both sides notice that the other has left

Allowed = Callable[[Reader, Head], None]


class Members:
    """The members' routes of one worker. `look` gives the head of a snapshot; `changed` waits for the next one."""

    def __init__(
        self,
        config: NodeConfig,
        store: ReaderStore,
        look: Callable[[Reader], Head],
        changed: Callable[[float], Any],
        decided: Decided,
    ) -> None:
        self._config = config
        self._decided = decided
        self._store = store
        self._look = look
        self._changed = changed
        self.streams = 0

    def require(self, request: Request, reader: Reader, head: Head) -> Allowed:
        """Refuse who is neither an active member nor an observer in force. What is returned refuses him when he is
        not any more."""
        if OBSERVER_HEADER in request.headers:
            proof = parse_observer(request.headers[OBSERVER_HEADER])
            leaf = self._observer(reader, proof.node_id)
            chain = self._config.chain_id
            verify_observer(chain, proof, leaf, request.method, request.target, request.body, now_ms())
            return lambda later, _: self._require_observer(later, proof.node_id, proof.key)
        header = request.headers.get(MEMBER_HEADER)
        if header is None:
            raise Untrusted("request.member", "members only: sign the request as docs/spec says", field=MEMBER_HEADER)
        member = parse_member(header)
        known = head.leaves.get(member.platform)
        if known is None:
            raise Untrusted("request.platform", "no such platform is on chain", field=MEMBER_HEADER)
        verify_member(self._config.chain_id, member, known, request.method, request.target, request.body, now_ms())
        return lambda _, newer: _require_active(newer, member.platform)

    def _observer(self, reader: Reader, node_id: str) -> ObserverLeaf:
        raw = load(reader, Section.GOVERNANCE, observer_key(node_id))
        if raw is None:
            raise Untrusted("request.observer", "no such observer was admitted", field=OBSERVER_HEADER, status=403)
        return parse(ObserverLeaf, raw)

    def _require_observer(self, reader: Reader, node_id: str, key: bytes) -> None:
        if self._observer(reader, node_id).key != key:
            raise Untrusted("request.observer", "the observer has another key now", field=OBSERVER_HEADER, status=403)

    # --- routes

    def merchant(self, request: Request, reply: Reply) -> None:
        merchant = ID.load(hex_bytes(request.parameters["merchant"], "merchant", 20, 20), "merchant")
        service = SERVICE.load(request.query("service") or "pay", "service")
        opened = self._decided.load()  # before the snapshot, which then holds every block before it
        headers = b""
        with self._store.snapshot() as reader:
            head = self._look(reader)
            self.require(request, reader, head)
            body = member_view_bytes(reader, head, merchant, service)
            if opened is not None and opened.follows(reader):
                headers = _narrowing(opened, merchant, service, listed_platforms(reader, merchant, service))
        reply(Response(200, body, CBOR, headers))

    def block(self, request: Request, reply: Reply) -> None:
        """An encoded `BlockView`."""
        height = uint(request.parameters["height"], "height")
        with self._store.snapshot() as reader:
            self.require(request, reader, self._look(reader))
            stored, block = load_header(reader, height), load_block(reader, height)
        if stored is None or block is None:
            raise _block_absent()
        parts = [
            (1, stored.signed.encoded()),
            (2, stored.validators.encoded()),
            (3, encode(block.transactions)),
            (4, raw_list([result.encoded() for result in block.results])),
        ]
        reply(Response(200, raw_map(parts), CBOR))

    def events(self, request: Request, reply: Reply) -> None:
        """One line of JSON for each block that changed something, from a height on, for as long as it is read. With
        `decided` the newest block has one at once, and another when it is proven."""
        wanted = request.query("decided")
        if wanted not in (None, "0", "1"):
            raise Malformed("http.parameter", "decided is 0 or 1", field="decided")
        given = request.query("from_height")
        with self._store.snapshot() as reader:
            allowed = self.require(request, reader, self._look(reader))
            newest, first = load_state(reader).height, load_first(reader)
        height = newest + 1 if given is None else uint(given, "from_height")
        if not first <= height <= newest + 1:
            raise Declined(
                "node.block_absent",
                f"events can be had from height {first} to {newest + 1}",
                field="from_height",
                status=404,
            )
        if self.streams >= self._config.streams_max:
            raise Unreachable("http.streams", "this node has too many event streams", status=429, retry_after_ms=10_000)
        self.streams += 1
        lines = _Lines(self._decided if wanted == "1" else None)
        reply(Streaming(NDJSON, partial(self._stream, height, allowed, lines), self._ended))

    def _ended(self) -> None:
        self.streams -= 1

    async def _stream(self, height: int, allowed: Allowed, line: _Lines, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        ends_s = sent_s + self._config.stream_ms_max / 1000
        try:
            while loop.time() < ends_s:
                opened = line.fresh()  # before the store is read, which then holds every block before it
                lines, newer = self._lines(height, allowed, line)
                if opened is not None and opened.height == newer:
                    lines.append(line.unproven(opened))
                if newer == height and not lines:
                    await self._changed(QUIET_S)
                height = newer
                if not lines and loop.time() - sent_s >= QUIET_S:
                    lines = [line.proven(height - 1, None, [])]  # so far it has been read
                await asyncio.sleep(0)  # reading many empty blocks must not hold up queries
                if lines:
                    await channel.send(b"".join(lines))
                    sent_s = loop.time()
        except OnecodeError as error:
            if error.code != "http.gone":
                await channel.send(json.dumps(error.problem()).encode() + b"\n")

    def _lines(self, height: int, allowed: Allowed, line: _Lines) -> tuple[list[bytes], int]:
        """Lines of the blocks from `height` on, a bounded number of them, and the height to go on from."""
        lines: list[bytes] = []
        size = 0
        with self._store.snapshot() as reader:
            allowed(reader, self._look(reader))
            if height < load_first(reader):
                raise _block_absent()
            newest = load_state(reader).height
            end = min(newest + 1, height + PART_BLOCKS_MAX)
            while height < end and size < PART_BYTES_MAX:
                block = load_block(reader, height)
                if block is None:
                    raise _block_absent()
                if block.transactions:
                    changes = [
                        _change(sha256(raw), result)
                        for raw, result in zip(block.transactions, block.results, strict=True)
                    ]
                    lines.append(line.proven(height, block.time_ms, changes))
                    size += len(lines[-1])
                height += 1
        return lines, height


class _Lines:
    """The lines of one stream. With `decided` each says whether it is proven, and the newest block has two."""

    def __init__(self, decided: Decided | None) -> None:
        self._decided = decided
        self._told = 0  # height of the last line that was not proven

    def fresh(self) -> OpenBlock | None:
        """A decided block with transactions that was not told yet."""
        opened = None if self._decided is None else self._decided.load()
        return opened if opened is not None and opened.height > self._told and opened.hashes else None

    def unproven(self, opened: OpenBlock) -> bytes:
        self._told = opened.height
        changes = [_change(hashed, result) for hashed, result in zip(opened.hashes, opened.results, strict=True)]
        return _line({"height": opened.height, "time_ms": opened.time_ms, "proven": False, "transactions": changes})

    def proven(self, height: int, time_ms: int | None, changes: list[dict[str, Any]]) -> bytes:
        line: dict[str, Any] = {"height": height, "time_ms": time_ms}
        if self._decided is not None:
            line["proven"] = True
        return _line(line | {"transactions": changes})


def _narrowing(opened: OpenBlock, merchant: bytes, service: str, listed: tuple[bytes, ...]) -> bytes:
    """A header line that says what the block after the proven state takes from the merchant; nothing if nothing."""
    found = opened.narrowing(merchant, service, listed)
    return b"" if found is None else f"{NARROWING_HEADER}: {narrowing_header(found)}\r\n".encode("ascii")


def _change(hashed: bytes, result: BlockResult) -> dict[str, Any]:
    return {
        "hash": hashed.hex(),
        "code": result.code,
        "name": result_name(result.code),
        "events": json.loads(result.events) if result.events else [],
    }


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode("utf-8") + b"\n"


def _require_active(head: Head, platform: bytes) -> None:
    leaf = head.leaves.get(platform)
    if leaf is None or not leaf.active_at(now_ms()):
        raise Untrusted("request.suspended", "the platform is not an active member", field=MEMBER_HEADER, status=403)


def _block_absent() -> OnecodeError:
    return Declined(
        "node.block_absent", "this node has no block of that height: ask an archive node", field="height", status=404
    )
