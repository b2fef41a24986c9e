"""What the architecture tests look for, as functions of source text, so that each can be shown a bad sample."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from line_count import docstring_lines

MODULE_LINES_MAX = 400
MODULE_LINES_WARN = 300
FUNCTION_LINES_MAX = 60

# A room imports only rooms of an earlier step; rooms of one step do not import each other.
STEPS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("wire",),
    ("kinds",),
    ("schema",),
    ("code", "record", "proof"),
    ("query",),
    ("registry", "attest"),
    ("host",),
    ("enclave",),
    ("keys", "node", "wallet", "platform"),
    ("network",),
    ("cli",),
    ("__main__",),
)
STEP_OF = {room: step for step, rooms in enumerate(STEPS) for room in rooms}
PURE_ROOMS = ("errors", "wire", "kinds", "schema", "code", "record", "proof", "query", "registry", "attest")

IMAGE_LIBRARIES = {"PIL", "segno", "zxingcpp", "fontTools", "reportlab"}
IMAGE_MODULES = ("onecode.code.image", "onecode.code.poster")
IMPURE_MODULES = {
    *("socket", "ssl", "select", "selectors", "asyncio", "http", "urllib.request", "httpx", "starlette", "uvicorn"),
    *("uvloop", "httptools", "lmdb", "sqlalchemy", "sqlite3", "time", "secrets", "random", "uuid", "nacl.utils"),
    *("os", "logging", "threading", "multiprocessing", "concurrent", "subprocess", "signal", "tempfile", "shutil"),
    *("pathlib", "importlib", "anyio", "click", "rich"),
}
CLOCK_MODULE = "onecode.host.clock"
CLOCK_CALLS = {
    *("time.time", "time.time_ns", "time.gmtime", "time.localtime", "time.clock_gettime", "time.clock_gettime_ns"),
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
}
IMPURE_CALLS = {"open", "print", "input", "__import__", "eval", "exec"}
IMPURE_METHODS = {"now", "utcnow", "today", "urandom", "token_bytes", "randombytes", "generate", "generate_key"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module as a dotted name; `from a.b import c` gives both a.b and a.b.c."""

    name: str
    line: int


def module_name(path: Path, source_root: Path) -> str:
    """Dotted name of the module in `path`; `source_root` is the directory of the package itself."""
    return ".".join(path.relative_to(source_root.parent).with_suffix("").parts)


def room_of(module: str) -> str:
    """The room of `onecode.room…`; empty for the package's own __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__init__" else ""


def imports_in(source: str, module: str) -> Iterator[Import]:
    """All imports of `source`, relative ones resolved, at whatever depth they stand."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [base])])
            yield Import(base, node.lineno)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)


def direction_faults(source: str, module: str) -> list[str]:
    """Imports of `source` that go against the direction of the rooms."""
    room = room_of(module)
    if room and room not in STEP_OF:
        return [f"{module}: the room {room!r} has no place in the order of rooms"]
    faults = []
    for item in imports_in(source, module):
        other = room_of(item.name) if item.name.split(".")[0] == "onecode" else ""
        if not other or other == room or (room and other in STEP_OF and STEP_OF[other] < STEP_OF[room]):
            continue
        faults.append(f"{module}:{item.line} imports {item.name}")
    return faults


def _hit(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def purity_faults(source: str, module: str) -> list[str]:
    """Imports and calls of a pure room's `source` that reach the outside world."""
    if room_of(module) not in PURE_ROOMS:
        return []
    faults = []
    forbidden = IMPURE_MODULES if module in IMAGE_MODULES else IMPURE_MODULES | IMAGE_LIBRARIES
    for item in imports_in(source, module):
        if _hit(item.name, forbidden):
            faults.append(f"{module}:{item.line} imports {item.name}")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in IMPURE_CALLS or name in IMPURE_METHODS or method in IMPURE_METHODS:
            faults.append(f"{module}:{node.lineno} calls {name or method}()")
    return faults


def clock_faults(source: str, module: str) -> list[str]:
    """Places that read the time of day by themselves: a test that shifts the clock would not shift it there."""
    if module == CLOCK_MODULE:
        return []
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ".".join(ast.unparse(node).split(".")[-2:])
            if name in CLOCK_CALLS:
                faults.append(f"{module}:{node.lineno} reads {name}: {CLOCK_MODULE} does")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            names = {alias.name for alias in node.names} & {"time", "time_ns", "gmtime", "localtime", "clock_gettime"}
            faults += [f"{module}:{node.lineno} imports time.{name}: {CLOCK_MODULE} reads the clock" for name in names]
    return faults


def size_faults(source: str, module: str) -> list[str]:
    """A module over its limit of lines."""
    lines = len(source.splitlines())
    return [f"{module} has {lines} lines, at most {MODULE_LINES_MAX}"] if lines > MODULE_LINES_MAX else []


def function_faults(source: str, module: str) -> list[str]:
    """Functions over their limit of lines; docstrings do not count, since a verifier's lists its steps."""
    tree = ast.parse(source)
    prose = docstring_lines(tree)
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = len(set(range(node.lineno, (node.end_lineno or node.lineno) + 1)) - prose)
            if lines > FUNCTION_LINES_MAX:
                faults.append(f"{module}:{node.lineno} {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}")
    return faults


def assert_faults(source: str, module: str) -> list[str]:
    """`assert` statements: python -O drops them."""
    return [f"{module}:{node.lineno} asserts" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]


def name_faults(source: str, module: str) -> list[str]:
    """Modules, rooms and classes whose name says nothing."""
    words = re.split(r"[._]", module)
    faults = [f"{module}: {word!r} says nothing" for word in words if word in VAGUE_NAMES]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and re.search(r"(Utils?|Helpers?|Manager)$", node.name):
            faults.append(f"{module}:{node.lineno} class {node.name} says nothing")
    return faults


def verified_faults(source: str, module: str) -> list[str]:
    """`Verified…` values built outside a function whose name starts with verify."""
    faults = []

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            within = inside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                within = inside or child.name.lstrip("_").startswith("verif")
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name | ast.Attribute) and not inside:
                name = child.func.id if isinstance(child.func, ast.Name) else child.func.attr
                if name.startswith("Verified") and name != "Verified":
                    faults.append(f"{module}:{child.lineno} builds {name} outside a verifier")
            visit(child, within)

    visit(ast.parse(source), False)
    return faults


# --- text of any file; the words are put together here so that this file does not hold them -------------------------


def _joined(*pairs: tuple[str, str]) -> list[str]:
    return [re.escape(a + b) for a, b in pairs]


REGISTRY_HOSTS = _joined(
    ("pypi", ".org"),
    ("python", "hosted"),
    ("npm", "js.org"),
    ("npm", "js.com"),
    ("proxy.go", "lang"),
    ("crates", ".io"),
    ("maven", ".org"),
    ("maven.apa", "che"),
    ("deb.deb", "ian"),
)
MACHINE_PATHS = [
    r"(?<![\w.])/wo" + r"rk/",
    r"(?<![\w.])/ro" + r"ot/",
    r"(?<![\w.])/ho" + r"me/\w",
    r"(?<![\w.])/opt/wh" + "eels",
    r"\.py" + r"env\b",
    r"/t" + r"mp/\w+/bin/",
]
OUTSIDE_WORDS = [
    r"\bclau" + r"de\b",
    r"\banthro" + "pic",
    r"\bopen" + r"ai\b",
    r"\bchat" + "gpt",
    r"\bco" + r"pilot\b",
    r"\bsub-?ag" + r"ents?\b",
    r"\bcoding ag" + r"ents?\b",
    r"\blanguage mo" + r"dels?\b",
    r"\bAI-gene" + "rated",
    r"\bllm" + r"s?\b",
    r"shared/no" + "tes",
    r"\bthe le" + r"ad (engineer|developer|wrote|commits)",
]
FORBIDDEN_TEXT = re.compile("|".join([*REGISTRY_HOSTS, *MACHINE_PATHS, *OUTSIDE_WORDS]), re.IGNORECASE)


def text_faults(text: str, name: str) -> list[str]:
    """Words, hosts and paths that a file of the project must not hold."""
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        found = FORBIDDEN_TEXT.search(line)
        if found:
            faults.append(f"{name}:{number} holds {found[0]!r}")
    return faults
