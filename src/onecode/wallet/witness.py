"""Comparing headers with nodes of other organisations: what two thirds of the validators sign twice shows only there.

Steps as in docs/spec/verification.md, "Witnesses". A witness that is behind, silent or talks nonsense is no fork.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from onecode.errors import OnecodeError, Unreachable, Untrusted
from onecode.proof.governance import VALIDATORS_KEY, ValidatorsLeaf
from onecode.proof.header import header_hash
from onecode.proof.light import STRICT, Trust, trusted_state
from onecode.proof.map import Section
from onecode.query.follow import Follower
from onecode.query.fork import BRANCH_HEADERS_MAX, ForkFile, verify_fork
from onecode.query.messages import HeaderView, LeafView
from onecode.schema import parse
from onecode.wallet.headers import bridge, expired
from onecode.wallet.store import ComparedHeader, Stop, WalletStore

TRACE_MAX = BRANCH_HEADERS_MAX - 1
_LEAF = f"/v1/leaves/governance/{VALIDATORS_KEY.hex()}"

Fetch = Callable[[str, str], Awaitable[bytes]]


def forked(stop: Stop) -> Untrusted:
    """The refusal of everything after a fork."""
    return Untrusted(
        "header.fork",
        f"validators signed two chains at height {stop.height}: nothing is believed until you renew the trust file; "
        f"give evidence/{stop.evidence} to your platform",
    )


class Witnesses:
    """Which header was confirmed last, those that were verified since, and what other nodes say of them.

    base: what to start from where nothing was confirmed yet: the trust file's header. timeout_ms: for all that one
    witness is asked in one comparison. fetch: a node's answer to a path; its refusals are raised as it gave them. fail:
    told of each witness that is passed over.
    """

    def __init__(
        self,
        store: WalletStore,
        base: HeaderView | None,
        interval_ms: int,
        timeout_ms: int,
        fetch: Fetch,
        fail: Callable[[str, OnecodeError], None],
    ) -> None:
        self._store, self._interval_ms, self._timeout_ms = store, interval_ms, timeout_ms
        self._fetch, self._fail = fetch, fail
        kept = store.load_compared()
        self._compared = kept
        self._base = kept.view if kept is not None else base
        self._trace: list[HeaderView] = []
        self._tried_ms = kept.compared_ms if kept is not None else 0
        self.stop = store.load_stop()

    def note(self, view: HeaderView | None, *, skipped: bool = False) -> None:
        """A header that the wallet has verified; after headers between were needed it is compared at once."""
        if view is None:
            return
        last = self._trace[-1] if self._trace else self._base
        if last is None:
            self._base = view
        elif view.header.header.height > last.header.header.height:
            self._trace.append(view)
            if len(self._trace) > TRACE_MAX:
                del self._trace[1:-1:2]
        if skipped:
            self._tried_ms = 0

    def due(self, now_ms: int) -> bool:
        """Whether to compare now: there is something new, and the last try is an interval ago or, by this clock, yet to
        come."""
        waits = 0 <= now_ms - self._tried_ms < self._interval_ms
        return self.stop is None and self._newest is not None and not waits

    @property
    def _newest(self) -> HeaderView | None:
        return self._trace[-1] if self._trace else self._base

    async def compare(self, urls: Sequence[str], headers: Follower, now_ms: int) -> None:
        """Ask one witness after the other until one has the same header; raises `header.fork`, nothing else.

        Each interval another one is asked first: one that is in league with a liar does not hide what the others show.
        `headers` verifies who runs the validators, asked of the witness that agreed.
        """
        self._tried_ms = now_ms
        turn = now_ms // max(1, self._interval_ms) % max(1, len(urls))
        for url in (*urls[turn:], *urls[:turn]):
            try:
                async with asyncio.timeout(self._timeout_ms / 1000):
                    agreed = await self._ask(url, headers.trust, now_ms)
                    await self._agree(agreed, url, headers, now_ms)
            except TimeoutError:
                self._fail(url, Unreachable("witness.slow", "the witness gave the headers between too slowly"))
                continue
            except OnecodeError as error:
                self._fail(url, error)
                if self.stop is not None:
                    raise
                continue
            return

    async def _ask(self, url: str, trust: Trust, now_ms: int) -> HeaderView:
        """The newest of the own headers that this witness has too; raises whatever speaks against it."""
        newest = self._newest
        if newest is None:
            raise Unreachable("witness.behind", "no header was verified yet")
        target, given = newest, await self._at(url, newest.header.header.height)
        if given is None:
            latest = parse(HeaderView, await self._fetch(url, "/v1/headers/latest"), path="header")
            low, high = latest.header.header, newest.header.header
            if low.height < high.height and low.time_ns >= high.time_ns:  # the chain's times rise with its heights
                await self._accuse(url, trust, newest, latest, now_ms)
            both = [view for view in self._trace if view.header.header.height <= low.height]
            if not both:
                raise Unreachable("witness.behind", "the witness has none of the headers since the last comparison")
            target = both[-1]
            given = await self._at(url, target.header.header.height)
            if given is None:
                raise Unreachable("witness.behind", "the witness lacks a header below its newest")
        if header_hash(given.header.header) != header_hash(target.header.header):
            await self._accuse(url, trust, target, given, now_ms)
        return target

    async def _at(self, url: str, height: int) -> HeaderView | None:
        try:
            raw = await self._fetch(url, f"/v1/headers/{height}")
        except OnecodeError as error:
            if error.code != "node.header_absent":
                raise
            return None
        view = parse(HeaderView, raw, path="header")
        if view.header.header.height != height:
            raise Untrusted("header.other_height", "the node sent a header of another height", field="height")
        return view

    async def _agree(self, view: HeaderView, url: str, headers: Follower, now_ms: int) -> None:
        old, height = self._compared, view.header.header.height
        named = old.named if old is not None else None
        if named is None or old is None or old.view.validators != view.validators:
            named = await self._names(url, headers, now_ms)
        self._base, self._trace = view, [later for later in self._trace if later.header.header.height > height]
        self._compared = ComparedHeader(view=view, compared_ms=now_ms, named=named)
        self._store.save_compared(self._compared)

    async def _names(self, url: str, headers: Follower, now_ms: int) -> ValidatorsLeaf | None:
        """Who runs which validator. Names are for people: what was compared stands without them."""
        try:
            view = parse(LeafView, await self._fetch(url, _LEAF), path="leaf")
        except OnecodeError:
            return None
        try:
            leaf = headers.verify_leaf(view, Section.GOVERNANCE, VALIDATORS_KEY, now_ms)
            self.note(headers.newest_view)
            return parse(ValidatorsLeaf, leaf, path="validators") if leaf is not None else None
        except OnecodeError as error:
            if error.code == "header.fork":
                rival = HeaderView(header=view.header, validators=view.validators)
                raise self.contradict(rival, headers.trust, now_ms) from None
            return None

    async def _accuse(self, url: str, trust: Trust, target: HeaderView, given: HeaderView, now_ms: int) -> None:
        """A fork, if what the witness has verifies from the header that was confirmed last; always raises."""
        while self._base is not None and len(self._trace) > 1 and expired(_from(self._base, trust), now_ms):
            self._base = self._trace.pop(0)
        if self._base is None or not self._trace:
            raise Untrusted(
                "witness.differs",
                "the witness has another header where this wallet began: ask your platform which is the chain's",
            )

        async def between(height: int) -> HeaderView:
            view = await self._at(url, height)
            if view is None:
                raise Unreachable("witness.behind", "the witness does not have a header below its newest")
            return view

        first = [*(view for view in self._trace if view.header.header.height < target.header.header.height), target]
        path: tuple[HeaderView, ...] = ()
        why: OnecodeError | None = None
        try:
            path = await bridge(_from(self._base, trust), given, between, now_ms)
        except OnecodeError as error:
            why = error
        name = self._keep(self._base, first, [*path, given], trust, now_ms, why)
        if why is not None:
            raise Untrusted("witness.forged", f"the witness has a header that a part signed alone: evidence/{name}")
        raise self._halt(name, target.header.header.height, now_ms)

    def contradict(self, rival: HeaderView, trust: Trust, now_ms: int) -> OnecodeError:
        """What to raise for another signed header at the height of the newest one (`header.fork` of the follower)."""
        height = rival.header.header.height
        try:
            if self._base is None or not self._trace:
                raise Untrusted("witness.differs", "there is no header from which both verify")
            name = self._keep(self._base, self._trace, [*self._trace[:-1], rival], trust, now_ms, None)
        except OnecodeError:  # more than 2/3 signed it: that alone halts the wallet
            name = f"header-fork-{height}-{now_ms}.cbor"
            self._store.keep_evidence(name, rival.encoded(), whatever=True)
        return self._halt(name, height, now_ms)

    def _keep(
        self,
        common: HeaderView,
        first: Sequence[HeaderView],
        second: Sequence[HeaderView],
        trust: Trust,
        now_ms: int,
        why: OnecodeError | None,
    ) -> str:
        """Keep a fork that verifies where a third of the trusted power carries a step; its file's name. Else raises."""
        file = ForkFile(
            chain_id=common.header.header.chain_id,
            common=common,
            first=tuple(first),
            second=tuple(second),
            named=self._compared.named if self._compared is not None else None,
        )
        try:
            verify_fork(file, replace(_from(common, trust), skip=(1, 3)), now_ms)
        except OnecodeError as error:
            raise why or error from None
        name = f"fork-{second[-1].header.header.height}-{header_hash(second[-1].header.header).hex()[:16]}.cbor"
        self._store.keep_evidence(name, file.encoded(), whatever=why is None)
        return name

    def _halt(self, name: str, height: int, now_ms: int) -> Untrusted:
        self.stop = Stop(evidence=name, height=height, noticed_ms=now_ms)
        self._store.save_stop(self.stop)
        return forked(self.stop)


def _from(view: HeaderView, trust: Trust) -> Trust:
    return replace(trust, state=trusted_state(view.header.header, view.validators), skip=STRICT)
