"""Messages of a ceremony as text files, which can be mailed and are told apart by their first line."""

from __future__ import annotations

import base64
import binascii
import textwrap
from typing import TypeVar

from onecode.errors import Malformed, printable
from onecode.network.ceremony import Ceremony, GenesisSignature, JoinRequest, NodeRequest
from onecode.schema import Message, parse
from onecode.wire import FRAME_BYTES_MAX

M = TypeVar("M", bound=Message)

LABELS: dict[type[Message], str] = {
    JoinRequest: "ONECODE JOIN REQUEST",
    NodeRequest: "ONECODE NODE REQUEST",
    Ceremony: "ONECODE CEREMONY",
    GenesisSignature: "ONECODE GENESIS SIGNATURE",
}
TEXT_BYTES_MAX = 2 * FRAME_BYTES_MAX


def armour(message: Message) -> bytes:
    """The message as text: a first line that says what it is, base64, a last line."""
    label = LABELS[type(message)]
    lines = textwrap.wrap(base64.b64encode(message.encoded()).decode("ascii"), 76)
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode("ascii")


def parse_armoured(data: bytes, *kinds: type[M], field: str = "file") -> M:
    """The message in untrusted text, which must be of one of `kinds`; `Malformed` says what it is instead."""
    wanted = " or ".join(LABELS[kind].removeprefix("ONECODE ").lower() for kind in kinds)
    if len(data) > TEXT_BYTES_MAX:
        raise Malformed("ceremony.too_large", f"a {wanted} has at most {TEXT_BYTES_MAX} bytes", field=field, status=413)
    lines = [line.strip() for line in data.decode("utf-8", "replace").strip().splitlines()]
    for kind in kinds:
        label = LABELS[kind]
        if lines[:1] == [f"-----BEGIN {label}-----"] and lines[-1] == f"-----END {label}-----":
            try:
                raw = base64.b64decode("".join(lines[1:-1]), validate=True)
            except (binascii.Error, ValueError):
                raise Malformed(
                    "ceremony.base64", "a character is lost or added: have it sent again", field=field
                ) from None
            return parse(kind, raw)
    found = lines[0].strip("-").removeprefix("BEGIN ").lower() if lines and lines[0].startswith("-----BEGIN ") else ""
    found = printable(found.removeprefix("onecode "))
    message = f"this is no {wanted}" + (f" but a {found}" if found and len(found) < 40 else "")
    raise Malformed("ceremony.kind", message, field=field)
