"""A small honest world for tests of query, enclave and key service: real map, real headers, real seals, fixed entropy.

Leaves are written straight into the map, so a test can make states that no rule would allow. Time stands still.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from onecode.attest.policy import OperatorPins
from onecode.attest.release import ReleaseRequest
from onecode.attest.software import SoftwareAttester, SoftwareVerifier
from onecode.code.identity import merchant_id, platform_id
from onecode.enclave.core import Enclave, EnclaveSettings
from onecode.enclave.frames import EnclaveQuery, EvidenceRequest, HeaderUpdate
from onecode.keys.service import KeyService, Limits
from onecode.proof.governance import ENCLAVE_POLICY_KEY, EnclavePolicy, Measurement
from onecode.proof.leaves import (
    KeyState,
    Link,
    LinkList,
    MerchantEntry,
    PlatformKey,
    PlatformLeaf,
    PlatformStatus,
    Role,
    ServiceEntry,
    links_hash,
)
from onecode.proof.light import Trust, VerifiedHeader, trusted_state, verify_header
from onecode.proof.map import Section, app_hash
from onecode.query.credential import sign_credential
from onecode.query.follow import Follower
from onecode.query.messages import (
    ClearQuery,
    Credential,
    MatchMode,
    ProvenMerchant,
    ProvenPlatform,
    Query,
    Result,
    SecretQuery,
)
from onecode.query.sealing import build_query, open_result
from onecode.record.envelope import RecordIds, SignedRecord, commitment, seal_envelope, sign_record
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode
from onecode.record.schema import KybLevel, Record
from onecode.registry.map import load, prove, section_roots, update
from onecode.registry.store import MemoryStore
from onecode.wire import SigningKey, sha256
from vectors.proof_chain import CHAIN_ID, key, make_header, signed_by, validator_set

NOW_MS = 1_800_000_100_000
DAY_MS = 86_400_000
MEMBERS = validator_set([1, 2, 3, 4])
SERVICE = "pay"
MEASUREMENT = b"m" * 48
VENDOR = SigningKey.from_seed(sha256(b"simulated vendor"))


def entropy(label: str) -> Callable[[int], bytes]:
    """Deterministic bytes, different at every call."""
    count = iter(range(1 << 30))
    return lambda size: b"".join(sha256(f"{label} {next(count)}".encode()) for _ in range(size // 32 + 1))[:size]


@dataclasses.dataclass
class Platform:
    """A platform with one key a role, one epoch key and one enrolled device."""

    name: str

    def __post_init__(self) -> None:
        self.root = self.key("root")
        self.id = platform_id(self.root.public)
        self.epoch_keys = {1: sha256(f"{self.name} epoch 1".encode())}
        self.device = self.key("a payer's device")

    def key(self, role: Role | str) -> SigningKey:
        return SigningKey.from_seed(sha256(f"{self.name} {role}".encode()))

    def leaf(self, **changes: Any) -> PlatformLeaf:
        keys = tuple(
            PlatformKey(role=role, key=self.key(role).public, state=KeyState.ACTIVE, height=1, since_ms=0)
            for role in Role
        )
        leaf = PlatformLeaf(
            root=self.root.public,
            name=self.name,
            status=PlatformStatus.ACTIVE,
            keys=keys,
            epoch_min=1,
            active_from_ms=0,
            nodes=(),
        )
        return dataclasses.replace(leaf, **changes)

    def credential(self, **changes: Any) -> bytes:
        body = Credential(
            platform=self.id,
            device=self.device.public,
            account=b"account-1",
            valid_from_ms=NOW_MS - 1000,
            valid_until_ms=NOW_MS + DAY_MS - 1000,
        )
        return sign_credential(CHAIN_ID, dataclasses.replace(body, **changes), self.key(Role.DEVICE))


CONTROLLER = SigningKey.from_seed(sha256(b"controller"))
RECOVERY_HASH = sha256(b"recovery")
MERCHANT = merchant_id(CONTROLLER.public, RECOVERY_HASH)


def make_record(platform: bytes, **changes: Any) -> Record:
    account = AcquiringAccount(
        merchant_number="ACQ-MARKER-7731", settlement_reference="settle-1", currency="EUR", store_labels=()
    )
    record = Record(
        schema=1,
        merchant=MERCHANT,
        platform=platform,
        service=SERVICE,
        version=1,
        legal_name="Noodle House GmbH",
        display_name="Noodle House",
        kyb_level=KybLevel.FULL,
        mcc="5812",
        country="DE",
        city="Berlin",
        valid_from_ms=NOW_MS - DAY_MS,
        valid_until_ms=NOW_MS + DAY_MS,
        audience=(),
        time_zone="Europe/Berlin",
        terms=PaymentTerms(accounts=(account,), tip_mode=TipMode.NONE).encoded(),
    )
    return dataclasses.replace(record, **changes)


class World:
    """Chain state with two platforms A and B that both serve the merchant, and an enclave's policy."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.a, self.b, self.c = Platform("A"), Platform("B"), Platform("C")
        self.leaves = {p.id: p.leaf() for p in (self.a, self.b)}
        self.records: dict[bytes, tuple[Link, bytes]] = {}  # platform -> link, envelope
        self.entry_changes: dict[str, Any] = {}
        self.policy = EnclavePolicy(
            measurements=(Measurement(kind="software", measurement=MEASUREMENT, effective_ms=0),), serial=1
        )
        self.height = 10
        for platform in (self.a, self.b):
            self.publish(platform)
        self.anchor = Trust(trusted_state(self.header(2).header, MEMBERS))

    def publish(self, platform: Platform, record: Record | None = None, **link_changes: Any) -> SignedRecord:
        """Seal and list a record of `platform`."""
        record = record or make_record(platform.id)
        ids = RecordIds(merchant=MERCHANT, platform=platform.id, service=SERVICE, version=record.version, epoch=1)
        salt = sha256(b"salt" + platform.id)
        signed = sign_record(CHAIN_ID, record, salt, platform.key(Role.RECORD))
        envelope = seal_envelope(CHAIN_ID, ids, signed, platform.epoch_keys[1], b"n" * 12)
        link = Link(
            platform=platform.id,
            version=record.version,
            epoch=1,
            audience=record.audience,
            height=5,
            envelope_hash=sha256(envelope),
            commitment=commitment(CHAIN_ID, ids, salt, signed.record),
        )
        self.records[platform.id] = (dataclasses.replace(link, **link_changes), envelope)
        return signed

    # --- the chain ----------------------------------------------------------------------------------------------------

    def links(self) -> LinkList:
        return LinkList(links=tuple(self.records[platform][0] for platform in sorted(self.records)))

    def entry(self) -> MerchantEntry:
        listed = ServiceEntry(service=SERVICE, links_hash=links_hash(CHAIN_ID, MERCHANT, SERVICE, self.links()))
        entry = MerchantEntry(
            controller=CONTROLLER.public,
            recovery_hash=RECOVERY_HASH,
            order_keys=(),
            nonce=0,
            consent_serial=0,
            services=(listed,),
            alias_count=0,
        )
        return dataclasses.replace(entry, **self.entry_changes)

    def write(self) -> None:
        """Bring the map to what this world says now."""
        update(self.store, Section.MERCHANTS, {MERCHANT: self.entry().encoded()})
        update(self.store, Section.PLATFORMS, {platform: leaf.encoded() for platform, leaf in self.leaves.items()})
        update(self.store, Section.GOVERNANCE, {ENCLAVE_POLICY_KEY: self.policy.encoded()})

    def header(self, height: int | None = None, signed_ms: int = NOW_MS - 2000, **changes: Any) -> Any:
        """A signed header over the state as it is now."""
        self.write()
        changes.setdefault("app_hash", app_hash(section_roots(self.store)))
        changes.setdefault("time_ns", (NOW_MS - 50_000 + 1000 * (height or self.height)) * 1_000_000)
        header = make_header(height or self.height, MEMBERS, **changes)
        return signed_by(header, [1, 2, 3, 4], [signed_ms] * 4)

    def verified(self) -> VerifiedHeader:
        return verify_header(self.header(), MEMBERS, self.anchor, NOW_MS)

    def proven_platforms(self) -> tuple[ProvenPlatform, ...]:
        return tuple(
            ProvenPlatform(platform=platform, leaf=leaf.encoded(), proof=prove(self.store, Section.PLATFORMS, platform))
            for platform, leaf in self.leaves.items()
        )

    def proven_merchant(self, merchant: bytes = MERCHANT) -> ProvenMerchant:
        entry = load(self.store, Section.MERCHANTS, merchant)
        return ProvenMerchant(
            merchant=merchant,
            entry=entry,
            proof=prove(self.store, Section.MERCHANTS, merchant),
            links=self.links().encoded() if entry else None,
        )

    # --- what a host tells its enclave --------------------------------------------------------------------------------

    def header_update(self, **header_changes: Any) -> HeaderUpdate:
        signed = self.header(**header_changes)
        return HeaderUpdate(
            header=signed,
            validators=MEMBERS,
            roots=section_roots(self.store),
            platforms=self.proven_platforms(),
            policy=self.policy.encoded(),
            policy_proof=prove(self.store, Section.GOVERNANCE, ENCLAVE_POLICY_KEY),
        )

    def enclave(self, label: str = "enclave") -> Enclave:
        """An enclave that has seen nothing yet."""
        attester = SoftwareAttester(VENDOR, MEASUREMENT)
        return Enclave(EnclaveSettings(CHAIN_ID, "node-1", self.anchor), attester, entropy(label), NOW_MS)

    def key_service(self, platform: Platform, **pins: Any) -> KeyService:
        allowed = OperatorPins(pins.get("measurements", frozenset({MEASUREMENT})), pins.get("allow_simulated", True))
        return KeyService(
            CHAIN_ID,
            platform.id,
            platform.key(Role.KEY_SERVICE),
            Follower(self.anchor),
            allowed,
            [SoftwareVerifier((VENDOR.public,))],
            Limits(),
            entropy(f"keys {platform.name}"),
        )

    def release_request(self, enclave: Enclave, service: KeyService, update: HeaderUpdate) -> ReleaseRequest:
        nonce, _ = service.make_challenge(NOW_MS)
        asked = EvidenceRequest(platform=service.platform, nonce=nonce, key_service_key=service.public_key)
        reply = enclave.make_evidence(asked, NOW_MS)
        return ReleaseRequest(
            bindings=reply.bindings,
            evidence=reply.evidence,
            header=update.header,
            validators=MEMBERS,
            terms=reply.terms,
        )

    def ready_enclave(self, *platforms: Platform) -> Enclave:
        """An enclave at the newest header that holds the keys of `platforms` (A and B if none are given)."""
        enclave = self.enclave()
        header = self.header_update()
        enclave.accept_header(header, NOW_MS)
        for platform in platforms or (self.a, self.b):
            service = self.key_service(platform)
            request = self.release_request(enclave, service, header)
            claims = service.appraise_request(request, self.policy.encoded(), NOW_MS)
            grant, _ = service.make_grant(request, claims, platform.epoch_keys, NOW_MS)
            enclave.accept_grant(grant, NOW_MS)
        return enclave

    # --- a wallet -----------------------------------------------------------------------------------------------------

    def clear(self, enclave: Enclave, **changes: Any) -> ClearQuery:
        clear = ClearQuery(
            protocol=1, chain_id=CHAIN_ID, merchant=MERCHANT, service=SERVICE, query_key=enclave.query_key
        )
        return dataclasses.replace(clear, **changes)

    def secret(self, platform: Platform, mode: MatchMode = MatchMode.NODE, **changes: Any) -> SecretQuery:
        secret = SecretQuery(
            query_id=b"q" * 16,
            credential=platform.credential(),
            accepted=(platform.id,),
            mode=mode,
            time_ms=NOW_MS,
            reply_key=b"r" * 32,
        )
        return dataclasses.replace(secret, **changes)

    def query(self, enclave: Enclave, platform: Platform, mode: MatchMode = MatchMode.NODE, **changes: Any) -> Query:
        return build_query(self.clear(enclave), self.secret(platform, mode, **changes), platform.device)

    def asked(self, query: Query, **changes: Any) -> EnclaveQuery:
        """What an honest host hands over with a query."""
        asked = EnclaveQuery(
            query=query.encoded(),
            height=self.height,
            merchant=self.proven_merchant(),
            envelopes=tuple(self.records[platform][1] for platform in sorted(self.records)),
        )
        return dataclasses.replace(asked, **changes)

    @staticmethod
    def opened(sealed: bytes, query: Query) -> Result:
        return open_result(CHAIN_ID, sealed, b"r" * 32, sha256(query.clear))


__all__ = ["CHAIN_ID", "MEMBERS", "MERCHANT", "NOW_MS", "Platform", "World", "key", "make_record"]
