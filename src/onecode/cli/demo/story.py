"""How the demo is told: acts, steps with their times, tables. A step that does not hold ends it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from onecode.errors import OnecodeError

EXIT_BROKEN = 1


class StoryBroken(click.ClickException):
    """A step did not hold; the demo's exit code is then 1."""

    exit_code = EXIT_BROKEN


@dataclass(slots=True)
class Step:
    """A running step. `note` is shown beside it; `facts` go into the JSON event."""

    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Story:
    """Prints for a person, or with `as_json` one event a line."""

    def __init__(self, as_json: bool, screen: Console | None = None) -> None:
        self.as_json = as_json
        self._screen = screen or Console(highlight=False)
        self._act = 0
        self._started = time.perf_counter()
        self._times: dict[str, list[float]] = {}
        self.steps = 0

    # --- telling

    def act(self, title: str) -> None:
        """Begin the next act."""
        self._act += 1
        self.heading(f"{self._act}. {title}")

    def heading(self, title: str) -> None:
        """A heading inside the act."""
        self._emit("heading", {"title": title})
        if not self.as_json:
            self._screen.print()
            self._screen.rule(f"[bold]{escape(title)}", align="left", style="dim")

    def say(self, text: str, **facts: Any) -> None:
        """A line of the story."""
        self._emit("say", {"text": text, **facts})
        if not self.as_json:
            self._print(escape(text))

    def show(self, text: str) -> None:
        """Text as it stands, for a person only."""
        if not self.as_json:
            self._screen.print(text, markup=False, highlight=False, no_wrap=True, end="")

    def table(self, name: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table; all columns but the first are aligned right."""
        self._emit("table", {"name": name, "columns": columns, "rows": rows})
        if self.as_json:
            return
        table = Table(title=name, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        self._screen.print()
        self._screen.print(table)

    # --- steps

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """One step: printed with its time when it holds; told as failed, and the story ended, when it does not."""
        step, began = Step(), time.perf_counter()
        try:
            yield step
        except Exception as error:
            self._step(text, step, began, str(error) or type(error).__name__)
            raise
        self._step(text, step, began, None)

    def require(self, holds: bool, what: str) -> None:
        """End the story unless `holds`."""
        if not holds:
            raise StoryBroken(what)

    def refusal(self, call: Callable[[], object], kind: type[OnecodeError], *codes: str) -> OnecodeError:
        """The refusal that `call` must end in: of this branch, with one of these codes."""
        try:
            call()
        except kind as error:
            if error.code not in codes:
                raise StoryBroken(f"refused with {error.code}, where {' or '.join(codes)} was to be") from error
            return error
        raise StoryBroken(f"not refused, where {' or '.join(codes)} was to be")

    def _step(self, text: str, step: Step, began: float, failure: str | None) -> None:
        self.steps += 1
        took_ms = (time.perf_counter() - began) * 1000
        event = {"text": text, "ok": failure is None, "ms": round(took_ms, 1), "note": step.note, **step.facts}
        if failure is not None:
            event["failure"] = failure
        self._emit("step", event)
        if self.as_json:
            return
        mark = "[green]✓[/]" if failure is None else "[red]✗[/]"
        self._print(f" {mark} {escape(text)}  [dim]{took_ms:,.0f} ms[/]")
        for line in filter(None, [*step.note.splitlines(), failure]):
            self._print(f"     [{'cyan' if failure is None else 'red'}]{escape(line)}[/]")

    def _print(self, markup: str) -> None:
        self._screen.print(markup, soft_wrap=True)

    # --- times

    def measure(self, name: str, took_ms: float) -> None:
        """Keep a time for the table at the end."""
        self._times.setdefault(name, []).append(took_ms)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure a block for the table at the end."""
        began = time.perf_counter()
        yield
        self.measure(name, (time.perf_counter() - began) * 1000)

    def end(self, remark: str = "") -> None:
        """The table of times with a remark, and the last event."""
        rows = [
            [name, str(len(took)), f"{min(took):,.1f}", f"{sorted(took)[len(took) // 2]:,.1f}", f"{max(took):,.1f}"]
            for name, took in self._times.items()
        ]
        self.table("Times, ms", ["what", "times", "best", "median", "worst"], rows)
        if remark:
            self.say(remark)
        took_s = time.perf_counter() - self._started
        times_ms = {name: [round(one, 1) for one in took] for name, took in self._times.items()}
        self._emit("end", {"ok": True, "steps": self.steps, "seconds": round(took_s, 1), "times_ms": times_ms})
        if not self.as_json:
            self._screen.print(f"\n[bold green]Every one of {self.steps} steps held[/], in {took_s:.1f} s.")

    def _emit(self, event: str, facts: dict[str, Any]) -> None:
        if self.as_json:
            click.echo(json.dumps({"event": event, "act": self._act, **facts}, ensure_ascii=False))
