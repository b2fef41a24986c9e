"""The lock files pin every package by hash, name no address, and hold what pyproject.toml declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

LINE = re.compile(r"[a-z0-9-]+==[A-Za-z0-9.+]+( ; [a-z_]+ [!=<>]+ '[\w.]+'( (and|or) [a-z_]+ [!=<>]+ '[\w.]+')*)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def lock_faults(text: str) -> list[str]:
    """Lines of a lock that are neither a pinned package nor a hash, and packages without a hash."""
    lines = text.splitlines()
    faults = [line for line in lines if not LINE.fullmatch(line) and not HASH.fullmatch(line)]
    followers = [*lines[1:], ""]
    faults += [
        line for line, after in zip(lines, followers, strict=True) if line.endswith("\\") and not HASH.fullmatch(after)
    ]
    return faults


def pinned(text: str) -> dict[str, str]:
    """Version by package name."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    "text",
    [
        "a==1",
        "a==1 \\",
        "a>=1 \\\n    --hash=sha256:" + "0" * 64,
        "a @ https://example.invalid/a.whl \\\n    --hash=sha256:" + "0" * 64,
        "# made with --index-url https://example.invalid",
        "--find-links /some/where",
        "-e .",
    ],
)
def test_a_bad_lock_is_seen(text: str) -> None:
    assert lock_faults(text)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_hold_pins_and_hashes_only(root: Path, name: str) -> None:
    text = (root / name).read_text("utf-8")
    assert pinned(text)
    assert lock_faults(text) == []


def test_locks_hold_what_is_declared(root: Path) -> None:
    config = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    runtime = pinned((root / "requirements.lock").read_text("utf-8"))
    dev = pinned((root / "requirements-dev.lock").read_text("utf-8"))
    name = re.compile(r"[A-Za-z0-9-]+")
    declared = [name.match(text) for text in config["project"]["dependencies"] + config["build-system"]["requires"]]
    assert {found[0] for found in declared if found} <= set(runtime)
    assert all(dev.get(package) == version for package, version in runtime.items()), "the two locks differ: `make lock`"
    assert all("<" in text for text in config["project"]["dependencies"]), "a dependency without an upper bound"
