"""A world whose anchor lies before a full replacement of the validators: up to height 6 FORMER, from 7 on MEMBERS."""

from __future__ import annotations

from typing import Any

from chain_world import MEMBERS, NOW_MS, World
from onecode.proof.light import Trust, trusted_state
from onecode.query.messages import HeaderView
from vectors.proof_chain import make_header, signed_by, validator_set

FORMER_NAMES = [7, 8, 9]
FORMER = validator_set(FORMER_NAMES)
LAST_FORMER = 6
DAY_MS = 86_400_000


def view_between(height: int, **changes: Any) -> HeaderView:
    """A header of height 1 to 9, signed a day ago: nothing that could be answered under."""
    former = height <= LAST_FORMER
    members, names = (FORMER, FORMER_NAMES) if former else (MEMBERS, [1, 2, 3, 4])
    following = FORMER if height < LAST_FORMER else MEMBERS
    time_ns = (NOW_MS - DAY_MS + 1000 * height) * 1_000_000
    header = make_header(height, members, following, time_ns=time_ns, **changes)
    return HeaderView(
        header=signed_by(header, names, [NOW_MS - DAY_MS + 1000 * height] * len(names)), validators=members
    )


def strangers_view(height: int, time_ms: int | None = None) -> HeaderView:
    """A header by validators that nobody announced."""
    strangers = validator_set([20, 21, 22])
    time_ns = (time_ms or NOW_MS - DAY_MS + 1000 * height) * 1_000_000
    header = make_header(height, strangers, time_ns=time_ns)
    return HeaderView(header=signed_by(header, [20, 21, 22]), validators=strangers)


def world_after_replacement() -> World:
    """Its newest header is of height 10; enclaves and key services begin at the header of height 2."""
    world = World()
    first = view_between(2)
    world.anchor = Trust(trusted_state(first.header.header, first.validators))
    return world
