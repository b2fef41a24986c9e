"""The platform's own node, believed in nothing: headers and leaves are verified as a wallet verifies them.

All that the platform knows of the chain comes from here. An answer that does not verify, or is older than the bound, is
`Unreachable`: the platform then does not work at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from onecode.errors import Declined, Malformed, Misconfigured, Unreachable, Untrusted, answer_error, json_object
from onecode.proof.header import Header, SignedHeader, ValidatorSet
from onecode.proof.leaves import AliasLeaf, PlatformLeaf
from onecode.proof.light import Trust, VerifiedHeader
from onecode.proof.map import Section, verify_roots
from onecode.query.bridge import Bridge
from onecode.query.follow import Follower
from onecode.query.messages import PROTOCOL, ClearQuery, HeaderView, LeafView, MemberView, NetworkView
from onecode.query.requests import MEMBER_HEADER, member_header
from onecode.query.verify import VerifiedState, find_query_key, verify_platforms, verify_state
from onecode.registry.counters import FloorLeaf, NonceLeaf, floor_key, nonce_key
from onecode.registry.narrowing import NARROWING_HEADER, Narrowing, parse_narrowing
from onecode.schema import Message, parse
from onecode.wire import SigningKey

ATTEMPTS = 3  # another thread may have verified a newer header between fetching and verifying
ANSWER_BYTES_MAX = 4 << 20

V = TypeVar("V", bound=Message)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class MerchantView:
    """What the chain says of one merchant and service, verified under a fresh header.

    raw: the node's answer, as evidence. state: None where it is proven that there is nothing; `absence` says what.
    narrowing: the node's word on what the next block, which is decided, but not proven yet, takes away.
    """

    raw: bytes
    header: VerifiedHeader
    state: VerifiedState | None
    absence: Declined | None
    narrowing: Narrowing | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: the failing code of its only item, or its own; 0 is success."""

    code: int
    name: str
    height: int | None


class Chain:
    """Reads and submits through one node. Safe to use from several threads."""

    def __init__(
        self,
        *,
        chain_id: str,
        platform: bytes,
        key: SigningKey,
        trust: Trust,
        client: httpx.Client,
        clock_ms: Callable[[], int],
        header_age_ms_max: int = 30_000,
        leaf_age_ms_max: int = 2_000,
    ) -> None:
        """key: of the role `transaction`; client: its base URL is the node's, its timeout is set."""
        self.chain_id = chain_id
        self._platform = platform
        self._key = key
        self._client = client
        self._clock_ms = clock_ms
        self._header_age_ms_max = header_age_ms_max
        self._leaf_age_ms_max = leaf_age_ms_max
        self._lock = threading.RLock()
        self._follower = Follower(trust, header_age_ms_max)
        self._newest: HeaderView | None = None
        self._leaves: dict[bytes, tuple[int, PlatformLeaf]] = {}  # by platform: when it was fetched, and the leaf

    # --- reading

    def newest_view(self) -> HeaderView | None:
        """The newest header that was verified, whatever its age now."""
        return self._newest

    def fetch_newest(self) -> HeaderView:
        """The newest header, verified and fresh."""

        def read() -> HeaderView:
            view = self._parsed(HeaderView, self._get("/v1/headers/latest"))
            self._follow(view.header, view.validators)
            return view

        return self._proven(read)

    def fetch_header(self, height: int) -> Header:
        """One header by the node's word alone: believed only where a hash that was verified names it."""
        return self._parsed(HeaderView, self._get(f"/v1/headers/{height}")).header.header

    def own_leaf(self) -> PlatformLeaf:
        """The platform's own leaf, proven under a fresh header at most `leaf_age_ms_max` ago."""
        leaf = self.platform_leaf(self._platform)
        if leaf is None:
            raise Misconfigured("platform.not_admitted", "the chain knows no platform with this root key")
        return leaf

    def platform_leaf(self, platform: bytes) -> PlatformLeaf | None:
        """A platform's leaf, proven as `own_leaf`, or None where it is proven that the chain knows no such platform."""
        known, now_ms = self._leaves.get(platform), self._clock_ms()
        if known is not None and 0 <= now_ms - known[0] <= self._leaf_age_ms_max:
            return known[1]
        raw = self._fetch_leaf(Section.PLATFORMS, platform)
        if raw is None:
            return None
        leaf = parse(PlatformLeaf, raw, path="platform")
        self._leaves[platform] = (now_ms, leaf)
        return leaf

    def fetch_own_leaf(self) -> PlatformLeaf:
        """As `own_leaf`, however lately it was fetched."""
        self._leaves.pop(self._platform, None)
        return self.own_leaf()

    def fetch_enclave(self) -> tuple[bytes, int]:
        """The query key of an enclave of the node that this platform's key service attested and the policy allows, and
        the header's height.

        Raises `Unreachable` where the node has none.
        """

        def read() -> tuple[bytes, int]:
            view = self._parsed(NetworkView, self._get("/v1/network"))
            header = self._follow(view.header, view.validators)
            verify_roots(view.roots, header.header.app_hash)
            query_key = find_query_key(view, self._platform, header.signed_ms, self._clock_ms())
            if query_key is None:
                raise Unreachable("chain.no_enclave", "the platform's node has no enclave that may be asked now")
            return query_key, header.header.height

        return self._proven(read)

    def ask(self, query: bytes) -> bytes:
        """The node's answer to an encoded Query, unverified."""
        response = self._send("POST", "/v1/query", content=query, headers={"content-type": "application/cbor"})
        return self._accepted(response)

    def last_nonce(self) -> int:
        """The last nonce that the platform's transaction key used on the chain; 0 before the first."""
        raw = self._fetch_leaf(Section.COUNTERS, nonce_key(self._platform, self._key.public))
        return 0 if raw is None else parse(NonceLeaf, raw, path="nonce").nonce

    def version_floor(self, merchant: bytes, service: str) -> int:
        """The version of this platform's last link that ended; 0 where it is proven that none has."""
        raw = self._fetch_leaf(Section.COUNTERS, floor_key(merchant, self._platform, service), member=True)
        return 0 if raw is None else parse(FloorLeaf, raw, path="floor").version

    def fetch_merchant(self, merchant: bytes, service: str) -> MerchantView:
        """Entry, links and all listed platforms; raises `Declined` for a frozen merchant."""
        path = f"/v1/members/merchants/{merchant.hex()}?service={quote(service, safe='')}"
        clear = ClearQuery(
            protocol=PROTOCOL, chain_id=self.chain_id, merchant=merchant, service=service, query_key=bytes(32)
        )

        def read() -> MerchantView:
            raw, headers = self._get_with_headers(path, member=True)
            view = self._parsed(MemberView, raw)
            header = self._follow(view.header, view.validators)
            verify_roots(view.roots, header.header.app_hash)
            platforms = verify_platforms(view.platforms, view.roots, {})
            try:
                state = verify_state(clear, header, view.roots, None, view.merchant, platforms)
            except Declined as absence:
                if absence.code not in ("merchant.absent", "service.absent"):
                    raise
                return MerchantView(raw, header, None, absence)
            return MerchantView(raw, header, state, None, _narrowing(headers, header))

        return self._proven(read)

    def fetch_alias(self, key: bytes) -> AliasLeaf | None:
        """The alias's leaf, or None where it is proven that it is not bound."""
        raw = self._fetch_leaf(Section.ALIASES, key, member=True)
        return None if raw is None else parse(AliasLeaf, raw, path="alias")

    def _fetch_leaf(self, section: Section, key: bytes, *, member: bool = False) -> bytes | None:
        path = f"/v1/leaves/{section.name.lower()}/{key.hex()}"

        def read() -> bytes | None:
            view = self._parsed(LeafView, self._get(path, member=member))
            with self._lock:
                self._follow(view.header, view.validators)
                return self._follower.verify_leaf(view, section, key, self._clock_ms())

        return self._proven(read)

    # --- verifying

    def _follow(self, signed: SignedHeader, validators: ValidatorSet) -> VerifiedHeader:
        """Verify a header from the newest one; where the validators changed too much, by headers between."""
        with self._lock:
            now_ms = self._clock_ms()
            try:
                header = self._follower.verify_next(signed, validators, now_ms)
            except Untrusted as error:
                if error.code != "header.not_enough_trust":
                    raise
                self._bridge(HeaderView(header=signed, validators=validators), now_ms)
                header = self._follower.verify_next(signed, validators, now_ms)
            if self._newest is None or header.header.height > self._newest.header.header.height:
                self._newest = HeaderView(header=signed, validators=validators)
            return header

    def _bridge(self, goal: HeaderView, now_ms: int) -> None:
        """Verify headers between the newest one and `goal`, so that it follows."""
        way = Bridge(self._follower.trust, goal, now_ms)
        while way.needed is not None:
            way.take(self._parsed(HeaderView, self._get(f"/v1/headers/{way.needed}")))
        for between in way.passed:
            self._follower.verify_between(between, now_ms)

    def _proven(self, read: Callable[[], R]) -> R:
        """`read`, tried again where a newer header was verified meanwhile; what does not verify is `Unreachable`."""
        for attempt in range(ATTEMPTS):
            try:
                return read()
            except Untrusted as error:
                if error.code == "header.not_higher" and attempt + 1 < ATTEMPTS:
                    continue
                raise Unreachable(
                    "chain.unproven",
                    f"the platform has no fresh proof from its node and does not work: {error.message} [{error.code}]",
                ) from error
        raise Unreachable("chain.unproven", "the platform's node falls behind what it has shown before")

    @staticmethod
    def _parsed(kind: type[V], raw: bytes) -> V:
        try:
            return parse(kind, raw, size_max=ANSWER_BYTES_MAX, path="node")
        except Malformed as error:
            raise Unreachable("chain.answer", f"the platform's node answers what does not parse: {error}") from error

    # --- HTTP

    def _get(self, path: str, *, member: bool = False) -> bytes:
        return self._get_with_headers(path, member=member)[0]

    def _get_with_headers(self, path: str, *, member: bool) -> tuple[bytes, httpx.Headers]:
        headers = {}
        if member:
            headers[MEMBER_HEADER] = member_header(
                self.chain_id, self._platform, self._key, "GET", path, b"", self._clock_ms()
            )
        response = self._send("GET", path, headers=headers)
        return self._accepted(response), response.headers

    @staticmethod
    def _accepted(response: httpx.Response) -> bytes:
        if response.status_code != 200:
            error = answer_error(response.status_code, response.content)
            raise Unreachable("chain.refused", f"the platform's node refuses: {error}") from error
        return response.content

    def submit(self, transaction: bytes) -> Outcome:
        """Send a transaction and wait until it is decided and proven, or refused before any block.

        Raises `Unreachable` where it may be in a block, or come into one, without our knowing.
        """
        response = self._send(
            "POST",
            "/v1/transactions?wait=proven",
            content=transaction,
            headers={"content-type": "application/cbor"},
        )
        try:
            answer = json_object(response.content)
            if response.status_code != 200:
                error = answer_error(response.status_code, response.content)
                if answer is None or isinstance(error, Unreachable) or "result_code" not in answer:
                    raise error
                items = answer.get("items", ())
                if len(items) == 1:
                    return Outcome(int(items[0]["code"]), str(items[0]["name"]), None)
                return Outcome(int(answer["result_code"]), str(answer["result"]), None)
            if answer is None:
                raise ValueError("no JSON object")
            items = answer["items"]
            first = items[0] if answer["code"] and len(items) == 1 else answer
            return Outcome(int(first["code"]), str(first["name"]), int(answer["height"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise Unreachable("chain.answer", f"the platform's node answers what does not parse: {error}") from error

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise Unreachable("chain.node", f"the platform's node does not answer: {type(error).__name__}") from error


def _narrowing(headers: httpx.Headers, header: VerifiedHeader) -> Narrowing | None:
    """What the node says of a decided block; None where it says nothing, or where the proof has reached the block."""
    given = headers.get(NARROWING_HEADER)
    if given is None:
        return None
    try:
        narrowing = parse_narrowing(given)
    except Malformed as error:
        raise Unreachable("chain.answer", f"the platform's node answers what does not parse: {error}") from error
    return narrowing if narrowing.height >= header.header.height else None  # the header of h proves what h - 1 did
