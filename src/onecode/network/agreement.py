"""What a merchant hands to a platform, and the agreement that the platform's operator makes of it."""

from __future__ import annotations

from typing import Any

from onecode.errors import Malformed
from onecode.network.merchant import Merchant, build_consent
from onecode.record.payment import SERVICE_PAY
from onecode.registry.transactions import SignedConsent
from onecode.schema import parse, to_plain

YEAR_MS = 365 * 24 * 3600 * 1000


def hand_over(merchant: Merchant, platform: bytes, service: str, now_ms: int, valid_ms: int) -> dict[str, str]:
    """What the platform needs of the merchant, in hex: its birth keys and its consent for this platform."""
    return {
        "controller": merchant.birth[0].hex(),
        "recovery_hash": merchant.birth[1].hex(),
        "service": service,
        "consent": build_consent(merchant, platform, service, now_ms, valid_ms).hex(),
    }


def build_agreement(record: dict[str, Any], handed: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """The body of a platform's sign-up: record data by the operator, and what the merchant handed over.

    What is left out is: service "pay", valid for a year from now, no KYB, no partners, time zone UTC. The platform
    checks it all.
    """
    agreement: dict[str, Any] = {
        "service": SERVICE_PAY,
        "kyb_level": "none",
        "audience": [],
        "time_zone": "UTC",
        "valid_from_ms": now_ms,
        "valid_until_ms": now_ms + YEAR_MS,
    }
    agreement |= record
    agreement |= {
        name: handed[name] for name in ("controller", "recovery_hash", "service", "consent") if name in handed
    }
    consent = agreement.get("consent")
    if isinstance(consent, str):
        agreement["consent"] = _plain_consent(consent)
    return agreement


def alias_body(handed: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The merchant, and the body by which a platform binds its label, of what the merchant handed over."""
    merchant, consent = handed.get("merchant"), handed.get("consent")
    if not isinstance(merchant, str) or not isinstance(consent, str) or not {"guid", "values"} <= set(handed):
        raise Malformed("cli.alias", "the file is what `onecode merchant consent --alias --json` prints", field="file")
    return merchant, {"guid": handed["guid"], "values": handed["values"], "consent": _plain_consent(consent)}


def _plain_consent(consent: str) -> dict[str, Any]:
    try:
        raw = bytes.fromhex(consent)
    except ValueError:
        raise Malformed("cli.consent", "the consent is hex, as `onecode merchant consent` prints it") from None
    return to_plain(parse(SignedConsent, raw, path="consent"))
