"""No single byte of an answer can be changed so that a wallet accepts something else."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from chain_world import CHAIN_ID, MEMBERS, MERCHANT, NOW_MS
from onecode.code.reading import parse_code
from onecode.errors import OnecodeError
from onecode.proof.header import SignedHeader
from onecode.proof.light import Trust, trusted_state
from onecode.query.follow import Follower
from onecode.query.messages import MatchMode
from onecode.wallet.network import verify_network
from onecode.wallet.resolve import Payer, Pending, Resolution, build_pending, resolve_answer
from simulator.world import STATIC, Chain, Node


@cache
def asked() -> tuple[Chain, Pending, bytes, SignedHeader]:
    """A query and its honest answer, with the header that the wallet did not have."""
    chain = Chain()
    node = Node(chain)
    view = node.network()
    network = verify_network(view, followed(chain), chain.a.id, NOW_MS)
    payer = Payer(CHAIN_ID, chain.a.id, chain.a.credential(), chain.a.device, (chain.b.id,))
    code = parse_code(STATIC, prefix="oc")
    pending = build_pending(MERCHANT, payer, network, network.header, MatchMode.NODE, b"e" * 48, NOW_MS, code=code)
    chain.height += 1
    return chain, pending, node.answer(pending.query).encoded(), view.header


def followed(chain: Chain) -> Follower:
    return Follower(Trust(trusted_state(chain.trust_header.header, MEMBERS)))


def resolve(answer: bytes) -> Resolution:
    chain, pending, _, first = asked()
    headers = followed(chain)
    headers.verify_next(first, MEMBERS, NOW_MS)
    return resolve_answer(pending, answer, headers, NOW_MS)


def test_the_answer_itself_is_accepted() -> None:
    chain, _, answer, _ = asked()
    assert resolve(answer).target.link == chain.records[chain.a.id][0]


@settings(max_examples=600)
@given(st.data())
def test_a_flipped_byte_gives_the_same_or_nothing(data: st.DataObject) -> None:
    _, _, answer, _ = asked()
    at = data.draw(st.integers(0, len(answer) - 1), label="at")
    flip = data.draw(st.integers(1, 255), label="flip")
    honest = resolve(answer)
    changed = answer[:at] + bytes((answer[at] ^ flip,)) + answer[at + 1 :]
    try:
        found = resolve(changed)
    except OnecodeError:
        return
    assert (found.target.link, found.target.record, found.target.signed) == (
        honest.target.link,
        honest.target.record,
        honest.target.signed,
    )
    assert found.target.state.header.header_hash == honest.target.state.header.header_hash
    assert (found.others, found.differences, found.order) == (honest.others, honest.differences, honest.order)


@settings(max_examples=100)
@given(st.integers(0, 1 << 20))
def test_a_shortened_answer_is_refused(cut: int) -> None:
    _, _, answer, _ = asked()
    try:
        resolve(answer[: cut % len(answer)])
    except OnecodeError:
        return
    raise AssertionError("a part of an answer was accepted")
