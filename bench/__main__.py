"""`make bench`, or `python -m bench`: answers, their parts, the map, four validators; tables, and build/bench.json.

Without options 10,000 merchants in under three minutes, then four validators beside `solo` in about two and a half,
where the engine is built; `--full` adds a million merchants.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

from bench import postgres
from bench.answers import Options, measure_state
from bench.figures import Figure, machine, save, show
from bench.load import generator_name
from bench.map import measure as measure_map
from bench.network import measure as measure_validators
from bench.parts import measure_parts
from bench.publish import measure as measure_publishing
from bench.state import build_state

OUTPUT = Path("build/bench.json")
SMALL, FULL = 10_000, 1_000_000
MAP_MERCHANTS = 100_000
MAP_S = 2.0


def measure_size(count: int, directory: Path, options: Options) -> list[Figure]:
    """Answers and parts with so many merchants."""
    place = directory / f"state-{count}"
    place.mkdir()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        state = build_state(place, count, pool)
        figures = measure_state(state, place, pool, options)
    figures += [Figure(f"{count:,} merchants: state built", round(state.built_s, 1), "s")]
    figures += [
        Figure(f"{count:,} merchants: {one.name}", one.value, one.unit, one.limit, one.ratio)
        for one in measure_parts(state)
    ]
    shutil.rmtree(place, ignore_errors=True)
    return figures


def measure_the_map(count: int, directory: Path) -> list[Figure]:
    """Proofs and durable updates of the map alone."""
    rows = measure_map(directory, count, MAP_S)
    lines = [[name, f"{speed:,.0f}", f"{1e6 / speed:.1f}"] for name, speed in rows]
    show(f"The map alone, {count:,} merchants", ["one process, one core", "a second", "µs each"], lines)
    return [Figure(f"map, {count:,} merchants: {name}", round(speed), "1/s") for name, speed in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Options()
    parser.add_argument("--full", action="store_true", help=f"also {FULL:,} merchants (minutes, and 4 GB of disk)")
    parser.add_argument("--merchants", type=int, action="append", help="these sizes instead; may be repeated")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--network", action="store_true", help="nothing but the validators")
    parts.add_argument("--no-network", action="store_true", help="all but the validators")
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each round of each row")
    parser.add_argument("--connections", type=int, default=usual.connections)
    parser.add_argument("--no-wrk", action="store_true", help="the own load generator even where wrk is installed")
    parser.add_argument("--directory", type=Path, help="where states are built (default: a temporary directory)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    options = Options(given.rounds, given.seconds, given.connections, allow_wrk=not given.no_wrk)
    start, about = time.perf_counter(), machine()
    about["load_generator"] = generator_name(allow_wrk=options.allow_wrk)
    about["postgresql"] = "installed" if postgres.installed() else "not installed"
    print(
        f"{about['cores']} cores, {about['cpu']}, Python {about['python']}; load before: {about['load_before']:.2f}\n"
    )
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="onecode-bench-", dir=given.directory) as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL runs as another user where this is root
        if not given.network:
            for count in given.merchants or ([SMALL, FULL] if given.full else [SMALL]):
                figures += measure_size(count, directory, options)
            figures += measure_the_map(FULL if given.full else MAP_MERCHANTS, directory)
            figures += measure_publishing(directory)
        if not given.no_network:
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                figures += measure_validators(directory, pool)
    save(given.output, about, figures)
    print(f"{len(figures)} figures in {given.output}; {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
