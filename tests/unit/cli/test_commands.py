"""Commands on wrong and right input: exit codes, messages, no traceback, JSON for programs."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from onecode.cli.demo.bribed import CHECKS
from onecode.cli.main import cli
from onecode.code.identity import platform_id, platform_text
from onecode.registry.transactions import Consent, SignedConsent
from onecode.schema import parse
from onecode.wire import Domain, verify_signature

pytestmark = pytest.mark.clock

LABEL = [
    "--name",
    "Lanzhou Noodle House",
    "--city",
    "Shanghai",
    "--mcc",
    "5812",
    "--currency",
    "CNY",
    "--country",
    "CN",
]
PLATFORM = platform_text(platform_id(b"r" * 32), "ocs")
GOOD_ID = "ocs1u7emwhr9k5pg34av9xp5m4j5ut6m4383ntvut9"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def plain(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    plain(run("merchant", "keys", tmp_path / "shop", "--json"))
    return tmp_path / "shop"


WRONG = [
    (["code", "make", *LABEL], 2, "cli.merchant"),
    (["code", "make", "--merchant", "xy1qqqq", *LABEL], 2, "cli.merchant_prefix"),
    (["code", "make", "--merchant", GOOD_ID[:-1] + "q", *LABEL], 2, "code.id_text"),
    (["code", "make", "--merchant", GOOD_ID, *LABEL[:-4], "--currency", "XYZ", "--country", "CN"], 2, "code.currency"),
    (["code", "make", "--merchant", GOOD_ID, *LABEL, "--out", "code.gif"], 2, "cli.picture_kind"),
    (["code", "make", "--merchant", GOOD_ID, *LABEL, "--out", "no/such/place.png"], 6, "cli.file_write"),
    (["code", "scan", "no-such.png"], 6, "cli.file"),
    (["code", "scan", __file__], 2, "code.image_unreadable"),
    (["code", "inspect", "000201630400"], 2, "code.crc"),
    (["merchant", "show", "no-such"], 6, "file.unreadable"),
    (["merchant", "consent", "no-such", "--platform", PLATFORM], 6, "file.unreadable"),
    (["platform", "books"], 6, "cli.platform"),
    (["platform", "publish", "zz", "--url", "http://127.0.0.1:1", "--token", "t"], 2, "code.id_text"),
    (["platform", "books", "--url", "http://127.0.0.1:1", "--token", "t"], 5, "http.unreachable"),
    (["wallet", "enroll", "w", "--profile", "no-such.json"], 6, "wallet.profile_unreadable"),
    (["wallet", "enroll", "w", "--profile", __file__], 6, "wallet.profile"),
    (["wallet", "pay", "no-such", "x.png", "--amount", "1"], 6, "wallet.directory"),
    (["wallet", "history", "no-such"], 6, "wallet.directory"),
    (["node", "status", "http://127.0.0.1:1"], 5, "http.unreachable"),
    (["node", "status", "not an address"], 5, "http.unreachable"),
]


@pytest.mark.parametrize(("words", "exit_code", "code"), WRONG, ids=[" ".join(w[:2]) + "-" + c for w, _, c in WRONG])
def test_wrong_input_ends_with_its_branch(words: list[str], exit_code: int, code: str) -> None:
    spoken, machine = run(*words), run(*words, "--json")
    assert (spoken.exit_code, machine.exit_code) == (exit_code, exit_code), spoken.stderr
    assert f"[{code}]" in spoken.stderr
    assert json.loads(machine.stderr)["code"] == code
    assert spoken.stdout == machine.stdout == ""
    assert "Traceback" not in spoken.stderr + machine.stderr


@pytest.mark.parametrize("words", [["code", "mak"], ["code", "scan"], ["nothing"], ["node", "run", "no-such.json"]])
def test_wrong_usage_is_exit_2(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_an_unexpected_error_is_exit_70_without_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_picture: bytes) -> str:
        raise RuntimeError("broken inside")

    monkeypatch.setattr("onecode.cli.code.read_one", fail)
    monkeypatch.delenv("ONECODE_DEBUG", raising=False)
    picture = tmp_path / "x.png"
    picture.write_bytes(b"x")
    result = run("code", "scan", picture)
    assert result.exit_code == 70
    assert "broken inside" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("ONECODE_DEBUG", "1")
    assert "Traceback" in run("code", "scan", picture).stderr


def test_the_demo_begins_with_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    result = run("demo", "--data", tmp_path)
    assert (result.exit_code, "[demo.directory]" in result.stderr) == (6, True)


def test_the_demo_names_checks_as_the_specification_does(root: Path) -> None:
    rows = (root / "docs" / "spec" / "verification.md").read_text("utf-8").splitlines()
    for code in CHECKS:
        assert any(f"`{code}`" in row for row in rows), code


def test_a_group_alone_shows_its_help() -> None:
    for group in ("code", "merchant", "platform", "wallet", "node"):
        assert "Usage:" in run(group, "--help").stdout


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_made_code_is_read_back(keys: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"code.{suffix}"
    made = plain(run("code", "make", "--keys", keys, *LABEL, "--out", out, "--json"))
    if suffix == "svg":
        assert out.read_text("utf-8").lstrip().startswith("<")
        return
    read = plain(run("code", "scan", out, "--json"))
    assert read["payload"] == made["payload"]
    assert (read["kind"], read["name"], read["currency"]) == ("static", "Lanzhou Noodle House", "156")
    assert read["merchant"] == plain(run("merchant", "show", keys, "--json"))["merchant"]
    assert plain(run("code", "inspect", out, "--json"))["deviations"] == []


def test_json_may_stand_anywhere(keys: Path) -> None:
    assert plain(run("merchant", "show", "--json", keys)) == plain(run("merchant", "show", keys, "--json"))


def test_inspect_names_what_deviates() -> None:
    payload = plain(run("code", "make", "--merchant", GOOD_ID, *LABEL, "--json"))["payload"]
    from onecode.code.emv import with_crc

    shown = plain(run("code", "inspect", with_crc(payload[:-8].replace("5802CN", "5803CNX")), "--json"))
    assert [deviation["object"] for deviation in shown["deviations"]] == ["58"]


def test_keys_are_private_and_never_overwritten(keys: Path) -> None:
    for path in keys.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    before = (keys / "controller.key").read_bytes()
    again = run("merchant", "keys", keys)
    assert again.exit_code == 6
    assert "[file.exists]" in again.stderr
    assert (keys / "controller.key").read_bytes() == before


def test_keys_that_others_can_read_are_refused(keys: Path) -> None:
    (keys / "controller.key").chmod(0o644)
    result = run("merchant", "show", keys)
    assert result.exit_code == 6
    assert "[file.mode]" in result.stderr


def test_a_consent_is_for_one_platform_and_signed_by_the_controller(keys: Path) -> None:
    handed = plain(run("merchant", "consent", keys, "--platform", PLATFORM, "--json"))
    signed = parse(SignedConsent, bytes.fromhex(handed["consent"]))
    consent = parse(Consent, signed.body)
    assert (consent.platform, consent.service, consent.consent_serial) == (platform_id(b"r" * 32), "pay", 0)
    verify_signature(
        bytes.fromhex(handed["controller"]), signed.signature, Domain.CONSENT, "solo-onecode", signed.body, field="x"
    )
    assert run("merchant", "consent", keys, "--platform", PLATFORM).stdout.strip() != ""


def test_a_platform_of_another_network_gets_no_consent(keys: Path) -> None:
    other = platform_text(platform_id(b"r" * 32), "oc")
    assert "[code.id_prefix]" in run("merchant", "consent", keys, "--platform", other).stderr
