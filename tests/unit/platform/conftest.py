"""One network for all tests of the platform; each test has a platform server with an empty database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.platform.world import Keys, Node, Payer, Server


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[Keys]:
    directory = tmp_path_factory.mktemp("keys")
    return [Keys(directory / name, name) for name in ("alpha", "beta", "gamma", "delta")]


@pytest.fixture(scope="session")
def node(keys: list[Keys]) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="node") as short:  # a Unix socket's path is at most 107 bytes
        made = Node(Path(short), [one.admission for one in keys])
        for one in keys:
            one.save_trust(made)
        yield made
        made.stop()


@pytest.fixture
def server(node: Node, keys: list[Keys], tmp_path: Path) -> Iterator[Server]:
    made = Server(keys[0].config(tmp_path, node.url))
    yield made
    made.stop()


@pytest.fixture
def payer(server: Server) -> Payer:
    return Payer(server)
