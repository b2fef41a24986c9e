"""Act 3: a bribed operator alters, withholds and replays; the check that caught each lie is named."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from onecode.cli.demo.directory import play_ordinary, search_disk
from onecode.cli.demo.hostile import BribedNode, Lie, honest
from onecode.cli.demo.stage import A, B, Stage, Stopwatch
from onecode.host.clock import now_ms
from onecode.proof.header import (
    BlockId,
    Commit,
    CommitVote,
    SignedHeader,
    Validator,
    ValidatorSet,
    VoteFlag,
    header_hash,
    validators_hash,
    vote_sign_bytes,
)
from onecode.proof.leaves import LinkList
from onecode.query.messages import Answer, MatchMode, NetworkView
from onecode.schema import parse
from onecode.wallet.client import Scan
from onecode.wallet.sync import SyncWallet
from onecode.wire import SigningKey

QUERY, NETWORK = "/v1/query", "/v1/network"
PATIENCE_MS = 2_000  # this wallet's bound for the age of a header; 30 s by default
SLEEP_S = 2.3

# Where docs/spec/verification.md numbers the check of a code.
CHECKS = {
    "answer.header_withheld": "header, steps 1 to 12",
    "header.stale": "header, step 12",
    "header.chain_id": "header, step 1",
    "answer.other_merchant": "answer, step 14",
    "map.root": "answer, step 15: the map's own proof",
    "map.mask": "answer, step 15: the map's own proof",
    "map.other_leaf": "answer, step 15: the map's own proof",
    "links.hash": "answer, step 17",
    "reply.seal": "before step 20: the seal of the enclave's reply",
}


@dataclass(frozen=True, slots=True)
class Act:
    """One lie. kind: alters, withholds, replays; codes: the checks that may catch it."""

    kind: str
    what: str
    lie: Lie
    codes: tuple[str, ...]


def play(stage: Stage) -> None:
    """Wallet A asks the bribed node first and the honest one next, once for every lie."""
    story, network = stage.story, stage.network
    story.act("A bribed operator lies")
    play_ordinary(stage)
    story.say(
        "   A proxy in this very process plays the bribed operator: it sits before the node and changes what it\n"
        "   likes. Wallet A knows two addresses, the bribed one first."
    )
    with BribedNode(network.plan.node_url) as bribed:
        watch, addresses = Stopwatch(), (bribed.url, network.plan.node_url)
        with stage.wallet(A, watch, node_urls=addresses, header_age_ms_max=PATIENCE_MS) as wallet:
            scanned = wallet.scan(stage.read_picture())
            for act in _acts(bribed, network.identity(A), network.identity(B)):
                _tell(stage, bribed, wallet, scanned, act)
            search_disk(stage)
            _freeze(stage, bribed, wallet, scanned)
            bribed.lie = honest
            with story.step("The operator tells the truth again, and wallet A pays through it") as step:
                passed_over = len(wallet.failures)
                found = stage.resolve(wallet, watch, MatchMode.NODE)
                story.require(len(wallet.failures) == passed_over, "an honest answer was refused")
                step.note = stage.pay(wallet, A, found, 12_00, "soy milk")


def _acts(bribed: BribedNode, own: bytes, other: bytes) -> list[Act]:
    return [
        Act("alters", "RIGHT, Onecode: a thief's record in the shop's place", _links(_forge(own)), ("links.hash",)),
        Act("alters", "one bit of the sealed record", _answers(_flip), ("reply.seal",)),
        Act("alters", "another merchant's id over the same proof", _answers(_swap), ("answer.other_merchant",)),
        Act("withholds", "drops the wallet's own platform from the links", _links(_drop(own)), ("links.hash",)),
        Act("withholds", "drops a competitor from the links", _links(_drop(other)), ("links.hash",)),
        Act(
            "withholds",
            '"no platform has published this merchant"',
            _answers(_deny),
            ("map.root", "map.mask", "map.other_leaf"),
        ),
        Act("replays", "a signed header of another network", _elsewhere(bribed), ("header.chain_id",)),
        Act("replays", "the answer to an earlier query", _replay(bribed), ("answer.header_withheld", "reply.seal")),
    ]


def _tell(stage: Stage, bribed: BribedNode, wallet: SyncWallet, scanned: Scan, act: Act) -> None:
    """One lie: the bribed node's answer is refused by a check, the honest node's is taken."""
    story = stage.story
    with story.step(f"It {act.kind}: {act.what}") as step:
        bribed.lie = honest
        wallet.resolve(scanned)  # an honest answer first: what can be replayed, and a wallet that suspects nothing
        passed_over = len(wallet.failures)
        bribed.lie = act.lie
        found = wallet.resolve(scanned)
        caught = wallet.failures[passed_over:]
        story.require(len(caught) == 1 and caught[0].node_url == bribed.url, "the lie was not noticed")
        code = caught[0].error.code
        story.require(code in act.codes, f"caught by {code}, where {' or '.join(act.codes)} was to be")
        story.require(found.target.link.platform == stage.network.identity(A), "the honest answer was not taken")
        step.note = f"caught by {CHECKS[code]} [{code}]; the next node's answer verifies"
        step.facts = {"lie": act.kind, "code": code, "check": CHECKS[code]}


def _freeze(stage: Stage, bribed: BribedNode, wallet: SyncWallet, scanned: Scan) -> None:
    """The operator shows the same signed header for ever, so that news never reaches the wallet."""
    story = stage.story
    with story.step("It replays: the newest header of before, for ever, so that no news gets through") as step:
        bribed.lie = honest
        wallet.resolve(scanned)
        frozen = bribed.fetch(NETWORK)
        time.sleep(SLEEP_S)
        passed_over = len(wallet.failures)
        bribed.lie = lambda path, answer: frozen if path == NETWORK else answer
        wallet.resolve(scanned)
        caught = wallet.failures[passed_over:]
        story.require(len(caught) == 1 and caught[0].node_url == bribed.url, "the lie was not noticed")
        code = caught[0].error.code
        story.require(code == "header.stale", f"caught by {code}")
        step.note = f"caught by {CHECKS[code]} [{code}]: older than {PATIENCE_MS / 1000} s (30 s by default)"
        step.facts = {"lie": "replays", "code": code, "check": CHECKS[code]}


# --- the lies


def _answers(change: Callable[[Answer], Answer]) -> Lie:
    """Change the answers to queries, nothing else."""

    def lie(path: str, answer: bytes) -> bytes:
        return change(parse(Answer, answer, path="answer")).encoded() if path == QUERY else answer

    return lie


def _links(change: Callable[[LinkList], LinkList]) -> Lie:
    """Change the links list of an answer."""

    def change_answer(answer: Answer) -> Answer:
        merchant = answer.merchant
        if merchant is None or merchant.links is None:
            return answer
        links = change(parse(LinkList, merchant.links, path="links"))
        return replace(answer, merchant=replace(merchant, links=links.encoded()))

    return _answers(change_answer)


def _forge(platform: bytes) -> Callable[[LinkList], LinkList]:
    def change(links: LinkList) -> LinkList:
        forged = [replace(one, commitment=bytes(32)) if one.platform == platform else one for one in links.links]
        return LinkList(links=tuple(forged))

    return change


def _drop(platform: bytes) -> Callable[[LinkList], LinkList]:
    def change(links: LinkList) -> LinkList:
        return LinkList(links=tuple(one for one in links.links if one.platform != platform))

    return change


def _flip(answer: Answer) -> Answer:
    return replace(answer, sealed=answer.sealed[:-1] + bytes((answer.sealed[-1] ^ 1,)))


def _swap(answer: Answer) -> Answer:
    merchant = answer.merchant
    return answer if merchant is None else replace(answer, merchant=replace(merchant, merchant=bytes(20)))


def _deny(answer: Answer) -> Answer:
    merchant = answer.merchant
    return answer if merchant is None else replace(answer, merchant=replace(merchant, entry=None, links=None))


def _elsewhere(bribed: BribedNode) -> Lie:
    """Answers under a header of another network: its own chain id and validator, with a commit that holds there."""

    def change(answer: Answer) -> Answer:
        view = parse(NetworkView, bribed.fetch(NETWORK), path="network")
        key = SigningKey.from_seed(secrets.token_bytes(32))
        validators = ValidatorSet(validators=(Validator(public_key=key.public, power=10),))
        header = replace(
            view.header.header,
            chain_id="solo-elsewhere",
            validators_hash=validators_hash(validators),
            next_validators_hash=validators_hash(validators),
        )
        block = BlockId(hash=header_hash(header), parts_total=1, parts_hash=header_hash(header))
        commit = Commit(height=header.height, round=0, block_id=block, votes=())
        timestamp_ns = now_ms() * 1_000_000
        vote = CommitVote(
            flag=VoteFlag.COMMIT,
            validator_address=validators.validators[0].address,
            timestamp_ns=timestamp_ns,
            signature=key.sign_bytes(vote_sign_bytes(header.chain_id, commit, timestamp_ns)),
        )
        signed = SignedHeader(header=header, commit=replace(commit, votes=(vote,)))
        return replace(answer, height=header.height, header=signed, validators=validators)

    return _answers(change)


def _replay(bribed: BribedNode) -> Lie:
    """Give the newest answer that was given before this lie began."""

    def lie(path: str, answer: bytes) -> bytes:
        if path != QUERY:
            return answer
        earlier = [told for seen, told in bribed.seen if seen == QUERY and told != answer]
        return earlier[-1] if earlier else answer

    return lie
