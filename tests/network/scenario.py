"""A scenario: a fault, what it cost publishers and payers, and how long until all is as before. One row of a table."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from network.faulty import NODES, SETTLE_S, FaultyNetwork, wait_for
from network.history import Chain, Did, History, Verdict, longest_gap_ms
from network.load import Load
from onecode.host.clock import now_ms

COLUMNS = (
    "what was done",
    "s",
    "acknowledged",
    "outage: publishers",
    "outage: payers",
    "back after",
    "refused",
    "lost",
)


@dataclass(slots=True)
class Row:
    """begin and end in ms; mended: when the fault was taken away; note: what the scenario found."""

    what: str
    begin_ms: int
    end_ms: int = 0
    mended_ms: int = 0
    note: str = ""

    def mended(self) -> None:
        """The fault is over: from now on it is recovery."""
        self.mended_ms = now_ms()


@dataclass(slots=True)
class Scenarios:
    """The network under load, and what its scenarios have shown."""

    network: FaultyNetwork
    load: Load
    history: History
    report: Path
    rows: list[Row] = field(default_factory=list)

    @contextmanager
    def scenario(self, what: str) -> Iterator[Row]:
        """Do what the block does, then wait until the network is whole again."""
        row = Row(what, now_ms())
        try:
            yield row
        except BaseException:
            self.network.heal()  # so that the next scenario begins with a whole network
            raise
        if not row.mended_ms:
            row.mended()
        self.settle(what, row.mended_ms)
        row.end_ms = now_ms()
        self.rows.append(row)

    def settle(self, what: str, since_ms: int | None = None) -> None:
        """Return when all nodes are level and have their keys, and each platform has published and each payer been
        answered since then."""
        assert not self.load.broken, self.load.broken
        since_ms = now_ms() if since_ms is None else since_ms
        self.network.wait_level()
        for slug in NODES:
            wait_for(lambda slug=slug: self.network.enclave_ready(slug), f"{what}: keys at {slug}")
            wait_for(lambda slug=slug: self._acknowledged(slug, since_ms), f"{what}: {slug} publishes")
            wait_for(lambda slug=slug: self.answered(slug, since_ms), f"{what}: payers of {slug} are answered")

    def _acknowledged(self, slug: str, since_ms: int) -> bool:
        platform = self.network.identity(slug).hex()
        return any(
            one.verdict is Verdict.OK and one.platform == platform and one.invoked_ms > since_ms
            for one in reversed(self.history.writes)
        )

    def answered(self, slug: str, since_ms: int) -> bool:
        return any(
            one.verdict in (Verdict.OK, Verdict.ABSENT) and one.wallet.startswith(slug) and one.invoked_ms > since_ms
            for one in reversed(self.history.queries)
        )

    def goes_on(self, nodes: tuple[str, ...], blocks: int = 5, seconds: float = SETTLE_S) -> None:
        """Return when each of these nodes has proven so many more blocks, with acknowledged writes among them."""
        goals = {node: self.network.proven(node) + blocks for node in nodes}
        acknowledged = self.history.acknowledged() + blocks
        for node, goal in goals.items():
            wait_for(lambda node=node, goal=goal: self.network.proven(node) >= goal, f"{node} goes on", seconds)
        wait_for(lambda: self.history.acknowledged() >= acknowledged, "writes are acknowledged", seconds)

    def stands_still(self, nodes: tuple[str, ...], seconds: float) -> int:
        """The greatest height that they prove, when each proves the same throughout so many seconds, after what was
        under way is over."""
        time.sleep(2)
        heights = {node: self.network.proven(node) for node in nodes}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for node, height in heights.items():
                assert self.network.proven(node) in (height, 0), f"{node} went on without a majority"
            time.sleep(0.2)
        assert max(heights.values()) - min(heights.values()) <= 1
        return max(heights.values())

    # --- the table

    def table(self, chain: Chain, faults: list[str]) -> str:
        """The rows as text, also in the report's directory."""
        table = Table(*COLUMNS, title=f"Faults under load ({'namespaces' if self.network.cables else 'loopback'})")
        for row in self.rows:
            table.add_row(row.what + (f" ({row.note})" if row.note else ""), *self._cells(row, chain))
        counts = Counter(f"{one.did} {one.verdict}" for one in self.history.writes)
        counts.update(f"query {one.verdict}" for one in self.history.queries)
        counts.update(f"payment {one.verdict}" for one in self.history.payments)
        screen = io.StringIO()
        console = Console(width=170, file=screen)
        console.print(table)
        console.print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
        console.print("\n".join(faults) if faults else "the history holds: no rule was broken")
        text = screen.getvalue()
        (self.report / "faults.txt").write_text(text, "utf-8")
        return text

    def _cells(self, row: Row, chain: Chain) -> tuple[str, ...]:
        span = (row.begin_ms, row.end_ms)
        wrote = [one for one in self.history.writes if one.verdict is Verdict.OK and _in(one.answered_ms, row)]
        gaps, waits = [], []
        for slug in NODES:
            platform = self.network.identity(slug).hex()
            gaps.append(longest_gap_ms((one.answered_ms for one in wrote if one.platform == platform), *span))
            answers = (
                one.answered_ms
                for one in self.history.queries
                if one.wallet.startswith(slug) and one.verdict in (Verdict.OK, Verdict.ABSENT)
            )
            waits.append(longest_gap_ms(answers, *span))
        refused = Counter(
            one.why
            for one in self.history.queries
            if one.verdict in (Verdict.REFUSED, Verdict.NONE) and _in(one.answered_ms, row)
        )
        lost = sum(
            not any(done.did is one.did for done in chain.of((one.merchant, one.platform)))
            if one.did is not Did.PUBLISH
            else all(done.version != one.version for done in chain.of((one.merchant, one.platform)))
            for one in wrote
        )
        return (
            f"{(row.end_ms - row.begin_ms) / 1000:.0f}",
            str(len(wrote)),
            f"{max(gaps) / 1000:.1f} s",
            f"{max(waits) / 1000:.1f} s",
            f"{(row.end_ms - row.mended_ms) / 1000:.1f} s",
            ", ".join(f"{count} {why}" for why, count in refused.most_common(3)) or "-",
            str(lost),
        )


def _in(at_ms: int, row: Row) -> bool:
    return row.begin_ms <= at_ms <= row.end_ms
