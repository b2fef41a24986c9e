"""The story's promise: a step that does not hold ends it and is told as failed."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from onecode.cli.demo.story import Story, StoryBroken
from onecode.errors import Declined, Untrusted


def screen() -> tuple[Story, io.StringIO]:
    out = io.StringIO()
    return Story(False, Console(file=out, width=200)), out


def test_a_failed_step_is_told_and_ends_the_story() -> None:
    story, out = screen()
    with pytest.raises(StoryBroken), story.step("a step"):
        story.require(False, "it did not hold")
    assert "✗ a step" in out.getvalue()
    assert "it did not hold" in out.getvalue()


def test_a_step_that_holds_shows_its_note_and_machine_codes() -> None:
    story, out = screen()
    with story.step("a step") as step:
        step.note = "caught [links.hash]"
    assert "✓ a step" in out.getvalue()
    assert "caught [links.hash]" in out.getvalue()


def test_a_refusal_must_come_with_the_right_code() -> None:
    story, _ = screen()

    def refuse() -> None:
        raise Declined("platform.absent", "proven")

    assert story.refusal(refuse, Declined, "platform.absent").code == "platform.absent"
    with pytest.raises(StoryBroken, match="refused with"):
        story.refusal(refuse, Declined, "merchant.absent")
    with pytest.raises(StoryBroken, match="not refused"):
        story.refusal(lambda: None, Declined, "platform.absent")
    with pytest.raises(Declined):  # another branch is another error, not the refusal that was to be
        story.refusal(refuse, Untrusted, "platform.absent")


def test_json_tells_every_step_and_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story(True)
    story.act("one")
    with story.step("a step") as step:
        step.facts = {"code": "links.hash"}
    story.measure("scan", 1.5)
    story.end()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["heading", "step", "table", "end"]
    assert (events[1]["ok"], events[1]["code"], events[1]["act"]) == (True, "links.hash", 1)
    assert events[2]["rows"] == [["scan", "1", "1.5", "1.5", "1.5"]]
    assert (events[3]["ok"], events[3]["steps"]) == (True, 1)
