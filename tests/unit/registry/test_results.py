"""Every result code is reached by a scenario, and by nothing that a failed transaction leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onecode.registry.results import Result
from unit.registry import codes_admission, codes_governance, codes_merchants, codes_records
from unit.registry.world import World

PARTS = (codes_admission, codes_records, codes_merchants, codes_governance)
SCENARIOS = {code: scenario for part in PARTS for code, scenario in part.CODES.items()}
SECOND_WAYS = (
    (Result.KEYS_NOT_DISTINCT, codes_records.same_key_twice),
    (Result.KEY_REFUSED, codes_merchants.wrong_role),
    (Result.PROPOSAL_MALFORMED, codes_governance.garbage),
)


def test_every_code_has_a_scenario() -> None:
    assert set(SCENARIOS) == set(Result)
    assert sum(len(part.CODES) for part in PARTS) == len(Result)


@pytest.mark.parametrize("code", list(Result), ids=lambda code: code.name)
def test_code_is_reached(code: Result) -> None:
    assert SCENARIOS[code](World()) == code


@pytest.mark.parametrize(("code", "scenario"), SECOND_WAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_code_is_reached_in_another_way(code: Result, scenario: Callable[[World], Result]) -> None:
    assert scenario(World()) == code


def test_codes_have_words_and_stay_in_32_bits() -> None:
    assert len({code.meaning for code in Result}) == len(Result)
    assert all(0 <= code < 1 << 32 for code in Result)


def test_only_codes_up_to_19_are_of_admission() -> None:
    assert not Result.NONCE.admitted
    assert Result.OK.admitted
    assert Result.PLATFORM_INACTIVE.admitted


def test_the_specification_lists_every_code(root: Path) -> None:
    rows = [f"| {int(code)} | `{code.name}` | {code.meaning} |" for code in Result]
    text = (root / "docs/spec/registry.md").read_text("utf-8")
    assert [line for line in text.split("## Result codes")[1].splitlines() if line.startswith("| ")][2:] == rows
