"""The wallet: scan, resolve, pay. Nodes are not trusted: one that lies or is down is passed over for the next."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx

from onecode.code.identity import prefix_of
from onecode.code.image import read_one
from onecode.code.reading import Code, ForeignCode, parse_code
from onecode.errors import Declined, Malformed, Misconfigured, OnecodeError, Unreachable, Untrusted
from onecode.proof.governance import SchemeLeaf, scheme_key
from onecode.proof.leaves import ALIASES_MAX
from onecode.proof.map import Section
from onecode.query.follow import Follower
from onecode.query.messages import Alias, HeaderView, LeafView, MatchMode, NetworkView
from onecode.query.verify import VerifiedRecord
from onecode.record.payment import parse_terms
from onecode.record.receipt import Order
from onecode.schema import parse
from onecode.wallet.channel import CBOR, fetch_bytes, unproven
from onecode.wallet.config import WalletConfig
from onecode.wallet.headers import TrustSettings, bridge, open_headers, require_not_behind, saved_header, verify_renewal
from onecode.wallet.network import VerifiedNetwork, verify_network
from onecode.wallet.own_platform import OwnPlatform
from onecode.wallet.pay import VerifiedReceipt, build_payment, parse_receipt, verify_order_terms, verify_payment
from onecode.wallet.refunds import VerifiedRefund, verify_refunds
from onecode.wallet.resolve import QUERY_ENTROPY_BYTES, Payer, Resolution, build_pending, resolve_answer
from onecode.wallet.store import KeptPayment, WalletStore

FAILURES_KEPT = 100
ORDER_SIGNATURE = "code.order_signature"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scan:
    """What was read from an image: the payload and what it says."""

    text: str
    code: Code | ForeignCode


@dataclass(frozen=True, slots=True)
class Failure:
    """One node that was passed over, and why; `Untrusted` and `Malformed` mean that it lied or is broken."""

    node_url: str
    error: OnecodeError


def clock_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


class Wallet:
    """One payer's wallet over one directory. Use it as an async context manager."""

    def __init__(
        self,
        config: WalletConfig,
        directory: Path,
        *,
        http: httpx.AsyncClient | None = None,
        now: Callable[[], int] = clock_ms,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not config.node_urls:
            raise Misconfigured("wallet.nodes", "name at least one node, the own platform's first", field="node_urls")
        self.config = config
        self.store = WalletStore(directory)
        self.failures: list[Failure] = []
        self._now, self._random = now, random_bytes
        self._http = http or httpx.AsyncClient(trust_env=False)  # no proxy that the environment names
        self._device = self.store.load_device(random_bytes(32))
        self._platform = OwnPlatform(config, self.store, self._device, self._http, now)
        self._settings = TrustSettings(
            config.platform_root, config.chain_id, config.allow_solo, config.header_age_ms_max
        )
        self._headers = self._start(
            config.trust_file, lambda: open_headers(self.store.load_header(), config.trust_file, self._settings, now())
        )
        self._networks: dict[str, VerifiedNetwork] = {}
        self._schemes: dict[str, tuple[str, ...]] = {}

    async def __aenter__(self) -> Wallet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --- trust --------------------------------------------------------------------------------------------------------

    def _start(self, trust_file: bytes, begin: Callable[[], Follower]) -> Follower:
        try:
            return begin()
        except Untrusted as error:
            if error.code == "trust.fork":
                self.store.keep_evidence(f"trust-fork-{self._now()}.cbor", trust_file)
            raise

    def renew_trust(self, trust_file: bytes) -> None:
        """Start from a newer trust file; `Untrusted` for one that is older than the own header, or forks from it."""

        def begin() -> Follower:
            trust = verify_renewal(self._headers.trust, trust_file, self._settings, self._now())
            return Follower(trust, self.config.header_age_ms_max)

        self._headers = self._start(trust_file, begin)
        self._networks.clear()

    def _save_header(self) -> None:
        saved, kept = saved_header(self._headers), self.store.load_header()
        if saved is not None and (kept is None or saved.header.height > kept.header.height):
            self.store.save_header(saved)

    # --- nodes --------------------------------------------------------------------------------------------------------

    async def _node(self, method: str, node: str, path: str, body: bytes = b"") -> bytes:
        headers = {"content-type": CBOR} if body else {}
        url, timeout_ms = node.rstrip("/") + path, self.config.timeout_ms
        try:
            return await fetch_bytes(self._http, method, url, body=body, headers=headers, timeout_ms=timeout_ms)
        except OnecodeError as error:
            raise unproven(error) from error

    async def _fetch_network(self, node: str) -> VerifiedNetwork:
        """The node's network view, verified; headers between are fetched where too many validators have changed."""
        raw = await self._node("GET", node, "/v1/network")
        view = parse(NetworkView, raw, path="network")
        require_not_behind(self._headers, view.header)

        async def header_at(height: int) -> HeaderView:
            return parse(HeaderView, await self._node("GET", node, f"/v1/headers/{height}"), path="header")

        try:
            try:
                network = verify_network(view, self._headers, self.config.platform, self._now())
            except Untrusted as error:
                if error.code != "header.not_enough_trust":
                    raise
                goal = HeaderView(header=view.header, validators=view.validators)
                trust = await bridge(self._headers.trust, goal, header_at, self._now())
                headers = Follower(trust, self.config.header_age_ms_max)
                network = verify_network(view, headers, self.config.platform, self._now())
                require_not_behind(self._headers, view.header)  # again: another call may have gone on meanwhile
                self._headers = headers
        except Untrusted as error:
            if error.code == "header.fork":
                self.store.keep_evidence(f"header-fork-{self._now()}.cbor", raw)
            raise
        self._save_header()
        self._networks[node] = network
        return network

    def _usable_network(self, node: str) -> VerifiedNetwork | None:
        network = self._networks.get(node)
        if network is None or self._now() - network.header.signed_ms > self.config.header_age_ms_max:
            self._networks.pop(node, None)
            return None
        return network

    async def _ask_nodes(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """The first node's answer that verifies.

        `Declined` is proven and final, and so is a code that no order key of the merchant signed: no node can mend it.
        Any other error is no answer. A node whose view was kept from before is asked once more with a fresh one: its
        enclave may have started again.
        """
        last: OnecodeError = Unreachable("node.none", "no node was asked")
        for node in self.config.node_urls:
            for _ in range(2 if node in self._networks else 1):
                try:
                    return await ask(node)
                except (Unreachable, Untrusted, Malformed) as error:
                    if error.code == ORDER_SIGNATURE:
                        raise
                    last = error
                    self._networks.pop(node, None)
            self.failures = [*self.failures, Failure(node, last)][-FAILURES_KEPT:]
        raise last

    # --- scan, resolve, pay -------------------------------------------------------------------------------------------

    async def enroll(self) -> bytes:
        """Enrol this device with the own platform; returns the account's name."""
        return await self._platform.enroll()

    def scan(self, image: bytes) -> Scan:
        """The code in a picture (PNG, JPEG or WebP)."""
        return self.read(read_one(image))

    def read(self, text: str) -> Scan:
        """The code of a payload that was read elsewhere."""
        return Scan(text, parse_code(text, prefix=prefix_of(self.config.chain_id)))

    async def resolve(self, scan: Scan | Code | ForeignCode, mode: MatchMode = MatchMode.NODE) -> Resolution:
        """The record to pay for a scanned code, verified.

        Asks node after node until one answer verifies; those passed over are in `failures`. Raises `Declined` where the
        chain proves that there is nothing to pay, else the last node's error.
        """
        code = scan.code if isinstance(scan, Scan) else scan
        credential = await self._platform.credential()
        config = self.config
        payer = Payer(config.chain_id, config.platform, credential, self._device, config.partners)

        async def ask(node: str) -> Resolution:
            network = self._usable_network(node) or await self._fetch_network(node)
            subject = code.merchant_id if isinstance(code, Code) else await self._aliases(node, code)
            entropy, newest = self._random(QUERY_ENTROPY_BYTES), self._headers.newest or network.header
            pending = build_pending(subject, payer, network, newest, mode, entropy, self._now(), code=code)
            answer = await self._node("POST", node, "/v1/query", pending.query.encoded())
            try:
                return resolve_answer(pending, answer, self._headers, self._now(), config.header_age_ms_max)
            finally:
                self._save_header()

        return await self._ask_nodes(ask)

    async def _aliases(self, node: str, code: ForeignCode) -> tuple[Alias, ...]:
        """The aliases that a label of other schemes stands for: those whose scheme is assigned on chain."""
        found = []
        for source in code.sources[:ALIASES_MAX]:
            subs = self._schemes.get(source.guid) or await self._sub_objects(node, source.guid)
            if subs and set(subs) <= set(source.subs):
                found.append(Alias(guid=source.guid, values=tuple(source.subs[sub] for sub in subs)))
        if not found:
            raise Declined("alias.unassigned", "proven: no platform speaks for a scheme on this label", field="code")
        return tuple(found)

    async def _sub_objects(self, node: str, guid: str) -> tuple[str, ...]:
        """Which sub-objects make a scheme's alias, proven; none where no platform was ever assigned to it.

        The registry never lets them change, so they are asked for once. Whether the platform that now speaks for the
        scheme has begun to is its own affair: what is bound stays bound, what is not is proven absent.
        """
        key = scheme_key(guid)
        raw = await self._node("GET", node, f"/v1/leaves/governance/{key.hex()}")
        leaf = self._headers.verify_leaf(parse(LeafView, raw, path="leaf"), Section.GOVERNANCE, key, self._now())
        if leaf is None:
            return ()
        self._schemes[guid] = parse(SchemeLeaf, leaf, path="scheme").sub_objects
        return self._schemes[guid]

    async def pay(self, target: VerifiedRecord, order: Order, *, idempotency_key: str | None = None) -> VerifiedReceipt:
        """Pay a verified record at the own platform; the receipt is checked and kept.

        The intent is on disk before it is sent. `Unreachable` is tried again with the same key; if it persists, the
        payment may have been taken: call again with the same key (`store.load_payments` has it), never with a new one.
        """
        verify_order_terms(parse_terms(target.record.terms), order)
        credential = await self._platform.credential()
        key = idempotency_key or self._random(16).hex()
        body = build_payment(target, order).encoded()
        self.store.save_payment(KeptPayment(key, body, None))
        signed = parse_receipt(await self._platform.post_payment(credential, body, key))
        try:
            own = (await self._own_network()).own
            receipt = verify_payment(self.config.chain_id, signed, target, order, credential, own, key, self._now())
        except Untrusted as error:
            if error.code != "platform.key_unknown":
                raise
            self._networks.clear()  # the platform may have a new receipt key
            own = (await self._own_network()).own
            receipt = verify_payment(self.config.chain_id, signed, target, order, credential, own, key, self._now())
        self.store.save_payment(KeptPayment(key, body, signed.encoded()))
        return receipt

    async def refunds(self, paid: VerifiedReceipt) -> tuple[VerifiedRefund, ...]:
        """What the own platform gave back of a payment, verified (`verify_refunds`)."""
        raw = await self._platform.fetch_refunds(await self._platform.credential(), paid.receipt.payment_id)
        own = (await self._own_network()).own
        return verify_refunds(self.config.chain_id, raw, paid, own, self._now())

    async def _own_network(self) -> VerifiedNetwork:
        """Any verified view that is still fresh: the own platform's leaf is in each."""
        for node in self.config.node_urls:
            if network := self._usable_network(node):
                return network
        return await self._ask_nodes(self._fetch_network)
