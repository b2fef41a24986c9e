"""A merchant's agreement with the platform: what a record is made of, and the merchant's word that it agreed."""

from __future__ import annotations

from typing import Any

from onecode.code.identity import merchant_id
from onecode.errors import Malformed, Untrusted
from onecode.proof.leaves import ID, KEY, SERVICE, TIME_MS
from onecode.record.payment import SERVICE_PAY, PaymentTerms, parse_terms
from onecode.record.schema import SCHEMA_VERSION, KybLevel, Record, parse_record
from onecode.registry.transactions import Consent, Purpose, SignedConsent
from onecode.schema import Bytes, Choice, ListOf, Message, Nested, Text, from_plain, item, parse
from onecode.wire import Domain, verify_signature


class Agreement(Message):
    """Field names in JSON are those of the record (docs/spec/platform.md). `consent` is the merchant's, for this
    platform and service; updates of a live record need no new one."""

    controller: bytes = item(1, KEY)
    recovery_hash: bytes = item(2, Bytes(32))
    service: str = item(3, SERVICE)
    consent: SignedConsent = item(4, Nested(SignedConsent))
    legal_name: str = item(5, Text(100))
    display_name: str = item(6, Text(50))
    registration_number: str | None = item(7, Text(35), default=None)
    lei: str | None = item(8, Text(20, 20), default=None)
    kyb_level: KybLevel = item(9, Choice(KybLevel))
    kyb_checked_ms: int | None = item(10, TIME_MS, default=None)
    mcc: str = item(11, Text(4, 4))
    country: str = item(12, Text(2, 2))
    city: str = item(13, Text(50))
    valid_from_ms: int = item(14, TIME_MS)
    valid_until_ms: int = item(15, TIME_MS)
    audience: tuple[bytes, ...] = item(16, ListOf(ID, 16, ascending=True))
    time_zone: str = item(17, Text(64))
    terms: PaymentTerms = item(18, Nested(PaymentTerms))

    @property
    def merchant(self) -> bytes:
        """The merchant's id by its birth keys. A merchant whose keys were replaced keeps it: give the first ones."""
        return merchant_id(self.controller, self.recovery_hash)

    def record(self, platform: bytes, version: int) -> Record:
        """The record of this agreement as one version."""
        return Record(
            schema=SCHEMA_VERSION,
            merchant=self.merchant,
            platform=platform,
            service=self.service,
            version=version,
            legal_name=self.legal_name,
            display_name=self.display_name,
            registration_number=self.registration_number,
            lei=self.lei,
            kyb_level=self.kyb_level,
            kyb_checked_ms=self.kyb_checked_ms,
            mcc=self.mcc,
            country=self.country,
            city=self.city,
            valid_from_ms=self.valid_from_ms,
            valid_until_ms=self.valid_until_ms,
            audience=self.audience,
            time_zone=self.time_zone,
            terms=self.terms.encoded(),
        )


def parse_agreement(value: Any, platform: bytes) -> Agreement:
    """The agreement in decoded JSON, which must make a record that readers accept; `Malformed` names the field."""
    agreement = from_plain(Agreement, value, "agreement")
    if agreement.service != SERVICE_PAY:
        raise Malformed("merchant.service", f"this platform offers {SERVICE_PAY!r} only", field="agreement.service")
    parse_record(agreement.record(platform, 1).encoded())
    parse_terms(agreement.terms.encoded())
    return agreement


def verify_consent(agreement: Agreement, chain_id: str, platform: bytes, now_ms: int) -> None:
    """What can be told of the consent without the chain; the registry judges it in full.

    1. It is a consent to publish for this merchant, platform and service. 2. It has not expired. 3. It is signed by the
    controller or the recovery key that it names. Does NOT check the consent's serial, nor the recovery key's hash.
    """
    consent = parse(Consent, agreement.consent.body, path="agreement.consent")
    given = (consent.purpose, consent.merchant, consent.platform, consent.service)
    if given != (Purpose.PUBLISH, agreement.merchant, platform, agreement.service):  # 1
        raise Untrusted(
            "merchant.consent", "the consent is for another merchant, platform or service", field="agreement.consent"
        )
    if now_ms >= consent.expires_ms:  # 2
        raise Untrusted(
            "merchant.consent_expired", "the consent has expired; ask the merchant again", field="agreement.consent"
        )
    signed = agreement.consent
    verify_signature(  # 3
        signed.recovery_key or agreement.controller,
        signed.signature,
        Domain.CONSENT,
        chain_id,
        signed.body,
        field="agreement.consent.signature",
    )
