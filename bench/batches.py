"""Transactions that publish records of merchants made up for it, built and signed before they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.world import Platform, key, publish_record, record_bytes
from onecode.code.identity import merchant_id
from onecode.record.payment import SERVICE_PAY
from onecode.registry.transactions import (
    Birth,
    Consent,
    Kind,
    Publication,
    Purpose,
    RecordPublish,
    RecordWithdraw,
    SignedConsent,
    SignerKind,
    Withdrawal,
    build_transaction,
    sign_consent,
)
from onecode.schema import Message
from onecode.wire import SigningKey, sha256

ENVELOPE = b"e" * 540


@dataclass(frozen=True, slots=True)
class Publisher:
    """One signer of transactions. Its merchants are its own: nobody else publishes for them.

    until_ms: when transactions and consents end.
    """

    chain_id: str
    platform: bytes
    key: SigningKey
    label: str
    until_ms: int

    def publish(self, items: Iterable[tuple[int, int]], nonce: int) -> bytes:
        """Records of merchants, given as (number, version); a first version comes with the consent that it needs."""
        return self.publish_these([self._publication(number, version) for number, version in items], nonce)

    def publish_these(self, items: Sequence[Publication], nonce: int) -> bytes:
        """Publications that were made elsewhere."""
        return self._signed(Kind.RECORD_PUBLISH, RecordPublish(items=tuple(items)), nonce)

    def withdraw(self, merchant: bytes, version: int, nonce: int) -> bytes:
        """Take back one record."""
        item = Withdrawal(merchant=merchant, service=SERVICE_PAY, version=version)
        return self._signed(Kind.RECORD_WITHDRAW, RecordWithdraw(items=(item,)), nonce)

    def merchant(self, number: int) -> bytes:
        """The id of a merchant."""
        return merchant_id(*_born(self.label, number)[1:])

    def _publication(self, number: int, version: int) -> Publication:
        controller, public, recovery = _born(self.label, number)
        merchant, first = merchant_id(public, recovery), version == 1
        consent = _consent(self.chain_id, merchant, self.platform, controller, self.until_ms) if first else None
        return Publication(
            merchant=merchant,
            service=SERVICE_PAY,
            version=version,
            epoch=1,
            audience=(),
            envelope=ENVELOPE,
            commitment=sha256(b"%d %d" % (number, version)),
            consent=consent,
            birth=Birth(controller=public, recovery_hash=recovery) if first else None,
        )

    def _signed(self, kind: Kind, payload: Message, nonce: int) -> bytes:
        return build_transaction(
            self.chain_id,
            kind,
            payload,
            signer=self.platform,
            signer_kind=SignerKind.PLATFORM,
            key=self.key,
            nonce=nonce,
            valid_until_ms=self.until_ms,
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """Merchants with real records, each published by the two platforms of `bench.world.platforms_of`.

    day_ms: a midnight, from which the records' dates are taken.
    """

    chain_id: str
    label: str
    until_ms: int
    day_ms: int

    def merchant(self, number: int) -> bytes:
        """The id of a merchant."""
        return merchant_id(*_born(self.label, number)[1:])

    def publication(self, number: int, own: Platform, partner: Platform) -> Publication:
        """The first version of `own`'s record, which wallets of `partner` may read, with all that it needs."""
        controller, public, recovery = _born(self.label, number)
        merchant = merchant_id(public, recovery)
        record = record_bytes(own, partner, merchant, self.day_ms)
        link, envelope = publish_record(self.chain_id, own, partner, merchant, record)
        return Publication(
            merchant=merchant,
            service=SERVICE_PAY,
            version=link.version,
            epoch=link.epoch,
            audience=link.audience,
            envelope=envelope,
            commitment=link.commitment,
            consent=_consent(self.chain_id, merchant, own.id, controller, self.until_ms),
            birth=Birth(controller=public, recovery_hash=recovery),
        )


def _born(label: str, number: int) -> tuple[SigningKey, bytes, bytes]:
    """A merchant's controller key, the same's public half, and its recovery hash."""
    controller = key(f"{label} merchant {number}")
    return controller, controller.public, sha256(f"{label} recovery {number}".encode())


def _consent(chain_id: str, merchant: bytes, platform: bytes, controller: SigningKey, until_ms: int) -> SignedConsent:
    body = Consent(
        purpose=Purpose.PUBLISH,
        merchant=merchant,
        platform=platform,
        service=SERVICE_PAY,
        consent_serial=0,
        expires_ms=until_ms,
    )
    return sign_consent(chain_id, body, controller)
