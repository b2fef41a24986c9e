"""What a block changed, for those who follow the registry: produced by execution, no part of consensus."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from onecode.proof.governance import ProposalKind


@dataclass(frozen=True, slots=True)
class RecordPublished:
    platform: bytes
    merchant: bytes
    service: str
    version: int
    epoch: int
    new: bool  # a new link, not a new version of one


@dataclass(frozen=True, slots=True)
class RecordWithdrawn:
    platform: bytes
    merchant: bytes
    service: str
    version: int


@dataclass(frozen=True, slots=True)
class MerchantBorn:
    merchant: bytes


@dataclass(frozen=True, slots=True)
class MerchantUnlinked:
    merchant: bytes
    platform: bytes
    service: str
    version: int


@dataclass(frozen=True, slots=True)
class MerchantOrderKeysSet:
    merchant: bytes


@dataclass(frozen=True, slots=True)
class MerchantRotated:
    merchant: bytes


@dataclass(frozen=True, slots=True)
class MerchantRecoverStarted:
    """`platforms` have a live link and are to be told."""

    merchant: bytes
    effective_ms: int
    platforms: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class MerchantRecoverCancelled:
    merchant: bytes


@dataclass(frozen=True, slots=True)
class MerchantRecoveryKeySet:
    merchant: bytes


@dataclass(frozen=True, slots=True)
class MerchantFreezeAsked:
    merchant: bytes
    platform: bytes


@dataclass(frozen=True, slots=True)
class MerchantFrozen:
    merchant: bytes
    until_ms: int


@dataclass(frozen=True, slots=True)
class AliasBound:
    merchant: bytes
    platform: bytes
    alias: bytes


@dataclass(frozen=True, slots=True)
class AliasReleased:
    merchant: bytes
    alias: bytes


@dataclass(frozen=True, slots=True)
class PlatformChanged:
    platform: bytes


@dataclass(frozen=True, slots=True)
class ProposalSubmitted:
    proposal: bytes
    kind: ProposalKind
    platform: bytes


@dataclass(frozen=True, slots=True)
class ProposalApproved:
    proposal: bytes
    platform: bytes


@dataclass(frozen=True, slots=True)
class ProposalExecuted:
    proposal: bytes
    kind: ProposalKind


@dataclass(frozen=True, slots=True)
class EnclaveAttested:
    platform: bytes
    query_key: bytes
    expires_ms: int


@dataclass(frozen=True, slots=True)
class EnclaveRevoked:
    platform: bytes
    query_key: bytes


Event = (
    RecordPublished
    | RecordWithdrawn
    | MerchantBorn
    | MerchantUnlinked
    | MerchantOrderKeysSet
    | MerchantRotated
    | MerchantRecoverStarted
    | MerchantRecoverCancelled
    | MerchantRecoveryKeySet
    | MerchantFreezeAsked
    | MerchantFrozen
    | AliasBound
    | AliasReleased
    | PlatformChanged
    | ProposalSubmitted
    | ProposalApproved
    | ProposalExecuted
    | EnclaveAttested
    | EnclaveRevoked
)


def event_to_plain(event: Event) -> dict[str, Any]:
    """The event for JSON: its class name under `event`, bytes in hex."""
    plain: dict[str, Any] = {"event": type(event).__name__}
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if isinstance(value, bytes):
            value = value.hex()
        elif isinstance(value, tuple):
            value = [item.hex() for item in value]
        elif isinstance(value, ProposalKind):
            value = value.name.lower().replace("_", "-")
        plain[field.name] = value
    return plain
