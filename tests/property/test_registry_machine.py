"""The registry against a model of it in plain dictionaries: the same histories give the same codes and contents."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from onecode.code.identity import recovery_hash
from onecode.proof.governance import DAY_MS, DEFAULT_PARAMETERS
from onecode.proof.leaves import LinkList
from onecode.registry.counters import version_floor
from onecode.registry.results import Result
from onecode.registry.store import Table, envelope_key, link_key
from onecode.registry.transactions import (
    Birth,
    Body,
    Consent,
    Kind,
    MerchantFreeze,
    MerchantOrderkeys,
    MerchantRecover,
    MerchantRecoverCancel,
    MerchantRecoverykey,
    MerchantRotate,
    MerchantUnlink,
    Publication,
    Purpose,
    SignerKind,
    Transaction,
    sign_body,
    sign_consent,
)
from onecode.schema import Message, parse
from onecode.wire import SigningKey, sha256
from unit.registry.world import CHAIN, PAY, Merchant, World, signing_key

SERVICES = (PAY, PAY, "food")
OK = Result.OK


@dataclass
class Known:
    """What the model knows of one merchant; keys are the names of their seeds."""

    controller: str
    recovery: str
    serial: int = 0
    nonce: int = 0
    pending: tuple[str, int] | None = None
    order_keys: tuple[bytes, ...] = ()
    services: set[str] = field(default_factory=set)
    floors: dict[tuple[str, int], int] = field(default_factory=dict)  # (service, platform's index) -> version
    links: dict[tuple[str, int], int] = field(default_factory=dict)  # (service, platform's index) -> version
    frozen_from: int | None = None
    frozen_until: int | None = None
    votes: dict[int, int] = field(default_factory=dict)

    def settle(self, now: int) -> None:
        if self.pending is not None and now >= self.pending[1]:
            self.controller, self.pending = self.pending[0], None
            self.serial += 1
            self.order_keys = ()

    def end(self, service: str, platform: int) -> None:
        version = self.links.pop((service, platform))
        assert version > self.floors.get((service, platform), 0)  # no version of a platform's record comes twice
        self.floors[service, platform] = version


which = st.sampled_from((0, 0, 1, 2))
service_names = st.sampled_from(SERVICES)


class Registry(RuleBasedStateMachine):
    """Each rule executes one transaction in a block of its own and predicts its code."""

    @initialize()
    def begin(self) -> None:
        parameters = dataclasses.replace(
            DEFAULT_PARAMETERS, recovery_delay_ms=20_000, freeze_ms=15_000, freeze_pause_ms=40_000, freezes_a_day=10_000
        )
        self.world = World(parameters=parameters)
        self.born = [Merchant(f"m{index}") for index in range(3)]
        self.known: dict[int, Known] = {}
        self.keys = 0
        self.old_consents: list[tuple[int, int, str, object, int]] = []
        for platform in (0, 1):
            self.publish(0, platform, PAY, 0, "controller", True)

    def now(self) -> int:
        return self.world.time_ms + 1000  # of the block to come

    def known_at(self, merchant: int) -> Known | None:
        found = self.known.get(merchant)
        if found is not None:
            found.settle(self.now())
        return found

    def fresh_key(self) -> tuple[str, SigningKey]:
        self.keys += 1
        name = f"fresh {self.keys}"
        return name, signing_key(name)

    def run_merchant(
        self, merchant: int, kind: Kind, payload: Message, kinds: tuple[SignerKind, ...], *, key: str = ""
    ) -> Result:
        known = self.known[merchant]
        identity = self.born[merchant].id
        last = kinds[-1]
        nonce = self.world.nonce() if last == SignerKind.RECOVERY else known.nonce + 1
        body = Body(
            kind=kind, signer=identity, nonce=nonce, valid_until_ms=self.world.until(), payload=payload.encoded()
        )
        names = {SignerKind.CONTROLLER: key or known.controller, SignerKind.RECOVERY: known.recovery}
        signatures = tuple(sign_body(CHAIN, body, identity, one, signing_key(names[one])) for one in kinds)
        code = self.world.run(Transaction(body=body.encoded(), signatures=signatures).encoded())
        if code.admitted and last == SignerKind.CONTROLLER:
            known.nonce += 1
        return code

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        before = self.world.app_hash
        assert self.world.block(seconds=seconds).app_hash == before
        for merchant in self.known:
            self.known[merchant].settle(self.world.time_ms)

    @rule(
        merchant=which,
        platform=which,
        service=service_names,
        offset=st.sampled_from((0, 0, 0, 0, 1, -1, 1_000)),
        by=st.sampled_from(("controller", "controller", "recovery", "none", "old", "thief")),
        with_birth=st.sampled_from((True, True, True, False)),
    )
    def publish(self, merchant: int, platform: int, service: str, offset: int, by: str, with_birth: bool) -> None:
        known, person, signer = self.known_at(merchant), self.born[merchant], self.world.platforms[platform]
        live = known.links.get((service, platform)) if known else None
        floor = known.floors.get((service, platform), 0) if known else 0
        right = (live if live is not None else floor) + 1
        version = max(0, right + offset)
        names = (known.controller, known.recovery) if known else (f"m{merchant}/controller", f"m{merchant}/recovery")
        consent = Consent(
            purpose=Purpose.PUBLISH,
            merchant=person.id,
            platform=signer.id,
            service=service,
            consent_serial=known.serial if known else 0,
            expires_ms=self.now() + DAY_MS,
        )
        serial_now = known.serial if known else 0
        signed, serial, signed_by = None, serial_now, by
        if by in ("controller", "recovery", "thief"):
            name = {"controller": names[0], "recovery": names[1], "thief": "thief"}[by]
            signed = sign_consent(CHAIN, consent, signing_key(name), recovery=by == "recovery")
            self.old_consents.append((merchant, platform, service, signed, serial_now))
        elif by == "old":
            old = [one for one in self.old_consents if one[:3] == (merchant, platform, service) and one[4] < serial_now]
            if old:
                signed, serial = old[0][3], old[0][4]
            else:
                signed_by = "none"
        text = f"{merchant} {platform} {service} {version}".encode()
        item = Publication(
            merchant=person.id,
            service=service,
            version=version,
            epoch=1,
            audience=(),
            envelope=text,
            commitment=hashlib.sha256(text).digest(),
            consent=signed,
            birth=Birth(controller=person.birth.controller, recovery_hash=person.birth.recovery_hash)
            if with_birth
            else None,
        )
        code = self.world.item_code(signer, item)

        if known is None and not with_birth:
            expected = Result.MERCHANT_UNKNOWN
        elif live is not None:
            expected = OK if version == right else Result.VERSION
        elif known is not None and known.frozen_until is not None and self.world.time_ms < known.frozen_until:
            expected = Result.MERCHANT_FROZEN
        elif version != floor + 1:
            expected = Result.VERSION
        elif signed_by == "none":
            expected = Result.CONSENT_MISSING
        elif serial != serial_now:
            expected = Result.CONSENT_SERIAL
        elif by == "recovery":
            expected = OK
        elif known is not None and known.pending is not None:
            expected = Result.RECOVERY_PENDING
        else:
            expected = OK if by == "controller" else Result.CONSENT_SIGNATURE
        assert code == expected
        if code == OK:
            known = self.known.setdefault(merchant, Known(*names))
            known.services.add(service)
            known.links[service, platform] = version

    @rule(merchant=which, platform=which, service=service_names)
    def publish_well(self, merchant: int, platform: int, service: str) -> None:
        self.publish(merchant, platform, service, 0, "controller", True)

    @rule(merchant=which, platform=which, service=service_names)
    def publish_by_an_old_consent(self, merchant: int, platform: int, service: str) -> None:
        self.publish(merchant, platform, service, 0, "old", True)

    @rule(merchant=which, platform=which, service=service_names, offset=st.sampled_from((0, 0, 0, 1)))
    def withdraw(self, merchant: int, platform: int, service: str, offset: int) -> None:
        known = self.known_at(merchant)
        live = known.links.get((service, platform)) if known else None
        call = self.world.withdraw(self.world.platforms[platform], self.born[merchant], (live or 0) + offset, service)
        code = self.world.result(call).item_codes[0]
        if known is None:
            assert code == Result.MERCHANT_UNKNOWN
        elif live is None:
            assert code == Result.LINK_UNKNOWN
        elif offset:
            assert code == Result.VERSION
        else:
            assert code == OK
            known.end(service, platform)

    @rule(merchant=which, platform=which, service=service_names, recovery=st.booleans())
    def unlink(self, merchant: int, platform: int, service: str, recovery: bool) -> None:
        known = self.known_at(merchant)
        if known is None:
            return
        payload = MerchantUnlink(platform=self.world.platforms[platform].id, service=service)
        kind = SignerKind.RECOVERY if recovery else SignerKind.CONTROLLER
        code = self.run_merchant(merchant, Kind.MERCHANT_UNLINK, payload, (kind,))
        if not recovery and known.pending is not None:
            assert code == Result.RECOVERY_PENDING
        elif (service, platform) not in known.links:
            assert code == Result.LINK_UNKNOWN
        else:
            assert code == OK
            known.end(service, platform)
            known.serial += 1

    @rule(merchant=which, recovery=st.booleans(), count=st.integers(0, 3))
    def order_keys(self, merchant: int, recovery: bool, count: int) -> None:
        known = self.known_at(merchant)
        if known is None:
            return
        keys = tuple(sorted(self.fresh_key()[1].public for _ in range(count)))
        kind = SignerKind.RECOVERY if recovery else SignerKind.CONTROLLER
        code = self.run_merchant(merchant, Kind.MERCHANT_ORDERKEYS, MerchantOrderkeys(order_keys=keys), (kind,))
        if not recovery and known.pending is not None:
            assert code == Result.RECOVERY_PENDING
        else:
            assert code == OK
            known.order_keys = keys

    @rule(merchant=which, by_old_key=st.booleans())
    def rotate(self, merchant: int, by_old_key: bool) -> None:
        known = self.known_at(merchant)
        if known is None:
            return
        name, new = self.fresh_key()
        payload = MerchantRotate(controller=new.public, possession=self.world.possession(self.born[merchant].id, new))
        first = f"m{merchant}/controller"
        key = first if by_old_key else known.controller
        code = self.run_merchant(merchant, Kind.MERCHANT_ROTATE, payload, (SignerKind.CONTROLLER,), key=key)
        if key != known.controller:
            assert code == Result.KEY_REFUSED
        elif known.pending is not None:
            assert code == Result.RECOVERY_PENDING
        else:
            assert code == OK
            known.controller, known.serial = name, known.serial + 1

    @rule(merchant=which)
    def recover(self, merchant: int) -> None:
        known = self.known_at(merchant)
        if known is None:
            return
        name, new = self.fresh_key()
        payload = MerchantRecover(controller=new.public, possession=self.world.possession(self.born[merchant].id, new))
        assert self.run_merchant(merchant, Kind.MERCHANT_RECOVER, payload, (SignerKind.RECOVERY,)) == OK
        known.pending = (name, self.world.time_ms + 20_000)

    @rule(merchant=which)
    def cancel(self, merchant: int) -> None:
        known = self.known_at(merchant)
        if known is None:
            return
        code = self.run_merchant(
            merchant, Kind.MERCHANT_RECOVER_CANCEL, MerchantRecoverCancel(), (SignerKind.RECOVERY,)
        )
        assert code == (OK if known.pending else Result.NOTHING_PENDING)
        known.pending = None

    @rule(merchant=which)
    def replace_recovery_key(self, merchant: int) -> None:
        known = self.known_at(merchant)
        if known is None:
            return
        name, new = self.fresh_key()
        payload = MerchantRecoverykey(recovery_hash=recovery_hash(new.public))
        kinds = (SignerKind.CONTROLLER, SignerKind.RECOVERY)
        assert self.run_merchant(merchant, Kind.MERCHANT_RECOVERYKEY, payload, kinds) == OK
        known.recovery, known.pending = name, None

    @rule(merchant=which, platform=which)
    def freeze(self, merchant: int, platform: int) -> None:
        known = self.known_at(merchant)
        payload = MerchantFreeze(merchant=self.born[merchant].id)
        call = self.world.platform_call(self.world.platforms[platform], Kind.MERCHANT_FREEZE, payload)
        code, now = self.world.run(call), self.world.time_ms
        if known is None:
            assert code == Result.MERCHANT_UNKNOWN
            return
        known.votes = {voter: until for voter, until in known.votes.items() if now < until}
        if known.frozen_from is not None and now < known.frozen_from + 40_000:
            assert code == Result.FREEZE_PAUSE
        elif platform in known.votes:
            assert code == Result.FREEZE_VOTED
        else:
            assert code == OK
            known.votes[platform] = now + 15_000
            linked = {one for _, one in known.links}
            if len(known.votes) >= 2 and linked & known.votes.keys():
                known.votes, known.frozen_from, known.frozen_until = {}, now, now + 15_000

    @rule(index=st.integers(0, 1 << 16))
    def replay(self, index: int) -> None:
        """Any old transaction, again: refused, and nothing changes."""
        if self.world.history:
            before, old = self.world.app_hash, self.world.history[index % len(self.world.history)]
            result = self.world.result(old)
            assert not result.code.admitted
            assert self.world.app_hash == before
            for known in self.known.values():
                known.settle(self.world.time_ms)

    @invariant()
    def same_contents(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for index, known in self.known.items():
            known.settle(world.time_ms)
            person = self.born[index]
            entry = world.state.merchant(person.id, world.time_ms)
            assert entry is not None
            assert entry.controller == signing_key(known.controller).public
            assert entry.recovery_hash == recovery_hash(signing_key(known.recovery).public)
            assert (entry.nonce, entry.consent_serial, entry.order_keys) == (
                known.nonce,
                known.serial,
                known.order_keys,
            )
            assert (entry.frozen_from_ms, entry.frozen_until_ms) == (known.frozen_from, known.frozen_until)
            pending = entry.recovery and (entry.recovery.controller, entry.recovery.effective_ms)
            assert pending == (known.pending and (signing_key(known.pending[0]).public, known.pending[1]))
            assert {one.service for one in entry.services} == known.services
            for service in SERVICES:
                for platform_index, platform in enumerate(world.platforms):
                    floor = version_floor(world.state, person.id, platform.id, service)
                    assert floor == known.floors.get((service, platform_index), 0)
            for service in SERVICES:
                raw = world.store.get(Table.LINKS, link_key(person.id, service))
                links = parse(LinkList, raw).links if raw is not None else ()
                expected = {
                    world.platforms[platform].id: version
                    for (name, platform), version in known.links.items()
                    if name == service
                }
                assert {link.platform: link.version for link in links} == expected
                assert [link.platform for link in links] == sorted(expected)
                for platform in world.platforms:
                    envelope = world.store.get(Table.ENVELOPES, envelope_key(person.id, platform.id, service))
                    hashes = [link.envelope_hash for link in links if link.platform == platform.id]
                    assert hashes == ([sha256(envelope)] if envelope is not None else [])


Registry.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestRegistry = Registry.TestCase
