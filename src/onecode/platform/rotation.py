"""Rotating epoch keys: a new key, the live records published again under it, and the end of the old keys.

Each step says what is left and can be asked for again: what was done is read from the database and the chain.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select

from onecode.errors import Declined
from onecode.platform.context import Platform
from onecode.platform.epochs import current_epoch, erase_epochs, load_epochs, rotate_epochs
from onecode.platform.merchants import enqueue_record
from onecode.platform.outbox import enqueue, has_waiting
from onecode.platform.schema import OutboxRow, OutboxState, RecordRow, RecordState
from onecode.record.envelope import SignedRecord
from onecode.record.schema import parse_record
from onecode.registry.transactions import Kind, PlatformEpoch
from onecode.schema import parse

BATCH = 50  # records that one call publishes again
AGAIN_MS = 60_000  # after the chain refused a record, before it is tried again
NOBODY, NO_SERVICE = b"", ""  # the transaction is the platform's, about no record
HELD = (RecordState.LIVE, RecordState.PUBLISHING, RecordState.WITHDRAWING)  # the chain may have a link to it


@dataclass(frozen=True, slots=True)
class Retirement:
    """How far the end of the epochs up to `epoch` is. left: records under them; waiting: transactions on their way;
    stuck: records that cannot be published again now, by merchant, and why."""

    epoch: int
    epoch_min: int
    left: int
    waiting: int
    stuck: dict[bytes, Declined]
    is_done: bool


def make_epoch(platform: Platform) -> int:
    """A new epoch key; records are sealed under it `epoch_lead_ms` later. One at a time, so that a request that is
    sent again makes no second one."""
    config, now_ms = platform.config, platform.clock_ms()
    with platform.database.write():  # nothing of the database: one rotation at a time
        epochs = load_epochs(config.epoch_key_file)
        if current_epoch(epochs, now_ms, config.epoch_lead_ms) != max(epochs):
            raise Declined("epoch.waiting", f"epoch {max(epochs)} was made and is not used yet: wait for its time")
        return rotate_epochs(config.epoch_key_file, platform.entropy, now_ms)


def load_epoch_states(platform: Platform) -> dict[str, Any]:
    """Every epoch in the file, which one is used, and how many records each holds."""
    config = platform.config
    epochs = load_epochs(config.epoch_key_file)
    with platform.database.read() as session:
        counted = session.execute(
            select(RecordRow.epoch, func.count()).where(RecordRow.state.in_(HELD)).group_by(RecordRow.epoch)
        ).all()
    records = {int(epoch): int(count) for epoch, count in counted}
    return {
        "current": current_epoch(epochs, platform.clock_ms(), config.epoch_lead_ms),
        "epoch_min": platform.chain.fetch_own_leaf().epoch_min,
        "epochs": [
            {
                "epoch": number,
                "used_from_ms": epoch.made_ms + config.epoch_lead_ms if epoch.made_ms else 0,
                "records": records.get(number, 0),
            }
            for number, epoch in epochs.items()
        ],
    }


def retire_epochs(platform: Platform, last: int) -> Retirement:
    """Go on with the end of the epochs up to `last`: call it until it is done.

    1. A later epoch is in use. 2. Live records under an old one are published again as they are, `BATCH` at a time.
    3. When there is none left, `platform.epoch` makes the chain refuse the old epochs. 4. When it does, their keys are
    erased from the file.
    """
    path, now_ms = platform.config.epoch_key_file, platform.clock_ms()
    if last >= current_epoch(load_epochs(path), now_ms, platform.config.epoch_lead_ms):  # 1
        raise Declined("epoch.in_use", "no later epoch is in use yet: make one, and wait for its time", field="epoch")
    nonce_floor = platform.chain.last_nonce()
    stuck = _republish(platform, last, nonce_floor)  # 2
    epoch_min = platform.chain.fetch_own_leaf().epoch_min
    with platform.database.write() as session:
        left = session.scalar(select(func.count()).select_from(RecordRow).where(*_held(last))) or 0
        is_raised = epoch_min > last
        if not left and not is_raised and not has_waiting(session, NOBODY, NO_SERVICE):  # 3
            payload = PlatformEpoch(epoch_min=last + 1)
            enqueue(platform, session, Kind.PLATFORM_EPOCH, payload, NOBODY, NO_SERVICE, last + 1, b"", nonce_floor)
        if not left and is_raised:  # 4
            erase_epochs(path, last)
        waiting = select(func.count()).where(OutboxRow.state == OutboxState.WAITING)
        count = session.scalar(waiting) or 0
    return Retirement(last, epoch_min, left, count, stuck, is_done=not left and is_raised)


def _held(last: int) -> tuple[ColumnElement[bool], ...]:
    """That a record is under an epoch up to `last`, and that the chain may have a link to it."""
    return RecordRow.epoch <= last, RecordRow.state.in_(HELD)


def _republish(platform: Platform, last: int, nonce_floor: int) -> dict[bytes, Declined]:
    """Put a batch of records under old epochs into the outbox; returns those that cannot be published again now."""
    stuck: dict[bytes, Declined] = {}
    published = 0
    with platform.database.read() as session:
        found = select(RecordRow.merchant, RecordRow.service, RecordRow.version).where(*_held(last))
        held = session.execute(found.order_by(RecordRow.merchant)).all()
    for merchant, service, version in held:
        if published == BATCH:
            break
        try:
            published += _republish_one(platform, (merchant, service, version), nonce_floor)
        except Declined as error:
            stuck[merchant] = error
    return stuck


def _republish_one(platform: Platform, key: tuple[bytes, str, int], nonce_floor: int) -> bool:
    """Publish the next version of a live record, the same but for its version; False while one is on its way.

    The agreement may have changed since: what it says takes effect when the operator publishes it.
    """
    merchant, service, version = key
    with platform.database.read() as session:
        if has_waiting(session, merchant, service):
            return False
        row = session.get_one(RecordRow, key)
        following = session.get(RecordRow, (merchant, service, version + 1))
    if row.state != RecordState.LIVE:
        raise Declined("epoch.withdrawing", "the chain has not taken the record's withdrawal: ask for it again")
    if following is not None and platform.clock_ms() - following.created_ms < AGAIN_MS:
        raise Declined("epoch.refused", f"the chain refused the record under the new epoch: {following.refusal}")
    try:
        view = platform.chain.fetch_merchant(merchant, service)
    except Declined as error:  # what it can still tell is that the merchant is frozen
        raise Declined(
            "epoch.frozen", "the merchant is frozen: give the command again when that ends, or withdraw the record"
        ) from error
    link = view.state.link_of(platform.id) if view.state is not None else None
    if link is None or (link.version, link.commitment) != (version, row.commitment):
        raise Declined("epoch.no_link", "the chain has no link to the record any more: withdraw it")
    signed = parse(SignedRecord, row.signed_record, path="record")
    record = dataclasses.replace(parse_record(signed.record), version=version + 1)
    with platform.database.write() as session:
        is_live = session.get_one(RecordRow, key).state == RecordState.LIVE
        if not is_live or has_waiting(session, merchant, service):
            return False
        enqueue_record(platform, session, record, nonce_floor)
    return True
