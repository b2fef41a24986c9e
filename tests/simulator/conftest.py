"""The simulator's fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.world import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """An honest chain and a wallet of platform A to be made."""
    made = Lab(tmp_path / "wallet")
    yield made
    made.close()
