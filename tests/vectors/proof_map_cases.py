"""Map cases: what `verify_roots`, `verify_presence` and `verify_absence` are given, one defect at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from onecode.proof import map as proofs
from onecode.proof.map import PathProof, Section, SectionRoots
from onecode.schema import to_plain
from vectors import reference_map
from vectors.proof_chain import digest

Case = dict[str, Any]
SECTION = Section.MERCHANTS
CONTENTS = {f"merchant {number}".encode(): f"entry {number}".encode() for number in range(40)}
HASHED = {
    section: {
        proofs.key_hash(section, name): sha256(value).digest()
        for name, value in CONTENTS.items()
        if section in (Section.MERCHANTS, Section.PLATFORMS)
    }
    for section in Section
}
ROOTS = SectionRoots(roots=b"".join(reference_map.root(HASHED[section]) for section in Section))
PRESENT = b"merchant 7"


def proof_for(name: bytes, section: Section = SECTION) -> PathProof:
    return reference_map.prove(HASHED[section], proofs.key_hash(section, name))


def absent_key(empty_slot: bool) -> bytes:
    """The first name that is not there and whose path ends as asked."""
    names = (f"absent {number}".encode() for number in range(10_000))
    return next(name for name in names if (proof_for(name).other is None) == empty_slot)


def map_case(
    what: str,
    expect: str,
    name: bytes,
    value: bytes | None,
    proof: PathProof | dict[str, Any],
    section: Section = SECTION,
    roots: SectionRoots = ROOTS,
) -> Case:
    """`value` None: a proof of absence."""
    case: Case = {
        "what": what,
        "expect": expect,
        "app_hash": proofs.app_hash(ROOTS).hex(),
        "roots": to_plain(roots),
        "section": section.name.lower(),
        "key": name.hex(),
        "proof": to_plain(proof) if isinstance(proof, PathProof) else proof,
    }
    return case if value is None else case | {"value": value.hex()}


def good_proofs() -> Iterator[tuple[str, Case]]:
    yield "ok-presence", map_case("a merchant", "ok", PRESENT, CONTENTS[PRESENT], proof_for(PRESENT))
    slot, leaf = absent_key(True), absent_key(False)
    yield "ok-absence-empty-slot", map_case("nothing where the path ends", "ok", slot, None, proof_for(slot))
    yield "ok-absence-other-leaf", map_case("another key where the path ends", "ok", leaf, None, proof_for(leaf))
    nothing = proof_for(PRESENT, Section.ALIASES)
    yield "ok-absence-empty-section", map_case("an empty section", "ok", PRESENT, None, nothing, Section.ALIASES)


def bad_presence() -> Iterator[tuple[str, Case]]:
    proof, value = proof_for(PRESENT), CONTENTS[PRESENT]
    siblings, depth = proof.siblings, proof.depth

    def case(what: str, expect: str, **changes: Any) -> Case:
        return map_case(what, expect, PRESENT, value, dataclasses.replace(proof, **changes))

    yield "value-altered", map_case("another value", "map.root", PRESENT, value + b"x", proof)
    yield (
        "key-of-another",
        map_case("another merchant's proof", "map.root", b"merchant 8", CONTENTS[b"merchant 8"], proof),
    )
    yield "section-other", map_case("the same key elsewhere", "map.root", PRESENT, value, proof, Section.PLATFORMS)
    yield (
        "siblings-swapped",
        case("two siblings exchanged", "map.root", siblings=siblings[32:64] + siblings[:32] + siblings[64:]),
    )
    yield "siblings-truncated", case("the last sibling is missing", "map.siblings", siblings=siblings[:-32])
    yield "siblings-cut-inside", case("half a sibling", "map.siblings", siblings=siblings[:-16])
    yield "siblings-extended", case("one sibling too many", "map.siblings", siblings=siblings + digest("more"))
    yield "sibling-bit-flipped", case("one bit", "map.root", siblings=siblings[:-1] + bytes((siblings[-1] ^ 1,)))
    mask = int.from_bytes(proof.mask, "big")
    spare = -depth % 8
    octets = len(proof.mask)
    yield "mask-spare-bit", case("a bit below the path", "map.mask", mask=(mask | 1).to_bytes(octets, "big"))
    yield "mask-too-long", case("a byte too many", "map.mask", mask=proof.mask + b"\0")
    yield "mask-too-short", case("no mask", "map.mask", mask=b"")
    cleared = (mask & ~(1 << spare)).to_bytes(octets, "big")
    yield "mask-bit-cleared", case("a sibling without its bit", "map.siblings", mask=cleared)
    yield "depth-less", case("one level less", "map.mask", depth=depth - 1)
    longer = (mask | 1 << (spare - 1)).to_bytes(octets, "big")
    yield (
        "depth-more",
        case("one level more", "map.root", depth=depth + 1, mask=longer, siblings=siblings + digest("more")),
    )
    hollow = case(
        "an empty sibling spelt out", "map.sibling_empty", depth=depth + 1, mask=longer, siblings=siblings + bytes(32)
    )
    yield "sibling-empty-spelt-out", hollow
    yield "depth-over-256", map_case("a depth of 257", "wire.field", PRESENT, value, to_plain(proof) | {"depth": 257})
    yield "presence-with-other-leaf", case("a second leaf", "map.other_leaf", other=bytes(64))
    inner = reference_map.side(HASHED[SECTION], 0, proofs.key_hash(SECTION, PRESENT)[0] >> 7)
    top = dataclasses.replace(proof, depth=1, mask=b"\x80", siblings=siblings[:32])
    yield (
        "inner-node-as-value",
        map_case("an inner node for a leaf", "map.root", PRESENT, reference_map.root(inner, 1), top),
    )
    yield "roots-swapped", map_case("two roots exchanged", "map.app_hash", PRESENT, value, proof, roots=swap_roots())
    forged = SectionRoots(roots=ROOTS.roots[:-1] + b"\x01")
    yield "roots-altered", map_case("one bit of the last root", "map.app_hash", PRESENT, value, proof, roots=forged)


def swap_roots() -> SectionRoots:
    return SectionRoots(roots=ROOTS.roots[32:64] + ROOTS.roots[:32] + ROOTS.roots[64:])


def bad_absence() -> Iterator[tuple[str, Case]]:
    proof = proof_for(PRESENT)
    hidden = map_case("the key is there", "map.root", PRESENT, None, proof)
    yield "absence-of-what-is-there", hidden
    own = proofs.key_hash(SECTION, PRESENT) + sha256(CONTENTS[PRESENT]).digest()
    itself = dataclasses.replace(proof, other=own)
    yield "absence-by-its-own-leaf", map_case("its own leaf", "map.other_same_key", PRESENT, None, itself)
    elsewhere = next(name for name in CONTENTS if name != PRESENT)
    foreign = proofs.key_hash(SECTION, elsewhere) + sha256(CONTENTS[elsewhere]).digest()
    stray = dataclasses.replace(proof_for(elsewhere), other=foreign)
    yield "absence-by-leaf-off-path", map_case("a leaf off the path", "map.other_off_path", PRESENT, None, stray)
    leaf = absent_key(False)
    good = proof_for(leaf)
    emptied = dataclasses.replace(good, other=None)
    yield "absence-leaf-left-out", map_case("a taken slot called empty", "map.root", leaf, None, emptied)
    other = good.other or b""
    revalued = dataclasses.replace(good, other=other[:-1] + bytes((other[-1] ^ 1,)))
    yield "absence-other-value-altered", map_case("the other leaf's value", "map.root", leaf, None, revalued)
    nothing = PathProof(depth=0, mask=b"", siblings=b"")
    yield "absence-by-empty-tree", map_case("a full section called empty", "map.root", leaf, None, nothing)


MAKERS = (good_proofs, bad_presence, bad_absence)
