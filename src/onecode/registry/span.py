"""A span of the chain in one file: every signed header, transaction and result of its heights, checked offline.

The file is a CBOR sequence of byte strings, each an encoded message: a manifest, one frame for each height, and the
header after the last one, whose hashes prove the last block's results and state. The steps are numbered as in
docs/spec/audit.md. Nothing stands in the file that no step establishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.proof.ed25519 import vote_signature_holds
from onecode.proof.header import (
    INT64_MAX,
    PRECOMMIT,
    SignedHeader,
    Validator,
    ValidatorSet,
    VoteFlag,
    header_hash,
    merkle_root,
    validators_hash,
    vote_sign_bytes,
)
from onecode.proof.light import BLOCK_PROTOCOL, DAY_MS, NANOS_PER_MILLI, Trust, verify_commit, verify_header
from onecode.proof.protobuf import bytes_field, message_field, sfixed64_field, timestamp, uvarint, varint_field
from onecode.proof.transaction import ITEM_CODES, RESULT_CODE, result_bytes
from onecode.schema import Bytes, ListOf, M, Message, Nested, Text, Uint, item, parse
from onecode.wire import CHAIN_ID_CHARS_MAX, encode, sha256

FORMAT = "onecode-audit/1"
FRAME_BYTES_MAX = 72 << 20  # a block of 64 MiB with its results and header
TRANSACTIONS_MAX = 1 << 20
TRUSTING_PERIOD_MS = 14 * DAY_MS
APP_HASH_BYTES = 32

_LENGTH_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}


class SpanManifest(Message):
    """The file's first item: which heights of which chain follow."""

    format: str = item(1, Text(32))
    chain_id: str = item(2, Text(CHAIN_ID_CHARS_MAX))
    from_height: int = item(3, Uint(INT64_MAX - 1))
    to_height: int = item(4, Uint(INT64_MAX - 1))


class SpanResult(Message):
    """What became of a transaction, as the next header's `last_results_hash` binds it."""

    code: int = item(1, RESULT_CODE)
    item_codes: tuple[int, ...] = item(2, ITEM_CODES)


class SpanFrame(Message):
    """One height. `validators` stands in the first frame, and where they are not those of the height before."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet | None = item(2, Nested(ValidatorSet), default=None)
    transactions: tuple[bytes, ...] = item(3, ListOf(Bytes(0, FRAME_BYTES_MAX), TRANSACTIONS_MAX))
    results: tuple[SpanResult, ...] = item(4, ListOf(Nested(SpanResult), TRANSACTIONS_MAX))


class SpanEnd(Message):
    """The file's last item: the header of the height after the span."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet | None = item(2, Nested(ValidatorSet), default=None)


@dataclass(frozen=True, slots=True)
class Anchors:
    """What the checker believes for a reason of its own; each is optional, one at least is needed.

    header_hash: of a header of the span, or of the one after it. trust: a verified trust file's, at most one height
    above the span. genesis: hash of the first validators, and the app hash of the first state.
    """

    header_hash: bytes | None = None
    trust: Trust | None = None
    genesis: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class VerifiedFrame:
    """A height whose header and transactions hold together; its results and state are proven by the height after.

    validators: those who signed. changed: whether they are others than at the height before.
    """

    signed: SignedHeader
    header_hash: bytes
    validators: ValidatorSet
    changed: bool
    transactions: tuple[bytes, ...]
    results: tuple[SpanResult, ...]


@dataclass(frozen=True, slots=True)
class VerifiedSpan:
    """Everything held. rests_on: the checker's own anchors that the chain of headers met. end_hash: of the header after
    the span, which names all before it."""

    manifest: SpanManifest
    end_hash: bytes
    rests_on: tuple[str, ...]


# --- the file


def framed(message: Message) -> bytes:
    """One item of the file: the message's bytes behind their length."""
    return encode(message.encoded())


def read_item(read: Callable[[int], bytes]) -> bytes | None:
    """The next item's message; None at the end of the file. `read(n)` gives n bytes, or fewer where the file ends.
    Raises `Malformed` where it ends inside an item (`audit.truncated`), or no item begins."""
    head = read(1)
    if not head:
        return None
    size = head[0] & 31
    if head[0] >> 5 != 2 or size > 27:
        raise Malformed("audit.item", "no item of an audit file begins here", field="file")
    if size >= 24:
        width = _LENGTH_BYTES[size]
        given = _exactly(read, width)
        size = int.from_bytes(given, "big")
        if size < (24 if width == 1 else 1 << (4 * width)):
            raise Malformed("audit.item", "an item's length is not in its shortest form", field="file")
    if size > FRAME_BYTES_MAX:
        raise Malformed("audit.item", f"an item has at most {FRAME_BYTES_MAX} bytes", field="file")
    return _exactly(read, size)


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = read(size)
    if len(data) != size:
        raise Malformed("audit.truncated", "the file ends inside an item: export it again, to its end", field="file")
    return data


def parse_item(kind: type[M], data: bytes) -> M:
    """One item's message."""
    return parse(kind, data, size_max=FRAME_BYTES_MAX, path=kind.__name__)


def parse_manifest(data: bytes) -> SpanManifest:
    """The first item; `Malformed` for a file of another format."""
    manifest = parse_item(SpanManifest, data)
    if manifest.format != FORMAT:
        raise Malformed("audit.format", f"this version reads {FORMAT}", field="manifest.format")
    if not 1 <= manifest.from_height <= manifest.to_height:
        raise Malformed("audit.span", "a span begins at height 1 or above and does not end before", field="manifest")
    return manifest


# --- the checks


class SpanVerifier:
    """Takes the items in their order and keeps one height of them. Step 1, the file's form, is `read_item`'s.

    Each height, in this order:
    2. it is the next one of the manifest's chain, and later than the one before;
    3. it names the hash of the header before it, and at height 1 none;
    4. its validators are those announced by the header before, and are given where they changed, and only there;
    5. more than 2/3 of them signed it, and every vote that is given holds;
    6. its `last_results_hash` is that of the results of the height before;
    7. there is a result for each transaction, and `data_hash` is the transactions'.
    Over all, in `verify_whole`:
    8. the chain of headers meets an anchor of the checker's own, and contradicts none;
    9. heights above the anchor were signed by validators who can still be held to it.

    Does NOT establish that the results and app hashes follow from the transactions (execute them again for that), nor
    that a vote for a block was not left out of its commit.
    """

    def __init__(self, manifest: SpanManifest, anchors: Anchors, now_ms: int) -> None:
        if anchors.genesis is not None and manifest.from_height != 1:
            raise Untrusted("audit.genesis_height", "a genesis is an anchor of height 1 alone", field="from_height")
        if anchors.trust is not None and anchors.trust.state.header.height > manifest.to_height + 1:
            raise Untrusted(
                "audit.anchor_above",
                f"the trust file's header is of height {anchors.trust.state.header.height}: export up to it",
                field="trust",
            )
        self.manifest = manifest
        self._anchors, self._now_ms = anchors, now_ms
        self._last: VerifiedFrame | None = None
        self._ended = False
        self._met: list[str] = []
        self._hash_met: SignedHeader | None = None

    @property
    def last(self) -> VerifiedFrame | None:
        """The newest height that was verified."""
        return self._last

    @property
    def height(self) -> int:
        """The next height that is wanted: the one after the span for its end."""
        return self.manifest.from_height if self._last is None else self._last.signed.header.height + 1

    @property
    def wants_end(self) -> bool:
        """Whether the next item is the end."""
        return self.height > self.manifest.to_height and not self._ended

    def verify_frame(self, frame: SpanFrame) -> VerifiedFrame:
        """Steps 2 to 7 of the next height, and what of step 8 lies there."""
        if self.height > self.manifest.to_height:
            raise Malformed("audit.too_long", "more heights follow than the manifest says", field="file")
        verified = self._verify_header(frame.header, frame.validators, frame.transactions, frame.results)
        self._last = verified
        return verified

    def verify_end(self, end: SpanEnd) -> VerifiedFrame:
        """Steps 2 to 6 and 8 of the header after the span."""
        if not self.wants_end:
            raise Malformed("audit.truncated", f"the file lacks height {self.height}: export it again", field="file")
        verified = self._verify_header(end.header, end.validators, None, ())
        self._last, self._ended = verified, True
        return verified

    def verify_whole(self) -> VerifiedSpan:
        """Steps 8 and 9. Raises `Malformed` for a file that ends before its end."""
        if not self._ended or self._last is None:
            raise Malformed("audit.truncated", f"the file lacks height {self.height}: export it again", field="file")
        if self._anchors.header_hash is not None and self._hash_met is None:  # step 8
            raise Untrusted("audit.anchor_absent", "no header of the file has the hash that you gave", field="header")
        if not self._met:
            raise Untrusted("audit.anchor", "nothing that you believe was given to check the file against")
        if self._hash_met is not None and len(self._met) == 1:  # step 9
            header = self._hash_met.header
            ends_ms = header.time_ns // NANOS_PER_MILLI + TRUSTING_PERIOD_MS
            if header.height < self._last.signed.header.height and ends_ms <= self._now_ms:
                raise Untrusted(
                    "audit.anchor_old",
                    f"heights above {header.height} rest on votes past the trusting period: give a later hash",
                    field="header",
                )
        return VerifiedSpan(self.manifest, self._last.header_hash, tuple(self._met))

    # --- one height

    def _verify_header(
        self,
        signed: SignedHeader,
        given: ValidatorSet | None,
        transactions: tuple[bytes, ...] | None,
        results: tuple[SpanResult, ...],
    ) -> VerifiedFrame:
        height, last = self.height, self._last
        with _step(height, 2):
            self._require_next(signed)
        hashed = header_hash(signed.header)
        with _step(height, 3):
            named = signed.header.last_block_id.hash
            if named != last.header_hash if last is not None else (height == 1) != (not named):
                raise Untrusted("audit.chain", "it does not name the header before it", field="last_block_id")
        with _step(height, 4):
            validators = self._validators(signed, given)
        with _step(height, 5):
            verify_commit(signed, hashed, validators)
            _require_votes(signed, validators.validators)
        with _step(height, 6):
            if last is not None and signed.header.last_results_hash != _results_hash(last.results):
                raise Untrusted(
                    "audit.results", "the results of the height before are not these", field="last_results_hash"
                )
        with _step(height, 7):
            if transactions is not None and signed.header.data_hash != merkle_root([*map(sha256, transactions)]):
                raise Untrusted("audit.transactions", "the block's transactions are not these", field="data_hash")
            if len(results) != len(transactions or ()):
                raise Untrusted("audit.results", "there is not one result for each transaction", field="results")
        with _step(height, 8):
            self._meet(signed, hashed, validators)
        changed = given is not None and last is not None
        return VerifiedFrame(signed, hashed, validators, changed, transactions or (), results)

    def _require_next(self, signed: SignedHeader) -> None:
        header, last = signed.header, self._last
        if header.chain_id != self.manifest.chain_id:
            raise Untrusted("audit.chain_id", f"it is of the chain {header.chain_id}", field="header.chain_id")
        if header.height != self.height:
            raise Untrusted("audit.height", f"height {header.height} stands here", field="header.height")
        if header.block_version != BLOCK_PROTOCOL or len(header.app_hash) != APP_HASH_BYTES:
            raise Untrusted("audit.version", "it is no header of a registry", field="header.block_version")
        if last is not None and header.time_ns <= last.signed.header.time_ns:
            raise Untrusted("audit.time", "it is not later than the height before", field="header.time_ns")

    def _validators(self, signed: SignedHeader, given: ValidatorSet | None) -> ValidatorSet:
        last, wanted = self._last, signed.header.validators_hash
        if last is not None and wanted != last.signed.header.next_validators_hash:
            raise Untrusted("audit.validators", "its validators are not those announced", field="validators_hash")
        unchanged = last is not None and wanted == last.signed.header.validators_hash
        if unchanged is not (given is None):
            raise Untrusted(
                "audit.validators", "validators stand where they changed, and only there", field="validators"
            )
        if given is None and last is not None:
            return last.validators
        if given is None or validators_hash(given) != wanted:
            raise Untrusted("audit.validators", "the validators are not the header's", field="validators")
        return given

    def _meet(self, signed: SignedHeader, hashed: bytes, validators: ValidatorSet) -> None:
        """Compare with the anchors that lie at this height."""
        anchors, height = self._anchors, signed.header.height
        if anchors.header_hash == hashed:
            self._hash_met = signed
            self._met.append(f"the given hash of header {height}")
        if anchors.genesis is not None and height == 1:
            if (signed.header.validators_hash, signed.header.app_hash) != anchors.genesis:
                raise Untrusted("audit.genesis", "the first header is not that of the genesis", field="genesis")
            self._met.append("the validators and first state of the genesis")
        if anchors.trust is None:
            return
        state = anchors.trust.state
        if state.header.height == height and state.header_hash != hashed:
            raise Untrusted("audit.fork", "another header of this height is trusted: keep both", field="trust")
        if state.header.height == height:
            self._met.append(f"the trust file's header {height}")
        elif state.header.height < height == self.manifest.from_height:
            verify_header(signed, validators, anchors.trust, self._now_ms)
            self._met.append(f"the trust file's header {state.header.height}, before the span")


@contextmanager
def _step(height: int, number: int) -> Iterator[None]:
    """Errors inside say at which height and step they arose."""
    try:
        yield
    except OnecodeError as error:
        error.message = f"height {height}, step {number}: {error.message}"
        raise


def _results_hash(results: tuple[SpanResult, ...]) -> bytes:
    return merkle_root([result_bytes(one.code, one.item_codes) for one in results])


def _require_votes(signed: SignedHeader, members: tuple[Validator, ...]) -> None:
    """Every vote of the commit holds: those beyond 2/3, and those for no block, too."""
    commit, chain_id = signed.commit, signed.header.chain_id
    for index, (vote, member) in enumerate(zip(commit.votes, members, strict=True)):
        field = f"commit.votes[{index}]"
        if vote.flag is VoteFlag.ABSENT:
            if (vote.validator_address, vote.timestamp_ns, vote.signature) != (None, None, None):
                raise Untrusted("audit.vote", "an absent validator has no vote", field=field)
            continue
        if vote.timestamp_ns is None or vote.signature is None or vote.validator_address != member.address:
            raise Untrusted("audit.vote", "a vote is not whole, or stands at another's place", field=field)
        if vote.flag is VoteFlag.NIL:
            message = _nil_sign_bytes(signed, vote.timestamp_ns)
        else:
            message = vote_sign_bytes(chain_id, commit, vote.timestamp_ns)
        if not vote_signature_holds(member.public_key, vote.signature, message):
            raise Untrusted("audit.vote", "a vote's signature does not hold", field=field)


def _nil_sign_bytes(signed: SignedHeader, timestamp_ns: int) -> bytes:
    """A CanonicalVote for no block: without a block id (CometBFT v0.39 `types/canonical.go`)."""
    vote = b"".join(
        (
            varint_field(1, PRECOMMIT),
            sfixed64_field(2, signed.commit.height),
            sfixed64_field(3, signed.commit.round),
            message_field(5, timestamp(timestamp_ns)),
            bytes_field(6, signed.header.chain_id.encode("utf-8")),
        )
    )
    return uvarint(len(vote)) + vote
