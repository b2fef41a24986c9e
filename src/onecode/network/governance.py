"""Governance from the command line's side: a proposal by one platform, approvals by others."""

from __future__ import annotations

from dataclasses import dataclass

from onecode.errors import Declined
from onecode.network.client import NodeClient, Submitted
from onecode.proof.governance import Admission, Measurement, Proposal, ProposalKind, SchemeLeaf
from onecode.registry.transactions import (
    Kind,
    ProposalApprove,
    ProposalSubmit,
    SignerKind,
    build_transaction,
    proposal_id,
)
from onecode.schema import Message
from onecode.wire import SigningKey

TRANSACTION_VALID_MS = 15 * 60_000
PROPOSAL_VALID_MS = 3600 * 1000


@dataclass(frozen=True, slots=True)
class Governor:
    """A platform's id with its governance key."""

    platform: bytes
    key: SigningKey


def admission_proposal(admission: Admission, salt: bytes, now_ms: int) -> Proposal:
    """To admit a platform. `salt`: 16 random bytes."""
    expires_ms = now_ms + PROPOSAL_VALID_MS
    return Proposal(kind=ProposalKind.PLATFORM_ADMIT, expires_ms=expires_ms, salt=salt, admission=admission)


def policy_proposal(measurements: tuple[Measurement, ...], salt: bytes, now_ms: int) -> Proposal:
    """To allow exactly these enclave builds. `salt`: 16 random bytes."""
    expires_ms = now_ms + PROPOSAL_VALID_MS
    return Proposal(kind=ProposalKind.ENCLAVE_POLICY, expires_ms=expires_ms, salt=salt, measurements=measurements)


def scheme_proposal(guid: str, platform: bytes, sub_objects: tuple[str, ...], salt: bytes, now_ms: int) -> Proposal:
    """That `platform` speaks for the scheme with this identifier, whose alias those sub-objects make in that order.

    The registry sets its own time, and never lets the sub-objects of a scheme change. `salt`: 16 random bytes.
    """
    return Proposal(
        kind=ProposalKind.SCHEME_ASSIGN,
        expires_ms=now_ms + PROPOSAL_VALID_MS,
        salt=salt,
        guid=guid,
        scheme=SchemeLeaf(platform=platform, sub_objects=sub_objects, effective_ms=0),
    )


def submit_proposal(chain_id: str, node: NodeClient, governor: Governor, proposal: Proposal, now_ms: int) -> bytes:
    """Propose; this is the proposer's approval too. Returns the proposal's id."""
    body = proposal.encoded()
    _submit(chain_id, node, governor, Kind.PROPOSAL_SUBMIT, ProposalSubmit(proposal=body), now_ms)
    return proposal_id(chain_id, body)


def enough(approvals: int, platforms: int) -> bool:
    """Whether so many approvals are more than 2/3 of the active platforms."""
    return 3 * approvals > 2 * platforms


def approve_proposal(chain_id: str, node: NodeClient, governor: Governor, identity: bytes, now_ms: int) -> Submitted:
    """Approve a proposal; the approval that makes more than 2/3 executes it."""
    return _submit(chain_id, node, governor, Kind.PROPOSAL_APPROVE, ProposalApprove(proposal_id=identity), now_ms)


def _submit(
    chain_id: str, node: NodeClient, governor: Governor, kind: Kind, payload: Message, now_ms: int
) -> Submitted:
    transaction = build_transaction(
        chain_id,
        kind,
        payload,
        signer=governor.platform,
        signer_kind=SignerKind.PLATFORM,
        key=governor.key,
        nonce=now_ms,  # a platform's nonces only rise, so the clock serves
        valid_until_ms=now_ms + TRANSACTION_VALID_MS,
    )
    submitted = node.submit(transaction)
    if submitted.code:
        raise Declined("governance.refused", f"the registry refused {kind.name.lower()}: {submitted.name}")
    return submitted
