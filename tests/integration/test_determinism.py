"""The same blocks in processes with other hash seeds, locales, time zones and pools give the same bytes. A process that
runs out of memory or room halts with an error by name, and what it has made durable is a part of what the others have.
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onecode.errors import Misconfigured
from onecode.registry.results import Result
from onecode.schema import to_plain
from unit.registry.history import long_history
from unit.registry.test_results import SCENARIOS
from unit.registry.world import Merchant, World

ENVIRONMENTS = (
    {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC", "PYTHONUTF8": "0"},
    {"PYTHONHASHSEED": "4242", "LC_ALL": "tr_TR.UTF-8", "TZ": "America/St_Johns", "PYTHONUTF8": "1"},
)
MEGABYTE = 1 << 20


class Recorded:
    """A world whose blocks are kept, each with broken copies of some of its transactions behind them."""

    def __init__(self, make: Callable[[], World]) -> None:
        self.blocks: list[tuple[int, int, list[str]]] = []
        self.random = random.Random(7)
        begin = World.block

        def block(world: World, *transactions: bytes, **options: Any) -> Any:
            outcome = begin(world, *transactions, **options)
            raw = [*transactions, *map(self.broken, transactions[:2])]
            texts = [base64.b64encode(one).decode("ascii") for one in raw]
            self.blocks.append((world.height, world.time_ms, texts))
            return outcome

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(World, "block", block)
            self.world = make()

    def broken(self, transaction: bytes) -> bytes:
        at = self.random.randrange(len(transaction))
        flipped = bytes((transaction[at] ^ 1 << self.random.randrange(8),))
        return self.random.choice(
            (transaction[:at], transaction[:at] + flipped + transaction[at + 1 :], transaction + flipped, transaction)
        )

    def plain(self) -> dict[str, Any]:
        genesis = json.dumps(to_plain(self.world.genesis)).encode("utf-8")
        return {"genesis": base64.b64encode(genesis).decode("ascii"), "blocks": self.blocks}


def reached(code: Result) -> World:
    world = World()
    SCENARIOS[code](world)
    return world


def growing() -> World:
    """Many records: what needs memory and room."""
    world = World()
    platform = world.platforms[0]
    for number in range(60):
        merchants = [Merchant(f"m{number}.{index}") for index in range(12)]
        world.block(
            *(
                world.publish(platform, world.first(merchant, platform, envelope=merchant.name.encode() * 300))
                for merchant in merchants
            )
        )
    return world


def write_chains(path: Path, **made: Callable[[], World]) -> Path:
    path.write_text(json.dumps({name: Recorded(make).plain() for name, make in made.items()}), "ascii")
    return path


def replay(chains: Path, directory: Path, environment: dict[str, str], **options: Any) -> tuple[int, list[str], str]:
    """Exit code, lines and what was said of an error."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join((str(root / "src"), str(root / "tests")))
    command = [sys.executable, str(root / "tests" / "integration" / "replay_process.py")]
    ended = subprocess.run(
        [*command, str(chains), str(directory), json.dumps(options)],
        env=os.environ | environment | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


@pytest.mark.timeout(600)
def test_other_seeds_locales_and_pools_give_the_same_bytes(tmp_path: Path) -> None:
    scenarios = {code.name: (lambda code=code: reached(code)) for code in Result}
    chains = write_chains(tmp_path / "chains", history=long_history, **scenarios)
    first = replay(chains, tmp_path / "a", ENVIRONMENTS[0])
    second = replay(chains, tmp_path / "b", ENVIRONMENTS[1], pool=True)
    assert first == second
    code, lines, said = first
    assert (code, said) == (0, "")
    assert {line.split()[0] for line in lines} == {"history", *(code.name for code in Result)}


@pytest.fixture(scope="module")
def growth(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The growing chain, and what a process with all it needs makes of it."""
    directory = tmp_path_factory.mktemp("growth")
    chains = write_chains(directory / "chains", growing=growing)
    code, lines, _ = replay(chains, directory / "whole", {})
    assert (code, len(lines)) == (0, 60)
    return chains, lines


def require_part_and_rest(
    growth: tuple[Path, list[str]], directory: Path, error: tuple[str, ...], **options: Any
) -> int:
    """The limited process halts with an error that is named; started again without the limit it goes on to the same
    end. Returns how many blocks it had made durable."""
    chains, whole = growth
    code, part, said = replay(chains, directory, {}, **options)
    assert code == Misconfigured.exit_code, said
    assert any(f"[{name}]" in said for name in error), said
    assert part == whole[: len(part)] and len(part) < len(whole)
    code, rest, said = replay(chains, directory, {})
    assert (code, said) == (0, "")
    assert rest == whole[-len(rest) :]
    assert len(whole) - 1 <= len(part) + len(rest) <= len(whole)  # it may have died between a commit and its line
    return len(part)


@pytest.mark.timeout(600)
def test_a_process_without_memory_halts(growth: tuple[Path, list[str]], tmp_path: Path) -> None:
    halted = {
        require_part_and_rest(growth, tmp_path / str(kilobytes), ("store.memory",), memory_bytes=kilobytes << 10)
        for kilobytes in (64, 512, 1_024, 1_536, 2_048)
    }
    assert len(halted) > 1  # at different places


@pytest.mark.timeout(600)
def test_a_full_store_halts(growth: tuple[Path, list[str]], tmp_path: Path) -> None:
    halted = {
        require_part_and_rest(growth, tmp_path / str(size), ("store.map_full",), map_bytes=size * MEGABYTE // 2)
        for size in (1, 3, 5)
    }
    assert len(halted) == 3
