"""kill -9 of every process while shops publish and wallets pay: no promise is lost, nothing is done twice.

ONECODE_CRASH_ROUNDS: kills in the random test; ONECODE_CRASH_SEED: repeats one run's choices.
"""

from __future__ import annotations

import dataclasses
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.edited_network import EditedNetwork, descendants
from integration.kill_audit import load_rows, replay_chain, require_books
from integration.kill_load import (
    FINISH_S,
    OPENING_MINOR,
    Account,
    Load,
    Payer,
    Publisher,
    enroll,
    in_thread,
    label,
    open_payer,
    open_shop,
)
from integration.node_network import alive, wait_until
from onecode.network.client import PlatformClient
from onecode.network.local import default_plan
from onecode.network.plan import NODE, NetworkPlan
from onecode.proof.leaves import LinkList
from onecode.registry.store import link_key
from onecode.schema import parse
from onecode.wallet.pay import build_order, build_payment

ROUNDS = int(os.environ.get("ONECODE_CRASH_ROUNDS", "10"))
SEED = int(os.environ.get("ONECODE_CRASH_SEED") or secrets.randbelow(1 << 32))
A, B = "alder", "birch"
KINDS = ("supervisor", "writer", "worker", "enclave", "key service", "platform")
RECOVERY_S = 20
CUTS_MS = (0, 5, 10, 15, 20, 30)  # a publication and a payment take about 20 ms each
CUT_MS_MAX = 4_000  # for machines that are slower


def plan(chain_id: str, slugs: tuple[str, ...]) -> NetworkPlan:
    given = default_plan(chain_id)
    platforms = tuple(one for one in given.platforms if one.slug in slugs)
    return dataclasses.replace(
        given, platforms=platforms, heartbeat_ms=500, sandbox_opening_minor={"EUR": OPENING_MINOR}
    )


def quick_restarts(options: dict[str, Any]) -> None:
    """Many kills in a minute are no fault of the node: it need not wait longer each time."""
    options |= {"restart_delay_ms_min": 50, "restart_delay_ms_max": 200}


def kill_one(network: EditedNetwork, kind: str, choice: random.Random) -> None:
    """kill -9; what the node does not start again by itself is started again here, after a while."""
    if kind in ("supervisor", "key service", "platform"):
        slug = choice.choice((A, B))
        name = {"supervisor": NODE, "key service": f"{slug}-keys", "platform": slug}[kind]
        network.kill(name)
        time.sleep(choice.uniform(0, 0.2))
        network.start_again(name)
        return
    wait_until(lambda: part(network, kind))
    os.kill(part(network, kind), signal.SIGKILL)


def part(network: EditedNetwork, kind: str) -> int:
    """Process id of a running part of the node; 0 while it does not run."""
    pids = network.node_pids()
    pid = pids["workers"][0] if kind == "worker" else pids[kind]
    return pid if pid in descendants(network.supervisor) and alive(pid) else 0


@pytest.mark.timeout(60 + 8 * ROUNDS)
def test_kill_at_random(tmp_path: Path) -> None:
    choice = random.Random(SEED)
    print(f"ONECODE_CRASH_SEED={SEED} ONECODE_CRASH_ROUNDS={ROUNDS}")
    with EditedNetwork(tmp_path / "net", lambda: plan("solo-kill", (A, B)), {"node.json": quick_restarts}) as network:
        network.start()
        busy, seldom = open_shop(network, "busy", A, B), open_shop(network, "seldom", A)
        for slug, shop in ((A, busy), (B, busy), (A, seldom)):
            assert network.operator(slug).publish(shop.id.hex())["state"] == "live"
        homes = {enroll(network, f"payer-{slug}-{number}", slug): slug for slug, number in ((A, 1), (A, 2), (B, 1))}
        codes = {A: [label(busy), label(seldom)], B: [label(busy)]}
        load = Load(
            [Payer(home, codes[slug], choice.randrange(1 << 32)) for home, slug in homes.items()],
            [
                Publisher(network, A, busy, 0.4, withdraws=False),
                Publisher(network, B, busy, 0.6, withdraws=False),
                Publisher(network, A, seldom, 0.3, withdraws=True),
            ],
        )
        load.start()
        try:
            kinds = [*choice.sample(KINDS, len(KINDS)), *choice.choices(KINDS, k=ROUNDS)][:ROUNDS]
            for number, kind in enumerate(kinds):
                time.sleep(choice.uniform(0, 0.25))
                killed = [kind, *choice.sample(KINDS, number % 4 == 3)]  # now and then two at a time
                for one in killed:
                    kill_one(network, one, choice)
                took_s = load.go_on(RECOVERY_S)
                print(f"round {number}: {' and '.join(killed)} killed, all at work again {took_s:.2f} s later")
        finally:
            load.stop()
        load.require_faultless()
        settled = {(one.slug, one.shop.id): one.settled() for one in load.publishers}
        require_payments(network, load, {home: Account(network, slug, home) for home, slug in homes.items()})
        network.stop()

        facts = replay_chain(network)
        assert set(facts.published.values()) == {1} and set(facts.withdrawn.values()) <= {1}
        for one in (one for publisher in load.publishers for one in publisher.acknowledged):
            named = (network.identity(one.slug), one.merchant, one.version)
            assert (facts.published if one.live else facts.withdrawn)[named] == 1
        for (slug, shop), found in settled.items():
            identity = network.identity(slug)
            assert facts.versions(identity, shop) == list(range(1, found["version"] + 1))  # none left out, in order
            assert link_version(facts.links, shop, identity) == (found["version"] if found["state"] == "live" else None)
        require_records(network, facts.commitments)
        for payer in load.payers:
            for paid in payer.paid:
                receipt = paid.receipt
                named = (receipt.record_platform, receipt.merchant, receipt.version)
                assert facts.commitments[named] == receipt.commitment  # nobody paid what the chain never took
    summary = {worker.name: (worker.done, dict(worker.troubles)) for worker in load.workers}
    print(f"acknowledged, and troubles on the way: {summary}")
    # Somebody met a record that had ended, at the platform or before: else the check of refused payments says nothing.
    assert any(payer.refused or "platform.absent" in payer.troubles for payer in load.payers)


def link_version(links: dict[bytes, bytes], merchant: bytes, platform: bytes) -> int | None:
    """The version of the live link, None without one."""
    raw = links.get(link_key(merchant, "pay"))
    listed = parse(LinkList, raw).links if raw else ()
    return next((link.version for link in listed if link.platform == platform), None)


def require_payments(network: EditedNetwork, load: Load, accounts: dict[Path, Account]) -> None:
    """Each acknowledged payment is in the books once, and its key gives its receipt again; a refused one is nowhere."""
    promised: dict[str, set[tuple[bytes, str]]] = {one.slug: set() for one in network.plan.platforms}
    for payer in load.payers:
        account = accounts[payer.directory]
        slug = network_slug(network, account)
        for paid in payer.paid:
            again = account.pay(paid.key, paid.request)
            assert (again.status_code, bytes.fromhex(again.json()["receipt"])) == (200, paid.signed)
        for key in payer.refused:
            assert account.get(f"/v1/payments?idempotency_key={key}").status_code == 404
        spent = sum(paid.receipt.total_minor for paid in payer.paid)
        balances = account.get("/v1/account").json()["balances"]
        assert balances == [{"currency": "EUR", "balance_minor": OPENING_MINOR - spent}]
        promised[slug] |= {(account.name, paid.key) for paid in payer.paid}
        assert len(payer.paid) == len({paid.receipt.payment_id for paid in payer.paid}) > 0
    for slug, keys in promised.items():
        books = network.operator(slug).books()
        assert {one["total_minor"] for one in books["totals"]} == {0}
        assert set(require_books(network, slug)) == keys


def network_slug(network: EditedNetwork, account: Account) -> str:
    return next(one.slug for one in network.plan.platforms if httpx.URL(one.url) == account.client.base_url)


def require_records(network: EditedNetwork, commitments: dict[tuple[bytes, bytes, int], bytes]) -> None:
    """Each version on chain is the record that its platform keeps, and the outbox is empty."""
    for one in network.plan.platforms:
        rows = load_rows(network, one.slug, "SELECT merchant, version, commitment FROM records")
        kept = {(network.identity(one.slug), merchant, version): value for merchant, version, value in rows}
        mine = {named: value for named, value in commitments.items() if named[0] == network.identity(one.slug)}
        assert mine == kept
        assert load_rows(network, one.slug, "SELECT count(*) FROM outbox WHERE state <> 'done'") == [(0,)]


# --- cut at a chosen moment


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditedNetwork]:
    """One platform; whatever the tests did to it, chain and books hold in the end."""
    directory = tmp_path_factory.mktemp("small")
    with EditedNetwork(directory, lambda: plan("solo-cut", (A,)), {"node.json": quick_restarts}) as network:
        network.start()
        yield network
        network.stop()
        facts = replay_chain(network)
        assert set(facts.published.values()) == {1}
        require_records(network, facts.commitments)
        require_books(network, A)


def publish(network: EditedNetwork, merchant: bytes) -> dict[str, Any]:
    one = network.plan.platform(A)
    return PlatformClient(one.url, one.operator_token, timeout_ms=20_000).publish(merchant.hex())


def cuts(seen: list[Any]) -> Iterator[int]:
    """Moments of the kill, later and later, until there was an outcome of either kind among those `seen`."""
    yield from CUTS_MS
    cut_ms = 2 * CUTS_MS[-1]
    while len(set(seen)) < 2 and cut_ms <= CUT_MS_MAX:
        yield cut_ms
        cut_ms *= 2


def settled(network: EditedNetwork, merchant: bytes) -> tuple[str, int | None]:
    """State and version of a shop's record once nothing is on its way."""

    def look() -> tuple[str, int | None] | None:
        found = {one["merchant"]: one for one in network.operator(A).merchants()}[merchant.hex()]
        assert found["refusal"] is None
        return None if found["state"] == "publishing" else (found["state"], found["version"])

    return wait_until(look, FINISH_S)


def sent(network: EditedNetwork, merchant: bytes) -> bool:
    """Whether the shop's publication has left the platform, and nobody knows yet what became of it."""
    rows = load_rows(network, A, "SELECT merchant FROM outbox WHERE state = 'waiting' AND sent > 0")
    return (merchant,) in rows


def test_a_publication_cut_at_any_moment_is_made_once_or_not_begun(small: EditedNetwork) -> None:
    states: list[str] = []
    for number, cut_ms in enumerate(cuts(states)):
        shop = open_shop(small, f"cut-{number}", A)
        call = in_thread(lambda shop=shop: publish(small, shop.id))
        time.sleep(cut_ms / 1000)
        small.kill(A)
        call.join(FINISH_S)
        small.start_again(A)
        state, version = settled(small, shop.id)
        assert (state, version) in [("draft", None), ("live", 1)]
        states.append(state)
        if state == "draft":
            assert publish(small, shop.id)["version"] == 1
    assert set(states) == {"draft", "live"}  # the kills came before and after the point of no return


@pytest.mark.parametrize("order", ["decided unheard", "sent twice", "lost"])
def test_a_publication_sent_and_unanswered_is_made_once(small: EditedNetwork, order: str) -> None:
    shop = open_shop(small, order, A)
    writer = part(small, "writer")
    os.kill(writer, signal.SIGSTOP)
    try:
        call = in_thread(lambda: publish(small, shop.id))
        wait_until(lambda: sent(small, shop.id))
        time.sleep(0.1)  # for the bytes to lie before the writer
        small.kill(A)
        if order == "sent twice":
            small.start_again(A)
            wait_until(lambda: load_rows(small, A, "SELECT sent FROM outbox ORDER BY id DESC LIMIT 1") >= [(2,)])
            time.sleep(0.1)
        if order == "lost":
            os.kill(writer, signal.SIGKILL)
    finally:
        if alive(writer):
            os.kill(writer, signal.SIGCONT)
    call.join(FINISH_S)
    if order != "sent twice":
        small.start_again(A)
    assert settled(small, shop.id) == ("live", 1)
    assert publish(small, shop.id)["version"] == 2


@pytest.fixture(scope="module")
def order(small: EditedNetwork) -> tuple[Account, bytes]:
    """A payer's account, and a payment that it may make: ready to be sent under any key."""
    shop = open_shop(small, "paid", A)
    assert publish(small, shop.id)["state"] == "live"
    home = enroll(small, "payer", A)
    with open_payer(home) as wallet:
        found = wallet.resolve(wallet.read(label(shop)))
        request = build_payment(found.target, build_order(found, 700, "EUR")).encoded()
    return Account(small, A, home), request


def booked(network: EditedNetwork, key: str) -> list[bytes]:
    rows = load_rows(network, A, "SELECT idempotency_key, receipt FROM payments")
    return [receipt for name, receipt in rows if name == key]


def require_once(network: EditedNetwork, account: Account, key: str, request: bytes) -> bytes:
    """The key gives one receipt, however often it is asked for."""
    first = account.insist(key, request)
    assert first.status_code in (200, 201)
    receipt = bytes.fromhex(first.json()["receipt"])
    second = account.insist(key, request)
    assert (second.status_code, bytes.fromhex(second.json()["receipt"])) == (200, receipt)
    assert booked(network, key) == [receipt]
    return receipt


def test_a_payment_cut_at_any_moment_is_booked_once(small: EditedNetwork, order: tuple[Account, bytes]) -> None:
    account, request = order
    found: list[int] = []
    for cut_ms in cuts(found):
        key, heard = secrets.token_hex(8), []
        call = in_thread(lambda key=key, heard=heard: heard.append(account.pay(key, request).json().get("receipt")))
        time.sleep(cut_ms / 1000)
        small.kill(A)
        call.join(FINISH_S)
        before = booked(small, key)
        small.start_again(A)
        receipt = require_once(small, account, key, request)
        assert before in ([], [receipt]) and heard in ([], [receipt.hex()])
        found.append(len(before))
    assert set(found) == {0, 1}  # the kills came before and after the point of no return


def test_a_payment_booked_and_unheard_gives_its_receipt_again(
    small: EditedNetwork, order: tuple[Account, bytes]
) -> None:
    account, request = order
    key, url = secrets.token_hex(8), account.client.base_url
    fields = account.headers("POST", "/v1/payments", request, key) | {"content-length": str(len(request)), "host": "p"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection((url.host, url.port)) as deaf:
        deaf.sendall(f"POST /v1/payments HTTP/1.1\r\n{head}\r\n".encode() + request)
        (receipt,) = wait_until(lambda: booked(small, key))
        small.kill(A)
    small.start_again(A)
    assert require_once(small, account, key, request) == receipt


def test_a_payment_cut_before_the_chain_was_read_is_not_booked(
    small: EditedNetwork, order: tuple[Account, bytes]
) -> None:
    account, request = order
    key, worker = secrets.token_hex(8), part(small, "worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        call = in_thread(lambda: account.pay(key, request))
        time.sleep(0.3)
        small.kill(A)
    finally:
        os.kill(worker, signal.SIGCONT)
    call.join(FINISH_S)
    assert booked(small, key) == []
    small.start_again(A)
    require_once(small, account, key, request)
