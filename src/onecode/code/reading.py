"""Reading codes: whose code it is, what is printed beside the identity, and the order, not yet verified."""

from __future__ import annotations

from dataclasses import dataclass

from onecode.code.currency import Currency, find_currency, parse_amount_minor
from onecode.code.emv import Deviation, Payload, parse_payload
from onecode.code.identity import parse_merchant_text
from onecode.code.layout import (
    ACCOUNT_TEMPLATES,
    SUB_EXPIRY,
    SUB_GUID,
    SUB_IDENTITY,
    UNRESERVED_TEMPLATES,
    join_signature,
    our_templates,
    parse_expiry_ms,
)
from onecode.code.tlv import DataObject, split_objects
from onecode.errors import Malformed, Untrusted

ASK_PAYER = "***"  # in a sub-object of 62: the payer's application asks for the value
_DYNAMIC = "12"
_TIP_PROMPT = "01"


@dataclass(frozen=True, slots=True)
class PrintedOrder:
    """The order of a dynamic code as it stands there: nothing to pay by before `verify_order` has passed.

    amount_text: object 54; amount_minor: the same in minor units of `currency` (53); reference: 62.05;
    expiry_ms: since the epoch; signature: 64 bytes; signed_payload: the payload without our signature and the CRC.
    """

    amount_text: str
    amount_minor: int
    currency: Currency
    reference: str
    expiry_ms: int
    signature: bytes
    signed_payload: str


@dataclass(frozen=True, slots=True)
class Code:
    """A code with our identity.

    merchant_id: 20 bytes. All else but `order` is what was true at print time, for information; None where it is absent
    or breaks a rule: name (59), city (60), mcc (52), country (58), currency (53, three digits), store_label (62.03),
    terminal_label (62.07), reference (62.05). tip_prompt: 55 is 01. order: None in a static code.
    """

    merchant_id: bytes
    name: str | None
    city: str | None
    mcc: str | None
    country: str | None
    currency: str | None
    store_label: str | None
    terminal_label: str | None
    reference: str | None
    tip_prompt: bool
    order: PrintedOrder | None
    deviations: tuple[Deviation, ...]


@dataclass(frozen=True, slots=True)
class AliasSource:
    """One template of another scheme, which may be an alias of a merchant. subs: sub-objects 01-99 by id."""

    template: str
    guid: str
    subs: dict[str, str]


@dataclass(frozen=True, slots=True)
class ForeignCode:
    """A code without our identity. All but `sources` as in `Code`: what was true at print time, for information."""

    sources: tuple[AliasSource, ...]
    name: str | None
    mcc: str | None
    country: str | None
    currency: str | None
    store_label: str | None
    terminal_label: str | None
    deviations: tuple[Deviation, ...]


def parse_code(text: str, *, prefix: str) -> Code | ForeignCode:
    """What a scanned payload says; raises `Malformed`, or `Untrusted` for an amount that nobody signed.

    1. Structure and CRC hold; no root object stands twice (two readers could see two codes).
    2. Our identity stands once, alone in its template, and is of the network with this prefix. Without one the code is
       foreign: it must carry no amount, and its templates 26-51 are candidates for an alias.
    3. Without signature: no amount, no expiry, not marked dynamic. Other deviations are kept; a deviating object reads
       as absent. Fees printed in an unsigned code are not read: the record says what is charged.
    4. With signature: the payload is strictly conformant, marked dynamic, and has amount, known currency, reference and
       expiry; a tip may be prompted for, a fee may not be set.
    Not checked: the signature and the expiry (`verify_order`); whether the merchant exists; what the record says.
    """
    payload = parse_payload(text, lenient=True)
    for deviation in payload.deviations:
        if deviation.code == "code.duplicate" and "." not in deviation.object:
            raise Malformed("code.duplicate", deviation.message, field=deviation.object)
    identities = our_templates(payload.objects, ACCOUNT_TEMPLATES)
    signatures = our_templates(payload.objects, UNRESERVED_TEMPLATES)
    if not identities:
        if signatures:
            raise Malformed(
                "code.identity", "the code has our signature but not our identity", field=signatures[0][0].id
            )
        return _foreign(payload)
    if len(identities) > 1:
        raise Malformed("code.identity", "our identity stands in the code more than once", field=identities[1][0].id)
    template, subs = identities[0]
    if SUB_IDENTITY not in subs or not set(subs) <= {SUB_GUID, SUB_IDENTITY, SUB_EXPIRY}:
        raise Malformed(
            "code.identity", "the identity template has 00, 01 and, in a dynamic code, 02", field=template.id
        )
    merchant_id = parse_merchant_text(subs[SUB_IDENTITY], prefix)
    order = None
    if signatures:
        payload = parse_payload(text)
        order = _order(payload, f"{template.id}.{SUB_EXPIRY}", subs.get(SUB_EXPIRY), signatures)
    else:
        _refuse_unsigned_amount(payload)
        if SUB_EXPIRY in subs or _raw(payload, "01") == _DYNAMIC:
            raise Untrusted(
                "code.dynamic_unsigned", "the code says it is an order but carries no signature", field="01"
            )
    return Code(
        merchant_id=merchant_id,
        name=payload.value("59"),
        city=payload.value("60"),
        mcc=payload.value("52"),
        country=payload.value("58"),
        currency=payload.value("53"),
        store_label=payload.value("62.03"),
        terminal_label=payload.value("62.07"),
        reference=payload.value("62.05"),
        tip_prompt=payload.value("55") == _TIP_PROMPT,
        order=order,
        deviations=payload.deviations,
    )


def _raw(payload: Payload, tag: str) -> str | None:
    """The value as printed, whether or not it keeps the rules: a zero amount is an amount too."""
    return next((item.value for item in payload.objects if item.id == tag), None)


def _refuse_unsigned_amount(payload: Payload) -> None:
    if _raw(payload, "54") is not None:
        raise Untrusted(
            "code.amount_unsigned", "the code sets an amount that no order key signed; do not pay it", field="54"
        )


def _order(
    payload: Payload, expiry_name: str, expiry: str | None, signatures: list[tuple[DataObject, dict[str, str]]]
) -> PrintedOrder:
    amount, reference = payload.value("54"), payload.value("62.05")
    if payload.value("01") != _DYNAMIC:
        raise Malformed("code.order_incomplete", "a signed order is marked dynamic: 01 is 12", field="01")
    if amount is None:
        raise Malformed("code.order_incomplete", "a signed order has an amount", field="54")
    if reference is None or reference == ASK_PAYER:
        raise Malformed("code.order_incomplete", "a signed order has a reference", field="62.05")
    if expiry is None:
        raise Malformed("code.order_incomplete", "a signed order has an expiry", field=expiry_name)
    if payload.value("55") not in (None, _TIP_PROMPT):
        raise Malformed("code.order_fee", "fees come from the record; a code may only prompt for a tip", field="55")
    currency = find_currency(payload.value("53") or "")
    ours = {item.id for item, _ in signatures}
    return PrintedOrder(
        amount_text=amount,
        amount_minor=parse_amount_minor(amount, currency.exponent, field="54"),
        currency=currency,
        reference=reference,
        expiry_ms=parse_expiry_ms(expiry, field=expiry_name),
        signature=join_signature(signatures),
        signed_payload="".join(str(item) for item in payload.objects[:-1] if item.id not in ours),
    )


def _foreign(payload: Payload) -> ForeignCode:
    _refuse_unsigned_amount(payload)
    broken = {deviation.object[:2] for deviation in payload.deviations}
    sources = []
    for item in payload.objects:
        if item.id in ACCOUNT_TEMPLATES and item.id not in broken:
            subs = {sub.id: sub.value for sub in split_objects(item.value, within=item.id)}
            sources.append(AliasSource(item.id, subs.pop(SUB_GUID), subs))
    return ForeignCode(
        sources=tuple(sources),
        name=payload.value("59"),
        mcc=payload.value("52"),
        country=payload.value("58"),
        currency=payload.value("53"),
        store_label=payload.value("62.03"),
        terminal_label=payload.value("62.07"),
        deviations=payload.deviations,
    )
