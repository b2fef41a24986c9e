"""Act 3 begins with what people use now: a directory whose operator can put anybody's account in the shop's place.

The directory is one SQLite table made here for the comparison; its wallet, like today's, can only believe it.
"""

from __future__ import annotations

import sqlite3

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
    """Everything in the node's own directory: ids are there, records are not."""
    story = stage.story
    with story.step("The operator searches the node's disk for the shop's contracts: ciphertext only") as step:
        secrets = [text.encode() for text in ("Lanzhou Noodle House Ltd", f"{A}-0001", f"{A}-settle-0001", "Shanghai")]
        files = [path for path in stage.network.places.node.rglob("*") if path.is_file() and not path.is_symlink()]
        data = [path.read_bytes() for path in files]
        story.require(any(stage.shop.id in one for one in data), "the search does not even find the merchant's id")
        found = [secret for secret in secrets if any(secret in one for one in data)]
        story.require(not found, f"on the node's disk in the clear: {found}")
        size = sum(map(len, data)) / 1e6
        step.note = f"{len(files)} files, {size:.1f} MB: the merchant's id is there, name and accounts are not"
        step.facts = {"files": len(files), "clear_text_found": 0}
