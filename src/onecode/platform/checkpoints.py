"""This platform's own checkpoints: cut, sealed, shown, and where a payment stands in them (docs/spec/checkpoints.md).

A receipt is counted by its number in the books, which is given while no other transaction writes. The cut is durable
before anything is signed: a receipt stands in exactly one checkpoint, whenever the process is killed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from onecode.errors import Declined, Misconfigured, Unreachable
from onecode.host.files import save_private
from onecode.platform.context import Platform
from onecode.platform.header_hashes import follow_headers, load_header_hashes
from onecode.platform.schema import CheckpointRow, CountersignatureRow, ReceiptRow, WitnessedRow
from onecode.platform.trust import build_trust_file
from onecode.proof.checkpoint import (
    FORMAT,
    LATER_MAX,
    NO_HASH,
    Checkpoint,
    CheckpointBody,
    CheckpointPlace,
    Countersignature,
    checkpoint_hash,
    parse_body,
    sign_checkpoint,
)
from onecode.proof.header import header_hash, merkle_root
from onecode.proof.light import verify_commit
from onecode.proof.transaction import merkle_path
from onecode.proof.trust import verify_anchor
from onecode.query.messages import HeaderView
from onecode.schema import parse
from onecode.wire import sha256

SHOWN_MAX = 20  # checkpoints in one answer


@dataclass(frozen=True, slots=True)
class Shown:
    """A checkpoint with the countersignatures there are by now."""

    hash: bytes
    checkpoint: Checkpoint


def cut_checkpoint(platform: Platform) -> bool:
    """Where a period is over, decide which receipts its checkpoint counts; whether there is a cut that is not sealed.

    What was written before the cut is in it, what is written later is in the next one. Periods in which this platform
    did not run, or could not seal, are one.
    """
    now_ms, period_ms = platform.clock_ms(), platform.config.checkpoint_period_ms
    until_ms = now_ms // period_ms * period_ms
    with platform.database.write() as session:
        last = _newest(session)
        if last is not None and last.hash is None:
            return True
        if last is not None and until_ms <= last.until_ms:
            return False
        session.add(
            CheckpointRow(
                serial=1 if last is None else last.serial + 1,
                from_ms=until_ms - period_ms if last is None else last.until_ms,
                until_ms=until_ms,
                last_receipt=session.scalar(select(func.max(ReceiptRow.id))) or 0,
                hash=None,
                checkpoint=None,
                created_ms=now_ms,
            )
        )
        return True


def seal_checkpoint(platform: Platform) -> bool:
    """Sign the cut that waits, under a header signed after its period; False where there is none such yet.

    Raises `Unreachable` where the chain cannot be asked now; call it again.
    """
    with platform.database.read() as session:
        row = _newest(session)
        if row is None or row.hash is not None:
            return True
        before = session.get(CheckpointRow, row.serial - 1)
        previous = parse_body(_stored(before).body) if before is not None else None
        hashes, low, high = _counted(session, before.last_receipt if before is not None else 0, row.last_receipt)
    view = platform.chain.fetch_newest()
    signed_ms = verify_commit(view.header, header_hash(view.header.header), view.validators).signed_ms
    height = view.header.header.height
    if signed_ms < row.until_ms or height < high:
        return False
    first = min(height, low or height, previous.height + 1 if previous is not None else height)
    follow_headers(platform, view, first)
    require_certificate(platform, signed_ms)
    with platform.database.write() as session:
        fresh = session.get_one(CheckpointRow, row.serial)
        if fresh.hash is not None:
            return True
        headers = load_header_hashes(session, first, height)
        if headers is None:
            raise Unreachable("checkpoint.headers", "the headers of the period are not all there yet")
        body = CheckpointBody(
            format=FORMAT,
            chain_id=platform.config.chain_id,
            platform=platform.id,
            serial=row.serial,
            previous=before.hash if before is not None and before.hash is not None else NO_HASH,
            from_ms=row.from_ms,
            until_ms=row.until_ms,
            first_height=first,
            height=height,
            header_hash=header_hash(view.header.header),
            headers_root=merkle_root(headers),
            receipts=len(hashes),
            receipts_root=merkle_root(hashes),
        )
        sealed = sign_checkpoint(body, view.header, view.validators, platform.certificate, platform.keys.anchor)
        fresh.checkpoint, fresh.hash = sealed.encoded(), checkpoint_hash(platform.config.chain_id, sealed.body)
    _renew_trust(platform, view)
    return True


def _newest(session: Session) -> CheckpointRow | None:
    return session.scalars(select(CheckpointRow).order_by(CheckpointRow.serial.desc()).limit(1)).first()


def _stored(row: CheckpointRow) -> Checkpoint:
    """The checkpoint of a row that is sealed."""
    return parse(Checkpoint, row.checkpoint or b"", path="checkpoint")


def _counted(session: Session, after: int, last: int) -> tuple[list[bytes], int | None, int]:
    """Hashes of the receipts numbered above `after` up to `last`, and the least and greatest height among them."""
    inside = (ReceiptRow.id > after, ReceiptRow.id <= last)
    hashes = list(session.scalars(select(ReceiptRow.hash).where(*inside).order_by(ReceiptRow.id)))
    low, high = session.execute(select(func.min(ReceiptRow.height), func.max(ReceiptRow.height)).where(*inside)).one()
    return hashes, low, high or 0


def require_certificate(platform: Platform, signed_ms: int) -> None:
    """That the own anchor key was certified at this time; `Misconfigured` where that has ended."""
    certificate = platform.certificate
    if certificate.anchor_not_after_ms <= signed_ms:
        raise Misconfigured(
            "checkpoint.certificate",
            "the anchor key's certificate has ended: make a new one with the root key and start again",
            field="anchor_certificate_file",
        )
    verify_anchor(platform.config.chain_id, certificate, signed_ms)


def _renew_trust(platform: Platform, view: HeaderView) -> None:
    """A fresh trust file beside each checkpoint, for what starts from a file: the node's enclave, the key service."""
    path = platform.config.trust_output_file
    if path is not None:
        file = build_trust_file(view, platform.certificate, platform.keys.anchor, platform.clock_ms())
        save_private(path, file.encoded(), replace=True)


# --- showing


def load_checkpoint(session: Session, serial: int) -> Checkpoint | None:
    """A sealed checkpoint with its countersignatures; None where there is none of this serial."""
    row = session.get(CheckpointRow, serial)
    if row is None or row.hash is None:
        return None
    query = select(CountersignatureRow.signed).where(
        CountersignatureRow.serial == serial, CountersignatureRow.signed.is_not(None)
    )
    found = session.scalars(query.order_by(CountersignatureRow.platform))
    countersigned = tuple(parse(Countersignature, one or b"", path="countersignature") for one in found)
    return dataclasses.replace(_stored(row), countersignatures=countersigned)


def load_checkpoints(platform: Platform, first: int) -> list[Shown]:
    """Sealed checkpoints from a serial on, at most `SHOWN_MAX`."""
    query = select(CheckpointRow).where(CheckpointRow.serial >= first, CheckpointRow.hash.is_not(None))
    with platform.database.read() as session:
        rows = list(session.scalars(query.order_by(CheckpointRow.serial).limit(SHOWN_MAX)))
        loaded = [(row.hash, load_checkpoint(session, row.serial)) for row in rows]
    return [Shown(hashed, one) for hashed, one in loaded if hashed is not None and one is not None]


def load_witnessed(platform: Platform, other: bytes, first: int) -> list[Shown]:
    """Checkpoints of another platform that this one countersigned, from a serial on."""
    query = select(WitnessedRow).where(WitnessedRow.platform == other, WitnessedRow.serial >= first)
    with platform.database.read() as session:
        rows = session.scalars(query.order_by(WitnessedRow.serial).limit(SHOWN_MAX))
        return [Shown(row.hash, parse(Checkpoint, row.checkpoint, path="checkpoint")) for row in rows]


def load_place(
    session: Session, payment_id: str, receipt: bytes, height: int, until: int | None
) -> CheckpointPlace | None:
    """Where a payment's first receipt and its header stand; None while its period is not over or not sealed.

    until: serial of the checkpoint that the checker will name; None for the one that counts the receipt. `Declined`
    where there is none such.
    """
    counted = session.scalar(
        select(ReceiptRow.id).where(ReceiptRow.payment_id == payment_id, ReceiptRow.hash == sha256(receipt))
    )
    row = session.scalars(
        select(CheckpointRow)
        .where(CheckpointRow.last_receipt >= (counted or 0), CheckpointRow.hash.is_not(None))
        .order_by(CheckpointRow.serial)
        .limit(1)
    ).first()
    if row is None or counted is None:
        if until is not None:
            raise Declined("checkpoint.none_yet", "no checkpoint counts the payment yet: its period is not over")
        return None
    checkpoint = load_checkpoint(session, row.serial)
    before = session.get(CheckpointRow, row.serial - 1)
    after = before.last_receipt if before is not None else 0
    hashes, _, _ = _counted(session, after, row.last_receipt)
    numbers = select(func.count()).where(ReceiptRow.id > after, ReceiptRow.id < counted)
    index = session.scalar(numbers) or 0
    body = parse_body(_stored(row).body)
    headers = load_header_hashes(session, body.first_height, body.height)
    if headers is None:
        raise Misconfigured("checkpoint.headers_lost", "the database lacks headers that a checkpoint commits to")
    return CheckpointPlace(
        checkpoint=checkpoint if checkpoint is not None else _stored(row),
        header_aunts=merkle_path(headers, height - body.first_height),
        receipt_index=index,
        receipt_aunts=merkle_path(hashes, index),
        later=_later(session, row.serial, until if until is not None else row.serial),
    )


def _later(session: Session, serial: int, until: int) -> tuple[bytes, ...]:
    """The bodies of the checkpoints after `serial` up to `until`."""
    query = select(CheckpointRow).where(
        CheckpointRow.serial > serial, CheckpointRow.serial <= until, CheckpointRow.hash.is_not(None)
    )
    bodies = tuple(_stored(row).body for row in session.scalars(query.order_by(CheckpointRow.serial)))
    if len(bodies) != until - serial or len(bodies) > LATER_MAX:
        raise Declined(
            "checkpoint.until",
            f"give the serial of a checkpoint from {serial} on that is there, at most {LATER_MAX} later",
            field="checkpoint",
        )
    return bodies
