"""No file of the project names a package registry's host, a path of one machine, or anything outside the project."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from architecture.source_rules import text_faults

BAD = [
    "see https://py" + "pi.org/simple",
    '"resolved": "https://registry.npm' + 'js.org/x"',
    "cd /wo" + "rk/main",
    "path = '/ro" + "ot/x'",
    "data in /ho" + "me/alice",
    "made with Clau" + "de",
]
GOOD = [
    "GET /v1/wo" + "rk/items",
    "a framework/room",
    "the root/leaf",
    "a session with the enclave",
    "the design of it",
]


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_seen(line: str) -> None:
    assert text_faults(line, "sample")


@pytest.mark.parametrize("line", GOOD)
def test_a_good_line_passes(line: str) -> None:
    assert text_faults(line, "sample") == []


def test_no_file_holds_forbidden_text(root: Path) -> None:
    if not (root / ".git").exists():
        pytest.skip("NOT A CHECKOUT: this test lists the project's files with git")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    names = [name for name in listed.split("\0") if name and (root / name).is_file()]
    assert names, "git lists no file"
    faults = []
    for name in names:
        faults += text_faults(name, name)
        try:
            text = (root / name).read_text("utf-8")
        except UnicodeDecodeError:  # an image
            continue
        faults += text_faults(text, name)
    assert faults == [], "\n".join(faults)
