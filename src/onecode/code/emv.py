"""An EMVCo Merchant-Presented payload as a whole: reading, strict or lenient, and strict writing.

Source: EMVCo QR Code Specification for Payment Systems, Merchant-Presented Mode, v1.1 (November 2020).
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from onecode.code.emv_rules import deviations
from onecode.code.tlv import DataObject, join_objects, split_objects
from onecode.errors import Malformed

TEXT_BYTES_MAX = 2953  # what the largest QR symbol holds
_CRC_HEADER = "6304"
_CRC_CHARS = 4


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which a payload deviates from the specification. object: e.g. "53" or "62.09"."""

    code: str
    object: str
    message: str


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload whose structure and CRC hold. objects: in their order, the CRC last."""

    text: str
    objects: tuple[DataObject, ...]
    deviations: tuple[Deviation, ...] = ()

    def value(self, name: str) -> str | None:
        """The value of the root object ("53") or sub-object ("62.03") of this name, or None if it is not there.

        None too where it deviates, or its template does: what nobody checked is not shown to a payer.
        """
        if any(deviation.object in (name, name[:2]) for deviation in self.deviations):
            return None
        outer = next((item.value for item in self.objects if item.id == name[:2]), None)
        if outer is None or len(name) == 2:
            return outer
        return next((item.value for item in split_objects(outer) if item.id == name[3:]), None)


def crc_text(body: str) -> str:
    """The CRC object's four hex digits for everything before it: CRC-16, polynomial 1021, start FFFF, over UTF-8."""
    return f"{binascii.crc_hqx((body + _CRC_HEADER).encode('utf-8'), 0xFFFF):04X}"


def _checked_crc(text: str) -> Malformed | None:
    """Raise unless the CRC at the end fits; a deviation if it only stands in lower case."""
    body, header, found = text[: -_CRC_CHARS * 2], text[-_CRC_CHARS * 2 : -_CRC_CHARS], text[-_CRC_CHARS:]
    if header != _CRC_HEADER:
        raise Malformed("code.crc", "the payload does not end with a CRC object (6304 and four digits)", field="63")
    if found.upper() != crc_text(body):
        raise Malformed(
            "code.crc", "the CRC does not fit: the code was read or copied wrongly, scan it again", field="63"
        )
    if found != found.upper():
        return Malformed("code.crc_case", "the CRC's hex digits must be upper case", field="63")
    return None


def parse_payload(text: str, *, lenient: bool = False) -> Payload:
    """The payload in `text`; raises `Malformed` naming the first object that deviates.

    1. Size and encoding. 2. The CRC at the end, over everything before it. 3. Objects. 4. The rules of `emv_rules`.
    lenient: a deviation found in step 4 is kept in `deviations` instead; steps 1 to 3 are refused all the same.
    Not checked: that MCC, currency, country and language are assigned; what schemes demand of their templates.
    """
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise Malformed("code.text", "the payload holds characters that UTF-8 cannot carry", field="payload") from None
    if size > TEXT_BYTES_MAX:
        raise Malformed(
            "code.too_large", f"{size} bytes where a QR code holds {TEXT_BYTES_MAX}", field="payload", status=413
        )
    crc_case = _checked_crc(text)
    objects = split_objects(text)
    if objects[-1].id != "63" or len(objects[-1].value) != _CRC_CHARS:
        raise Malformed("code.crc", "the payload's last object is not the CRC (63)", field="63")
    found = [*([crc_case] if crc_case else []), *deviations(objects, writing=False)]
    if found and not lenient:
        raise found[0]
    return Payload(text, objects, tuple(Deviation(error.code, error.field or "", error.message) for error in found))


def build_payload(objects: Iterable[DataObject]) -> str:
    """The payload of these root objects, in this order, with the CRC added; raises `Malformed` on any deviation."""
    body = join_objects(objects)
    for error in deviations((*split_objects(body), DataObject("63", "0000")), writing=True):
        raise error
    return with_crc(body)


def with_crc(body: str) -> str:
    """The joined objects `body` with the CRC object behind them; nothing else is checked."""
    return f"{body}{_CRC_HEADER}{crc_text(body)}"
