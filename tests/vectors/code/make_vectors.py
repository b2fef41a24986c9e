"""Write the code vectors beside this file: made-up merchants, fixed keys, one file for each case, named by its defect.

Run from the project's root: python tests/vectors/code/make_vectors.py
A test compares the files with what this makes, so a change of the format shows as a change of files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onecode.code.emv import build_payload, with_crc
from onecode.code.identity import merchant_id, merchant_text, recovery_hash
from onecode.code.label import OrderTerms, StaticLabel, add_identity, build_dynamic, build_static
from onecode.code.layout import GUID, identity_object, signature_objects, signed_bytes
from onecode.code.tlv import DataObject, join_objects
from onecode.wire import SigningKey

HERE = Path(__file__).resolve().parent
CHAIN, PREFIX, NOW_MS = "onecode-vectors", "oc", 1_790_000_000_000
CONTROLLER, RECOVERY, ORDER_KEY, OTHER_KEY = (SigningKey.from_seed(bytes((number,)) * 32) for number in range(1, 5))
MERCHANT = merchant_id(CONTROLLER.public, recovery_hash(RECOVERY.public))
OTHER_MERCHANT = merchant_id(OTHER_KEY.public, recovery_hash(RECOVERY.public))
TEXT = merchant_text(MERCHANT, PREFIX)
EXPIRY_MS = NOW_MS + 600_000

LABEL = StaticLabel(
    MERCHANT, PREFIX, "5462", "978", "PT", "Padaria Exemplo", "Lisboa", store_label="LOJA-1", terminal_label="POS-2"
)
ORDER = OrderTerms(1250, "A-0001", EXPIRY_MS)
FOREIGN_ACCOUNT = DataObject("26", "0011com.example0108SHOP-042")
Objects = list[DataObject]


def objects(**changes: str | None) -> Objects:
    """The root objects of a signed order without signature and CRC; `o54="1.00"` replaces one, None drops it."""
    values: dict[str, str | None] = {
        "00": "01",
        "01": "12",
        "26": identity_object("26", TEXT, EXPIRY_MS).value,
        "52": "5462",
        "53": "978",
        "54": "12.50",
        "58": "PT",
        "59": "Padaria Exemplo",
        "60": "Lisboa",
        "62": "0506A-0001",
    }
    values |= {name[1:]: value for name, value in changes.items()}
    return [DataObject(name, value) for name, value in sorted(values.items()) if value is not None]


def unsigned(**changes: str | None) -> Objects:
    """The same without amount and expiry: a static code."""
    return objects(**{"o01": "11", "o26": identity_object("26", TEXT).value, "o54": None, **changes})


def text(items: Objects) -> str:
    return with_crc(join_objects(items))


def signature(items: Objects) -> Objects:
    return signature_objects(ORDER_KEY.sign_bytes(signed_bytes(MERCHANT, join_objects(items), CHAIN)))


def signed(items: Objects) -> str:
    return text([*items, *signature(items)])


def identity(value: str) -> str:
    return join_objects([DataObject("00", GUID), DataObject("01", value)])


def half(template: str, sub: str, value: str) -> DataObject:
    return DataObject(template, join_objects([DataObject("00", GUID), DataObject(sub, value)]))


def accepted() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """name: (about, payload, what is read)."""
    static = {
        "merchant_id": MERCHANT.hex(),
        "name": "Padaria Exemplo",
        "city": "Lisboa",
        "mcc": "5462",
        "country": "PT",
        "currency": "978",
    }
    labels = {"store_label": "LOJA-1", "terminal_label": "POS-2"}
    order = {"amount_minor": 1250, "currency": "978", "reference": "A-0001", "expiry_ms": EXPIRY_MS}
    old = build_payload([*unsigned(o26=FOREIGN_ACCOUNT.value, o62=None)])
    bare = text([DataObject("00", "01"), DataObject("29", "0011com.example0108SHOP-042"), DataObject("53", "978")])
    yen = build_dynamic(
        StaticLabel(MERCHANT, PREFIX, "5812", "392", "JP", "Shokudo Rei", "Kyoto", tip_prompt=True),
        OrderTerms(980, "K-7", EXPIRY_MS),
        ORDER_KEY.sign_bytes,
        CHAIN,
    )
    return {
        "static": ("A printed label", build_static(LABEL), static | labels),
        "static-id-upper-case": (
            "The id's text may be all upper case",
            text(unsigned(o26=identity(TEXT.upper()))),
            static,
        ),
        "static-beside-other-scheme": (
            "Our identity added to another scheme's label",
            add_identity(old, MERCHANT, PREFIX),
            static,
        ),
        "static-on-deviating-label": (
            "An old label without 52, 58, 59 and 60 is upgraded all the same; its deviations are kept",
            add_identity(bare, MERCHANT, PREFIX),
            {"merchant_id": MERCHANT.hex(), "name": None, "deviations": ["52", "58", "59", "60"]},
        ),
        "static-name-not-ans": (
            "A name with a bidi override reads as absent",
            text(unsigned(o59="Padaria\u202eXY")),
            {"merchant_id": MERCHANT.hex(), "name": None, "deviations": ["59"]},
        ),
        "dynamic": (
            "A signed order",
            build_dynamic(LABEL, ORDER, ORDER_KEY.sign_bytes, CHAIN),
            static | labels | {"order": order},
        ),
        "dynamic-without-decimals": (
            "A signed order in a currency without minor units that prompts for a tip",
            yen,
            {"tip_prompt": True, "order": order | {"amount_minor": 980, "currency": "392", "reference": "K-7"}},
        ),
        "foreign": (
            "Another scheme's label: its account is a candidate for an alias",
            old,
            {"foreign": [{"template": "26", "guid": "com.example", "subs": {"01": "SHOP-042"}}]},
        ),
    }


def refused() -> dict[str, tuple[str, str, str, str, str]]:
    """name: (about, payload, branch, code, field), all found when the code is parsed."""
    static, good = build_static(LABEL), objects()
    halves = signature(good)
    first, second = halves[0].value[-43:], halves[1].value[-43:]
    last = "AQgw".index(second[-1])  # 64 bytes leave four spare bits in the last character
    spare = second[:-1] + "BRhx"[last]
    damaged = TEXT[:-9] + ("q" if TEXT[-9] != "q" else "p") + TEXT[-8:]
    m, u = "Malformed", "Untrusted"
    return {
        "crc-wrong": (
            "One digit of the CRC changed",
            static[:-1] + ("0" if static[-1] != "0" else "1"),
            m,
            "code.crc",
            "63",
        ),
        "crc-missing": ("The CRC object is cut off", static[:-8], m, "code.crc", "63"),
        "crc-inside-another-object": (
            "What looks like the CRC is the end of object 61",
            with_crc(join_objects(unsigned()) + "611012"),
            m,
            "code.crc",
            "63",
        ),
        "length-overrun": (
            "62 claims more than is left",
            with_crc(join_objects(unsigned(o62=None)) + "62990503A-1"),
            m,
            "code.tlv",
            "payload",
        ),
        "object-twice": (
            "Currency stands twice",
            text([*unsigned(), DataObject("53", "840")]),
            m,
            "code.duplicate",
            "53",
        ),
        "identity-twice": (
            "Two templates with our identity",
            text([*unsigned(), DataObject("27", identity(TEXT))]),
            m,
            "code.identity",
            "27",
        ),
        "identity-damaged": (
            "One character of the id changed",
            text(unsigned(o26=identity(damaged))),
            m,
            "code.id_text",
            "id",
        ),
        "identity-mixed-case": (
            "The id's text in mixed case",
            text(
                unsigned(
                    o26=identity(TEXT[:-1] + TEXT[-1].upper() if TEXT[-1].isalpha() else TEXT[:3] + TEXT[3:].upper())
                )
            ),
            m,
            "code.id_text",
            "id",
        ),
        "identity-of-another-network": (
            "A solo network's id",
            text(unsigned(o26=identity(merchant_text(MERCHANT, "ocs")))),
            m,
            "code.id_prefix",
            "id",
        ),
        "identity-with-unknown-object": (
            "Sub-object 03 in our template",
            text(unsigned(o26=identity(TEXT) + "0301x")),
            m,
            "code.identity",
            "26",
        ),
        "identity-object-twice": (
            "Two ids in our template",
            text(unsigned(o26=identity(TEXT) + "0103abc")),
            m,
            "code.duplicate",
            "26",
        ),
        "identity-without-id": (
            "Our template without sub-object 01",
            text(unsigned(o26=join_objects([DataObject("00", GUID)]))),
            m,
            "code.identity",
            "26",
        ),
        "identity-missing-beside-signature": (
            "Our signature beside another scheme's account",
            text([*unsigned(o26=FOREIGN_ACCOUNT.value), *halves]),
            m,
            "code.identity",
            "80",
        ),
        "amount-unsigned": (
            "An amount without signature",
            text(unsigned(o54="12.50")),
            u,
            "code.amount_unsigned",
            "54",
        ),
        "amount-unsigned-zero": (
            "A zero amount without signature",
            text(unsigned(o54="0")),
            u,
            "code.amount_unsigned",
            "54",
        ),
        "foreign-amount": (
            "Another scheme's code with an amount",
            text(unsigned(o26=FOREIGN_ACCOUNT.value, o54="1.00")),
            u,
            "code.amount_unsigned",
            "54",
        ),
        "expiry-unsigned": (
            "An expiry without signature",
            text(unsigned(o26=identity_object("26", TEXT, EXPIRY_MS).value)),
            u,
            "code.dynamic_unsigned",
            "01",
        ),
        "dynamic-unsigned": (
            "Marked dynamic without signature",
            text(unsigned(o01="12")),
            u,
            "code.dynamic_unsigned",
            "01",
        ),
        "signature-half-missing": ("Only the first half", text([*good, halves[0]]), m, "code.signature", "80-99"),
        "signature-three-templates": (
            "A third template with our identifier",
            text([*good, *halves, half("82", "02", second)]),
            m,
            "code.signature",
            "80-99",
        ),
        "signature-halves-swapped": (
            "The second half first",
            text([*good, half("80", "02", second), half("81", "01", first)]),
            m,
            "code.signature",
            "80-99",
        ),
        "signature-halves-uneven": (
            "42 and 44 characters",
            text([*good, half("80", "01", first[:-1]), half("81", "02", first[-1] + second)]),
            m,
            "code.signature",
            "80-99",
        ),
        "signature-spare-bits": (
            "A second spelling of the same bytes",
            text([*good, half("80", "01", first), half("81", "02", spare)]),
            m,
            "code.signature",
            "80-99",
        ),
        "order-without-amount": ("Signed, no 54", signed(objects(o54=None)), m, "code.order_incomplete", "54"),
        "order-without-reference": (
            "Signed, no 62.05",
            signed(objects(o62="0303L-1")),
            m,
            "code.order_incomplete",
            "62.05",
        ),
        "order-reference-asked-for": (
            "Signed, the payer is to enter the reference",
            signed(objects(o62="0503***")),
            m,
            "code.order_incomplete",
            "62.05",
        ),
        "order-without-expiry": (
            "Signed, no expiry",
            signed(objects(o26=identity(TEXT))),
            m,
            "code.order_incomplete",
            "26.02",
        ),
        "order-marked-static": ("Signed, 01 is 11", signed(objects(o01="11")), m, "code.order_incomplete", "01"),
        "order-with-fee": ("Signed, a fixed fee", signed(objects(o55="02", o56="1.00")), m, "code.order_fee", "55"),
        "order-currency-unknown": ("Signed, 53 is 000", signed(objects(o53="000")), m, "code.currency", "currency"),
        "order-decimals": (
            "Signed, yen with decimals",
            signed(objects(o53="392", o54="980.00")),
            m,
            "code.amount_decimals",
            "54",
        ),
        "order-amount-zero": ("Signed, amount zero", signed(objects(o54="0.00")), m, "code.value", "54"),
        "order-amount-comma": ("Signed, a decimal comma", signed(objects(o54="12,50")), m, "code.value", "54"),
        "order-expiry-in-seconds": (
            "Signed, ten digits of expiry",
            signed(objects(o26=identity(TEXT) + "02101790000600")),
            m,
            "code.expiry",
            "26.02",
        ),
        "order-name-not-ans": (
            "Signed, a Cyrillic letter in the name",
            signed(objects(o59="P\u0430daria")),
            m,
            "code.format",
            "59",
        ),
        "order-country-missing": ("Signed, no 58", signed(objects(o58=None)), m, "code.missing", "58"),
    }


def unverified() -> dict[str, tuple[str, str, str, str, str]]:
    """name: (about, payload, branch, code, field), all found when the order is verified."""
    good = objects()
    d, u = "Declined", "Untrusted"
    mark = {"code": "code.order_signature", "field": "80-99"}
    far = objects(o26=identity_object("26", TEXT, NOW_MS + 3_605_001).value)
    past = objects(o26=identity_object("26", TEXT, NOW_MS).value)
    moved = signature_objects(ORDER_KEY.sign_bytes(signed_bytes(MERCHANT, join_objects(good), "onecode-other")))
    foreign = signature_objects(OTHER_KEY.sign_bytes(signed_bytes(MERCHANT, join_objects(good), CHAIN)))
    other = objects(o26=identity_object("26", merchant_text(OTHER_MERCHANT, PREFIX), EXPIRY_MS).value)
    late = objects(o26=identity_object("26", TEXT, EXPIRY_MS + 1).value)
    bad = {
        "order-amount-changed": ("The amount changed after signing", text([*objects(o54="1250.00"), *signature(good)])),
        "order-reference-changed": (
            "The reference changed after signing",
            text([*objects(o62="0506A-0002"), *signature(good)]),
        ),
        "order-expiry-changed": ("The expiry changed after signing", text([*late, *signature(good)])),
        "order-object-added": ("A postal code added after signing", text([*objects(o61="1000-001"), *signature(good)])),
        "order-reserved-object-added": (
            "A reserved object, which readers ignore, added after signing",
            text([*objects(o70="x"), *signature(good)]),
        ),
        "order-objects-reordered": (
            "Two objects changed places after signing",
            text([*good[:-2], good[-1], good[-2], *signature(good)]),
        ),
        "order-merchant-changed": ("Another merchant's id under the same signature", text([*other, *signature(good)])),
        "order-of-another-chain": ("Signed for another chain", text([*good, *moved])),
        "order-by-a-foreign-key": ("Signed by a key that is not the merchant's", text([*good, *foreign])),
    }
    return {name: (about, payload, u, mark["code"], mark["field"]) for name, (about, payload) in bad.items()} | {
        "order-expired": ("It expires now", signed(past), d, "code.order_expired", "expiry_ms"),
        "order-expiry-far": (
            "It expires in more than 1 h and 5 s",
            signed(far),
            d,
            "code.order_expiry_far",
            "expiry_ms",
        ),
        "order-missing": (
            "A static code is taken for an order",
            build_static(LABEL),
            "Malformed",
            "code.no_order",
            "54",
        ),
    }


def all_vectors() -> dict[str, dict[str, Any]]:
    """Every vector by its file's name without the suffix."""
    trust = {"prefix": PREFIX, "chain_id": CHAIN, "order_keys": [ORDER_KEY.public.hex()], "now_ms": NOW_MS}
    found: dict[str, dict[str, Any]] = {}
    for name, (about, payload, expect) in accepted().items():
        found[name] = {"about": about, **trust, "payload": payload, "expect": expect}
    for step, cases in (("parse", refused()), ("verify", unverified())):
        for name, (about, payload, branch, code, field) in cases.items():
            error = {"step": step, "branch": branch, "code": code, "field": field}
            found[name] = {"about": about, **trust, "payload": payload, "error": error}
    return found


def main() -> None:
    for old in HERE.glob("*.json"):
        old.unlink()
    for name, vector in all_vectors().items():
        (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
