"""`onecode code`: inspecting, adding our identity, posters, pictures that are not one code, raw frames."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from onecode.cli.main import cli
from onecode.code.emv import with_crc
from onecode.code.image import png_bytes
from onecode.code.label import StaticLabel, build_static
from onecode.code.tlv import split_objects

GOOD_ID = "ocs1u7emwhr9k5pg34av9xp5m4j5ut6m4383ntvut9"
STATIC = build_static(StaticLabel(b"m" * 20, "ocs", "5812", "156", "CN", "Noodles", "Shanghai"))
# An old label as it might hang: without a city, with a scheme of its own. Longer than a file's name may be.
OLD = with_crc(
    "00020101021126180006x.bank0104SHOP52045812530315658"
    "02CN5907Noodles" + "".join(f"{number}99" + f"{number}" * 49 + "x" for number in (65, 66))
)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def plain(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def refused(result: Result, exit_code: int, code: str) -> None:
    assert result.exit_code == exit_code
    assert f"[{code}]" in result.stderr or json.loads(result.stderr)["code"] == code
    assert "Traceback" not in result.stderr


def sheet(*payloads: str) -> bytes:
    parts = [Image.open(io.BytesIO(png_bytes(payload))).convert("L") for payload in payloads]
    picture = Image.new("L", (sum(part.width for part in parts) or 300, 800), 255)
    at = 0
    for part in parts:
        picture.paste(part, (at, 0))
        at += part.width
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def test_inspect_reports_both_readings_accounts_and_rules() -> None:
    assert len(OLD) > 255
    shown = plain(run("code", "inspect", OLD, "--json"))
    assert shown["kind"] == "foreign"
    assert (shown["strict"]["accepted"], shown["strict"]["code"], shown["strict"]["object"]) == (
        False,
        "code.missing",
        "60",
    )
    assert shown["lenient"] == shown["wallet"] == {"accepted": True}
    assert [(one["code"], one["object"]) for one in shown["deviations"]] == [("code.missing", "60")]
    assert shown["accounts"] == [{"id": "26", "guid": "x.bank", "scheme": None}]
    spoken = run("code", "inspect", OLD)
    assert "strict" in spoken.stdout and "refused [code.missing]" in spoken.stdout and "x.bank" in spoken.stdout


def test_inspect_strictly_fails_for_a_deviation_but_reports_it() -> None:
    result = run("code", "inspect", OLD, "--strict", "--json")
    refused(result, 2, "code.missing")
    assert json.loads(result.stdout)["deviations"]
    assert plain(run("code", "inspect", STATIC, "--strict", "--json"))["strict"] == {"accepted": True}


def test_inspect_reads_a_file_of_many(tmp_path: Path) -> None:
    many = tmp_path / "labels.txt"
    many.write_text(f"{STATIC}\n\n{OLD}\r\n{STATIC[:-1]}Z\n", "utf-8")
    result = run("code", "inspect", many, "--json")
    refused(result, 2, "cli.refused")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["line"], row["lenient"]["accepted"], row["strict"]["accepted"]) for row in rows] == [
        (1, True, True),
        (3, True, False),
        (4, False, False),
    ]
    spoken = run("code", "inspect", many)
    assert "3 payloads: 1 refused, 1 deviate" in spoken.stdout
    many.write_text(f"{STATIC}\n{OLD}\n", "utf-8")
    assert run("code", "inspect", many).exit_code == 0
    refused(run("code", "inspect", many, "--strict"), 2, "cli.refused")
    many.write_text("\n", "utf-8")
    refused(run("code", "inspect", many), 2, "cli.payloads")


def test_inspect_takes_every_published_payload(shared: Path, tmp_path: Path) -> None:
    entries = json.loads((shared / "vectors" / "emv" / "payloads.json").read_text("utf-8"))
    many = tmp_path / "all.txt"
    many.write_text("\n".join(entry["payload"] for entry in entries), "utf-8")
    result = run("code", "inspect", many, "--json")
    refused(result, 2, "cli.refused")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["payload"] for row in rows] == [entry["payload"] for entry in entries]
    for entry, row in zip(entries, rows, strict=True):
        if entry["expect"].get("strict_valid"):
            assert row["strict"]["accepted"], entry["name"]
        assert row["strict"]["accepted"] <= row["lenient"]["accepted"], entry["name"]
        assert row["lenient"]["accepted"] or not row["deviations"]


@pytest.mark.parametrize("words", [("scan",), ("inspect",), ("add", "--merchant", GOOD_ID)])
def test_each_kind_of_bad_picture_has_its_own_answer(tmp_path: Path, words: tuple[str, ...]) -> None:
    pictures = {
        "code.image_several": sheet(STATIC, OLD),
        "code.image_none": sheet(),
        "code.image_unreadable": png_bytes(STATIC)[:200],
    }
    for code, picture in pictures.items():
        (tmp_path / "picture").write_bytes(picture)
        refused(run("code", *words, tmp_path / "picture"), 2, code)
    refused(run("code", *words, tmp_path / "not-there.png"), 6, "cli.file")


def test_a_label_of_another_scheme_is_shown_as_one(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(png_bytes(OLD))
    shown = plain(run("code", "scan", tmp_path / "old.png", "--json"))
    assert (shown["kind"], shown["name"]) == ("foreign", "Noodles")
    assert shown["schemes"] == [{"template": "26", "guid": "x.bank", "subs": {"01": "SHOP"}}]
    assert "x.bank" in run("code", "scan", tmp_path / "old.png").stdout


def test_a_raw_frame_is_scanned(tmp_path: Path) -> None:
    picture = Image.open(io.BytesIO(png_bytes(STATIC))).convert("L")
    frame = tmp_path / "frame.grey"
    frame.write_bytes(picture.tobytes())
    size = f"{picture.width}x{picture.height}"
    assert plain(run("code", "scan", frame, "--frame", size, "--json"))["payload"] == STATIC
    refused(run("code", "scan", frame, "--frame", "10x10"), 2, "code.image_unreadable")
    refused(run("code", "scan", frame, "--frame", "wide"), 2, "cli.frame")
    frame.write_bytes(b"\xff" * 10_000)
    refused(run("code", "scan", frame, "--frame", "100x100"), 2, "code.image_none")


def test_our_identity_is_added_to_an_old_label(tmp_path: Path) -> None:
    label, out = tmp_path / "old.png", tmp_path / "new.png"
    label.write_bytes(png_bytes(OLD))
    made = plain(run("code", "add", label, "--merchant", GOOD_ID, "--out", out, "--json"))
    assert made["added_template"] == "27"
    read = plain(run("code", "scan", out, "--json"))
    assert (read["merchant"], read["payload"]) == (GOOD_ID, made["payload"])
    kept = [item for item in split_objects(made["payload"]) if item.id not in ("27", "63")]
    assert kept == [item for item in split_objects(OLD) if item.id != "63"]
    refused(run("code", "add", out, "--merchant", GOOD_ID), 2, "code.identity")
    refused(run("code", "add", with_crc(OLD[:-8] + "54011"), "--merchant", GOOD_ID), 3, "code.amount_unsigned")
    assert "27" in run("code", "add", OLD, "--merchant", GOOD_ID).stdout


def test_a_poster_is_written(tmp_path: Path) -> None:
    out = tmp_path / "poster.pdf"
    shown = plain(run("code", "poster", STATIC, "--name", "兰州拉面馆", "--language", "zh", "--out", out, "--json"))
    assert (shown["payload"], out.read_bytes()[:5]) == (STATIC, b"%PDF-")
    refused(run("code", "poster", STATIC, "--out", tmp_path / "poster.png"), 2, "cli.poster_kind")
    refused(run("code", "poster", STATIC, "--language", "xx", "--out", out), 2, "code.poster_language")
    refused(run("code", "poster", OLD, "--out", out), 2, "code.poster_code")
    label = ("--name", "Noodles", "--city", "Shanghai", "--mcc", "5812", "--currency", "CNY", "--country", "CN")
    plain(run("code", "make", "--merchant", GOOD_ID, *label, "--out", tmp_path / "made.pdf", "--json"))
    assert (tmp_path / "made.pdf").read_bytes()[:5] == b"%PDF-"
