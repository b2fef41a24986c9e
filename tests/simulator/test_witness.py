"""Two thirds of the validators can make up a second chain: nodes of other organisations show it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chain_world import CHAIN_ID, MEMBERS, NOW_MS
from onecode.errors import OnecodeError, Untrusted
from onecode.proof.governance import VALIDATORS_KEY, ValidatorLeaf, ValidatorsLeaf
from onecode.proof.leaves import KeyState, Role
from onecode.proof.light import Trust, trusted_state
from onecode.proof.map import Section
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.fork import ForkKind, parse_fork, verify_fork
from onecode.query.messages import HeaderView
from onecode.registry.map import update
from onecode.wallet.following import HeaderFollower
from onecode.wallet.pay import build_order
from onecode.wallet.sync import SyncWallet
from simulator.world import STATIC, Chain, HostileNode, Lab, Node
from vectors.proof_chain import make_header, signed_by, validator_set

FIRST, SECOND = "http://node-0", "http://node-1"


class NamedChain(Chain):
    """A chain that says which platform runs which validator."""

    def write(self) -> None:
        super().write()
        rows = sorted((member.public_key, self.a.id) for member in MEMBERS.validators)
        leaf = ValidatorsLeaf(
            validators=tuple(ValidatorLeaf(key=key, power=10, platform=platform) for key, platform in rows), pending=()
        )
        update(self.store, Section.GOVERNANCE, {VALIDATORS_KEY: leaf.encoded()})


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.chain = NamedChain()
    return lab


def other_chain() -> Chain:
    """Another chain from the same beginning, by the same validators; a record of it says something else."""
    chain = NamedChain()
    chain.entry_changes = {"consent_serial": 7}
    return chain


def settle(wallet: SyncWallet) -> None:
    """Let a comparison that is under way end."""
    wallet._runner.run(wallet._wallet.nodes.close())


def resolve(wallet: SyncWallet) -> None:
    wallet.resolve(wallet.read(STATIC))
    settle(wallet)


def look(wallet: SyncWallet) -> None:
    """Fetch the first node's view, and let its header be compared."""
    wallet._runner.run(wallet._wallet.nodes.fetch_network(FIRST))
    settle(wallet)


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(OnecodeError) as caught:
        call()
    return caught.value.code


def codes(wallet: SyncWallet) -> list[tuple[str, str]]:
    return [(failure.node_url, failure.error.code) for failure in wallet.witness_failures]


def trust_of(chain: Chain) -> Trust:
    return Trust(trusted_state(chain.trust_header.header, MEMBERS))


# --- a fork -----------------------------------------------------------------------------------------------------------


def test_a_fork_halts_the_wallet_and_its_evidence_holds(lab: Lab) -> None:
    wallet = lab.wallet(Node(other_chain()), Node(lab.chain))
    resolve(wallet)  # nobody can tell yet: more than two thirds signed it
    assert code_of(lambda: resolve(wallet)) == "header.fork"
    again = lab.wallet(Node(lab.chain))  # the directory remembers
    assert code_of(lambda: resolve(again)) == "header.fork"
    (path,) = wallet.store.list_evidence()
    found = verify_fork(parse_fork(path.read_bytes()), trust_of(lab.chain), NOW_MS)
    assert found.kind is ForkKind.MADE_UP
    assert set(found.guilty) == {member.public_key for member in MEMBERS.validators}
    assert codes(wallet) == [(SECOND, "header.fork")]


def test_an_answer_is_not_believed_once_a_fork_was_shown_while_it_was_on_its_way(lab: Lab) -> None:
    wallet = lab.wallet(Node(other_chain()), Node(lab.chain))
    nodes = wallet._wallet.nodes

    async def ask(node: str) -> str:
        await nodes.fetch_network(node)
        assert nodes._comparing is not None
        await nodes._comparing
        return "an answer under the header of the fork"

    assert code_of(lambda: wallet._runner.run(nodes.ask(ask))) == "header.fork"
    assert wallet.failures == []


def test_a_halted_wallet_pays_nothing(lab: Lab) -> None:
    wallet = lab.wallet(Node(other_chain()), Node(lab.chain))
    found = wallet.resolve(wallet.read(STATIC))
    settle(wallet)
    assert code_of(lambda: wallet.pay(found.target, build_order(found, 100))) == "header.fork"
    assert lab.platform.sent == 0


def later(lab: Lab, *chains: Chain, ms: int = 60_000) -> None:
    """Time goes on, and each chain by a height that is signed at the new time."""
    lab.now_ms += ms
    for chain in chains:
        chain.height += 1
        chain.header = lambda *args, one=chain, **changes: NamedChain.header(  # type: ignore[method-assign]
            one, *args, **({"signed_ms": lab.now_ms - 1000} | changes)
        )


def test_the_evidence_names_platforms_as_a_witness_told_them_before(lab: Lab) -> None:
    fork = other_chain()
    honest, turned = Node(lab.chain), Node(fork)

    def reply(node: HostileNode, request: httpx.Request) -> httpx.Response:
        return (turned if lab.now_ms > NOW_MS else honest).handle(request)

    wallet = lab.wallet(HostileNode(lab.chain, reply=reply), Node(lab.chain))
    resolve(wallet)
    kept = wallet.store.load_compared()
    assert kept is not None and kept.named is not None and wallet.witness_failures == []
    later(lab, fork, lab.chain)
    look(wallet)
    assert code_of(lambda: resolve(wallet)) == "header.fork"
    named = parse_fork(wallet.store.list_evidence()[0].read_bytes()).named
    assert named == kept.named


def test_a_chain_that_runs_ahead_of_the_true_ones_clock(lab: Lab) -> None:
    """The witness never has the header's height; but its newest one is lower and no earlier."""
    ahead = other_chain()
    node = Node(ahead)
    ahead.height = 20
    ahead.header = lambda height=None, **changes: Chain.header(  # type: ignore[method-assign]
        ahead, height or 20, **({"time_ns": (NOW_MS - 60_000 + (height or 20)) * 1_000_000} | changes)
    )
    wallet = lab.wallet(node, Node(lab.chain), trust_file=ahead.trust_file(ahead.header(2)))
    look(wallet)
    assert code_of(lambda: resolve(wallet)) == "header.fork"
    file = parse_fork(wallet.store.list_evidence()[0].read_bytes())
    found = verify_fork(file, Trust(trusted_state(file.common.header.header, MEMBERS)), NOW_MS)
    assert (found.kind, found.guilty) == (ForkKind.AHEAD, ())
    assert len(found.first_signers) == len(found.second_signers) == 4


def test_a_witness_that_shows_another_header_beside_what_it_is_asked_for(lab: Lab) -> None:
    """It agrees on the header of the comparison; the one under which it proves who runs the validators differs."""
    other = Node(other_chain())

    def reply(node: HostileNode, request: httpx.Request) -> httpx.Response | None:
        return other.handle(request) if "/leaves/" in request.url.path else None

    wallet = lab.wallet(Node(lab.chain), HostileNode(lab.chain, reply=reply))
    resolve(wallet)
    assert code_of(lambda: resolve(wallet)) == "header.fork"
    assert len(wallet.store.list_evidence()) == 1


# --- what is no fork --------------------------------------------------------------------------------------------------


def down(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def nonsense(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"\xff" * 40)


def says_it_is_a_fork(request: httpx.Request) -> httpx.Response:
    return httpx.Response(
        401, json={"title": "Untrusted", "status": 401, "code": "header.fork", "detail": "believe me"}
    )


def forged(chain: Chain) -> Callable[[httpx.Request], httpx.Response]:
    signed = chain.header()
    header = dataclasses.replace(signed.header, app_hash=bytes(32))
    view = HeaderView(header=dataclasses.replace(signed, header=header), validators=MEMBERS)
    return lambda request: httpx.Response(200, content=view.encoded())


def by_half(chain: Chain) -> Callable[[httpx.Request], httpx.Response]:
    def reply(request: httpx.Request) -> httpx.Response:
        name = request.url.path.rsplit("/", 1)[1]
        members = validator_set([1, 2, "x"])
        time_ns = (NOW_MS - 50_000 + 1000 * int(name)) * 1_000_000
        header = make_header(int(name), members, app_hash=bytes(32), time_ns=time_ns)
        view = HeaderView(header=signed_by(header, [1, 2, "x"]), validators=members)
        return httpx.Response(200, content=view.encoded())

    return reply


BAD: list[tuple[str, Callable[[Chain], Callable[[httpx.Request], httpx.Response]], str]] = [
    ("down", lambda chain: down, "http.unreachable"),
    ("nonsense", lambda chain: nonsense, "wire."),
    ("says it is a fork", lambda chain: says_it_is_a_fork, "header.fork"),
    ("forged", forged, "header.commit_block"),
    ("by half of the power", by_half, "witness.forged"),
]


@pytest.mark.parametrize(("reply", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_witness_is_named_and_halts_nothing(lab: Lab, reply: Any, code: str) -> None:
    answer = reply(lab.chain)
    witness = HostileNode(lab.chain, reply=lambda node, request: answer(request))
    wallet = lab.wallet(Node(lab.chain), witness)
    resolve(wallet)
    resolve(wallet)
    (only,) = codes(wallet)
    assert only[0] == SECOND and only[1].startswith(code)
    assert wallet.store.load_stop() is None and wallet.failures == []
    kept = wallet.store.list_evidence()
    assert len(kept) == (code == "witness.forged")
    for path in kept:  # half of the power: no wallet takes it for the chain, but it is proof against who signed
        found = verify_fork(parse_fork(path.read_bytes()), trust_of(lab.chain), NOW_MS)
        assert set(found.guilty) == {member.public_key for member in MEMBERS.validators[:2]}


def test_a_witness_that_is_behind_is_no_fork_and_confirms_what_it_has(lab: Lab) -> None:
    behind = Chain()
    behind.height = 8
    wallet = lab.wallet(Node(lab.chain), HostileNode(behind, reply=None))
    resolve(wallet)
    assert codes(wallet) == [(SECOND, "witness.behind")]
    assert wallet.store.load_stop() is None and wallet.store.load_compared() is None


def test_one_comparison_an_interval(lab: Lab) -> None:
    asked: list[str] = []

    def reply(node: HostileNode, request: httpx.Request) -> None:
        asked.append(request.url.path)

    wallet = lab.wallet(Node(lab.chain), HostileNode(lab.chain, reply=reply))
    for _ in range(3):
        resolve(wallet)
    assert asked == ["/v1/headers/10", f"/v1/leaves/governance/{VALIDATORS_KEY.hex()}"]
    kept = wallet.store.load_compared()
    assert kept is not None and kept.compared_ms == NOW_MS
    resolve(lab.wallet(Node(lab.chain), HostileNode(lab.chain, reply=reply)))  # nor at the next start
    later(lab, lab.chain, ms=59_999)
    look(wallet)
    assert len(asked) == 2
    later(lab, lab.chain, ms=1)
    look(wallet)
    assert asked[2:] == ["/v1/headers/12"]


def test_the_second_node_of_the_own_platform_is_no_witness_where_others_are_named(lab: Lab) -> None:
    second = Node(other_chain())
    wallet = lab.wallet(Node(lab.chain), second, witness_urls=(FIRST,))
    resolve(wallet)
    assert (codes(wallet), wallet.store.load_stop(), second.asked) == ([], None, 0)


# --- renewing ---------------------------------------------------------------------------------------------------------


def issued(lab: Lab, issued_ms: int, height: int = 10, anchor: Role = Role.ANCHOR) -> bytes:
    body = TrustBody(
        chain_id=CHAIN_ID,
        header=lab.chain.header(height),
        validators=MEMBERS,
        trusting_period_ms=14 * 86_400_000,
        issued_ms=issued_ms,
    )
    key = lab.chain.a.key(anchor)
    return sign_trust_file(
        body, certify_anchor(CHAIN_ID, lab.chain.a.root, key.public, NOW_MS + 86_400_000), key
    ).encoded()


def test_a_halted_wallet_begins_again_from_a_file_issued_afterwards(lab: Lab) -> None:
    wallet = lab.wallet(Node(other_chain()), Node(lab.chain))
    resolve(wallet)
    assert code_of(lambda: wallet.renew_trust(issued(lab, NOW_MS))) == "trust.before_fork"
    assert code_of(lambda: wallet.renew_trust(issued(lab, NOW_MS + 1, height=9))) == "trust.before_fork"
    lab.wallets.clear()
    good = issued(lab, NOW_MS + 1)
    wallet.renew_trust(good)
    wallet.close()
    on = lab.wallet(Node(lab.chain), trust_file=good)
    resolve(on)
    assert on.store.load_stop() is None and len(on.store.list_evidence()) == 1


def test_a_trust_file_by_a_key_that_the_chain_took_back_is_refused(lab: Lab) -> None:
    leaf = lab.chain.a.leaf()
    keys = tuple(
        dataclasses.replace(key, state=KeyState.RETIRED) if key.role == Role.ANCHOR else key for key in leaf.keys
    )
    lab.chain.leaves[lab.chain.a.id] = dataclasses.replace(leaf, keys=keys)
    wallet = lab.wallet()
    resolve(wallet)
    assert code_of(lambda: wallet.renew_trust(issued(lab, NOW_MS))) == "trust.anchor_state"
    wallet.renew_trust(issued(lab, NOW_MS, anchor=Role.RECEIPT))  # a key that the chain does not name yet
    resolve(lab.wallet())  # the first file is by the retired key: the own header counts, that file does not
    lab.now_ms += 15 * 86_400_000
    assert code_of(lab.wallet) in ("trust.anchor_state", "trust.anchor_expired")


def test_a_replaced_root_needs_another_wallet(lab: Lab) -> None:
    lab.chain.leaves[lab.chain.a.id] = lab.chain.a.leaf(root=b"r" * 32)
    wallet = lab.wallet()
    resolve(wallet)
    assert code_of(lambda: wallet.renew_trust(issued(lab, NOW_MS))) == "trust.root_replaced"


def test_past_the_trusting_period_no_node_is_blamed_and_the_platform_has_a_file(lab: Lab) -> None:
    wallet = lab.wallet()
    resolve(wallet)
    later(lab, lab.chain, ms=15 * 86_400_000)
    ask = lambda: wallet._runner.run(wallet._wallet.nodes.any_network())  # noqa: E731
    assert code_of(ask) == "header.trust_expired"
    assert wallet.failures == []
    body = certify_anchor(CHAIN_ID, lab.chain.a.root, lab.chain.a.key(Role.ANCHOR).public, lab.now_ms + 1)
    fresh = sign_trust_file(
        TrustBody(
            chain_id=CHAIN_ID,
            header=lab.chain.header(time_ns=lab.now_ms * 1_000_000),
            validators=MEMBERS,
            trusting_period_ms=14 * 86_400_000,
            issued_ms=lab.now_ms,
        ),
        body,
        lab.chain.a.key(Role.ANCHOR),
    )
    lab.platform.trust_file = fresh.encoded()
    wallet.fetch_trust()
    lab.chain.header = lambda *args, **changes: NamedChain.header(  # type: ignore[method-assign]
        lab.chain, *args, signed_ms=lab.now_ms, **({"time_ns": (lab.now_ms + lab.chain.height) * 1_000_000} | changes)
    )
    lab.chain.height += 1
    lab.chain.attested_until_ms = lab.now_ms + 60_000
    ask()


# --- following --------------------------------------------------------------------------------------------------------


def test_a_follower_keeps_the_header_that_answers_then_leave_out(lab: Lab) -> None:
    node, pauses = Node(lab.chain), [0]
    wallet = lab.wallet(HostileNode(lab.chain, reply=lambda node, request: down(request)), node)
    inner = wallet._wallet

    async def pause(seconds: float) -> None:
        pauses[0] += 1
        lab.chain.height += 1
        await asyncio.sleep(0)
        if pauses[0] == 4:
            raise asyncio.CancelledError

    follower = HeaderFollower(inner, pause=pause)
    with pytest.raises(asyncio.CancelledError):
        wallet._runner.run(follower.run())
    assert inner.nodes.headers.newest is not None and inner.nodes.headers.newest.header.height == 13
    assert follower.failure is not None and follower.failure[0] == FIRST
    lab.chain.height = 13
    answers: list[bool] = []
    honest = node.answer

    def answer(query: Any) -> Any:
        given = honest(query)
        answers.append(given.header is None)
        return given

    node.answer = answer  # type: ignore[method-assign]
    resolve(wallet)
    assert answers == [True]


def test_a_follower_ends_with_a_fork_but_not_at_a_nodes_word(lab: Lab) -> None:
    liar = HostileNode(lab.chain, reply=lambda node, request: says_it_is_a_fork(request))
    wallet = lab.wallet(liar, Node(other_chain()))
    seen: list[str] = []
    follower = HeaderFollower(wallet._wallet)

    async def pause(seconds: float) -> None:
        seen.append(follower.failure[1].code if follower.failure is not None else "")
        await asyncio.sleep(0)
        if len(seen) == 3:
            wallet._wallet.nodes.witness_failures.clear()
            raise asyncio.CancelledError

    follower._pause = pause
    with pytest.raises(asyncio.CancelledError):
        wallet._runner.run(follower.run())
    assert seen == ["node.refused"] * 3
    forking = lab.wallet(Node(other_chain()), Node(lab.chain))
    with pytest.raises(Untrusted) as caught:
        forking._runner.run(HeaderFollower(forking._wallet, pause=lambda seconds: asyncio.sleep(0)).run())
    assert caught.value.code == "header.fork"
