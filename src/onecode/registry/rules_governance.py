"""Rules of governance: proposals and their approvals."""

from __future__ import annotations

import dataclasses

from onecode.errors import Malformed
from onecode.proof.governance import Approval, Proposal, ProposalLeaf, proposal_key
from onecode.proof.leaves import KeyState, Role
from onecode.proof.map import Section
from onecode.registry import counters
from onecode.registry.context import Context
from onecode.registry.events import (
    ProposalApproved,
    ProposalExecuted,
    ProposalSubmitted,
)
from onecode.registry.proposals import execute_proposal, fields_fit
from onecode.registry.results import Result
from onecode.registry.state import State
from onecode.registry.transactions import ProposalApprove, ProposalSubmit, proposal_id
from onecode.schema import parse
from onecode.wire import sha256


def submit(context: Context, payload: ProposalSubmit) -> Result:
    """`proposal.submit`: refused unless it could be executed now; counts as the proposer's approval."""
    state, time_ms = context.state, context.time_ms
    if not state.platform_active(context.signer, time_ms):
        return Result.PLATFORM_INACTIVE
    try:
        proposal = parse(Proposal, payload.proposal)
    except Malformed:
        return Result.PROPOSAL_MALFORMED
    if not fields_fit(proposal):
        return Result.PROPOSAL_MALFORMED
    if not time_ms < proposal.expires_ms <= time_ms + state.parameters().proposal_expiry_ms:
        return Result.PROPOSAL_EXPIRY
    identity = proposal_id(state.chain_id, payload.proposal)
    if state.get(Section.GOVERNANCE, proposal_key(identity), ProposalLeaf) is not None:
        return Result.PROPOSAL_EXISTS
    if code := _trial(context, proposal):
        return code
    if not counters.count_day(state, counters.proposals_key(context.signer), time_ms, counters.PROPOSALS_A_DAY):
        return Result.PROPOSALS_A_DAY
    leaf = ProposalLeaf(
        proposal_hash=sha256(payload.proposal),
        proposer=context.signer,
        approvals=(Approval(platform=context.signer, key=context.key),),
        expires_ms=proposal.expires_ms,
        executed=False,
        body=payload.proposal,
    )
    context.events.append(ProposalSubmitted(identity, proposal.kind, context.signer))
    return _count(context, identity, leaf, proposal)


def approve(context: Context, payload: ProposalApprove) -> Result:
    """`proposal.approve`: executes with the approval that makes more than 2/3. If execution fails, so does the
    approval. One whose key is no longer active is replaced."""
    state = context.state
    if not state.platform_active(context.signer, context.time_ms):
        return Result.PLATFORM_INACTIVE
    leaf = state.get(Section.GOVERNANCE, proposal_key(payload.proposal_id), ProposalLeaf)
    if leaf is None:
        return Result.PROPOSAL_UNKNOWN
    if leaf.executed:
        return Result.PROPOSAL_EXECUTED
    if context.time_ms >= leaf.expires_ms:
        return Result.PROPOSAL_EXPIRED
    others = [given for given in leaf.approvals if given.platform != context.signer]
    if any(given.platform == context.signer and _stands(state, given) for given in leaf.approvals):
        return Result.APPROVED_ALREADY
    own = Approval(platform=context.signer, key=context.key)
    leaf = dataclasses.replace(leaf, approvals=tuple(sorted((*others, own), key=lambda given: given.platform)))
    context.events.append(ProposalApproved(payload.proposal_id, context.signer))
    return _count(context, payload.proposal_id, leaf, parse(Proposal, leaf.body))


def _count(context: Context, identity: bytes, leaf: ProposalLeaf, proposal: Proposal) -> Result:
    """Write the leaf; execute where its approvals are now more than 2/3 of the active platforms."""
    if enough(context.state, leaf.approvals, context.time_ms):
        if code := execute_proposal(context, proposal):
            return code
        leaf = dataclasses.replace(leaf, executed=True)
        context.events.append(ProposalExecuted(identity, proposal.kind))
    context.state.put(Section.GOVERNANCE, proposal_key(identity), leaf)
    return Result.OK


def enough(state: State, approvals: tuple[Approval, ...], time_ms: int) -> bool:
    """Whether `approvals` that stand are more than 2/3 of the platforms that are active at `time_ms`, in integers."""
    active = [platform for platform in state.platforms().platforms if state.platform_active(platform, time_ms)]
    approving = {given.platform for given in approvals if _stands(state, given)}
    return 3 * sum(platform in approving for platform in active) > 2 * len(active)


def _stands(state: State, given: Approval) -> bool:
    """Whether the key that gave an approval is an active governance key of its platform."""
    leaf = state.platform(given.platform)
    key = leaf.key(Role.GOVERNANCE, given.key) if leaf is not None else None
    return key is not None and key.state == KeyState.ACTIVE


def _trial(context: Context, proposal: Proposal) -> Result:
    """What execution would give now; leaves no trace."""
    mark, events = context.state.mark(), len(context.events)
    code = execute_proposal(context, proposal)
    context.state.rollback(mark)
    del context.events[events:]
    return code
