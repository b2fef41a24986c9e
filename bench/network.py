"""`python -m bench.network`: four validators beside `solo` in one run: records, queries meanwhile, withdrawals.

Real nodes with real engines and enclaves on this machine's cores, all rules, fsync. `solo` is the same node with one
process that decides in the place of the engine; it runs first, alone. Every row ends after `row_s` seconds with what it
has done until then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

from bench.figures import Figure, machine, save
from bench.live import Queries, publish_sealed, runs_of, withdrawable
from bench.sending import Client, Processors, clients, send_all
from bench.stages import measure_stages
from bench.tables import NODES, Chain, show_processors, show_queries, show_rows, show_spans, show_withdrawals
from bench.timeline import Steps, spans_ms
from bench.validators import CHAIN_ID, ENGINE, SOLO_ID, Validator, running, supply_enclaves, wait_for
from bench.withdrawals import measure_withdrawals

OUTPUT = Path("build/bench.json")
FIRST, UPDATES, FIFTY, SINGLES = (
    "first publishes, batches of 500, each with a consent",
    "updates, batches of 500",
    "updates, batches of 50",
    "updates, one by one",
)
ROWS = ((FIRST, 500, 3), (UPDATES, 500, 3), (FIFTY, 50, 10), (SINGLES, 1, 40))  # name, records in a batch, batches
STOPPED = "updates, batches of 50, one of four stopped"
WITHDRAWALS = 20  # on an idle chain, and as many without one node
BLOCKS_AFTER_STOP = 2
IDLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """row_s, withdrawals_s: the longest that a row takes, but for what is under way. query_s: of a round of queries."""

    row_s: float = 7.0
    withdrawals_s: float = 25.0
    query_s: float = 2.5
    rounds: int = 2


def _publish(chain: Chain, nodes: Sequence[Validator], senders: Sequence[Client], row_s: float) -> None:
    with Processors(nodes) as processors:
        time.sleep(IDLE_S)
    chain.idle_s = {role: used_s / IDLE_S for role, used_s in processors.used_s.items()}
    for name, size, rounds in ROWS:
        # Updates are of merchants that every client has published, also where a row before was cut short.
        known = min(len(client.versions) for client in senders) if name != FIRST else size * rounds
        ranges = [range(at, at + size) for at in range(0, min(known, size * rounds), size)]
        chain.rows[name] = send_all(nodes, senders, [client.prepare(ranges) for client in senders], row_s)


def _queries(
    chain: Chain,
    nodes: Sequence[Validator],
    keys: Sequence[bytes],
    senders: Sequence[Client],
    directory: Path,
    pool: Pool,
    options: Options,
) -> Queries:
    sealed = publish_sealed(nodes, senders)
    chain.queries = Queries(nodes, keys, senders, sealed, directory, pool, options.query_s)
    for _ in range(options.rounds):
        chain.queries.round(chain.rows[FIFTY].speed / 2)
    return chain.queries


def measure_solo(directory: Path, pool: Pool, options: Options) -> Chain:
    """One node that decides alone."""
    chain, senders = Chain("solo"), clients(SOLO_ID)
    with running(directory / "solo", 1, SOLO_ID, enclaves=True) as nodes:
        keys = supply_enclaves(nodes)
        _publish(chain, nodes, senders, options.row_s)
        _queries(chain, nodes, keys, senders, directory, pool, options)
    return chain


def measure_network(directory: Path, pool: Pool, options: Options) -> Chain:
    """All of it with four validators; in the end without one of them."""
    chain, senders = Chain(f"{NODES} validators"), clients(CHAIN_ID)
    with running(directory / "network", NODES, enclaves=True) as nodes:
        keys = supply_enclaves(nodes)
        _publish(chain, nodes, senders, options.row_s)
        queries = _queries(chain, nodes, keys, senders, directory, pool, options)
        steps, merchants = Steps(nodes[0].rpc_port), withdrawable(queries.sealed, 0, WITHDRAWALS)
        idle = measure_withdrawals(
            nodes, runs_of(nodes, keys, queries.sealed), senders, merchants, options.withdrawals_s
        )
        steps.stop()
        chain.withdrawn["idle chain"], chain.spans = idle, spans_ms(steps.seen, idle.timed)
        nodes[-1].process.stop()
        left = nodes[:-1]
        height = left[0].newest().header.header.height
        wait_for(lambda: left[0].newest().header.header.height > height + BLOCKS_AFTER_STOP, "the three go on")
        ranges = [range(at, at + 50) for at in range(0, 500, 50)]
        work = [client.prepare(ranges) for client in senders]
        chain.rows[STOPPED] = send_all(left, senders, work, options.row_s)
        merchants = withdrawable(queries.sealed, WITHDRAWALS, WITHDRAWALS)
        runs = runs_of(left, keys[:-1], queries.sealed)
        chain.withdrawn["one of four stopped"] = measure_withdrawals(
            left, runs, senders, merchants, options.withdrawals_s
        )
    return chain


def measure(directory: Path, pool: Pool, options: Options | None = None) -> list[Figure]:
    """All rows, shown as tables; nothing, and a line that says so, where the engine was not built."""
    if not ENGINE.exists():
        print("NOT MEASURED: four validators. The engine is not built: make cometbft\n")
        return []
    began, options = time.perf_counter(), options or Options()
    solo = measure_solo(directory, pool, options)
    network = measure_network(directory, pool, options)
    figures = show_rows(solo, network)
    figures += show_processors([solo, network])
    figures += measure_stages(directory / "stages", NODES)
    figures += show_spans(network)
    figures += show_withdrawals(network)
    figures += show_queries(solo, network)
    print(f"measured in {time.perf_counter() - began:.0f} s; load average now {os.getloadavg()[0]:.1f}\n")
    return figures


def main() -> None:
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row-seconds", type=float, default=usual.row_s, help="the longest of each row of publishing")
    parser.add_argument("--query-seconds", type=float, default=usual.query_s, help="of each round of queries")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="of queries")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    about = machine()
    with (
        tempfile.TemporaryDirectory(prefix="onecode-bench-") as name,
        multiprocessing.get_context("spawn").Pool(2) as pool,
    ):
        figures = measure(
            Path(name), pool, Options(given.row_seconds, query_s=given.query_seconds, rounds=given.rounds)
        )
    if figures:
        save(given.output, about, figures)


if __name__ == "__main__":
    main()
