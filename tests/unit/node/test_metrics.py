"""Counters in shared files: added up over processes, kept over restarts, and shown in Prometheus' text format."""

from __future__ import annotations

from pathlib import Path

from onecode.node.metrics import (
    REASONS,
    SECONDS,
    STATUSES,
    SUPERVISOR,
    Board,
    Family,
    Meter,
    exposition,
    read_boards,
    worker_families,
)

FAMILIES = (
    Family("taken_total", "counter", "Taken.", ('{kind="a"}', '{kind="b"}')),
    Family("waiting", "gauge", "Waiting."),
)
ROUTES = ("POST /v1/query", "GET /v1/health")


def test_boards_are_added_up_and_counters_outlive_a_process(tmp_path: Path) -> None:
    first, second = Board(FAMILIES, tmp_path / "a"), Board(FAMILIES, tmp_path / "b")
    first.add(first.place("taken_total") + 1, 3)
    first.set(first.place("waiting"), 7)
    second.add(second.place("taken_total") + 1)
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "not there"]
    assert read_boards(FAMILIES, paths) == [0, 4, 7]
    again = Board(FAMILIES, tmp_path / "a")
    assert again.values() == [0, 3, 0]  # what waited, waited there
    assert exposition(FAMILIES, read_boards(FAMILIES, paths)) == (
        "# HELP onecode_taken_total Taken.\n# TYPE onecode_taken_total counter\n"
        'onecode_taken_total{kind="a"} 0\nonecode_taken_total{kind="b"} 4\n'
        "# HELP onecode_waiting Waiting.\n# TYPE onecode_waiting gauge\nonecode_waiting 0\n"
    )


def test_a_file_of_another_layout_begins_again(tmp_path: Path) -> None:
    old = Board(FAMILIES, tmp_path / "a")
    old.add(0, 9)
    assert read_boards(SUPERVISOR, [tmp_path / "a"]) == [0] * 6
    assert Board(FAMILIES[:1], tmp_path / "a").values() == [0, 0]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_meter_counts_route_status_reason_and_time() -> None:
    families = worker_families(ROUTES)
    board = Board(families)
    meter = Meter(board, 0)
    meter.answered(0, 200, "", 0.004)
    meter.answered(0, 200, "", 0.005)
    meter.answered(0, 200, "", 60.0)
    meter.answered(1, 503, "node.stale", 0.1)
    meter.answered(1, 429, "http.rate", 0.1)
    meter.answered(-1, 413, "http.body_too_large", 0)
    text = exposition(families, board.values())
    for line in (
        'onecode_http_answers_total{route="POST /v1/query",status="200"} 3',
        'onecode_http_answers_total{route="GET /v1/health",status="503"} 1',
        'onecode_refused_total{reason="other"} 1',
        'onecode_refused_total{reason="http.rate"} 1',
        'onecode_refused_total{reason="http.body_too_large"} 1',
        'onecode_query_seconds_bucket{le="0.0025"} 0',
        'onecode_query_seconds_bucket{le="0.005"} 2',
        'onecode_query_seconds_bucket{le="5.0"} 2',
        'onecode_query_seconds_bucket{le="+Inf"} 3',
        "onecode_query_seconds_sum 60.009",
        "onecode_query_seconds_count 3",
    ):
        assert f"{line}\n" in text
    assert sum(map(len, (family.series for family in families))) == len(board.values())
    assert len(set(REASONS)) == len(REASONS) and list(SECONDS) == sorted(SECONDS) and list(STATUSES) == sorted(STATUSES)


def test_reasons_are_codes_of_the_error_tree(root: Path) -> None:
    catalogue = (root / "docs" / "errors.md").read_text("utf-8")
    assert [reason for reason in REASONS if f"`{reason}`" not in catalogue] == ["other"]


def test_every_status_of_the_error_tree_has_its_place() -> None:
    from onecode.errors import BRANCHES

    assert {status for branch in BRANCHES for status in branch.statuses} | {200} == set(STATUSES)
