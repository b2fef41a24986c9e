"""Merchants' tills: who may listen, and what was paid since they last asked."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

from sqlalchemy import select

from onecode.errors import Untrusted
from onecode.platform.context import Platform
from onecode.platform.merchants import load_merchant
from onecode.platform.schema import Event
from onecode.wire import sha256

EVENTS_MAX = 100  # in one answer


class Announcer:
    """Wakes those who wait for events. All in one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Something may be new for everybody who waits."""
        before, self._event = self._event, asyncio.Event()
        before.set()

    @property
    def next(self) -> asyncio.Event:
        """Set at the next `wake`. Take it before looking, so that nothing is missed."""
        return self._event


def verify_till(platform: Platform, merchant: bytes, service: str, token: str) -> None:
    """Raise unless `token` is the merchant's till token."""
    with platform.database.read() as session:
        row = load_merchant(session, merchant, service)
    if not hmac.compare_digest(row.till_token_hash, sha256(token.encode("utf-8", "replace"))):
        raise Untrusted("till.token", "this is not the till's token", field="authorization")


def load_events(platform: Platform, merchant: bytes, after: int) -> list[dict[str, Any]]:
    """At most 100 events after the one numbered `after`, in order."""
    query = select(Event).where(Event.merchant == merchant, Event.id > after).order_by(Event.id).limit(EVENTS_MAX)
    with platform.database.read() as session:
        return [{"id": event.id, **json.loads(event.body)} for event in session.scalars(query)]
