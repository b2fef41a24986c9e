"""What the acts share: the network, the shop, its one picture, the wallets. All calls are those of the commands."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from onecode.cli.demo.story import Story
from onecode.cli.wallet import money
from onecode.host.clock import now_ms
from onecode.network.agreement import build_agreement, hand_over
from onecode.network.client import PlatformClient
from onecode.network.local import LocalNetwork
from onecode.network.merchant import CONSENT_MS, Merchant
from onecode.network.plan import NetworkPlan, plan_network
from onecode.network.wallets import enroll_wallet, open_wallet
from onecode.query.messages import MatchMode
from onecode.record.payment import SERVICE_PAY
from onecode.wallet.config import WalletConfig
from onecode.wallet.pay import build_order
from onecode.wallet.resolve import Resolution
from onecode.wallet.sync import SyncWallet

CHAIN_ID, CHAIN_ID_NETWORK = "solo-demo", "onecode-demo"
CURRENCY, OPENING_MINOR = "CNY", 1_000_000
GOVERNANCE_DELAY_MS = 1_500  # 1 h in production
HEARTBEAT_MS = 500  # 10 s in production
A, B, C = "alder", "birch", "cedar"  # C joins later
NAMES = {A: "Alder Pay", B: "Birch Pay", C: "Cedar Pay", "dogwood": "Dogwood Pay", "elder": "Elder Pay"}
FOUNDERS, FOUNDERS_NETWORK = (A, B), (A, B, "dogwood", "elder")
SHOP, CITY, COUNTRY, MCC = "Lanzhou Noodle House", "Shanghai", "CN", "5812"
TILL_WAIT_MS = 5_000


def demo_plan(engine: Path | None = None) -> NetworkPlan:
    """Delays shortened to seconds. Platforms A and B on a solo chain, or with an engine four, with a validator each."""
    founders = FOUNDERS if engine is None else FOUNDERS_NETWORK
    return plan_network(
        CHAIN_ID if engine is None else CHAIN_ID_NETWORK,
        [(slug, NAMES[slug]) for slug in founders],
        governance_delay_ms=GOVERNANCE_DELAY_MS,
        heartbeat_ms=HEARTBEAT_MS,
        sandbox_opening_minor={CURRENCY: OPENING_MINOR},
        engine_binary=engine,
    )


class Stopwatch:
    """Adds up how long a wallet waits for servers."""

    def __init__(self) -> None:
        self.waited_ms = 0.0

    async def _begin(self, request: httpx.Request) -> None:
        request.extensions["began"] = time.perf_counter()

    async def _end(self, response: httpx.Response) -> None:
        self.waited_ms += (time.perf_counter() - response.request.extensions["began"]) * 1000

    def client(self) -> httpx.AsyncClient:
        """Connections that this watch times."""
        return httpx.AsyncClient(trust_env=False, event_hooks={"request": [self._begin], "response": [self._end]})


@dataclass(slots=True)
class Paid:
    """A payment for the table at the end."""

    slug: str
    amount_minor: int
    payment_id: str


@dataclass(slots=True)
class Stage:
    story: Story
    network: LocalNetwork
    shop: Merchant
    picture: Path
    sha256: str = ""
    till_tokens: dict[str, str] = field(default_factory=dict)
    paid: list[Paid] = field(default_factory=list)

    @property
    def distributed(self) -> bool:
        """Whether several organisations' validators decide."""
        return len(self.network.plan.nodes) > 1

    def settle(self, what: str) -> float:
        """Wait until each running node proves what one of them proves now, in ms; measured where there are several."""
        began = time.perf_counter()
        if self.distributed:
            heights = [int(self.network.client(node.slug).status()["height"]) for node in self.network.running_nodes()]
            self.network.wait_height(max(heights) - 1)
            self.story.measure(f"{what}: until every node proves it", (time.perf_counter() - began) * 1000)
        return (time.perf_counter() - began) * 1000

    # --- the shop and its platforms

    def read_picture(self) -> bytes:
        """The one picture, which must be the one that was printed."""
        picture = self.picture.read_bytes()
        self.story.require(hashlib.sha256(picture).hexdigest() == self.sha256, "the picture is not the one printed")
        return picture

    def sign_shop(self, slug: str, audience: list[str]) -> None:
        """A platform signs the shop, with the shop's consent, and publishes its record."""
        story, network, name = self.story, self.network, NAMES[slug]
        with story.step(f"{name} signs the shop and publishes its own record") as step:
            handed = hand_over(self.shop, network.identity(slug), SERVICE_PAY, now_ms(), CONSENT_MS)
            operator = network.operator(slug)
            signed = operator.sign(build_agreement(_record(slug, audience), handed, now_ms()))
            self.till_tokens[slug] = signed["till_token"]
            with story.timed("publish: seal, send, decide, prove"):
                published = operator.publish(self.shop.id.hex())
            story.require(published["state"] == "live", f"the record is {published['state']}")
            self.settle("publish")
            step.note = f"consent by the shop's own key; record version {published['version']} is proven on chain"
            step.facts = {"platform": name, "version": published["version"]}

    def enroll(self, slug: str) -> None:
        """A payer gets a wallet of this platform, with simulated money."""
        with self.story.step(f"A payer enrols a wallet with {NAMES[slug]}") as step:
            account = enroll_wallet(self.network.places.wallet(slug), self.network.profile(slug))
            step.note = f"account {account.hex()[:12]}…, {money(OPENING_MINOR, CURRENCY)} of SIMULATED money"

    # --- wallets

    def wallet(self, slug: str, watch: Stopwatch | None = None, **changes: Any) -> SyncWallet:
        """The wallet of this platform's payer; `changes` to its configuration."""

        def change(config: WalletConfig) -> WalletConfig:
            from dataclasses import replace

            return replace(config, **changes)

        return open_wallet(self.network.places.wallet(slug), change, (watch or Stopwatch()).client())

    def resolve(self, wallet: SyncWallet, watch: Stopwatch, mode: MatchMode) -> Resolution:
        """Scan and resolve, with the times of both parts."""
        with self.story.timed("scan: picture to merchant id"):
            scanned = wallet.scan(self.read_picture())
        before_ms, began = watch.waited_ms, time.perf_counter()
        found = wallet.resolve(scanned, mode)
        took_ms, asked_ms = (time.perf_counter() - began) * 1000, watch.waited_ms - before_ms
        self.story.measure("resolve: ask the node", asked_ms)
        self.story.measure("verify: own work of 24 steps", took_ms - asked_ms)
        return found

    def pay(self, wallet: SyncWallet, slug: str, found: Resolution, amount_minor: int, note: str) -> str:
        """Pay a resolved record; returns the receipt in words."""
        order = build_order(found, amount_minor, CURRENCY, note=note)
        with self.story.timed("pay: order to signed receipt"):
            paid = wallet.pay(found.target, order)
        receipt = paid.receipt
        self.story.require(receipt.state.name == "POSTED", f"the payment is {receipt.state.name}")
        self.paid.append(Paid(slug, amount_minor, receipt.payment_id))
        return f"{money(receipt.total_minor, CURRENCY)} to {receipt.display_name}: receipt signed by {NAMES[slug]}"

    def hear_till(self, slug: str) -> None:
        """The shop's till hears of the newest payment at this platform."""
        with self.story.step(f"The till rings: {NAMES[slug]}") as step:
            client = PlatformClient(self.network.plan.platform(slug).url, self.till_tokens[slug])
            events = client.events(self.shop.id.hex(), wait_ms=TILL_WAIT_MS)
            known = {event["payment_id"] for event in events if event["type"] == "payment.posted"}
            mine = [paid for paid in self.paid if paid.slug == slug]
            self.story.require(known == {paid.payment_id for paid in mine}, "the till heard of other payments")
            total = sum(event["total_minor"] for event in events)
            step.note = f"♪ {len(events)} paid, {money(total, CURRENCY)} in all; the till is told what, not who"


def _record(slug: str, audience: list[str]) -> dict[str, Any]:
    """The record's data as this platform's operator typed it in."""
    return {
        "legal_name": "Lanzhou Noodle House Ltd (made up)",
        "display_name": SHOP,
        "kyb_level": "basic",
        "kyb_checked_ms": now_ms(),
        "mcc": MCC,
        "country": COUNTRY,
        "city": CITY,
        "audience": audience,
        "time_zone": "Asia/Shanghai",
        "terms": {
            "accounts": [
                {
                    "merchant_number": f"{slug}-0001",
                    "settlement_reference": f"{slug}-settle-0001",
                    "currency": CURRENCY,
                    "store_labels": [],
                }
            ],
            "tip_mode": "none",
        },
    }
