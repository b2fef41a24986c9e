"""Plain clients for people's tools: a node's public API, and a platform's API for its operator and for a till.

They prove nothing: what a payment rests on goes through `wallet/`. One pool of connections for the whole process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx

from onecode.errors import Malformed, Unreachable, answer_error
from onecode.proof.map import Section
from onecode.wire import FRAME_BYTES_MAX

CBOR = "application/cbor"
TIMEOUT_MS = 30_000  # above a till's long poll of 20 s


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a transaction. code 0 is success; `height` of its block; `items` one an item of a batch."""

    hash: str
    height: int | None
    code: int
    name: str
    items: tuple[dict[str, Any], ...]


@cache
def _http() -> httpx.Client:
    """Connections straight to the address given, whatever proxy the environment names."""
    return httpx.Client(trust_env=False)


def _call(method: str, url: str, *, headers: dict[str, str], content: bytes | None, timeout_ms: int) -> bytes:
    """The answer's body. Time and size are bounded as it comes in: who answers may be a stranger."""
    late = Unreachable("http.timeout", f"{url} gave no answer within {timeout_ms} ms", status=408)
    until_s, body = time.monotonic() + timeout_ms / 1000, bytearray()
    try:
        with _http().stream(method, url, headers=headers, content=content, timeout=timeout_ms / 1000) as answer:
            for part in answer.iter_bytes():
                body += part
                if len(body) > FRAME_BYTES_MAX:
                    raise Malformed("http.too_large", f"{url} sent more than {FRAME_BYTES_MAX} bytes", status=413)
                if time.monotonic() > until_s:
                    raise late
    except httpx.TimeoutException:
        raise late from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable("http.unreachable", f"{url} cannot be reached: {type(error).__name__}") from None
    if answer.is_success:
        return bytes(body)
    raise answer_error(answer.status_code, bytes(body))


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Malformed("http.json", "the server's answer is no JSON") from None


@dataclass(frozen=True, slots=True)
class NodeClient:
    """A node's API. `url` without a trailing slash."""

    url: str
    timeout_ms: int = TIMEOUT_MS

    def submit(self, transaction: bytes, wait: str = "proven") -> Submitted:
        """Send a transaction and wait until it is `decided` or `proven`, or not (`none`); read its `code`."""
        headers = {"content-type": CBOR}
        answer = _json(self._call("POST", f"/v1/transactions?wait={wait}", transaction, headers))
        try:
            return Submitted(
                str(answer["hash"]), answer.get("height"), int(answer["code"]), str(answer["name"]),
                tuple(answer.get("items") or ()),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Malformed("http.json", "the node's answer to a transaction lacks a field") from None

    def look_up(self, transaction_hash: bytes) -> int | None:
        """The result code of a decided transaction; None if this node knows of none."""
        found = _json(self._call("GET", f"/v1/transactions/{transaction_hash.hex()}"))
        code = found.get("code") if isinstance(found, dict) else None
        return code if isinstance(code, int) else None

    def status(self) -> dict[str, Any]:
        """The node's word about itself."""
        found = _json(self._call("GET", "/v1/status"))
        if not isinstance(found, dict):
            raise Malformed("http.json", "the node's status is no object")
        return found

    def header(self, height: int) -> bytes:
        """One header with its validators: an encoded HeaderView, unverified."""
        return self._call("GET", f"/v1/headers/{height}")

    def leaf(self, section: Section, key: bytes) -> bytes:
        """One leaf of a public section with its proof: an encoded LeafView, unverified."""
        return self._call("GET", f"/v1/leaves/{section.name.lower()}/{key.hex()}")

    def network(self) -> bytes:
        """What wallets fetch first: an encoded NetworkView, unverified."""
        return self._call("GET", "/v1/network")

    def changes(self, from_height: int, header: Callable[[str, str], dict[str, str]]) -> Iterator[dict[str, Any]]:
        """The members' stream of changes from a height on, one line a time, until it is closed or silent. `header`
        gives what proves the member, of method and path."""
        path = f"/v1/members/events?from_height={from_height}"
        url = self.url.rstrip("/") + path
        try:
            with _http().stream("GET", url, headers=header("GET", path), timeout=self.timeout_ms / 1000) as answer:
                if not answer.is_success:
                    raise answer_error(answer.status_code, answer.read())
                for line in answer.iter_lines():
                    found = _json(line.encode())
                    if isinstance(found, dict):
                        yield found
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable("http.unreachable", f"{url} cannot be reached: {type(error).__name__}") from None

    def newest_header(self) -> bytes:
        """The newest header with its validators: an encoded HeaderView, unverified."""
        return self._call("GET", "/v1/headers/latest")

    def _call(
        self, method: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        url = self.url.rstrip("/") + path
        return _call(method, url, headers=headers or {}, content=content, timeout_ms=self.timeout_ms)


@dataclass(frozen=True, slots=True)
class PlatformClient:
    """A platform's API. token: the operator's for operator calls, a merchant's till token for `events`."""

    url: str
    token: str | None = None
    timeout_ms: int = TIMEOUT_MS

    def sign(self, agreement: dict[str, Any]) -> dict[str, Any]:
        """Sign a merchant up; the answer holds the till token."""
        return dict(self._json("POST", "/v1/merchants", agreement))

    def publish(self, merchant: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Publish the merchant's record, or a new version of it."""
        return dict(self._json("POST", f"/v1/merchants/{merchant}/publish", body or {}))

    def withdraw(self, merchant: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Withdraw the merchant's record."""
        return dict(self._json("POST", f"/v1/merchants/{merchant}/withdraw", body or {}))

    def bind_alias(self, merchant: str, body: dict[str, Any]) -> dict[str, Any]:
        """Bind a label of another scheme to a merchant: its alias with the merchant's consent."""
        return dict(self._json("POST", f"/v1/merchants/{merchant}/aliases", body))

    def aliases(self, merchant: str) -> list[dict[str, Any]]:
        """The aliases that this platform was asked to bind to the merchant, and whether they are bound."""
        return list(self._json("GET", f"/v1/merchants/{merchant}/aliases"))

    def merchants(self) -> list[dict[str, Any]]:
        """Merchants with the state of their records."""
        return list(self._json("GET", "/v1/merchants"))

    def make_epoch(self) -> dict[str, Any]:
        """Make a new epoch key; all epochs."""
        return dict(self._json("POST", "/v1/epochs", {}))

    def epochs(self) -> dict[str, Any]:
        """All epochs, the one in use, and how many records each holds."""
        return dict(self._json("GET", "/v1/epochs"))

    def retire_epochs(self, last: int) -> dict[str, Any]:
        """Go on with the end of the epochs up to `last`; ask again until `done`."""
        return dict(self._json("POST", f"/v1/epochs/{last}/retire", {}))

    def books(self) -> dict[str, Any]:
        """The trial balance."""
        return dict(self._json("GET", "/v1/books"))

    def refund(self, payment: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Give back a part of a payment, once for each idempotency key."""
        path = f"/v1/payments/{quote(payment, safe='')}/refunds"
        return dict(self._json("POST", path, body, {"idempotency-key": key}))

    def void(self, payment: str) -> dict[str, Any]:
        """Take a payment back in full."""
        return dict(self._json("POST", f"/v1/payments/{quote(payment, safe='')}/void", {}))

    def evidence(self, payment: str, checkpoint: int | None = None) -> bytes:
        """A payment's evidence: an encoded EvidenceFile, to be verified by whoever wants to know. checkpoint: serial of
        a later one, up to which the way is added."""
        later = "" if checkpoint is None else f"?checkpoint={checkpoint}"
        return self._bytes("GET", f"/v1/payments/{quote(payment, safe='')}/evidence{later}", None, {"accept": CBOR})

    def checkpoints(self, first: int = 1, platform: str | None = None) -> list[dict[str, Any]]:
        """Checkpoints from a serial on, at most 20; of another platform those that this one countersigned."""
        other = "" if platform is None else f"&platform={quote(platform, safe='')}"
        return list(self._json("GET", f"/v1/checkpoints?from={first}{other}"))

    def waiting_checkpoints(self) -> dict[str, Any]:
        """What is not countersigned yet and why, and what contradicts what was seen before."""
        return dict(self._json("GET", "/v1/checkpoints/waiting"))

    def notices(self, state: str | None = None) -> list[dict[str, Any]]:
        """The newest notices to partners."""
        return list(self._json("GET", "/v1/notices" + ("" if state is None else f"?state={state}")))

    def set_webhook(self, merchant: str, url: str) -> dict[str, Any]:
        """Where a merchant hears of events; the secret in the answer is shown this once."""
        return dict(self._json("PUT", f"/v1/merchants/{merchant}/webhook", {"url": url}))

    def remove_webhook(self, merchant: str) -> dict[str, Any]:
        """No more deliveries."""
        return dict(self._json("DELETE", f"/v1/merchants/{merchant}/webhook"))

    def deliveries(self, state: str | None = None) -> list[dict[str, Any]]:
        """The newest deliveries to webhooks."""
        return list(self._json("GET", "/v1/webhooks/deliveries" + ("" if state is None else f"?state={state}")))

    def retry_delivery(self, delivery: int) -> dict[str, Any]:
        """Send a delivery again that was given up."""
        return dict(self._json("POST", f"/v1/webhooks/deliveries/{delivery}/retry", {}))

    def events(self, merchant: str, after: int = 0, wait_ms: int = 20_000) -> Any:
        """Events of a merchant's till after the one numbered `after`; waits up to `wait_ms` for one."""
        return self._json("GET", f"/v1/merchants/{merchant}/events?after={after}&wait_ms={wait_ms}")

    def trust_file(self) -> bytes:
        """The platform's trust file, to be verified by who pins its root."""
        return self._bytes("GET", "/v1/trust-file")

    def _json(
        self, method: str, path: str, body: dict[str, Any] | None = None, more: dict[str, str] | None = None
    ) -> Any:
        return _json(self._bytes(method, path, body, more))

    def _bytes(
        self, method: str, path: str, body: dict[str, Any] | None = None, more: dict[str, str] | None = None
    ) -> bytes:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= more or {}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body).encode("utf-8")
        url = self.url.rstrip("/") + path
        return _call(method, url, headers=headers, content=content, timeout_ms=self.timeout_ms)
