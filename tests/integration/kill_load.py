"""Load for the tests that kill: payers, publishers, and what each was promised."""

from __future__ import annotations

import dataclasses
import random
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from integration.edited_network import EditedNetwork, record_data
from onecode.code.label import StaticLabel, build_static
from onecode.errors import Declined, OnecodeError, Unreachable, Untrusted
from onecode.host.clock import now_ms
from onecode.network.client import PlatformClient
from onecode.network.merchant import Merchant, create_merchant
from onecode.network.wallets import enroll_wallet, open_wallet
from onecode.query.credential import parse_credential
from onecode.query.requests import device_header
from onecode.record.receipt import Receipt
from onecode.wallet.config import WalletConfig
from onecode.wallet.pay import VerifiedReceipt, build_order
from onecode.wallet.resolve import Resolution
from onecode.wallet.sync import SyncWallet

OPENING_MINOR = 10_000_000
CALL_MS = 8_000
FINISH_S = 30  # how long what is under way may take once the load is to end
CHANGED = {"payment.version", "payment.link", "payment.withdrawn"}  # the record moved on while the payer looked at it
MISS_S = 10  # what a device may ask in vain
GONE = {"platform.absent", "service.absent"}  # no link of the payer's platform: withdrawn


def open_shop(network: EditedNetwork, name: str, *slugs: str) -> Merchant:
    """A merchant that these platforms have signed up."""
    shop = create_merchant(network.places.merchant(name), network.plan.chain_id, secrets.token_bytes)
    for slug in slugs:
        network.sign_shop(shop, slug, record_data(display_name=f"Shop {name}"))
    return shop


def label(shop: Merchant) -> str:
    """The payload of the shop's code."""
    return build_static(
        StaticLabel(
            merchant_id=shop.id,
            prefix=shop.prefix,
            mcc="5812",
            currency="978",
            country="DE",
            name="Shop",
            city="Berlin",
        )
    )


def enroll(network: EditedNetwork, name: str, slug: str) -> Path:
    """The directory of a new wallet."""
    directory: Path = network.places.wallet(name)
    enroll_wallet(directory, network.profile(slug))
    return directory


def open_payer(directory: Path) -> SyncWallet:
    """A wallet that does not wait long for the dead."""

    def change(config: WalletConfig) -> WalletConfig:
        return dataclasses.replace(config, timeout_ms=2_000, retry_pause_ms=50, payment_attempts=2)

    return open_wallet(directory, change)


class Worker(threading.Thread, ABC):
    """A thread that works until told to stop, and then ends what it has begun."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.done = 0  # acknowledged
        self.faults: list[str] = []
        self.troubles: Counter[str] = Counter()  # what went wrong as it may
        self._stopping = threading.Event()
        self._until = float("inf")

    def stop(self) -> None:
        self._until = time.monotonic() + FINISH_S
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def run(self) -> None:
        try:
            while not self.stopping:
                self.work()
        except Exception as error:
            self.faults.append(f"{self.name}: {error!r}")
        self.end()

    @abstractmethod
    def work(self) -> None:
        """One turn."""

    def end(self) -> None:
        """What is left to do in this thread when it ends."""

    def pause(self, error: OnecodeError) -> None:
        """After a failure that may be tried again."""
        self.troubles[error.code] += 1
        if time.monotonic() > self._until:
            raise error
        time.sleep(0.03)


@dataclass(slots=True)
class Paid:
    key: str
    request: bytes
    signed: bytes
    receipt: Receipt


class Payer(Worker):
    """Looks a shop up and pays it, again and again; the same key until there is a receipt or a refusal."""

    def __init__(self, directory: Path, codes: list[str], seed: int) -> None:
        super().__init__(directory.name)
        self.directory = directory
        self.paid: list[Paid] = []
        self.refused: dict[str, str] = {}
        self._codes, self._random = codes, random.Random(seed)
        self._seen: dict[str, Resolution] = {}
        self._again_s: dict[str, float] = {}  # when to look again at a shop that was gone
        self._wallet = open_payer(directory)

    def end(self) -> None:
        self._wallet.close()

    def work(self) -> None:
        wallet = self._wallet
        code = self._random.choice([code for code in self._codes if self._again_s.get(code, 0) < time.monotonic()])
        try:
            found = wallet.resolve(wallet.read(code))
        except Declined as error:
            if error.code not in GONE:
                raise
            self._again_s[code] = time.monotonic() + MISS_S
            if code in self._seen:  # it was withdrawn: what was known of it before is worth nothing now
                self._pay(self._seen.pop(code), wanted=False)
            return self.pause(error)
        except (Unreachable, Untrusted) as error:
            return self.pause(error)
        self._seen[code] = found
        return self._pay(found, wanted=True)

    def _pay(self, found: Resolution, *, wanted: bool) -> None:
        """Until there is a receipt, or a refusal, which is what must come unless it is `wanted`."""
        order = build_order(found, self._random.randint(1, 99), "EUR", note=self.name)
        key = secrets.token_hex(16)
        while True:
            try:
                verified = self._wallet.pay(found.target, order, idempotency_key=key)
            except Declined as error:
                if error.code not in CHANGED:
                    raise
                self.refused[key] = error.code
                return None
            except (Unreachable, Untrusted) as error:
                self.pause(error)
                continue
            if not wanted:
                raise AssertionError(f"a receipt for a record that was withdrawn: {verified.receipt}")
            return self._keep(verified)

    def _keep(self, verified: VerifiedReceipt) -> None:
        kept = next(
            one for one in self._wallet.store.load_payments() if one.idempotency_key == verified.idempotency_key
        )
        self.paid.append(Paid(kept.idempotency_key, kept.request, verified.signed.encoded(), verified.receipt))
        self.done += 1
        time.sleep(0.1)  # else the device's bucket is soon empty


@dataclass(slots=True)
class Acknowledged:
    slug: str
    merchant: bytes
    version: int
    live: bool  # published; else withdrawn


class Publisher(Worker):
    """The operator of a platform: publishes new versions of a shop's record; with `withdraws`, every other time the end
    of it."""

    def __init__(self, network: EditedNetwork, slug: str, shop: Merchant, pause_s: float, *, withdraws: bool) -> None:
        super().__init__(f"{slug} publishes {shop.directory.name}")
        plan = network.plan.platform(slug)
        self.slug, self.shop = slug, shop
        self.acknowledged: list[Acknowledged] = []
        self._operator = PlatformClient(plan.url, plan.operator_token, timeout_ms=CALL_MS)
        self._pause_s, self._withdraws = pause_s, withdraws

    def work(self) -> None:
        state = self.settled()["state"]
        act = self._operator.withdraw if self._withdraws and state == "live" else self._operator.publish
        try:
            answer = act(self.shop.id.hex())
        except Unreachable as error:
            return self.pause(error)
        wanted = "live" if act == self._operator.publish else "withdrawn"
        if answer["state"] == wanted:  # else it is on its way: what becomes of it, `settled` waits for
            self.acknowledged.append(Acknowledged(self.slug, self.shop.id, answer["version"], wanted == "live"))
            self.done += 1
        time.sleep(self._pause_s)
        return None

    def settled(self) -> dict[str, Any]:
        """The shop at its platform, once nothing is on its way to the chain."""
        until = time.monotonic() + FINISH_S
        while True:
            try:
                listed = {one["merchant"]: one for one in self._operator.merchants()}
            except Unreachable as error:
                self.pause(error)
                continue
            found = listed[self.shop.id.hex()]
            if found["refusal"] is not None:
                raise AssertionError(f"the chain refused {found}")
            if found["state"] not in ("publishing", "withdrawing"):
                return found
            if time.monotonic() > until:
                raise AssertionError(f"it hangs: {found}")
            time.sleep(0.02)


class Account:
    """A payer's own look at its platform, apart from the wallet's code."""

    def __init__(self, network: EditedNetwork, slug: str, directory: Path) -> None:
        with open_payer(directory) as wallet:
            self._device = wallet.store.load_device(b"")
            self._credential = wallet.store.load_credential() or b""
        self.name = parse_credential(self._credential)[1].account
        self._chain_id = network.plan.chain_id
        self.client = httpx.Client(base_url=network.plan.platform(slug).url, trust_env=False, timeout=5)

    def headers(self, method: str, path: str, body: bytes = b"", key: str | None = None) -> dict[str, str]:
        proof = device_header(self._chain_id, self._credential, self._device, method, path, body, now_ms(), key)
        more = {"content-type": "application/cbor", "idempotency-key": key} if key else {}
        return {"onecode-device": proof} | more

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path, headers=self.headers("GET", path))

    def pay(self, key: str, request: bytes) -> httpx.Response:
        headers = self.headers("POST", "/v1/payments", request, key)
        return self.client.post("/v1/payments", content=request, headers=headers)

    def insist(self, key: str, request: bytes) -> httpx.Response:
        """Send until the platform answers."""
        until = time.monotonic() + FINISH_S
        while True:
            try:
                response = self.pay(key, request)
                if response.status_code < 500:
                    return response
                trouble = response.text
            except httpx.HTTPError as error:
                trouble = repr(error)
            assert time.monotonic() < until, f"the platform takes no payment: {trouble}"
            time.sleep(0.05)


@dataclass(slots=True)
class Load:
    payers: list[Payer]
    publishers: list[Publisher]

    @property
    def workers(self) -> list[Worker]:
        return [*self.payers, *self.publishers]

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join(FINISH_S + CALL_MS / 1000)

    def require_faultless(self) -> None:
        faults = [fault for worker in self.workers for fault in worker.faults]
        assert faults == []

    def go_on(self, timeout_s: float) -> float:
        """Wait until every worker has got an acknowledgement again; how many seconds that took."""
        began, before = time.monotonic(), [worker.done for worker in self.workers]
        while not all(worker.done > done for worker, done in zip(self.workers, before, strict=True)):
            self.require_faultless()
            stuck = [
                (one.name, dict(one.troubles)) for one, n in zip(self.workers, before, strict=True) if one.done == n
            ]
            assert time.monotonic() < began + timeout_s, f"the network did not come back for {stuck}"
            time.sleep(0.01)
        return time.monotonic() - began


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """A call whose caller will not hear the end of it: its failure is expected."""

    def run() -> None:
        try:
            call()
        except (OnecodeError, httpx.HTTPError):
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
