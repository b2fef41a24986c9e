"""Our bisection cases: the files are those that the script makes, and each verdict is the one in its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vectors import bisection_cases

FILES = sorted(bisection_cases.HERE.glob("*.json"))


def test_the_files_are_what_the_script_makes() -> None:
    assert {path.stem: path.read_text("ascii") for path in FILES} == {
        name: bisection_cases.text(case) for name, case in bisection_cases.cases()
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_verdict(path: Path) -> None:
    case = json.loads(path.read_text("ascii"))
    assert bisection_cases.verdict(case) == (case["expect"], case.get("passed"))
    assert path.stem.startswith("ok-") == (case["expect"] == "ok")
