"""What the map holds about governance: parameters, policy, validators, services, schemes, proposals."""

from __future__ import annotations

from enum import IntEnum

from onecode.proof.leaves import HASH, ID, KEY, SERVICE, TIME_MS, PlatformKey, PlatformNode
from onecode.schema import Bool, Bytes, Choice, ListOf, Message, Nested, Text, Uint, item

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS

# Keys of the leaves in the section `governance`
PARAMETERS_KEY = b"parameters"
ENCLAVE_POLICY_KEY = b"enclave-policy"
VALIDATORS_KEY = b"validators"
SERVICES_KEY = b"services"
RULES_KEY = b"rules"
PLATFORMS_KEY = b"platforms"


def proposal_key(proposal_id: bytes) -> bytes:
    return b"proposal/" + proposal_id


def scheme_key(guid: str) -> bytes:
    return b"scheme/" + guid.encode("utf-8")


def observer_key(node_id: str) -> bytes:
    return b"observer/" + node_id.encode("utf-8")


class Parameters(Message):
    """Numbers of the network, fixed at genesis. A demo sets the delays to seconds and says so."""

    proposal_expiry_ms: int = item(1, Uint(90 * DAY_MS))
    governance_delay_ms: int = item(2, Uint(90 * DAY_MS))
    recovery_delay_ms: int = item(3, Uint(90 * DAY_MS))
    freeze_ms: int = item(4, Uint(90 * DAY_MS))
    freeze_pause_ms: int = item(5, Uint(365 * DAY_MS))
    freeze_platforms: int = item(6, Uint(100))  # k: how many active platforms freeze a merchant together
    freezes_a_day: int = item(7, Uint(10_000))  # per platform
    transactions_a_block: int = item(8, Uint(1_000_000))  # per signer


DEFAULT_PARAMETERS = Parameters(
    proposal_expiry_ms=7 * DAY_MS,
    governance_delay_ms=HOUR_MS,
    recovery_delay_ms=DAY_MS,
    freeze_ms=72 * HOUR_MS,
    freeze_pause_ms=30 * DAY_MS,
    freeze_platforms=2,
    freezes_a_day=20,
    transactions_a_block=1_000,
)


class Measurement(Message):
    """An enclave build that the consortium allows. `kind` software is simulated: for development only."""

    kind: str = item(1, Text(16))
    measurement: bytes = item(2, Bytes(32, 64))
    effective_ms: int = item(3, TIME_MS)


class EnclavePolicy(Message):
    """Which enclaves may be attested. Key services also pin what their own operator allows: this only narrows."""

    measurements: tuple[Measurement, ...] = item(1, ListOf(Nested(Measurement), 64))
    serial: int = item(2, Uint())

    def allows(self, kind: str, measurement: bytes, time_ms: int) -> bool:
        """Whether this build may be attested at `time_ms`."""
        return any(
            allowed.kind == kind and allowed.measurement == measurement and time_ms >= allowed.effective_ms
            for allowed in self.measurements
        )


class ValidatorLeaf(Message):
    key: bytes = item(1, KEY)
    power: int = item(2, Uint(1 << 40))
    platform: bytes = item(3, ID)


class ValidatorsLeaf(Message):
    validators: tuple[ValidatorLeaf, ...] = item(1, ListOf(Nested(ValidatorLeaf), 200))  # ascending by key
    pending: tuple[ValidatorLeaf, ...] = item(2, ListOf(Nested(ValidatorLeaf), 200))  # approved, not yet effective
    pending_ms: int | None = item(3, TIME_MS, default=None)


class PendingService(Message):
    """A service that was approved and counts from `effective_ms` on."""

    service: str = item(1, SERVICE)
    effective_ms: int = item(2, TIME_MS)


class ServicesLeaf(Message):
    """Services that records may be published for, e.g. "pay". New ones wait in `pending`: read `services_at`."""

    services: tuple[str, ...] = item(1, ListOf(SERVICE, 256, ascending=True))
    pending: tuple[PendingService, ...] = item(2, ListOf(Nested(PendingService), 64), default=())

    def services_at(self, time_ms: int) -> tuple[str, ...]:
        """Services in force at `time_ms`."""
        return self.services + tuple(p.service for p in self.pending if time_ms >= p.effective_ms)


class RulesLeaf(Message):
    """The version of the registry's rules, and the next one with the height from which it holds."""

    version: int = item(1, Uint())
    next_version: int | None = item(2, Uint(), default=None)
    next_height: int | None = item(3, Uint(), default=None)

    def version_at(self, height: int) -> int:
        """The rule version by which the block of `height` is executed."""
        if self.next_version is not None and self.next_height is not None and height >= self.next_height:
            return self.next_version
        return self.version


class PlatformsLeaf(Message):
    """Ids of all platforms ever admitted, ascending: what "more than 2/3 of the active platforms" is counted over."""

    platforms: tuple[bytes, ...] = item(1, ListOf(ID, 1000, ascending=True))


class SchemeLeaf(Message):
    """Which platform speaks for a foreign scheme's GUID, and which sub-objects make its alias."""

    platform: bytes = item(1, ID)
    sub_objects: tuple[str, ...] = item(2, ListOf(Text(2, 2), 8, min=1))
    effective_ms: int = item(3, TIME_MS)


class ObserverLeaf(Message):
    key: bytes = item(1, KEY)
    effective_ms: int = item(2, TIME_MS)


class ProposalKind(IntEnum):
    PLATFORM_ADMIT = 1
    PLATFORM_SUSPEND = 2
    PLATFORM_RESTORE = 3
    VALIDATOR_SET = 4
    ENCLAVE_POLICY = 5
    SERVICE_SET = 6
    SCHEME_ASSIGN = 7
    OBSERVER_ADMIT = 8
    RULES_ACTIVATE = 9
    MERCHANT_FREEZE = 10  # again within the pause


class Admission(Message):
    """A platform as it is admitted: its root, name and first keys (all active)."""

    root: bytes = item(1, KEY)
    name: str = item(2, Text(64))
    keys: tuple[PlatformKey, ...] = item(3, ListOf(Nested(PlatformKey), 64))
    url: str | None = item(4, Text(200), default=None)
    key_service_url: str | None = item(5, Text(200), default=None)
    nodes: tuple[PlatformNode, ...] = item(6, ListOf(Nested(PlatformNode), 16))


class Proposal(Message):
    """What is proposed. Exactly the field that belongs to `kind` is present.

    replaces: SHA-256 of the leaf that `validators` or `measurements` take the place of, as it was when this was
    proposed: both name the whole set, so two that were made side by side would undo each other. Optional.
    """

    kind: ProposalKind = item(1, Choice(ProposalKind))
    expires_ms: int = item(2, TIME_MS)
    salt: bytes = item(3, Bytes(16))  # so that the same proposal can be made twice
    admission: Admission | None = item(4, Nested(Admission), default=None)
    platform: bytes | None = item(5, ID, default=None)  # suspend, restore
    validators: tuple[ValidatorLeaf, ...] | None = item(6, ListOf(Nested(ValidatorLeaf), 200), default=None)
    measurements: tuple[Measurement, ...] | None = item(7, ListOf(Nested(Measurement), 64), default=None)
    service: str | None = item(8, SERVICE, default=None)
    service_remove: bool | None = item(9, Bool(), default=None)
    guid: str | None = item(10, Text(32), default=None)
    scheme: SchemeLeaf | None = item(11, Nested(SchemeLeaf), default=None)
    observer: ObserverLeaf | None = item(12, Nested(ObserverLeaf), default=None)
    node_id: str | None = item(13, Text(64), default=None)
    rules: RulesLeaf | None = item(14, Nested(RulesLeaf), default=None)
    merchant: bytes | None = item(15, ID, default=None)
    replaces: bytes | None = item(16, HASH, default=None)


class Approval(Message):
    """A platform's approval, with the governance key that gave it: it counts while that key is active."""

    platform: bytes = item(1, ID)
    key: bytes = item(2, KEY)


class ProposalLeaf(Message):
    """A proposal's state. Proposal id = SHA-256 of the frame of its bytes in the domain `proposal`."""

    proposal_hash: bytes = item(1, HASH)
    proposer: bytes = item(2, ID)
    approvals: tuple[Approval, ...] = item(3, ListOf(Nested(Approval), 1000))  # ascending by platform
    expires_ms: int = item(4, TIME_MS)
    executed: bool = item(5, Bool())
    body: bytes = item(6, Bytes(1, 65_536))
