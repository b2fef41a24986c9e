"""What a lying witness, a jumping clock or bad luck in time must not do to the comparison of headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from chain_world import NOW_MS
from onecode.errors import OnecodeError
from onecode.proof.light import STRICT, Trust, trusted_state
from onecode.query.fork import parse_fork, verify_fork
from onecode.query.messages import HeaderView
from onecode.wallet.store import WalletStore
from onecode.wallet.witness import TRACE_MAX, Witnesses
from simulator import world
from simulator.test_witness import FIRST, SECOND, code_of, issued, later, look, other_chain, resolve, settle
from simulator.world import Chain, HostileNode, Lab, Node
from vectors.proof_chain import make_header, signed_by, validator_set

DAY_MS = 86_400_000
THIRD = "http://node-2"


def test_a_clock_that_was_ahead_for_a_moment_does_not_end_the_comparisons(lab: Lab) -> None:
    witness = HostileNode(lab.chain)
    asked: list[str] = []
    honest = witness.handle

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return honest(request)

    witness.handle = handle  # type: ignore[method-assign]
    wallet = lab.wallet(Node(lab.chain), witness)
    resolve(wallet)
    lab.now_ms += DAY_MS
    assert code_of(lambda: look(wallet)) == "header.stale"
    settle(wallet)
    lab.now_ms -= DAY_MS
    later(lab, lab.chain)
    asked.clear()
    look(wallet)
    assert asked[:1] == ["/v1/headers/11"]


def test_a_witness_that_is_in_league_with_the_liar_is_not_the_only_one_that_is_asked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "NODES", (FIRST, SECOND, THIRD))
    fork = other_chain()
    wallet = lab.wallet(Node(fork), Node(fork), Node(lab.chain), node_urls=(FIRST,), witness_urls=(SECOND, THIRD))
    for _ in range(2):  # a witness an interval
        look(wallet)
        later(lab, fork, lab.chain)
    assert code_of(lambda: resolve(wallet)) == "header.fork"
    assert wallet.store.load_stop() is not None


def test_a_second_header_halts_the_wallet_also_where_no_file_of_a_fork_can_be_made(lab: Lab) -> None:
    """Two thirds signed it at the newest height, with a time before the headers below: no branch leads to it."""
    wallet = lab.wallet(HostileNode(lab.chain))
    look(wallet)
    honest = lab.chain.header
    lab.chain.header = lambda *args, **changes: honest(*args, **({"time_ns": 1} | changes))  # type: ignore[method-assign]
    assert code_of(lambda: look(wallet)) == "header.fork"
    stop = wallet.store.load_stop()
    assert stop is not None and wallet.store.load_evidence(stop.evidence)
    lab.chain.header = honest  # type: ignore[method-assign]
    assert code_of(lambda: resolve(wallet)) == "header.fork"


def test_the_header_that_a_witness_proved_names_under_counts_as_verified(lab: Lab) -> None:
    ahead = Chain()
    ahead.height += 1
    names = Node(ahead)

    def reply(node: HostileNode, request: httpx.Request) -> httpx.Response | None:
        return names.handle(request) if "/leaves/" in request.url.path else None

    wallet = lab.wallet(Node(lab.chain), HostileNode(lab.chain, reply=reply))
    look(wallet)
    nodes = wallet._wallet.nodes
    assert nodes.headers.newest is not None and nodes.headers.newest.header.height == 11
    lab.chain.height = 11
    lab.chain.entry_changes = {"consent_serial": 7}
    assert code_of(lambda: look(wallet)) == "header.fork"
    stop = wallet.store.load_stop()
    assert stop is not None and stop.evidence.startswith("fork-11-")


def test_a_comparison_that_began_before_trust_was_renewed_changes_nothing(lab: Lab) -> None:
    wallet = lab.wallet(Node(lab.chain), Node(lab.chain))
    nodes = wallet._wallet.nodes
    fetch = nodes._witnesses._fetch

    async def slow(url: str, path: str) -> bytes:
        await asyncio.sleep(0.05)
        return await fetch(url, path)

    nodes._witnesses._fetch = slow
    wallet._runner.run(nodes.fetch_network(FIRST))
    comparing = nodes._comparing
    assert comparing is not None and not comparing.done()
    wallet.renew_trust(issued(lab, NOW_MS))
    settle(wallet)
    assert comparing.done() and wallet.store.load_compared() is None


# --- a witness by itself


def at(height: int, names: list[int | str] | None = None, **changes: object) -> HeaderView:
    members = validator_set(names or [0, 1, 2, 3])
    time_ns = (NOW_MS - 500_000 + 1000 * height) * 1_000_000
    header = make_header(height, members, **({"time_ns": time_ns} | changes))  # type: ignore[arg-type]
    return HeaderView(header=signed_by(header, names or [0, 1, 2, 3]), validators=members)


class Follows:
    """A follower's trust, all that a comparison reads of it."""

    def __init__(self, view: HeaderView) -> None:
        self.trust = Trust(trusted_state(view.header.header, view.validators), skip=STRICT)


def witnesses(
    directory: Path,
    fetch: Callable[[str, str], Awaitable[bytes]],
    failed: list[tuple[str, str]],
    timeout_ms: int = 5_000,
) -> Witnesses:
    return Witnesses(
        WalletStore(directory), at(1), 60_000, timeout_ms, fetch, lambda url, error: failed.append((url, error.code))
    )


def test_headers_between_that_come_slowly_hold_the_comparison_only_so_long(tmp_path: Path) -> None:
    asked, failed = [0], list[tuple[str, str]]()

    async def fetch(url: str, path: str) -> bytes:
        if url == SECOND:
            return own.encoded()
        asked[0] += 1
        await asyncio.sleep(0.02)
        return at(int(path.rsplit("/", 1)[1]), ["x", "y", "z"]).encoded()

    own = at(1 << 40, time_ns=(NOW_MS - 1) * 1_000_000)
    made = witnesses(tmp_path, fetch, failed, timeout_ms=10)
    made.note(own)
    asyncio.run(made.compare((FIRST, SECOND), Follows(own), 60_000 * 2 * (NOW_MS // 120_000)))  # type: ignore[arg-type]
    assert asked[0] < 10
    assert failed == [(FIRST, "witness.slow")]
    kept = WalletStore(tmp_path).load_compared()
    assert kept is not None and kept.view == own


def test_headers_that_arrive_during_a_comparison_do_not_take_its_header_away(tmp_path: Path) -> None:
    failed = list[tuple[str, str]]()
    target = at(TRACE_MAX + 1)

    async def fetch(url: str, path: str) -> bytes:
        made.note(at(TRACE_MAX + 2))  # one too many: every second one is forgotten, the one in question too
        return at(TRACE_MAX + 1, data_hash=bytes(32)).encoded()

    made = witnesses(tmp_path, fetch, failed)
    for height in range(2, TRACE_MAX + 2):
        made.note(at(height))
    with pytest.raises(OnecodeError, match=r"header\.fork"):
        asyncio.run(made.compare((FIRST,), Follows(target), NOW_MS))  # type: ignore[arg-type]
    stop = WalletStore(tmp_path).load_stop()
    assert stop is not None and stop.height == TRACE_MAX + 1
    file = parse_fork(WalletStore(tmp_path).load_evidence(stop.evidence))
    assert verify_fork(file, Follows(at(1)).trust, NOW_MS).first.header == target.header.header
