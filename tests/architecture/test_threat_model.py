"""Every row of the threat model's table names tests that exist, and each code of a row is expected in one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/threat-model.md"
CODE = re.compile(r"`([a-z_]+\.[a-z_*]+|[A-Z][A-Z_]+\*?)`")


def rows() -> list[list[str]]:
    """Cells of the rows under "Who can lie about what"."""
    section = PAGE.read_text("utf-8").split("## Who can lie about what")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


def files(cell: str, tests: Path) -> list[Path]:
    """The files that the last cell names, from `tests/`; a pattern may stand for many, a directory for all in it."""
    found: list[Path] = []
    for name in re.findall(r"`([\w/.*-]+/[\w/.*-]*)`", cell):
        matched = [path for path in tests.glob(name.rstrip("/")) if path.exists()]
        assert matched, f"the threat model names {name}, which is not there"
        for path in matched:
            found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_row_is_shown(row: list[str]) -> None:
    tests = PAGE.parent.parent / "tests"
    liar, lie, _, caught, shown = row
    assert liar and lie
    paths = files(shown, tests)
    # lies of the simulator have a module of their own beside the tests that tell them
    beside = [path.with_name("lies.py") for path in paths if path.name == "test_lies.py"]
    text = "\n".join(path.read_text("utf-8") for path in [*paths, *beside])
    for named in re.findall(r"`(test_\w+)`", shown):
        assert f"def {named}(" in text, f"no test is called {named}"
    for code in CODE.findall(caught):
        expected = rf"\b{re.escape(code[:-1])}\w+" if code.endswith("*") else rf"\b{re.escape(code)}\b"
        assert re.search(expected, text), f"{code} is expected in none of {[path.name for path in paths][:20]}"
