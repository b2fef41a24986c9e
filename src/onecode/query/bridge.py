"""The way to a header from which too many validators have changed: headers between, found by halving.

No I/O: whoever holds a `Bridge` fetches what it needs, wherever headers are to be had.
"""

from __future__ import annotations

from dataclasses import replace

from onecode.errors import Unreachable, Untrusted
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.query.messages import HeaderView

HOPS_MAX = 64  # headers fetched between a trusted header and the newest one


class Bridge:
    """Bisection as in CometBFT's light client: `take` a header of the height `needed` until that is None.

    trust: the newest state that was reached; in the end the goal verifies from it. passed: the headers between on the
    way there, each verified from the one before; none where the goal verifies at once. Raises `Untrusted` for what does
    not verify and `Unreachable` after `HOPS_MAX` headers. Does not check that any of them is fresh.
    """

    def __init__(self, trust: Trust, goal: HeaderView, now_ms: int) -> None:
        self.trust = trust
        self.passed: tuple[HeaderView, ...] = ()
        self.needed: int | None = None
        self._ahead = [goal]
        self._now_ms = now_ms
        self._taken = 0
        self._advance()

    def take(self, between: HeaderView) -> None:
        """The header of the height `needed`, unverified."""
        if between.header.header.height != self.needed:
            raise Untrusted("header.other_height", "the node sent a header of another height", field="height")
        self._taken += 1
        self._ahead.append(between)
        self._advance()

    def _advance(self) -> None:
        """Verify what was taken, nearest first, as far as it goes; then the height halfway to the next is needed."""
        self.needed = None
        while True:
            view = self._ahead[-1]
            try:
                verified = verify_header(view.header, view.validators, self.trust, self._now_ms)
            except Untrusted as error:
                if error.code != "header.not_enough_trust":
                    raise
                break
            self._ahead.pop()
            if not self._ahead:
                return
            self.passed += (view,)
            self.trust = replace(self.trust, state=trusted_state(verified.header, verified.validators))
        if self._taken == HOPS_MAX:
            raise Unreachable("header.too_far", "too many headers lie between; get a newer trust file")
        self.needed = (self.trust.state.header.height + view.header.header.height) // 2
