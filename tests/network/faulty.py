"""Four validators as real processes that may be killed, cut apart, or made to lie: a local network for tests of faults.

With namespaces every node has one of its own; without them all are on loopback and no cable can be cut.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from network.cables import Cables
from network.history import Decided, Did, Key, NodeEnd
from onecode.errors import OnecodeError
from onecode.network.local import LocalNetwork, validators_plan
from onecode.network.plan import HOST, NetworkPlan, NodePlan, PlatformPlan, free_ports
from onecode.network.processes import Child
from onecode.node.blocks import load_block, load_first, load_header, load_state
from onecode.node.store import Snapshot, open_reader
from onecode.proof.leaves import LinkList
from onecode.query.messages import BlockResult
from onecode.registry.store import Table
from onecode.registry.transactions import Kind, MerchantUnlink, RecordPublish, RecordWithdraw, parse_transaction
from onecode.schema import parse

NODES = ("alder", "birch", "cedar", "dogwood")
TWIN = "twin"  # a fifth node of dogwood's, without a vote; started only to vote with dogwood's key
HEARTBEAT_MS = 1_500
BOUND_MS = 10_000  # how old a header wallets accept here; 30 s in production
LIES = Path(__file__).parent / "lies"
SETTLE_S = 90.0
POLL_S = 0.05
HOSTS: dict[str, str] = {}  # where each node is; "outside": where everything else is


@dataclasses.dataclass(frozen=True, slots=True)
class HostedNode(NodePlan):
    """A node at an address of its own."""

    @property
    def url(self) -> str:
        return f"http://{HOSTS.get(self.slug, HOST)}:{self.api_port}"

    @property
    def p2p(self) -> str:
        return f"{HOSTS.get(self.slug, HOST)}:{self.p2p_port}"


@dataclasses.dataclass(frozen=True, slots=True)
class HostedPlatform(PlatformPlan):
    """A platform at the test's side of the bridge."""

    @property
    def url(self) -> str:
        return f"http://{HOSTS.get('outside', HOST)}:{self.port}"

    @property
    def key_service_url(self) -> str:
        return f"http://{HOSTS.get('outside', HOST)}:{self.keys_port}"


def faulty_plan() -> NetworkPlan:
    """Four validators, and a fifth node that the genesis knows; heartbeats and bounds shortened."""
    plan = validators_plan(len(NODES), chain_id="onecode-faults")
    nodes = [HostedNode(**dataclasses.asdict(one)) for one in plan.nodes]
    nodes.append(HostedNode(TWIN, NODES[3], *free_ports(3), power=0))
    platforms = tuple(HostedPlatform(**dataclasses.asdict(one)) for one in plan.platforms)
    return dataclasses.replace(
        plan, nodes=tuple(nodes), platforms=platforms, heartbeat_ms=HEARTBEAT_MS, header_age_ms_max=BOUND_MS
    )


def wait_for(condition: Callable[[], Any], what: str, seconds: float = SETTLE_S) -> Any:
    """The first true value of `condition()`."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(POLL_S)
    return found


class FaultyNetwork(LocalNetwork):
    """Four nodes with their platforms. `cables` None: all on loopback."""

    def __init__(self, directory: Path, cables: Cables | None) -> None:
        self.cables = cables
        self.lies: dict[str, Mapping[str, str]] = {}  # by node: the environment of its next start
        self.engines: dict[str, Path] = {}  # by node: another engine for its next start
        HOSTS.clear()
        if cables is not None:
            HOSTS.update({name: cables.address(name) for name in (*NODES, TWIN)}, outside=cables.outside)
        super().__init__(directory, faulty_plan)
        self._whole = self.plan
        self.plan = dataclasses.replace(self.plan, nodes=self.plan.nodes[: len(NODES)])

    # --- processes

    def _start(self, name: str, module: str, config: Path) -> Child:
        options = json.loads(config.read_bytes())
        node = next((one for one in self._whole.nodes if one.process == name), None)
        if node is not None:
            options["api_host"] = HOSTS.get(node.slug, HOST)
            options["engine_binary"] = str(self.engines.get(node.slug, options["engine_binary"]))
        else:
            options["host"] = HOSTS.get("outside", HOST)
        config.write_text(json.dumps(options), "utf-8")
        with self._surroundings(node.slug if node is not None else ""):
            return super()._start(name, module, config)

    @contextmanager
    def _surroundings(self, node: str) -> Iterator[None]:
        """The environment and the namespace in which a process of this node starts."""
        lie = self.lies.get(node, {})
        before = dict(os.environ)
        os.environ.update(lie)
        if lie:
            os.environ["PYTHONPATH"] = os.pathsep.join([str(LIES), *filter(None, [before.get("PYTHONPATH")])])
        try:
            if self.cables is not None and node:
                with self.cables.inside(node):
                    yield
            else:
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def kill_process(self, node: str, name: str) -> None:
        """kill -9 of one process of a node (its supervisor starts it again); returns when it is gone."""
        pid = self.node_processes(node)[name]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.node_processes(node).get(name) != pid, f"{name} of {node} gone")

    def kill_child(self, name: str) -> None:
        """kill -9 of a process that the test started, and of nothing else."""
        child = self.children.pop(name)
        os.kill(child.pid, signal.SIGKILL)
        wait_for(lambda: child.ended() is not None, f"{name} gone")

    def kill_supervisor(self, node: str) -> None:
        """kill -9 of a node's supervisor alone; the kernel ends what it has started, and this waits for that."""
        pids = self.node_processes(node)
        self.kill_child(self.plan.node(node).process)
        wait_for(lambda: not any(map(_runs, pids.values())), f"nothing left of {node}")

    def restart_server(self, slug: str) -> None:
        """Start a platform's server again, as its service manager would."""
        child = self._start(slug, "onecode.platform", self.places.platform(slug) / "platform.json")
        child.wait_ready(time.monotonic() + SETTLE_S)

    def restart_keys(self, slug: str) -> None:
        """Start a platform's key service again."""
        child = self._start(f"{slug}-keys", "onecode.keys", self.places.platform(slug) / "key-service.json")
        child.wait_ready(time.monotonic() + SETTLE_S)

    def restart_node(self, node: str) -> None:
        """Stop a node and start it as it should be."""
        self.stop_node(node)
        self.lies.pop(node, None)
        self.engines.pop(node, None)
        self.start_node(node)

    def start_twin(self) -> None:
        """Start the fifth node with the fourth one's validator key: two engines that vote as one validator."""
        self.plan = self._whole
        key = self.places.validator_key(TWIN)
        key.write_bytes(self.places.validator_key(NODES[3]).read_bytes())
        self.start_node(TWIN)

    def stop_twin(self) -> None:
        self.kill_node(TWIN)
        self.plan = dataclasses.replace(self._whole, nodes=self._whole.nodes[: len(NODES)])

    def heal(self) -> None:
        """Take every fault away, as well as that can be done after a scenario that failed."""
        lied = {*self.lies, *self.engines}
        self.lies.clear()
        self.engines.clear()
        if self.cables is not None:
            self.cables.join()
        self.plan = self._whole
        for node in (one.slug for one in self.running_nodes()):
            if node == TWIN or node in lied or self.children[self.plan.node(node).process].ended() is not None:
                self.kill_node(node)
        self.plan = dataclasses.replace(self._whole, nodes=self._whole.nodes[: len(NODES)])
        running = [one.slug for one in self.running_nodes()]
        for node in NODES:
            if node not in running:
                self.start_node(node)
        for slug in NODES:
            if slug not in self.children:
                self.restart_server(slug)
            if f"{slug}-keys" not in self.children:
                self.restart_keys(slug)

    # --- how it stands

    def proven(self, node: str) -> int:
        """The height whose state the node proves; 0 where it does not answer."""
        try:
            return int(self.client(node).status()["height"]) - 1
        except (OnecodeError, KeyError, TypeError):
            return 0

    def enclave_ready(self, node: str) -> bool:
        """Whether the node's enclave holds the keys of all platforms."""
        try:
            enclave = self.client(node).status().get("enclave")
        except OnecodeError:
            return False
        leases = enclave.get("leases") if isinstance(enclave, dict) else None
        return len(leases or ()) == len(self.plan.platforms)

    def wait_level(self, nodes: tuple[str, ...] = NODES, seconds: float = SETTLE_S) -> None:
        """Return when these nodes prove what the most advanced of them proves now, and one block more."""
        goal = max(map(self.proven, nodes)) + 1
        for node in nodes:
            wait_for(lambda node=node: self.proven(node) >= goal, f"{node} at height {goal}", seconds)

    # --- what is on disk

    def decided(self, node: str) -> list[Decided]:
        """What the blocks of a node did to links."""
        store = open_reader(self.places.node_directory(node) / "store")
        try:
            with store.snapshot() as reader:
                found: list[Decided] = []
                for height in range(load_first(reader), load_state(reader).height + 1):
                    block = load_block(reader, height)
                    assert block is not None, f"{node} lacks block {height}"
                    for raw, result in zip(block.transactions, block.results, strict=True):
                        found += _done(height, raw, result)
                return found
        finally:
            store.close()

    def node_end(self, node: str) -> NodeEnd:
        """App hashes and live links of a node's store."""
        store = open_reader(self.places.node_directory(node) / "store")
        try:
            with store.snapshot() as reader:
                return NodeEnd(_app_hashes(reader), _live(reader))
        finally:
            store.close()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _app_hashes(reader: Snapshot) -> dict[int, str]:
    """The state after each block, as this node computed it and as the next header signs it."""
    found: dict[int, str] = {}
    for height in range(load_first(reader), load_state(reader).height + 1):
        block, header = load_block(reader, height), load_header(reader, height + 1)
        assert block is not None
        assert header is None or header.signed.header.app_hash == block.app_hash, f"height {height}"
        found[height] = block.app_hash.hex()
    return found


def _live(reader: Snapshot) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for key, value in reader.scan(Table.LINKS):
        for link in parse(LinkList, value).links:
            found[key[:20].hex(), link.platform.hex()] = link.version
    return found


def _done(height: int, raw: bytes, result: BlockResult) -> list[Decided]:
    if result.code:
        return []
    _, body, payload = parse_transaction(raw)
    signer = body.signer.hex()
    if isinstance(payload, RecordPublish | RecordWithdraw):
        did = Did.PUBLISH if body.kind == Kind.RECORD_PUBLISH else Did.WITHDRAW
        return [
            Decided(height, did, one.merchant.hex(), signer, one.version)
            for one, code in zip(payload.items, result.item_codes, strict=True)
            if not code
        ]
    if isinstance(payload, MerchantUnlink):
        return [Decided(height, Did.UNLINK, signer, payload.platform.hex(), None)]
    return []
