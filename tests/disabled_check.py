"""Taking one check out of a verifier while a test runs: the very `raise` statement that an error came from.

So a test can show that a forged answer fails at one check alone: without it, everything else would pass.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

from onecode.errors import OnecodeError


class _WithoutRaise(ast.NodeTransformer):
    def __init__(self, line: int, leave: bool) -> None:
        self.line, self.leave, self.found = line, leave, 0

    def visit_Raise(self, node: ast.Raise) -> ast.AST | list[ast.stmt]:
        if not node.lineno <= self.line <= (node.end_lineno or node.lineno):
            return node
        self.found += 1
        told: list[ast.stmt] = list(ast.parse("__passed__()").body)
        if self.leave:
            told.append(ast.Return(value=None))
        return [ast.copy_location(ast.fix_missing_locations(ast.copy_location(s, node)), node) for s in told]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _function(scope: Any, qualified: str) -> FunctionType:
    found: Any = None
    for name in qualified.split("."):
        found = scope[name] if isinstance(scope, dict) else inspect.getattr_static(scope, name)
        found = getattr(found, "__func__", found)
        scope = found
    if not isinstance(found, FunctionType):
        raise TypeError(f"{qualified} is no function")
    return found


@contextmanager
def without_check(error: OnecodeError, *, leave: bool = False) -> Iterator[list[None]]:
    """The `raise` that `error` came from does nothing; with `leave` its function returns there.

    Yields a list that grows by one each time the statement is passed.
    """
    trace = error.__traceback__
    if trace is None:
        raise TypeError("the error was not raised")
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, scope, line = trace.tb_frame.f_code, trace.tb_frame.f_globals, trace.tb_lineno
    with open(code.co_filename, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    cut = _WithoutRaise(line, leave)
    tree = ast.fix_missing_locations(cut.visit(tree))
    if cut.found != 1:
        raise ValueError(f"{code.co_filename}:{line} is not one raise statement")
    made = next(
        inner
        for inner in _codes(compile(tree, code.co_filename, "exec", dont_inherit=True))
        if (inner.co_qualname, inner.co_firstlineno) == (code.co_qualname, code.co_firstlineno)
    )
    function, passed = _function(scope, code.co_qualname), []  # type: FunctionType, list[None]
    before = function.__code__
    scope["__passed__"] = lambda: passed.append(None)
    function.__code__ = made
    try:
        yield passed
    finally:
        function.__code__ = before
        del scope["__passed__"]
