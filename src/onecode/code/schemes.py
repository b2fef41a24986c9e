"""Whose account a payload's objects 02 to 51 name: a small table for people who look at labels. Nothing rests on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onecode.code.layout import ACCOUNT_TEMPLATES, GUID, SUB_GUID
from onecode.code.tlv import DataObject, split_objects
from onecode.errors import Malformed

# EMVCo MPM v1.1, table 3.4: who uses the primitive objects
_PRIMITIVE = (
    ("02", "03", "Visa"),
    ("04", "05", "Mastercard"),
    ("06", "08", "reserved by EMVCo"),
    ("09", "10", "Discover"),
    ("11", "12", "American Express"),
    ("13", "14", "JCB"),
    ("15", "16", "UnionPay"),
    ("17", "25", "reserved by EMVCo"),
)

# As the schemes publish them; the name of a template is its identifier, never its number.
_NAMES = {
    GUID: "Onecode",
    "A000000524": "Bharat QR (IN)",
    "A0000006150001": "DuitNow (MY)",
    "A000000677010111": "PromptPay credit transfer (TH)",
    "A000000677010112": "PromptPay bill payment (TH)",
    "A000000727": "VietQR (VN)",
    "A005266284662577": "LaoQR (LA)",
    "br.gov.bcb.pix": "Pix (BR)",
    "com.grab": "GrabPay",
    "com.mercadolibre": "Mercado Pago (AR)",
    "com.p2pqrpay": "QR Ph, to persons (PH)",
    "COM.QQ.WEIXIN.PAY": "WeChat Pay",
    "hk.com.hkicl": "FPS (HK)",
    "ID.CO.QRIS.WWW": "QRIS (ID)",
    "ID.OR.GPNQR.WWW": "GPN QR (ID)",
    "int.bceao.pi": "PI-SPI (UEMOA)",
    "ph.ppmi.p2m": "QR Ph, to merchants (PH)",
    "SG.COM.NETS": "NETS (SG)",
    "SG.PAYNOW": "PayNow (SG)",
    "SG.SGQR": "SGQR identity (SG)",
}
_BY_GUID = {guid.casefold(): name for guid, name in _NAMES.items()}


@dataclass(frozen=True, slots=True)
class Account:
    """One merchant account of a payload. id: of its root object; guid: of a template; scheme: its name, if known."""

    id: str
    guid: str | None
    scheme: str | None


def scheme_name(guid: str) -> str | None:
    """What the scheme with this identifier is called, whatever its case; None for one that is not in the table."""
    return _BY_GUID.get(guid.casefold())


def accounts_in(objects: Iterable[DataObject]) -> tuple[Account, ...]:
    """The merchant accounts among a payload's root objects, in their order."""
    return tuple(_account(item) for item in objects if "02" <= item.id <= "51")


def _account(item: DataObject) -> Account:
    if item.id not in ACCOUNT_TEMPLATES:
        name = next((name for first, last, name in _PRIMITIVE if first <= item.id <= last), None)
        return Account(item.id, None, name)
    try:
        subs = split_objects(item.value, within=item.id)
    except Malformed:
        return Account(item.id, None, None)
    guid = next((sub.value for sub in subs if sub.id == SUB_GUID), None)
    return Account(item.id, guid, None if guid is None else scheme_name(guid))
