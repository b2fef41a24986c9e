"""Bech32m (BIP-350): text with a prefix and six check characters.

Any change of up to four characters is caught for certain; longer damage slips through one time in a billion.
"""

from __future__ import annotations

from onecode.errors import Malformed

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {char: value for value, char in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CONSTANT = 0x2BC830A3
TEXT_CHARS_MAX = 90
CHECK_CHARS = 6


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                check ^= term
    return check


def _expanded(prefix: str) -> list[int]:
    return [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]


def _bad(message: str) -> Malformed:
    return Malformed("code.id_text", message, field="id")


def encode(prefix: str, data: bytes) -> str:
    """Lower-case Bech32m text of `data`, whose length must be a multiple of 5 bytes (so that no padding is needed)."""
    number = int.from_bytes(data, "big")
    values = [number >> shift & 31 for shift in range(len(data) * 8 - 5, -1, -5)]
    check = _polymod([*_expanded(prefix), *values, 0, 0, 0, 0, 0, 0]) ^ _CONSTANT
    values += [check >> shift & 31 for shift in range(25, -1, -5)]
    return f"{prefix}1{''.join(_CHARSET[value] for value in values)}"


def decode(text: str) -> tuple[str, list[int]]:
    """The prefix in lower case and the 5-bit values without the check characters; raises `Malformed` code.id_text.

    Takes text that is all lower or all upper case; mixed case is refused, as BIP-173 demands.
    """
    if len(text) > TEXT_CHARS_MAX or not all(33 <= ord(char) <= 126 for char in text):
        raise _bad(f"an id is up to {TEXT_CHARS_MAX} printable ASCII characters without spaces")
    if text not in (text.lower(), text.upper()):
        raise _bad("an id is all lower case or all upper case, never mixed")
    prefix, mark, rest = text.lower().rpartition("1")
    if not prefix or not mark or len(rest) < CHECK_CHARS:
        raise _bad('an id is a prefix, "1", and its characters with six check characters at the end')
    try:
        values = [_VALUES[char] for char in rest]
    except KeyError:
        raise _bad("the id holds a character that ids never use (1, b, i, o or a sign)") from None
    if _polymod([*_expanded(prefix), *values]) != _CONSTANT:
        raise _bad("the check characters do not fit: a character of the id is wrong")
    return prefix, values[:-CHECK_CHARS]
