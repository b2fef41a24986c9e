"""Where a wallet begins to trust: its own newest header, kept between starts, or its platform's trust file.

The newest verified header never goes back. A trust file older than it is refused; one that names another header of the
same height is a fork and refused as such.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from onecode.errors import Unreachable, Untrusted
from onecode.proof.header import Header, SignedHeader, ValidatorSet
from onecode.proof.leaves import KeyState, PlatformLeaf, Role
from onecode.proof.light import NANOS_PER_MILLI, STRICT, Trust, VerifiedHeader, trusted_state, verify_header
from onecode.proof.trust import TrustBody, TrustFile, verify_trust_file
from onecode.query.bridge import Bridge
from onecode.query.follow import Follower
from onecode.query.messages import HeaderView
from onecode.schema import Message, Nested, Text, Uint, item, parse

_EXPIRED = ("header.trust_expired", "trust.anchor_expired", "trust.anchor_state", "trust.root_replaced")


class SavedHeader(Message):
    """The newest header that this wallet has verified, as it lies in the wallet's directory.

    own: the own platform's leaf as it was last proven: which anchor keys it took back.
    """

    chain_id: str = item(1, Text(50))
    header: Header = item(2, Nested(Header))
    validators: ValidatorSet = item(3, Nested(ValidatorSet))
    trusting_period_ms: int = item(4, Uint((1 << 53) - 1))
    own: PlatformLeaf | None = item(5, Nested(PlatformLeaf), default=None)


def saved_header(trust: Trust, own: PlatformLeaf | None) -> SavedHeader:
    """What to keep of a trusted header."""
    header, validators = trust.state.header, trust.state.validators
    period_ms = trust.trusting_period_ms
    return SavedHeader(
        chain_id=header.chain_id, header=header, validators=validators, trusting_period_ms=period_ms, own=own
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TrustSettings:
    """What a wallet pins. root: public root key of its own platform, 32 bytes."""

    root: bytes
    chain_id: str
    allow_solo: bool = False
    header_age_ms_max: int = 30_000


def verify_first(data: bytes, settings: TrustSettings, now_ms: int) -> tuple[Trust, VerifiedHeader]:
    """`verify_trust_file` as a wallet reads it: heights are left out only where 2/3 of the trusted power signed."""
    trust, header = verify_trust_file(data, settings.root, settings.chain_id, now_ms, allow_solo=settings.allow_solo)
    return dataclasses.replace(trust, skip=STRICT), header


def require_anchor(data: bytes, leaf: PlatformLeaf | None, settings: TrustSettings) -> None:
    """Refuse a trust file by a key that the own platform took back on chain, as far as the wallet has seen that proven.

    A key that the leaf does not name passes: the root certified it, perhaps after the leaf was read.
    """
    if leaf is None:
        return
    if leaf.root != settings.root:
        raise Untrusted(
            "trust.root_replaced", "the platform's root key was replaced on chain: update this wallet", field="root"
        )
    key = leaf.key(Role.ANCHOR, parse(TrustFile, data, path="trust_file").anchor)
    if key is not None and key.state != KeyState.ACTIVE:
        state = key.state.name.lower()
        raise Untrusted("trust.anchor_state", f"the trust file's anchor key is {state} on chain", field="anchor")


def verify_renewal(
    own: Trust, data: bytes, settings: TrustSettings, now_ms: int, leaf: PlatformLeaf | None = None
) -> Trust:
    """The trust that a newer trust file gives to a wallet that already trusts `own`.

    1. The file verifies for itself (`verify_trust_file`), and its anchor key was not taken back, by `leaf`: the own
    platform's as it was last proven (`require_anchor`). 2. It does not name another header at the own height (a fork).
    3. It is not older than the own header. 4. While the own header is within its trusting period, the new one verifies
    from it, unless too many validators have changed in between: then the anchor's word counts.
    """
    trust, header = verify_first(data, settings, now_ms)
    require_anchor(data, leaf, settings)
    height, own_height = header.header.height, own.state.header.height
    if height == own_height and header.header_hash != own.state.header_hash:  # 2
        raise Untrusted("trust.fork", "the trust file names another header at the wallet's own height", field="header")
    if height < own_height:  # 3
        raise Untrusted("trust.older", "the trust file is older than the wallet's own header", field="header")
    if height > own_height and not expired(own, now_ms):  # 4
        body = trust_body(data)
        try:
            verify_header(body.header, body.validators, own, now_ms)
        except Untrusted as error:
            if error.code != "header.not_enough_trust":
                raise
    return trust


def trust_body(data: bytes) -> TrustBody:
    """What a trust file says, unverified."""
    return parse(TrustBody, parse(TrustFile, data, path="trust_file").body, path="trust_file.body")


def expired(trust: Trust, now_ms: int) -> bool:
    """Whether a header is past its trusting period."""
    return trust.state.header.time_ns // NANOS_PER_MILLI + trust.trusting_period_ms <= now_ms


def open_headers(saved: SavedHeader | None, trust_file: bytes, settings: TrustSettings, now_ms: int) -> Follower:
    """The follower to start with: from the own header while that is within its trusting period, else the trust file.

    A trust file that is older than the own header, or no longer good beside a good own header, is passed over; a false
    or forked one is refused.
    """
    own = own_trust(saved, settings) if saved is not None else None
    if saved is None or own is None:
        return Follower(verify_first(trust_file, settings, now_ms)[0], settings.header_age_ms_max)
    passed_over = ("trust.older",) if expired(own, now_ms) else ("trust.older", *_EXPIRED)
    try:
        own = verify_renewal(own, trust_file, settings, now_ms, saved.own)
    except Untrusted as error:
        if error.code not in passed_over:
            raise
    return Follower(own, settings.header_age_ms_max)


def own_trust(saved: SavedHeader, settings: TrustSettings) -> Trust:
    """Trust in the wallet's own newest header."""
    if saved.chain_id != settings.chain_id:
        raise Untrusted("header.saved_chain", "the wallet's directory holds a header of another chain; use another one")
    return Trust(trusted_state(saved.header, saved.validators), saved.trusting_period_ms, skip=STRICT)


def require_not_behind(headers: Follower, signed: SignedHeader) -> None:
    """Raise `Unreachable` for a node whose newest header is below the wallet's own: it lags, which is no lie."""
    newest = headers.newest.header if headers.newest is not None else headers.trust.state.header
    if signed.header.height < newest.height:
        raise Unreachable("node.behind", "the node is behind the wallet's newest header; ask another node")


async def bridge(
    trust: Trust, goal: HeaderView, fetch: Callable[[int], Awaitable[HeaderView]], now_ms: int
) -> tuple[HeaderView, ...]:
    """Headers between, each verified from the one before, after which `goal` verifies; none where validators stayed.

    At most `HOPS_MAX` fetches (`query/bridge.py`). Does not check that any of them is fresh.
    """
    way = Bridge(trust, goal, now_ms)
    while way.needed is not None:
        way.take(await fetch(way.needed))
    return way.passed
