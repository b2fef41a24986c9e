"""Following a chain's headers from a trust anchor: whoever reads a node keeps one `Follower`."""

from __future__ import annotations

from onecode.errors import Untrusted
from onecode.proof.header import Header, SignedHeader, ValidatorSet, header_hash
from onecode.proof.light import Trust, VerifiedHeader, require_fresh, trusted_state, verify_commit, verify_header
from onecode.proof.map import Section, verify_absence, verify_presence, verify_roots
from onecode.query.messages import LeafView

HEADERS_KEPT = 64


def _rivals(header: Header, newest: Header) -> bool:
    """Whether it is another header of the same chain and height."""
    return header != newest and (header.chain_id, header.height) == (newest.chain_id, newest.height)


class Follower:
    """The newest header that was verified; it never goes back, and two headers of one height are a fork."""

    def __init__(self, trust: Trust, header_age_ms_max: int = 30_000) -> None:
        self._trust = trust
        self._header_age_ms_max = header_age_ms_max
        self._known: dict[bytes, VerifiedHeader] = {}
        self.newest: VerifiedHeader | None = None

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
            self._advance(header)
        return header

    def _advance(self, header: VerifiedHeader) -> None:
        old = self._trust
        state = trusted_state(header.header, header.validators)
        self._trust = Trust(state, old.trusting_period_ms, old.clock_drift_ms, old.block_version, old.app_hash_bytes)
        self._known[header.header_hash] = header
        if len(self._known) > HEADERS_KEPT:
            self._known.pop(next(iter(self._known)))
        self.newest = header

    def verify_leaf(self, view: LeafView, section: Section, key: bytes, now_ms: int) -> bytes | None:
        """The value of a leaf under a fresh header, or None where its absence is proven."""
        header = self.verify_next(view.header, view.validators, now_ms)
        verify_roots(view.roots, header.header.app_hash)
        if view.leaf is None:
            verify_absence(view.roots, section, key, view.proof)
            return None
        verify_presence(view.roots, section, key, view.leaf, view.proof)
        return view.leaf
