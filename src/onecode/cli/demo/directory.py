"""Act 3 begins with what people use now: a directory whose operator can put anybody's account in the shop's place.

The directory is one SQLite table made here for the comparison; its wallet, like today's, can only believe it.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from onecode.cli.demo.stage import CURRENCY, SHOP, A, Stage
from onecode.cli.wallet import money

THIEF = "thief-6666"
AMOUNT_MINOR = 12_00


def play_ordinary(stage: Stage) -> None:
    """The bribed operator of an ordinary directory: nothing stands between the payer and the thief."""
    story, merchant = stage.story, stage.shop.text
    with story.step(
        "LEFT, an ordinary directory (a SQLite table, made here): a thief's account for the shop's"
    ) as step:
        table = sqlite3.connect(":memory:")
        table.execute("CREATE TABLE accounts (merchant TEXT PRIMARY KEY, name TEXT, account TEXT)")
        table.execute("INSERT INTO accounts VALUES (?, ?, ?)", (merchant, SHOP, f"{A}-0001"))
        table.execute("UPDATE accounts SET account = ? WHERE merchant = ?", (THIEF, merchant))  # the bribe
        name, account = table.execute("SELECT name, account FROM accounts WHERE merchant = ?", (merchant,)).fetchone()
        table.close()
        story.require((name, account) == (SHOP, THIEF), "the bribe did not take")
        step.note = (
            f'the wallet shows "{name}" and has nothing to check: {money(AMOUNT_MINOR, CURRENCY)} go to {account}'
        )
        step.facts = {"directory": "ordinary", "paid_to": account}


def search_disk(stage: Stage) -> None:
    """Everything in the nodes' own directories: ids are there, records are not."""
    story = stage.story
    with story.step("The operator searches the node's disk for the shop's contracts: ciphertext only") as step:
        secrets = [text.encode() for text in ("Lanzhou Noodle House Ltd", f"{A}-0001", f"{A}-settle-0001", "Shanghai")]
        places = stage.network.places
        data = [one for node in stage.network.plan.nodes for one in _contents(places.node_directory(node.slug))]
        story.require(any(stage.shop.id in one for one in data), "the search does not even find the merchant's id")
        found = [secret for secret in secrets if any(secret in one for one in data)]
        story.require(not found, f"on the node's disk in the clear: {found}")
        size = sum(map(len, data)) / 1e6
        step.note = f"{len(data)} files, {size:.1f} MB: the merchant's id is there, name and accounts are not"
        step.facts = {"files": len(data), "clear_text_found": 0}


def _contents(directory: Path) -> list[bytes]:
    """Every file that is there long enough to be read; an engine replaces some at any time."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(FileNotFoundError):
                found.append(path.read_bytes())
    return found
