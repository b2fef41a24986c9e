"""Published merchant QR payloads of many schemes: what a strict validator says of each, object by object."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from onecode.code.emv import crc_text, parse_payload
from onecode.code.tlv import DataObject, split_objects
from onecode.errors import Malformed

TEMPLATES = {*range(26, 52), 62, 64, *range(80, 100)}
STRUCTURE = ("code.tlv", "code.crc")


@pytest.fixture(scope="module")
def entries(shared: Path) -> list[dict[str, Any]]:
    found = json.loads((shared / "vectors" / "emv" / "payloads.json").read_text())
    return [entry for entry in found if not entry["payload"].startswith("upi:")]


def expected(violation: str) -> tuple[str, str] | None:
    """Code and object that a line of the reference validator's free text stands for; None if a reader ignores it."""
    patterns = (
        (r"(\d\d) RFU \(ignore\)", None),
        (r"(62\.\d\d) RFU", "code.reserved"),
        (r"mandatory (\d\d) missing", "code.missing"),
        (r"([\d.]+) GUID missing", "code.guid"),
        (r"([\d.]+) length .*", "code.length"),
        (r"(\d\d) not (?:ans|numeric)", "code.format"),
        (r"(\d\d)='.*' (?:RFU|not \"01\")", "code.value"),
        (r"(62\.09) bad", "code.value"),
        (r"(\d\d)(?: percentage| is zero| amount .*)", "code.value"),
        (r"([\d.]+)(?: not a template| template: .*)", "code.template"),
        (r"(\d\d)/55 mismatch", "code.tip"),
        (r"dup ([\d.]+)", "code.duplicate"),
        (r"(00) not first", "code.order"),
        (r"(00)=None .*", "code.missing"),
    )
    for pattern, code in patterns:
        match = re.fullmatch(pattern, violation)
        if match:
            return None if code is None else (code, match[1])
    raise AssertionError(f"no reading for {violation!r}")


def tree(objects: tuple[DataObject, ...]) -> dict[str, Any]:
    """Objects as the vectors write them: templates as tables where they are made of objects."""
    table: dict[str, Any] = {}
    for item in objects:
        table[item.id] = item.value
        if int(item.id) in TEMPLATES:
            with contextlib.suppress(Malformed):
                table[item.id] = {sub.id: nested(item.id, sub) for sub in split_objects(item.value)}
    return table


def nested(within: str, sub: DataObject) -> Any:
    if within == "62" and sub.id >= "50":
        with contextlib.suppress(Malformed):
            return {inner.id: inner.value for inner in split_objects(sub.value)}
    return sub.value


def is_structural(violations: list[str]) -> bool:
    return any(re.match(r"tlv:|crc ", line) for line in violations)


def test_every_entry_is_read_as_expected(entries: list[dict[str, Any]]) -> None:
    assert len(entries) == 100  # of 103: three are UPI links, which are no EMVCo payloads
    for entry in entries:
        expect, violations = entry["expect"], entry["expect"]["violations"]
        if is_structural(violations):
            with pytest.raises(Malformed) as refused:
                parse_payload(entry["payload"], lenient=True)
            assert refused.value.code in STRUCTURE, entry["name"]
            continue
        payload = parse_payload(entry["payload"], lenient=True)
        wanted = {pair for pair in map(expected, violations) if pair}
        found = {(deviation.code, deviation.object) for deviation in payload.deviations}
        # 62.09 too long and 62.09 bad are one deviation here: the first that fails
        wanted -= {("code.value", name) for code, name in wanted if code == "code.length"}
        assert found == wanted, entry["name"]
        assert tree(payload.objects) == expect["fields"], entry["name"]
        assert crc_text(entry["payload"][:-8]) == expect["crc"], entry["name"]


def test_strict_reading_raises_the_first_deviation_of_the_lenient_one(entries: list[dict[str, Any]]) -> None:
    conformant = 0
    for entry in entries:
        if is_structural(entry["expect"]["violations"]):
            continue
        deviations = parse_payload(entry["payload"], lenient=True).deviations
        if not deviations:
            conformant += 1
            assert parse_payload(entry["payload"]).deviations == ()
            continue
        with pytest.raises(Malformed) as refused:
            parse_payload(entry["payload"])
        assert (refused.value.code, refused.value.field) == (deviations[0].code, deviations[0].object)
    assert conformant >= sum(bool(entry["expect"]["strict_valid"]) for entry in entries)


def test_a_wrong_crc_and_broken_structure_are_told_apart(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        violations = entry["expect"]["violations"]
        if not is_structural(violations):
            continue
        with pytest.raises(Malformed) as refused:
            parse_payload(entry["payload"], lenient=True)
        assert refused.value.code == ("code.tlv" if entry["expect"]["crc_ok"] else "code.crc"), entry["name"]


def test_links_of_another_system_are_refused(shared: Path) -> None:
    links = [
        entry["payload"]
        for entry in json.loads((shared / "vectors" / "emv" / "payloads.json").read_text())
        if entry["payload"].startswith("upi:")
    ]
    assert len(links) == 3
    for link in links:
        with pytest.raises(Malformed) as refused:
            parse_payload(link, lenient=True)
        assert refused.value.code == "code.crc"
