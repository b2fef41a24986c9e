"""The host's side of attestation: carries challenges, evidence and sealed grants between the enclave and the key
services of the platforms on chain. It sees no key and decides nothing: enclave and key service check each other.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import httpx

from onecode.attest.release import ReleaseRequest, SealedGrant
from onecode.enclave.frames import EnclaveStatus, EvidenceReply, EvidenceRequest, FrameKind, Lease
from onecode.errors import Malformed, OnecodeError, Unreachable, answer_error, json_object
from onecode.host.clock import now_ms
from onecode.node.addresses import require_callable
from onecode.node.blocks import load_header
from onecode.node.config import NodeConfig
from onecode.node.link import Link
from onecode.node.store import ReaderStore
from onecode.node.view import Head, load_head, state_mark
from onecode.schema import Bytes, parse

ANSWER_BYTES_MAX = 65_536
AT_ONCE_MAX = 8
RETRY_MS_MIN = 500

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Platform:
    """Where the relay stands with one key service."""

    url: str
    granted_ms: int = 0
    granted: Lease | None = None
    failures: int = 0
    retry_at_ms: int = 0
    task: asyncio.Task[None] | None = field(default=None)

    def due(self, lease: Lease | None, at_ms: int) -> bool:
        """Whether keys should be asked for now: none held, half of the lease gone, or few openings left."""
        if self.task is not None or at_ms < self.retry_at_ms:
            return False
        if lease is None or self.granted is None or lease.expires_ms != self.granted.expires_ms:
            return True  # also after a restart of the enclave or of this relay
        half_ms = (self.granted_ms + lease.expires_ms) // 2
        return lease.renew or at_ms >= half_ms


class Relay:
    """Keeps the enclave supplied with keys. `run` until it is cancelled."""

    def __init__(self, config: NodeConfig, store: ReaderStore, link: Link, client: httpx.AsyncClient) -> None:
        self._config = config
        self._store = store
        self._link = link
        self._client = client
        self._platforms: dict[bytes, _Platform] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._head: Head | None = None
        self._mark = b""

    async def run(self) -> None:
        """Look every `relay_poll_ms` what is due; one platform's trouble never holds up another."""
        try:
            while True:
                try:
                    await self._look()
                except Unreachable:
                    pass  # the enclave is down, or there is no state yet
                except OnecodeError as error:
                    log.error("the relay cannot work: %s", error)
                await asyncio.sleep(self._config.relay_poll_ms / 1000)
        finally:
            tasks = [platform.task for platform in self._platforms.values() if platform.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        status = await self._status()
        if not status.height:
            return  # it has not been told of a header yet
        at_ms = now_ms()
        self._refresh(at_ms)
        held = {lease.platform: lease for lease in status.leases}
        for platform, state in self._platforms.items():
            if state.due(held.get(platform), at_ms):
                state.task = asyncio.create_task(self._supply(platform, state))

    async def _status(self) -> EnclaveStatus:
        return parse(EnclaveStatus, await self._link.call(FrameKind.STATUS, b""), path="enclave")

    def _refresh(self, at_ms: int) -> None:
        """The active platforms that have a key service, from the newest state."""
        with self._store.snapshot() as reader:
            mark = state_mark(reader)
            if mark != self._mark:
                self._head = load_head(reader, self._head)
                self._mark = mark
        leaves = self._head.leaves if self._head is not None else {}
        wanted = {
            platform: leaf.key_service_url
            for platform, leaf in leaves.items()
            if leaf.key_service_url is not None and leaf.active_at(at_ms)
        }
        for platform, state in list(self._platforms.items()):
            if wanted.get(platform) != state.url:
                if state.task is not None:
                    state.task.cancel()
                del self._platforms[platform]
        for platform, url in wanted.items():
            self._platforms.setdefault(platform, _Platform(url))

    # --- one key service

    async def _supply(self, platform: bytes, state: _Platform) -> None:
        try:
            async with self._at_once:
                await self._fetch_grant(platform, state.url)
            state.granted = next((one for one in (await self._status()).leases if one.platform == platform), None)
            state.granted_ms = now_ms()
            state.failures = state.retry_at_ms = 0
        except Exception as error:
            state.failures += 1
            delay_ms = min(RETRY_MS_MIN << min(state.failures - 1, 16), self._config.relay_retry_ms_max)
            state.retry_at_ms = now_ms() + delay_ms
            reason = error if isinstance(error, OnecodeError) else repr(error)
            log.warning("no keys of platform %s, again in %d ms: %s", platform.hex(), delay_ms, reason)
        finally:
            state.task = None

    async def _fetch_grant(self, platform: bytes, url: str) -> None:
        """Challenge, evidence, release, grant. What key service and enclave check is in `keys/` and `enclave/`."""
        await require_callable(url, allow_private=self._config.relay_private_addresses)
        nonce, key = _challenge(await self._post(f"{url.rstrip('/')}/v1/challenge", b"{}", "application/json"))
        asked = EvidenceRequest(platform=platform, nonce=nonce, key_service_key=key)
        raw = await self._link.call(FrameKind.EVIDENCE, asked.encoded())
        reply = parse(EvidenceReply, raw, path="evidence")
        with self._store.snapshot() as reader:
            stored = load_header(reader, reply.height)
        if stored is None:
            raise Unreachable("relay.header", f"this node has no header of height {reply.height}")
        request = ReleaseRequest(
            bindings=reply.bindings,
            evidence=reply.evidence,
            header=stored.signed,
            validators=stored.validators,
            terms=reply.terms,
        )
        answer = await self._post(f"{url.rstrip('/')}/v1/release", request.encoded(), "application/cbor")
        grant = parse(SealedGrant, answer, size_max=ANSWER_BYTES_MAX, path="grant")
        if grant.platform != platform:
            raise Malformed("relay.grant", "the key service answered for another platform", field="platform")
        await self._link.call(FrameKind.GRANT, answer)

    async def _post(self, url: str, body: bytes, content_type: str) -> bytes:
        """The body of the answer, of bounded size and in bounded time. No redirects are followed."""
        try:
            async with asyncio.timeout(self._config.relay_timeout_ms / 1000):
                return await self._read(url, body, content_type)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Unreachable(
                "relay.key_service", f"the key service at {url} does not answer: {type(error).__name__}"
            ) from error

    async def _read(self, url: str, body: bytes, content_type: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        headers = {"content-type": content_type, "accept-encoding": "identity"}
        async with self._client.stream("POST", url, content=body, headers=headers) as response:
            if response.headers.get("content-encoding", "identity") != "identity":  # a kilobyte unpacks to a gigabyte
                raise Unreachable("http.answer_encoding", "the answer is compressed, which was not asked for")
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > ANSWER_BYTES_MAX:
                    raise Malformed("relay.answer", f"the answer of {url} is too large", status=413)
        answer = b"".join(parts)
        if response.status_code != 200:
            raise answer_error(response.status_code, answer)
        return answer


def _challenge(answer: bytes) -> tuple[bytes, bytes]:
    """Nonce and key of a key service's challenge."""
    body = json_object(answer)
    if body is None:
        raise Malformed("relay.challenge", "the challenge is no JSON object")
    kind = Bytes(32)
    return kind.from_plain(body.get("nonce"), "challenge.nonce"), kind.from_plain(body.get("key"), "challenge.key")
