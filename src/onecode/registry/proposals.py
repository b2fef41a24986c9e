"""What an approved proposal does. What narrows takes effect at once, what widens after the governance delay."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable

from onecode.code.identity import platform_id
from onecode.code.layout import GUID as OWN_GUID
from onecode.proof.governance import (
    ENCLAVE_POLICY_KEY,
    PLATFORMS_KEY,
    RULES_KEY,
    SERVICES_KEY,
    VALIDATORS_KEY,
    Admission,
    EnclavePolicy,
    Measurement,
    ObserverLeaf,
    PendingService,
    PlatformsLeaf,
    Proposal,
    ProposalKind,
    SchemeLeaf,
    ServicesLeaf,
    ValidatorLeaf,
    observer_key,
    scheme_key,
)
from onecode.proof.leaves import PlatformLeaf, PlatformStatus
from onecode.proof.map import Section
from onecode.registry.context import Context
from onecode.registry.events import PlatformChanged
from onecode.registry.results import Result
from onecode.registry.rules_freezes import freeze_merchant
from onecode.registry.rules_platforms import first_keys
from onecode.registry.state import State
from onecode.schema import Message
from onecode.wire import encode, sha256

PLATFORMS_MAX = 1000
SERVICES_IN_FORCE_MAX = 256
SERVICES_PENDING_MAX = 64
RULES_LEAD_BLOCKS = 1_000  # between execution and the new rules: time for operators to install what knows them
SUB_OBJECT = re.compile("(?!00)[0-9]{2}")  # of an alias; 00 is the GUID

# Fields that a proposal of each kind has, and those that it may have.
FIELDS: dict[ProposalKind, tuple[frozenset[str], frozenset[str]]] = {
    ProposalKind.PLATFORM_ADMIT: (frozenset({"admission"}), frozenset()),
    ProposalKind.PLATFORM_SUSPEND: (frozenset({"platform"}), frozenset()),
    ProposalKind.PLATFORM_RESTORE: (frozenset({"platform"}), frozenset()),
    ProposalKind.VALIDATOR_SET: (frozenset({"validators"}), frozenset({"replaces"})),
    ProposalKind.ENCLAVE_POLICY: (frozenset({"measurements"}), frozenset({"replaces"})),
    ProposalKind.SERVICE_SET: (frozenset({"service"}), frozenset({"service_remove"})),
    ProposalKind.SCHEME_ASSIGN: (frozenset({"guid", "scheme"}), frozenset()),
    ProposalKind.OBSERVER_ADMIT: (frozenset({"node_id"}), frozenset({"observer"})),
    ProposalKind.RULES_ACTIVATE: (frozenset({"rules"}), frozenset()),
    ProposalKind.MERCHANT_FREEZE: (frozenset({"merchant"}), frozenset()),
}
_COMMON = frozenset({"kind", "expires_ms", "salt"})


def fields_fit(proposal: Proposal) -> bool:
    """Whether the proposal has exactly the fields of its kind."""
    present = {spec.name for spec in Proposal.FIELDS if getattr(proposal, spec.name) is not None} - _COMMON
    needed, allowed = FIELDS[proposal.kind]
    return needed <= present <= needed | allowed


def execute_proposal(context: Context, proposal: Proposal) -> Result:
    """Do what the proposal says; the first code that fails, after which the caller rolls back."""
    return _EFFECTS[proposal.kind](context, proposal)


def admit_platform(state: State, admission: Admission, height: int, time_ms: int, active_from_ms: int) -> Result:
    """A new platform; genesis admits its first ones through here too."""
    identity = platform_id(admission.root)
    admitted = state.get(Section.GOVERNANCE, PLATFORMS_KEY, PlatformsLeaf) or PlatformsLeaf(platforms=())
    if identity in admitted.platforms:
        return Result.PLATFORM_EXISTS
    if len(admitted.platforms) >= PLATFORMS_MAX:
        return Result.PLATFORMS_FULL
    keys = first_keys(admission.root, admission.keys, height, time_ms)
    if isinstance(keys, Result):
        return keys
    if len({node.node_id for node in admission.nodes}) != len(admission.nodes):
        return Result.NODES_TWICE
    leaf = PlatformLeaf(
        root=admission.root,
        name=admission.name,
        status=PlatformStatus.ACTIVE,
        keys=keys,
        epoch_min=0,
        active_from_ms=active_from_ms,
        url=admission.url,
        key_service_url=admission.key_service_url,
        nodes=admission.nodes,
    )
    state.put_platform(identity, leaf)
    listed = PlatformsLeaf(platforms=tuple(sorted((*admitted.platforms, identity))))
    state.put(Section.GOVERNANCE, PLATFORMS_KEY, listed)
    return Result.OK


def validators_code(state: State, validators: tuple[ValidatorLeaf, ...]) -> Result:
    """Whether this can be the engine's validator set."""
    if not validators:
        return Result.VALIDATORS
    if any(a.key >= b.key for a, b in itertools.pairwise(validators)):
        return Result.VALIDATORS
    for validator in validators:
        platform = state.platform(validator.platform)
        if validator.power < 1 or platform is None or platform.status != PlatformStatus.ACTIVE:
            return Result.VALIDATORS
    return Result.OK


def builds_twice(measurements: tuple[Measurement, ...]) -> bool:
    """Whether an enclave policy names one build twice."""
    return len({(one.kind, one.measurement) for one in measurements}) != len(measurements)


def _delayed_ms(context: Context) -> int:
    return context.time_ms + context.state.parameters().governance_delay_ms


def _admit(context: Context, proposal: Proposal) -> Result:
    admission = proposal.admission
    if admission is None:
        return Result.PROPOSAL_MALFORMED
    code = admit_platform(context.state, admission, context.height, context.time_ms, _delayed_ms(context))
    context.events.append(PlatformChanged(platform_id(admission.root)))
    return code


def _suspend(context: Context, proposal: Proposal) -> Result:
    return _set_status(context, proposal, PlatformStatus.SUSPENDED)


def _restore(context: Context, proposal: Proposal) -> Result:
    return _set_status(context, proposal, PlatformStatus.ACTIVE)


def _set_status(context: Context, proposal: Proposal, status: PlatformStatus) -> Result:
    if proposal.platform is None:
        return Result.PROPOSAL_MALFORMED
    leaf = context.state.platform(proposal.platform)
    if leaf is None:
        return Result.PLATFORM_UNKNOWN
    if leaf.status == status:
        return Result.PLATFORM_STATUS
    since_ms = _delayed_ms(context) if status == PlatformStatus.ACTIVE else leaf.active_from_ms
    context.state.put_platform(proposal.platform, dataclasses.replace(leaf, status=status, active_from_ms=since_ms))
    context.events.append(PlatformChanged(proposal.platform))
    return Result.OK


def _outdated(proposal: Proposal, leaf: Message) -> bool:
    """Whether the proposal says which leaf it replaces, and this is another one."""
    return proposal.replaces is not None and proposal.replaces != sha256(leaf.encoded())


def _set_validators(context: Context, proposal: Proposal) -> Result:
    """The new set waits in `pending`; another one in its place begins the delay anew."""
    pending, old = proposal.validators or (), context.state.validators()
    if _outdated(proposal, old):
        return Result.PROPOSAL_OUTDATED
    if code := validators_code(context.state, pending):
        return code
    leaf = dataclasses.replace(old, pending=pending, pending_ms=_delayed_ms(context))
    context.state.put(Section.GOVERNANCE, VALIDATORS_KEY, leaf)
    return Result.OK


def _set_policy(context: Context, proposal: Proposal) -> Result:
    """What is left out is gone at once; what is new waits; what stays keeps its time. Given times are ignored."""
    given, old = proposal.measurements or (), context.state.enclave_policy()
    if _outdated(proposal, old):
        return Result.PROPOSAL_OUTDATED
    if builds_twice(given):
        return Result.MEASUREMENTS
    since = {(one.kind, one.measurement): one.effective_ms for one in old.measurements}
    delayed_ms = _delayed_ms(context)
    measurements = tuple(
        dataclasses.replace(one, effective_ms=since.get((one.kind, one.measurement), delayed_ms))
        for one in sorted(given, key=lambda one: (one.kind, one.measurement))
    )
    policy = EnclavePolicy(measurements=measurements, serial=old.serial + 1)
    context.state.put(Section.GOVERNANCE, ENCLAVE_POLICY_KEY, policy)
    return Result.OK


def _set_service(context: Context, proposal: Proposal) -> Result:
    """Adds a service after the delay, or removes one at once: its records may be withdrawn, no more published."""
    leaf, name = context.state.services(), proposal.service or ""
    due = [one.service for one in leaf.pending if context.time_ms >= one.effective_ms]
    waiting = [one for one in leaf.pending if context.time_ms < one.effective_ms]
    in_force = {*leaf.services, *due}
    if proposal.service_remove:
        if name not in in_force and all(one.service != name for one in waiting):
            return Result.SERVICE_STATE
        in_force.discard(name)
        waiting = [one for one in waiting if one.service != name]
    else:
        if name in in_force or any(one.service == name for one in waiting):
            return Result.SERVICE_STATE
        if len(in_force) + len(waiting) >= SERVICES_IN_FORCE_MAX or len(waiting) >= SERVICES_PENDING_MAX:
            return Result.SERVICES_LIST_FULL
        waiting.append(PendingService(service=name, effective_ms=_delayed_ms(context)))
    changed = ServicesLeaf(services=tuple(sorted(in_force, key=encode)), pending=tuple(waiting))
    context.state.put(Section.GOVERNANCE, SERVICES_KEY, changed)
    return Result.OK


def _assign_scheme(context: Context, proposal: Proposal) -> Result:
    """The platform that spoke for the scheme so far stops at once, the new one begins after the delay."""
    scheme, key = proposal.scheme, scheme_key(proposal.guid or "")
    if scheme is None:
        return Result.PROPOSAL_MALFORMED
    if context.state.platform(scheme.platform) is None:
        return Result.PLATFORM_UNKNOWN
    old = context.state.get(Section.GOVERNANCE, key, SchemeLeaf)
    if proposal.guid == OWN_GUID or len(set(scheme.sub_objects)) != len(scheme.sub_objects):
        return Result.SCHEME_SHAPE
    if not all(SUB_OBJECT.fullmatch(one) for one in scheme.sub_objects):
        return Result.SCHEME_SHAPE
    if old is not None and old.sub_objects != scheme.sub_objects:
        return Result.SCHEME_SHAPE
    context.state.put(Section.GOVERNANCE, key, dataclasses.replace(scheme, effective_ms=_delayed_ms(context)))
    return Result.OK


def _admit_observer(context: Context, proposal: Proposal) -> Result:
    """Admits an observer node after the delay; without `observer` removes it at once."""
    key = observer_key(proposal.node_id or "")
    if proposal.observer is not None:
        leaf = dataclasses.replace(proposal.observer, effective_ms=_delayed_ms(context))
        context.state.put(Section.GOVERNANCE, key, leaf)
    elif context.state.get(Section.GOVERNANCE, key, ObserverLeaf) is None:
        return Result.OBSERVER_UNKNOWN
    else:
        context.state.delete(Section.GOVERNANCE, key)
    return Result.OK


def _activate_rules(context: Context, proposal: Proposal) -> Result:
    """A next rule version from a height on, in place of one that waits; nodes that do not know it halt there."""
    rules = proposal.rules
    current = context.state.rules().version_at(context.height)
    if rules is None or rules.version != current or rules.next_version is None or rules.next_height is None:
        return Result.RULES
    if rules.next_version <= current or rules.next_height < context.height + RULES_LEAD_BLOCKS:
        return Result.RULES
    context.state.put(Section.GOVERNANCE, RULES_KEY, rules)
    return Result.OK


def _freeze(context: Context, proposal: Proposal) -> Result:
    """A freeze that needs no pause since the last one."""
    merchant = proposal.merchant or b""
    entry = context.state.merchant(merchant, context.time_ms)
    if entry is None:
        return Result.MERCHANT_UNKNOWN
    freeze_merchant(context, merchant, entry)
    return Result.OK


_EFFECTS: dict[ProposalKind, Callable[[Context, Proposal], Result]] = {
    ProposalKind.PLATFORM_ADMIT: _admit,
    ProposalKind.PLATFORM_SUSPEND: _suspend,
    ProposalKind.PLATFORM_RESTORE: _restore,
    ProposalKind.VALIDATOR_SET: _set_validators,
    ProposalKind.ENCLAVE_POLICY: _set_policy,
    ProposalKind.SERVICE_SET: _set_service,
    ProposalKind.SCHEME_ASSIGN: _assign_scheme,
    ProposalKind.OBSERVER_ADMIT: _admit_observer,
    ProposalKind.RULES_ACTIVATE: _activate_rules,
    ProposalKind.MERCHANT_FREEZE: _freeze,
}
