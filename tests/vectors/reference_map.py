"""A naive sparse Merkle tree and its proofs: the oracle for whatever builds or verifies the map.

Written from docs/spec/verification.md alone, with hashlib alone, over the whole contents each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from onecode.proof.map import PathProof

Contents = Mapping[bytes, bytes]  # key hash -> value hash


def bit(path: bytes, depth: int) -> int:
    return path[depth // 8] >> (7 - depth % 8) & 1


def side(contents: Contents, depth: int, turn: int) -> dict[bytes, bytes]:
    return {path: value for path, value in contents.items() if bit(path, depth) == turn}


def root(contents: Contents, depth: int = 0) -> bytes:
    """Root of the subtree at `depth` that holds `contents`."""
    if not contents:
        return bytes(32)
    if len(contents) == 1:
        ((path, value),) = contents.items()
        return sha256(b"\0" + path + value).digest()
    left, right = (root(side(contents, depth, turn), depth + 1) for turn in (0, 1))
    return sha256(b"\1" + left + right).digest()


def prove(contents: Contents, path: bytes) -> PathProof:
    """The proof of what the tree of `contents` holds, or does not hold, at `path`."""
    rest, siblings, turns = dict(contents), [], []
    while len(rest) > 1:
        depth = len(turns)
        beside = root(side(rest, depth, 1 - bit(path, depth)), depth + 1)
        turns.append("1" if any(beside) else "0")
        siblings += [beside] if any(beside) else []
        rest = side(rest, depth, bit(path, depth))
    depth = len(turns)
    octets = -(-depth // 8)
    mask = int("".join(turns).ljust(8 * octets, "0") or "0", 2).to_bytes(octets, "big")
    other = None
    if rest and path not in rest:
        ((other_path, other_value),) = rest.items()
        other = other_path + other_value
    return PathProof(depth=depth, mask=mask, siblings=b"".join(siblings), other=other)
