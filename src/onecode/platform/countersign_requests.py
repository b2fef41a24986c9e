"""Asking other platforms to countersign: in the order of the serials, again and again until each has answered.

What was asked and answered is in the database, so a stop at any point only means that it is asked again; the other
platform then gives the same answer. Until two have answered a checkpoint is shown as not yet countersigned.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import httpx
from sqlalchemy import select

from onecode.errors import OnecodeError, Unreachable, Untrusted
from onecode.platform.checkpoints import cut_checkpoint, load_checkpoint, seal_checkpoint
from onecode.platform.context import Platform
from onecode.platform.countersigning import COUNTERSIGN_PATH, load_forks
from onecode.platform.header_hashes import follow_headers
from onecode.platform.partner_post import post_to_partner
from onecode.platform.schema import CheckpointRow, CountersignatureRow
from onecode.proof.checkpoint import (
    Checkpoint,
    Countersignature,
    checkpoint_hash,
    verify_checkpoint,
    verify_countersignature,
)
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.schema import parse

BATCH = 20  # checkpoints to one platform at a time
PAUSE_MS_MAX = 600_000
TOO_OLD = "countersign.too_old"


class CheckpointKeeper:
    """Makes this platform's checkpoints and has them countersigned; one instance a platform."""

    def __init__(self, platform: Platform, client: httpx.Client) -> None:
        """client: its timeout is set; it follows no redirects."""
        self._platform = platform
        self._client = client
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Follow the chain, cut and seal what is due, and ask for the countersignatures that are missing.

        Raises `Unreachable` where the chain cannot be asked now. Call it again later.
        """
        with self._lock:
            try:
                # A fresh header also shows that this clock is not far ahead: a cut made then would wait for that time.
                view = self._platform.chain.fetch_newest()
                if cut_checkpoint(self._platform):
                    seal_checkpoint(self._platform)
                else:
                    follow_headers(self._platform, view)
            finally:
                for other in self._platform.config.witnesses:
                    self._ask(other)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _ask(self, other: bytes) -> None:
        """Ask one platform for what it has not answered yet; the first that fails ends its turn."""
        for serial in self._missing(other):
            row = self._taken(other, serial)
            if row is None:
                return
            with self._platform.database.read() as session:
                checkpoint = load_checkpoint(session, serial)
            if checkpoint is None:
                return
            try:
                word = self._post(other, checkpoint)
            except OnecodeError as error:
                self._failed(row, error)
                if error.code != TOO_OLD:
                    return
                continue
            with self._platform.database.write() as session:
                fresh = session.get_one(CountersignatureRow, (serial, other))
                fresh.signed, fresh.error = word.encoded(), None

    def _missing(self, other: bytes) -> list[int]:
        """The serials that this platform has not answered, oldest first."""
        answered = select(CountersignatureRow.serial).where(
            CountersignatureRow.platform == other,
            CountersignatureRow.signed.is_not(None) | CountersignatureRow.is_refused,
        )
        query = select(CheckpointRow.serial).where(
            CheckpointRow.hash.is_not(None), CheckpointRow.serial.not_in(answered)
        )
        with self._platform.database.read() as session:
            return list(session.scalars(query.order_by(CheckpointRow.serial).limit(BATCH)))

    def _taken(self, other: bytes, serial: int) -> CountersignatureRow | None:
        """The request, counted as sent before it leaves; None where its time has not come."""
        config, now_ms = self._platform.config, self._platform.clock_ms()
        with self._platform.database.write() as session:
            row = session.get(CountersignatureRow, (serial, other))
            if row is None:
                row = CountersignatureRow(
                    serial=serial, platform=other, signed=None, is_refused=False, sent=0, next_ms=now_ms, error=None
                )
                session.add(row)
            if row.next_ms > now_ms:
                return None
            row.next_ms = now_ms + min(config.checkpoint_retry_ms << min(row.sent, 16), PAUSE_MS_MAX)
            row.sent += 1
            return row

    def _post(self, other: bytes, checkpoint: Checkpoint) -> Countersignature:
        """The other platform's word, verified: it is of the asked, by the root that the chain names for it."""
        platform = self._platform
        leaf = platform.chain.platform_leaf(other)
        bare = dataclasses.replace(checkpoint, countersignatures=())
        data = post_to_partner(platform, self._client, leaf, COUNTERSIGN_PATH, bare.encoded())
        word = parse(Countersignature, data, path="countersignature")
        verify_word(platform, other, leaf, checkpoint, word)
        return word

    def _failed(self, row: CountersignatureRow, error: OnecodeError) -> None:
        with self._platform.database.write() as session:
            fresh = session.get_one(CountersignatureRow, (row.serial, row.platform))
            fresh.error, fresh.is_refused = str(error)[:200], error.code == TOO_OLD


def verify_word(
    platform: Platform, other: bytes, leaf: PlatformLeaf | None, checkpoint: Checkpoint, word: Countersignature
) -> None:
    """That a countersignature is the asked platform's, for this checkpoint: by the root that the chain names for it and
    an anchor key that is active there now."""
    chain_id, now_ms = platform.config.chain_id, platform.clock_ms()
    if leaf is None or word.platform != other or word.by.certificate.root != leaf.root:
        raise Untrusted("countersign.answer", "the answer is not signed under the root of whom was asked")
    leaf.require_key(Role.ANCHOR, word.by.certificate.anchor, now_ms)
    signed_ms = verify_checkpoint(checkpoint, chain_id).header.signed_ms
    verify_countersignature(word, chain_id, checkpoint_hash(chain_id, checkpoint.body), signed_ms)
    if word.time_ms > now_ms + platform.config.partner_timeout_ms:
        raise Unreachable("countersign.clock", "the countersignature lies in this clock's future: check the clocks")


def load_waiting(platform: Platform) -> dict[str, Any]:
    """For the operator: what is not countersigned yet, and why; and what contradicts what was seen before."""
    query = select(CountersignatureRow).where(CountersignatureRow.signed.is_(None))
    with platform.database.read() as session:
        rows = list(session.scalars(query.order_by(CountersignatureRow.serial.desc()).limit(100)))
    return {
        "waiting": [
            {
                "serial": row.serial,
                "platform": row.platform.hex(),
                "sent": row.sent,
                "next_ms": row.next_ms,
                "refused": row.is_refused,
                "error": row.error,
            }
            for row in rows
        ],
        "forks": [
            {
                "platform": fork.platform.hex(),
                "serial": fork.serial,
                "hash": fork.hash.hex(),
                "code": fork.code,
                "checkpoint": fork.checkpoint.hex(),
                "created_ms": fork.created_ms,
            }
            for fork in load_forks(platform)
        ],
    }
