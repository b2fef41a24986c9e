"""Makes tests/vectors/bisection/*.json: chains whose validators change, and whether a light client reaches a header.

The first two have the scenarios of CometBFT's own bisection cases, whose files are of an older encoding. A file holds
every header that the node gives, by height; the trusted one; `skip`, the part of the trusted power that must have
signed where heights are left out; and `expect`: "ok" with the heights that were verified on the way, or the code.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from onecode.errors import Declined, OnecodeError
from onecode.proof.light import Trust, trusted_state
from onecode.query.messages import HeaderView
from onecode.schema import from_plain, to_plain
from onecode.wallet.headers import bridge
from vectors.proof_chain import NOW_MS, make_header, signed_by, validator_set

HERE = Path(__file__).resolve().parent / "bisection"
Case = dict[str, Any]
Names = list[int | str]
THIRD, STRICT = (1, 3), (2, 3)


def block(height: int, names: Names, following: Names | None = None, signs: list[Any] | None = None) -> HeaderView:
    """A header of `names`, signed by all of them or by `signs`."""
    members = validator_set(names)
    header = make_header(height, members, validator_set(following) if following is not None else None)
    return HeaderView(header=signed_by(header, signs or names), validators=members)


def chain(sets: dict[int, Names]) -> dict[int, HeaderView]:
    """Headers of heights 1 to the last one given; a set stays until the next one."""
    last = max(sets)
    at = [next(sets[low] for low in range(height, 0, -1) if low in sets) for height in range(1, last + 2)]
    return {height: block(height, at[height - 1], at[height]) for height in range(1, last + 1)}


def case(what: str, expect: str, node: dict[int, HeaderView], goal: int, **changes: Any) -> Case:
    made = {
        "what": what,
        "expect": expect,
        "now_ms": NOW_MS,
        "skip": list(changes.pop("skip", THIRD)),
        "trusted_height": 1,
        "goal_height": goal,
        "headers": {str(height): to_plain(view) for height, view in sorted(node.items())},
    }
    return made | changes


def cases() -> Iterator[tuple[str, Case]]:
    """Every case by its file's name."""
    two = chain({1: ["a", "b"], 6: ["c", "d"], 11: ["c", "d"]})
    yield "ok-all-change-at-once", case("from 1 to 11, all new from 6 on", "ok", two, 11, passed=[3, 4, 5, 6])
    four = chain({1: ["a", "b", "c", "d"], 6: ["a", "b", "c", "d"]})
    few = four | {6: block(6, ["a", "b", "c", "d"], signs=[None, None, "c", None])}
    yield "commits-not-enough", case("one of four signed the last one", "header.power", few, 6)
    strict = chain({1: [0, 1, 2, 3], 4: [0, 1, 2, "x"], 7: [0, 1, "y", "x"], 9: [0, 1, "y", "x"]})
    yield "ok-half-is-enough-for-a-third", case("two of four stayed", "ok", strict, 9, passed=[])
    yield (
        "ok-half-is-not-enough-for-two-thirds",
        case("the same chain, where 2/3 must have signed", "ok", strict, 9, skip=STRICT, passed=[5]),
    )
    fork = {height: block(height, [0, 1, "v", "w"]) for height in range(2, 10)} | {1: strict[1]}
    yield "ok-fork-by-half", case("half makes up a chain: a third is too little to ask", "ok", fork, 9, passed=[])
    yield "fork-by-half", case("the same: 2/3 refuses it", "header.next_validators", fork, 9, skip=STRICT)
    exact = {height: block(height, [0, 1, *"wxyz"]) for height in range(2, 10)} | {1: block(1, [0, 1, 2, 3, 4, 5])}
    yield "fork-by-one-third-exactly", case("2 of 6", "header.next_validators", exact, 9)
    less = {height: block(height, [0, *"vwxyz"]) for height in range(2, 10)} | {1: block(1, [0, 1, 2, 3, 4, 5])}
    yield "fork-by-less-than-a-third", case("1 of 6", "header.next_validators", less, 9)
    late = strict | {9: fork[9]}
    yield (
        "fork-after-true-headers",
        case("true headers between, a made-up one at the end", "header.next_validators", late, 9, skip=STRICT),
    )
    gap = {1: fork[1], 9: fork[9]}
    yield "headers-between-withheld", case("the node has none between", "node.header_absent", gap, 9, skip=STRICT)
    other = strict | {5: strict[6]}
    yield (
        "header-of-another-height",
        case("height 6 for height 5", "header.other_height", other, 9, skip=STRICT),
    )
    forged = dataclasses.replace(strict[5].header.header, app_hash=bytes(32))
    altered = dataclasses.replace(strict[5], header=dataclasses.replace(strict[5].header, header=forged))
    yield (
        "header-between-altered",
        case("its app hash is not what was signed", "header.commit_block", strict | {5: altered}, 9, skip=STRICT),
    )
    churn = chain({height: [height] for height in range(1, 71)})
    yield "too-many-between", case("another validator at each height", "header.too_far", churn, 70)
    expired = NOW_MS + 15 * 86_400_000
    yield "trust-expired", case("15 days later", "header.trust_expired", two, 11, now_ms=expired)


def verdict(given: Case) -> tuple[str, list[int] | None]:
    """What `bridge` says, and over which heights it went."""
    headers = {int(height): from_plain(HeaderView, plain) for height, plain in given["headers"].items()}
    first = headers[given["trusted_height"]]
    trust = Trust(trusted_state(first.header.header, first.validators), skip=tuple(given["skip"]))

    async def fetch(height: int) -> HeaderView:
        if height not in headers:
            raise Declined("node.header_absent", "this node has no header of that height", status=404)
        return headers[height]

    try:
        path = asyncio.run(bridge(trust, headers[given["goal_height"]], fetch, given["now_ms"]))
    except OnecodeError as error:
        return error.code, None
    return "ok", [view.header.header.height for view in path]


def text(made: Case) -> str:
    """A case as it lies in its file."""
    return json.dumps(made, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    table = dict(cases())
    for path in HERE.glob("*.json"):
        if path.stem not in table:
            path.unlink()
    for name, one in table.items():
        (HERE / f"{name}.json").write_text(text(one), encoding="ascii")
        found, passed = verdict(one)
        good = (found, passed) == (one["expect"], one.get("passed"))
        print("as expected" if good else f"WRONG: {found} {passed}", name)
