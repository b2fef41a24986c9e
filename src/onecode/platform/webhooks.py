"""Webhooks to merchants, as Standard Webhooks has them: signed, sent until taken or given up.

A delivery is written in the same database transaction as its event, and sent at least once until the receiver answers
with 2xx: receivers know a repeated one by its `webhook-id`. Order is not promised; `data.id` is the event's number.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
from sqlalchemy import delete, func, select

from onecode.errors import Declined, OnecodeError, Unreachable
from onecode.platform.context import Platform
from onecode.platform.exchange import exchange
from onecode.platform.schema import Delivery, Event, Merchant, SendState, Webhook
from onecode.platform.webhook_target import parse_webhook_url, resolve_target
from onecode.record.payment import SERVICE_PAY

SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 # what a secret begins with, not a secret
PAUSE_MS_MAX = 3_600_000
BATCH = 50
THREADS = 4
GONE = 410


def secret_text(secret: bytes) -> str:
    """A secret as the receiver configures it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode("ascii")


def sign_delivery(secret: bytes, message_id: str, time_s: int, body: bytes) -> str:
    """Value of `webhook-signature`: v1, HMAC-SHA256 over id, time and body."""
    signed = b".".join((message_id.encode("ascii"), str(time_s).encode("ascii"), body))
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode("ascii")


def set_webhook(platform: Platform, merchant: bytes, url: object) -> dict[str, Any]:
    """Where the merchant hears of events from now on; a fresh secret, shown this once."""
    checked = parse_webhook_url(url, allow_private=platform.config.webhook_private_addresses)
    secret = platform.entropy(SECRET_BYTES)
    with platform.database.write() as session:
        if session.get(Merchant, (merchant, SERVICE_PAY)) is None:
            raise Declined("merchant.unknown", "this platform has not signed up this merchant", status=404)
        session.merge(Webhook(merchant=merchant, url=checked, secret=secret, created_ms=platform.clock_ms()))
    return {"merchant": merchant.hex(), "url": checked, "secret": secret_text(secret)}


def remove_webhook(platform: Platform, merchant: bytes) -> None:
    """No more deliveries; those that wait are given up."""
    with platform.database.write() as session:
        if session.get(Webhook, merchant) is None:
            raise Declined("webhook.unknown", "the merchant has no webhook", status=404)
        session.execute(delete(Webhook).where(Webhook.merchant == merchant))
        waiting = select(Delivery).where(Delivery.merchant == merchant, Delivery.state == SendState.WAITING)
        for row in session.scalars(waiting):
            row.state, row.error = SendState.DEAD, "the webhook was removed"


def load_deliveries(platform: Platform, state: str | None) -> list[dict[str, Any]]:
    """The newest 1,000 deliveries, of one state or all: dead ones wait for the operator."""
    query = select(Delivery).order_by(Delivery.id.desc()).limit(1_000)
    with platform.database.read() as session:
        rows = session.scalars(query.where(Delivery.state == state) if state is not None else query)
        return [plain_delivery(row) for row in rows]


def retry_delivery(platform: Platform, delivery_id: int) -> dict[str, Any]:
    """Send a delivery again that was given up."""
    with platform.database.write() as session:
        row = session.get(Delivery, delivery_id)
        if row is None:
            raise Declined("webhook.delivery_unknown", "there is no such delivery", status=404)
        if row.state != SendState.DEAD:
            raise Declined("webhook.not_dead", "only a delivery that was given up is sent again")
        row.state, row.sent, row.next_ms = SendState.WAITING, 0, platform.clock_ms()
        return plain_delivery(row)


def plain_delivery(row: Delivery) -> dict[str, Any]:
    """A delivery in JSON."""
    return {
        "id": row.id,
        "event": row.event,
        "merchant": row.merchant.hex(),
        "state": row.state,
        "sent": row.sent,
        "next_ms": row.next_ms,
        "error": row.error,
    }


class WebhookSender:
    """Delivers what is due; one instance a platform."""

    def __init__(self, platform: Platform, client: httpx.Client | None = None) -> None:
        self._platform = platform
        self._client = client or httpx.Client(
            timeout=platform.config.webhook_timeout_ms / 1000, follow_redirects=False, trust_env=False
        )
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhooks")

    def drain(self) -> None:
        """Send what is due, once each: merchants side by side, the deliveries of one one after the other."""
        with self._lock:
            now_ms = self._platform.clock_ms()
            due = select(Delivery.merchant).where(Delivery.state == SendState.WAITING, Delivery.next_ms <= now_ms)
            oldest = due.group_by(Delivery.merchant).order_by(func.min(Delivery.next_ms)).limit(BATCH)
            with self._platform.database.read() as session:
                found = list(session.scalars(oldest))
            list(self._threads.map(lambda merchant: self._deliver_to(merchant, now_ms), found))

    def close(self) -> None:
        """End after the deliveries at hand."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _deliver_to(self, merchant: bytes, now_ms: int) -> None:
        """A merchant's due deliveries until one fails or its time is used up: the others' turn is not far."""
        due = select(Delivery.id).where(
            Delivery.merchant == merchant, Delivery.state == SendState.WAITING, Delivery.next_ms <= now_ms
        )
        with self._platform.database.read() as session:
            found = list(session.scalars(due.order_by(Delivery.next_ms).limit(BATCH)))
        end_s = time.monotonic() + self._platform.config.webhook_timeout_ms / 1000
        for delivery_id in found:
            if not self._deliver(delivery_id) or time.monotonic() >= end_s:
                return

    def _deliver(self, delivery_id: int) -> bool:
        """Whether the receiver took it."""
        with self._platform.database.read() as session:
            row = session.get_one(Delivery, delivery_id)
            event, hook = session.get_one(Event, row.event), session.get(Webhook, row.merchant)
        try:
            if hook is None:
                raise Unreachable("webhook.removed", "the merchant has no webhook any more")
            status = self._post(hook, event, row)
        except OnecodeError as error:
            self._record(delivery_id, f"{error}")
            return False
        is_taken = 200 <= status < 300
        self._record(delivery_id, None if is_taken else f"status {status}", is_gone=status == GONE)
        return is_taken

    def _post(self, hook: Webhook, event: Event, row: Delivery) -> int:
        """The receiver's status; nothing of its answer's body is read."""
        platform = self._platform
        target = resolve_target(hook.url, allow_private=platform.config.webhook_private_addresses)
        data = {"id": event.id, "merchant": row.merchant.hex(), **json.loads(event.body)}
        kind, time_ms = data.pop("type"), data["time_ms"]
        stamp = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        content = {"type": kind, "timestamp": stamp.replace("+00:00", "Z"), "data": data}
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        message_id, now_s = f"evt_{event.id}", platform.clock_ms() // 1000
        headers = {
            "content-type": "application/json",
            "user-agent": "onecode",
            "webhook-id": message_id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": sign_delivery(hook.secret, message_id, now_s, body),
        }
        try:
            request = target.request(self._client, body, headers)
            status, _ = exchange(self._client, request, platform.config.webhook_timeout_ms, None)
        except httpx.HTTPError as error:
            raise Unreachable("webhook.silent", f"the receiver does not answer: {type(error).__name__}") from error
        return status

    def _record(self, delivery_id: int, error: str | None, *, is_gone: bool = False) -> None:
        """What became of one attempt: done, to be tried after twice the pause, or given up."""
        config = self._platform.config
        with self._platform.database.write() as session:
            row = session.get_one(Delivery, delivery_id)
            if row.state != SendState.WAITING:
                return
            row.sent, row.error = row.sent + 1, error[:200] if error is not None else None
            if error is None:
                row.state = SendState.DONE
            elif is_gone or row.sent >= config.webhook_attempts_max:
                row.state = SendState.DEAD
            else:
                pause_ms = min(config.webhook_retry_ms << min(row.sent - 1, 20), PAUSE_MS_MAX)
                row.next_ms = self._platform.clock_ms() + pause_ms
