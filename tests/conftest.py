"""What every test may use: the shared vectors, Hypothesis profiles, a line that says what a run covers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ONECODE_SHARED") or ROOT.parent / "shared")
PROFILE = os.environ.get("ONECODE_HYPOTHESIS", "ci")

# `ci` draws the same examples on every run and keeps no database; `deep` is for a long search by hand.
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", deadline=None, max_examples=20_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(PROFILE)


def pytest_report_header() -> list[str]:
    found = "found" if (SHARED / "vectors").is_dir() else "MISSING: tests that read it are skipped"
    return [f"onecode: shared vectors {found}; Hypothesis profile {PROFILE}"]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root directory."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory that holds `vectors/`; read in place, never copied."""
    if not (SHARED / "vectors").is_dir():
        pytest.skip(f"NO SHARED VECTORS in {SHARED}: set ONECODE_SHARED to the directory that holds vectors/")
    return SHARED
