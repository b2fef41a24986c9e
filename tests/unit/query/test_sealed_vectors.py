"""The vectors of credentials and envelopes: files and script agree, each fails by its code, and at that check alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from disabled_check import without_check
from onecode.errors import OnecodeError
from vectors import sealed_cases

FILES = sorted(path for kind in sealed_cases.KINDS for path in (sealed_cases.HERE / kind).glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(path.read_text("ascii"))
    return case


BAD = [path for path in FILES if load(path)["expect"]["code"] != "ok"]


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_the_files_are_what_the_script_makes() -> None:
    made = {name: sealed_cases.text(case) for name, case in sealed_cases.cases().items()}
    assert {named(path): path.read_text("ascii") for path in FILES} == made


def test_every_step_of_a_credential_has_a_vector() -> None:
    assert {load(path)["step"] for path in BAD if path.parent.name == "credential"} == set(range(6))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_verdict(path: Path) -> None:
    case = load(path)
    assert sealed_cases.verdict(path.parent.name, case) == case["expect"]["code"]


@pytest.mark.parametrize("path", BAD, ids=named)
def test_it_fails_at_this_check_alone(path: Path) -> None:
    case, verify = load(path), sealed_cases.KINDS[path.parent.name][1]
    with pytest.raises(OnecodeError) as caught:
        verify(case)
    found: str | None
    with without_check(caught.value, leave=caught.value.code == "platform.key_unknown") as passed:
        try:
            verify(case)
            found = "ok"
        except OnecodeError as error:
            found = error.code
        except Exception:  # what the check keeps out cannot be gone on with
            found = None
    assert found == case["expect"]["without"]
    assert len(passed) == 1
