"""What a block that is decided, but not proven yet, takes away from one merchant: a node's word, with its proven view.

A platform applies it to its payments at once. It is no proof, and nothing is ever allowed by it: whoever makes one up
keeps payments from being made until the proof is there, as a node can by giving no answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from onecode.errors import Malformed
from onecode.proof.leaves import ID, LINKS_MAX
from onecode.schema import Bool, ListOf, Message, Uint, item, parse

NARROWING_HEADER = "onecode-decided"
NARROWING_BYTES_MAX = 4096


class Narrowing(Message):
    """What the block of `height` changes for one merchant and service.

    ended: platforms whose links it ended. changed: platforms whose own leaves it changed, in whatever way: suspended,
    or a key revoked, or another address. Both are of those that the proven state lists. frozen: it froze the merchant.
    order_keys: it set the merchant's order keys anew.
    """

    height: int = item(1, Uint())
    ended: tuple[bytes, ...] = item(2, ListOf(ID, LINKS_MAX))
    changed: tuple[bytes, ...] = item(3, ListOf(ID, LINKS_MAX))
    frozen: bool = item(4, Bool())
    order_keys: bool = item(5, Bool())


def narrowing_of(
    height: int, events: Iterable[Mapping[str, Any]], merchant: bytes, service: str, listed: Collection[bytes]
) -> Narrowing | None:
    """What the events of a block (`event_to_plain`) take from the merchant; None if nothing. listed: the platforms of
    its links in the state before the block."""
    ended, changed = set(), set()
    frozen = order_keys = False
    for event in events:
        name, subject = event["event"], event.get("merchant")
        if name == "PlatformChanged":
            changed.add(bytes.fromhex(event["platform"]))
        elif subject != merchant.hex():
            continue
        elif name in ("RecordWithdrawn", "MerchantUnlinked") and event["service"] == service:
            ended.add(bytes.fromhex(event["platform"]))
        elif name == "MerchantFrozen":
            frozen = True
        elif name == "MerchantOrderKeysSet":
            order_keys = True
    ended &= set(listed)
    changed &= set(listed)
    if not (ended or changed or frozen or order_keys):
        return None
    return Narrowing(
        height=height,
        ended=tuple(sorted(ended)),
        changed=tuple(sorted(changed)),
        frozen=frozen,
        order_keys=order_keys,
    )


def narrowing_header(narrowing: Narrowing) -> str:
    """The value of `Onecode-Decided`: the message in hex."""
    return narrowing.encoded().hex()


def parse_narrowing(header: str) -> Narrowing:
    """Raises `Malformed` for what `narrowing_header` does not give."""
    if len(header) > 2 * NARROWING_BYTES_MAX:
        raise Malformed("request.header", f"the header {NARROWING_HEADER} is too long", field=NARROWING_HEADER)
    try:
        raw = bytes.fromhex(header)
    except ValueError:
        raw = b""
    if raw.hex() != header:
        raise Malformed("request.header", f"the header {NARROWING_HEADER} is not hex", field=NARROWING_HEADER)
    return parse(Narrowing, raw, size_max=NARROWING_BYTES_MAX, path=NARROWING_HEADER)
