"""An engine whose clock is off: CometBFT as it is, but what it takes for the time of votes, proposals and blocks is
shifted by what the file ONECODE_TEST_CLOCK says.

A Go program asks the kernel's page for the time and no library, so its clock cannot be shifted from outside. Timers and
log lines keep the machine's time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

MODULE = "github.com/cometbft/cometbft@v0.39.4"  # the version of scripts/build_cometbft.sh
NOW = "return Canonical(time.Now())"
SHIFTED = "return Canonical(time.Now().Add(shift()))"
SHIFT = """
func shift() time.Duration {
	text, _ := os.ReadFile(os.Getenv("ONECODE_TEST_CLOCK"))
	ms, _ := strconv.Atoi(string(text))
	return time.Duration(ms) * time.Millisecond
}
"""


def why_not() -> str | None:
    """Why it cannot be built here; None where it can."""
    if shutil.which("go") is None:
        return "no Go"
    return None if _source().is_dir() else "the engine's source is not in Go's module cache"


def _source() -> Path:
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    return Path(cache) / MODULE


def build(directory: Path) -> Path:
    """Build it in `directory`, which takes about half a minute; returns the binary."""
    source, binary = directory / "source", directory / "cometbft"
    shutil.copytree(_source(), source)
    for path in [source, *source.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    clock = source / "types" / "time" / "time.go"
    text = clock.read_text("utf-8")
    assert text.count(NOW) == 1 and text.count('import (\n\t"sort"') == 1, "the engine's clock is another function now"
    imports = 'import (\n\t"os"\n\t"sort"\n\t"strconv"'
    clock.write_text(text.replace(NOW, SHIFTED).replace('import (\n\t"sort"', imports) + SHIFT, "utf-8")
    validation = source / "state" / "validation.go"  # a block from the future is refused by the machine's clock
    text = validation.read_text("utf-8")
    assert text.count("time.Now()") == 2, "the engine judges a block's time elsewhere now"
    text = text.replace("time.Now()", "shifted.Now()").replace(
        '\t"time"\n', '\t"time"\n\n\tshifted "github.com/cometbft/cometbft/types/time"\n', 1
    )
    validation.write_text(text, "utf-8")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "build", "-o", binary, "./cmd/cometbft"], cwd=source, env=environment, check=True)
    shutil.rmtree(source)
    return binary
