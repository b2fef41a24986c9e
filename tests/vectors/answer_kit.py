"""How an answer case is declared: a function that gets a fresh `Draft` and returns the answer, in a table by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onecode.errors import OnecodeError
from onecode.query.messages import Answer
from vectors.answer_scene import Draft

OK = "ok"
Make = Callable[[Draft], Answer | bytes]


@dataclass(frozen=True)
class Maker:
    """outcome: "ok" or the branch of the error. code: of the error. without: what the answer would be taken for if this
    one check were not made: "ok", the code of the next refusal, or None where nothing is left to go on with."""

    make: Make
    outcome: str
    code: str | None
    without: str | None


MAKERS: dict[str, Maker] = {}


def case(
    name: str, branch: type[OnecodeError] | None = None, code: str | None = None, *, without: str | None = OK
) -> Callable[[Make], Make]:
    """Keep a function under `name`; without a branch the answer is sound. Its docstring says what is wrong."""

    def keep(make: Make) -> Make:
        if name in MAKERS:
            raise ValueError(f"two cases are called {name}")
        MAKERS[name] = Maker(make, branch.branch if branch else OK, code, without if branch else None)
        return make

    return keep
