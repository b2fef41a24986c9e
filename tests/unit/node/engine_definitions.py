"""The engine's own protobuf definitions, as its source at our version is compiled with them.

Each `*.pb.go` holds its `FileDescriptorProto`, gzipped, in a table of bytes. From these protobuf's own library makes
classes, so nothing of ours is between the engine's definitions and a test.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2

from conftest import ROOT

MODULE = "github.com/cometbft/cometbft"
ABCI = "tendermint/abci/types.proto"
_LIBRARYS_OWN = (timestamp_pb2.DESCRIPTOR, duration_pb2.DESCRIPTOR)
_OPTIONS_OF_GO = "gogoproto/gogo.proto"  # how Go's structures look; nothing of it is on the wire
_TABLE = re.compile(r"var fileDescriptor_\w+ = \[\]byte\{(.*?)\n\}", re.DOTALL)


def engine_version() -> str:
    found = re.search(r"^version=(\S+)$", (ROOT / "scripts" / "build_cometbft.sh").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def engine_source() -> Path:
    """The engine's source in Go's cache, fetched where there is Go. Without it the test is skipped, and fails in CI if
    there is Go."""
    wanted = f"{MODULE}@{engine_version()}"
    if not which("go"):
        pytest.skip(f"NO DEFINITIONS OF THE ENGINE, SO ABCI'S BYTES ARE NOT COMPARED: they come with Go, as {wanted}")
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    source = Path(cache) / wanted
    if not source.exists():
        fetched = subprocess.run(
            ["go", "mod", "download", wanted], capture_output=True, text=True, cwd="/", check=False
        )
        if fetched.returncode:
            message = f"NO DEFINITIONS OF THE ENGINE: go mod download {wanted}: {fetched.stderr.strip()}"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    return source


class Definitions:
    """`definitions.RequestCheckTx` is the class of that message of ABCI."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._pool = descriptor_pool.DescriptorPool()
        self._added = {_OPTIONS_OF_GO}
        for file in _LIBRARYS_OWN:
            self._pool.AddSerializedFile(file.serialized_pb)
            self._added.add(file.name)
        self._add(ABCI)

    def _add(self, name: str) -> None:
        if name in self._added:
            return
        self._added.add(name)
        place = "abci/types/types.pb.go" if name == ABCI else f"proto/{name.removesuffix('.proto')}.pb.go"
        table = _TABLE.search((self._source / place).read_text("utf-8"))
        assert table is not None, f"{place} holds no definitions"
        zipped = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})\b", re.sub(r"//.*", "", table[1])))
        described = descriptor_pb2.FileDescriptorProto.FromString(gzip.decompress(zipped))
        assert described.name == name
        for needed in described.dependency:
            self._add(needed)
        kept = [needed for needed in described.dependency if needed != _OPTIONS_OF_GO]
        del described.dependency[:]
        described.dependency.extend(kept)
        self._pool.AddSerializedFile(described.SerializeToString())

    def __getattr__(self, name: str) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"tendermint.abci.{name}"))

    def values(self, name: str) -> dict[str, int]:
        """An enum's names and numbers, by its name in `tendermint.abci`."""
        return {one.name: one.number for one in self._pool.FindEnumTypeByName(f"tendermint.abci.{name}").values}
