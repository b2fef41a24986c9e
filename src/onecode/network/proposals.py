"""Proposals of governance: built from what the chain says now, looked up, told in words before they are approved.

What is read here is the word of the organisation's own node. A proposal's id is the hash of its bytes, so whoever
approves an id that was read aloud approves what is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from onecode.code.identity import platform_id
from onecode.errors import Declined, Malformed, Untrusted
from onecode.network.ceremony import VerifiedNode
from onecode.network.client import NodeClient
from onecode.proof.governance import (
    ENCLAVE_POLICY_KEY,
    PARAMETERS_KEY,
    PLATFORMS_KEY,
    RULES_KEY,
    VALIDATORS_KEY,
    Admission,
    EnclavePolicy,
    Measurement,
    ObserverLeaf,
    Parameters,
    PlatformsLeaf,
    Proposal,
    ProposalKind,
    ProposalLeaf,
    RulesLeaf,
    ValidatorLeaf,
    ValidatorsLeaf,
    proposal_key,
)
from onecode.proof.leaves import PlatformLeaf
from onecode.proof.map import Section
from onecode.query.messages import LeafView
from onecode.registry.proposals import RULES_LEAD_BLOCKS
from onecode.registry.transactions import proposal_id
from onecode.schema import M, Message, parse, to_plain
from onecode.wire import sha256

BLOCKS_LOOKED_BACK = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """A proposal with its state."""

    identity: bytes
    leaf: ProposalLeaf
    proposal: Proposal

    @property
    def state(self) -> str:
        return "executed" if self.leaf.executed else "open"


def load_leaf(node: NodeClient, section: Section, key: bytes, kind: type[M]) -> M | None:
    """A leaf as the node has it now, or None."""
    view = parse(LeafView, node.leaf(section, key), path="leaf")
    return None if view.leaf is None else parse(kind, view.leaf)


def _need(node: NodeClient, key: bytes, kind: type[M]) -> M:
    found = load_leaf(node, Section.GOVERNANCE, key, kind)
    if found is None:
        raise Untrusted("governance.leaf", f"the node at {node.url} has no {key.decode()}: is it one of this network?")
    return found


# --- building --------------------------------------------------------------------------------------------------------


class Proposals:
    """Builds proposals on a node's newest state. `salt` gives 16 random bytes; all expire as late as the chain allows,
    less a minute for clocks that differ."""

    def __init__(self, node: NodeClient, now_ms: int, salt: bytes) -> None:
        self._node = node
        self._salt = salt
        self._expires_ms = now_ms + _need(node, PARAMETERS_KEY, Parameters).proposal_expiry_ms - 60_000

    def _replacing(self, kind: ProposalKind, leaf: Message, **fields: Any) -> Proposal:
        """One that does nothing once another has changed the leaf."""
        return self._make(kind, replaces=sha256(leaf.encoded()), **fields)

    def _make(self, kind: ProposalKind, **fields: Any) -> Proposal:
        return Proposal(kind=kind, expires_ms=self._expires_ms, salt=self._salt, **fields)

    def admit(self, admission: Admission) -> Proposal:
        return self._make(ProposalKind.PLATFORM_ADMIT, admission=admission)

    def suspend(self, platform: bytes) -> Proposal:
        return self._make(ProposalKind.PLATFORM_SUSPEND, platform=platform)

    def restore(self, platform: bytes) -> Proposal:
        return self._make(ProposalKind.PLATFORM_RESTORE, platform=platform)

    def observer(self, node_id: str, key: bytes | None) -> Proposal:
        """To admit an observer node; without a key, to remove it."""
        leaf = None if key is None else ObserverLeaf(key=key, effective_ms=0)
        return self._make(ProposalKind.OBSERVER_ADMIT, node_id=node_id, observer=leaf)

    def rules(self, version: int, height: int) -> Proposal:
        """The next rule version from a height on."""
        leaf = _need(self._node, RULES_KEY, RulesLeaf)
        newest = int(self._node.status()["height"])
        if height < newest + RULES_LEAD_BLOCKS:
            raise Declined(
                "governance.rules_height",
                f"new rules begin at the earliest {RULES_LEAD_BLOCKS} blocks after the last approval: the chain is at "
                f"{newest}; leave time for approvals too",
                field="height",
            )
        rules = RulesLeaf(version=leaf.version_at(newest), next_version=version, next_height=height)
        return self._make(ProposalKind.RULES_ACTIVATE, rules=rules)

    def build(self, kind: str, measurement: bytes, *, remove: bool) -> Proposal:
        """The enclave builds of now with one more, or without one."""
        policy = _need(self._node, ENCLAVE_POLICY_KEY, EnclavePolicy)
        now = policy.measurements
        others = tuple(one for one in now if (one.kind, one.measurement) != (kind, measurement))
        if remove == (others == now):
            what = "is not among the allowed ones" if remove else "is allowed, or waits for its delay, already"
            raise Declined("governance.build", f"that build {what}", field="measurement")
        new = () if remove else (Measurement(kind=kind, measurement=measurement, effective_ms=0),)
        return self._replacing(ProposalKind.ENCLAVE_POLICY, policy, measurements=(*others, *new))

    def add_validator(self, node: VerifiedNode, power: int | None) -> Proposal:
        """The validators of now with one more, whose key signed for itself. power: None for that of the first one."""
        leaf = self._validators()
        validators = {one.key: one for one in leaf.validators}
        power = power or min(validators.values(), key=lambda one: one.key).power
        if node.body.validator in validators and validators[node.body.validator].power == power:
            raise Declined("governance.validator_there", "that validator has this power already", field="validator")
        new = ValidatorLeaf(key=node.body.validator, power=power, platform=node.body.platform)
        return self._set_validators(leaf, {**validators, new.key: new})

    def remove_validator(self, key: bytes) -> Proposal:
        """The validators of now without one."""
        leaf = self._validators()
        validators = {one.key: one for one in leaf.validators}
        if validators.pop(key, None) is None:
            raise Declined("governance.validator_unknown", "no validator has that key now", field="validator")
        return self._set_validators(leaf, validators)

    def _validators(self) -> ValidatorsLeaf:
        """Those of now. A change that waits for its delay would be lost by another one, which is refused."""
        leaf = _need(self._node, VALIDATORS_KEY, ValidatorsLeaf)
        if leaf.pending:
            raise Declined(
                "governance.validators_pending",
                f"another change of validators takes effect at {leaf.pending_ms}; propose this one after it",
            )
        return leaf

    def _set_validators(self, leaf: ValidatorsLeaf, validators: dict[bytes, ValidatorLeaf]) -> Proposal:
        ordered = tuple(validators[key] for key in sorted(validators))
        return self._replacing(ProposalKind.VALIDATOR_SET, leaf, validators=ordered)


# --- looking ---------------------------------------------------------------------------------------------------------


def fetch_proposal(node: NodeClient, chain_id: str, identity: bytes) -> Found:
    """The proposal with this id, whose bytes have it as their hash."""
    leaf = load_leaf(node, Section.GOVERNANCE, proposal_key(identity), ProposalLeaf)
    if leaf is None:
        raise Declined(
            "governance.proposal_unknown", "the chain has no proposal with that id", field="proposal", status=404
        )
    if proposal_id(chain_id, leaf.body) != identity:
        raise Untrusted(
            "governance.proposal", "the node gave another proposal than the one of that id", field="proposal"
        )
    return Found(identity, leaf, parse(Proposal, leaf.body))


def list_proposals(node: NodeClient, chain_id: str, header: Callable[[str, str], dict[str, str]]) -> list[Found]:
    """All proposals of the last blocks, oldest first. `header` as for `NodeClient.changes`."""
    status = node.status()
    newest = int(status["height"])
    first = max(int(status["first_block"]), newest - BLOCKS_LOOKED_BACK, 1)
    identities: dict[str, None] = {}
    if newest > first:
        for line in node.changes(first, header):
            if "height" not in line:
                raise Malformed("http.json", "the node ended its stream of changes with an error")
            for change in line["transactions"]:
                found = [one["proposal"] for one in change["events"] if one["event"] == "ProposalSubmitted"]
                identities.update(dict.fromkeys(found))
            if line["height"] >= newest - 1:
                break
    return [fetch_proposal(node, chain_id, bytes.fromhex(one)) for one in identities]


def platform_names(node: NodeClient) -> dict[bytes, str]:
    """Names of all platforms that were ever admitted, each with the start of its id: a name is not anybody's alone."""
    names = {}
    for platform in _need(node, PLATFORMS_KEY, PlatformsLeaf).platforms:
        leaf = load_leaf(node, Section.PLATFORMS, platform, PlatformLeaf)
        names[platform] = f"{leaf.name if leaf is not None else '?'} ({platform.hex()[:8]})"
    return names


def load_replaced(node: NodeClient, proposal: Proposal) -> ValidatorsLeaf | EnclavePolicy | None:
    """The leaf as it is now that the proposal would take the place of; None for one that replaces no leaf."""
    if proposal.kind == ProposalKind.VALIDATOR_SET:
        return _need(node, VALIDATORS_KEY, ValidatorsLeaf)
    if proposal.kind == ProposalKind.ENCLAVE_POLICY:
        return _need(node, ENCLAVE_POLICY_KEY, EnclavePolicy)
    return None


def proposal_lines(
    found: Found, names: dict[bytes, str], replaced: ValidatorsLeaf | EnclavePolicy | None = None
) -> list[str]:
    """A proposal in words. replaced: what `load_replaced` gives for it, with which it is compared."""
    proposal = found.proposal
    kind = proposal.kind.name.lower().replace("_", "-")
    lines = [f"proposal {found.identity.hex()}", f"  {kind}, {found.state}, by {names.get(found.leaf.proposer, '?')}"]
    approving = ", ".join(names.get(one.platform, one.platform.hex()) for one in found.leaf.approvals)
    expires = datetime.fromtimestamp(found.leaf.expires_ms / 1000, UTC).isoformat(timespec="seconds")
    lines += [f"  approved by {approving}", f"  expires {expires}"]
    if isinstance(replaced, ValidatorsLeaf):
        lines += _validator_lines(proposal, replaced, names)
    elif isinstance(replaced, EnclavePolicy):
        lines += _build_lines(proposal, replaced)
    else:
        if proposal.admission is not None:
            lines.append(f"  platform id  {platform_id(proposal.admission.root).hex()}")
        fields = {
            name: value for name, value in to_plain(proposal).items() if name not in ("kind", "salt", "expires_ms")
        }
        lines += [f"  {line}" for line in flat(fields)]
    if replaced is not None and not found.leaf.executed:
        lines += _base_lines(proposal, replaced)
    return lines


def _validator_lines(proposal: Proposal, before: ValidatorsLeaf, names: dict[bytes, str]) -> list[str]:
    """All validators that are to be, with what changes: against those that are to be already, where a set waits."""
    now = {one.key: one for one in before.pending or before.validators}
    lines = []
    for one in proposal.validators or ():
        old, owner = now.pop(one.key, None), names.get(one.platform, one.platform.hex())
        change = "" if old == one else "  <- new" if old is None else "  <- power or platform"
        lines.append(f"  {one.key.hex()}  power {one.power}  {owner}{change}")
    return lines + [f"  {key.hex()}  <- removed" for key in sorted(now)]


def _build_lines(proposal: Proposal, before: EnclavePolicy) -> list[str]:
    """All builds that are to be allowed, with what changes."""
    now = {(one.kind, one.measurement) for one in before.measurements}
    then = {(one.kind, one.measurement) for one in proposal.measurements or ()}
    lines = [f"  {kind}  {build.hex()}{'' if (kind, build) in now else '  <- new'}" for kind, build in sorted(then)]
    lines += [f"  {kind}  {build.hex()}  <- removed, at once" for kind, build in sorted(now - then)]
    return lines if then else [*lines, "  no enclave build is allowed any more"]


def _base_lines(proposal: Proposal, replaced: Message) -> list[str]:
    """A warning where the proposal was not made from what it would replace."""
    if proposal.replaces == sha256(replaced.encoded()):
        return []
    if proposal.replaces is not None:
        return ["  OUTDATED: what it replaces has changed since, so it can do nothing; it has to be proposed again"]
    return ["  CAUTION: it does not say what it replaces, so it undoes whatever is decided before it"]


def flat(value: Any, name: str = "") -> list[str]:
    """Lines of dotted names and values."""
    if isinstance(value, dict):
        return [line for key, one in value.items() for line in flat(one, f"{name}.{key}" if name else key)]
    if isinstance(value, list) and value:
        return [line for index, one in enumerate(value) for line in flat(one, f"{name}[{index}]")]
    return [f"{name}  {value}"]
