"""Where a wallet begins to trust: its own newest header, kept between starts, or its platform's trust file.

The newest verified header never goes back. A trust file older than it is refused; one that names another header of the
same height is a fork and refused as such.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from onecode.errors import Unreachable, Untrusted
from onecode.proof.header import Header, SignedHeader, ValidatorSet
from onecode.proof.light import NANOS_PER_MILLI, Trust, trusted_state, verify_header
from onecode.proof.trust import TrustBody, TrustFile, verify_trust_file
from onecode.query.follow import Follower
from onecode.query.messages import HeaderView
from onecode.schema import Message, Nested, Text, Uint, item, parse

HOPS_MAX = 32  # headers fetched between a trusted header and the newest one
_EXPIRED = ("header.trust_expired", "trust.anchor_expired")


class SavedHeader(Message):
    """The newest header that this wallet has verified, as it lies in the wallet's directory."""

    chain_id: str = item(1, Text(50))
    header: Header = item(2, Nested(Header))
    validators: ValidatorSet = item(3, Nested(ValidatorSet))
    trusting_period_ms: int = item(4, Uint((1 << 53) - 1))


def saved_header(headers: Follower) -> SavedHeader | None:
    """What to keep of a follower; None before it has verified a header."""
    newest = headers.newest
    if newest is None:
        return None
    return SavedHeader(
        chain_id=newest.header.chain_id,
        header=newest.header,
        validators=newest.validators,
        trusting_period_ms=headers.trust.trusting_period_ms,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TrustSettings:
    """What a wallet pins. root: public root key of its own platform, 32 bytes."""

    root: bytes
    chain_id: str
    allow_solo: bool = False
    header_age_ms_max: int = 30_000


def verify_renewal(own: Trust, data: bytes, settings: TrustSettings, now_ms: int) -> Trust:
    """The trust that a newer trust file gives to a wallet that already trusts `own`.

    1. The file verifies for itself (`verify_trust_file`). 2. It does not name another header at the own height
    (a fork). 3. It is not older than the own header. 4. While the own header is within its trusting period, the new one
    verifies from it, unless too many validators have changed in between: then the anchor's word counts.
    """
    trust, header = verify_trust_file(data, settings.root, settings.chain_id, now_ms, allow_solo=settings.allow_solo)
    height, own_height = header.header.height, own.state.header.height
    if height == own_height and header.header_hash != own.state.header_hash:  # 2
        raise Untrusted("trust.fork", "the trust file names another header at the wallet's own height", field="header")
    if height < own_height:  # 3
        raise Untrusted("trust.older", "the trust file is older than the wallet's own header", field="header")
    if height > own_height and not _expired(own, now_ms):  # 4
        body = parse(TrustBody, parse(TrustFile, data, path="trust_file").body, path="trust_file.body")
        try:
            verify_header(body.header, body.validators, own, now_ms)
        except Untrusted as error:
            if error.code != "header.not_enough_trust":
                raise
    return trust


def _expired(trust: Trust, now_ms: int) -> bool:
    return trust.state.header.time_ns // NANOS_PER_MILLI + trust.trusting_period_ms <= now_ms


def open_headers(saved: SavedHeader | None, trust_file: bytes, settings: TrustSettings, now_ms: int) -> Follower:
    """The follower to start with: from the own header while that is within its trusting period, else the trust file.

    A trust file that is older than the own header, or has expired beside a good own header, is passed over; a false or
    forked one is refused.
    """
    own = _own_trust(saved, settings) if saved is not None else None
    if own is None:
        trust, _ = verify_trust_file(
            trust_file, settings.root, settings.chain_id, now_ms, allow_solo=settings.allow_solo
        )
        return Follower(trust, settings.header_age_ms_max)
    passed_over = ("trust.older",) if _expired(own, now_ms) else ("trust.older", *_EXPIRED)
    try:
        own = verify_renewal(own, trust_file, settings, now_ms)
    except Untrusted as error:
        if error.code not in passed_over:
            raise
    return Follower(own, settings.header_age_ms_max)


def _own_trust(saved: SavedHeader, settings: TrustSettings) -> Trust:
    if saved.chain_id != settings.chain_id:
        raise Untrusted("header.saved_chain", "the wallet's directory holds a header of another chain; use another one")
    return Trust(trusted_state(saved.header, saved.validators), saved.trusting_period_ms)


def require_not_behind(headers: Follower, signed: SignedHeader) -> None:
    """Raise `Unreachable` for a node whose newest header is below the wallet's own: it lags, which is no lie."""
    newest = headers.newest.header if headers.newest is not None else headers.trust.state.header
    if signed.header.height < newest.height:
        raise Unreachable("node.behind", "the node is behind the wallet's newest header; ask another node")


async def bridge(trust: Trust, goal: HeaderView, fetch: Callable[[int], Awaitable[HeaderView]], now_ms: int) -> Trust:
    """Trust from which `goal` verifies, after headers between where too many validators have changed.

    Bisection as in CometBFT's light client: each header is verified from the one before. At most `HOPS_MAX` fetches.
    Does not check that any of them is fresh.
    """
    ahead, fetched = [goal], 0
    while True:
        view = ahead[-1]
        try:
            verified = verify_header(view.header, view.validators, trust, now_ms)
        except Untrusted as error:
            if error.code != "header.not_enough_trust":
                raise
        else:
            ahead.pop()
            if not ahead:
                return trust
            trust = dataclasses.replace(trust, state=trusted_state(verified.header, verified.validators))
            continue
        middle = (trust.state.header.height + view.header.header.height) // 2
        if fetched == HOPS_MAX:
            raise Unreachable("header.too_far", "too many headers lie between; get a newer trust file")
        fetched += 1
        between = await fetch(middle)
        if between.header.header.height != middle:
            raise Untrusted("header.other_height", "the node sent a header of another height", field="height")
        ahead.append(between)
