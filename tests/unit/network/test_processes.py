"""Children: ready lines, ends, stubborn ones; each stopped by its own pid."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from onecode.errors import Unreachable
from onecode.network.processes import Child, stop_children

READY = "import sys, time, json\nprint('noise')\nprint(json.dumps({'ready': True, 'url': 'x'}), flush=True)\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for modules that children run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def child(module: Path, name: str, source: str) -> Child:
    (module / f"{name}.py").write_text(source, "utf-8")
    return Child(name, name, module / "config.json", module / f"{name}.log")


def soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


def test_a_ready_line_is_returned_and_the_child_stops_when_asked(module: Path) -> None:
    started = child(module, "good", READY + "time.sleep(60)\n")
    assert started.wait_ready(soon())["url"] == "x"
    assert started.ended() is None
    stop_children([started])
    assert started.ended() == -15
    assert b"noise" in (module / "good.log").read_bytes()


def test_a_child_that_ends_says_why(module: Path) -> None:
    started = child(module, "bad", "import sys\nsys.stderr.write('no port for me\\n')\nsys.exit(6)\n")
    with pytest.raises(Unreachable, match="exit code 6: no port for me") as caught:
        started.wait_ready(soon())
    assert caught.value.code == "network.process_ended"


def test_a_child_that_is_not_ready_in_time_is_named(module: Path) -> None:
    started = child(module, "slow", "import time\ntime.sleep(60)\n")
    with pytest.raises(Unreachable, match="slow was not ready"):
        started.wait_ready(soon(0.2))
    stop_children([started])


def test_a_child_that_does_not_end_is_killed(module: Path) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "time.sleep(60)\n"
    started = child(module, "stubborn", stubborn)
    started.wait_ready(soon())
    stop_children([started], grace_ms=200)
    assert started.ended() == -9
