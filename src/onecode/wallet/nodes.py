"""The nodes that a wallet asks, and what it believes of them: headers, network views, witnesses. None is trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from onecode.errors import Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.leaves import PlatformLeaf
from onecode.query.follow import Follower
from onecode.query.messages import HeaderView, NetworkView
from onecode.schema import parse
from onecode.wallet.channel import CBOR, fetch_bytes, unproven
from onecode.wallet.config import WalletConfig
from onecode.wallet.headers import (
    TrustSettings,
    bridge,
    open_headers,
    require_not_behind,
    saved_header,
    trust_body,
)
from onecode.wallet.network import VerifiedNetwork, verify_network
from onecode.wallet.renewal import renew
from onecode.wallet.store import WalletStore
from onecode.wallet.witness import Witnesses, forked

FAILURES_KEPT = 100
NEWER_WAIT_MS = 20_000  # a node waits 15 s for a newer header
BRIDGE_TIMEOUTS = 6  # headers between, and all of one witness: so many times the time of one request at most
FINAL = ("code.order_signature", "header.fork", "header.trust_expired")
T = TypeVar("T")


def is_final(error: OnecodeError) -> bool:
    """Whether no node can mend it: a forged code, a fork, trust that has run out. No node's own word is `Untrusted`."""
    return isinstance(error, Untrusted) and error.code in FINAL


@dataclass(frozen=True, slots=True)
class Failure:
    """One node that was passed over, and why; `Untrusted` and `Malformed` mean that it lied or is broken."""

    node_url: str
    error: OnecodeError


class Nodes:
    """The configured nodes, the newest header that was verified through them, and the views that are still fresh."""

    def __init__(
        self, config: WalletConfig, store: WalletStore, http: httpx.AsyncClient, now: Callable[[], int]
    ) -> None:
        self.config, self._store, self._http, self._now = config, store, http, now
        self.failures: list[Failure] = []
        self.witness_failures: list[Failure] = []
        self._settings = TrustSettings(
            config.platform_root, config.chain_id, config.allow_solo, config.header_age_ms_max
        )
        self.headers = self._open()
        self._witnesses = self._meet_witnesses(config.trust_file)
        self._comparing: asyncio.Task[None] | None = None
        self._networks: dict[str, VerifiedNetwork] = {}

    async def close(self) -> None:
        """Let a comparison with a witness end, or run out of time."""
        if self._comparing is not None:
            await asyncio.wait({self._comparing}, timeout=self.config.timeout_ms / 1000)
            self._comparing.cancel()

    # --- trust --------------------------------------------------------------------------------------------------------

    def _open(self) -> Follower:
        trust_file = self.config.trust_file
        try:
            return open_headers(self._store.load_header(), trust_file, self._settings, self._now())
        except Untrusted as error:
            if error.code == "trust.fork":
                self._store.keep_evidence(f"trust-fork-{self._now()}.cbor", trust_file)
            raise

    def _meet_witnesses(self, trust_file: bytes) -> Witnesses:
        body, trust = trust_body(trust_file), self.headers.trust
        begins = body.header.header.height <= trust.state.header.height  # the file was verified, now or when it was new
        base = HeaderView(header=body.header, validators=body.validators) if begins else None
        interval_ms, timeout_ms = self.config.witness_interval_ms, BRIDGE_TIMEOUTS * self.config.timeout_ms
        return Witnesses(self._store, base, interval_ms, timeout_ms, self._fetch_raw, self._fail_witness)

    def renew_trust(self, trust_file: bytes) -> None:
        """Start from a newer trust file; raises `Untrusted` for one that is not good (`wallet.renewal.renew`)."""
        trust = renew(self._store, trust_file, self._settings, self._now())
        if self._comparing is not None:  # it would confirm a header of before
            self._comparing.cancel()
        self.headers = Follower(trust, self.config.header_age_ms_max)
        self._witnesses = self._meet_witnesses(trust_file)
        self._networks.clear()

    def _save_header(self, own: PlatformLeaf | None = None) -> None:
        """Keep the newest header, with the own platform's leaf under it or, without one, as it was known before."""
        self._witnesses.note(self.headers.newest_view)
        newest, kept = self.headers.newest, self._store.load_header()
        if newest is None:
            return
        known = kept.own if kept is not None else None
        if kept is None or newest.header.height > kept.header.height or (own is not None and own != known):
            self._store.save_header(saved_header(self.headers.trust, own or known))

    def require_trust(self) -> None:
        """Refuse everything after a fork."""
        if self._witnesses.stop is not None:
            raise forked(self._witnesses.stop)

    def _watch(self, node: str) -> None:
        """Have a witness look at the newest header if it is time to, without waiting for it."""
        urls = tuple(url for url in self.config.witness_urls or self.config.node_urls if url != node)
        if not urls or not self._witnesses.due(self._now()) or (self._comparing and not self._comparing.done()):
            return

        async def compare() -> None:
            try:
                await self._witnesses.compare(urls, self.headers, self._now())
            except Untrusted:
                self._networks.clear()  # a fork: the next call raises it

        self._comparing = asyncio.create_task(compare())

    async def _fetch_raw(self, node: str, path: str) -> bytes:
        url, timeout_ms = node.rstrip("/") + path, self.config.timeout_ms
        return await fetch_bytes(self._http, "GET", url, timeout_ms=timeout_ms)

    async def fetch(self, method: str, node: str, path: str, body: bytes = b"", *, more_ms: int = 0) -> bytes:
        """A node's answer; a refusal of its own is never more than `Unreachable` or unproven."""
        headers = {"content-type": CBOR} if body else {}
        url, timeout_ms = node.rstrip("/") + path, self.config.timeout_ms + more_ms
        return await fetch_bytes(
            self._http, method, url, body=body, headers=headers, timeout_ms=timeout_ms, worth=unproven
        )

    async def verified(self, node: str, goal: Callable[[], HeaderView], verify: Callable[[], T]) -> T:
        """What `verify` gives; headers between are fetched where too many validators have changed.

        goal: the header that it depends on. A second header of the newest height halts the wallet.
        """
        try:
            try:
                return verify()
            except Untrusted as error:
                if error.code != "header.not_enough_trust":
                    raise
            await self._bridge(node, goal())
            return verify()
        except Untrusted as error:
            if error.code == "header.fork" and self._witnesses.stop is None:
                raise self._witnesses.contradict(goal(), self.headers.trust, self._now()) from None
            raise
        finally:
            self._save_header()
            self._watch(node)

    async def _bridge(self, node: str, goal: HeaderView) -> None:
        """Verify headers between the newest one and `goal`, until that is near enough."""

        async def header_at(height: int) -> HeaderView:
            return parse(HeaderView, await self.fetch("GET", node, f"/v1/headers/{height}"), path="header")

        try:
            async with asyncio.timeout(BRIDGE_TIMEOUTS * self.config.timeout_ms / 1000):
                path = await bridge(self.headers.trust, goal, header_at, self._now())
        except TimeoutError:
            raise Unreachable("header.too_slow", "the node gave the headers between too slowly") from None
        for view in path:
            if view.header.header.height > self.headers.trust.state.header.height:  # another call may have gone on
                self.headers.verify_between(view, self._now())
                self._witnesses.note(view, skipped=True)
        require_not_behind(self.headers, goal.header)

    async def fetch_network(self, node: str) -> VerifiedNetwork:
        """The node's network view, verified."""
        view = parse(NetworkView, await self.fetch("GET", node, "/v1/network"), path="network")
        require_not_behind(self.headers, view.header)
        network = await self.verified(
            node,
            lambda: HeaderView(header=view.header, validators=view.validators),
            lambda: verify_network(view, self.headers, self.config.platform, self._now()),
        )
        self._networks[node] = network
        if network.header is self.headers.newest:
            self._save_header(network.own)
        return network

    async def advance(self, node: str) -> None:
        """Wait for a header of this node above the newest one, some seconds at most, and verify it."""
        self.require_trust()
        path = f"/v1/headers/latest?above={self.headers.trust.state.header.height}"
        view = parse(HeaderView, await self.fetch("GET", node, path, more_ms=NEWER_WAIT_MS), path="header")
        require_not_behind(self.headers, view.header)
        await self.verified(
            node, lambda: view, lambda: self.headers.verify_next(view.header, view.validators, self._now())
        )

    def usable_network(self, node: str) -> VerifiedNetwork | None:
        """The view of a node that was verified before, while its header is fresh."""
        network = self._networks.get(node)
        if network is None or self._now() - network.header.signed_ms > self.config.header_age_ms_max:
            self._networks.pop(node, None)
            return None
        return network

    async def ask(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """The first node's answer that verifies.

        `Declined` is proven and final, and so is what no node can mend (`is_final`). Any other error is no answer. A
        node whose view was kept from before is asked once more with a fresh one: its enclave may have started again.
        """
        self.require_trust()
        last: OnecodeError = Unreachable("node.none", "no node was asked")
        for node in self.config.node_urls:
            for _ in range(2 if node in self._networks else 1):
                try:
                    found = await ask(node)
                    self.require_trust()  # a witness may have shown a fork meanwhile
                    return found
                except (Unreachable, Untrusted, Malformed) as error:
                    if is_final(error):
                        raise
                    last = error
                    self._networks.pop(node, None)
            self._fail(node, last)
        raise last

    def _fail(self, node: str, error: OnecodeError) -> None:
        self.failures = [*self.failures, Failure(node, error)][-FAILURES_KEPT:]

    def _fail_witness(self, node: str, error: OnecodeError) -> None:
        self.witness_failures = [*self.witness_failures, Failure(node, error)][-FAILURES_KEPT:]

    async def any_network(self) -> VerifiedNetwork:
        """Any verified view that is still fresh: the own platform's leaf is in each."""
        self.require_trust()
        for node in self.config.node_urls:
            if network := self.usable_network(node):
                return network
        return await self.ask(self.fetch_network)

    def forget(self) -> None:
        """Ask for network views again."""
        self._networks.clear()
