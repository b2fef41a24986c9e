"""The engine as a child: what is said when it cannot be started or ends at once. All else: tests/integration."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from onecode.errors import Misconfigured, Unreachable
from onecode.node.comet import Comet, CometConfig
from onecode.node.engine_home import EngineSettings
from onecode.node.store import StoreConfig
from unit.registry.world import START_MS, World, signing_key


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="comet-") as directory:  # a Unix socket's path is at most 107 bytes
        yield Path(directory)


def made(directory: Path, binary: str) -> Comet:
    settings = EngineSettings(directory / "engine", directory / "s", 1, "127.0.0.1:1", "node")
    config = CometConfig(Path(binary), settings, directory / "store", StoreConfig(map_bytes=16 << 20))
    return Comet(config, World().genesis, signing_key("validator"), signing_key("node"), lambda: START_MS)


def test_a_binary_that_is_not_there(short: Path) -> None:
    with pytest.raises(Misconfigured) as raised:
        made(short, "/absent").start()
    assert raised.value.code == "engine.binary"


def test_an_engine_that_ends_before_it_connects(short: Path) -> None:
    comet = made(short, "/bin/false")
    comet.start()
    with pytest.raises(Unreachable) as raised:
        comet.wait()
    assert raised.value.code == "engine.ended"
    with pytest.raises(Unreachable) as refused:
        comet.enqueue(b"a")
    assert refused.value.code == "engine.stopped"
    comet.stop()


def test_a_transaction_that_no_engine_takes(short: Path) -> None:
    binary = short / "sleeper"
    binary.write_text("#!/bin/sh\nexec sleep 60\n", "ascii")
    binary.chmod(0o700)
    comet = made(short, str(binary))
    comet.start()
    with pytest.raises(Unreachable) as raised:
        comet.enqueue(b"a").result(10)
    assert raised.value.code == "engine.unreachable"
    assert comet.queue_length == 0
    comet.stop()


def test_a_store_that_cannot_be_opened(short: Path) -> None:
    (short / "store").write_bytes(b"no directory")
    with pytest.raises(Misconfigured):
        made(short, "/bin/false").start()
