"""How long a withdrawal takes until every node proves it, and until wallets that had paid the merchant refuse.

A wallet here has a warm cache: it knows header, platforms and the node's enclave, and has just resolved the merchant.
It accepts its own platform alone, and asks its node again and again, every answer verified as a wallet does.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from bench.queries import Run, make_credential
from bench.sending import Client, send_one
from bench.timeline import Timed
from bench.validators import Validator, wait_for
from bench.world import PLATFORMS, Platform
from onecode.errors import Declined
from onecode.host.clock import now_ms
from onecode.proof.governance import HOUR_MS
from onecode.proof.light import Trust, trusted_state
from onecode.query.follow import Follower
from onecode.query.messages import HeaderView, MatchMode
from onecode.schema import parse
from onecode.wallet.resolve import HEADER_AGE_MS_MAX, QUERY_ENTROPY_BYTES, Payer, build_pending, resolve_answer
from onecode.wire import SigningKey

ASK_EVERY_S = 0.015
ASKS_A_DEVICE = 50  # an enclave opens at most 120 records at once for one
REFUSED_S = 60.0
PAUSE_S = 0.3


class Heights:
    """When each node first proved each height, by waiting for its next header."""

    def __init__(self, nodes: Sequence[Validator]) -> None:
        self._seen: list[dict[int, float]] = [{} for _ in nodes]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._watch, args=(at, node)) for at, node in enumerate(nodes)]
        for thread in self._threads:
            thread.start()

    def _watch(self, at: int, node: Validator) -> None:
        connection, above = node.connect(), 0
        while not self._stop.is_set():
            connection.request("GET", f"/v1/headers/latest?above={above}")
            body = connection.getresponse().read()
            above = parse(HeaderView, body).header.header.height
            self._seen[at].setdefault(above, time.perf_counter())
        connection.close()

    def proven_s(self, height: int) -> float:
        """When the last of the nodes had a header above `height`."""

        def known() -> bool:
            return all(any(seen > height for seen in list(one)) for one in self._seen)

        wait_for(known, f"every node proves height {height}")
        return max(min(when for seen, when in list(one.items()) if seen > height) for one in self._seen)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class WarmWallet:
    """A wallet at one node. `run`: what is known of the node; its header is where the wallet begins to trust."""

    def __init__(self, node: Validator, run: Run) -> None:
        self._run = run
        self._follower = Follower(Trust(trusted_state(run.header.header, run.header.validators)), HEADER_AGE_MS_MAX)
        self._connection = node.connect()
        self._asked = 0

    def _payer(self, own: Platform) -> Payer:
        if self._asked % ASKS_A_DEVICE == 0:
            self._device = SigningKey.from_seed(secrets.token_bytes(32))
        self._asked += 1
        credential = make_credential(self._run.chain_id, PLATFORMS.index(own), self._device.public, now_ms() - HOUR_MS)
        return Payer(self._run.chain_id, own.id, credential, self._device)

    def pays(self, merchant: bytes, own: Platform) -> bool:
        """Whether the wallet resolves the merchant; False where the chain proves that there is nothing to pay."""
        newest = self._follower.newest or self._run.header
        entropy = secrets.token_bytes(QUERY_ENTROPY_BYTES)
        network = self._run.network(own.id)
        asked = build_pending(merchant, self._payer(own), network, newest, MatchMode.NODE, entropy, now_ms())
        headers = {"content-type": "application/cbor"}
        self._connection.request("POST", "/v1/query", asked.query.encoded(), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"a query was refused: {body[:200]!r}")
        try:
            resolve_answer(asked, body, self._follower, now_ms(), HEADER_AGE_MS_MAX)
        except Declined:
            return False
        return True

    def refused_s(self, merchant: bytes, own: Platform) -> float:
        """When it first refused."""
        self._asked = 0  # a new device, which may ask often
        until = time.perf_counter() + REFUSED_S
        while self.pays(merchant, own):
            if time.perf_counter() > until:
                raise RuntimeError("a wallet still pays a merchant whose record was withdrawn")
            time.sleep(ASK_EVERY_S)
        return time.perf_counter()

    def close(self) -> None:
        self._connection.close()


@dataclass(slots=True)
class Withdrawn:
    """Times from the sending, in ms, one entry a withdrawal. refused: of the wallets at each node."""

    answered: list[float] = field(default_factory=list)
    everywhere: list[float] = field(default_factory=list)
    refused: list[list[float]] = field(default_factory=list)
    timed: list[Timed] = field(default_factory=list)

    @property
    def refused_everywhere(self) -> list[float]:
        return [max(several) for several in zip(*self.refused, strict=True)]


def measure_withdrawals(
    nodes: Sequence[Validator],
    runs: Sequence[Run],
    senders: Sequence[Client],
    merchants: Sequence[tuple[bytes, Platform]],
    seconds_max: float,
) -> Withdrawn:
    """Each merchant's record of that platform is taken back at the first node, on an otherwise idle chain; no more of
    them once the time is over."""
    end_s = time.perf_counter() + seconds_max
    found, heights = Withdrawn(refused=[[] for _ in nodes]), Heights(nodes)
    wallets = [WarmWallet(node, replace(run)) for node, run in zip(nodes, runs, strict=True)]
    connection = nodes[0].connect()
    try:
        with ThreadPoolExecutor(len(nodes)) as pool:
            for merchant, own in merchants:
                time.sleep(PAUSE_S)
                if not all(wallet.pays(merchant, own) for wallet in wallets):
                    raise RuntimeError("a wallet refuses a merchant whose record stands")
                batch = senders[PLATFORMS.index(own)].prepare_withdrawal(merchant)
                began = time.perf_counter()
                waiting = [pool.submit(wallet.refused_s, merchant, own) for wallet in wallets]
                took_ms, height = send_one(connection, batch.transaction)
                found.timed.append(Timed(began, began + took_ms / 1000, height))
                found.answered.append(took_ms)
                for at, one in enumerate(waiting):
                    found.refused[at].append(1000 * (one.result() - began))
                found.everywhere.append(1000 * (heights.proven_s(height) - began))
                if time.perf_counter() > end_s:
                    break
    finally:
        heights.stop()
        for wallet in wallets:
            wallet.close()
        connection.close()
    return found
