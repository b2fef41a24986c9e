"""Makes tests/vectors/proof/*.json: one file for each defect, named by it. Deterministic; run after a change of format.

A file holds all that a verifier is given, in plain form (bytes in hex), and `expect`: "ok" or the error's code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from onecode.errors import OnecodeError
from onecode.proof import map as proofs
from onecode.proof.header import Header, SignedHeader, ValidatorSet
from onecode.proof.light import Trust, require_fresh, trusted_state, verify_header
from onecode.proof.map import PathProof, Section, SectionRoots
from onecode.schema import from_plain
from vectors import proof_header_cases, proof_map_cases

HERE = Path(__file__).resolve().parent / "proof"
Case = dict[str, Any]


def cases() -> dict[str, Case]:
    """Every case by its file's name."""
    table: dict[str, Case] = {}
    for kind, makers in (("header", proof_header_cases.MAKERS), ("map", proof_map_cases.MAKERS)):
        for make in makers:
            for name, case in make():
                if f"{kind}-{name}" in table:
                    raise ValueError(f"two cases are called {kind}-{name}")
                table[f"{kind}-{name}"] = case
    return table


def verdict(name: str, case: Case) -> str:
    """What the verifiers say to a case: "ok" or an error's code."""
    try:
        if name.startswith("header-"):
            _verify_header_case(case)
        else:
            _verify_map_case(case)
    except OnecodeError as error:
        return error.code
    return "ok"


def _verify_header_case(case: Case) -> None:
    state = trusted_state(
        from_plain(Header, case["trusted_header"]), from_plain(ValidatorSet, case["trusted_validators"])
    )
    signed, validators = from_plain(SignedHeader, case["signed_header"]), from_plain(ValidatorSet, case["validators"])
    verified = verify_header(signed, validators, Trust(state), case["now_ms"])
    require_fresh(verified, case["now_ms"])
    if (verified.header_hash.hex(), verified.signed_ms) != (case["header_hash"], case["signed_ms"]):
        raise ValueError(f"{verified.header_hash.hex()} signed at {verified.signed_ms}")


def _verify_map_case(case: Case) -> None:
    roots, proof = from_plain(SectionRoots, case["roots"]), from_plain(PathProof, case["proof"])
    section, name = Section[case["section"].upper()], bytes.fromhex(case["key"])
    proofs.verify_roots(roots, bytes.fromhex(case["app_hash"]))
    if "value" in case:
        proofs.verify_presence(roots, section, name, bytes.fromhex(case["value"]), proof)
    else:
        proofs.verify_absence(roots, section, name, proof)


def text(case: Case) -> str:
    return json.dumps(case, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    made = cases()
    for path in HERE.glob("*.json"):
        if path.stem not in made:
            path.unlink()
    for case_name, made_case in made.items():
        (HERE / f"{case_name}.json").write_text(text(made_case), encoding="ascii")
        found = verdict(case_name, made_case)
        print("as expected" if found == made_case["expect"] else f"WRONG: {found}", case_name, made_case["expect"])
