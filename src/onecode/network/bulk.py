"""Many merchants at once: rows of a CSV or JSON-lines file, each signed up and published, resumable after any stop.

A published row is written to a journal beside the file, so a run that was ended goes on where it was; a row that failed
is tried again by the next run. Rows are known by their content, not by their place.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from onecode.errors import Malformed, OnecodeError
from onecode.network.agreement import build_agreement

AT_ONCE = 8
FILE_BYTES_MAX = 256 << 20
_ACCOUNT = ("merchant_number", "settlement_reference", "currency")
_LIMITS = ("amount_min_minor", "amount_max_minor")
_TIMES = ("kyb_checked_ms", "valid_from_ms", "valid_until_ms")
CSV_COLUMNS = (
    "controller",
    "recovery_hash",
    "consent",
    "legal_name",
    "display_name",
    "mcc",
    "country",
    "city",
    *_ACCOUNT,
)


class Publisher(Protocol):
    """What a platform's client offers."""

    def sign(self, agreement: dict[str, Any]) -> dict[str, Any]: ...
    def publish(self, merchant: str) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its number in the file (from 1), the hash of what it says, and the record's data."""

    number: int
    digest: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """error: None if the record is published, else what was wrong. till_token: only where the merchant is new."""

    row: Row
    merchant: str | None
    state: str | None
    till_token: str | None
    error: OnecodeError | None


def read_rows(path: Path) -> list[Row]:
    """The rows of a `.csv` file (with a header line) or of JSON lines; `Malformed` names line and column."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise Malformed("bulk.too_large", f"{path} has more than {FILE_BYTES_MAX} bytes; split it", status=413)
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed("bulk.unreadable", f"cannot read {path} as UTF-8 text: {error}", field="file") from None
    found = _csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text)
    return [
        Row(number, hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(), data)
        for number, data in found
    ]


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):  # a string may hold other line ends
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise Malformed("bulk.line", f"line {number} is no JSON object", field=f"line {number}")
        yield number, data


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        missing = [name for name in CSV_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise Malformed("bulk.columns", f"the header line lacks the column {missing[0]!r}", field=missing[0])
        for values in reader:
            number = reader.line_num
            if None in values or None in values.values():
                raise Malformed("bulk.line", f"line {number} has not the header's columns", field=f"line {number}")
            yield number, _record_of(values, number)
    except csv.Error as error:
        raise Malformed("bulk.csv", f"line {reader.line_num} is no CSV: {error}", field="file") from None


def _record_of(values: dict[str, str], number: int) -> dict[str, Any]:
    """The record's data in a CSV line: one acquiring account; other columns are fields of the record.

    `store_labels` and `audience` hold several with | between.
    """
    given = {name: value for name, value in values.items() if value != ""}
    account: dict[str, Any] = {name: given.pop(name) for name in _ACCOUNT if name in given}
    for name in _LIMITS:
        if name in given:
            account[name] = _whole_number(given.pop(name), name, number)
    stores, tip_mode = given.pop("store_labels", ""), given.pop("tip_mode", "none")
    account["store_labels"] = stores.split("|") if stores else []
    record: dict[str, Any] = {**given, "terms": {"accounts": [account], "tip_mode": tip_mode}}
    for name in _TIMES:
        if name in given:
            record[name] = _whole_number(given[name], name, number)
    if "audience" in given:
        record["audience"] = sorted(given["audience"].split("|"))
    return record


def _whole_number(text: str, name: str, number: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Malformed("bulk.number", f"line {number}: {name} is a whole number", field=name)
    return int(text)


class Journal:
    """Which rows are published already: `<file>.journal`, one JSON object a line, only ever appended to.

    It holds the till tokens of new merchants, so only its owner may read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".journal")
        self._done = set[str]()
        if self.path.exists():
            for line in self.path.read_text("utf-8").splitlines():
                try:
                    self._done.add(str(json.loads(line)["digest"]))
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when the run was ended

    def __contains__(self, row: Row) -> bool:
        return row.digest in self._done

    def add(self, outcome: RowOutcome) -> None:
        """Remember a published row; on disk before this returns."""
        line = {"digest": outcome.row.digest, "merchant": outcome.merchant, "state": outcome.state}
        if outcome.till_token is not None:
            line["till_token"] = outcome.till_token
        torn = self._torn()
        with open(self.path, "a", encoding="utf-8", opener=_open_private) as file:
            file.write("\n" * torn + json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._done.add(outcome.row.digest)

    def _torn(self) -> bool:
        data = self.path.read_bytes()[-1:] if self.path.exists() else b""
        return data not in (b"", b"\n")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def publish_rows(
    rows: list[Row],
    client: Publisher,
    journal: Journal,
    now_ms: Callable[[], int],
    told: Callable[[RowOutcome], None],
    at_once: int = AT_ONCE,
) -> None:
    """Sign up and publish every row that the journal lacks; `told` gets each outcome, on this thread."""

    def one(row: Row) -> RowOutcome:
        try:
            signed = client.sign(build_agreement(row.data, {}, now_ms()))
            standing = client.publish(str(signed["merchant"]))
            return RowOutcome(row, str(signed["merchant_text"]), str(standing["state"]), signed.get("till_token"), None)
        except OnecodeError as error:
            return RowOutcome(row, None, None, None, error)

    def tell(outcome: RowOutcome) -> None:
        if outcome.error is None:
            journal.add(outcome)
        told(outcome)

    with ThreadPoolExecutor(at_once) as pool:
        waiting = deque(pool.submit(one, row) for row in rows if row not in journal)
        try:
            while waiting:
                tell(waiting[0].result())
                waiting.popleft()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            for future in waiting:  # rows that were in hand are published: they must not come again
                if future.done() and not future.cancelled() and future.exception() is None:
                    outcome = future.result()
                    if outcome.row not in journal:
                        tell(outcome)
            raise
