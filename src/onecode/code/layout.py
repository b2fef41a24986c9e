"""Where our identity, an order's expiry and its signature sit in a payload (docs/spec/code.md).

One globally unique identifier marks all our templates: the identity in one of 26-51, the two halves of an order's
signature in two of 80-99.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence

from onecode.code.tlv import DataObject, join_objects, split_objects
from onecode.errors import Malformed
from onecode.wire import Domain, encode, frame

GUID = "org.onecode"
ACCOUNT_TEMPLATES = tuple(f"{number}" for number in range(26, 52))
UNRESERVED_TEMPLATES = tuple(f"{number}" for number in range(80, 100))
SUB_GUID, SUB_IDENTITY, SUB_EXPIRY = "00", "01", "02"
SIGNATURE_BYTES = 64
_SUB_HALVES = ("01", "02")
_HALF_CHARS = 43  # 64 bytes are 86 characters of base64url
_EXPIRY = re.compile("[1-9][0-9]{12}")


def our_templates(objects: Iterable[DataObject], ids: Sequence[str]) -> list[tuple[DataObject, dict[str, str]]]:
    """The templates among `ids` that carry our GUID, with their sub-objects; a sub-object twice is refused."""
    found = []
    for item in objects:
        if item.id not in ids:
            continue
        try:
            subs = split_objects(item.value, within=item.id)
        except Malformed:  # a scheme that uses the id against the specification: not ours
            continue
        if DataObject(SUB_GUID, GUID) not in subs:
            continue
        table = {sub.id: sub.value for sub in subs}
        if len(table) != len(subs):
            raise Malformed("code.duplicate", f"a sub-object of template {item.id} stands twice", field=item.id)
        found.append((item, table))
    return found


def identity_object(template: str, merchant_text: str, expiry_ms: int | None = None) -> DataObject:
    """The identity template: GUID, merchant id as text and, in a dynamic code, the order's expiry."""
    if template not in ACCOUNT_TEMPLATES:
        raise Malformed("code.template_id", "the identity sits in one of the templates 26 to 51", field="template")
    subs = [DataObject(SUB_GUID, GUID), DataObject(SUB_IDENTITY, merchant_text)]
    if expiry_ms is not None:
        text = str(expiry_ms)
        parse_expiry_ms(text, field="expiry_ms")
        subs.append(DataObject(SUB_EXPIRY, text))
    return DataObject(template, join_objects(subs, within=template))


def parse_expiry_ms(text: str, *, field: str) -> int:
    """Milliseconds since the epoch, UTC, in exactly 13 digits."""
    if _EXPIRY.fullmatch(text) is None:
        raise Malformed("code.expiry", "the expiry is milliseconds since the epoch in 13 digits", field=field)
    return int(text)


def _signature_text(signature: bytes) -> str:
    return base64.urlsafe_b64encode(signature).decode("ascii").rstrip("=")


def signature_objects(signature: bytes) -> list[DataObject]:
    """Templates 80 and 81: the 86 characters of the signature in base64url without padding, half in each."""
    if len(signature) != SIGNATURE_BYTES:
        raise Malformed("code.signature", f"a signature has {SIGNATURE_BYTES} bytes", field="signature")
    text = _signature_text(signature)
    halves = zip(("80", "81"), _SUB_HALVES, (text[:_HALF_CHARS], text[_HALF_CHARS:]), strict=True)
    return [
        DataObject(template, join_objects((DataObject(SUB_GUID, GUID), DataObject(sub, half)), within=template))
        for template, sub, half in halves
    ]


def join_signature(templates: Sequence[tuple[DataObject, dict[str, str]]]) -> bytes:
    """The signature out of our two templates of 80-99, first half first; anything but its one spelling is refused."""
    if [set(table) for _, table in templates] != [{SUB_GUID, sub} for sub in _SUB_HALVES]:
        raise Malformed(
            "code.signature", "a signature is two templates: half 01 in the first, half 02 in the second", field="80-99"
        )
    halves = [table[sub] for (_, table), sub in zip(templates, _SUB_HALVES, strict=True)]
    text = "".join(halves)
    try:
        signature = base64.urlsafe_b64decode(text + "==")
    except ValueError:
        signature = b""
    if (
        len(signature) != SIGNATURE_BYTES
        or _signature_text(signature) != text
        or any(len(half) != _HALF_CHARS for half in halves)
    ):
        raise Malformed("code.signature", "each half is 43 characters of base64url without padding", field="80-99")
    return signature


def signed_bytes(merchant_id: bytes, payload: str, chain_id: str) -> bytes:
    """The frame an order key signs: domain, chain id, CBOR [merchant id, payload as UTF-8 bytes].

    payload: the exact payload without our signature templates and without the CRC object.
    """
    return frame(Domain.ORDER, chain_id, encode([merchant_id, payload.encode("utf-8")]))
