"""Write docs/spec/messages.md: every message with its field numbers, from the declarations in the source.

Usage: python scripts/spec_tables.py [--check]
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

from onecode.schema import REGISTERED
from onecode.wire import Domain

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "spec" / "messages.md"
ROOMS = ("record", "proof", "query", "registry", "attest", "enclave", "node", "network")

HEAD = """# Messages

Generated from the declarations in `src/onecode` by `make docs`; do not edit. How a message becomes bytes is in
[bytes.md](bytes.md). A field that is not marked optional must be there. A field number that is not listed is refused,
but for numbers of 64 and above in a message marked extensible.

## Domains

| domain | name in the code |
| --- | --- |
"""


def load_messages() -> None:
    """Import every module that may declare a message."""
    for room in ROOMS:
        for path in sorted((ROOT / "src" / "onecode" / room).glob("*.py")):
            if path.stem not in ("__main__", "process"):
                importlib.import_module(f"onecode.{room}" + ("" if path.stem == "__init__" else f".{path.stem}"))


def page() -> str:
    load_messages()
    out = [HEAD + "\n".join(f"| `{domain.value}` | {domain.name} |" for domain in Domain)]
    modules: dict[str, list[str]] = {}
    for name, cls in REGISTERED.items():
        if cls.__module__.startswith("onecode."):
            modules.setdefault(cls.__module__, []).append(name)
    for module in sorted(modules):
        out.append(f"\n\n## {module.removeprefix('onecode.').replace('.', '/')}")
        for name in modules[module]:
            cls = REGISTERED[name]
            doc = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
            doc = "" if doc.startswith(f"{name}(") else doc
            title = f"\n\n### {name}" + (" (extensible)" if cls.EXTENSIBLE else "")
            out.append(title + (f"\n\n{doc}" if doc else "") + "\n")
            if not cls.FIELDS:
                out.append("\nNo fields.")
                continue
            out.append("\n| number | field | holds | |\n| --- | --- | --- | --- |")
            for spec in cls.FIELDS:
                mark = "optional" if spec.optional else ""
                out.append(f"\n| {spec.number} | {spec.name} | {spec.kind.describe()} | {mark} |")
    return "".join(out) + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv:
        return 0 if PAGE.exists() and PAGE.read_text("utf-8") == text else 1
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
