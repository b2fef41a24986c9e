"""Merchant and platform ids: 20 bytes that certify themselves, and their text form (docs/spec/code.md).

An id carries no chain id: a merchant is the same on any network. Its text carries the network's prefix, so that a code
of a test network is not taken for one of the main network.
"""

from __future__ import annotations

from onecode.code import bech32m
from onecode.errors import Malformed
from onecode.wire import Domain, sha256

ID_BYTES = 20
KEY_BYTES = 32
HASH_BYTES = 32
PLATFORM_MARK = "p"  # appended to the network's prefix in the text of a platform id
_ID_VALUES = ID_BYTES * 8 // 5


def _sized(data: bytes, size: int, field: str) -> bytes:
    if len(data) != size:
        raise Malformed("code.id_size", f"{field} has {size} bytes, not {len(data)}", field=field)
    return data


def _digest(domain: Domain, body: bytes) -> bytes:
    return sha256(domain.value.encode("ascii") + b"\0" + body)


def recovery_hash(recovery_public_key: bytes) -> bytes:
    """32 bytes that stand for the recovery key until it is used: SHA-256 over domain, 0x00, key (32 bytes)."""
    return _digest(Domain.RECOVERY, _sized(recovery_public_key, KEY_BYTES, "recovery_key"))


def merchant_id(controller: bytes, recovery_hash: bytes) -> bytes:
    """The merchant's 20-byte id: SHA-256 over domain, 0x00, controller key (32), recovery hash (32), cut to 20."""
    body = _sized(controller, KEY_BYTES, "controller") + _sized(recovery_hash, HASH_BYTES, "recovery_hash")
    return _digest(Domain.MERCHANT_ID, body)[:ID_BYTES]


def platform_id(root_public_key: bytes) -> bytes:
    """The platform's 20-byte id: SHA-256 over domain, 0x00, its first root key (32), cut to 20."""
    return _digest(Domain.PLATFORM_ID, _sized(root_public_key, KEY_BYTES, "root_key"))[:ID_BYTES]


def prefix_of(chain_id: str) -> str:
    """The text prefix of a chain's ids: "ocs" for `solo-` chains, "oc" for all others."""
    return "ocs" if chain_id.startswith("solo-") else "oc"


def _parse(text: str, prefix: str, what: str) -> bytes:
    found, values = bech32m.decode(text)
    if found != prefix:
        raise Malformed(
            "code.id_prefix",
            f'this is no {what} id of this network: it begins with "{found}", not "{prefix}"',
            field="id",
        )
    if len(values) != _ID_VALUES:
        raise Malformed(
            "code.id_text", f"{what} id has {_ID_VALUES} characters before its check characters", field="id"
        )
    number = 0
    for value in values:
        number = number << 5 | value
    return number.to_bytes(ID_BYTES, "big")


def merchant_text(merchant_id: bytes, prefix: str) -> str:
    """The merchant id as lower-case Bech32m text: prefix, "1", 32 characters, 6 check characters."""
    return bech32m.encode(prefix, _sized(merchant_id, ID_BYTES, "merchant_id"))


def parse_merchant_text(text: str, prefix: str) -> bytes:
    """The 20-byte merchant id in `text`; raises `Malformed` code.id_text or, for another network, code.id_prefix."""
    return _parse(text, prefix, "merchant")


def platform_text(platform_id: bytes, prefix: str) -> str:
    """The platform id as lower-case Bech32m text; its prefix is the network's with "p" after it."""
    return bech32m.encode(prefix + PLATFORM_MARK, _sized(platform_id, ID_BYTES, "platform_id"))


def parse_platform_text(text: str, prefix: str) -> bytes:
    """The 20-byte platform id in `text`; `prefix` is the network's. Errors as for `parse_merchant_text`."""
    return _parse(text, prefix + PLATFORM_MARK, "platform")
