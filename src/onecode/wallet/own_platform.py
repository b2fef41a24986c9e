"""Requests of a wallet to its own platform: enrolment, the credential in time, payments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from urllib.parse import quote

import httpx

from onecode.errors import Malformed, Misconfigured, Unreachable, Untrusted
from onecode.query.credential import parse_credential
from onecode.query.requests import DEVICE_HEADER, DEVICE_KEY_HEADER, device_header, device_key_header
from onecode.wallet.channel import CBOR, fetch_bytes, hex_field, parse_json
from onecode.wallet.config import WalletConfig
from onecode.wallet.store import WalletStore
from onecode.wire import SigningKey

RENEW_PART = 4  # a credential in the last quarter of its life is renewed before it is used


class OwnPlatform:
    """The platform that the wallet belongs to; its requests are signed by the device."""

    def __init__(
        self,
        config: WalletConfig,
        store: WalletStore,
        device: SigningKey,
        http: httpx.AsyncClient,
        now: Callable[[], int],
    ) -> None:
        self._config, self._store, self._device, self._http, self._now = config, store, device, http, now

    async def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        url = self._config.platform_url.rstrip("/") + path
        return await fetch_bytes(
            self._http, method, url, body=body, headers=headers, timeout_ms=self._config.timeout_ms
        )

    def _signed(
        self, credential: bytes, path: str, body: bytes, key: str | None = None, method: str = "POST"
    ) -> dict[str, str]:
        """The proof header of a request."""
        chain_id, seen, now_ms = self._config.chain_id, self._seen(path), self._now()
        return {DEVICE_HEADER: device_header(chain_id, credential, self._device, method, seen, body, now_ms, key)}

    def _seen(self, path: str) -> str:
        """The path that the platform sees, and that is signed."""
        return httpx.URL(self._config.platform_url.rstrip("/") + path).raw_path.decode("ascii")

    async def fetch_trust_file(self) -> bytes:
        """The platform's newest trust file, unverified."""
        return await self._send("GET", "/v1/trust-file", b"", {})

    async def enroll(self) -> bytes:
        """Enrol the device by its own signature; returns the account's name, which a sandbox funds with simulated
        money."""
        path, body = "/v1/devices", json.dumps({"device": self._device.public.hex()}).encode("ascii")
        proof = device_key_header(self._config.chain_id, self._device, "POST", self._seen(path), body, self._now())
        reply = await self._send("POST", path, body, {"content-type": "application/json", DEVICE_KEY_HEADER: proof})
        return self._accept(hex_field(parse_json(reply), "credential"))

    def _accept(self, raw: bytes) -> bytes:
        _, credential = parse_credential(raw)
        if (credential.device, credential.platform) != (self._device.public, self._config.platform):
            raise Untrusted(
                "credential.other", "the platform sent the credential of another device", field="credential"
            )
        self._store.save_credential(raw)
        return credential.account

    async def credential(self) -> bytes:
        """The encoded SignedCredential, renewed in the last quarter of its life."""
        raw = self._store.load_credential()
        if raw is None:
            raise Misconfigured("wallet.not_enrolled", "enrol this wallet with its platform first")
        _, held = parse_credential(raw)
        if RENEW_PART * (held.valid_until_ms - self._now()) >= held.valid_until_ms - held.valid_from_ms:
            return raw
        path = "/v1/devices/renew"
        try:
            reply = await self._send("POST", path, b"", self._signed(raw, path, b""))
        except Unreachable:
            if held.valid_until_ms <= self._now():
                raise
            return raw  # still good; the next call tries again
        renewed = hex_field(parse_json(reply), "credential")
        self._accept(renewed)
        return renewed

    async def post_payment(self, credential: bytes, body: bytes, idempotency_key: str) -> bytes:
        """The encoded SignedReceipt for an encoded PaymentRequest; `Unreachable` is tried again with the same key."""
        path, last = "/v1/payments", "no attempt"
        for attempt in range(self._config.payment_attempts):
            if attempt:
                await asyncio.sleep(min(self._config.retry_pause_ms << attempt, self._config.timeout_ms) / 1000)
            headers = self._signed(credential, path, body, idempotency_key)
            headers |= {"content-type": CBOR, "idempotency-key": idempotency_key}
            try:
                reply = await self._send("POST", path, body, headers)
            except Unreachable as error:
                last = error.code
            else:
                return hex_field(parse_json(reply), "receipt")
        raise Unreachable(
            "payment.unanswered", f"the platform gave no receipt ({last}); try again with the same idempotency key"
        )

    async def fetch_refunds(self, credential: bytes, payment_id: str) -> list[bytes]:
        """Encoded SignedRefunds of an own payment, in order, unverified."""
        path = f"/v1/payments/{quote(payment_id, safe='')}/refunds"
        reply = await self._send("GET", path, b"", self._signed(credential, path, b"", method="GET"))
        try:
            rows = json.loads(reply)
        except (ValueError, RecursionError):
            rows = None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Malformed("http.json", "the platform's answer is no JSON list of objects")
        return [hex_field(row, "refund") for row in rows]
