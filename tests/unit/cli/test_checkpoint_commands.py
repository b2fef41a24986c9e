"""`onecode platform` for checkpoints, evidence, voids, notices and webhooks; `onecode verify`, offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from onecode.cli.main import cli
from onecode.host.clock import now_ms
from unit.platform.conftest import keys, node  # noqa: F401 # fixtures
from unit.platform.test_checkpoints import LATER_MS, Three, pay
from unit.platform.world import OPERATOR, Keys, Node

pytestmark = pytest.mark.clock


def run(*words: object, exit_code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert result.exit_code == exit_code, result.output
    return dict(json.loads(result.stdout or result.stderr))


@pytest.fixture
def three(node: Node, keys: list[Keys], tmp_path: Path) -> Iterator[Three]:  # noqa: F811
    made = Three(node, keys, tmp_path)
    yield made
    made.stop()


def test_a_checker_keeps_a_checkpoint_and_believes_nothing_else(
    three: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = three.servers[0]
    at = ("--url", str(alpha.http.base_url), "--token", OPERATOR)
    three.next(0)
    payment = pay(alpha)
    second = three.next(0)
    assert run("platform", "checkpoints", *at, "--waiting") == {"waiting": [], "forks": []}
    file, kept, first = tmp_path / "payment.evidence", tmp_path / "kept.checkpoint", tmp_path / "first.checkpoint"
    assert run("platform", "evidence", payment, "--out", file, *at)["up_to"] == second["hash"]
    listed = run("platform", "checkpoints", *at, "--from", second["serial"], "--out", kept)
    assert listed["checkpoints"][0]["hash"] == second["hash"]
    run("platform", "checkpoints", *at, "--out", first)
    assert run("platform", "checkpoints", *at, "--from", 99, "--out", kept, exit_code=4)["code"] == "cli.checkpoint"
    monkeypatch.setattr("onecode.cli.verify.now_ms", lambda: now_ms() + LATER_MS)
    roots = [one.admission.root.hex() for one in three.keys]
    check = ("verify", "evidence", file, "--allow-solo")
    for named in (kept, second["hash"]):
        said = run(*check, "--checkpoint", named, *(word for root in roots for word in ("--root", root)))
        assert (said["payment_id"], said["checkpoint"]) == (payment, second["hash"])
        assert set(said["countersigned_by"].split(", ")) == set(roots[1:])
    assert run(*check, "--checkpoint", first, exit_code=3)["code"] == "checkpoint.named"
    assert run(*check, "--checkpoint", kept, "--root", "00" * 32, exit_code=3)["code"] == "checkpoint.root"
    _signed_is_the_named_one(three, payment, at, check, file)
    assert run(*check, exit_code=2)["code"] == "cli.believed"
    assert run(*check[:3], "--checkpoint", kept, exit_code=3)["code"] == "trust.solo"
    chain = run("verify", "checkpoint", first, kept, "--allow-solo", "--root", roots[1])["checkpoints"]
    assert [one["checkpoint_serial"] for one in chain] == [1, second["serial"]]
    assert run("verify", "checkpoint", kept, first, "--allow-solo", exit_code=3)["code"] == "checkpoint.link"


def _signed_is_the_named_one(
    three: Three, payment: str, at: tuple[str, ...], check: tuple[object, ...], file: Path
) -> None:
    """A later checkpoint that alpha alone signed, named with beta's root: that beta signed the older one, with a key
    that may have been stolen since, is not what was asked."""
    three.roads[0].is_down = True
    third, alone, later = three.next(0), file.parent / "alone.checkpoint", file.parent / "later.evidence"
    run("platform", "checkpoints", *at, "--from", third["serial"], "--out", alone)
    run("platform", "evidence", payment, "--out", later, "--until", third["serial"], *at)
    alpha, beta = (("--root", three.keys[index].admission.root.hex()) for index in range(2))
    check = (*check[:2], later, *check[3:], "--checkpoint")
    assert run(*check, alone, *alpha)["payment_id"] == payment
    assert run(*check, alone, *beta, exit_code=3)["code"] == "checkpoint.root"
    assert run(*check, third["hash"])["payment_id"] == payment
    assert run(*check, third["hash"], *beta, exit_code=2)["code"] == "cli.checkpoint_file"
    three.roads[0].is_down = False


def test_voids_notices_and_webhooks_have_commands(three: Three) -> None:
    alpha = three.servers[0]
    at = ("--url", str(alpha.http.base_url), "--token", OPERATOR)
    payment, shop = pay(alpha), alpha.live_merchant()
    assert run("platform", "void", payment, *at)["state"] == "voided"
    assert run("platform", "notices", *at) == {"notices": []}
    assert run("platform", "deliveries", "--state", "dead", *at) == {"deliveries": []}
    assert run("platform", "deliveries", "--retry", 9, *at, exit_code=4)["code"] == "webhook.delivery_unknown"
    assert run("platform", "webhook", shop.id.hex(), "https://8.8.8.8/", *at)["secret"].startswith("whsec_")
    assert run("platform", "webhook", shop.id.hex(), "--remove", *at)["url"] is None
    assert run("platform", "webhook", shop.id.hex(), "http://127.0.0.1/", *at, exit_code=2)["code"] == "webhook.url"
