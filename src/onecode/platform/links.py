"""Whether live records still have their links: a merchant can end one without asking its platform.

A payment looks the link up each time. This is for what the operator sees, and so that the end of an epoch does not wait
for records that the chain has no link to.
"""

from __future__ import annotations

from sqlalchemy import select

from onecode.errors import Declined
from onecode.platform.context import Platform
from onecode.platform.outbox import has_waiting
from onecode.platform.schema import RecordRow, RecordState

BATCH = 20  # merchants looked up at a time


class LinkKeeper:
    """Goes round all live records, a few at a time; one instance a platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._after = b""

    def check(self) -> None:
        """Look the next few up, and note those whose link is proven to be gone."""
        query = select(RecordRow.merchant, RecordRow.service, RecordRow.version).where(
            RecordRow.state == RecordState.LIVE, RecordRow.merchant > self._after
        )
        with self._platform.database.read() as session:
            found = session.execute(query.order_by(RecordRow.merchant).limit(BATCH)).all()
        for merchant, service, version in found:
            self._check_one(merchant, service, version)
            self._after = merchant
        if len(found) < BATCH:
            self._after = b""

    def _check_one(self, merchant: bytes, service: str, version: int) -> None:
        try:
            view = self._platform.chain.fetch_merchant(merchant, service)
        except Declined:  # frozen: what links there are is not told
            return
        if view.state is not None and view.state.link_of(self._platform.id) is not None:
            return
        with self._platform.database.write() as session:
            row = session.get_one(RecordRow, (merchant, service, version))
            if row.state == RecordState.LIVE and not has_waiting(session, merchant, service):
                row.state = RecordState.UNLINKED
