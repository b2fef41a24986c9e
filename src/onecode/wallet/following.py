"""Keeping the newest header without being asked: for a backend or a till, whose answers then carry none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onecode.errors import OnecodeError
from onecode.wallet.client import Wallet
from onecode.wallet.nodes import is_final

PAUSE_S, PAUSE_S_MAX = 0.2, 30.0


class HeaderFollower:
    """One task over one wallet. A node that lies or is silent is left for the next, and named in `failure`.

    While it runs, `wallet.resolve` finds a header that is fresh; without it, or when no node answers, the wallet asks
    as ever. pause: replaceable for tests.
    """

    def __init__(self, wallet: Wallet, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._wallet, self._pause = wallet, pause
        self.failure: tuple[str, OnecodeError] | None = None

    async def run(self) -> None:
        """Follow until cancelled; raises what no node can mend: a fork, or trust that has run out."""
        nodes, turn, failed = self._wallet.config.node_urls, 0, 0
        while True:
            node = nodes[turn % len(nodes)]
            try:
                await self._wallet.nodes.advance(node)
                failed = 0
            except OnecodeError as error:
                if is_final(error):
                    raise
                self.failure = (node, error)
                turn, failed = turn + 1, failed + 1
            rounds = failed // len(nodes)
            await self._pause(min(PAUSE_S_MAX, PAUSE_S * (1 << min(rounds, 8))))
