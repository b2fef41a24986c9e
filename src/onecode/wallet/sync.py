"""The wallet for code that is not asynchronous: the same calls, each waiting for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx

from onecode.code.reading import Code, ForeignCode
from onecode.host.clock import now_ms
from onecode.query.messages import MatchMode
from onecode.query.verify import VerifiedRecord
from onecode.record.receipt import Order
from onecode.wallet.client import Scan, Wallet
from onecode.wallet.config import WalletConfig
from onecode.wallet.nodes import Failure
from onecode.wallet.pay import VerifiedReceipt
from onecode.wallet.refunds import VerifiedRefund
from onecode.wallet.resolve import Resolution
from onecode.wallet.store import WalletStore


class SyncWallet:
    """A `Wallet` with an event loop of its own. Not for use inside a running event loop, nor from two threads."""

    def __init__(
        self,
        config: WalletConfig,
        directory: Path,
        *,
        http: httpx.AsyncClient | None = None,
        now: Callable[[], int] = now_ms,
    ) -> None:
        self._runner = asyncio.Runner()
        self._wallet = Wallet(config, directory, http=http, now=now)

    def __enter__(self) -> SyncWallet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and the loop."""
        self._runner.run(self._wallet.close())
        self._runner.close()

    @property
    def store(self) -> WalletStore:
        """The wallet's directory."""
        return self._wallet.store

    @property
    def failures(self) -> list[Failure]:
        """Nodes that were passed over, and why."""
        return self._wallet.failures

    @property
    def witness_failures(self) -> list[Failure]:
        """Nodes that headers could not be compared with, and why."""
        return self._wallet.witness_failures

    def renew_trust(self, trust_file: bytes) -> None:
        """See `Wallet.renew_trust`."""
        self._wallet.renew_trust(trust_file)

    def fetch_trust(self) -> None:
        """See `Wallet.fetch_trust`."""
        self._runner.run(self._wallet.fetch_trust())

    def enroll(self) -> bytes:
        """See `Wallet.enroll`."""
        return self._runner.run(self._wallet.enroll())

    def scan(self, image: bytes) -> Scan:
        """See `Wallet.scan`."""
        return self._wallet.scan(image)

    def read(self, text: str) -> Scan:
        """See `Wallet.read`."""
        return self._wallet.read(text)

    def resolve(self, scan: Scan | Code | ForeignCode, mode: MatchMode = MatchMode.NODE) -> Resolution:
        """See `Wallet.resolve`."""
        return self._runner.run(self._wallet.resolve(scan, mode))

    def pay(self, target: VerifiedRecord, order: Order, *, idempotency_key: str | None = None) -> VerifiedReceipt:
        """See `Wallet.pay`."""
        return self._runner.run(self._wallet.pay(target, order, idempotency_key=idempotency_key))

    def refunds(self, paid: VerifiedReceipt) -> tuple[VerifiedRefund, ...]:
        """See `Wallet.refunds`."""
        return self._runner.run(self._wallet.refunds(paid))
