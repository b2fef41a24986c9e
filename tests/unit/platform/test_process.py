"""The platform as a process: it says when it is ready, serves, ends when told, and names what its operator must do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from onecode.errors import Misconfigured, Untrusted
from onecode.platform.context import Platform
from onecode.platform.process import load_header, main, open_platform, save_header
from onecode.platform.trust import load_trust
from unit.platform.world import OPENING, Keys, Node, Payer, Server, now_ms


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

            killer = threading.Timer(0.4, process.kill)
            killer.start()
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
