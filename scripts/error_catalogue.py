"""Write docs/errors.md: every machine code that the source raises, found at the places that raise it.

Usage: python scripts/error_catalogue.py [--check]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onecode.errors import BRANCHES

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "onecode"
CATALOGUE = ROOT / "docs" / "errors.md"
KINDS = {kind.__name__: kind for kind in BRANCHES}
CODE = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")

HEAD = """# Errors

Generated from the places that raise them by `make docs`; do not edit.

Every refusal is one of five branches. A machine code is stable and belongs to one branch. Over HTTP it travels as an
RFC 9457 body (`application/problem+json`) with `title` = branch, `code`, `detail`, `status` and, where known, `field`
and `retry_after_ms`; on the command line the branch is the exit code. Only `Unreachable` is worth retrying.

| branch | meaning | HTTP status | exit code |
| --- | --- | --- | --- |
"""


class BadSite(Exception):
    """A place that raises an error of the tree against its rules."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place that makes an error."""

    code: str
    branch: str
    status: int
    message: str
    module: str


def _template(node: ast.expr) -> str:
    """A message as its author wrote it, with the expressions of an f-string in braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left) + _template(node.right)
    return "{" + ast.unparse(node) + "}"


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def sites_in(source: str, module: str) -> Iterator[Site]:
    """Every place in `source` that makes one of the five branches; raises BadSite for one that breaks the rules."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = _called(node)
        if name == "OnecodeError":
            raise BadSite(f"{module}:{node.lineno} raises OnecodeError; raise one of {', '.join(KINDS)}")
        kind = KINDS.get(name)
        if kind is None:
            continue
        where = f"{module}:{node.lineno} {name}"
        first = node.args[0] if node.args else None
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            raise BadSite(f"{where}: the first argument must be the code as a literal")
        if not CODE.fullmatch(first.value):
            raise BadSite(f"{where}: {first.value!r} is not a lower-case dotted code")
        if len(node.args) != 2:
            raise BadSite(f"{where}: give the message as the second argument and all others by name")
        status = kind.statuses[0]
        for keyword in node.keywords:
            if keyword.arg == "status" and isinstance(keyword.value, ast.Constant) and keyword.value.value is not None:
                given = keyword.value.value
                if not isinstance(given, int) or given not in kind.statuses:
                    raise BadSite(f"{where}: status {given!r} is not one of {kind.statuses}")
                status = given
        yield Site(first.value, name, status, _template(node.args[1]), module)


def all_sites(source_root: Path = SOURCE) -> list[Site]:
    """Every site of the package, by module and line."""
    found: list[Site] = []
    for path in sorted(source_root.rglob("*.py")):
        module = ".".join(path.relative_to(source_root.parent).with_suffix("").parts).removesuffix(".__init__")
        found += sites_in(path.read_text("utf-8"), module)
    return found


def branches_of(sites: list[Site]) -> dict[str, str]:
    """The branch of each code; raises BadSite for a code that stands in two."""
    owner: dict[str, Site] = {}
    for site in sites:
        other = owner.setdefault(site.code, site)
        if other.branch != site.branch:
            raise BadSite(f"{site.code} is {other.branch} in {other.module} and {site.branch} in {site.module}")
    return {code: site.branch for code, site in owner.items()}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def render(sites: list[Site]) -> str:
    """The page in Markdown."""
    lines = [HEAD.rstrip("\n")]
    for kind in BRANCHES:
        meaning = " ".join((kind.__doc__ or "").split())
        statuses = ", ".join(map(str, kind.statuses))
        lines.append(f"| `{kind.__name__}` | {meaning} | {statuses} | {kind.exit_code} |")
    lines += [
        "",
        "| code | branch | HTTP status | exit code | message | module |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for code, branch in sorted(branches_of(sites).items()):
        mine = [site for site in sites if site.code == code]
        statuses = ", ".join(str(status) for status in sorted({site.status for site in mine}))
        messages = "<br>".join(dict.fromkeys(_cell(site.message) for site in mine))
        modules = "<br>".join(dict.fromkeys(f"`{site.module}`" for site in mine))
        lines.append(f"| `{code}` | {branch} | {statuses} | {KINDS[branch].exit_code} | {messages} | {modules} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    page = render(all_sites())
    if "--check" in sys.argv[1:]:
        current = CATALOGUE.read_text("utf-8") if CATALOGUE.exists() else ""
        if current != page:
            print(f"{CATALOGUE.relative_to(ROOT)} is not what the source raises: run `make docs`", file=sys.stderr)
            return 1
        return 0
    CATALOGUE.parent.mkdir(exist_ok=True)
    CATALOGUE.write_text(page, "utf-8")
    print(f"wrote {CATALOGUE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
