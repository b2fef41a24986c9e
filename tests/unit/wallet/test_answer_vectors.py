"""The answer vectors: files and script agree, each fails at its own step, and at that check alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from disabled_check import without_check
from onecode.errors import OnecodeError
from onecode.proof.light import verify_header as light
from onecode.query import follow
from onecode.query.messages import Answer
from onecode.query.sealing import open_result
from onecode.schema import parse
from onecode.wallet import resolve
from onecode.wire import sha256
from vectors import answer_cases

FILES = sorted(answer_cases.HERE.glob("*.json"))
STEPS = set(range(25)) - {2}  # step 2 refuses nothing: see below
# Checks without which their function returns at once: nothing after them in it can be done.
LEAVES = ("platform.key_unknown",)
# Checks that are made twice on the way of one answer.
TWICE = ("map.app_hash", "header.validator_twice")
# Two merchants are left, and which of them is taken is open.
OPEN = ("alias.conflict",)


def load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(path.read_text("ascii"))
    return case


BAD = [path for path in FILES if load(path)["expect"]["outcome"] != "ok"]


def test_the_files_are_what_the_script_makes() -> None:
    made = {name: answer_cases.text(case) for name, case in answer_cases.cases().items()}
    assert {path.stem for path in FILES} == set(made)
    assert [path.stem for path in FILES if path.read_text("ascii") != made[path.stem]] == []


def test_every_step_has_a_vector() -> None:
    assert {load(path)["step"] for path in BAD} >= STEPS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_verdict(path: Path) -> None:
    case = load(path)
    expected = {key: value for key, value in case["expect"].items() if key != "without"}
    assert answer_cases.verdict(case) == expected


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_it_fails_at_this_check_alone(path: Path) -> None:
    """Without the one check that refused it, it is taken for what `without` says."""
    case = load(path)
    with pytest.raises(OnecodeError) as caught:
        answer_cases.run(case)
    found: str | None
    with without_check(caught.value, leave=caught.value.code in LEAVES) as passed:
        try:
            answer_cases.run(case)
            found = "ok"
        except OnecodeError as error:
            found = error.code
        except Exception:  # what the check keeps out cannot be gone on with
            found = None
    if caught.value.code in OPEN:
        return
    assert found == case["expect"]["without"]
    if found == "ok":
        assert len(passed) == (2 if caught.value.code in TWICE else 1)


def test_a_known_header_counts_as_it_was_verified() -> None:
    """Step 2: the vector is refused for its age alone because the header was verified before; afresh it would pass."""
    case = load(answer_cases.HERE / "02-known-header-signed-again.json")
    assert case["expect"]["code"] == "header.stale"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            follow, "verify_header", lambda signed, members, trust, now, known: light(signed, members, trust, now)
        )
        assert answer_cases.verdict(case)["outcome"] == "ok"


@pytest.mark.parametrize("path", [path for path in BAD if "20-sealed-" in path.stem], ids=lambda path: path.stem)
def test_what_is_sealed_wrongly_is_sound_but_for_the_seal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, honest = load(path), load(answer_cases.HERE / "00-ok-node-match.json")
    clear_hash = sha256(bytes.fromhex(honest["clear"]))
    sealed = parse(Answer, bytes.fromhex(honest["answer"])).sealed
    result = open_result(honest["chain_id"], sealed, bytes.fromhex(honest["reply_key"]), clear_hash)
    monkeypatch.setattr(resolve, "open_result", lambda *_: result)
    assert answer_cases.verdict(case)["outcome"] == "ok"
