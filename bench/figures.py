"""Figures of a run: one entry a figure in build/bench.json, and tables on the screen."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. limit: the same run's figure that it is compared with, ratio: value over limit; both None where
    there is none. spread: least and greatest of the rounds."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    rounds: int = 1


def figure(
    name: str, rounds: Sequence[float], unit: str, limit: Sequence[float] | None = None, digits: int = 1
) -> Figure:
    """The median of the rounds; the ratio is the median of the rounds' own ratios."""
    value = round(statistics.median(rounds), digits)
    spread = (round(min(rounds), digits), round(max(rounds), digits))
    if not limit:
        return Figure(name, value, unit, spread=spread, rounds=len(rounds))
    ratios = [one / other for one, other in zip(rounds, limit, strict=True)]
    return Figure(
        name=name,
        value=value,
        unit=unit,
        limit=round(statistics.median(limit), digits),
        ratio=round(statistics.median(ratios), 4),
        spread=spread,
        rounds=len(rounds),
    )


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "load_generator_on_the_same_cores": True,
    }


def save(path: Path, about: dict[str, Any], figures: Sequence[Figure]) -> None:
    path.parent.mkdir(exist_ok=True)
    stored = {
        "schema": SCHEMA,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **about,
        "figures": [asdict(one) for one in figures],
    }
    path.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """A table; the first column is text, the others numbers."""
    table = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=place > 0)
    for row in rows:
        table.add_row(*row)
    width = None if os.isatty(1) else 132
    Console(width=width).print(table)
