"""Count the lines of code that a wallet and an enclave must trust, and keep the README's numbers equal to the count.

A line of code holds at least one token that is not a comment or part of a docstring.
Usage: python scripts/line_count.py
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "onecode"
README = ROOT / "README.md"

# What verifies for a wallet, and the one process that sees records in the clear on a node.
TRUSTED = (
    "errors.py",
    "wire.py",
    "kinds.py",
    "schema.py",
    "record/**/*.py",
    "proof/**/*.py",
    "query/**/*.py",
    "wallet/resolve*.py",
)
ENCLAVE = ("enclave/**/*.py",)

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def docstring_lines(tree: ast.AST) -> set[int]:
    """The numbers of the lines that docstrings stand on."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def code_lines(source: str) -> int:
    """Lines of code in `source`, without blank lines, comments and docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(source)))


def count(patterns: Iterable[str], source_root: Path = SOURCE) -> int:
    """Lines of code in the files that `patterns` name under `source_root`."""
    paths = {path for pattern in patterns for path in source_root.glob(pattern)}
    return sum(code_lines(path.read_text("utf-8")) for path in sorted(paths))


def trusted_lines() -> int:
    """Lines of code that a wallet relies on when it verifies an answer."""
    return count(TRUSTED)


def enclave_lines() -> int:
    """Lines of code of the enclave's own room."""
    return count(ENCLAVE)


def published(readme: str, name: str) -> int | None:
    """The number between `<!-- name -->` and `<!-- /name -->` in `readme`; None without such a place."""
    found = re.search(rf"<!-- {name} -->([0-9,]+)<!-- /{name} -->", readme)
    return int(found[1].replace(",", "")) if found else None


def with_counts(readme: str) -> str:
    """`readme` with the numbers as they are now."""
    for name, number in (("trusted-lines", trusted_lines()), ("enclave-lines", enclave_lines())):
        readme = re.sub(rf"(<!-- {name} -->)[^<]*(<!-- /{name} -->)", rf"\g<1>{number:,}\g<2>", readme)
    return readme


def main() -> int:
    if README.exists():
        README.write_text(with_counts(README.read_text("utf-8")), "utf-8")
    print(f"trusted by a wallet: {trusted_lines():,} lines of code; the enclave: {enclave_lines():,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
