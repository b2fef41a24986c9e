"""Audit files: a span of the chain fetched from a node into one file, and read again for verification.

An export is written to FILE.part and renamed when its last item is there. A part that an export left behind is read
again, cut after its last whole item that holds, and continued; it never passes for a file, since its manifest names the
height at which it would end. Format and checks: docs/spec/audit.md.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import httpx

from onecode.errors import Declined, Malformed, Misconfigured, OnecodeError, Unreachable, answer_error
from onecode.proof.header import ValidatorSet, validators_hash
from onecode.query.messages import BlockView, HeaderView
from onecode.registry.replay import Replay
from onecode.registry.results import Result
from onecode.registry.span import (
    FORMAT,
    FRAME_BYTES_MAX,
    Anchors,
    SpanEnd,
    SpanFrame,
    SpanManifest,
    SpanResult,
    SpanVerifier,
    VerifiedFrame,
    VerifiedSpan,
    framed,
    parse_item,
    parse_manifest,
    read_item,
)
from onecode.registry.transactions import parse_transaction
from onecode.schema import parse

PART = ".part"
TIMEOUT_S = 30.0
TRIES_MAX = 8
WAIT_MS_MAX = 5_000
SYNC_S = 1.0
CHANGES_SHOWN_MAX = 1_000
REPLAY_BLOCKS_A_COMMIT = 256

Credential = Callable[[str, str], dict[str, str]]  # headers for a method and a path
Told = Callable[[int], None]  # the height that is done


class Blocks(Protocol):
    """Where an export reads from."""

    def block(self, height: int) -> BlockView: ...
    def header(self, height: int | None) -> HeaderView: ...


class NodeBlocks:
    """A node's blocks for a member or an observer; asks again, for a while, where the node is busy."""

    def __init__(self, url: str, credential: Credential) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/"), trust_env=False, timeout=TIMEOUT_S)
        self._credential = credential

    def block(self, height: int) -> BlockView:
        path = f"/v1/members/blocks/{height}"
        return parse(BlockView, self._get(path, signed=True), size_max=FRAME_BYTES_MAX, path="block")

    def header(self, height: int | None) -> HeaderView:
        """The header of a height, or the newest."""
        which = "latest" if height is None else str(height)
        return parse(HeaderView, self._get(f"/v1/headers/{which}", signed=False), path="header")

    def close(self) -> None:
        self._http.close()

    def _get(self, path: str, *, signed: bool) -> bytes:
        for tried in range(TRIES_MAX):
            try:
                return self._once(path, self._credential("GET", path) if signed else {})
            except Unreachable as error:
                if tried == TRIES_MAX - 1:
                    raise
                wait_ms = error.retry_after_ms or 100 << tried
                time.sleep(min(wait_ms, WAIT_MS_MAX) / 1000)
        raise Unreachable("http.unreachable", f"{path} gave no answer")

    def _once(self, path: str, headers: dict[str, str]) -> bytes:
        try:
            with self._http.stream("GET", path, headers=headers) as answer:
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > FRAME_BYTES_MAX:
                        raise Malformed("http.too_large", f"{path} sent more than {FRAME_BYTES_MAX} bytes", status=413)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable("http.unreachable", f"the node cannot be reached: {type(error).__name__}") from None
        if not answer.is_success:
            raise answer_error(answer.status_code, bytes(body))
        return bytes(body)


# --- export


def export_span(blocks: Blocks, path: Path, from_height: int, to_height: int | None, told: Told) -> SpanManifest:
    """Write the heights to `path`, going on with `path`.part where there is one; `to_height` None is the newest that is
    proven, or the one that the part names. What the node gives is checked before it is written (docs/spec/audit.md,
    steps 2 to 7)."""
    if path.exists():
        raise Misconfigured("audit.file_exists", f"{path} exists and is not overwritten", field="output")
    part = path.with_name(path.name + PART)
    with _locked(part) as file:
        verifier, begin = _take_up(file, from_height, to_height), b""
        if verifier is None:
            newest = blocks.header(None).header.header
            manifest = _manifest(newest.chain_id, from_height, newest.height - 1 if to_height is None else to_height)
            if manifest.to_height >= newest.height:
                raise Declined(
                    "audit.not_decided", f"the newest height that is proven is {newest.height - 1}", field="to"
                )
            verifier, begin = SpanVerifier(manifest, Anchors(), 0), framed(manifest)
            file.seek(0)
            file.truncate()
        _append(blocks, file, verifier, begin, told)
        _sync(file)
        part.rename(path)
        _sync_directory(path.parent)
        return verifier.manifest


def _manifest(chain_id: str, from_height: int, to_height: int) -> SpanManifest:
    """As it will be read again: `Malformed` for a span that is none."""
    manifest = SpanManifest(format=FORMAT, chain_id=chain_id, from_height=from_height, to_height=to_height)
    return parse_manifest(manifest.encoded())


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """The part, open for one export at a time; an empty one does not stay behind."""
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Misconfigured("audit.locked", f"another export writes {part}", field="output") from None
        try:
            yield file
        except BaseException:
            file.flush()
            if not file.seek(0, os.SEEK_END):
                part.unlink(missing_ok=True)
            raise


def _take_up(file: BinaryIO, from_height: int, to_height: int | None) -> SpanVerifier | None:
    """The verifier after the part's last whole item that holds, where the file is cut; None where nothing is of use."""
    try:
        first = read_item(file.read)
        if first is None:
            return None
        manifest = parse_manifest(first)
    except Malformed:
        return None
    if manifest.from_height != from_height or to_height not in (None, manifest.to_height):
        raise Misconfigured(
            "audit.part",
            f"the part is of heights {manifest.from_height} to {manifest.to_height}: ask for these, or remove it",
            field="output",
        )
    verifier = SpanVerifier(manifest, Anchors(), 0)
    end = file.tell()
    try:
        for _ in _frames(file, verifier):
            end = file.tell()
    except OnecodeError:
        pass  # torn by what ended the export
    file.seek(end)
    file.truncate()
    return verifier


def _append(blocks: Blocks, file: BinaryIO, verifier: SpanVerifier, begin: bytes, told: Told) -> None:
    """Fetch and write what the verifier wants; `begin` goes before the first height, so that none stands alone."""
    synced_s = time.monotonic()
    while verifier.height <= verifier.manifest.to_height:
        view = blocks.block(verifier.height)
        frame = SpanFrame(
            header=view.header,
            validators=_changed(verifier, view.validators),
            transactions=view.transactions,
            results=tuple(SpanResult(code=one.code, item_codes=one.item_codes) for one in view.results),
        )
        verifier.verify_frame(frame)
        file.write(begin + framed(frame))
        begin = b""
        told(verifier.height - 1)
        if time.monotonic() - synced_s >= SYNC_S:
            _sync(file)
            synced_s = time.monotonic()
    if verifier.wants_end:
        after = blocks.header(verifier.height)
        end = SpanEnd(header=after.header, validators=_changed(verifier, after.validators))
        verifier.verify_end(end)
        file.write(framed(end))


def _changed(verifier: SpanVerifier, validators: ValidatorSet) -> ValidatorSet | None:
    last = verifier.last
    same = last is not None and validators_hash(validators) == last.signed.header.validators_hash
    return None if same else validators


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# --- verification


@dataclass(slots=True)
class Summary:
    """What a span holds. counts: by kind and result. changes: heights with other validators than before, in words."""

    first_ns: int = 0
    last_ns: int = 0
    transactions: int = 0
    bytes: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: list[tuple[int, str]] = field(default_factory=list)
    validators: ValidatorSet | None = None
    validators_first: int = 0

    def add(self, frame: VerifiedFrame) -> None:
        """Count one height."""
        header = frame.signed.header
        self.first_ns = self.first_ns or header.time_ns
        self.last_ns = header.time_ns
        if frame.changed and self.validators is not None and len(self.changes) < CHANGES_SHOWN_MAX:
            self.changes.append((header.height, _difference(self.validators, frame.validators)))
        self.validators = frame.validators
        self.validators_first = self.validators_first or len(frame.validators.validators)
        for raw, result in zip(frame.transactions, frame.results, strict=True):
            self.transactions += 1
            self.bytes += len(raw)
            self.counts[_kind(raw), _result(result.code)] += 1


def _kind(raw: bytes) -> str:
    try:
        return parse_transaction(raw)[1].kind.name.lower()
    except Malformed:
        return "unreadable"


def _result(code: int) -> str:
    known = {int(one): one.name.lower() for one in Result}
    return known.get(code, f"code {code}")


def _difference(before: ValidatorSet, after: ValidatorSet) -> str:
    old = {one.public_key: one.power for one in before.validators}
    new = {one.public_key: one.power for one in after.validators}
    words = [f"+{key.hex()[:8]} with {new[key]}" for key in sorted(new.keys() - old.keys())]
    words += [f"-{key.hex()[:8]}" for key in sorted(old.keys() - new.keys())]
    words += [
        f"{key.hex()[:8]} {old[key]} to {new[key]}" for key in sorted(old.keys() & new.keys()) if old[key] != new[key]
    ]
    return ", ".join(words)


def read_manifest(path: Path) -> SpanManifest:
    """Which heights of which chain the file says it holds."""
    with _opened(path) as file:
        return _read_manifest(file)


def verify_file(
    path: Path, anchors: Anchors, now_ms: int, told: Told, replay: Replay | None = None, store: Store | None = None
) -> tuple[VerifiedSpan, Summary]:
    """Check the whole file against what the checker believes, one height at a time; with `replay` execute it too.

    `store`: what `replay` writes to, if it must be told when to commit. Raises what the failing step raises, naming
    height and step.
    """
    summary = Summary()
    with _opened(path) as file:
        manifest = _read_manifest(file)
        verifier = SpanVerifier(manifest, anchors, now_ms)
        for frame in _frames(file, verifier):
            height = frame.signed.header.height
            if replay is not None and height <= manifest.to_height:
                replay.execute(frame)
                if store is not None and height % REPLAY_BLOCKS_A_COMMIT == 0:
                    store.commit()
            elif replay is not None:
                replay.require_state(frame)
            if height <= manifest.to_height:
                summary.add(frame)
            told(height)
        return verifier.verify_whole(), summary


class Store(Protocol):
    """A store that gathers changes until it is told to keep them."""

    def commit(self) -> None: ...


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Misconfigured("audit.unreadable", f"{path} cannot be read: {error.strerror}", field="file") from None
    with file:
        yield file


def _read_manifest(file: BinaryIO) -> SpanManifest:
    first = read_item(file.read)
    if first is None:
        raise Malformed("audit.truncated", "the file is empty: export it again", field="file")
    return parse_manifest(first)


def _frames(file: BinaryIO, verifier: SpanVerifier) -> Iterator[VerifiedFrame]:
    """Every height after the manifest, the end last; each is verified."""
    while (data := read_item(file.read)) is not None:
        if verifier.height <= verifier.manifest.to_height:
            yield verifier.verify_frame(parse_item(SpanFrame, data))
        elif verifier.wants_end:
            yield verifier.verify_end(parse_item(SpanEnd, data))
        else:
            raise Malformed("audit.too_long", "something follows the end of the span", field="file")
