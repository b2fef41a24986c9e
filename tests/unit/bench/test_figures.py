"""What build/bench.json holds: medians, ratios within a round, spread."""

from __future__ import annotations

import json
from pathlib import Path

from bench.figures import Figure, figure, machine, save


def test_a_figure_is_the_median_and_its_ratio_is_taken_within_each_round() -> None:
    made = figure("rate", [10.0, 30.0, 20.0], "1/s", [100.0, 100.0, 400.0])
    assert made == Figure("rate", 20.0, "1/s", limit=100.0, ratio=0.1, spread=(10.0, 30.0), rounds=3)


def test_a_figure_without_a_limit_has_no_ratio() -> None:
    made = figure("p50", [3.0, 1.0], "ms")
    assert (made.value, made.limit, made.ratio, made.spread) == (2.0, None, None, (1.0, 3.0))


def test_the_file_names_machine_and_figures(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    save(path, machine(), [figure("rate", [1.0], "1/s", [2.0]), Figure("size", 7.0, "bytes")])
    stored = json.loads(path.read_text())
    assert stored["schema"] == 1
    assert stored["cores"] >= 1
    assert stored["load_generator_on_the_same_cores"] is True
    keys = {"name", "value", "unit", "limit", "ratio", "spread", "rounds"}
    assert [set(one) for one in stored["figures"]] == [keys, keys]
    assert stored["figures"][0]["ratio"] == 0.5
    assert stored["figures"][1]["limit"] is None
