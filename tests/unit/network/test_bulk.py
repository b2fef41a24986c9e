"""Rows of CSV and JSON lines: what is wrong is named by line and column, and a run goes on where it ended."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from onecode.errors import Declined, Malformed
from onecode.network.bulk import CSV_COLUMNS, Journal, RowOutcome, publish_rows, read_rows

HEADER = ",".join(CSV_COLUMNS)


def line(number: int) -> str:
    return f"c{number},r{number},,Legal {number},Shop {number},5812,DE,Berlin,M{number},S{number},EUR"


class Platform:
    """Stands for a platform's API: refuses what it is told to, and remembers what it was asked."""

    def __init__(self, refused: frozenset[str] = frozenset(), stop_at: int | None = None) -> None:
        self.refused, self.stop_at = refused, stop_at
        self.published: list[str] = []

    def sign(self, agreement: dict[str, Any]) -> dict[str, Any]:
        if agreement["display_name"] in self.refused:
            raise Declined("merchant.refused", "no", field="agreement.mcc")
        name = agreement["display_name"]
        return {"merchant": name, "merchant_text": f"ocs {name}", "till_token": f"token {name}"}

    def publish(self, merchant: str) -> dict[str, Any]:
        if self.stop_at is not None and len(self.published) == self.stop_at:
            raise KeyboardInterrupt
        self.published.append(merchant)
        return {"state": "live"}


def run(path: Path, platform: Platform) -> list[RowOutcome]:
    told: list[RowOutcome] = []
    publish_rows(read_rows(path), platform, Journal(path), lambda: 1, told.append, at_once=1)
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "shops.csv"
    file.write_text("\n".join([HEADER, *map(line, range(10))]))
    return file


def test_a_csv_line_makes_the_records_data(path: Path) -> None:
    first = read_rows(path)[0]
    assert first.number == 2
    assert first.data == {
        "controller": "c0",
        "recovery_hash": "r0",
        "legal_name": "Legal 0",
        "display_name": "Shop 0",
        "mcc": "5812",
        "country": "DE",
        "city": "Berlin",
        "terms": {
            "accounts": [
                {"merchant_number": "M0", "settlement_reference": "S0", "currency": "EUR", "store_labels": []}
            ],
            "tip_mode": "none",
        },
    }


def test_optional_columns_become_fields_of_their_kind(tmp_path: Path) -> None:
    file = tmp_path / "more.csv"
    more = "tip_mode,valid_until_ms,audience,store_labels,amount_max_minor"
    file.write_text(f"{HEADER},{more}\n{line(0)},prompt,1900000000000,bb|aa,north|south,500")
    data = read_rows(file)[0].data
    (account,) = data["terms"]["accounts"]
    assert (data["terms"]["tip_mode"], data["valid_until_ms"]) == ("prompt", 1_900_000_000_000)
    assert (data["audience"], "tip_mode" in data) == (["aa", "bb"], False)
    assert (account["store_labels"], account["amount_max_minor"]) == (["north", "south"], 500)


def test_csv_and_json_lines_say_the_same(path: Path) -> None:
    rows = read_rows(path)
    other = path.with_suffix(".jsonl")
    other.write_text("\n\n".join(json.dumps(row.data) for row in rows))
    assert [row.digest for row in read_rows(other)] == [row.digest for row in rows]
    assert [row.number for row in read_rows(other)] == list(range(1, 20, 2))


@pytest.mark.parametrize(
    ("name", "text", "code", "field"),
    [
        ("a.csv", HEADER.replace(",mcc", ""), "bulk.columns", "mcc"),
        ("a.csv", HEADER + "\n" + line(0) + ",more", "bulk.line", "line 2"),
        ("a.csv", HEADER + "\nonly", "bulk.line", "line 2"),
        ("a.csv", HEADER + '\n"open', "bulk.csv", "file"),
        ("a.csv", HEADER + ",amount_max_minor\n" + line(0) + ",ten", "bulk.number", "amount_max_minor"),
        ("a.jsonl", "{}\n[1]", "bulk.line", "line 2"),
        ("a.jsonl", "{}\n{", "bulk.line", "line 2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, code: str, field: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Malformed) as caught:
        read_rows(tmp_path / name)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.csv", "latin.csv"):
        with pytest.raises(Malformed) as caught:
            read_rows(tmp_path / name)
        assert caught.value.code == "bulk.unreadable"


def test_rows_that_fail_are_told_and_tried_again_and_none_is_published_twice(path: Path) -> None:
    bad = frozenset({"Shop 3", "Shop 7"})
    told = run(path, Platform(bad))
    assert [(one.row.number, one.error and one.error.code) for one in told if one.error] == [
        (5, "merchant.refused"),
        (9, "merchant.refused"),
    ]
    again = Platform()
    run(path, again)
    assert again.published == ["Shop 3", "Shop 7"]
    assert run(path, Platform()) == []


def test_a_stopped_run_goes_on_where_it_ended(path: Path) -> None:
    first = Platform(stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        run(path, first)
    journal = path.with_name("shops.csv.journal")
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert json.loads(journal.read_text().splitlines()[0])["till_token"] == "token Shop 0"
    journal.write_text(journal.read_text() + '{"digest": "half a li')  # as a power cut leaves it
    second = Platform()
    run(path, second)
    assert sorted(first.published + second.published) == [f"Shop {number}" for number in range(10)]
    assert run(path, Platform()) == []


def test_a_mended_row_is_a_new_one(path: Path) -> None:
    run(path, Platform())
    path.write_text(path.read_text().replace("Legal 2", "Legal Two"))
    mended = Platform()
    run(path, mended)
    assert mended.published == ["Shop 2"]
