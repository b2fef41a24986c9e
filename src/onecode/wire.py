"""Bytes that are signed or hashed: a strict subset of deterministic CBOR behind a domain and the chain id.

The subset (RFC 8949 section 4.2.1, narrowed): unsigned integers up to 2^64 - 1, byte strings, UTF-8 text, arrays, maps
whose keys are unsigned integers in ascending order, true and false. Everything in its shortest form; nothing else.
Size is checked before parsing, depth and item counts while parsing, so a decoded value re-encodes to the same bytes.
The exact layout is in docs/spec/bytes.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import nacl.bindings as sodium
import nacl.exceptions

from onecode.errors import Malformed, Untrusted

FRAME_BYTES_MAX = 1 << 20
DEPTH_MAX = 8
CHAIN_ID_CHARS_MAX = 50  # as in CometBFT
UINT_MAX = (1 << 64) - 1
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}  # bytes of the number behind a head


class Domain(StrEnum):
    """What a signature or hash is for. The first part of every frame, so that no bytes mean two things."""

    MERCHANT_ID = "onecode/merchant-id/1"
    PLATFORM_ID = "onecode/platform-id/1"
    RECOVERY = "onecode/recovery/1"
    TRANSACTION = "onecode/transaction/1"
    POSSESSION = "onecode/possession/1"
    PROPOSAL = "onecode/proposal/1"
    CONSENT = "onecode/consent/1"
    LINKS = "onecode/links/1"
    RECORD = "onecode/record/1"
    COMMITMENT = "onecode/commitment/1"
    ENVELOPE = "onecode/envelope/1"
    CREDENTIAL = "onecode/credential/1"
    QUERY = "onecode/query/1"
    QUERY_SEAL = "onecode/query-seal/1"
    REPLY = "onecode/reply/1"
    ORDER = "onecode/order/1"
    EVIDENCE = "onecode/evidence/1"
    REPORT = "onecode/report/1"
    GRANT = "onecode/grant/1"
    MEMBER_REQUEST = "onecode/member-request/1"
    DEVICE_REQUEST = "onecode/device-request/1"
    PAYMENT = "onecode/payment/1"
    RECEIPT = "onecode/receipt/1"
    REFUND = "onecode/refund/1"
    TRUST_FILE = "onecode/trust-file/1"
    CHECKPOINT = "onecode/checkpoint/1"
    COUNTERSIGNATURE = "onecode/countersignature/1"
    CEREMONY = "onecode/ceremony/1"


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes."""
    return hashlib.sha256(data).digest()


def utf8(text: str) -> bytes:
    """The text's bytes; `Malformed` where it has none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can carry it
        raise Malformed("wire.utf8", "a text string is not UTF-8") from None


def frame(domain: Domain, chain_id: str, body: bytes) -> bytes:
    """Bytes to sign or hash: domain, 0x00, length of the chain id in one byte, chain id, body.

    The domain holds no zero byte and the chain id carries its length, so two different triples never give one frame.
    """
    chain = utf8(chain_id)
    if not 1 <= len(chain) <= CHAIN_ID_CHARS_MAX:
        raise Malformed("wire.chain_id", f"a chain id has 1 to {CHAIN_ID_CHARS_MAX} bytes", field="chain_id")
    return domain.value.encode("ascii") + b"\0" + bytes((len(chain),)) + chain + body


_SHORT_HEADS = [bytes((first,)) for first in range(256)]

# --- the CBOR subset -------------------------------------------------------------------------------------------------


def head(major: int, number: int) -> bytes:
    """The head of a value; `major` is its first byte with the lower five bits zero, `number` its integer or length."""
    if number < 24:
        return _SHORT_HEADS[major | number]
    if number < 0x100:
        return bytes((major | 24, number))
    if number < 0x10000:
        return bytes((major | 25,)) + number.to_bytes(2, "big")
    if number < 0x100000000:
        return bytes((major | 26,)) + number.to_bytes(4, "big")
    if number <= UINT_MAX:
        return bytes((major | 27,)) + number.to_bytes(8, "big")
    raise Malformed("wire.integer_range", "an integer is outside 0 to 2^64 - 1")


def _put(value: Any, out: list[bytes], depth: int) -> None:
    kind = type(value)
    if kind is bytes:
        out.append(head(0x40, len(value)) + value)
    elif kind is bool:
        out.append(b"\xf5" if value else b"\xf4")
    elif kind is str:
        raw = utf8(value)
        out.append(head(0x60, len(raw)) + raw)
    elif isinstance(value, int):
        if value < 0:
            raise Malformed("wire.integer_range", "an integer is outside 0 to 2^64 - 1")
        out.append(head(0x00, value))
    elif depth == 0:
        raise Malformed("wire.depth", f"values are nested deeper than {DEPTH_MAX} levels")
    elif kind is list or kind is tuple:
        out.append(head(0x80, len(value)))
        for item in value:
            _put(item, out, depth - 1)
    elif kind is dict:
        if not all(type(key) is int and key >= 0 for key in value):
            raise Malformed("wire.map_key", "map keys are unsigned integers")
        out.append(head(0xA0, len(value)))
        for key in sorted(value):
            out.append(head(0x00, key))
            _put(value[key], out, depth - 1)
    elif isinstance(value, str):
        _put(str(value), out, depth)
    else:
        raise Malformed("wire.type", f"a value of type {kind.__name__} has no place in this subset of CBOR")


def encode(value: Any) -> bytes:
    """The one encoding of `value` (int, bytes, str, bool, list or tuple, dict with int keys)."""
    out: list[bytes] = []
    _put(value, out, DEPTH_MAX)
    return b"".join(out)


def _not_canonical(what: str) -> Malformed:
    return Malformed("wire.not_canonical", f"CBOR is not in its one allowed form: {what}")


def _head_at(data: bytes, at: int) -> tuple[int, int]:
    """The number in a head whose first byte, before `at`, says that it follows; and where it ends."""
    first = data[at - 1]
    width = _WIDTHS.get(first & 31, 0)
    if not width or first >= 0xE0:
        raise _not_canonical("an indefinite length, float, tag or simple value")
    if at + width > len(data):
        raise IndexError
    number = int.from_bytes(data[at : at + width], "big")
    if number < (24 if width == 1 else 1 << (4 * width)):
        raise _not_canonical("an integer or length is not in its shortest form")
    return number, at + width


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """One value at `at`; returns it and where it ends. IndexError means the input ended early."""
    first = data[at]
    at += 1
    if first < 24:
        return first, at
    number = first & 31
    if number >= 24:
        number, at = _head_at(data, at)
    major = first >> 5
    if major == 2 or major == 3:
        end = at + number
        if end > len(data):
            raise IndexError
        raw = data[at:end]
        return (raw if major == 2 else raw.decode("utf-8")), end
    if major == 0:
        return number, at
    if major == 4 or major == 5:
        if depth == 0:
            raise Malformed("wire.depth", f"values are nested deeper than {DEPTH_MAX} levels")
        if number > len(data) - at:  # an item takes at least one byte: never reserve room for a lie
            raise IndexError
        return _array(data, at, depth - 1, number) if major == 4 else _map(data, at, depth - 1, number)
    if first == 0xF5:
        return True, at
    if first == 0xF4:
        return False, at
    raise _not_canonical("a negative integer, float, tag or simple value")


def _array(data: bytes, at: int, depth: int, number: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(number):
        value, at = _item(data, at, depth)
        items.append(value)
    return items, at


def _map(data: bytes, at: int, depth: int, number: int) -> tuple[dict[int, Any], int]:
    table: dict[int, Any] = {}
    last = -1
    for _ in range(number):
        key = data[at]
        at += 1
        if key >= 24:
            if key >= 32:
                raise Malformed("wire.map_key", "map keys are unsigned integers")
            key, at = _head_at(data, at)
        if key <= last:
            raise _not_canonical("map keys are not ascending, or one stands twice")
        last = key
        table[key], at = _item(data, at, depth)
    return table, at


def decode(data: bytes, *, size_max: int = FRAME_BYTES_MAX) -> Any:
    """The value that `data` encodes; raises `Malformed` for every other byte string."""
    if len(data) > size_max:
        raise Malformed("wire.too_large", f"{len(data)} bytes where at most {size_max} are allowed", status=413)
    try:
        value, end = _item(data, 0, DEPTH_MAX)
    except IndexError:
        raise Malformed("wire.truncated", "the CBOR ends inside a value") from None
    except UnicodeDecodeError:
        raise Malformed("wire.utf8", "a text string is not UTF-8") from None
    if end != len(data):
        raise Malformed("wire.trailing", f"{len(data) - end} bytes follow the CBOR value")
    return value


# --- signatures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key; entropy is the caller's (`seed`, 32 bytes)."""

    seed: bytes
    public: bytes

    @staticmethod
    def from_seed(seed: bytes) -> SigningKey:
        public, _ = sodium.crypto_sign_seed_keypair(seed)
        return SigningKey(seed, public)

    def sign_bytes(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature over `message` as it stands."""
        return bytes(sodium.crypto_sign(message, self.seed + self.public)[:64])

    def sign(self, domain: Domain, chain_id: str, body: bytes) -> bytes:
        """64-byte signature over the frame of `body`."""
        return self.sign_bytes(frame(domain, chain_id, body))

    def __repr__(self) -> str:  # a key must never reach a log
        return f"SigningKey(public={self.public.hex()})"


def signature_holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether libsodium accepts this Ed25519 signature: the one rule for everything Onecode signs."""
    if len(signature) != 64 or len(public_key) != 32:
        return False
    try:
        sodium.crypto_sign_open(signature + message, public_key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def verify_signature(
    public_key: bytes, signature: bytes, domain: Domain, chain_id: str, body: bytes, *, field: str
) -> None:
    """Raise `Untrusted` unless `signature` over the frame of `body` is good under libsodium's rule."""
    if not signature_holds(public_key, signature, frame(domain, chain_id, body)):
        raise Untrusted("signature.bad", "the signature does not fit the bytes and the key", field=field)
