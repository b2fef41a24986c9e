"""Whether a validator's vote signature counts: CometBFT's rule, which is ZIP-215.

Everything that Onecode signs follows libsodium's rule (`wire.signature_holds`). Votes are signed by the engine and
counted by every CometBFT node under ZIP-215, which accepts all that libsodium accepts and more; a wallet with a
narrower rule could be shown a valid header that it alone refuses. libsodium decides nearly all votes; what it refuses
is checked here in plain integers (a few ms). Nothing here is secret, so nothing needs to run in constant time.
"""

from __future__ import annotations

import hashlib

from onecode import wire

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]  # extended coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z
IDENTITY: Point = (0, 1, 1, 0)


def _decode_point(data: bytes) -> Point | None:
    """The point of 32 bytes, or None. As ZIP-215 has it: y is taken modulo p, and x = 0 may carry either sign."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % P
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * SQRT_MINUS_1 % P
        if v * x * x % P != u:
            return None
    if x & 1 != sign:
        x = -x % P
    return x, y, 1, x * y % P


def _add(a: Point, b: Point) -> Point:
    """The complete addition of RFC 8032 section 5.1.4: it also doubles."""
    low, high = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    c, d = 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    e, f, g, h = (high - low) % P, (d - c) % P, (d + c) % P, (high + low) % P
    return e * f % P, g * h % P, f * g % P, e * h % P


def _negative(point: Point) -> Point:
    return -point[0] % P, point[1], point[2], -point[3] % P


BASE = _decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little")) or IDENTITY


def vote_signature_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ZIP-215 accepts this Ed25519 signature (64 bytes) of `message` under `public` (32 bytes).

    Rule: s < L; A and R decode, canonical or not; [8][s]B = [8]R + [8][k]A with k hashed over the bytes as given.
    """
    if wire.signature_holds(public, signature, message):
        return True
    if len(public) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    key, nonce = _decode_point(public), _decode_point(signature[:32])
    if s >= L or key is None or nonce is None:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus_key = _negative(key)
    table = (None, BASE, minus_key, _add(BASE, minus_key))
    total = IDENTITY
    for bit in range(L.bit_length() - 1, -1, -1):  # total = [s]B - [k]A
        total = _add(total, total)
        term = table[(s >> bit & 1) + 2 * (k >> bit & 1)]
        if term is not None:
            total = _add(total, term)
    total = _add(total, _negative(nonce))
    for _ in range(3):
        total = _add(total, total)
    return total[0] % P == 0 and (total[1] - total[2]) % P == 0
