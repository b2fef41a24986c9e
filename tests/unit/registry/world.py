"""A small network to test the registry's rules on: platforms, merchants, blocks, all from fixed seeds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from onecode.code.identity import merchant_id, platform_id, recovery_hash
from onecode.proof.governance import (
    DAY_MS,
    DEFAULT_PARAMETERS,
    HOUR_MS,
    Admission,
    Measurement,
    Parameters,
    Proposal,
    ProposalKind,
    ValidatorLeaf,
)
from onecode.proof.leaves import KeyState, MerchantEntry, PlatformKey, PlatformLeaf, Role
from onecode.registry import counters
from onecode.registry.application import Application, BlockOutcome, TransactionResult
from onecode.registry.genesis import Genesis
from onecode.registry.results import Result
from onecode.registry.signatures import SignatureCache
from onecode.registry.state import Committed, State
from onecode.registry.store import MemoryStore
from onecode.registry.transactions import (
    PLATFORM_ROLE,
    Birth,
    Body,
    Consent,
    Kind,
    ProposalApprove,
    ProposalSubmit,
    Publication,
    Purpose,
    RecordPublish,
    RecordWithdraw,
    SignerKind,
    Transaction,
    Withdrawal,
    build_transaction,
    proposal_id,
    sign_body,
    sign_consent,
    sign_possession,
)
from onecode.schema import Message
from onecode.wire import SigningKey

CHAIN = "solo-test"
START_MS = 1_800_000_000_000
PAY = "pay"
BUILD = hashlib.sha256(b"enclave build").digest()


def signing_key(name: str) -> SigningKey:
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


class Platform:
    """A platform's keys, one a role, and its id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = signing_key(f"{name}/root")
        self.id = platform_id(self.root.public)
        self.keys = {role: signing_key(f"{name}/{role.name}") for role in Role}

    def admission(self, time_ms: int = START_MS, **changes: Any) -> Admission:
        keys = tuple(
            PlatformKey(
                role=role,
                key=key.public,
                state=KeyState.ACTIVE,
                height=0,
                since_ms=0,
                not_after_ms=time_ms + 80 * DAY_MS if role == Role.ANCHOR else None,
            )
            for role, key in self.keys.items()
        )
        return dataclasses.replace(
            Admission(root=self.root.public, name=self.name, keys=keys, nodes=()),
            **changes,
        )


class Merchant:
    """A merchant's keys and id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.controller = signing_key(f"{name}/controller")
        self.recovery = signing_key(f"{name}/recovery")
        self.birth = Birth(controller=self.controller.public, recovery_hash=recovery_hash(self.recovery.public))
        self.id = merchant_id(self.birth.controller, self.birth.recovery_hash)


class World:
    """One application over a store in memory, with a clock of its own. Each block lasts a second."""

    def __init__(self, platforms: int = 3, parameters: Parameters = DEFAULT_PARAMETERS) -> None:
        self.platforms = [Platform(f"platform-{index}") for index in range(platforms)]
        self.merchants = [Merchant(f"merchant-{index}") for index in range(4)]
        self.store = MemoryStore()
        self.application = Application(self.store, CHAIN, signatures=SignatureCache(1000))
        self.height = 0
        self.time_ms = START_MS
        self.nonces = 0
        self.history: list[bytes] = []
        self.genesis = Genesis(
            chain_id=CHAIN,
            time_ms=START_MS,
            parameters=parameters,
            platforms=tuple(platform.admission() for platform in self.platforms),
            validators=tuple(
                ValidatorLeaf(key=signing_key(f"{one.name}/validator").public, power=10, platform=one.id)
                for one in self.platforms
            ),
            services=(PAY, "food"),
            measurements=(Measurement(kind="software", measurement=BUILD, effective_ms=0),),
        )
        self.app_hash = self.application.init_chain(self.genesis)

    # --- blocks

    def block(self, *transactions: bytes, seconds: float = 1) -> BlockOutcome:
        self.height += 1
        self.time_ms += int(seconds * 1000)
        outcome = self.application.execute(self.height, self.time_ms, transactions)
        self.history.extend(transactions)
        self.app_hash = outcome.app_hash
        return outcome

    def run(self, *transactions: bytes) -> Result:
        """Execute them in one block; the last one's code."""
        return self.block(*transactions).results[-1].code

    def result(self, transaction: bytes) -> TransactionResult:
        return self.block(transaction).results[0]

    def pass_time(self, ms: int) -> None:
        self.time_ms += ms

    @property
    def state(self) -> State:
        return State(Committed(self.store, CHAIN))

    def entry(self, merchant: Merchant) -> MerchantEntry:
        found = self.state.merchant(merchant.id, self.time_ms)
        assert found is not None
        return found

    def floor(self, merchant: Merchant, platform: Platform, service: str = PAY) -> int:
        return counters.version_floor(self.state, merchant.id, platform.id, service)

    def leaf(self, platform: Platform) -> PlatformLeaf:
        found = self.state.platform(platform.id)
        assert found is not None
        return found

    # --- transactions

    def nonce(self) -> int:
        self.nonces += 1
        return self.nonces

    def until(self) -> int:
        return self.time_ms + HOUR_MS

    def platform_call(self, platform: Platform, kind: Kind, payload: Message, **changes: Any) -> bytes:
        role = PLATFORM_ROLE.get(kind)
        given = {
            "signer": platform.id,
            "signer_kind": SignerKind.ROOT if role is None else SignerKind.PLATFORM,
            "key": platform.root if role is None else platform.keys[role],
            "nonce": changes["nonce"] if "nonce" in changes else self.nonce(),
            "valid_until_ms": self.until(),
        } | changes
        return build_transaction(CHAIN, kind, payload, **given)  # type: ignore[arg-type]

    def merchant_call(
        self,
        merchant: Merchant,
        kind: Kind,
        payload: Message,
        *,
        recovery: bool = False,
        ahead: int = 1,
        **changes: Any,
    ) -> bytes:
        found = self.state.merchant(merchant.id, self.time_ms)
        given = {
            "signer": merchant.id,
            "signer_kind": SignerKind.RECOVERY if recovery else SignerKind.CONTROLLER,
            "key": merchant.recovery if recovery else merchant.controller,
            "nonce": self.nonce() if recovery else (found.nonce if found else 0) + ahead,
            "valid_until_ms": self.until(),
        } | changes
        return build_transaction(CHAIN, kind, payload, **given)  # type: ignore[arg-type]

    def both_keys_call(self, merchant: Merchant, kind: Kind, payload: Message) -> bytes:
        body = Body(
            kind=kind,
            signer=merchant.id,
            nonce=self.nonce(),
            valid_until_ms=self.until(),
            payload=payload.encoded(),
        )
        signatures = (
            sign_body(CHAIN, body, merchant.id, SignerKind.CONTROLLER, merchant.controller),
            sign_body(CHAIN, body, merchant.id, SignerKind.RECOVERY, merchant.recovery),
        )
        return Transaction(body=body.encoded(), signatures=signatures).encoded()

    def consent(self, merchant: Merchant, platform: Platform, /, *, recovery: bool = False, **changes: Any) -> Any:
        found = self.state.merchant(merchant.id, self.time_ms)
        consent = Consent(
            purpose=Purpose.PUBLISH,
            merchant=merchant.id,
            platform=platform.id,
            service=PAY,
            consent_serial=found.consent_serial if found else 0,
            expires_ms=self.time_ms + DAY_MS,
        )
        consent = dataclasses.replace(consent, **changes)
        return sign_consent(CHAIN, consent, merchant.recovery if recovery else merchant.controller, recovery=recovery)

    def publication(self, merchant: Merchant, version: int = 1, /, **changes: Any) -> Publication:
        text = f"{merchant.name} {version}".encode()
        item = Publication(
            merchant=merchant.id,
            service=PAY,
            version=version,
            epoch=1,
            audience=(),
            envelope=b"sealed " + text,
            commitment=hashlib.sha256(text).digest(),
        )
        return dataclasses.replace(item, **changes)

    def first(self, merchant: Merchant, platform: Platform, version: int = 1, /, **changes: Any) -> Publication:
        given = {"consent": self.consent(merchant, platform), "birth": merchant.birth} | changes
        return self.publication(merchant, version, **given)

    def publish(self, platform: Platform, *items: Publication, **changes: Any) -> bytes:
        return self.platform_call(platform, Kind.RECORD_PUBLISH, RecordPublish(items=items), **changes)

    def withdraw(self, platform: Platform, merchant: Merchant, version: int, service: str = PAY) -> bytes:
        item = Withdrawal(merchant=merchant.id, service=service, version=version)
        return self.platform_call(platform, Kind.RECORD_WITHDRAW, RecordWithdraw(items=(item,)))

    def link(self, merchant: Merchant, platform: Platform, version: int = 1) -> None:
        """Publish a first record, which must succeed."""
        assert self.run(self.publish(platform, self.first(merchant, platform, version))) == Result.OK

    def item_code(self, platform: Platform, item: Publication) -> Result:
        """The code of one publication, by itself in a batch."""
        return self.result(self.publish(platform, item)).item_codes[0]

    def possession(self, owner: bytes, key: SigningKey) -> bytes:
        return sign_possession(CHAIN, owner, key)

    # --- governance

    def proposal(self, kind: ProposalKind, **fields: Any) -> Proposal:
        given = {"expires_ms": self.time_ms + DAY_MS, "salt": self.nonce().to_bytes(16, "big")} | fields
        return Proposal(kind=kind, **given)

    def submit(self, platform: Platform, proposal: Proposal) -> bytes:
        return self.platform_call(platform, Kind.PROPOSAL_SUBMIT, ProposalSubmit(proposal=proposal.encoded()))

    def approve(self, platform: Platform, proposal: Proposal) -> bytes:
        identity = proposal_id(CHAIN, proposal.encoded())
        return self.platform_call(platform, Kind.PROPOSAL_APPROVE, ProposalApprove(proposal_id=identity))

    def govern(self, kind: ProposalKind, *, voters: Sequence[Platform] | None = None, **fields: Any) -> Result:
        """Submit a proposal and approve it by all platforms; the first code that is not OK, or the last one."""
        proposal = self.proposal(kind, **fields)
        voters = self.platforms if voters is None else voters
        code = self.run(self.submit(voters[0], proposal))
        for voter in voters[1:]:
            if code:
                return code
            code = self.run(self.approve(voter, proposal))
        return code
