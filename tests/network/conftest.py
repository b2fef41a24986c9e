"""One network for all scenarios of this folder, under one load, and the table that is printed when they have ended."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import ROOT
from integration.engine_network import require_engine
from network import cables
from network.faulty import NODES, TWIN, FaultyNetwork
from network.history import opened
from network.load import Load
from network.scenario import Scenarios

REPORT = ROOT / "build" / "network"


@pytest.fixture(scope="session")
def no_cables() -> str | None:
    """Why no cable can be cut on this machine; None where they can be."""
    return cables.why_not()


@pytest.fixture(scope="session")
def faults(no_cables: str | None) -> Iterator[Scenarios]:
    """Four validators with their platforms, each node in a namespace where that is possible, and the load."""
    require_engine()
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)  # addresses of the bridge are no proxy's business
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="oc-"))
        wires = None if no_cables else stack.enter_context(cables.Cables((*NODES, TWIN)))
        network = stack.enter_context(FaultyNetwork(Path(directory) / "n", wires))
        network.start()
        history = opened(REPORT / "history.jsonl")
        load = stack.enter_context(Load(network, history))
        scenarios = Scenarios(network, load, history, REPORT)
        scenarios.settle("the load")
        yield scenarios
