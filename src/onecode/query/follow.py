"""Following a chain's headers from a trust anchor: whoever reads a node keeps one `Follower`."""

from __future__ import annotations

from dataclasses import replace

from onecode.errors import Untrusted
from onecode.proof.header import Header, SignedHeader, ValidatorSet, header_hash
from onecode.proof.light import Trust, VerifiedHeader, require_fresh, trusted_state, verify_commit, verify_header
from onecode.proof.map import Section, verify_absence, verify_presence, verify_roots
from onecode.query.messages import HeaderView, LeafView

HEADERS_KEPT = 64


def _rivals(header: Header, newest: Header) -> bool:
    """Whether it is another header of the same chain and height."""
    return header != newest and (header.chain_id, header.height) == (newest.chain_id, newest.height)


class Follower:
    """The newest header that was verified; it never goes back, and two headers of one height are a fork."""

    def __init__(self, trust: Trust, header_age_ms_max: int = 30_000) -> None:
        self._anchor = self._trust = trust
        self._header_age_ms_max = header_age_ms_max
        self._known: dict[bytes, VerifiedHeader] = {}
        self.newest: VerifiedHeader | None = None
        self.newest_view: HeaderView | None = None  # the same with its commit, for whoever compares it with another

    @property
    def trust(self) -> Trust:
        """What the next header is verified from."""
        return self._trust

    def verify_next(self, signed: SignedHeader, validators: ValidatorSet, now_ms: int) -> VerifiedHeader:
        """The header, verified from the newest one and fresh (docs/spec/verification.md, steps 1 to 12).

        A header that was verified before passes again while it is fresh; another one of the newest height is a fork.
        """
        newest = self.newest
        if newest is not None and _rivals(signed.header, newest.header):
            verify_commit(signed, header_hash(signed.header), newest.validators)  # else it is a forgery and no fork
            raise Untrusted("header.fork", "another header was verified at this height; keep both as evidence")
        header = verify_header(signed, validators, self._trust, now_ms, self._known)
        require_fresh(header, now_ms, self._header_age_ms_max)
        if newest is None or header.header.height > newest.header.height:
            self._advance(header, signed)
        return header

    def verify_between(self, view: HeaderView, now_ms: int) -> None:
        """Go on to a header that lies on the way to a newer one, of whatever age."""
        self._advance(verify_header(view.header, view.validators, self._trust, now_ms), view.header)

    def verify_recent(self, signed: SignedHeader, validators: ValidatorSet, now_ms: int) -> VerifiedHeader:
        """As `verify_next`, but the header may lie below the newest one: it then verifies from the nearest header below
        it that was verified here (or from where this began), and must be fresh too. For what another node of the chain
        shows, which may be a little behind; never for an answer that must not go back.
        """
        height = signed.header.height
        if self.newest is None or height >= self.newest.header.height:
            return self.verify_next(signed, validators, now_ms)
        at = next((one for one in self._known.values() if _rivals(signed.header, one.header)), None)
        if at is not None:
            verify_commit(signed, header_hash(signed.header), at.validators)
            raise Untrusted("header.fork", "another header was verified at this height; keep both as evidence")
        trust = self._anchor
        below = [one for one in self._known.values() if one.header.height < height]
        if below:
            nearest = max(below, key=lambda one: one.header.height)
            trust = replace(trust, state=trusted_state(nearest.header, nearest.validators))
        header = verify_header(signed, validators, trust, now_ms, self._known)
        require_fresh(header, now_ms, self._header_age_ms_max)
        return header

    def _advance(self, header: VerifiedHeader, signed: SignedHeader) -> None:
        self._trust = replace(self._trust, state=trusted_state(header.header, header.validators))
        self._known[header.header_hash] = header
        if len(self._known) > HEADERS_KEPT:
            self._known.pop(next(iter(self._known)))
        self.newest, self.newest_view = header, HeaderView(header=signed, validators=header.validators)

    def verify_leaf(self, view: LeafView, section: Section, key: bytes, now_ms: int) -> bytes | None:
        """The value of a leaf under a fresh header, or None where its absence is proven."""
        header = self.verify_next(view.header, view.validators, now_ms)
        verify_roots(view.roots, header.header.app_hash)
        if view.leaf is None:
            verify_absence(view.roots, section, key, view.proof)
            return None
        verify_presence(view.roots, section, key, view.leaf, view.proof)
        return view.leaf
