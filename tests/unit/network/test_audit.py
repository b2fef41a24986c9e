"""An export that is stopped at any byte goes on and ends as the same file; no half of one passes; a replay compares."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from onecode.errors import Declined, Malformed, Misconfigured, OnecodeError, Unreachable, Untrusted
from onecode.network.audit import export_span, read_manifest, verify_file
from onecode.proof.header import Header, header_hash, validators_hash
from onecode.query.messages import BlockResult, BlockView, HeaderView
from onecode.registry.replay import Replay, genesis_anchor
from onecode.registry.results import Result
from onecode.registry.span import Anchors, SpanFrame
from onecode.registry.store import MemoryStore
from unit.registry.span_world import Chain, chain, made, ordered, sign_chain

HONEST = chain()
BY_END = Anchors(header_hash=header_hash(HONEST.end.header.header))
TOLD: list[int] = []


def told(height: int) -> None:
    TOLD.append(height)


class Node:
    """Gives the chain's blocks; dies at the height `dies_at`."""

    def __init__(self, frames: Sequence[SpanFrame] = HONEST.frames, dies_at: int = 0) -> None:
        self.frames, self.dies_at, self.asked = frames, dies_at, list[int]()

    def block(self, height: int) -> BlockView:
        self.asked.append(height)
        if height == self.dies_at:
            raise Unreachable("http.unreachable", "it died")
        frame = self.frames[height - 1]
        results = tuple(BlockResult(code=one.code, item_codes=one.item_codes, events=b"") for one in frame.results)
        validators = HONEST.validators(height)
        return BlockView(header=frame.header, validators=validators, transactions=frame.transactions, results=results)

    def header(self, height: int | None) -> HeaderView:
        if height in (None, len(self.frames) + 1):
            return HeaderView(header=HONEST.end.header, validators=HONEST.validators(len(self.frames)))
        view = self.block(height or 0)
        return HeaderView(header=view.header, validators=view.validators)


def test_an_export_holds_and_is_the_file_that_the_chain_gives(tmp_path: Path) -> None:
    path = tmp_path / "span"
    assert export_span(Node(), path, 1, None, told).to_height == 12
    assert path.read_bytes() == HONEST.file()
    assert path.stat().st_mode & 0o777 == 0o600
    span, summary = verify_file(path, BY_END, HONEST.now_ms, told)
    assert span.manifest == read_manifest(path)
    assert summary.counts["record_publish", "ok"] == 3
    assert sum(summary.counts.values()) == summary.transactions == 8
    assert summary.counts["record_withdraw", "items_failed"] == 1
    assert [height for height, _ in summary.changes] == [10] and summary.changes[0][1].endswith("with 10")
    with pytest.raises(Misconfigured) as refused:
        export_span(Node(), path, 1, None, told)
    assert refused.value.code == "audit.file_exists"


def test_a_part_in_the_middle(tmp_path: Path) -> None:
    export_span(Node(), tmp_path / "span", 4, 11, told)
    assert (tmp_path / "span").read_bytes() == HONEST.file(4, 11)


def test_a_stopped_export_goes_on_at_every_byte(tmp_path: Path) -> None:
    whole, part = HONEST.file(1, 4), tmp_path / "span.part"
    for size in range(0, len(whole) + 1, 97):
        part.write_bytes(whole[:size])
        for pretended in (Anchors(header_hash=header_hash(HONEST.frames[4].header.header)),):
            if size < len(whole):
                with pytest.raises(OnecodeError):
                    verify_file(part, pretended, HONEST.now_ms, told)
        node = Node()
        export_span(node, tmp_path / "span", 1, 4, told)
        assert (tmp_path / "span").read_bytes() == whole and not part.exists()
        (tmp_path / "span").unlink()
    part.write_bytes(whole)  # all but the renaming was done
    export_span(node := Node(), tmp_path / "span", 1, None, told)
    assert (tmp_path / "span").read_bytes() == whole and node.asked == []


def test_a_node_that_dies_costs_no_height_twice(tmp_path: Path) -> None:
    node = Node(dies_at=6)
    with pytest.raises(Unreachable):
        export_span(node, tmp_path / "span", 1, 8, told)
    assert not (tmp_path / "span").exists()
    again = Node()
    export_span(again, tmp_path / "span", 1, None, told)  # to where it was to go
    assert again.asked[0] == 6 and (tmp_path / "span").read_bytes() == HONEST.file(1, 8)


def test_garbage_after_a_crash_is_cut_off(tmp_path: Path) -> None:
    whole = HONEST.file(1, 4)
    for torn in (whole[:900] + bytes(500), whole[:-40] + bytes(40), bytes(300)):
        (tmp_path / "span.part").write_bytes(torn)
        export_span(Node(), tmp_path / "span", 1, 4, told)
        assert (tmp_path / "span").read_bytes() == whole
        (tmp_path / "span").unlink()


def test_one_export_at_a_time_and_of_one_span(tmp_path: Path) -> None:
    (tmp_path / "span.part").write_bytes(HONEST.file(1, 4)[:900])
    for first, last in ((2, 4), (1, 5)):
        with pytest.raises(Misconfigured) as refused:
            export_span(Node(), tmp_path / "span", first, last, told)
        assert refused.value.code == "audit.part"

    class Second(Node):
        def block(self, height: int) -> BlockView:
            with pytest.raises(Misconfigured) as locked:
                export_span(Node(), tmp_path / "span", 1, 4, told)
            assert locked.value.code == "audit.locked"
            return super().block(height)

    export_span(Second(), tmp_path / "span", 1, 4, told)


def test_what_is_not_decided_and_what_is_no_span(tmp_path: Path) -> None:
    with pytest.raises(Declined) as refused:
        export_span(Node(), tmp_path / "span", 1, 13, told)
    assert refused.value.code == "audit.not_decided"
    for first, last in ((0, 3), (5, 4)):
        with pytest.raises(Malformed):
            export_span(Node(), tmp_path / "span", first, last, told)
    assert list(tmp_path.iterdir()) == []


def test_a_lying_node_writes_nothing(tmp_path: Path) -> None:
    frames = list(HONEST.frames)
    frames[2] = dataclasses.replace(frames[2], transactions=frames[2].transactions[::-1])
    with pytest.raises(Untrusted, match="height 3, step 7"):
        export_span(Node(frames), tmp_path / "span", 1, 12, told)
    assert (tmp_path / "span.part").read_bytes() == HONEST.file()[: len((tmp_path / "span.part").read_bytes())]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        read_manifest(tmp_path / "absent")
    (tmp_path / "empty").touch()
    with pytest.raises(Malformed):
        read_manifest(tmp_path / "empty")


# --- replay


def replayed(file: Path, honest: Chain = HONEST) -> None:
    end = header_hash(honest.end.header.header)
    verify_file(file, Anchors(header_hash=end), honest.now_ms, told, Replay(MemoryStore(), honest.genesis))


def written(path: Path, honest: Chain) -> Path:
    path.write_bytes(honest.file())
    return path


def test_a_replay_of_an_honest_chain(tmp_path: Path) -> None:
    replayed(written(tmp_path / "span", HONEST))
    first = HONEST.frames[0].header.header
    assert genesis_anchor(HONEST.genesis) == (first.validators_hash, first.app_hash)


def refused_replay(path: Path, bad: Chain, code: str, where: str) -> None:
    """Every signature and hash holds, and only executing shows that the rules were broken."""
    file = written(path, bad)
    verify_file(file, Anchors(header_hash=header_hash(bad.end.header.header)), bad.now_ms, told)
    with pytest.raises(Untrusted, match=where) as refused:
        replayed(file, bad)
    assert refused.value.code == code


def test_validators_that_sign_a_state_against_the_rules(tmp_path: Path) -> None:
    def change(header: Header) -> Header:
        return dataclasses.replace(header, app_hash=b"a" * 32) if header.height == 7 else header

    refused_replay(tmp_path / "span", chain(change), "audit.replay_state", "height 7")
    last = chain(lambda header: dataclasses.replace(header, app_hash=b"a" * 32) if header.height == 13 else header)
    refused_replay(tmp_path / "span", last, "audit.replay_state", "height 13")


def test_validators_that_sign_another_result(tmp_path: Path) -> None:
    world, keys = made()
    blocks = list(world.blocks)
    results = list(blocks[3].results)
    results[1] = dataclasses.replace(results[1], code=Result.OK, item_codes=(Result.OK,))
    blocks[3] = dataclasses.replace(blocks[3], results=tuple(results))
    frames, end = sign_chain(world.genesis, world.first_hash, blocks, keys)
    bad = dataclasses.replace(HONEST, frames=frames, end=end)
    refused_replay(tmp_path / "span", bad, "audit.replay_result", "height 4")


def test_validators_that_hand_over_without_a_vote(tmp_path: Path) -> None:
    world, keys = made()
    fewer = ordered(world.genesis.validators[:2])
    blocks = [dataclasses.replace(one, validators=world.genesis.validators[:2]) for one in world.blocks]
    frames, end = sign_chain(world.genesis, world.first_hash, blocks, keys)
    assert frames[2].header.header.validators_hash == validators_hash(fewer)
    bad = dataclasses.replace(HONEST, frames=frames, end=end)
    refused_replay(tmp_path / "span", bad, "audit.replay_validators", "height 2")


def test_another_genesis(tmp_path: Path) -> None:
    other = dataclasses.replace(HONEST.genesis, services=("pay",))
    with pytest.raises(Untrusted, match="height 1, replay"):
        replayed(written(tmp_path / "span", HONEST), dataclasses.replace(HONEST, genesis=other))
