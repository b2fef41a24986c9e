"""A whole network on this machine, as real processes: nodes with their engines and enclaves, and for each platform a
server and a key service. Everything is SIMULATED that one machine cannot be: the enclave's evidence, the money, the
independence. All keys of all organisations lie in one place: for development and demonstrations alone.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import onecode
from onecode.enclave.measure import code_measurement
from onecode.errors import Misconfigured, Unreachable
from onecode.host.clock import now_ms
from onecode.network import setup
from onecode.network.client import NodeClient, PlatformClient
from onecode.network.governance import (
    Governor,
    admission_proposal,
    approve_proposal,
    enough,
    policy_proposal,
    scheme_proposal,
    submit_proposal,
)
from onecode.network.newest import believe
from onecode.network.plan import (
    SOLO,
    NetworkPlan,
    NodePlan,
    Places,
    PlatformPlan,
    find_engine,
    plan_network,
    plan_platform,
    require_free,
    save_plan,
)
from onecode.network.processes import Child, kill_tree, node_processes, stop_children
from onecode.network.wallets import WalletProfile
from onecode.proof.governance import Proposal
from onecode.proof.leaves import Role
from onecode.query.messages import HeaderView
from onecode.schema import parse

START_TIMEOUT_MS = 60_000
LEASE_TIMEOUT_MS = 60_000
POLL_S = 0.05
FIRST_PLATFORMS = (("alder", "Alder Pay"), ("birch", "Birch Pay"))
VALIDATORS_MIN = 4  # fewer stop when one of them does
MORE_PLATFORMS = (
    ("cedar", "Cedar Pay"),
    ("dogwood", "Dogwood Pay"),
    ("elder", "Elder Pay"),
    ("fir", "Fir Pay"),
    ("ginkgo", "Ginkgo Pay"),
    ("hazel", "Hazel Pay"),
    ("ivy", "Ivy Pay"),
    ("juniper", "Juniper Pay"),
)
GOVERNANCE_DELAY_MS = 5_000  # 1 h by default elsewhere; here all governance keys lie on one machine anyway


def default_plan(chain_id: str = "solo-onecode") -> NetworkPlan:
    """Two platforms; the delays of production but for governance."""
    return plan_network(
        chain_id,
        FIRST_PLATFORMS,
        governance_delay_ms=GOVERNANCE_DELAY_MS,
        heartbeat_ms=10_000,
        sandbox_opening_minor={"EUR": 100_000, "CNY": 1_000_000},
    )


def engine_directories() -> tuple[Path, ...]:
    """Where `make cometbft` builds the engine."""
    return (Path(onecode.__file__).absolute().parents[2] / "bin",)


def validators_plan(validators: int, engine: Path | None = None, chain_id: str = "onecode-local") -> NetworkPlan:
    """As many validators as platforms, each platform operating one. `engine`: CometBFT, else it is looked for."""
    names = (*FIRST_PLATFORMS, *MORE_PLATFORMS)
    if not VALIDATORS_MIN <= validators <= len(names):
        raise Misconfigured(
            "network.validators_number",
            f"a network has 1 validator (solo) or {VALIDATORS_MIN} to {len(names)}, which go on without one of them",
            field="validators",
        )
    return plan_network(
        chain_id,
        names[:validators],
        governance_delay_ms=GOVERNANCE_DELAY_MS,
        heartbeat_ms=10_000,
        sandbox_opening_minor={"EUR": 100_000, "CNY": 1_000_000},
        engine_binary=find_engine(engine, engine_directories()),
    )


class LocalNetwork:
    """A network in one directory. Use it as a context manager: leaving it stops every process it started."""

    def __init__(self, directory: Path, plan: Callable[[], NetworkPlan] = default_plan) -> None:
        """`plan` is asked only where the directory holds no network yet."""
        self.places = Places(directory.absolute())
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.plan = setup.open_network(self.places, plan, secrets.token_bytes)
        self.children: dict[str, Child] = {}

    def __enter__(self) -> LocalNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- start and stop

    def start(self) -> None:
        """Start all processes and return when each is ready and every enclave has every platform's keys."""
        for node in self.plan.nodes:
            require_free(node.api_port, node.process)
        try:
            if self.plan.engine == SOLO:
                self._begin_solo()
            else:
                self._begin_validators()
            for platform in self.plan.platforms:
                self._start_platform(platform)
            self._wait_ready(list(self.children.values()))
            self._allow_build()
            for platform in self.plan.platforms:
                self.wait_leased(platform)
        except BaseException:
            self.stop()
            raise

    def _begin_solo(self) -> None:
        view = setup.advance_chain(self.places, self.plan)
        for platform in self.plan.platforms:
            setup.write_trust_file(self.places, platform, view)
        setup.write_enclave_config(self.places, self.plan, self.plan.nodes[0])
        self._start_node(self.plan.nodes[0])

    def _begin_validators(self) -> None:
        """There is no header to trust before the validators run: they go first, their enclaves follow by themselves
        once each platform's operator has believed a header and written its trust file."""
        find_engine(Path(self.plan.engine_binary), ())
        for node in self.plan.nodes:
            (self.places.node_directory(node.slug) / setup.ENCLAVE_FILE).unlink(missing_ok=True)
        self._wait_ready([self._start_node(node) for node in self.plan.nodes])
        view = self._first_header()
        for platform in self.plan.platforms:
            believe(self.places, self.plan, platform, view, now_ms())
            setup.write_trust_file(self.places, platform, view)
        for node in self.plan.nodes:
            setup.write_enclave_config(self.places, self.plan, node)

    def _first_header(self) -> HeaderView:
        """The newest header that proves a state, as soon as there is one."""
        until_s = time.monotonic() + START_TIMEOUT_MS / 1000
        while True:
            self.require_running()
            try:
                return parse(HeaderView, self.node.newest_header(), path="header")
            except Unreachable:
                if time.monotonic() > until_s:
                    raise
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop what was started: servers first, the nodes last, so that nothing is cut off from them."""
        nodes = [self.children.pop(node.process) for node in self.plan.nodes if node.process in self.children]
        stop_children(self.children.values())
        self.children.clear()
        stop_children(nodes)

    def require_running(self) -> None:
        """Raise `Unreachable` naming the first process that has ended by itself."""
        for child in self.children.values():
            code = child.ended()
            if code is not None:
                raise Unreachable("network.process_gone", f"{child.name} ended with exit code {code}", field=child.name)

    # --- single nodes, for tests of what happens without them

    def running_nodes(self) -> list[NodePlan]:
        """The nodes that were started and not stopped."""
        return [node for node in self.plan.nodes if node.process in self.children]

    def stop_node(self, slug: str) -> None:
        """Ask all processes of one node to end; returns when they have."""
        stop_children([self.children.pop(self.plan.node(slug).process)])

    def kill_node(self, slug: str) -> None:
        """kill -9 of all processes of one node; returns when they are gone."""
        child = self.children.pop(self.plan.node(slug).process)
        kill_tree(child.pid)
        child.wait_stopped(time.monotonic() + START_TIMEOUT_MS / 1000)

    def start_node(self, slug: str) -> None:
        """Start a node that was stopped or killed; returns when it is ready, which is before it has caught up."""
        node = self.plan.node(slug)
        require_free(node.api_port, node.process)
        self._wait_ready([self._start_node(node)])

    def node_processes(self, slug: str) -> dict[str, int]:
        """Process ids of a running node by what they are: supervisor, writer, engine, worker-0, enclave,
        enclave-worker-0. What does not run now is left out."""
        return node_processes(self.children[self.plan.node(slug).process].pid)

    def wait_height(self, height: int, timeout_ms: int = START_TIMEOUT_MS) -> None:
        """Return when each running node proves the state after this block."""
        until_s = time.monotonic() + timeout_ms / 1000
        for node in self.running_nodes():
            while _proven_height(_status(node)) <= height:
                self.require_running()
                if time.monotonic() > until_s:
                    raise Unreachable(
                        "network.behind", f"{node.process} does not reach height {height}; see {self.places.logs}"
                    )
                time.sleep(POLL_S / 5)

    # --- processes

    def _start(self, name: str, module: str, config: Path) -> Child:
        child = Child(name, module, config, self.places.logs / f"{name}.log")
        self.children[name] = child
        return child

    def _start_node(self, node: NodePlan) -> Child:
        return self._start(node.process, "onecode.node", setup.write_node_config(self.places, self.plan, node))

    def _start_platform(self, platform: PlatformPlan) -> list[Child]:
        server, service = setup.write_platform_configs(self.places, self.plan, platform)
        return [
            self._start(f"{platform.slug}-keys", "onecode.keys", service),
            self._start(platform.slug, "onecode.platform", server),
        ]

    def _wait_ready(self, children: list[Child]) -> None:
        until_s = time.monotonic() + START_TIMEOUT_MS / 1000
        for child in children:
            child.wait_ready(until_s)

    def wait_leased(self, platform: PlatformPlan, timeout_ms: int = LEASE_TIMEOUT_MS) -> None:
        """Return when the enclave of each running node holds the platform's epoch keys, attested on chain."""
        wanted = setup.identity_of(platform).hex()
        until_s = time.monotonic() + timeout_ms / 1000
        for node in self.running_nodes():
            while wanted not in _leased(_status(node)):
                self.require_running()
                if time.monotonic() > until_s:
                    raise Unreachable(
                        "network.no_lease",
                        f"the enclave of {node.process} got no keys from {platform.name}; see {self.places.logs}",
                        field=platform.slug,
                    )
                time.sleep(POLL_S)

    # --- who talks to it

    @property
    def node(self) -> NodeClient:
        """The first node that runs."""
        running = self.running_nodes()
        return NodeClient(running[0].url if running else self.plan.node_url)

    def client(self, slug: str) -> NodeClient:
        """A node by its slug."""
        return NodeClient(self.plan.node(slug).url)

    def operator(self, slug: str) -> PlatformClient:
        """The operator's client of a platform."""
        platform = self.plan.platform(slug)
        return PlatformClient(platform.url, platform.operator_token)

    def identity(self, slug: str) -> bytes:
        """A platform's id."""
        return setup.identity_of(self.plan.platform(slug))

    def profile(self, slug: str) -> WalletProfile:
        """What a wallet of this platform is built with."""
        platform = self.plan.platform(slug)
        return WalletProfile(
            chain_id=self.plan.chain_id,
            platform=setup.identity_of(platform).hex(),
            platform_name=platform.name,
            platform_root=platform.root,
            platform_url=platform.url,
            node_urls=tuple(node.url for node in self.plan.nodes_of(slug)),
            allow_solo=self.plan.allow_solo,
            header_age_ms_max=self.plan.header_age_ms_max,
        )

    # --- a platform that joins later

    def propose_platform(self, slug: str, name: str) -> tuple[PlatformPlan, bytes]:
        """Make a new platform's keys; the first platform proposes to admit it. Returns its plan and the proposal."""
        if any(one.slug == slug for one in self.plan.platforms):
            raise Misconfigured("network.platform_exists", f"this network has a platform {slug!r} already")
        platform = plan_platform(slug, name)
        admission = setup.create_keys(self.places, self.plan, platform, secrets.token_bytes)
        platform = dataclasses.replace(platform, root=admission.root.hex())
        at_ms = now_ms()
        return platform, self._propose(admission_proposal(admission, secrets.token_bytes(16), at_ms), at_ms)

    def approve(self, slug: str, proposal: bytes) -> None:
        """A platform's approval of a proposal."""
        governor = self._governor(self.plan.platform(slug))
        approve_proposal(self.plan.chain_id, self.node, governor, proposal, now_ms())

    def join(self, platform: PlatformPlan) -> None:
        """Start an admitted platform; returns when it is ready and the enclave has its keys."""
        view = parse(HeaderView, self.node.newest_header(), path="header")
        believe(self.places, self.plan, self.plan.platforms[0], view, now_ms())
        setup.write_trust_file(self.places, platform, view)
        self.plan = self.plan.with_platform(platform)
        save_plan(self.places, self.plan)
        self._wait_ready(self._start_platform(platform))
        self.wait_leased(platform)

    def assign_scheme(self, guid: str, slug: str, sub_objects: tuple[str, ...]) -> None:
        """By vote of all platforms, `slug` speaks for another scheme's labels; returns when that is in force."""
        at_ms = now_ms()
        self._decide(scheme_proposal(guid, self.identity(slug), sub_objects, secrets.token_bytes(16), at_ms), at_ms)

    def _decide(self, proposal: Proposal, now_ms: int) -> None:
        """Propose, have it approved by as many as it takes, and wait until it is in force."""
        identity = self._propose(proposal, now_ms)
        for approvals, platform in enumerate(self.plan.platforms[1:], start=1):
            if not enough(approvals, len(self.plan.platforms)):
                self.approve(platform.slug, identity)
        time.sleep(self.plan.governance_delay_ms / 1000)

    def _propose(self, proposal: Proposal, now_ms: int) -> bytes:
        proposer = self._governor(self.plan.platforms[0])
        return submit_proposal(self.plan.chain_id, self.node, proposer, proposal, now_ms)

    def _allow_build(self) -> None:
        """After an upgrade of the enclave's code: the platforms allow the new build, not the old, by governance."""
        upgraded = dataclasses.replace(self.plan, measurement=code_measurement().hex())
        if upgraded == self.plan:
            return
        at_ms, measurements = now_ms(), (setup.measurement_of(upgraded),)
        self._decide(policy_proposal(measurements, secrets.token_bytes(16), at_ms), at_ms)
        self.plan = upgraded
        save_plan(self.places, self.plan)

    def _governor(self, platform: PlatformPlan) -> Governor:
        key = setup.load_role_key(self.places, platform, Role.GOVERNANCE)
        return Governor(setup.identity_of(platform), key)


def _status(node: NodePlan) -> dict[str, object]:
    """The node's word about itself; nothing while it does not answer."""
    try:
        return NodeClient(node.url).status()
    except Unreachable:
        return {}


def _leased(status: dict[str, object]) -> set[str]:
    """Ids of the platforms whose keys the enclave holds, in hex, as the node's status tells."""
    enclave = status.get("enclave")
    leases = enclave.get("leases") if isinstance(enclave, dict) else None
    return {str(lease.get("platform")) for lease in leases or () if isinstance(lease, dict)}


def _proven_height(status: dict[str, object]) -> int:
    """Height of the header that proves the newest state, 0 where there is none."""
    height = status.get("height")
    return height if isinstance(height, int) else 0
