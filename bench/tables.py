"""Tables and figures of `bench.network`: what four validators did, beside `solo`."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import Figure, show
from bench.live import Queries
from bench.load import Measured
from bench.sending import Sent
from bench.validators import ROLES
from bench.withdrawals import Withdrawn

NODES = 4


@dataclass(slots=True)
class Chain:
    """What was measured of one chain. idle_s: processor time a second by role while nothing is sent."""

    name: str
    rows: dict[str, Sent] = field(default_factory=dict)
    idle_s: dict[str, float] = field(default_factory=dict)
    queries: Queries | None = None
    withdrawn: dict[str, Withdrawn] = field(default_factory=dict)
    spans: list[tuple[str, float]] = field(default_factory=list)


def show_rows(solo: Chain, network: Chain) -> list[Figure]:
    lines, figures = [], []
    for name, sent in network.rows.items():
        beside = solo.rows.get(name)
        if beside is not None:
            times = f"{beside.median_ms:,.0f} / {beside.percentile_ms(0.99):,.0f}"
            alone, ratio = [f"{beside.speed:,.0f}", times], f"{sent.speed / beside.speed:.3f}"
            figures += _row_figures(solo.name, name, beside, None)
        else:
            alone, ratio = ["", ""], ""
        times = f"{sent.median_ms:,.0f} / {sent.percentile_ms(0.99):,.0f}"
        lines.append([name, *alone, f"{sent.speed:,.0f}", times, f"{sent.records / sent.heights:,.0f}", ratio])
        figures += _row_figures(network.name, name, sent, beside)
    show(
        f"Records committed through {network.name} beside solo, all rules, fsync",
        [
            "8 clients, one in flight each",
            "solo /s",
            "p50 / p99 ms",
            f"{NODES} nodes /s",
            "p50 / p99 ms",
            "a block",
            "×",
        ],
        lines,
        "until proven at the client's node; signed beforehand; engines, nodes and clients on the same cores",
    )
    return figures


def _row_figures(chain: str, name: str, sent: Sent, limit: Sent | None) -> list[Figure]:
    speed, title = round(sent.speed), f"{chain}: {name}"
    beside = (round(limit.speed), round(sent.speed / limit.speed, 4)) if limit is not None else (None, None)
    return [
        Figure(title, speed, "records/s", *beside),
        Figure(f"{title}: until proven, median", round(sent.median_ms, 1), "ms"),
        Figure(f"{title}: until proven, p99", round(sent.percentile_ms(0.99), 1), "ms"),
        *(
            Figure(f"{title}: processor time, {role}", round(sent.cpu_us(role), 1), "µs/record")
            for role in (*ROLES, "clients")
        ),
    ]


def show_processors(chains: Sequence[Chain]) -> list[Figure]:
    cores, lines, figures = len(os.sched_getaffinity(0)), [], []
    for chain in chains:
        for name, sent in chain.rows.items():
            each = [sent.cpu_us(role) for role in (*ROLES, "clients")]
            busy = sum(sent.cpu_s.values()) / sent.took_s / cores
            lines.append([f"{chain.name}: {name}", *(f"{us:,.0f}" for us in each), f"{sum(each):,.0f}", f"{busy:.0%}"])
    show(
        "Processor time, µs a record, all nodes together",
        ["", *ROLES, "clients", "all", "cores busy"],
        lines,
        f"cores busy: of {cores}, with these processes; the rest is waiting, or taken by what else the machine does",
    )
    idle = [[f"{one.name}, nothing sent", *(f"{one.idle_s[role]:.1%}" for role in ROLES)] for one in chains]
    note = "the same goes on under load, so a record's share of it is less the more there are"
    show("Processor time of an idle chain, share of one core", ["all nodes together", *ROLES], idle, note)
    for chain in chains:
        figures += [Figure(f"{chain.name}: idle: {role}", round(chain.idle_s[role], 3), "cores") for role in ROLES]
    return figures


def show_queries(solo: Chain, network: Chain) -> list[Figure]:
    lines, figures = [], []
    rates: dict[tuple[str, str], float] = {}
    for chain in (solo, network):
        found = chain.queries
        if found is None:
            continue
        for state, rounds in (("idle chain", found.idle), ("while committing", found.committing)):
            rate = rates[chain.name, state] = statistics.median(one.rate for one in rounds)
            beside = rates[chain.name, "idle chain"], rates[solo.name, state]
            records = statistics.median(found.committed) if rounds is found.committing else 0.0
            lines.append(_query_line(f"{chain.name}, {state}", rounds, rate, records, beside))
            title, limit = f"{chain.name}: queries, {state}", rates[solo.name, state]
            figures.append(Figure(title, round(rate), "answers/s", round(limit), round(rate / limit, 4)))
            figures.append(Figure(f"{title}: p99", round(_median(rounds, "p99_us")), "µs"))
            figures.append(Figure(f"{title}: records committed meanwhile", round(records), "records/s"))
    show(
        "Queries, every credential new, while publishers commit at half of what batches of 50 reached",
        [
            "one worker, one enclave a node",
            "answers/s",
            "× idle",
            "× solo",
            "worker + enclave µs",
            "p50 / p99 ms",
            "rec/s",
        ],
        lines,
        "load generator and clients on the same cores; samples of every round verified as a wallet does",
    )
    return figures


def _median(rounds: Sequence[Measured], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in rounds))


def _query_line(
    name: str, rounds: Sequence[Measured], rate: float, records: float, beside: tuple[float, float]
) -> list[str]:
    worker, enclave = (statistics.median(one.cpu_us[group] for one in rounds) for group in ("worker", "enclave"))
    return [
        name,
        f"{rate:,.0f}",
        *(f"{rate / one:.2f}" for one in beside),
        f"{worker:,.0f} + {enclave:,.0f}",
        f"{_median(rounds, 'p50_us') / 1000:.1f} / {_median(rounds, 'p99_us') / 1000:.1f}",
        f"{records:,.0f}",
    ]


def show_withdrawals(network: Chain) -> list[Figure]:
    lines, figures = [], []
    for state, found in network.withdrawn.items():
        places = [(f"a wallet at node {at} refuses", times) for at, times in enumerate(found.refused)]
        for what, times in (
            ("proven at the platform's node", found.answered),
            ("provable at every node", found.everywhere),
            *places,
            ("wallets at every node refuse", found.refused_everywhere),
        ):
            lines.append([f"{state}: {what}", f"{statistics.median(times):,.0f}", f"{max(times):,.0f}"])
            title = f"{network.name}: withdrawal, {state}: {what}"
            figures.append(Figure(f"{title}, median", round(statistics.median(times)), "ms", rounds=len(times)))
            figures.append(Figure(f"{title}, worst", round(max(times)), "ms", rounds=len(times)))
    show(
        f"A withdrawal through {network.name}: on a chain where nothing else is sent",
        ["from its sending", "median ms", "worst ms"],
        lines,
        "wallets with warm caches ask every 15 ms; each answer verified",
    )
    return figures


def show_spans(network: Chain) -> list[Figure]:
    lines = [[name, f"{ms:,.0f}"] for name, ms in network.spans]
    show(
        "Where the time of one transaction goes on an idle chain of four",
        ["span, seen at the engine of the client's node", "median ms"],
        lines,
        "from the withdrawals above",
    )
    return [Figure(f"{network.name}: time line: {name}", round(ms, 1), "ms") for name, ms in network.spans]
