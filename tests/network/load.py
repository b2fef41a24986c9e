"""A steady load that outlives faults: each platform publishes, replaces and withdraws records, merchants unlink theirs
through another node, and wallets of each platform ask and pay. Everything that is done and seen goes into the history.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from network.faulty import NODES, FaultyNetwork
from network.history import Did, History, Payment, Query, Verdict, Write
from onecode.code.identity import recovery_hash
from onecode.code.label import StaticLabel, build_static
from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.host.clock import now_ms
from onecode.network.agreement import build_agreement, hand_over
from onecode.network.client import NodeClient, PlatformClient
from onecode.network.merchant import CONSENT_MS, Merchant, build_unlink
from onecode.network.wallets import enroll_wallet, open_wallet
from onecode.query.verify import VerifiedRecord
from onecode.record.payment import SERVICE_PAY
from onecode.record.receipt import Order
from onecode.wallet.sync import SyncWallet
from onecode.wire import SigningKey

CURRENCY = "EUR"
LIVE_MIN, KEPT = 4, 24  # records that a platform keeps live; merchants that its payers ask about
WRITE_PAUSE_S, QUERY_PAUSE_S = 0.4, 0.3
WALLETS = 3  # a platform, in turn: an enclave lets a device ask 60 times a minute
CALL_TIMEOUT_MS = 8_000
ABSENT = ("merchant.absent", "service.absent", "platform.absent")
PAYMENT_REFUSED = ("payment.", "merchant.", "service.", "platform.", "record.", "link.")


@dataclass(slots=True)
class Shop:
    """One merchant of one platform. ended: its withdrawal or unlink was asked for; lost: an outcome is not known."""

    merchant: Merchant
    ended: bool = False
    lost: bool = False

    @property
    def id(self) -> str:
        return self.merchant.id.hex()

    @property
    def code(self) -> str:
        return build_static(
            StaticLabel(self.merchant.id, self.merchant.prefix, "5812", "978", "DE", "Noodle House", "Berlin")
        )


class Load:
    """Two threads a platform. Use it as a context manager."""

    def __init__(self, network: FaultyNetwork, history: History) -> None:
        self.network, self.history = network, history
        self._shops: dict[str, list[Shop]] = {slug: [] for slug in NODES}
        self._stop = threading.Event()
        self.broken: list[str] = []  # what ended a thread
        for slug in NODES:
            for number in range(WALLETS):
                enroll_wallet(_directory(network, slug, number), network.profile(slug))
        runs = [(run, slug) for slug in NODES for run in (self._publish, self._ask)]
        self._threads = [threading.Thread(target=self._guarded, args=(run, slug), name=slug) for run, slug in runs]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the load; what is under way is waited for."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(60)

    def _guarded(self, run: Any, slug: str) -> None:
        try:
            run(slug)
        except Exception as error:
            self.broken.append(f"{run.__name__} of {slug}: {error!r}")
            raise

    # --- publishers

    def _publish(self, slug: str) -> None:
        chance = random.Random(f"publisher {slug}")
        operator = PlatformClient(
            self.network.operator(slug).url, self.network.operator(slug).token, timeout_ms=CALL_TIMEOUT_MS
        )
        while not self._stop.wait(WRITE_PAUSE_S):
            live = [shop for shop in self._shops[slug] if not shop.ended and not shop.lost]
            if len(live) < LIVE_MIN or chance.random() < 0.35:
                self._open_shop(slug, operator)
            elif chance.random() < 0.4:
                self._write(Did.PUBLISH, slug, chance.choice(live), operator)
            elif chance.random() < 0.6:
                self._write(Did.WITHDRAW, slug, live[0], operator)
            else:
                self._unlink(slug, live[0], chance.choice([one for one in NODES if one != slug]))

    def _open_shop(self, slug: str, operator: PlatformClient) -> None:
        shop = Shop(_new_merchant(self.network.plan.chain_id))
        handed = hand_over(shop.merchant, self.network.identity(slug), SERVICE_PAY, now_ms(), CONSENT_MS)
        try:
            operator.sign(build_agreement(_record(slug), handed, now_ms()))
        except OnecodeError:
            return  # nothing was asked of the chain
        if self._write(Did.PUBLISH, slug, shop, operator) is Verdict.OK:  # to ask for absent ones is dear
            self._shops[slug] = [*self._shops[slug], shop][-KEPT:]

    def _write(self, did: Did, slug: str, shop: Shop, operator: PlatformClient) -> Verdict:
        invoked, version = now_ms(), None
        shop.ended = shop.ended or did is Did.WITHDRAW
        try:
            call = operator.publish if did is Did.PUBLISH else operator.withdraw
            answer = call(shop.id)
            version = int(answer["version"])
            done = answer["state"] == ("live" if did is Did.PUBLISH else "withdrawn")
            verdict, why = (Verdict.OK, "") if done else (Verdict.UNKNOWN, str(answer["state"]))
        except OnecodeError as error:
            verdict, why = Verdict.REFUSED if isinstance(error, Declined) else Verdict.UNKNOWN, error.code
        shop.lost = shop.lost or verdict is not Verdict.OK
        platform = self.network.identity(slug).hex()
        self.history.add(Write(did, shop.id, platform, version, invoked, now_ms(), verdict, why))
        return verdict

    def _unlink(self, slug: str, shop: Shop, through: str) -> None:
        """The merchant ends the link by its own key, through a node that is not its platform's."""
        platform = self.network.identity(slug)
        transaction = build_unlink(shop.merchant, platform, SERVICE_PAY, now_ms())
        invoked = now_ms()
        shop.ended = True
        try:
            done = NodeClient(self.network.client(through).url, CALL_TIMEOUT_MS).submit(transaction)
            verdict, why = (Verdict.OK, "") if done.code == 0 else (Verdict.REFUSED, done.name)
        except OnecodeError as error:
            verdict, why = Verdict.REFUSED if isinstance(error, Declined) else Verdict.UNKNOWN, error.code
        self.history.add(Write(Did.UNLINK, shop.id, platform.hex(), None, invoked, now_ms(), verdict, why))

    # --- wallets

    def _ask(self, slug: str) -> None:
        chance, number = random.Random(f"payer {slug}"), 0
        wallets = [open_wallet(_directory(self.network, slug, index)) for index in range(WALLETS)]
        resolved: dict[str, tuple[SyncWallet, VerifiedRecord]] = {}
        try:
            while not self._stop.wait(QUERY_PAUSE_S):
                shops = self._shops[slug]
                if not shops:
                    continue
                number += 1
                shop, wallet = chance.choice(shops), wallets[number % WALLETS]
                target = self._query(slug, f"{slug}-{number % WALLETS}", wallet, shop)
                if target is not None:
                    resolved[shop.id] = (wallet, target)
                known = resolved.get(shop.id)
                if known is not None and chance.random() < (0.6 if shop.ended else 0.1):
                    self._pay(slug, *known)  # also by what was resolved before it ended
                    if shop.ended:
                        del resolved[shop.id]
        finally:
            for wallet in wallets:
                wallet.close()

    def _query(self, slug: str, name: str, wallet: SyncWallet, shop: Shop) -> VerifiedRecord | None:
        platform, invoked = self.network.identity(slug).hex(), now_ms()
        target: VerifiedRecord | None = None
        try:
            target = wallet.resolve(wallet.read(shop.code)).target
            header = target.state.header
            seen = {"version": target.link.version, "height": header.header.height, "signed_ms": header.signed_ms}
            verdict, why = Verdict.OK, ""
        except Declined as error:
            verdict, why, seen = Verdict.ABSENT if error.code in ABSENT else Verdict.REFUSED, error.code, {}
        except (Untrusted, Malformed) as error:
            verdict, why, seen = Verdict.REFUSED, error.code, {}
        except Unreachable as error:
            verdict, why, seen = Verdict.NONE, error.code, {}
        self.history.add(Query(name, shop.id, platform, invoked, now_ms(), verdict, why=why, **seen))
        return target

    def _pay(self, slug: str, wallet: SyncWallet, target: VerifiedRecord) -> None:
        proven, invoked = self.network.proven(slug), now_ms()
        try:
            wallet.pay(target, Order(amount_minor=1, currency=CURRENCY, tip_minor=0))
            verdict, why = Verdict.OK, ""
        except Declined as error:
            verdict, why = Verdict.ABSENT, error.code
        except OnecodeError as error:
            verdict, why = Verdict.UNKNOWN, error.code
        merchant, platform = target.state.merchant.hex(), target.link.platform.hex()
        self.history.add(Payment(merchant, platform, target.link.version, proven, invoked, now_ms(), verdict, why))


def _directory(network: FaultyNetwork, slug: str, number: int) -> Path:
    return network.places.wallet(f"{slug}-{number}")


def _new_merchant(chain_id: str) -> Merchant:
    controller, recovery = (SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(2))
    birth = (controller.public, recovery_hash(recovery.public))
    return Merchant(Path(), chain_id, controller, recovery.public, 0, 0, birth)


def _record(slug: str) -> dict[str, Any]:
    account = {
        "merchant_number": f"{slug}-1",
        "settlement_reference": f"{slug}-s-1",
        "currency": CURRENCY,
        "store_labels": [],
    }
    return {
        "legal_name": "Noodle House GmbH (made up)",
        "display_name": "Noodle House",
        "kyb_level": "basic",
        "kyb_checked_ms": now_ms(),
        "mcc": "5812",
        "country": "DE",
        "city": "Berlin",
        "audience": [],
        "time_zone": "Europe/Berlin",
        "terms": {"accounts": [account], "tip_mode": "none"},
    }


def pause(seconds: float) -> None:
    """Let the load go on for a while."""
    time.sleep(seconds)
