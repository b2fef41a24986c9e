"""The record: what a platform configured for one merchant and one service.

The common part identifies the merchant to a payer and to an enclave and knows nothing about money; `terms` holds the
service's own part as bytes (for payments: `record/payment.py`). Readers pass over fields numbered 64 and above and
refuse every other unknown field.
"""

from __future__ import annotations

from enum import IntEnum

from onecode.errors import Malformed
from onecode.schema import Bytes, Choice, ListOf, Message, Text, Uint, item, parse

RECORD_BYTES_MAX = 4096
SCHEMA_VERSION = 1
_ID = Bytes(20)
_TIME_MS = Uint((1 << 53) - 1)


class KybLevel(IntEnum):
    """How far the platform has checked the business (Know Your Business)."""

    NONE = 0
    BASIC = 1  # documents seen
    FULL = 2  # documents and beneficial owners verified


class Record(Message, extensible=True):
    schema: int = item(1, Uint(255))
    merchant: bytes = item(2, _ID)
    platform: bytes = item(3, _ID)
    service: str = item(4, Text(16))
    version: int = item(5, Uint())
    legal_name: str = item(6, Text(100))
    display_name: str = item(7, Text(50))
    registration_number: str | None = item(8, Text(35), default=None)
    lei: str | None = item(9, Text(20, 20), default=None)  # ISO 17442
    kyb_level: KybLevel = item(10, Choice(KybLevel))
    kyb_checked_ms: int | None = item(11, _TIME_MS, default=None)
    mcc: str = item(12, Text(4, 4))  # ISO 18245
    country: str = item(13, Text(2, 2))  # ISO 3166-1 alpha-2
    city: str = item(14, Text(50))
    valid_from_ms: int = item(15, _TIME_MS)
    valid_until_ms: int = item(16, _TIME_MS)
    audience: tuple[bytes, ...] = item(17, ListOf(_ID, 16, ascending=True))  # partners; empty: `own`
    time_zone: str = item(18, Text(64))  # IANA name
    terms: bytes = item(19, Bytes(1, 3072))


def parse_record(data: bytes) -> Record:
    """A record of untrusted bytes. Raises `Malformed`; another schema version is refused as such."""
    record = parse(Record, data, size_max=RECORD_BYTES_MAX, path="record")
    if record.schema != SCHEMA_VERSION:
        raise Malformed("record.schema", f"record schema {record.schema} is not known here", field="record.schema")
    if not (record.mcc.isascii() and record.mcc.isdigit()):
        raise Malformed("record.mcc", "the merchant category code must be four digits", field="record.mcc")
    if not (record.country.isascii() and record.country.isalpha() and record.country.isupper()):
        raise Malformed("record.country", "the country must be two capital letters", field="record.country")
    if record.valid_from_ms >= record.valid_until_ms:
        raise Malformed("record.validity", "the validity window ends before it begins", field="record.valid_until_ms")
    return record
