"""A whole network on this machine, as real processes: one node with its enclave, and for each platform a server and a
key service. Everything is SIMULATED that one machine cannot be: the enclave's evidence, the money, the independence.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from onecode.enclave.measure import code_measurement
from onecode.errors import Misconfigured, Unreachable
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
from onecode.network.plan import NetworkPlan, Places, PlatformPlan, plan_network, plan_platform, require_free, save_plan
from onecode.network.processes import Child, stop_children
from onecode.network.wallets import WalletProfile
from onecode.platform.genesis import TRUST_FILE
from onecode.proof.governance import Proposal
from onecode.proof.leaves import Role
from onecode.proof.trust import verify_trust_file
from onecode.query.follow import Follower
from onecode.query.messages import HeaderView
from onecode.schema import parse

START_TIMEOUT_MS = 60_000
LEASE_TIMEOUT_MS = 30_000
POLL_S = 0.05
NODE = "node"
FIRST_PLATFORMS = (("alder", "Alder Pay"), ("birch", "Birch Pay"))
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
        """Start all processes and return when each is ready and the enclave has every platform's keys."""
        require_free(self.plan.node_port, NODE)
        view = setup.advance_chain(self.places, self.plan)
        for platform in self.plan.platforms:
            setup.write_trust_file(self.places, platform, view)
        try:
            self._start(NODE, "onecode.node", setup.write_node_config(self.places, self.plan))
            for platform in self.plan.platforms:
                self._start_platform(platform)
            self._wait_ready(list(self.children.values()))
            self._allow_build()
            for platform in self.plan.platforms:
                self.wait_leased(platform)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what was started: servers first, the node last, so that nothing is cut off from it."""
        node = self.children.pop(NODE, None)
        stop_children(self.children.values())
        self.children.clear()
        if node is not None:
            stop_children([node])

    def require_running(self) -> None:
        """Raise `Unreachable` naming the first process that has ended by itself."""
        for child in self.children.values():
            code = child.ended()
            if code is not None:
                raise Unreachable("network.process_gone", f"{child.name} ended with exit code {code}", field=child.name)

    def _start(self, name: str, module: str, config: Path) -> Child:
        child = Child(name, module, config, self.places.logs / f"{name}.log")
        self.children[name] = child
        return child

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
        """Return when the node's enclave holds the platform's epoch keys, attested on chain."""
        wanted = setup.identity_of(platform).hex()
        until_s = time.monotonic() + timeout_ms / 1000
        while True:
            self.require_running()
            if wanted in _leased(self._status()):
                return
            if time.monotonic() > until_s:
                raise Unreachable(
                    "network.no_lease",
                    f"the enclave got no keys from {platform.name}; see {self.places.logs}",
                    field=platform.slug,
                )
            time.sleep(POLL_S)

    def _status(self) -> dict[str, object]:
        try:
            return self.node.status()
        except Unreachable:
            return {}

    # --- who talks to it

    @property
    def node(self) -> NodeClient:
        return NodeClient(self.plan.node_url)

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
            node_urls=(self.plan.node_url,),
            allow_solo=True,
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
        now_ms = setup.clock_ms()
        return platform, self._propose(admission_proposal(admission, secrets.token_bytes(16), now_ms), now_ms)

    def approve(self, slug: str, proposal: bytes) -> None:
        """A platform's approval of a proposal."""
        governor = self._governor(self.plan.platform(slug))
        approve_proposal(self.plan.chain_id, self.node, governor, proposal, setup.clock_ms())

    def join(self, platform: PlatformPlan) -> None:
        """Start an admitted platform; returns when it is ready and the enclave has its keys."""
        view = self._verified_newest()
        setup.write_trust_file(self.places, platform, view)
        self.plan = self.plan.with_platform(platform)
        save_plan(self.places, self.plan)
        self._wait_ready(self._start_platform(platform))
        self.wait_leased(platform)

    def assign_scheme(self, guid: str, slug: str, sub_objects: tuple[str, ...]) -> None:
        """By vote of all platforms, `slug` speaks for another scheme's labels; returns when that is in force."""
        now_ms = setup.clock_ms()
        self._decide(scheme_proposal(guid, self.identity(slug), sub_objects, secrets.token_bytes(16), now_ms), now_ms)

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
        now_ms, measurements = setup.clock_ms(), (setup.measurement_of(upgraded),)
        self._decide(policy_proposal(measurements, secrets.token_bytes(16), now_ms), now_ms)
        self.plan = upgraded
        save_plan(self.places, self.plan)

    def _governor(self, platform: PlatformPlan) -> Governor:
        key = setup.load_role_key(self.places, platform, Role.GOVERNANCE)
        return Governor(setup.identity_of(platform), key)

    def _verified_newest(self) -> HeaderView:
        """The node's newest header, verified from the first platform's trust file: what the new one starts from."""
        first = self.plan.platforms[0]
        data = (self.places.platform(first.slug) / TRUST_FILE).read_bytes()
        root, now_ms = bytes.fromhex(first.root), setup.clock_ms()
        trust, _ = verify_trust_file(data, root, self.plan.chain_id, now_ms, allow_solo=True)
        view = parse(HeaderView, self.node.newest_header(), path="header")
        Follower(trust, self.plan.header_age_ms_max).verify_next(view.header, view.validators, now_ms)
        return view


def _leased(status: dict[str, object]) -> set[str]:
    """Ids of the platforms whose keys the enclave holds, in hex, as the node's status tells."""
    enclave = status.get("enclave")
    leases = enclave.get("leases") if isinstance(enclave, dict) else None
    return {str(lease.get("platform")) for lease in leases or () if isinstance(lease, dict)}
