"""Our own vectors: the files are the ones the script makes, and each verdict is the one its file names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vectors import proof_cases

FILES = sorted(proof_cases.HERE.glob("*.json"))


def test_the_files_are_what_the_script_makes() -> None:
    assert {path.stem: path.read_text("ascii") for path in FILES} == {
        name: proof_cases.text(case) for name, case in proof_cases.cases().items()
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_verdict(path: Path) -> None:
    case = json.loads(path.read_text("ascii"))
    assert proof_cases.verdict(path.stem, case) == case["expect"]


def test_every_code_of_a_verifier_has_a_vector(root: Path) -> None:
    expected = {json.loads(path.read_text("ascii"))["expect"] for path in FILES}
    raised = set()
    for name in ("light", "map"):
        source = (root / f"src/onecode/proof/{name}.py").read_text("utf-8")
        raised |= set(re.findall(r'Untrusted\(\s*"([^"]+)"', source))
    assert len(raised) > 25
    assert raised <= expected
