"""What every test may use: the shared vectors, Hypothesis profiles, a line that says what a run covers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import watched_clock

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
    return [f"onecode: shared vectors {found}; Hypothesis profile {PROFILE}; today is {time.strftime('%Y-%m-%d')}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another day one case of each test is enough: what a day changes is not in its parameters."""
    if not os.environ.get("ONECODE_CALENDAR"):
        return
    seen: set[str] = set()
    kept, left = [], []
    for item in items:
        name = item.nodeid.split("[")[0]
        (left if name in seen else kept).append(item)
        seen.add(name)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


@pytest.fixture(autouse=True)
def read_no_clock_unsaid(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test inside one process that reads the clock is marked `clock`: `make test-calendar` runs it on other days."""
    before = watched_clock.begin()
    yield
    inside = {"unit", "property", "simulator"} & set(request.path.relative_to(ROOT / "tests").parts[:1])
    if inside and watched_clock.reads() > before and request.node.get_closest_marker("clock") is None:
        pytest.fail("this test reads the clock: `pytestmark = pytest.mark.clock` in its module")


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
