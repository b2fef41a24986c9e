"""Consents: a merchant's word that a platform may publish for it or bind an alias to it."""

from __future__ import annotations

from onecode.code.identity import recovery_hash
from onecode.errors import Malformed
from onecode.proof.leaves import MerchantEntry
from onecode.registry.context import Context
from onecode.registry.results import Result
from onecode.registry.transactions import CONSENT_MS_MAX, Consent, Purpose, SignedConsent
from onecode.schema import parse
from onecode.wire import Domain


def consent_code(
    context: Context,
    signed: SignedConsent,
    *,
    purpose: Purpose,
    merchant: bytes,
    entry: MerchantEntry,
    service: str | None = None,
    alias: bytes | None = None,
) -> Result:
    """Whether `signed` lets the signing platform do this now. In this order:

    1. it parses: `CONSENT_MALFORMED`;
    2. purpose, merchant, platform, service and alias are these: `CONSENT_MISMATCH`;
    3. it has not expired, and expires at most 30 days ahead: `CONSENT_EXPIRED`, `CONSENT_TOO_LONG`;
    4. its serial is the merchant's current one: `CONSENT_SERIAL`;
    5. its key is the merchant's: a recovery key that fits the hash (`CONSENT_SIGNER`), else the controller, which is
       refused while a recovery is pending (`RECOVERY_PENDING`);
    6. the signature holds: `CONSENT_SIGNATURE`.

    Not checked: whether it was used before; it counts until it expires or the serial rises.
    """
    try:
        consent = parse(Consent, signed.body)  # step 1
    except Malformed:
        return Result.CONSENT_MALFORMED
    wanted = (purpose, merchant, context.signer, service, alias)
    if (consent.purpose, consent.merchant, consent.platform, consent.service, consent.alias) != wanted:  # step 2
        return Result.CONSENT_MISMATCH
    if context.time_ms >= consent.expires_ms:  # step 3
        return Result.CONSENT_EXPIRED
    if consent.expires_ms > context.time_ms + CONSENT_MS_MAX:
        return Result.CONSENT_TOO_LONG
    if consent.consent_serial != entry.consent_serial:  # step 4
        return Result.CONSENT_SERIAL
    if signed.recovery_key is not None:  # step 5
        if recovery_hash(signed.recovery_key) != entry.recovery_hash:
            return Result.CONSENT_SIGNER
        key = signed.recovery_key
    else:
        if entry.recovery is not None:
            return Result.RECOVERY_PENDING
        key = entry.controller
    if not context.signed(key, signed.signature, Domain.CONSENT, signed.body):  # step 6
        return Result.CONSENT_SIGNATURE
    return Result.OK
