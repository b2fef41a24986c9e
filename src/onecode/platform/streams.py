"""The tills' event stream: server-sent events beside the long poll, with the same events and numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from onecode.errors import Unreachable
from onecode.platform.context import Platform
from onecode.platform.tills import Announcer, load_events

HEARTBEAT_S = 10
RETRY_MS = 2_000
RETRY_AFTER_MS = 5_000


class Streams:
    """Open streams of one platform, bounded in number and in time. All in one event loop."""

    def __init__(self, platform: Platform, announcer: Announcer) -> None:
        self._platform = platform
        self._announcer = announcer
        self._open = 0

    def open(self, merchant: bytes, after: int) -> Response:
        """Events after the one numbered `after`, then each as it comes, until `stream_ms_max` has passed."""
        if self._open >= self._platform.config.streams_max:
            raise Unreachable(
                "till.streams", "too many streams are open: poll instead", status=429, retry_after_ms=RETRY_AFTER_MS
            )
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._events(merchant, after), headers=headers, media_type="text/event-stream")

    async def _events(self, merchant: bytes, after: int) -> AsyncIterator[str]:
        self._open += 1
        try:
            now = asyncio.get_running_loop().time
            end = now() + self._platform.config.stream_ms_max / 1000
            yield f"retry: {RETRY_MS}\n\n"
            while (left := end - now()) > 0:
                changed = self._announcer.next
                found = await run_in_threadpool(load_events, self._platform, merchant, after)
                for event in found:
                    after = event["id"]
                    yield f"id: {after}\nevent: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
                if found:
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), min(left, HEARTBEAT_S))
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._open -= 1
