"""`onecode network`: the founding by commands, from keys to an installed genesis, and each thing that is refused."""

from __future__ import annotations

import dataclasses
import json
import stat
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from onecode.cli.main import cli
from onecode.registry.genesis import parse_genesis
from onecode.wire import sha256

pytestmark = pytest.mark.clock

NAMES = ("Alder", "Birch")
FOUNDED = datetime.now(UTC).replace(microsecond=0)  # keys that the commands make end relative to now
LATER = FOUNDED + timedelta(days=1)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["network", *(str(word) for word in words)])


def plain(*words: object) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def refused(*words: object) -> tuple[int, str]:
    result = run(*words, "--json")
    problem = json.loads(result.stderr)
    return result.exit_code, problem["code"]


def moment(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def addresses(number: int) -> list[str]:
    port = 20_000 + 10 * number
    words = ["--api", f"http://127.0.0.1:{port}", "--p2p", f"127.0.0.1:{port + 1}", "--engine", sys.executable]
    return [*words, "--platform", f"http://127.0.0.1:{port + 2}", "--key-service", f"http://127.0.0.1:{port + 3}"]


def join(directory: Path, number: int, *more: object) -> Path:
    file = directory.with_suffix(".join")
    plain("join-request", "--data", directory, "--out", file, *addresses(number), *more)
    return file


def keys(directory: Path, chain_id: str = "onecode-commands") -> Path:
    plain("keys", "--data", directory, "--chain-id", chain_id, "--name", f"{directory.name} Pay")
    return directory


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """The directories of two organisations that have made their requests."""
    directories = [keys(tmp_path / name) for name in NAMES]
    for number, directory in enumerate(directories):
        join(directory, number)
    return directories


def collected(directories: Sequence[Path], *more: object) -> tuple[Path, str]:
    """The ceremony's file and its genesis hash."""
    file = directories[0].parent / "network.ceremony"
    requests = [directory.with_suffix(".join") for directory in directories]
    said = plain("collect", *requests, "--out", file, "--time", moment(FOUNDED), *more)
    return file, str(said["genesis_hash"])


def signed(directories: Sequence[Path], ceremony: Path, said: str) -> list[Path]:
    files = []
    for directory in directories:
        files.append(directory.with_suffix(".sig"))
        plain("sign-genesis", ceremony, "--data", directory, "--hash", said, "--out", files[-1])
    return files


def test_two_organisations_found_a_network(two: list[Path], tmp_path: Path) -> None:
    ceremony, said = collected(two)
    backwards, same = collected(two[::-1])
    assert (backwards.read_bytes(), same) == (ceremony.read_bytes(), said)
    for number in range(2):
        computed = plain("genesis", ceremony, "--out", tmp_path / f"{number}.json")
        assert computed["genesis_hash"] == said
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()
    signatures = signed(two, ceremony, " ".join(said[at : at + 4] for at in range(0, 64, 4)))
    for directory in two:
        plain("install", ceremony, *signatures, "--data", directory)
        genesis = parse_genesis((directory / "genesis.json").read_bytes())
        assert sha256(genesis.encoded()).hex() == said
    assert plain("check", ceremony)["genesis_hash"] == said
    assert plain("check", two[0].with_suffix(".join"))["name"] == "Alder Pay"
    assert plain("check", signatures[0])["genesis_hash"] == said
    assert plain("check", signatures[0])["platform"] == plain("check", two[0].with_suffix(".join"))["platform"]


def test_no_private_key_is_in_what_is_sent(two: list[Path]) -> None:
    ceremony, said = collected(two)
    from onecode.network.armour import parse_armoured
    from onecode.network.ceremony import Ceremony, GenesisSignature, JoinRequest

    sent = [parse_armoured(directory.with_suffix(".join").read_bytes(), JoinRequest).encoded() for directory in two]
    sent.append(parse_armoured(ceremony.read_bytes(), Ceremony).encoded())
    sent += [parse_armoured(one.read_bytes(), GenesisSignature).encoded() for one in signed(two, ceremony, said)]
    seeds = [path for directory in two for path in (directory / "keys").glob("*.key")]
    assert len(seeds) == 2 * 11
    for path in seeds:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        seed = bytes.fromhex(path.read_text("ascii"))
        assert not any(seed in raw or seed.hex().encode() in raw for raw in sent), path.name


def test_keys_are_never_made_anew(two: list[Path]) -> None:
    before = (two[0] / "keys" / "root.key").read_bytes()
    words = ("keys", "--data", two[0], "--chain-id", "onecode-commands", "--name", "Alder Pay")
    assert refused(*words) == (6, "organisation.exists")
    assert (two[0] / "keys" / "root.key").read_bytes() == before


def test_the_root_key_may_lie_elsewhere(tmp_path: Path) -> None:
    directory, safe = keys(tmp_path / "Alder"), tmp_path / "safe.key"
    (directory / "keys" / "root.key").rename(safe)
    words = ("join-request", "--data", directory, "--out", tmp_path / "a", *addresses(0))
    assert refused(*words) == (6, "file.unreadable")
    plain(*words, "--root-key", safe)
    assert refused(*words, "--root-key", directory / "keys" / "anchor.key") == (6, "organisation.root")


def test_a_changed_file_is_named(two: list[Path]) -> None:
    file = two[1].with_suffix(".join")
    lines = file.read_text("ascii").splitlines()
    lines[2] = lines[2][:10] + ("A" if lines[2][10] != "A" else "B") + lines[2][11:]
    file.write_text("\n".join(lines), "ascii")
    out = file.with_name("out")
    result = run("collect", two[0].with_suffix(".join"), file, "--out", out)
    assert result.exit_code in (2, 3)
    assert "Birch.join: " in result.stderr
    assert not out.exists()


def test_the_hash_that_was_said_must_be_the_one_computed(two: list[Path], tmp_path: Path) -> None:
    ceremony, said = collected(two)
    words = ("sign-genesis", ceremony, "--data", two[0], "--out", tmp_path / "sig")
    assert refused(*words, "--hash", "0" * 64) == (4, "ceremony.hash")
    stranger = keys(tmp_path / "Cedar")
    join(stranger, 7)
    others = ("sign-genesis", ceremony, "--data", stranger, "--out", tmp_path / "sig", "--hash", said)
    assert refused(*others) == (4, "ceremony.not_in_it")


def test_an_old_request_in_the_ceremony_is_not_signed(two: list[Path], tmp_path: Path) -> None:
    ceremony, said = collected(two)
    join(two[0], 5)  # it moved since
    words = ("sign-genesis", ceremony, "--data", two[0], "--out", tmp_path / "sig", "--hash", said)
    assert refused(*words) == (4, "ceremony.changed")


def test_no_node_starts_before_all_have_signed(two: list[Path]) -> None:
    ceremony, said = collected(two)
    assert refused("up", "--data", two[0]) == (6, "organisation.no_genesis")
    signatures = signed(two, ceremony, said)
    assert refused("install", ceremony, signatures[0], "--data", two[0]) == (3, "ceremony.unsigned")
    assert refused("up", "--data", two[0]) == (6, "organisation.no_genesis")
    plain("install", ceremony, *signatures, "--data", two[0])
    for path in (two[0] / "signatures").glob("*"):
        path.unlink()
        break
    assert refused("up", "--data", two[0]) == (3, "ceremony.unsigned")


def test_an_installed_genesis_is_not_replaced(two: list[Path]) -> None:
    ceremony, said = collected(two)
    plain("install", ceremony, *signed(two, ceremony, said), "--data", two[0])
    plain("install", ceremony, *signed(two, ceremony, said), "--data", two[0])
    requests = [directory.with_suffix(".join") for directory in two]
    later = plain("collect", *requests, "--out", ceremony, "--time", moment(LATER))["genesis_hash"]
    words = ("install", ceremony, *signed(two, ceremony, later), "--data", two[0])
    assert refused(*words) == (4, "ceremony.installed")


def test_a_signature_that_does_not_hold_is_not_shown_as_one(two: list[Path], tmp_path: Path) -> None:
    from onecode.network.armour import armour, parse_armoured
    from onecode.network.ceremony import GenesisSignature

    ceremony, said = collected(two)
    word = parse_armoured(signed(two, ceremony, said)[0].read_bytes(), GenesisSignature)
    forged = tmp_path / "forged.sig"
    forged.write_bytes(armour(dataclasses.replace(word, genesis_hash=bytes(32))))
    assert refused("check", forged) == (3, "signature.bad")


def test_times_are_told_in_words(two: list[Path], tmp_path: Path) -> None:
    parameters = tmp_path / "parameters.json"
    parameters.write_text(json.dumps({"governance_delay_ms": 0, "recovery_delay_ms": 90_000}))
    ceremony, _ = collected(two, "--parameters", parameters)
    shown = " ".join(run("genesis", ceremony).stdout.split())
    for words in ("proposal_expiry_ms 604800000 (7 days)", "governance_delay_ms 0 (0 s)", "90000 (90 s)"):
        assert words in shown


def test_who_did_not_sign_a_ceremony_installs_it_by_the_hash_that_was_heard(two: list[Path], tmp_path: Path) -> None:
    """Strangers can make up a ceremony of which all organisations signed the genesis."""
    ceremony, said = collected(two)
    signatures = signed(two, ceremony, said)
    auditor = tmp_path / "auditor"
    plain("keys", "--data", auditor, "--chain-id", "onecode-commands", "--name", "Auditor", "--observer")
    for directory in (keys(tmp_path / "Cedar"), auditor):
        words = ("install", ceremony, *signatures, "--data", directory)
        assert refused(*words) == (4, "ceremony.hash_needed")
        assert refused(*words, "--hash", "0" * 64) == (4, "ceremony.hash")
        assert not (directory / "genesis.json").exists()
        plain(*words, "--hash", said)


def test_who_looks_writes_nothing_and_what_a_crash_left_is_passed_over(two: list[Path]) -> None:
    ceremony, said = collected(two)
    plain("install", ceremony, *signed(two, ceremony, said), "--data", two[0])
    (two[0] / "signatures" / f"{'ab' * 20}.new").write_bytes(b"-----BEGIN ONECODE GEN")
    files = [path for path in two[0].rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    plain("status", "--once", "--data", two[0])
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_keys_that_were_cut_off_are_told_from_keys_that_are_whole(tmp_path: Path) -> None:
    directory = keys(tmp_path / "Alder")
    (directory / "organisation.json").unlink()
    words = ("keys", "--data", directory, "--chain-id", "onecode-commands", "--name", "Alder Pay")
    assert refused(*words) == (6, "organisation.cut_off")
    assert (directory / "keys" / "root.key").exists()


def test_a_file_that_is_none_prints_nothing_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "alder.join"
    file.write_bytes(b"-----BEGIN ONECODE \x1b[2J\x1b[31mTRUST ME-----\n")
    result = run("check", file)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    with file.open("wb") as hole:
        hole.truncate(65 << 20)
    assert refused("check", file) == (6, "cli.file_size")


def test_a_further_node_is_not_put_in_the_place_of_an_organisation(two: list[Path]) -> None:
    for target in two:
        before = (target / "organisation.json").read_bytes()
        words = ["add-node", "--data", two[0], "--to", target, "--name", "sentry", "--engine", sys.executable]
        words += ["--api", "https://s.example", "--p2p", "s.example:1"]
        assert refused(*words) == (6, "organisation.not_its_node")
        assert (target / "organisation.json").read_bytes() == before


def test_parameters_are_of_the_file(two: list[Path], tmp_path: Path) -> None:
    parameters = tmp_path / "parameters.json"
    parameters.write_text(json.dumps({"governance_delay_ms": 1_500, "services": ["pay", "tip"], "measurements": []}))
    ceremony, _ = collected(two, "--parameters", parameters)
    said = plain("genesis", ceremony)
    assert (said["parameters"]["governance_delay_ms"], said["services"]) == (1_500, ["pay", "tip"])
    assert (said["parameters"]["freeze_platforms"], said["measurements"]) == (2, [])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[]", "cli.parameters"),
        ("{", "cli.parameters"),
        ('{"delay": 1}', "cli.parameters"),
        ('{"governance_delay_ms": -1}', "wire.field"),
        ('{"measurements": 3}', "cli.parameters"),
        ('{"measurements": [{"kind": "software"}]}', "wire.field_missing"),
    ],
)
def test_wrong_parameters_are_refused(two: list[Path], tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "parameters.json").write_text(text)
    words = ("--parameters", tmp_path / "parameters.json", "--out", tmp_path / "out")
    assert refused("collect", two[0].with_suffix(".join"), *words)[1] == code


WRONG: list[tuple[list[str], int, str]] = [
    (["keys", "--chain-id", "solo-x", "--name", "A"], 6, "organisation.chain_id"),
    (["keys", "--chain-id", "c", "--name", "x" * 65], 6, "organisation.name"),
    (["keys", "--chain-id", "c", "--name", "Alder\u202eyaP"], 2, "wire.field"),
    (["keys", "--chain-id", "c\x1b", "--name", "Alder"], 2, "wire.field"),
    (["up"], 6, "organisation.none"),
    (["down"], 6, "organisation.none"),
    (["status"], 6, "organisation.none"),
]


@pytest.mark.parametrize(("words", "exit_code", "code"), WRONG)
def test_what_is_wrong_is_told(words: list[str], exit_code: int, code: str, tmp_path: Path) -> None:
    assert refused(*words, "--data", tmp_path / "none") == (exit_code, code)


def test_other_words_that_are_wrong(two: list[Path], tmp_path: Path) -> None:
    data = ("--data", two[0])
    out = ("--out", tmp_path / "out")
    assert refused("status") == (6, "cli.nodes")
    assert refused("join-request", *data, *out, "--api", "http://a", "--engine", sys.executable)[1] == "cli.p2p"
    assert refused("join-request", *data, *out, *addresses(0), "--engine", tmp_path / "no")[1] == "network.engine"
    words = ["join-request", *data, *out, "--api", "ftp://a", "--p2p", "a:1", "--engine", sys.executable]
    assert refused(*words)[1] == "ceremony.url"
    assert refused("collect", two[0].with_suffix(".join"), *out, "--time", "tomorrow")[1] == "cli.time"
    assert refused("check", two[0] / "organisation.json")[1] == "ceremony.kind"
    assert refused("approve", "00", *data)[1] == "cli.hex"
    assert refused("propose", "observer", "00" * 20, *data)[1] == "cli.observer"
    assert refused("propose", "build", "00", *data)[1] == "cli.measurement"
    assert plain("down", *data) == {"stopped": False}


def test_an_observer_has_no_platform_and_no_vote(tmp_path: Path) -> None:
    directory = tmp_path / "auditor"
    made = plain("keys", "--data", directory, "--chain-id", "onecode-commands", "--name", "Auditor", "--observer")
    assert len(made["node_id"]) == 40
    assert sorted(path.name for path in (directory / "keys").iterdir()) == ["engine-node.key", "observer.key"]
    assert refused("approve", "00" * 32, "--data", directory) == (6, "organisation.kind")
    words = ("join-request", "--data", directory, "--out", tmp_path / "out", *addresses(0))
    assert refused(*words)[1] == "organisation.kind"
