"""Children: ready lines, ends, stubborn ones; each stopped by its own pid."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from onecode.errors import Unreachable
from onecode.network.processes import Child, _descendants, _runs, kill_tree, node_processes, stop_children

pytestmark = pytest.mark.clock

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
    assert stat.S_IMODE((module / "good.log").stat().st_mode) == 0o600


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


def test_a_tree_is_killed_with_all_that_it_has_started(module: Path) -> None:
    source = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    started = child(module, "tree", source + READY + "time.sleep(60)\n")
    started.wait_ready(soon())
    (grandchild,) = (pid for pid, _ in _descendants(started.pid))
    assert _runs(grandchild)
    kill_tree(started.pid)
    assert not _runs(grandchild) and not _runs(started.pid)
    started.wait_stopped(soon())
    assert started.ended() == -9


def test_the_processes_of_a_node_are_told_apart(module: Path) -> None:
    """By how they were started; this one plays a supervisor with a writer, its engine, two workers and an enclave."""
    nap = "import sys, time; time.sleep(60)"
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(60)"
    source = f"""
import subprocess, sys
for program, words in (
    ({nap!r}, ["--role", "worker"]),
    ({parent!r}, [{nap!r}, "--role", "writer"]),
    ({nap!r}, ["--role", "worker"]),
    ({parent!r}, [{nap!r}, "onecode.enclave"]),
):
    subprocess.Popen([sys.executable, "-c", program, *words])
"""
    started = child(module, "supervisor", source + READY + "time.sleep(60)\n")
    started.wait_ready(soon())
    wanted = {"supervisor", "writer", "engine", "worker-0", "worker-1", "enclave", "enclave-worker-0"}
    until_s = soon()
    while set(found := node_processes(started.pid)) != wanted:
        assert time.monotonic() < until_s, found
        time.sleep(0.05)
    assert len(set(found.values())) == 7 and found["supervisor"] == started.pid
    kill_tree(started.pid)
    started.wait_stopped(soon())
