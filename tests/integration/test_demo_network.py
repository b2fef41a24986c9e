"""`onecode demo --validators 4` as a user runs it: the story, one validator of four killed and back, exit code 0."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration.engine_network import BINARY, require_engine
from integration.test_demo import steps

TIMEOUT_S = 110
JOIN, LIES, KILLED, FIRED, ORDERS, BACK = 2, 3, 4, 5, 6, 7  # acts


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All events of one run."""
    require_engine()
    data = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "onecode", "demo", "--validators", "4", "--engine-binary", str(BINARY)]
    done = subprocess.run(
        [*command, "--json", "--data", str(data)], capture_output=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()[-2000:]
    assert b"Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_step_held_with_one_picture(events: list[dict[str, Any]]) -> None:
    told = [event for event in events if event["event"] == "step"]
    end = events[-1]
    assert all(step["ok"] for step in told)
    assert (end["event"], end["ok"], end["steps"]) == ("end", True, len(told))
    (printed,) = [step for step in told if "picture" in step]
    assert hashlib.sha256(Path(printed["picture"]).read_bytes()).hexdigest() == printed["sha256"]
    assert [step["sha256"] for step in steps(events, JOIN) if "sha256" in step] == [printed["sha256"]]


def test_every_lie_is_caught_by_a_named_check(events: list[dict[str, Any]]) -> None:
    lies = [step for step in steps(events, LIES) if "lie" in step]
    assert {step["lie"] for step in lies} == {"alters", "withholds", "replays"}
    assert all(step["code"] and "step" in step["check"] for step in lies)


def test_with_one_of_four_killed_wallets_pay_and_platforms_publish(events: list[dict[str, Any]]) -> None:
    act = steps(events, KILLED)
    (killed,) = [step for step in act if "killed" in step]
    assert (killed["killed"], killed["validators"]) == ("birch", 3)
    assert {"supervisor", "writer", "engine", "enclave"} <= set(killed["processes"])
    assert [len(step["passed_over"]) for step in act if "passed_over" in step] == [1]
    assert [step["version"] for step in act if "version" in step] == [2]


def test_refusals_are_proven_while_it_is_dead(events: list[dict[str, Any]]) -> None:
    assert [step["code"] for step in steps(events, FIRED) if "code" in step] == ["platform.absent", "payment.link"]
    orders = steps(events, ORDERS)
    assert [step["code"] for step in orders if "code" in step] == ["payment.reference_used"]


def test_it_comes_back_with_the_same_app_hash_and_is_paid_through(events: list[dict[str, Any]]) -> None:
    act = steps(events, BACK)
    (same,) = [step for step in act if "app_hash" in step]
    assert same["height"] > 0 and len(bytes.fromhex(same["app_hash"])) == 32
    assert "receipt signed" in act[-1]["note"] or "receipt signed" in act[-2]["note"]


def test_it_ends_with_books_that_add_up_and_a_table_of_times(events: list[dict[str, Any]]) -> None:
    received, times = [event for event in events if event["event"] == "table"]
    assert [row[0] for row in received["rows"]] == ["Alder Pay", "Birch Pay", "Cedar Pay", "all"]
    assert {row[3] for row in received["rows"][:-1]} == {"0.00 CNY"}
    names = [row[0] for row in times["rows"]]
    for wanted in ("publish with one of four dead", "unlink: until every node proves it", "back: start to caught up"):
        assert wanted in names


def test_what_is_simulated_is_called_so(events: list[dict[str, Any]]) -> None:
    told = " ".join(event["text"] for event in events if event["event"] == "say")
    for what in ("SIMULATED", "enclave", "sandbox", "one machine", "all their keys", "shortened", "no network between"):
        assert what in told
    assert "solo" not in told
