"""Transactions that publish records of merchants made up for it, built and signed before they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.world import key
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

    def publish(self, numbers: Sequence[int], version: int, nonce: int) -> bytes:
        """Version `version` of the records of these merchants; the first with the consents that it needs."""
        items = tuple(self._publication(number, version) for number in numbers)
        return self._signed(Kind.RECORD_PUBLISH, RecordPublish(items=items), nonce)

    def withdraw(self, number: int, version: int, nonce: int) -> bytes:
        """Take back one record."""
        item = Withdrawal(merchant=self.merchant(number), service=SERVICE_PAY, version=version)
        return self._signed(Kind.RECORD_WITHDRAW, RecordWithdraw(items=(item,)), nonce)

    def merchant(self, number: int) -> bytes:
        """The id of a merchant."""
        return merchant_id(*self._born(number)[1:])

    def _born(self, number: int) -> tuple[SigningKey, bytes, bytes]:
        controller = key(f"{self.label} merchant {number}")
        return controller, controller.public, sha256(f"{self.label} recovery {number}".encode())

    def _publication(self, number: int, version: int) -> Publication:
        controller, public, recovery = self._born(number)
        merchant, first = merchant_id(public, recovery), version == 1
        consent = Consent(
            purpose=Purpose.PUBLISH,
            merchant=merchant,
            platform=self.platform,
            service=SERVICE_PAY,
            consent_serial=0,
            expires_ms=self.until_ms,
        )
        return Publication(
            merchant=merchant,
            service=SERVICE_PAY,
            version=version,
            epoch=1,
            audience=(),
            envelope=ENVELOPE,
            commitment=sha256(b"%d %d" % (number, version)),
            consent=sign_consent(self.chain_id, consent, controller) if first else None,
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
