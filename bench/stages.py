"""What one record costs a node in each stage that a transaction passes, alone in one process: check, proposal, block.

Every node checks, judges the proposal and executes; one in turn also prepares it. With several nodes on one machine
their costs add up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.figures import Figure, show
from bench.sending import Batch, Client, clients
from bench.validators import CHAIN_ID
from bench.world import genesis
from onecode.host.clock import now_ms
from onecode.node.store import StoreConfig, open_writer
from onecode.registry.application import Application

BLOCK_BYTES = 4 << 20
STAGES = {
    "check": "CheckTx: signatures, rules on the pool's overlay",
    "prepare": "PrepareProposal, at the proposer alone: rules on all that waits",
    "process": "ProcessProposal: what can be told without state",
    "execute": "FinalizeBlock: rules, map, store",
    "commit": "LMDB, fsync (processor time, not waiting)",
}
ROWS = (  # name, records in a transaction, transactions in a block, blocks
    ("first publishes, 500 each with a consent", 500, 8, 1),
    ("updates of 500", 500, 8, 1),
    ("updates of 50", 50, 8, 4),
    ("updates one by one", 1, 8, 20),
)


@dataclass(slots=True)
class Stages:
    """Processor time of each stage at one node."""

    records: int = 0
    used_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def us(self, stage: str) -> float:
        """A record."""
        return 1e6 * self.used_s[stage] / self.records

    def machine_us(self, nodes: int) -> float:
        """A record, all stages of all nodes."""
        return nodes * sum(map(self.us, STAGES)) - (nodes - 1) * self.us("prepare")

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.used_s[stage] += time.process_time() - began


class Registry:
    """One application over a real store, as the engine's thread has it."""

    def __init__(self, directory: Path) -> None:
        self._store = open_writer(directory, StoreConfig(map_bytes=1 << 30, meta_sync=False))
        self._application = Application(self._store, CHAIN_ID)
        self._application.init_chain(replace(genesis(), chain_id=CHAIN_ID))
        self._store.commit()
        self._height = 0

    def block(self, batches: Sequence[Batch], stages: Stages) -> None:
        """One block of all of them; raises unless every record is accepted."""
        self._height += 1
        application, at_ms, given = self._application, now_ms(), [batch.transaction for batch in batches]
        with stages.timed("check"):
            codes = [application.check(one, at_ms) for one in given]
        with stages.timed("prepare"):
            chosen = application.prepare(self._height, at_ms, given, BLOCK_BYTES)
        with stages.timed("process"):
            right = application.process(chosen)
        with stages.timed("execute"):
            outcome = application.execute(self._height, at_ms, chosen)
        with stages.timed("commit"):
            self._store.commit()
        refused = [one for one in outcome.results if one.code or any(one.item_codes)]
        if any(codes) or len(chosen) != len(given) or not right or refused:
            raise RuntimeError(f"a record was refused: {codes}, {len(chosen)} of {len(given)}, {refused[:1]}")
        stages.records += sum(len(batch.items) for batch in batches)

    def close(self) -> None:
        self._store.close()


def _run(registry: Registry, senders: Sequence[Client], size: int, blocks: int) -> Stages:
    stages = Stages()
    for number in range(blocks):
        batches = [client.prepare([range(number * size, (number + 1) * size)])[0] for client in senders]
        registry.block(batches, stages)
        for client, batch in zip(senders, batches, strict=True):
            client.sent(batch)
    return stages


def measure_stages(directory: Path, nodes: int) -> list[Figure]:
    """A table of all stages, and what they add up to with so many nodes on one machine."""
    registry, senders, figures, lines = Registry(directory), clients(CHAIN_ID), [], []
    for name, size, together, blocks in ROWS:
        stages = _run(registry, senders[:together], size, blocks)
        whole = stages.machine_us(nodes)
        lines.append([name, *(f"{stages.us(stage):.0f}" for stage in STAGES), f"{whole:.0f}"])
        figures += [Figure(f"stages: {name}: {stage}", round(stages.us(stage), 1), "µs/record") for stage in STAGES]
        figures.append(Figure(f"stages: {name}: {nodes} nodes", round(whole, 1), "µs/record"))
    registry.close()
    show(
        "What a record costs one node's application, µs of processor time, alone in one process",
        ["eight transactions in a block", *STAGES, f"{nodes} nodes"],
        lines,
        "; ".join(f"{stage}: {what}" for stage, what in STAGES.items()),
    )
    return figures
