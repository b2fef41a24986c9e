"""Counters: nonces of keys, versions that were used, and what a platform may do only so often a day (section
`counters`; never deleted, but for votes to freeze).

Platforms' keys, root keys and merchants' recovery keys have a nonce each, strictly increasing, gaps allowed. A
controller's nonce is in its merchant's entry and rises by exactly 1. The recovery key has one of its own because a
thief of the controller key could else use up each next nonce and so keep the recovery out (docs/spec/registry.md).
"""

from __future__ import annotations

from onecode.proof.governance import DAY_MS
from onecode.proof.leaves import ID, TIME_MS
from onecode.proof.map import Section
from onecode.registry.state import State
from onecode.schema import ListOf, Message, Nested, Uint, item

PROPOSALS_A_DAY = 100  # per platform
FLOOR_TAG = b"\x05"  # begins the keys of floors, which tell who served a merchant before: for members only


class NonceLeaf(Message):
    """The last nonce that a key used for a signer. Key: 0x01 ‖ platform or merchant id ‖ public key."""

    nonce: int = item(1, Uint())


class DayLeaf(Message):
    """How often something was done on a day (block time in ms / 86,400,000). Key: tag ‖ platform id."""

    day: int = item(1, Uint())
    count: int = item(2, Uint())


class FreezeVote(Message):
    platform: bytes = item(1, ID)
    expires_ms: int = item(2, TIME_MS)


class FreezeLeaf(Message):
    """Votes to freeze a merchant that have not come to a freeze. Key: 0x04 ‖ merchant id; removed by the freeze."""

    votes: tuple[FreezeVote, ...] = item(1, ListOf(Nested(FreezeVote), 1000))


class FloorLeaf(Message):
    """The version of a platform's last link to a merchant and service that ended; its next link takes the one above.

    Key: 0x05 ‖ merchant id ‖ platform id ‖ service. Each platform has its own, so that none moves another's.
    """

    version: int = item(1, Uint())


def nonce_key(signer: bytes, key: bytes) -> bytes:
    return b"\x01" + signer + key


def freezes_key(platform: bytes) -> bytes:
    return b"\x02" + platform


def proposals_key(platform: bytes) -> bytes:
    return b"\x03" + platform


def freeze_key(merchant: bytes) -> bytes:
    return b"\x04" + merchant


def floor_key(merchant: bytes, platform: bytes, service: str) -> bytes:
    return FLOOR_TAG + merchant + platform + service.encode()


def last_nonce(state: State, signer: bytes, key: bytes) -> int:
    """The last nonce used by a platform's key, a root key or a recovery key; 0 before the first."""
    leaf = state.get(Section.COUNTERS, nonce_key(signer, key), NonceLeaf)
    return leaf.nonce if leaf is not None else 0


def use_nonce(state: State, signer: bytes, key: bytes, nonce: int) -> None:
    state.put(Section.COUNTERS, nonce_key(signer, key), NonceLeaf(nonce=nonce))


def version_floor(state: State, merchant: bytes, platform: bytes, service: str) -> int:
    """The version of the platform's last link that ended; 0 where none has."""
    leaf = state.get(Section.COUNTERS, floor_key(merchant, platform, service), FloorLeaf)
    return leaf.version if leaf is not None else 0


def raise_floor(state: State, merchant: bytes, platform: bytes, service: str, version: int) -> None:
    """A link of this version ended. It lies above the floor: a new link begins there, and updates go up from it."""
    state.put(Section.COUNTERS, floor_key(merchant, platform, service), FloorLeaf(version=version))


def count_day(state: State, key: bytes, time_ms: int, count_max: int) -> bool:
    """Count one more for the day of `time_ms`; False, and nothing counted, where `count_max` are used up."""
    day = time_ms // DAY_MS
    leaf = state.get(Section.COUNTERS, key, DayLeaf)
    count = leaf.count if leaf is not None and leaf.day == day else 0
    if count >= count_max:
        return False
    state.put(Section.COUNTERS, key, DayLeaf(day=day, count=count + 1))
    return True
