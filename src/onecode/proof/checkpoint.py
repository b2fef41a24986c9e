"""Checkpoints: what a platform says, once a day, of the chain and of its receipts, and two others sign with it.

Each names the one before by its hash. It commits to the header at its end, to every header since the one before, and to
every receipt that the platform signed meanwhile. So whoever keeps one hash can check evidence of an older payment for
ever, however old the keys in it are. Steps and codes: docs/spec/checkpoints.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from onecode.errors import Malformed, Untrusted
from onecode.proof.header import (
    INT64_MAX,
    Header,
    SignedHeader,
    ValidatorSet,
    header_hash,
    merkle_root,
    validators_hash,
)
from onecode.proof.leaves import HASH, ID, TIME_MS
from onecode.proof.light import VerifiedHeader, verify_commit
from onecode.proof.transaction import aunts_root
from onecode.proof.trust import AnchorCertificate, verify_anchor
from onecode.schema import Bytes, ListOf, Message, Nested, Text, Uint, item, parse
from onecode.wire import CHAIN_ID_CHARS_MAX, Domain, SigningKey, encode, frame, sha256, verify_signature

FORMAT = 1
CHECKPOINT_BYTES_MAX = 1 << 18
COUNTERSIGNATURES_WANTED = 2  # of other organisations; with fewer a checkpoint is not yet countersigned
COUNTERSIGNATURES_MAX = 32
LATER_MAX = 20_000  # 54 years of days
RECEIPTS_MAX = 1 << 32
NO_HASH = bytes(32)  # before the first checkpoint
SKEW_MS = 5_000

_AUNTS = ListOf(HASH, 64)


class CheckpointBody(Message):
    """What is signed. `headers_root`: RFC 6962 tree over the hashes of the headers from `first_height` to `height`;
    `receipts_root`: over the SHA-256 of each receipt's and refund's encoded signed form, in the order of the books."""

    format: int = item(1, Uint(255))
    chain_id: str = item(2, Text(CHAIN_ID_CHARS_MAX))
    platform: bytes = item(3, ID)
    serial: int = item(4, Uint(INT64_MAX))  # 1, 2, 3 ...
    previous: bytes = item(5, HASH)  # hash of the checkpoint before; zero for the first
    from_ms: int = item(6, TIME_MS)  # the end of the one before
    until_ms: int = item(7, TIME_MS)
    first_height: int = item(8, Uint(INT64_MAX))
    height: int = item(9, Uint(INT64_MAX))
    header_hash: bytes = item(10, HASH)
    headers_root: bytes = item(11, HASH)
    receipts: int = item(12, Uint(RECEIPTS_MAX))
    receipts_root: bytes = item(13, HASH)


class AnchorSignature(Message):
    """A signature by an anchor key, with its root's word that it is one."""

    certificate: AnchorCertificate = item(1, Nested(AnchorCertificate))
    signature: bytes = item(2, Bytes(64))


class Countersignature(Message):
    """Another organisation's word that its own node has the same headers, and that it signed no other checkpoint of
    this serial."""

    platform: bytes = item(1, ID)
    time_ms: int = item(2, TIME_MS)
    by: AnchorSignature = item(3, Nested(AnchorSignature))


class Checkpoint(Message):
    body: bytes = item(1, Bytes(1, 1024))  # encoded CheckpointBody
    header: SignedHeader = item(2, Nested(SignedHeader))
    validators: ValidatorSet = item(3, Nested(ValidatorSet))
    by: AnchorSignature = item(4, Nested(AnchorSignature))
    countersignatures: tuple[Countersignature, ...] = item(
        5, ListOf(Nested(Countersignature), COUNTERSIGNATURES_MAX)
    )  # ascending by platform


class CheckpointPlace(Message):
    """Where a receipt and the header under which it was given stand. `later`: the bodies of the checkpoints after this
    one, up to the one that the checker names; empty where that is this one."""

    checkpoint: Checkpoint = item(1, Nested(Checkpoint))
    header_aunts: tuple[bytes, ...] = item(2, _AUNTS)  # from the leaf up
    receipt_index: int = item(3, Uint(RECEIPTS_MAX))
    receipt_aunts: tuple[bytes, ...] = item(4, _AUNTS)
    later: tuple[bytes, ...] = item(5, ListOf(Bytes(1, 1024), LATER_MAX))


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that is whole in itself. root: of the platform that made it; countersigned: roots of those who
    countersigned it, by platform id. Whose roots these are, the reader knows or has pinned."""

    body: CheckpointBody
    hash: bytes
    header: VerifiedHeader
    root: bytes
    countersigned: Mapping[bytes, bytes]

    @property
    def is_countersigned(self) -> bool:
        """By as many other organisations as are wanted."""
        return len(self.countersigned) >= COUNTERSIGNATURES_WANTED


def checkpoint_hash(chain_id: str, body: bytes) -> bytes:
    """The name of a checkpoint: hash of its framed body, so that signatures added later change nothing."""
    return sha256(frame(Domain.CHECKPOINT, chain_id, body))


def parse_checkpoint(data: bytes) -> Checkpoint:
    """A checkpoint of untrusted bytes."""
    return parse(Checkpoint, data, size_max=CHECKPOINT_BYTES_MAX, path="checkpoint")


def parse_body(data: bytes) -> CheckpointBody:
    """The body in untrusted bytes; another format is refused as such."""
    body = parse(CheckpointBody, data, path="checkpoint.body")
    if body.format != FORMAT:
        raise Malformed("checkpoint.format", f"a checkpoint of format {body.format} is not known here", field="format")
    return body


# --- making


def sign_checkpoint(
    body: CheckpointBody,
    header: SignedHeader,
    validators: ValidatorSet,
    certificate: AnchorCertificate,
    anchor: SigningKey,
) -> Checkpoint:
    """A checkpoint signed by the anchor key that `certificate` is for, not yet countersigned."""
    raw = body.encoded()
    by = AnchorSignature(certificate=certificate, signature=anchor.sign(Domain.CHECKPOINT, body.chain_id, raw))
    return Checkpoint(body=raw, header=header, validators=validators, by=by, countersignatures=())


def countersign(
    chain_id: str,
    hashed: bytes,
    platform: bytes,
    certificate: AnchorCertificate,
    anchor: SigningKey,
    now_ms: int,
) -> Countersignature:
    """The word of `platform` about the checkpoint with this hash."""
    signature = anchor.sign(Domain.COUNTERSIGNATURE, chain_id, _countersigned(hashed, platform, now_ms))
    return Countersignature(
        platform=platform, time_ms=now_ms, by=AnchorSignature(certificate=certificate, signature=signature)
    )


def _countersigned(hashed: bytes, platform: bytes, time_ms: int) -> bytes:
    return encode([hashed, platform, time_ms])


# --- checking


def verify_checkpoint(checkpoint: Checkpoint, chain_id: str) -> VerifiedCheckpoint:
    """That a checkpoint is whole in itself, at any later time: no clock is asked.

    1. It is of this chain. 2. Serial, period, heights and the empty roots agree with each other. 3. The header is the
    one that it names, with the commit of its own validators (header, steps 8 to 11). 4. That header was signed after
    the period's end. 5. The anchor key was certified at the header's time, for at most 90 days, and signed. 6. So were
    those of the countersignatures at theirs; each is of another organisation, and none was made before the header.
    Does NOT check whose the roots are, that the header is the chain's, what lies under the two roots, nor that no
    receipt was left out: the first two are what the checker names the checkpoint for, the third is for countersigners.
    """
    body = parse_body(checkpoint.body)
    if body.chain_id != chain_id:  # 1
        raise Untrusted("checkpoint.chain", "the checkpoint is of another chain", field="chain_id")
    _require_shape(body)  # 2
    header = _verify_header(body, checkpoint)  # 3
    if header.signed_ms < body.until_ms:  # 4
        raise Untrusted("checkpoint.early", "the header was signed before the period was over", field="until_ms")
    verify_anchor(chain_id, checkpoint.by.certificate, header.signed_ms)  # 5
    key, signature = checkpoint.by.certificate.anchor, checkpoint.by.signature
    verify_signature(key, signature, Domain.CHECKPOINT, chain_id, checkpoint.body, field="checkpoint.by.signature")
    hashed = checkpoint_hash(chain_id, checkpoint.body)
    countersigned: dict[bytes, bytes] = {}
    for one in checkpoint.countersignatures:  # 6
        verify_countersignature(one, chain_id, hashed, header.signed_ms)
        root = one.by.certificate.root
        if (
            one.platform in (body.platform, *countersigned)
            or root == checkpoint.by.certificate.root
            or root in countersigned.values()
        ):
            raise Untrusted("checkpoint.countersigner_twice", "an organisation signed twice", field="countersignatures")
        countersigned[one.platform] = root
    return VerifiedCheckpoint(body, hashed, header, checkpoint.by.certificate.root, countersigned)


def _require_shape(body: CheckpointBody) -> None:
    """Step 2."""
    is_first = body.serial == 1
    if body.serial == 0 or is_first != (body.previous == NO_HASH):
        raise Untrusted("checkpoint.serial", "the first checkpoint, and it alone, has none before it", field="serial")
    if body.from_ms >= body.until_ms:
        raise Untrusted("checkpoint.period", "the period ends before it begins", field="until_ms")
    if not 1 <= body.first_height <= body.height:
        raise Untrusted("checkpoint.heights", "the heights end before they begin", field="first_height")
    if (body.receipts == 0) != (body.receipts_root == merkle_root(())):
        raise Untrusted("checkpoint.receipts", "the root is not that of so many receipts", field="receipts_root")


def _verify_header(body: CheckpointBody, checkpoint: Checkpoint) -> VerifiedHeader:
    """Step 3."""
    header = checkpoint.header.header
    hashed = header_hash(header)
    if (header.chain_id, header.height, hashed) != (body.chain_id, body.height, body.header_hash):
        raise Untrusted("checkpoint.header", "the header is not the one that the checkpoint names", field="header")
    if validators_hash(checkpoint.validators) != header.validators_hash:
        raise Untrusted(
            "checkpoint.validators", "the validators are not those of the header", field="checkpoint.validators"
        )
    commit = verify_commit(checkpoint.header, hashed, checkpoint.validators)
    return VerifiedHeader(header, hashed, checkpoint.validators, commit.signed_ms)


def verify_countersignature(given: Countersignature, chain_id: str, hashed: bytes, signed_ms: int) -> None:
    """Step 6 for one. hashed: of the checkpoint; signed_ms: when its header was signed. Does NOT check whose the root
    of the certificate is."""
    if given.time_ms < signed_ms - SKEW_MS:
        raise Untrusted(
            "checkpoint.countersigned_early", "it was countersigned before its header", field="countersignatures"
        )
    verify_anchor(chain_id, given.by.certificate, given.time_ms)
    body = _countersigned(hashed, given.platform, given.time_ms)
    key, signature = given.by.certificate.anchor, given.by.signature
    verify_signature(key, signature, Domain.COUNTERSIGNATURE, chain_id, body, field="countersignatures")


def require_follows(before: CheckpointBody, before_hash: bytes, body: CheckpointBody) -> None:
    """That a checkpoint is the next after another of its platform: serial, hash, and no time or header left out."""
    same = (body.chain_id, body.platform) == (before.chain_id, before.platform)
    if not same or body.serial != before.serial + 1 or body.previous != before_hash:
        raise Untrusted("checkpoint.link", "the checkpoint does not name the one before it", field="previous")
    gapless = body.from_ms == before.until_ms and body.first_height <= before.height + 1
    if not gapless or body.height < before.height:
        raise Untrusted("checkpoint.gap", "time or headers are left out between two checkpoints", field="first_height")


def verify_checkpoint_chain(checkpoints: Sequence[Checkpoint], chain_id: str) -> tuple[VerifiedCheckpoint, ...]:
    """Checkpoints of one platform in order, each whole in itself (`verify_checkpoint`) and following the one before
    (`require_follows`). Whoever believes the last one believes all before it, by their hashes. Does NOT make a later
    one believed by an earlier one: that rests on the signatures, under roots that the reader pins."""
    found = tuple(verify_checkpoint(one, chain_id) for one in checkpoints)
    for before, after in pairwise(found):
        require_follows(before.body, before.hash, after.body)
    return found


def verify_named(checkpoint: VerifiedCheckpoint, later: Sequence[bytes], named: bytes) -> None:
    """That the checkpoint is the one with the hash `named`, or comes before it through the bodies `later`."""
    body, hashed = checkpoint.body, checkpoint.hash
    for raw in later:
        after = parse_body(raw)
        require_follows(body, hashed, after)
        body, hashed = after, checkpoint_hash(after.chain_id, raw)
    if hashed != named:
        raise Untrusted(
            "checkpoint.named",
            "the checkpoint is not the one that was named, nor is that one reached from it: ask for evidence up to it",
            field="checkpoint",
        )


def verify_header_in_checkpoint(header: Header, body: CheckpointBody, aunts: Sequence[bytes]) -> None:
    """That a header is one of those of the checkpoint: its hash stands at the place of its height."""
    total, index = body.height - body.first_height + 1, header.height - body.first_height
    if not 0 <= index < total or aunts_root(header_hash(header), index, total, aunts) != body.headers_root:
        raise Untrusted("checkpoint.header_path", "the header is not one of the checkpoint's", field="header_aunts")


def verify_receipt_in_checkpoint(signed: bytes, body: CheckpointBody, index: int, aunts: Sequence[bytes]) -> None:
    """That these bytes, an encoded signed receipt or refund, are among those that the checkpoint commits to."""
    if index >= body.receipts or aunts_root(sha256(signed), index, body.receipts, aunts) != body.receipts_root:
        raise Untrusted("checkpoint.receipt_path", "the receipt is not one of the checkpoint's", field="receipt_aunts")
