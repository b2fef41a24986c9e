"""What other platforms ask of this one: to countersign their checkpoints, after comparing them with the own chain.

A platform shows one history or none: of each serial one checkpoint is countersigned, once, and what was countersigned
is kept. What contradicts it, signed by the other platform, is kept as well.
"""

from __future__ import annotations

import dataclasses

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from onecode.errors import Declined, OnecodeError, Unreachable, Untrusted
from onecode.platform.checkpoints import require_certificate
from onecode.platform.context import Platform
from onecode.platform.header_hashes import follow_headers, load_header_hashes
from onecode.platform.schema import ForkRow, WitnessedRow
from onecode.proof.checkpoint import (
    Checkpoint,
    Countersignature,
    VerifiedCheckpoint,
    countersign,
    parse_body,
    require_follows,
    verify_checkpoint,
)
from onecode.proof.header import merkle_root
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.proof.trust import verify_anchor
from onecode.query.requests import parse_member, verify_member
from onecode.schema import parse

COUNTERSIGN_PATH = "/v1/checkpoints/countersign"
BACK_MAX = 2_000  # headers below the first one kept here, that are fetched for a checkpoint
COVERED_MAX = 1 << 21  # headers of one checkpoint: what is compared at once, in memory
SKEW_MS = 5_000
FORKS_MAX = 100  # kept of one platform


def verify_asking(platform: Platform, proof: str, path: str, body: bytes) -> tuple[bytes, PlatformLeaf]:
    """The platform that asks, and its proven leaf.

    1. The operator countersigns for it. 2. It is an active member, and one of its keys signed the request within the
    window (`verify_member`).
    """
    given = parse_member(proof)
    if given.platform not in platform.config.witnesses:  # 1
        raise Untrusted(
            "countersign.unknown", "this platform does not countersign for you", field="platform", status=403
        )
    leaf = platform.chain.platform_leaf(given.platform)  # 2
    if leaf is None:
        raise Untrusted("partner.absent", "the chain knows no such platform", field="platform", status=403)
    verify_member(platform.config.chain_id, given, leaf, "POST", path, body, platform.clock_ms())
    return given.platform, leaf


def countersign_checkpoint(
    platform: Platform, asking: bytes, leaf: PlatformLeaf, checkpoint: Checkpoint
) -> Countersignature:
    """This platform's word on another's checkpoint; asked again for the same one, the same word.

    1. It is that of the platform that asks, and whole in itself (`verify_checkpoint`). 2. Its root is the one in the
    proven leaf, and the anchor key is active there now. 3. The period is over by this clock, the anchor's certificate
    good now. 4. No other checkpoint of this serial was countersigned here. 5. It follows the last one that was.
    6. The own node's verified chain has the same header at its height, and the same headers below, back to
    `first_height`. 7. What is signed is durable before it leaves.
    Does NOT check the receipts: they are the other platform's secret, and its word.
    """
    verified = verify_checkpoint(checkpoint, platform.config.chain_id)  # 1
    if verified.body.platform != asking:
        raise Untrusted("countersign.other", "the checkpoint is of another platform than asks", field="platform")
    if verified.root != leaf.root:  # 2
        raise Untrusted("countersign.root", "the certificate is by another root than the chain's", field="certificate")
    now_ms, certificate = platform.clock_ms(), checkpoint.by.certificate
    leaf.require_key(Role.ANCHOR, certificate.anchor, now_ms)
    if verified.body.until_ms > now_ms + SKEW_MS:  # 3
        raise Untrusted("countersign.early", "the checkpoint's period is not over by this clock", field="until_ms")
    verify_anchor(platform.config.chain_id, certificate, now_ms)
    time_ms = max(now_ms, verified.header.signed_ms)  # a clock that is behind makes no word before the header
    require_certificate(platform, time_ms)
    try:
        with platform.database.read() as session:
            known = _require_history(session, verified)  # 4, 5
        if known is not None:
            return known
        _require_chain(platform, verified)  # 6
        return _sign(platform, verified, checkpoint, time_ms)  # 7
    except Untrusted as error:
        if error.code == "header.fork":  # what this platform's own node shows does not agree: that is no word of theirs
            raise
        _keep_fork(platform, verified, checkpoint, error)
        raise


def _require_history(session: Session, given: VerifiedCheckpoint) -> Countersignature | None:
    """Steps 4 and 5: what was answered before, None where the checkpoint is the next one, or the first seen here."""
    query = select(WitnessedRow).where(WitnessedRow.platform == given.body.platform)
    same = session.get(WitnessedRow, (given.body.platform, given.body.serial))
    last = session.scalars(query.order_by(WitnessedRow.serial.desc()).limit(1)).first()
    if same is not None:  # 4
        if same.hash != given.hash:
            raise Untrusted(
                "countersign.fork", "another checkpoint of this serial was countersigned here", field="serial"
            )
        return parse(Checkpoint, same.checkpoint, path="checkpoint").countersignatures[0]
    if last is not None:  # 5
        if given.body.serial < last.serial:
            raise Untrusted("countersign.past", "later checkpoints were countersigned here before", field="serial")
        before = parse_body(parse(Checkpoint, last.checkpoint, path="checkpoint").body)
        require_follows(before, last.hash, given.body)
    return None


def _require_chain(platform: Platform, given: VerifiedCheckpoint) -> None:
    """Step 6."""
    body = given.body
    if body.height - body.first_height >= COVERED_MAX:
        raise Unreachable("countersign.far", f"a checkpoint of more than {COVERED_MAX} headers is not compared here")
    view = platform.chain.fetch_newest()
    if view.header.header.height < body.height:
        raise Unreachable("countersign.behind", "this platform's node has not got so far: ask again")
    follow_headers(platform, view)
    with platform.database.read() as session:
        hashes = load_header_hashes(session, body.first_height, body.height)
    if hashes is None:
        hashes = _older(platform, given)
    if hashes[-1] != body.header_hash:
        raise Untrusted("countersign.header", "this platform verified another header at that height", field="height")
    if merkle_root(hashes) != body.headers_root:
        raise Untrusted("countersign.headers", "this platform verified other headers below", field="headers_root")


def _older(platform: Platform, given: VerifiedCheckpoint) -> list[bytes]:
    """The hashes of headers of which some lie below those kept here."""
    first, last = given.body.first_height, given.body.height
    try:
        if last - first > BACK_MAX:
            raise Unreachable("countersign.far", f"more than {BACK_MAX} headers are to be fetched")
        follow_headers(platform, platform.chain.fetch_newest(), first)
    except Unreachable as error:
        raise Declined(
            "countersign.too_old",
            "this platform's node has not got the headers of that time: ask for the checkpoints after it",
            field="first_height",
        ) from error
    with platform.database.read() as session:
        hashes = load_header_hashes(session, first, last)
    if hashes is None:
        raise Unreachable("countersign.behind", "this platform's node has not got so far: ask again")
    return hashes


def _sign(platform: Platform, given: VerifiedCheckpoint, checkpoint: Checkpoint, time_ms: int) -> Countersignature:
    """Step 7, and 4 and 5 again: another checkpoint of this platform may have come meanwhile."""
    chain_id, certificate = platform.config.chain_id, platform.certificate
    word = countersign(chain_id, given.hash, platform.id, certificate, platform.keys.anchor, time_ms)
    kept = dataclasses.replace(checkpoint, countersignatures=(word,))
    with platform.database.write() as session:
        known = _require_history(session, given)
        if known is not None:
            return known
        session.add(
            WitnessedRow(
                platform=given.body.platform, serial=given.body.serial, hash=given.hash, checkpoint=kept.encoded()
            )
        )
    return word


def _keep_fork(platform: Platform, given: VerifiedCheckpoint, checkpoint: Checkpoint, error: OnecodeError) -> None:
    """What the other platform has signed against its own word, or against the chain: the first ones, for the operator
    to show."""
    with platform.database.write() as session:
        count = session.scalar(select(func.count()).where(ForkRow.platform == given.body.platform)) or 0
        if count < FORKS_MAX and session.get(ForkRow, (given.body.platform, given.hash)) is None:
            session.add(
                ForkRow(
                    platform=given.body.platform,
                    hash=given.hash,
                    serial=given.body.serial,
                    code=error.code,
                    checkpoint=checkpoint.encoded(),
                    created_ms=platform.clock_ms(),
                )
            )


def load_forks(platform: Platform) -> list[ForkRow]:
    """The newest checkpoints of other platforms that contradict what was seen before."""
    with platform.database.read() as session:
        return list(session.scalars(select(ForkRow).order_by(ForkRow.created_ms.desc()).limit(FORKS_MAX)))
