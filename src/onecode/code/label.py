"""Writing codes: a merchant's static label, a signed order, and our identity on a label that hangs already."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from onecode.code.currency import BY_NUMERIC, Currency, format_amount
from onecode.code.emv import build_payload, parse_payload, with_crc
from onecode.code.identity import merchant_text, prefix_of
from onecode.code.layout import ACCOUNT_TEMPLATES, identity_object, signature_objects, signed_bytes
from onecode.code.reading import ASK_PAYER, ForeignCode, parse_code
from onecode.code.tlv import DataObject, join_objects
from onecode.errors import Malformed


@dataclass(frozen=True, slots=True)
class StaticLabel:
    """What is printed once. Objects in brackets; characters are printable ASCII.

    merchant_id: 20 bytes; prefix: of the network; mcc: 4 digits (52); currency: 3 digits (53); country: 2 letters (58);
    name: up to 25 characters (59); city: up to 15 (60); postal_code: up to 10 (61); store_label (62.03), reference
    (62.05), terminal_label (62.07): up to 25; tip_prompt: ask the payer for a tip (55 = 01);
    template: where the identity sits, 26 to 51.
    """

    merchant_id: bytes
    prefix: str
    mcc: str
    currency: str
    country: str
    name: str
    city: str
    postal_code: str | None = None
    store_label: str | None = None
    reference: str | None = None
    terminal_label: str | None = None
    tip_prompt: bool = False
    template: str = "26"


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What one dynamic code asks for. reference: up to 25 characters, used once; expiry_ms: at most 1 h ahead."""

    amount_minor: int
    reference: str
    expiry_ms: int


def _currency(label: StaticLabel) -> Currency:
    currency = BY_NUMERIC.get(label.currency)
    if currency is None:
        raise Malformed(
            "code.currency", f"{label.currency!r} is not the three digits of an active currency", field="currency"
        )
    return currency


def _objects(label: StaticLabel, order: OrderTerms | None) -> list[DataObject]:
    """The root objects of a code in the order of their ids, without signature and CRC."""
    currency = _currency(label)
    text = merchant_text(label.merchant_id, label.prefix)
    additional = join_objects(
        (
            DataObject(sub, value)
            for sub, value in (("03", label.store_label), ("05", label.reference), ("07", label.terminal_label))
            if value is not None
        ),
        within="62",
    )
    values = (
        ("00", "01"),
        ("01", "12" if order else "11"),
        (label.template, identity_object(label.template, text, order.expiry_ms if order else None).value),
        ("52", label.mcc),
        ("53", label.currency),
        ("54", format_amount(order.amount_minor, currency.exponent) if order else None),
        ("55", "01" if label.tip_prompt else None),
        ("58", label.country),
        ("59", label.name),
        ("60", label.city),
        ("61", label.postal_code),
        ("62", additional or None),
    )
    return [DataObject(name, value) for name, value in values if value is not None]


def build_static(label: StaticLabel) -> str:
    """The payload of a static code: identity, no amount. Raises `Malformed` naming the object that breaks a rule."""
    return build_payload(_objects(label, None))


def build_dynamic(label: StaticLabel, order: OrderTerms, sign: Callable[[bytes], bytes], chain_id: str) -> str:
    """The payload of a dynamic code: identity and signed order.

    sign: gives the 64-byte Ed25519 signature of one of the merchant's order keys over the bytes it is handed.
    The label's own reference gives way to the order's. The expiry is written as it stands: readers hold it to 1 h.
    """
    if label.prefix != prefix_of(chain_id):
        raise Malformed("code.id_prefix", "the label's prefix is not that of the order's chain", field="prefix")
    if order.reference == ASK_PAYER:
        raise Malformed("code.reference", "a signed order names its reference; it cannot ask the payer", field="62.05")
    objects = _objects(dataclasses.replace(label, reference=order.reference), order)
    signature = sign(signed_bytes(label.merchant_id, join_objects(objects), chain_id))
    return build_payload([*objects, *signature_objects(signature)])


def add_identity(text: str, merchant_id: bytes, prefix: str) -> str:
    """The payload of another scheme's static label with our identity added; every other object stays as it is.

    The identity takes the lowest free template of 26 to 51 and stands behind the other accounts; the CRC is made anew.
    Refuses a label that has our identity already, carries an amount or calls itself dynamic: it would not be read.
    Deviations of the old label stay: they are its own.
    """
    if not isinstance(parse_code(text, prefix=prefix), ForeignCode):
        raise Malformed("code.identity", "the label carries an identity already", field="payload")
    objects = parse_payload(text, lenient=True).objects[:-1]
    used = {item.id for item in objects}
    free = next((template for template in ACCOUNT_TEMPLATES if template not in used), None)
    if free is None:
        raise Malformed("code.template_id", "the label has no free template among 26 to 51", field="payload")
    accounts_end = max((index + 1 for index, item in enumerate(objects) if item.id <= "51"), default=0)
    added = identity_object(free, merchant_text(merchant_id, prefix))
    result = with_crc("".join(map(str, (*objects[:accounts_end], added, *objects[accounts_end:]))))
    parse_code(result, prefix=prefix)
    return result
