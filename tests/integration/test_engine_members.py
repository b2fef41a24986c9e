"""Who takes part in a running network of real engines: validators by governance, peers by the map, pruned and archive
nodes, observers."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import http.client
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.engine_network import (
    BINARY,
    CHAIN_ID,
    Load,
    Member,
    Network,
    platform_nodes,
    publish,
    require_engine,
    wait_for,
)
from integration.node_network import Process
from onecode.enclave.frames import EnclaveStatus, FrameKind
from onecode.errors import Untrusted
from onecode.host.clock import now_ms
from onecode.node.blocks import load_block, load_header, load_state
from onecode.node.enclave_port import EnclavePort, enclave_down
from onecode.node.link import Link, LinkLimits
from onecode.node.store import ReaderStore
from onecode.node.view import load_head
from onecode.proof.governance import (
    DAY_MS,
    DEFAULT_PARAMETERS,
    HOUR_MS,
    PARAMETERS_KEY,
    ObserverLeaf,
    Proposal,
    ProposalKind,
    ValidatorLeaf,
)
from onecode.proof.header import (
    BlockId,
    Commit,
    CommitVote,
    SignedHeader,
    ValidatorSet,
    VoteFlag,
    header_hash,
    validators_hash,
    vote_sign_bytes,
)
from onecode.proof.leaves import Role
from onecode.proof.light import Trust, require_fresh, trusted_state, verify_header
from onecode.proof.map import Section, verify_presence, verify_roots
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.messages import HeaderView, LeafView
from onecode.registry.transactions import (
    PLATFORM_ROLE,
    Kind,
    PlatformSuspend,
    ProposalSubmit,
    SignerKind,
    build_transaction,
)
from onecode.schema import Message, parse
from onecode.wallet.headers import bridge
from unit.registry.world import Merchant, Platform

SECONDS = 90.0  # the machine may be busy; nothing here is measured
DELAY_MS = 1_500
PARAMETERS = dataclasses.replace(DEFAULT_PARAMETERS, governance_delay_ms=DELAY_MS)
NONCES = count(1_000_000)


@pytest.fixture
def directory() -> Iterator[Path]:
    require_engine()
    with tempfile.TemporaryDirectory(prefix="net-") as short:  # a Unix socket's path is at most 107 bytes
        yield Path(short)


def call(platform: Platform, kind: Kind, payload: Message) -> bytes:
    role = PLATFORM_ROLE.get(kind)
    return build_transaction(
        CHAIN_ID,
        kind,
        payload,
        signer=platform.id,
        signer_kind=SignerKind.ROOT if role is None else SignerKind.PLATFORM,
        key=platform.root if role is None else platform.keys[role],
        nonce=next(NONCES),
        valid_until_ms=now_ms() + HOUR_MS // 2,
    )


def decide(member: Member, transaction: bytes) -> None:
    answer = member.rpc("broadcast_tx_commit", tx=base64.b64encode(transaction).decode("ascii"))
    assert answer["result"]["tx_result"]["code"] == 0, answer


def govern(network: Network, member: Member, kind: ProposalKind, **fields: Any) -> None:
    """A proposal that the one platform decides by itself."""
    expires_ms, salt = now_ms() + DAY_MS, next(NONCES).to_bytes(16, "big")
    proposal = Proposal(kind=kind, expires_ms=expires_ms, salt=salt, **fields)
    decide(member, call(network.platforms[0], Kind.PROPOSAL_SUBMIT, ProposalSubmit(proposal=proposal.encoded())))


def asked(member: Member, method: str, **parameters: Any) -> dict[str, Any]:
    """The result of an RPC method; empty while the engine does not answer."""
    try:
        return dict(member.rpc(method, **parameters).get("result", {}))
    except (OSError, http.client.HTTPException, ValueError):
        return {}


def height_of(member: Member) -> int:
    """Of the member's application, which is what is durable."""
    return int(asked(member, "abci_info").get("response", {}).get("last_block_height", 0))


def first_block(member: Member) -> int:
    return int(asked(member, "status").get("sync_info", {}).get("earliest_block_height", 0))


def peers_of(member: Member) -> int:
    return int(asked(member, "net_info").get("n_peers", 0))


def powers_of(member: Member) -> list[int]:
    return sorted(int(one["voting_power"]) for one in asked(member, "validators", per_page="100").get("validators", []))


def wait_for_blocks(member: Member, more: int) -> None:
    goal = height_of(member) + more
    wait_for(lambda: height_of(member) >= goal, f"{member.name} at {goal}", SECONDS)


def view_of(store: ReaderStore, height: int) -> HeaderView:
    with store.snapshot() as reader:
        stored = load_header(reader, height)
    assert stored is not None
    return HeaderView(header=stored.signed, validators=stored.validators)


def newest_view(store: ReaderStore) -> HeaderView:
    with store.snapshot() as reader:
        height = load_state(reader).height + 1
    return view_of(store, height)


# --- validators by governance


def set_validators(network: Network, member: Member, powers: dict[Member, int], watched: list[Member]) -> None:
    """Decide a new set, then wait on an idle chain until it is the engines' at each of `watched`."""
    owner = network.platforms[0].id
    leaves = [ValidatorLeaf(key=one.validator_key.public, power=power, platform=owner) for one, power in powers.items()]
    sorted_leaves = tuple(sorted(leaves, key=lambda leaf: leaf.key))
    govern(network, member, ProposalKind.VALIDATOR_SET, validators=sorted_leaves)
    for one in watched:
        wait_for(lambda one=one: powers_of(one) == sorted(powers.values()), f"the new set at {one.name}", SECONDS)
        wait_for_blocks(one, 2)


@pytest.mark.timeout(900)
def test_validators_come_change_and_go(directory: Path) -> None:
    network = Network(directory, 4, clients=1, others=1, parameters=PARAMETERS)
    first, *others = members = network.members
    network.start()
    try:
        for member in members:
            wait_for(lambda member=member: height_of(member) >= 1, f"{member.name} to begin", SECONDS)
        asked_s = time.monotonic()
        set_validators(network, first, dict.fromkeys(members, 10), members)  # a fifth
        assert time.monotonic() - asked_s > DELAY_MS / 1000
        set_validators(network, first, dict.fromkeys(members, 10) | {others[0]: 15}, members)
        set_validators(network, first, dict.fromkeys(others, 10), members)  # the first without a vote
        first.kill("both")
        wait_for_blocks(others[0], 3)  # nobody waits for it
        first.start()
        wait_for(lambda: height_of(first) >= height_of(others[0]) - 1, "the first to catch up", SECONDS)
        set_validators(network, others[0], {first: 10}, members)  # none of those before
        for member in others:
            member.kill("both")
        wait_for_blocks(first, 3)  # alone
        store = first.reader()
        follow_from_genesis(store, others)
        lead_an_enclave(directory, network.platforms[0], store)
        store.close()
    finally:
        network.stop()
    require_same_states(network)


def follow_from_genesis(store: ReaderStore, old: list[Member]) -> None:
    """A light client that knows the first header finds its way to a set that shares no validator with any before."""
    begin, goal, at_ms = view_of(store, 1), newest_view(store), now_ms()
    trust = Trust(trusted_state(begin.header.header, begin.validators))
    with pytest.raises(Untrusted) as raised:
        verify_header(goal.header, goal.validators, trust, at_ms)
    assert raised.value.code == "header.not_enough_trust"

    async def fetch(height: int) -> HeaderView:
        return view_of(store, height)

    for view in asyncio.run(bridge(trust, goal, fetch, at_ms)):
        verified = verify_header(view.header, view.validators, trust, at_ms)
        trust = dataclasses.replace(trust, state=trusted_state(verified.header, verified.validators))
    verified = verify_header(goal.header, goal.validators, trust, at_ms)
    require_fresh(verified, at_ms)
    assert len(verified.validators.validators) == 1

    trust = dataclasses.replace(trust, state=trusted_state(verified.header, verified.validators))
    five = next(
        view.validators
        for view in (view_of(store, height) for height in range(1, goal.header.header.height))
        if len(view.validators.validators) == 4 and view.validators != begin.validators
    )
    forged = signed_by(goal.header, five, old)  # all of the set before sign another state
    with pytest.raises(Untrusted) as raised:
        verify_header(forged, five, trust, at_ms + 2_000)
    assert raised.value.code == "header.not_enough_trust"


def lead_an_enclave(directory: Path, platform: Platform, store: ReaderStore) -> None:
    """An enclave that starts from a trust file of the first header gets over the same way, led by its host."""
    begin = view_of(store, 1)
    body = TrustBody(
        chain_id=CHAIN_ID,
        header=begin.header,
        validators=begin.validators,
        trusting_period_ms=14 * DAY_MS,
        issued_ms=now_ms(),
    )
    anchor = platform.keys[Role.ANCHOR]
    certificate = certify_anchor(CHAIN_ID, platform.root, anchor.public, now_ms() + 80 * DAY_MS)
    (directory / "trust").write_bytes(sign_trust_file(body, certificate, anchor).encoded())
    (directory / "vendor.key").write_text(bytes(32).hex(), "ascii")
    path, workers = directory / "e.sock", 2
    config = {
        "chain_id": CHAIN_ID,
        "node_id": "node-1",
        "socket": str(path),
        "trust_file": str(directory / "trust"),
        "pinned_root": platform.root.public.hex(),
        "vendor_key": str(directory / "vendor.key"),
        "allow_solo": True,
        "workers": workers,
    }
    (directory / "enclave.json").write_text(json.dumps(config), "utf-8")
    enclave = Process("onecode.enclave", str(directory / "enclave.json"))

    async def lead() -> None:
        limits = LinkLimits(100, 5_000)
        control = Link(path, limits, enclave_down)
        ports = [
            EnclavePort(Path(f"{path}.{number}"), limits, lambda height: view_of(store, height))
            for number in range(workers)
        ]
        links = [control, *(port.link for port in ports)]
        for link in links:
            link.start()
        while True:
            with store.snapshot() as reader:
                head = load_head(reader)
            for port in ports:
                port.follow(head)
            await asyncio.sleep(0.05)
            if control.up and all(port.knows(head.height) for port in ports):
                status = parse(EnclaveStatus, await control.call(FrameKind.STATUS, b""))
                if status.height >= head.height:
                    break  # the workers told the parent
        for link in links:
            await link.stop()

    try:
        asyncio.run(asyncio.wait_for(lead(), SECONDS))
    finally:
        enclave.stop()


def signed_by(after: SignedHeader, validators: ValidatorSet, members: list[Member]) -> SignedHeader:
    """A made-up header two heights on, under the votes of `members`."""
    header = dataclasses.replace(
        after.header,
        height=after.header.height + 2,
        time_ns=after.header.time_ns + 1,
        validators_hash=validators_hash(validators),
        app_hash=bytes(32),
    )
    hashed = header_hash(header)
    keys = {one.validator_key.public: one.validator_key for one in members}
    block_id = BlockId(hash=hashed, parts_total=1, parts_hash=hashed)
    commit = Commit(height=header.height, round=0, block_id=block_id, votes=())
    message = vote_sign_bytes(CHAIN_ID, commit, header.time_ns)
    votes = tuple(
        CommitVote(
            flag=VoteFlag.COMMIT,
            validator_address=validator.address,
            timestamp_ns=header.time_ns,
            signature=keys[validator.public_key].sign_bytes(message),
        )
        for validator in validators.validators
    )
    return SignedHeader(header=header, commit=dataclasses.replace(commit, votes=votes))


def require_same_states(network: Network) -> None:
    """Every member computed the same app hash at every height, and wrote it under the same header."""
    seen: dict[int, bytes] = {}
    for member in network.members:
        store = member.reader()
        with store.snapshot() as reader:
            newest = load_state(reader).height
            assert newest > 10
            for height in range(1, newest + 1):
                block, after = load_block(reader, height), load_header(reader, height + 1)
                assert block is not None
                assert seen.setdefault(height, block.app_hash) == block.app_hash
                assert after is None or after.signed.header.app_hash == block.app_hash
        store.close()


# --- peers by the map


@pytest.mark.timeout(900)
def test_peers_are_those_of_the_map(directory: Path) -> None:
    network = Network(directory, 2, clients=1, others=2, parameters=PARAMETERS)
    one, two, auditor, newcomer = network.members
    for member in network.members:
        member.write(network.genesis, [one, two])  # nobody names the two others
    network.start()
    try:
        wait_for(lambda: height_of(one) >= 1, "a block", SECONDS)
        for stranger in (auditor, newcomer):
            wait_for(lambda stranger=stranger: refusals(one, stranger) > 0, f"{stranger.name} to be refused", SECONDS)
        assert (height_of(auditor), height_of(newcomer)) == (0, 0)

        observer = ObserverLeaf(key=auditor.node_key.public, effective_ms=0)
        govern(network, one, ProposalKind.OBSERVER_ADMIT, node_id=auditor.node_id, observer=observer)
        time.sleep(DELAY_MS / 1000)
        auditor.kill("both")
        auditor.start()  # CometBFT gives up on peers that refused it; a node starts its engine again
        wait_for(lambda: height_of(auditor) >= height_of(one) - 1, "the observer to follow", SECONDS)
        assert (height_of(newcomer), peers_of(newcomer)) == (0, 0)

        platform = Platform("newcomer")
        admission = platform.admission(now_ms(), nodes=platform_nodes([newcomer]))
        govern(network, one, ProposalKind.PLATFORM_ADMIT, admission=admission)
        time.sleep(DELAY_MS / 1000)
        newcomer.kill("both")
        newcomer.start()
        wait_for(lambda: height_of(newcomer) >= height_of(one) - 1, "the new platform's node to follow", SECONDS)

        decide(one, call(platform, Kind.PLATFORM_SUSPEND, PlatformSuspend()))
        wait_for_blocks(newcomer, 2)  # what is connected stays connected
        before = refusals(one, newcomer)
        newcomer.kill("both")
        newcomer.start()
        wait_for(lambda: refusals(one, newcomer) > before, "the suspended platform's node to be refused", SECONDS)
        wait_for_blocks(one, 2)
        assert peers_of(newcomer) == 0
    finally:
        network.stop()


def refusals(by: Member, stranger: Member) -> int:
    return by.log.read_text("utf-8", "replace").count(f"the engine {stranger.node_id} was not let in")


# --- pruned nodes and archives


@pytest.mark.timeout(900)
def test_a_pruned_node_and_an_archive(directory: Path) -> None:
    network = Network(directory, 2, clients=2, others=1, nodes=3)
    pruned, archive, late = network.members
    pruned.options["keep_blocks"] = 30
    for member, other in ((pruned, archive), (archive, pruned)):
        member.write(network.genesis, [other])  # neither dials the third
        member.start()
    reader = pruned.reader()
    load_of_publishes = Load(network, pruned, reader)
    try:
        wait_for(lambda: height_of(pruned) > 60, "some blocks", SECONDS)
        load_of_publishes.stop()
        wait_for(lambda: first_block(pruned) > 25, "old blocks to go", SECONDS)
        assert first_block(archive) == 1
        assert "error" in pruned.rpc("block", height="5") and "error" not in archive.rpc("block", height="5")
        pruned.kill("both")
        pruned.start()
        wait_for_blocks(pruned, 3)
        late.write(network.genesis, [pruned])
        late.start()
        wait_for(lambda: peers_of(late) == 1, "a connection", SECONDS)
        wait_for_blocks(pruned, 3)
        assert height_of(late) == 0  # nobody has the first blocks
        late.kill("both")
        late.write(network.genesis, [archive])
        late.start()
        wait_for(lambda: height_of(late) >= height_of(pruned) - 1, "all to be replayed", SECONDS)
    finally:
        load_of_publishes.stop()
        network.stop()
        reader.close()
    assert load_of_publishes.acknowledged
    stores = [member.reader() for member in (archive, late)]
    states = []
    for store in stores:
        with store.snapshot() as view:
            height = load_state(view).height
            states.append({at: load_block(view, at) for at in range(1, height + 1)})
        store.close()
    shorter = min(map(len, states))
    assert all(states[0][height] == states[1][height] for height in range(1, shorter + 1))


# --- a whole node without a vote


class Observer:
    """A node with the engine `cometbft` and no validator key."""

    def __init__(self, directory: Path, member: Member, peer: Member) -> None:
        self.data = directory / "data"
        (directory / "node.key").touch(0o600)
        (directory / "node.key").write_text(member.node_key.seed.hex(), "ascii")
        config = {
            "chain_id": CHAIN_ID,
            "data_dir": "data",
            "genesis": "genesis.json",
            "node_id": "observer-1",
            "engine": "cometbft",
            "engine_binary": str(BINARY),
            "engine_node_key": "node.key",
            "engine_rpc_port": member.rpc_port,
            "engine_listen": member.address,
            "engine_peers": f"{peer.node_id}@{peer.address}",
            "engine_one_machine": True,
            "api_port": 0,
            "workers": 1,
            "store_map_bytes": 1 << 30,
            "restart_delay_ms_min": 100,
        }
        self.config = directory / "observer.json"
        self.config.write_text(json.dumps(config), "utf-8")
        self.start()

    def start(self) -> None:
        self.process = Process("onecode.node", str(self.config))
        self.client = httpx.Client(base_url=self.process.said["url"], timeout=20)

    def serves(self) -> bool:
        return self.client.get("/v1/headers/latest").status_code == 200

    def engine(self) -> dict[str, Any]:
        return dict(self.client.get("/v1/status").json()["engine"])


@pytest.mark.timeout(900)
def test_an_observer_serves_proofs_without_a_heartbeat(directory: Path) -> None:
    network = Network(directory, 1, clients=1, others=1, parameters=PARAMETERS)
    validator, member = network.members
    validator.write(network.genesis, [], heartbeat_ms=10 * 60_000)  # nothing here may wait for one
    validator.start()
    observer = Observer(directory, member, validator)
    try:
        wait_for(lambda: refusals(validator, member) > 0, "the stranger to be refused", SECONDS)
        assert not observer.serves()
        leaf = ObserverLeaf(key=member.node_key.public, effective_ms=0)
        govern(network, validator, ProposalKind.OBSERVER_ADMIT, node_id=member.node_id, observer=leaf)
        wait_for(observer.serves, "the genesis to be served", SECONDS)
        wait_for(
            lambda: observer.engine()["peers"] == 1 and not observer.engine()["catching_up"], "its status", SECONDS
        )
        transaction = publish(network.platforms[0], Merchant("m"), 1)
        headers = {"content-type": "application/cbor"}
        answer = observer.client.post("/v1/transactions?wait=proven", content=transaction, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (200, 0)

        view = parse(LeafView, observer.client.get(f"/v1/leaves/governance/{PARAMETERS_KEY.hex()}").content)
        trust = Trust(trusted_state(view.header.header, view.validators))
        verify_header(view.header, view.validators, trust, now_ms())
        verify_roots(view.roots, view.header.header.app_hash)
        assert view.leaf is not None
        verify_presence(view.roots, Section.GOVERNANCE, PARAMETERS_KEY, view.leaf, view.proof)
        assert [one.public_key for one in view.validators.validators] == [validator.validator_key.public]

        def caught_up() -> bool:
            engine = observer.engine()
            behind = engine["catching_up"] or engine["lag_blocks"]
            return not behind and engine["height"] >= answer.json()["height"]

        wait_for(caught_up, "the status to follow", SECONDS)
        engine = observer.engine()
        assert (engine["kind"], engine["node_id"], engine["power"]) == ("cometbft", member.node_id, 0)
        assert engine["first_block"] == 1
        metrics = observer.client.get("/v1/metrics").text
        assert "\nonecode_engine_starts_total " in metrics and "\nonecode_engine_up 1\n" in metrics
        assert "\nonecode_engine_peers 1\n" in metrics

        assert observer.process.stop() == 0
        shutil.rmtree(observer.data / "store")  # all is replayed while the engine answers nothing
        observer.start()
        wait_for(observer.serves, "the replayed state to be served", SECONDS)
        found = observer.client.get("/v1/status").json()
        assert found["height"] >= answer.json()["height"]
        assert found["engine"]["node_id"] == member.node_id
    finally:
        observer.process.stop()
        network.stop()
