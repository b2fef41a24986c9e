"""`onecode demo` as a user runs it: every act, one picture, exit code 0, nothing left behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 100


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All events of one run. Its directory is kept so that the picture can be looked at."""
    data = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "onecode", "demo", "--json", "--data", str(data)],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()[-2000:]
    assert b"Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def steps(events: list[dict[str, Any]], act: int) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "step" and event["act"] == act]


def test_every_step_held_and_it_took_less_than_a_minute(events: list[dict[str, Any]]) -> None:
    told = [event for event in events if event["event"] == "step"]
    end = events[-1]
    assert all(step["ok"] for step in told)
    assert (end["event"], end["ok"], end["steps"]) == ("end", True, len(told))
    assert end["seconds"] < 60


def test_act_1_two_platforms_and_two_wallets_use_one_picture(events: list[dict[str, Any]]) -> None:
    act = steps(events, 1)
    (printed,) = [step for step in act if "picture" in step]
    assert hashlib.sha256(Path(printed["picture"]).read_bytes()).hexdigest() == printed["sha256"]
    assert sorted(step["platform"] for step in act if "platform" in step) == ["Alder Pay", "Birch Pay"]
    (by_itself,) = [step["candidates"] for step in act if "candidates" in step]
    assert by_itself == ["Birch Pay", "Alder Pay"]


def test_act_2_a_platform_joins_and_the_picture_stays(events: list[dict[str, Any]]) -> None:
    (printed,) = [step["sha256"] for step in steps(events, 1) if "picture" in step]
    act = steps(events, 2)
    assert [step["platform"] for step in act if "platform" in step] == ["Cedar Pay"]
    assert [step["sha256"] for step in act if "sha256" in step] == [printed]


def test_act_3_every_lie_is_caught_by_a_named_check(events: list[dict[str, Any]]) -> None:
    lies = [step for step in steps(events, 3) if "lie" in step]
    assert {step["lie"] for step in lies} == {"alters", "withholds", "replays"}
    assert all(step["code"] and "step" in step["check"] for step in lies)
    wanted = {"links.hash", "reply.seal", "answer.other_merchant", "header.stale", "header.chain_id"}
    assert wanted <= {step["code"] for step in lies}


def test_act_3_begins_with_what_an_ordinary_directory_does_and_finds_no_record_on_the_disk(
    events: list[dict[str, Any]],
) -> None:
    act = steps(events, 3)
    assert (act[0]["directory"], act[0]["paid_to"]) == ("ordinary", "thief-6666")
    assert [step["clear_text_found"] for step in act if "clear_text_found" in step] == [0]


def test_act_4_the_fired_platform_is_refused_with_a_proof(events: list[dict[str, Any]]) -> None:
    refusals = [step for step in steps(events, 4) if "code" in step]
    assert [step["code"] for step in refusals] == ["platform.absent", "payment.link"]
    assert refusals[0]["seconds"] < 10


def test_act_5_an_order_is_paid_once_and_an_old_label_unprinted(events: list[dict[str, Any]]) -> None:
    act = steps(events, 5)
    assert [step["code"] for step in act if "code" in step] == ["payment.reference_used"]
    assert [step["alias"] for step in act if "alias" in step] == ["A000000999010111"]


def test_it_ends_with_books_that_add_up_and_a_table_of_times(events: list[dict[str, Any]]) -> None:
    received, times = [event for event in events if event["event"] == "table"]
    assert [row[0] for row in received["rows"]] == ["Alder Pay", "Birch Pay", "Cedar Pay", "all"]
    assert {row[3] for row in received["rows"][:-1]} == {"0.00 CNY"}
    for wanted in ("scan", "resolve", "verify", "pay", "publish", "join", "unlink"):
        assert any(row[0].startswith(wanted) for row in times["rows"]), wanted


def test_what_is_simulated_is_called_so(events: list[dict[str, Any]]) -> None:
    told = " ".join(event["text"] for event in events if event["event"] == "say")
    for what in ("SIMULATED", "enclave", "sandbox", "one machine", "solo", "shortened"):
        assert what in told
