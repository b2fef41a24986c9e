"""The platform as a process: it says when it is ready, serves, ends when told, and names what its operator must do."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from onecode.errors import Misconfigured, Untrusted
from onecode.host.clock import now_ms
from onecode.platform.config import PlatformConfig
from onecode.platform.context import Platform
from onecode.platform.database import FILE
from onecode.platform.process import load_header, main, open_platform, save_header
from onecode.platform.trust import load_trust
from onecode.proof.checkpoint import parse_checkpoint, verify_checkpoint_chain
from onecode.proof.header import merkle_root
from unit.platform.world import CHAIN_ID, OPENING, Keys, Merchant, Node, Payer, Server

pytestmark = pytest.mark.clock


@contextmanager
def started(path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen([sys.executable, "-m", "onecode.platform", str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def test_it_serves_until_told_to_end(node: Node, keys: list[Keys], tmp_path: Path) -> None:
    config = keys[0].config(tmp_path, node.url)
    with started(tmp_path / "platform.json") as (process, ready):
        assert ready["ready"] is True
        assert ready["platform"] == config.platform.hex()
        assert httpx.get(ready["url"] + "/v1/health").json() == {"status": "ok"}
        process.terminate()
        assert process.wait(10) == 0


def test_it_says_what_is_wrong(keys: list[Keys], node: Node, tmp_path: Path, capsys: Any) -> None:
    assert main([]) == Misconfigured.exit_code
    keys[0].config(tmp_path, node.url, transaction_key_file="absent.key")
    assert main([str(tmp_path / "platform.json")]) == Misconfigured.exit_code
    assert "absent.key" in capsys.readouterr().err


def test_another_root_or_a_solo_chain_not_allowed_is_not_trusted(keys: list[Keys], node: Node, tmp_path: Path) -> None:
    other = keys[1].admission.root.hex()
    with pytest.raises(Misconfigured, match=r"trust\.certificate"):
        open_platform(keys[0].config(tmp_path, node.url, root_public_key=other))
    with pytest.raises(Untrusted, match=r"trust\.solo"):
        open_platform(keys[0].config(tmp_path, node.url, allow_solo=False))


def test_a_start_goes_on_from_the_newest_header_that_was_verified(keys: list[Keys], node: Node, tmp_path: Path) -> None:
    config = keys[0].config(tmp_path, node.url)
    platform = open_platform(config)
    try:
        assert load_header(platform.database) is None
        newest = platform.chain.fetch_newest()
        save_header(platform.database, newest)
        assert load_header(platform.database) == newest
        late_ms = now_ms() + 91 * 24 * 3_600_000  # the anchor's certificate has ended
        with pytest.raises(Untrusted, match=r"trust\.anchor_expired"):
            load_trust(config, None, late_ms)
        assert load_trust(config, newest, late_ms).state.header == newest.header.header
        assert load_trust(config, newest, now_ms()).state.header.height >= newest.header.header.height
    finally:
        platform.database.close()


class Remote:
    """A platform in another process, with what `Payer` and `Server.live_merchant` use of one."""

    operator = Server.operator
    live_merchant = Server.live_merchant

    def __init__(self, url: str, platform: Platform) -> None:
        self.http, self.platform = httpx.Client(base_url=url, timeout=20), platform


def kill_once(process: subprocess.Popen[str], is_time: Callable[[], bool], pause_s: float = 0.01) -> None:
    """kill -9, a little after something has come about."""
    while not is_time() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(pause_s)
    process.kill()


def test_a_kill_in_the_middle_loses_and_doubles_nothing(keys: list[Keys], node: Node, tmp_path: Path) -> None:
    (tmp_path / "reader").mkdir()
    reader = open_platform(keys[0].config(tmp_path / "reader", node.url))
    keys[0].config(tmp_path, node.url)
    acknowledged: dict[str, str] = {}
    asked: list[str] = []
    try:
        with started(tmp_path / "platform.json") as (process, ready):
            remote: Any = Remote(ready["url"], reader)
            payer = Payer(remote)
            request = payer.request(remote.live_merchant(), amount_minor=3)

            def pay() -> None:
                while True:
                    asked.append(f"key-{len(asked)}")
                    acknowledged[asked[-1]] = payer.pay(request, asked[-1]).json()["receipt"]

            threading.Thread(target=kill_once, args=(process, lambda: len(acknowledged) > 4), daemon=True).start()
            with pytest.raises(httpx.HTTPError):
                pay()
        with started(tmp_path / "platform.json") as (_, ready):
            remote.http = httpx.Client(base_url=ready["url"], timeout=20)
            again = {key: payer.pay(request, key) for key in asked}
            assert {key: again[key].json()["receipt"] for key in acknowledged} == acknowledged
            assert all(again[key].status_code == 200 for key in acknowledged)
            assert payer.balance() == OPENING["EUR"] - 3 * len(asked)
            books = remote.operator("GET", "/v1/books").json()
            assert {row["total_minor"] for row in books["totals"]} == {0}
        assert len(acknowledged) > 2
    finally:
        reader.database.close()


def test_kills_about_the_cut_leave_every_receipt_in_exactly_one_checkpoint(
    keys: list[Keys], node: Node, tmp_path: Path
) -> None:
    (tmp_path / "reader").mkdir()
    reader = open_platform(keys[0].config(tmp_path / "reader", node.url))
    config = keys[0].config(tmp_path, node.url, checkpoint_period_ms=1_000, checkpoint_retry_ms=10)
    choice = random.Random(7)
    shop, payer, request = Merchant(), None, None
    try:
        for _ in range(4):
            with started(tmp_path / "platform.json") as (process, ready):
                remote: Any = Remote(ready["url"], reader)
                if payer is None:
                    payer = Payer(remote)
                    request = payer.request(remote.live_merchant(shop), amount_minor=3)
                payer.server = remote
                pay_until_killed(payer, request, shop, node, process, choice.uniform(0, 0.1))
        with started(tmp_path / "platform.json") as (_, ready):
            remote = Remote(ready["url"], reader)
            until(lambda: require_all_counted(config, remote.http, shop, node))
    finally:
        reader.database.close()


def pay_until_killed(
    payer: Payer, request: Any, shop: Merchant, node: Node, process: subprocess.Popen[str], pause_s: float
) -> None:
    """Pay, and make blocks, over at least one more cut; then the process is killed in the middle of it."""
    seen: list[int] = []
    killer = threading.Thread(target=kill_once, args=(process, lambda: len(set(seen)) > 1, pause_s), daemon=True)
    killer.start()
    with pytest.raises(httpx.HTTPError):
        while True:
            assert payer.pay(request).status_code == 201
            shop.set_order_key(node)
            seen.append(sealed(payer.server.http))
    killer.join()


def sealed(http: httpx.Client) -> int:
    """How many checkpoints there are."""
    count = 0
    while more := len(http.get(f"/v1/checkpoints?from={count + 1}").json()):
        count += more
    return count


def until(reached: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if reached():
            return
        time.sleep(0.05)
    raise AssertionError("not reached")


def require_all_counted(config: PlatformConfig, http: httpx.Client, shop: Merchant, node: Node) -> bool:
    """Whether all receipts are in sealed checkpoints by now. What is sealed commits to them in order, each once."""
    shop.set_order_key(node)
    shown: list[dict[str, Any]] = []
    while more := http.get(f"/v1/checkpoints?from={len(shown) + 1}").json():
        shown += more
    checkpoints = [parse_checkpoint(bytes.fromhex(one["checkpoint"])) for one in shown]
    bodies = [one.body for one in verify_checkpoint_chain(checkpoints, CHAIN_ID)]
    path = config.data_dir / FILE
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        hashes = [hashed for (hashed,) in connection.execute("SELECT hash FROM receipts ORDER BY id")]
    assert len(hashes) == len(set(hashes)) > 4
    start = 0
    for body in bodies:
        assert body.receipts_root == merkle_root(hashes[start : start + body.receipts])
        start += body.receipts
    return start == len(hashes)
