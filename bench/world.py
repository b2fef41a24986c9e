"""The network that is measured: eight platforms with known keys, and merchants that each have links of two of them.

Everything is derived from labels and numbers, so that processes agree without telling each other. Eight platforms,
because an enclave answers at most 2,000 queries a second for the wallets of one.
"""

from __future__ import annotations

from functools import cache

from onecode.code.identity import merchant_id, platform_id
from onecode.enclave.measure import code_measurement
from onecode.host.clock import now_ms
from onecode.proof.governance import DAY_MS, DEFAULT_PARAMETERS, Admission, Measurement, ValidatorLeaf
from onecode.proof.leaves import KeyState, Link, LinkList, MerchantEntry, PlatformKey, Role, ServiceEntry, links_hash
from onecode.record.envelope import NONCE_BYTES, RecordIds, SignedRecord, commitment, seal_envelope
from onecode.record.payment import SERVICE_PAY, AcquiringAccount, PaymentTerms, TipMode
from onecode.record.schema import KybLevel, Record
from onecode.registry.genesis import Genesis
from onecode.wire import Domain, SigningKey, sha256

CHAIN_ID = "solo-bench"
EPOCH = 1
LINKS_A_MERCHANT = 2
VALID_MS = 30 * DAY_MS
_NO_MERCHANT = bytes(range(20))  # stands in a template where each merchant's id goes


@cache
def key(label: str) -> SigningKey:
    return SigningKey.from_seed(sha256(label.encode()))


VALIDATOR, VENDOR = "validator", "simulated vendor"


class Platform:
    """One platform with all its keys."""

    def __init__(self, number: int) -> None:
        self.name = f"Bench Pay {number}"
        self.root = key(f"{self.name} root")
        self.id = platform_id(self.root.public)
        self.epoch_key = sha256(f"{self.name} epoch".encode())

    def key(self, role: Role) -> SigningKey:
        return key(f"{self.name} {role.name}")

    def admission(self) -> Admission:
        ends_ms = now_ms() + 80 * DAY_MS
        keys = tuple(
            PlatformKey(
                role=role,
                key=self.key(role).public,
                state=KeyState.ACTIVE,
                height=0,
                since_ms=0,
                not_after_ms=ends_ms if role == Role.ANCHOR else None,
            )
            for role in Role
        )
        return Admission(root=self.root.public, name=self.name, keys=keys, url="https://pay.example", nodes=())


PLATFORMS = tuple(sorted((Platform(number) for number in range(8)), key=lambda platform: platform.id))


def genesis() -> Genesis:
    return Genesis(
        chain_id=CHAIN_ID,
        time_ms=now_ms(),
        parameters=DEFAULT_PARAMETERS,
        platforms=tuple(platform.admission() for platform in PLATFORMS),
        validators=(ValidatorLeaf(key=key(VALIDATOR).public, power=10, platform=PLATFORMS[0].id),),
        services=(SERVICE_PAY,),
        measurements=(Measurement(kind="software", measurement=code_measurement(), effective_ms=0),),
    )


def birth(number: int) -> tuple[bytes, bytes]:
    """Controller key (a number: nobody signs with it here) and recovery hash of a merchant."""
    seed = sha256(b"merchant %d" % number)
    return seed, sha256(seed)


def identity(number: int) -> bytes:
    """A merchant's id."""
    return merchant_id(*birth(number))


def platforms_of(number: int) -> tuple[Platform, Platform]:
    """The two platforms that a merchant has links of, ascending by id."""
    at = number % len(PLATFORMS)
    first, second = sorted((at, (at + 1) % len(PLATFORMS)))
    return PLATFORMS[first], PLATFORMS[second]


@cache
def _record_around(own: Platform, partner: Platform, day_ms: int) -> tuple[bytes, bytes]:
    """A record's bytes before and after the merchant's id."""
    account = AcquiringAccount(
        merchant_number="ACQ-0012345678",
        settlement_reference="settle-0042",
        currency="EUR",
        amount_max_minor=500_000,
        store_labels=(),
    )
    record = Record(
        schema=1,
        merchant=_NO_MERCHANT,
        platform=own.id,
        service=SERVICE_PAY,
        version=1,
        legal_name="Noodle House Restaurants GmbH",
        display_name="Noodle House",
        registration_number="HRB 123456",
        kyb_level=KybLevel.FULL,
        kyb_checked_ms=day_ms,
        mcc="5812",
        country="DE",
        city="Berlin",
        valid_from_ms=day_ms - DAY_MS,
        valid_until_ms=day_ms + VALID_MS,
        audience=(partner.id,),
        time_zone="Europe/Berlin",
        terms=PaymentTerms(accounts=(account,), tip_mode=TipMode.PROMPT).encoded(),
    )
    before, _, after = record.encoded().partition(_NO_MERCHANT)
    return before, after


def record_bytes(own: Platform, partner: Platform, merchant: bytes, day_ms: int) -> bytes:
    """One record; they differ in nothing but the merchant."""
    before, after = _record_around(own, partner, day_ms)
    return before + merchant + after


class Rows:
    """What a store holds of one merchant: entry, links list and, for each link, platform, envelope and plain record."""

    __slots__ = ("entry", "links", "merchant", "sealed")

    def __init__(self, number: int, day_ms: int) -> None:
        controller, recovery = birth(number)
        self.merchant = merchant_id(controller, recovery)
        self.sealed: list[tuple[bytes, bytes, bytes]] = []
        pair = platforms_of(number)
        links = []
        for own, partner in (pair, pair[::-1]):
            record = record_bytes(own, partner, self.merchant, day_ms)
            link, envelope = publish_record(CHAIN_ID, own, partner, self.merchant, record)
            links.append(link)
            self.sealed.append((own.id, envelope, record))
        listed = LinkList(links=tuple(links))
        self.links = listed.encoded()
        service = ServiceEntry(
            service=SERVICE_PAY,
            links_hash=links_hash(CHAIN_ID, self.merchant, SERVICE_PAY, listed),
        )
        self.entry = MerchantEntry(
            controller=controller,
            recovery_hash=recovery,
            order_keys=(),
            nonce=0,
            consent_serial=0,
            services=(service,),
            alias_count=0,
        ).encoded()


def publish_record(
    chain_id: str, own: Platform, partner: Platform, merchant: bytes, record: bytes
) -> tuple[Link, bytes]:
    """Version 1: a link and its envelope, as the platform would publish them on that chain."""
    ids = RecordIds(merchant=merchant, platform=own.id, service=SERVICE_PAY, version=1, epoch=EPOCH)
    signer = own.key(Role.RECORD)
    salt = sha256(merchant + own.id)
    signature = signer.sign(Domain.RECORD, chain_id, record)
    signed = SignedRecord(salt=salt, record=record, record_key=signer.public, signature=signature)
    envelope = seal_envelope(chain_id, ids, signed, own.epoch_key, sha256(salt)[:NONCE_BYTES])
    link = Link(
        platform=own.id,
        version=1,
        epoch=EPOCH,
        audience=(partner.id,),
        height=1,
        envelope_hash=sha256(envelope),
        commitment=commitment(chain_id, ids, salt, record),
    )
    return link, envelope
