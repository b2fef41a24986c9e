"""`onecode wallet trust`, `onecode wallet evidence`, `onecode verify fork`: what is shown of a halted wallet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chain_world import NOW_MS
from onecode.cli.main import cli
from onecode.errors import Untrusted
from onecode.network.wallets import PROFILE_FILE, TRUST_FILE, WalletProfile, renew_trust, save_profile
from simulator.world import NODES, PLATFORM_URL, STATIC, Chain, Lab, Node


def run(*words: str | Path) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(cli, [*map(str, words), "--json"])
    return result.exit_code, json.loads(result.stdout or result.stderr)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path / "wallet")
    monkeypatch.setattr("onecode.cli.verify.now_ms", lambda: NOW_MS)
    monkeypatch.setattr("onecode.host.clock.now_ms", lambda: NOW_MS)
    other = Chain()
    other.entry_changes = {"consent_serial": 7}
    wallet = made.wallet(Node(other), Node(made.chain))
    wallet.resolve(wallet.read(STATIC))
    made.close()
    profile = WalletProfile(
        chain_id=wallet._wallet.config.chain_id,
        platform=made.chain.a.id.hex(),
        platform_name="A",
        platform_root=made.chain.a.root.public.hex(),
        platform_url=PLATFORM_URL,
        node_urls=NODES,
    )
    save_profile(made.directory / PROFILE_FILE, profile)
    (made.directory / TRUST_FILE).write_bytes(made.chain.trust_file())
    return made


def test_a_halted_wallet_says_so_and_shows_the_evidence(lab: Lab) -> None:
    code, shown = run("wallet", "trust", lab.directory)
    assert (code, shown["height"], shown["expired"]) == (0, 10, False)
    assert "renew" in shown["fork"]
    _, listed = run("wallet", "evidence", lab.directory)
    assert [row["name"] for row in listed["evidence"]] == [listed["halted_by"]]
    code, shown = run("wallet", "evidence", lab.directory, listed["halted_by"])
    assert (code, shown["kind"], len(shown["guilty"])) == (0, "made up", 4)
    code, proven = run(
        *("verify", "fork", shown["file"], "--trust", lab.directory / TRUST_FILE),
        *("--root", lab.chain.a.root.public.hex()),
    )
    assert (code, proven["guilty"]) == (0, shown["guilty"])
    assert proven["checked_from"] == "the trust file"
    code, problem = run("wallet", "evidence", lab.directory, "../device.key")
    assert (code, problem["code"]) == (2, "wallet.evidence")


def test_evidence_against_another_beginning_is_refused(lab: Lab, tmp_path: Path) -> None:
    _, listed = run("wallet", "evidence", lab.directory)
    elsewhere = Chain()
    elsewhere.trust_header = elsewhere.header(2, app_version=9)
    trust = tmp_path / "trust.cbor"
    trust.write_bytes(elsewhere.trust_file())
    file = lab.directory / "evidence" / listed["halted_by"]
    code, problem = run("verify", "fork", file, "--trust", trust, "--root", lab.chain.a.root.public.hex())
    assert (code, problem["code"]) == (3, "header.not_higher")


def test_only_a_file_issued_after_the_fork_renews(lab: Lab) -> None:
    old = lab.chain.trust_file(lab.chain.header(11))
    with pytest.raises(Untrusted) as caught:
        renew_trust(lab.directory, old, lambda: NOW_MS)
    assert caught.value.code == "trust.before_fork"
    assert (lab.directory / TRUST_FILE).read_bytes() == lab.chain.trust_file()
    new = lab.chain.trust_file(lab.chain.header(11), issued_ms=NOW_MS + 1)
    renew_trust(lab.directory, new, lambda: NOW_MS)
    assert (lab.directory / TRUST_FILE).read_bytes() == new
    code, shown = run("wallet", "trust", lab.directory)
    assert (code, shown["height"], shown["fork"]) == (0, 11, None)
