"""The numbers of lines that a wallet and an enclave must trust are counted right and published as they are."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import line_count

SAMPLE = '''"""Docstring
of two lines."""

import os  # one


def f(x):
    """Docstring."""
    # a comment
    text = """a
    value of two lines"""
    return (
        x
    )
'''


def test_blank_lines_comments_and_docstrings_do_not_count() -> None:
    assert line_count.code_lines(SAMPLE) == 7  # import, def, two of the text, three of the return


def test_patterns_choose_the_files(tmp_path: Path) -> None:
    (tmp_path / "wallet").mkdir()
    for name in ("wire.py", "wallet/resolve.py", "wallet/resolve_alias.py", "wallet/pay.py"):
        (tmp_path / name).write_text("x = 1\n")
    assert line_count.count(line_count.TRUSTED, tmp_path) == 3


def test_a_published_number_is_read() -> None:
    text = "about <!-- trusted-lines -->1,234<!-- /trusted-lines --> lines"
    assert line_count.published(text, "trusted-lines") == 1234
    assert line_count.published(text, "enclave-lines") is None


def test_the_readme_publishes_both_numbers(root: Path) -> None:
    readme = root / "README.md"
    if not readme.exists():
        pytest.skip("NO README.md yet")
    text = readme.read_text("utf-8")
    assert line_count.published(text, "trusted-lines") == line_count.trusted_lines(), "run `make docs`"
    assert line_count.published(text, "enclave-lines") == line_count.enclave_lines(), "run `make docs`"
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    assert project.get("readme") == "README.md", 'pyproject.toml needs readme = "README.md"'
