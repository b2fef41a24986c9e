"""Proposals built on a node's state, and the node that shows another one than was asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from onecode.errors import OnecodeError
from onecode.network.ceremony import verify_ceremony, verify_node
from onecode.network.client import NodeClient
from onecode.network.organisation import Organisation
from onecode.network.own_leaf import own_leaf
from onecode.network.proposals import (
    Found,
    Proposals,
    fetch_proposal,
    load_replaced,
    platform_names,
    proposal_lines,
)
from onecode.network.standing import fetch_standing, standing_cells
from onecode.proof.governance import (
    ENCLAVE_POLICY_KEY,
    PARAMETERS_KEY,
    RULES_KEY,
    VALIDATORS_KEY,
    Approval,
    EnclavePolicy,
    Proposal,
    ProposalKind,
    ProposalLeaf,
    ValidatorLeaf,
    ValidatorsLeaf,
    proposal_key,
)
from onecode.proof.header import BlockId, Commit, CommitVote, Header, SignedHeader, Validator, ValidatorSet, VoteFlag
from onecode.proof.map import Section
from onecode.query.messages import HeaderView, LeafView
from onecode.registry.application import Application
from onecode.registry.map import load, prove, section_roots
from onecode.registry.store import MemoryStore
from onecode.registry.transactions import proposal_id
from onecode.schema import Message
from onecode.wire import sha256
from unit.network.founders import CHAIN_ID, FOUR, founded
from unit.registry.world import BUILD, DAY_MS, START_MS

ALDER, BIRCH = FOUR[:2]
HEIGHT = 500
NOBODY = BlockId(hash=bytes(32), parts_total=1, parts_hash=bytes(32))
HEADER = SignedHeader(
    header=Header(
        block_version=11,
        app_version=1,
        chain_id=CHAIN_ID,
        height=HEIGHT,
        time_ns=START_MS * 1_000_000,
        last_block_id=NOBODY,
        last_commit_hash=bytes(32),
        data_hash=bytes(32),
        validators_hash=bytes(32),
        next_validators_hash=bytes(32),
        consensus_hash=bytes(32),
        app_hash=bytes(32),
        last_results_hash=bytes(32),
        evidence_hash=bytes(32),
        proposer_address=bytes(20),
    ),
    commit=Commit(height=HEIGHT, round=0, block_id=NOBODY, votes=(CommitVote(flag=VoteFlag.ABSENT),)),
)
VALIDATORS = ValidatorSet(validators=(Validator(public_key=ALDER.validator.public, power=1),))


class Chain(ThreadingHTTPServer):
    """The state of a founded network behind the routes that these commands read; what is read is not verified."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = MemoryStore()
        Application(self.store, CHAIN_ID).init_chain(verify_ceremony(founded()).genesis)
        self.leaves: dict[tuple[str, bytes], bytes] = {}
        self.status: dict[str, object] | None = {"height": HEIGHT, "first_block": 1}

    def put(self, key: bytes, leaf: Message) -> None:
        self.leaves["governance", key] = leaf.encoded()

    @property
    def node(self) -> NodeClient:
        return NodeClient(f"http://127.0.0.1:{self.server_address[1]}")


class Handler(BaseHTTPRequestHandler):
    server: Chain

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        chain, path = self.server, self.path
        if path == "/v1/status":
            self._answer(404 if chain.status is None else 200, json.dumps(chain.status or {}).encode())
        elif path == "/v1/headers/latest":
            self._answer(200, HeaderView(header=HEADER, validators=VALIDATORS).encoded())
        else:
            self._answer(200, self._leaf(path).encoded())

    def _leaf(self, path: str) -> LeafView:
        store = self.server.store
        _, _, _, name, key = path.split("/")
        section, raw = Section[name.upper()], bytes.fromhex(key)
        return LeafView(
            header=HEADER,
            validators=VALIDATORS,
            roots=section_roots(store),
            section=section,
            key=raw,
            leaf=self.server.leaves.get((name, raw)) or load(store, section, raw),
            proof=prove(store, section, raw),
        )

    def _answer(self, status: int, body: bytes) -> None:
        if status != 200:
            body = json.dumps({"title": "Untrusted", "code": "proxy.forbidden", "status": 403}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def chain() -> Iterator[Chain]:
    server = Chain()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proposals(chain: Chain) -> Proposals:
    return Proposals(chain.node, START_MS, bytes(16))


def code_of(raised: pytest.ExceptionInfo[OnecodeError]) -> str:
    return raised.value.code


def test_a_validator_is_added_and_removed_beside_those_of_now(proposals: Proposals) -> None:
    new = verify_node(ALDER.node_request(validator=ALDER.validator.public), CHAIN_ID)
    proposal = proposals.add_validator(new, 20)
    assert proposal.validators is not None
    assert {one.key: one.power for one in proposal.validators} == {
        one.validator.public: 20 if one is ALDER else 10 for one in FOUR
    }
    assert list(proposal.validators) == sorted(proposal.validators, key=lambda one: one.key)
    assert START_MS + 6 * DAY_MS < proposal.expires_ms < START_MS + 7 * DAY_MS
    left = proposals.remove_validator(BIRCH.validator.public).validators
    assert left is not None
    assert {one.key for one in left} == {one.validator.public for one in FOUR if one is not BIRCH}
    with pytest.raises(OnecodeError) as raised:
        proposals.add_validator(new, None)
    assert code_of(raised) == "governance.validator_there"
    with pytest.raises(OnecodeError) as raised:
        proposals.remove_validator(bytes(32))
    assert code_of(raised) == "governance.validator_unknown"


def test_a_change_of_validators_waits_for_the_one_before(chain: Chain, proposals: Proposals) -> None:
    now = proposals._validators().validators
    chain.put(VALIDATORS_KEY, ValidatorsLeaf(validators=now, pending=now[1:], pending_ms=START_MS + 1))
    with pytest.raises(OnecodeError) as raised:
        proposals.remove_validator(BIRCH.validator.public)
    assert code_of(raised) == "governance.validators_pending"


def told(proposal: Proposal, leaf: ValidatorsLeaf | EnclavePolicy | None) -> list[str]:
    """What an approver reads of it, below who proposed it."""
    state = ProposalLeaf(
        proposal_hash=bytes(32), proposer=ALDER.id, approvals=(), expires_ms=0, executed=False, body=b"-"
    )
    return proposal_lines(Found(bytes(32), state, proposal), {ALDER.id: "Alder Pay"}, leaf)[4:]


def test_a_change_of_validators_is_told_against_the_set_that_will_be(chain: Chain, proposals: Proposals) -> None:
    """Another change was decided while this proposal was open."""
    proposal = proposals.remove_validator(BIRCH.validator.public)
    leaf = load_replaced(chain.node, proposal)
    assert isinstance(leaf, ValidatorsLeaf)
    assert [line for line in told(proposal, leaf) if "<-" in line or "!" in line] == [
        f"  {BIRCH.validator.public.hex()}  <- removed"
    ]
    new = ValidatorLeaf(key=b"n" * 32, power=10, platform=ALDER.id)
    later = dataclasses.replace(leaf, pending=(*leaf.validators, new), pending_ms=START_MS)
    chain.put(VALIDATORS_KEY, later)
    lines = told(proposal, load_replaced(chain.node, proposal))
    assert f"  {new.key.hex()}  <- removed" in lines and lines[-1].startswith("  OUTDATED")
    assert told(dataclasses.replace(proposal, replaces=None), leaf)[-1].startswith("  CAUTION")
    moved = tuple(dataclasses.replace(one, platform=ALDER.id) for one in proposal.validators or ())
    changed = told(dataclasses.replace(proposal, validators=moved), leaf)
    assert sum("<- power or platform" in line for line in changed) == 2


def test_what_a_policy_takes_away_is_told(chain: Chain, proposals: Proposals) -> None:
    proposal = proposals.build("software", BUILD, remove=True)
    lines = told(proposal, load_replaced(chain.node, proposal))
    assert lines == [f"  software  {BUILD.hex()}  <- removed, at once", "  no enclave build is allowed any more"]
    other = proposals.build("software", sha256(b"other"), remove=False)
    assert sorted(told(other, load_replaced(chain.node, other))) == sorted(
        [f"  software  {BUILD.hex()}", f"  software  {sha256(b'other').hex()}  <- new"]
    )


def test_an_admission_is_told_with_the_id_that_is_read_aloud(chain: Chain, proposals: Proposals) -> None:
    proposal = proposals.admit(ALDER.admission())
    assert f"  platform id  {ALDER.id.hex()}" in told(proposal, load_replaced(chain.node, proposal))
    assert platform_names(chain.node)[ALDER.id] == f"alder ({ALDER.id.hex()[:8]})"


def test_builds_are_added_and_removed(proposals: Proposals) -> None:
    other = sha256(b"another build")
    proposal = proposals.build("software", other, remove=False)
    assert proposal.kind == ProposalKind.ENCLAVE_POLICY
    assert [one.measurement for one in proposal.measurements or ()] == [BUILD, other]
    assert proposals.build("software", BUILD, remove=True).measurements == ()
    for measurement, remove in ((BUILD, False), (other, True)):
        with pytest.raises(OnecodeError) as raised:
            proposals.build("software", measurement, remove=remove)
        assert code_of(raised) == "governance.build"


def test_rules_leave_time(proposals: Proposals) -> None:
    rules = proposals.rules(2, HEIGHT + 1_000).rules
    assert rules is not None
    assert (rules.version, rules.next_version, rules.next_height) == (1, 2, HEIGHT + 1_000)
    with pytest.raises(OnecodeError) as raised:
        proposals.rules(2, HEIGHT + 999)
    assert code_of(raised) == "governance.rules_height"


def test_a_node_that_shows_another_proposal_is_refused(chain: Chain, proposals: Proposals) -> None:
    meant, other = proposals.suspend(BIRCH.id), proposals.suspend(ALDER.id)
    identity = proposal_id(CHAIN_ID, meant.encoded())

    def leaf(body: bytes) -> ProposalLeaf:
        return ProposalLeaf(
            proposal_hash=sha256(body),
            proposer=ALDER.id,
            approvals=(Approval(platform=ALDER.id, key=bytes(32)),),
            expires_ms=meant.expires_ms,
            executed=False,
            body=body,
        )

    with pytest.raises(OnecodeError) as raised:
        fetch_proposal(chain.node, CHAIN_ID, identity)
    assert code_of(raised) == "governance.proposal_unknown"
    chain.put(proposal_key(identity), leaf(other.encoded()))
    with pytest.raises(OnecodeError) as raised:
        fetch_proposal(chain.node, CHAIN_ID, identity)
    assert code_of(raised) == "governance.proposal"
    chain.put(proposal_key(identity), leaf(meant.encoded()))
    found = fetch_proposal(chain.node, CHAIN_ID, identity)
    lines = proposal_lines(found, {ALDER.id: "Alder Pay"})
    assert found.proposal == meant
    assert any(BIRCH.id.hex() in line for line in lines) and any("Alder Pay" in line for line in lines)


def test_a_node_of_another_network_is_told_apart() -> None:
    empty = Chain()
    empty.store = MemoryStore()
    threading.Thread(target=empty.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with pytest.raises(OnecodeError) as raised:
            Proposals(empty.node, START_MS, bytes(16))
        assert code_of(raised) == "governance.leaf"
    finally:
        empty.shutdown()
        empty.server_close()


def test_what_a_platform_is_on_chain(chain: Chain) -> None:
    known = Organisation(CHAIN_ID, "alder", root=ALDER.root.public.hex())
    assert [one.node_id for one in own_leaf(known, chain.node).nodes] == [ALDER.node_id]
    stranger = dataclasses.replace(known, root="ab" * 32)
    with pytest.raises(OnecodeError) as raised:
        own_leaf(stranger, chain.node)
    assert code_of(raised) == "organisation.not_admitted"


def test_a_node_that_keeps_its_status_to_itself_shows_its_height(chain: Chain) -> None:
    chain.status = None
    dead = "http://127.0.0.1:9"
    found = fetch_standing({chain.node.url: "alder", dead: "birch"})
    assert [(row["name"], row["up"]) for row in found["nodes"]] == [("alder", True), ("birch", False)]
    assert (found["height"], found["validators"], found["power"]) == (HEIGHT, 0, 0)
    cells = [standing_cells(row) for row in found["nodes"]]
    assert cells[0][:4] == ["alder", str(HEIGHT), "0", "status not public"]
    assert cells[1][1] == "no answer: http.unreachable"
    assert len({len(row) for row in cells}) == 1


STATUS = {
    "height": 7,
    "header_age_ms": -20,
    "platforms": 4,
    "engine": {"up": True, "peers": 3, "power": 10, "catching_up": False},
    "enclave": {"up": True, "simulated": True, "leases": [{"platform": "ab"}]},
    "versions": {"onecode": "1.0"},
}


def test_a_status_is_shown(chain: Chain) -> None:
    chain.status = {**STATUS}
    row = fetch_standing({chain.node.url: "alder"})["nodes"][0]
    assert standing_cells(row) == ["alder", "7", "0", "-0.0 s", "3", "10", "simulated", "1 of 4", "1.0"]


@pytest.mark.parametrize(
    "lie",
    [
        {"height": "9" * 5000},
        {"height": {}},
        {"height": 1 << 80},
        {"height": True},
        {"header_age_ms": "soon"},
        {"engine": [1]},
        {"engine": {"power": 1e400}},
        {"enclave": {"up": True, "leases": 3}},
        {"enclave": {"up": True, "leases": [None, {}, {"platform": {}}]}},
        {"enclave": 3},
        {"versions": None},
        {"versions": {"onecode": "\x1b[2J\x1b]0;owned\x07" + "x" * 10_000}},
        {"enclave": {"up": True, "kind": "\x9b31m\u202e"}},
    ],
)
def test_no_stranger_breaks_the_table_or_the_terminal(chain: Chain, lie: dict[str, object]) -> None:
    chain.status = {**STATUS, **lie}
    found = fetch_standing({chain.node.url: "alder"})
    cells = standing_cells(found["nodes"][0])
    assert all(cell.isprintable() and len(cell) < 100 for cell in cells)
    assert found["nodes"][0]["up"]


def test_an_endless_answer_ends(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle(self: Handler) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" " * drop_bytes)
                time.sleep(0.01)

    monkeypatch.setattr(Handler, "do_GET", trickle)
    for drop_bytes, code in ((1, "http.timeout"), (1 << 20, "http.too_large")):
        with pytest.raises(OnecodeError) as raised:
            dataclasses.replace(chain.node, timeout_ms=500 if drop_bytes == 1 else 60_000).newest_header()
        assert code_of(raised) == code


def test_the_leaves_that_proposals_are_built_on_are_there(chain: Chain) -> None:
    for key in (PARAMETERS_KEY, VALIDATORS_KEY, RULES_KEY, ENCLAVE_POLICY_KEY):
        assert load(chain.store, Section.GOVERNANCE, key) is not None
