"""Audit files: an honest one holds, and every way to change one is refused at the step that it breaks."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.proof.header import CommitVote, SignedHeader, VoteFlag, header_hash
from onecode.proof.light import DAY_MS, Trust, trusted_state
from onecode.registry.span import (
    Anchors,
    SpanEnd,
    SpanFrame,
    SpanManifest,
    SpanResult,
    SpanVerifier,
    VerifiedSpan,
    framed,
    parse_item,
    parse_manifest,
    read_item,
)
from unit.registry.span_world import Chain, chain, made, sign

HONEST = chain()
END_HASH = header_hash(HONEST.end.header.header)
BY_END = Anchors(header_hash=END_HASH)


def verify(file: bytes, anchors: Anchors = BY_END, now_ms: int = HONEST.now_ms) -> VerifiedSpan:
    stream = io.BytesIO(file)
    first = read_item(stream.read)
    assert first is not None
    verifier = SpanVerifier(parse_manifest(first), anchors, now_ms)
    while (data := read_item(stream.read)) is not None:
        if verifier.wants_end:
            verifier.verify_end(parse_item(SpanEnd, data))
        else:
            verifier.verify_frame(parse_item(SpanFrame, data))
    return verifier.verify_whole()


def test_an_honest_file_holds() -> None:
    found = verify(HONEST.file())
    assert (found.end_hash, found.manifest.from_height, found.manifest.to_height) == (END_HASH, 1, 12)
    assert [frame.validators is not None for frame in HONEST.frames] == [True, *[False] * 8, True, False, False]
    assert any(frame.results[0].code for frame in HONEST.frames if len(frame.results) == 1) is False
    assert HONEST.frames[3].results[1].code  # a refused one is in it


def test_a_part_of_the_chain_holds_by_itself() -> None:
    anchors = Anchors(header_hash=header_hash(HONEST.frames[9].header.header))
    assert verify(HONEST.file(3, 9), anchors).rests_on == ("the given hash of header 10",)
    assert verify(HONEST.file(5, 5), Anchors(header_hash=header_hash(HONEST.frames[5].header.header)))


# --- altered files

Change = Callable[[Chain], tuple[list[SpanFrame], SpanEnd]]


def altered(height: int, **changes: Any) -> Change:
    def change(honest: Chain) -> tuple[list[SpanFrame], SpanEnd]:
        frames = list(honest.frames)
        frames[height - 1] = dataclasses.replace(frames[height - 1], **changes)
        return frames, honest.end

    return change


def forged(height: int, **changes: Any) -> Change:
    """A header with other contents, signed by its validators as a header should be: only the chain shows it."""

    def change(honest: Chain) -> tuple[list[SpanFrame], SpanEnd]:
        frames = list(honest.frames)
        header = dataclasses.replace(frames[height - 1].header.header, **changes)
        signed = sign(header, honest.validators(height), made()[1], ())
        frames[height - 1] = dataclasses.replace(frames[height - 1], header=signed)
        return frames, honest.end

    return change


def votes(height: int, change: Callable[[tuple[CommitVote, ...]], tuple[CommitVote, ...]]) -> Change:
    signed = HONEST.frames[height - 1].header
    commit = dataclasses.replace(signed.commit, votes=change(signed.commit.votes))
    return altered(height, header=dataclasses.replace(signed, commit=commit))


def ended(**changes: Any) -> Change:
    return lambda honest: (list(honest.frames), dataclasses.replace(honest.end, **changes))


def dropped(honest: Chain) -> tuple[list[SpanFrame], SpanEnd]:
    return [*honest.frames[:5], *honest.frames[6:]], honest.end


def swapped(honest: Chain) -> tuple[list[SpanFrame], SpanEnd]:
    frames = list(honest.frames)
    frames[5], frames[6] = frames[6], frames[5]
    return frames, honest.end


def _no_signature(given: tuple[CommitVote, ...], index: int) -> tuple[CommitVote, ...]:
    bad = dataclasses.replace(given[index], signature=bytes(64))
    return (*given[:index], bad, *given[index + 1 :])


FRAMES = HONEST.frames
TWO = FRAMES[2].transactions
LATE = FRAMES[4].header.header.time_ns - 1

TAMPERED: list[tuple[str, Change, str, str]] = [
    ("a height left out", dropped, "audit.height", "height 6, step 2"),
    ("two heights swapped", swapped, "audit.height", "height 6, step 2"),
    ("another chain", forged(4, chain_id="onecode-other"), "audit.chain_id", "height 4, step 2"),
    ("no header of a registry", forged(4, app_hash=b""), "audit.version", "height 4, step 2"),
    ("a header back in time", forged(6, time_ns=LATE), "audit.time", "height 6, step 2"),
    ("another header of a height", forged(6, consensus_hash=b"c" * 32), "audit.chain", "height 7, step 3"),
    ("another app hash", forged(6, app_hash=b"a" * 32), "audit.chain", "height 7, step 3"),
    ("a header field, not signed again", altered(6, header=FRAMES[6].header), "audit.height", "height 6"),
    ("validators not announced", forged(6, validators_hash=b"v" * 32), "audit.validators", "height 6, step 4"),
    ("validators repeated", altered(6, validators=FRAMES[0].validators), "audit.validators", "step 4"),
    ("changed validators left out", altered(10, validators=None), "audit.validators", "height 10, step 4"),
    ("other validators", altered(10, validators=FRAMES[0].validators), "audit.validators", "height 10"),
    ("the first validators left out", altered(1, validators=None), "audit.validators", "height 1, step 4"),
    ("too few votes", votes(6, lambda cast: (*cast[:2], CommitVote(flag=VoteFlag.ABSENT))), "header.power", "5"),
    ("a bad vote", votes(6, lambda cast: _no_signature(cast, 0)), "header.signature", "height 6, step 5"),
    ("a bad vote beyond 2/3", votes(10, lambda cast: _no_signature(cast, 3)), "audit.vote", "height 10, step 5"),
    ("a bad vote for no block", votes(12, lambda cast: _no_signature(cast, 2)), "audit.vote", "height 12"),
    (
        "an absent validator's vote",
        votes(11, lambda cast: (cast[0], dataclasses.replace(cast[1], signature=bytes(64)), *cast[2:])),
        "audit.vote",
        "height 11, step 5",
    ),
    (
        "a transaction left out",
        altered(3, transactions=TWO[:1], results=FRAMES[2].results[:1]),
        "audit.transactions",
        "height 3, step 7",
    ),
    ("a transaction altered", altered(3, transactions=(TWO[0], TWO[1] + b"\0")), "audit.transactions", "step 7"),
    ("transactions swapped", altered(3, transactions=TWO[::-1]), "audit.transactions", "height 3, step 7"),
    (
        "a transaction added",
        altered(2, transactions=TWO[:1], results=FRAMES[2].results[:1]),
        "audit.transactions",
        "height 2, step 7",
    ),
    ("a result left out", altered(3, results=FRAMES[2].results[:1]), "audit.results", "height 3, step 7"),
    (
        "another result",
        altered(4, results=(SpanResult(code=0, item_codes=(0,)),) * 2),
        "audit.results",
        "height 5, step 6",
    ),
    ("another end", ended(header=FRAMES[11].header), "audit.height", "height 13, step 2"),
]


@pytest.mark.parametrize(("what", "change", "code", "where"), TAMPERED, ids=[one[0] for one in TAMPERED])
def test_tampering_is_refused_with_height_and_step(what: str, change: Change, code: str, where: str) -> None:
    frames, end = change(HONEST)
    manifest = SpanManifest(format="onecode-audit/1", chain_id="onecode-span", from_height=1, to_height=12)
    with pytest.raises(Untrusted) as refused:
        verify(b"".join(map(framed, (manifest, *frames, end))))
    assert refused.value.code == code and where in refused.value.message


def test_the_last_results_are_proven_by_the_end() -> None:
    file = HONEST.file(3, 4)
    changed = dataclasses.replace(FRAMES[3], results=(FRAMES[3].results[0], SpanResult(code=0, item_codes=(0,))))
    items = [framed(FRAMES[3]), framed(changed)]
    anchors = Anchors(header_hash=header_hash(FRAMES[4].header.header))
    verify(file, anchors)
    assert file.count(items[0]) == 1
    with pytest.raises(Untrusted, match="height 5, step 6"):
        verify(file.replace(*items), anchors)


@given(st.integers(0, len(HONEST.file()) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, other: int) -> None:
    file = bytearray(HONEST.file())
    file[place] ^= other
    with pytest.raises(OnecodeError):
        verify(bytes(file))


@given(st.integers(1, len(HONEST.file()) - 1))
def test_no_shortened_file_holds(size: int) -> None:
    with pytest.raises(Malformed, match=r"audit.truncated"):
        verify(HONEST.file()[:size])


def test_a_longer_file_and_another_format() -> None:
    stream = HONEST.file() + framed(FRAMES[0])
    with pytest.raises(Malformed) as refused:
        verify(stream)
    assert refused.value.code == "audit.too_long"
    for name, first, last in (("onecode-audit/2", 1, 2), ("onecode-audit/1", 0, 2), ("onecode-audit/1", 3, 2)):
        manifest = SpanManifest(format=name, chain_id="onecode-span", from_height=first, to_height=last)
        with pytest.raises(Malformed):
            parse_manifest(manifest.encoded())


@pytest.mark.parametrize("head", [b"\xa1", b"\x5f", b"\x58\x01a", b"\x5b" + b"\xff" * 8, b"\x45abc", b"\x59\x01"])
def test_what_is_no_item(head: bytes) -> None:
    with pytest.raises(Malformed):
        read_item(io.BytesIO(head).read)


# --- anchors


def trust(height: int) -> Trust:
    return Trust(trusted_state(FRAMES[height - 1].header.header, HONEST.validators(height)))


def test_a_file_is_worth_what_the_checker_believes() -> None:
    with pytest.raises(Untrusted) as refused:
        verify(HONEST.file(), Anchors())
    assert refused.value.code == "audit.anchor"
    with pytest.raises(Untrusted) as refused:
        verify(HONEST.file(), Anchors(header_hash=bytes(32)))
    assert refused.value.code == "audit.anchor_absent"


def test_a_hash_proves_what_lies_below_for_ever_and_what_lies_above_for_the_trusting_period() -> None:
    later_ms = HONEST.now_ms + 400 * DAY_MS
    assert verify(HONEST.file(), BY_END, later_ms)
    middle = Anchors(header_hash=header_hash(FRAMES[6].header.header))
    assert verify(HONEST.file(), middle)
    with pytest.raises(Untrusted) as refused:
        verify(HONEST.file(), middle, later_ms)
    assert refused.value.code == "audit.anchor_old"


def test_a_trust_file_before_in_and_above_the_span() -> None:
    now_ms = FRAMES[11].header.header.time_ns // 1_000_000 + 5_000
    for height in (1, 4, 8):
        assert verify(HONEST.file(4, 8), Anchors(trust=trust(height)), now_ms).rests_on
    with pytest.raises(Untrusted) as refused:
        verify(HONEST.file(4, 8), Anchors(trust=trust(10)), now_ms)
    assert refused.value.code == "audit.anchor_above"
    with pytest.raises(Untrusted) as refused:
        verify(HONEST.file(4, 8), Anchors(trust=trust(2)), now_ms + 20 * DAY_MS)
    assert refused.value.code == "header.trust_expired"


def test_a_fork_is_seen_by_a_trust_file() -> None:
    header = dataclasses.replace(FRAMES[5].header.header, consensus_hash=b"c" * 32)
    other = Trust(trusted_state(header, HONEST.validators(6)))
    with pytest.raises(Untrusted, match="height 6, step 8") as refused:
        verify(HONEST.file(), Anchors(header_hash=END_HASH, trust=other))
    assert refused.value.code == "audit.fork"


def test_a_trust_file_of_other_validators_before_the_span() -> None:
    strangers = dataclasses.replace(FRAMES[0].header.header, chain_id="onecode-other")
    with pytest.raises(Untrusted):
        verify(HONEST.file(4, 8), Anchors(trust=Trust(trusted_state(strangers, HONEST.validators(1)))))


def test_a_genesis_is_an_anchor_of_height_one() -> None:
    first: SignedHeader = FRAMES[0].header
    genesis = (first.header.validators_hash, first.header.app_hash)
    assert verify(HONEST.file(), Anchors(genesis=genesis)).rests_on
    for other in ((b"v" * 32, genesis[1]), (genesis[0], b"a" * 32)):
        with pytest.raises(Untrusted) as refused:
            verify(HONEST.file(), Anchors(genesis=other))
        assert refused.value.code == "audit.genesis"
    with pytest.raises(Untrusted) as refused:
        verify(HONEST.file(2), Anchors(genesis=genesis))
    assert refused.value.code == "audit.genesis_height"
