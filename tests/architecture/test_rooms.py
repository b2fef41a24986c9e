"""Imports, purity, sizes and names of the source, from the source itself; each rule is first shown a bad sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from architecture import source_rules as rules

LONG_FUNCTION = "def long():\n" + "    x = 1\n" * rules.FUNCTION_LINES_MAX
LONG_MODULE = "x = 1\n" * (rules.MODULE_LINES_MAX + 1)

RULES: dict[str, Callable[[str, str], list[str]]] = {
    "direction": rules.direction_faults,
    "purity": rules.purity_faults,
    "one clock": rules.clock_faults,
    "module size": rules.size_faults,
    "function size": rules.function_faults,
    "no assert": rules.assert_faults,
    "names": rules.name_faults,
    "verified": rules.verified_faults,
}

BAD = [
    ("direction", "onecode.wire", "from onecode.schema import parse"),
    ("direction", "onecode.proof.header", "import onecode.query.messages"),
    ("direction", "onecode.proof.header", "from onecode import record"),
    ("direction", "onecode.proof.header", "from ..record import envelope"),
    ("direction", "onecode.wallet.pay", "def late():\n    from onecode.platform import books"),
    ("direction", "onecode.errors", "from .wire import frame"),
    ("direction", "onecode.extra.thing", "x = 1"),
    ("direction", "onecode.cli.main", "import onecode.extra"),
    ("purity", "onecode.wire", "import time"),
    ("purity", "onecode.proof.header", "from os import urandom"),
    ("purity", "onecode.registry.rules", "import datetime\nx = datetime.datetime.now()"),
    ("purity", "onecode.query.seal", "key = X25519PrivateKey.generate()"),
    ("purity", "onecode.query.seal", "from nacl.utils import random"),
    ("purity", "onecode.attest.claims", "import urllib.request"),
    ("purity", "onecode.registry.state", "open('x')"),
    ("purity", "onecode.code.payload", "import segno"),
    ("purity", "onecode.record.envelope", "from PIL import Image"),
    ("purity", "onecode.code.label", "from reportlab.pdfgen.canvas import Canvas"),
    ("one clock", "onecode.node.comet", "import time\nx = time.time_ns()"),
    ("one clock", "onecode.node.comet", "from time import time"),
    ("one clock", "onecode.cli.main", "import datetime\nx = datetime.datetime.now()"),
    ("one clock", "onecode.cli.main", "from datetime import date\nx = date.today()"),
    ("module size", "onecode.wire", LONG_MODULE),
    ("function size", "onecode.wire", LONG_FUNCTION),
    ("no assert", "onecode.wire", "assert 1"),
    ("names", "onecode.wire_utils", "x = 1"),
    ("names", "onecode.common.thing", "x = 1"),
    ("names", "onecode.node.keys", "class KeyManager: ..."),
    ("verified", "onecode.wallet.pay", "def pay():\n    return VerifiedRecord(1)"),
    ("verified", "onecode.wallet.pay", "x = header.VerifiedHeader(1)"),
]

GOOD = [
    ("direction", "onecode.proof.header", "from onecode.wire import frame\nfrom .leaves import Leaf\nimport json"),
    ("direction", "onecode.cli.main", "from onecode import wallet"),
    ("purity", "onecode.code.image", "import segno, zxingcpp\nfrom PIL import Image"),
    ("purity", "onecode.code.image", "Image.open(stream)"),
    ("purity", "onecode.code.poster", "from fontTools.ttLib import TTFont\nimport reportlab"),
    ("purity", "onecode.node.clock", "import time"),
    ("one clock", "onecode.node.comet", "import time\nx = time.monotonic()"),
    ("one clock", "onecode.host.clock", "import time\nx = time.time_ns()"),
    ("purity", "onecode.wire", "import hashlib"),
    ("function size", "onecode.wire", 'def long():\n    """' + "step\n" * 80 + '"""\n    return 1\n'),
    ("verified", "onecode.wallet.resolve", "def verify_record():\n    return VerifiedRecord(1)"),
]


@pytest.mark.parametrize(("rule", "module", "source"), BAD)
def test_a_rule_sees_a_bad_sample(rule: str, module: str, source: str) -> None:
    assert RULES[rule](source, module)


@pytest.mark.parametrize(("rule", "module", "source"), GOOD)
def test_a_rule_lets_a_good_sample_pass(rule: str, module: str, source: str) -> None:
    assert RULES[rule](source, module) == []


@pytest.mark.parametrize("rule", RULES)
def test_the_source_keeps_the_rule(rule: str, root: Path) -> None:
    package = root / "src" / "onecode"
    paths = sorted(package.rglob("*.py"))
    assert paths, "no source found"
    faults = []
    for path in paths:
        faults += RULES[rule](path.read_text("utf-8"), rules.module_name(path, package))
    assert faults == [], "\n".join(faults)


def test_modules_that_grow_are_named(root: Path) -> None:
    package = root / "src" / "onecode"
    for path in sorted(package.rglob("*.py")):
        lines = len(path.read_text("utf-8").splitlines())
        if lines > rules.MODULE_LINES_WARN:
            name = path.relative_to(root)
            warnings.warn(f"{name} has {lines} lines; split it before {rules.MODULE_LINES_MAX}", stacklevel=1)
