"""How soon a merchant's unlink counts: at the platform, at every node, and at a wallet. `python -m bench.withdrawal`.

A whole local network: four validators with enclaves, four platforms with key services, wallets. In each round a
merchant that is paid ends its link by a transaction of its own, of which its platform is not told. Meanwhile one wallet
pays it again and again, and another one, whose caches are warm, resolves it again and again. It is also a check: a
payment that was sent after the answer `decided` and taken all the same ends the run.
"""

from __future__ import annotations

import argparse
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from bench.figures import Figure, figure, machine, save, show
from onecode.code.label import StaticLabel, build_static
from onecode.errors import Declined, OnecodeError, Unreachable
from onecode.host.clock import now_ms
from onecode.network.agreement import build_agreement, hand_over
from onecode.network.client import NodeClient
from onecode.network.local import LocalNetwork, validators_plan
from onecode.network.merchant import CONSENT_MS, Merchant, build_unlink, create_merchant
from onecode.network.wallets import enroll_wallet, open_wallet
from onecode.query.messages import HeaderView
from onecode.query.requests import DEVICE_HEADER, device_header
from onecode.record.payment import SERVICE_PAY
from onecode.schema import parse
from onecode.wallet.pay import build_order, build_payment

OUTPUT = Path("build/bench-withdrawal.json")
OWN, DEAD = "alder", "dogwood"  # whose record it is; which node is killed in the second part
ROUNDS = 10
REFUSED_S = 60.0
RESOLVE_EVERY_S = 0.03
TAKEN, REFUSED = 201, (409, "payment.link")
HEARTBEAT_MS = 1_000  # so that the unlinks meet each proposer, the dead one too
PAUSE_S = (0.5, 2.5)
STEPS = (
    ("decided", "the node answers: decided"),
    ("refused", "the platform refuses"),
    ("proven", "the node answers: proven"),
    ("everywhere", "every node proves absence"),
    ("wallet", "a warm wallet refuses"),
)
RECORD = {
    "legal_name": "Noodle House Ltd (made up)",
    "display_name": "Noodle House",
    "mcc": "5812",
    "country": "DE",
    "city": "Berlin",
    "time_zone": "Europe/Berlin",
    "terms": {
        "accounts": [{"merchant_number": "m-1", "settlement_reference": "s-1", "currency": "EUR", "store_labels": []}],
        "tip_mode": "none",
    },
}


class Round:
    """One merchant, from its publication until everybody refuses it. Times are in ms from the sending."""

    def __init__(self, network: LocalNetwork, directory: Path, payer: Path, asker: Path) -> None:
        self._network, self._payer, self._asker = network, payer, asker
        self._merchant: Merchant = create_merchant(directory, network.plan.chain_id, secrets.token_bytes)
        self._text = build_static(
            StaticLabel(
                merchant_id=self._merchant.id,
                prefix=self._merchant.prefix,
                mcc="5812",
                currency="978",
                country="DE",
                name="Noodle House",
                city="Berlin",
            )
        )
        self._sent_s = 0.0
        self._warm = [threading.Event(), threading.Event()]
        self._sent = threading.Event()
        self._decided_s = float("inf")
        self.ms: dict[str, float] = {}

    def _note(self, name: str) -> float:
        now_s = time.perf_counter()
        self.ms[name] = 1000 * (now_s - self._sent_s)
        return now_s

    def _publish(self) -> None:
        handed = hand_over(self._merchant, self._network.identity(OWN), SERVICE_PAY, now_ms(), CONSENT_MS)
        operator = self._network.operator(OWN)
        operator.sign(build_agreement(RECORD, handed, now_ms()))
        if operator.publish(self._merchant.id.hex())["state"] != "live":
            raise RuntimeError("a record is not live")

    def run(self) -> dict[str, float]:
        self._publish()
        nodes = [self._network.client(node.slug) for node in self._network.running_nodes()]
        with ThreadPoolExecutor(4 + len(nodes)) as pool:
            tasks: list[Future[Any]] = [pool.submit(self._pay), pool.submit(self._resolve)]
            while not all(warm.is_set() for warm in self._warm):
                for task in tasks:
                    if task.done():
                        task.result()
                time.sleep(0.01)
            time.sleep(random.uniform(*PAUSE_S))  # an idle chain
            transaction = build_unlink(self._merchant, self._network.identity(OWN), SERVICE_PAY, now_ms())
            node = self._network.client(OWN)
            above = [_height(one) for one in nodes]
            self._sent_s = time.perf_counter()
            self._sent.set()
            decided = pool.submit(self._submit, node, transaction, "decided")
            proven = pool.submit(self._submit, node, transaction, "proven")
            seen = [pool.submit(_proven_s, one, at, decided.result) for one, at in zip(nodes, above, strict=True)]
            for task in [*tasks, decided, proven, *seen]:
                task.result(REFUSED_S)
        self.ms["everywhere"] = max(1000 * (one.result() - self._sent_s) for one in seen)
        return self.ms

    def _submit(self, node: NodeClient, transaction: bytes, wait: str) -> int:
        submitted = node.submit(transaction, wait)
        now_s = self._note(wait)
        if wait == "decided":
            self._decided_s = now_s
        if submitted.code or submitted.height is None:
            raise RuntimeError(f"the unlink failed: {submitted.name}")
        return submitted.height

    def _pay(self) -> None:
        """Pay until the platform refuses; the requests are the wallet's, without its keeping of what was paid."""
        with open_wallet(self._payer) as wallet:
            found = wallet.resolve(wallet.read(self._text))
            device, credential = wallet.store.load_device(bytes(32)), wallet.store.load_credential()
        if credential is None:
            raise RuntimeError("the wallet is not enrolled")
        body = build_payment(found.target, build_order(found, 1, "EUR")).encoded()
        path, chain_id = "/v1/payments", self._network.plan.chain_id
        url = self._network.profile(OWN).platform_url
        until = time.perf_counter() + REFUSED_S
        with httpx.Client(base_url=url, timeout=REFUSED_S, trust_env=False) as client:
            while time.perf_counter() < until:
                began_s, key = time.perf_counter(), secrets.token_hex(16)
                signed = device_header(chain_id, credential, device, "POST", path, body, now_ms(), key)
                headers = {DEVICE_HEADER: signed, "idempotency-key": key, "content-type": "application/cbor"}
                answer = client.post(path, content=body, headers=headers)
                if answer.status_code == REFUSED[0] and answer.json()["code"] == REFUSED[1]:
                    self._note("refused")
                    return
                if answer.status_code != TAKEN:
                    raise RuntimeError(f"a payment failed: {answer.text[:200]}")
                if began_s > self._decided_s:
                    raise RuntimeError("a payment was taken that was sent after the unlink was answered as decided")
                self._warm[0].set()
        raise RuntimeError("the platform still takes payments")

    def _resolve(self) -> None:
        """Resolve until the wallet refuses."""
        own = self._network.plan.node(OWN).url
        with open_wallet(self._asker, lambda config: replace(config, node_urls=(own,))) as wallet:
            scan = wallet.read(self._text)
            wallet.resolve(scan)
            self._warm[1].set()
            self._sent.wait(REFUSED_S)
            until = time.perf_counter() + REFUSED_S
            while time.perf_counter() < until:
                try:
                    wallet.resolve(scan)
                except Declined:
                    self._note("wallet")
                    return
                except Unreachable as error:  # a live link that the answer did not open: a bucket is used up
                    raise RuntimeError(f"a wallet could not ask: {error}") from error
                time.sleep(RESOLVE_EVERY_S)
        raise RuntimeError("a wallet still resolves the merchant")


def _proven_s(node: NodeClient, above: int, height: Callable[[], int]) -> float:
    """When the node proved the state after the block of that height."""
    with httpx.Client(base_url=node.url, timeout=REFUSED_S, trust_env=False) as client:
        while True:
            answer = client.get(f"/v1/headers/latest?above={above}").raise_for_status()
            now_s = time.perf_counter()
            above = parse(HeaderView, answer.content, path="header").header.header.height
            if above > height():
                return now_s


def _height(node: NodeClient) -> int:
    return parse(HeaderView, node.newest_header(), path="header").header.header.height


def measure_rounds(network: LocalNetwork, rounds: int, name: str) -> list[dict[str, float]]:
    """So many unlinks, one after the other, on an otherwise idle chain. Each has wallets of its own, since what an
    enclave opens for one is bounded."""
    found = []
    for number in range(rounds):
        wallets = [network.places.wallet(f"{name}-{what}-{number}") for what in ("pays", "asks")]
        for wallet in wallets:
            enroll_wallet(wallet, network.profile(OWN))
        found.append(Round(network, network.places.merchant(f"{name}-{number}"), *wallets).run())
    return found


def measure(rounds: int, *, kill: bool) -> list[Figure]:
    """The figures of a network of four, and of the same with one of four killed."""
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        LocalNetwork(Path(directory), lambda: replace(validators_plan(4), heartbeat_ms=HEARTBEAT_MS)) as network,
    ):
        network.start()
        parts: Sequence[tuple[str, bool]] = (("all four", False), ("one of four dead", True))
        for name, dead in parts[: 1 + kill]:
            if dead:
                network.kill_node(DEAD)
            found = measure_rounds(network, rounds, name.replace(" ", "-"))
            figures += [figure(f"unlink, {name}: {text}", [one[key] for one in found], "ms") for key, text in STEPS]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.withdrawal", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-kill", action="store_true", help="leave out the part with one of four dead")
    given = parser.parse_args()
    about: dict[str, Any] = {"machine": machine()}
    try:
        figures = measure(given.rounds, kill=not given.no_kill)
    except OnecodeError as error:
        raise SystemExit(str(error)) from None
    save(OUTPUT, about, figures)
    rows = [[one.name, f"{one.value:,.0f}", f"{one.spread[1]:,.0f}" if one.spread else ""] for one in figures]
    show("From the sending of an unlink, in ms", ["until", "median", "worst"], rows, f"{given.rounds} rounds each")


if __name__ == "__main__":
    main()
