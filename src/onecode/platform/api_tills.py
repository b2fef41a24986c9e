"""The tills' part of the API: events by long poll and by stream, refunds."""

from __future__ import annotations

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from onecode.errors import Malformed
from onecode.platform.context import Platform
from onecode.platform.http import Call, json_response
from onecode.platform.payments import require_key
from onecode.platform.plain import parse_merchant, refund_plain
from onecode.platform.refunds import RefundRequest, load_refunds, refund_payment
from onecode.platform.streams import Streams
from onecode.platform.tills import Announcer, load_events, verify_till
from onecode.record.payment import SERVICE_PAY
from onecode.schema import from_plain


class TillApi:
    """Handlers of one platform. `events` and `stream` wait in the event loop, the others run on a thread."""

    def __init__(self, platform: Platform, announcer: Announcer, prefix: str) -> None:
        self._platform = platform
        self._announcer = announcer
        self._streams = Streams(platform, announcer)
        self._prefix = prefix

    def _merchant(self, call: Call) -> bytes:
        """The merchant in the path, whose till's token the call carries."""
        token = call.bearer()
        merchant = parse_merchant(call, self._prefix)
        verify_till(self._platform, merchant, SERVICE_PAY, token)
        return merchant

    async def events(self, call: Call) -> Response:
        """Events after `after`; where there is none, the answer waits for one up to `wait_ms`."""
        platform = self._platform
        after = call.integer("after", 0)
        wait_ms_max = min(platform.config.long_poll_ms_max, platform.config.request_timeout_ms // 2)
        wait_ms = min(call.integer("wait_ms", wait_ms_max), wait_ms_max)
        merchant = await run_in_threadpool(self._merchant, call)
        end = asyncio.get_running_loop().time() + wait_ms / 1000
        while True:
            changed = self._announcer.next
            found = await run_in_threadpool(load_events, platform, merchant, after)
            left = end - asyncio.get_running_loop().time()
            if found or left <= 0:
                return json_response(found)
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return json_response([])

    async def stream(self, call: Call) -> Response:
        """Events after `Last-Event-ID`, or after the parameter `after`, as they come."""
        after = call.integer("after", 0)
        last = call.headers.get("last-event-id")
        if last is not None:
            if not (last.isascii() and last.isdigit() and len(last) <= 18):
                raise Malformed("http.last_event", "Last-Event-ID is an event's number", field="last-event-id")
            after = int(last)
        merchant = await run_in_threadpool(self._merchant, call)
        return self._streams.open(merchant, after)

    def till_refund(self, call: Call) -> Response:
        merchant = self._merchant(call)
        key = require_key(call.headers.get("idempotency-key"))
        request = from_plain(RefundRequest, call.json(), "refund")
        answer = refund_payment(self._platform, call.parameters["payment"], key, request, merchant)
        return json_response(refund_plain(answer), 201 if answer.is_new else 200)

    def till_refunds(self, call: Call) -> Response:
        merchant = self._merchant(call)
        found = load_refunds(self._platform, call.parameters["payment"], merchant=merchant)
        return json_response([refund_plain(one) for one in found])
