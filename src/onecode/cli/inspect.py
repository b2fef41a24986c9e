"""`onecode code inspect`: what is to be said of payloads, one or a file of many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from onecode.cli.code import PREFIXES, payload_of, read_file
from onecode.cli.console import OnecodeCommand, console, pairs
from onecode.code.inspection import Inspection, inspect_payload
from onecode.errors import Malformed, OnecodeError

LINES_MAX = 100_000


@click.command(cls=OnecodeCommand)
@click.argument("source")
@click.option("--strict", is_flag=True, help="Fail where the strict reading refuses, not only the lenient one.")
def inspect(source: str, strict: bool) -> None:
    """Say whether payloads are accepted, in strict and in lenient reading, and which rules they break.

    SOURCE is a payload, a picture, or a text file of payloads, one a line. Fails if one of them is refused.
    """
    many = _payloads(source)
    if many is None:
        found = inspect_payload(payload_of(source), PREFIXES)
        refusal = _refusal(found, strict)
        if refusal is not None and found.lenient is not None:
            raise refusal
        console().show(_plain(found), _lines(found))
        if refusal is not None:
            raise refusal
        return
    refused = deviating = 0
    for number, text in many:
        found = inspect_payload(text, PREFIXES)
        refused += _refusal(found, strict) is not None
        deviating += bool(found.deviations)
        console().show({"line": number, **_plain(found)}, [f"line {number}: {_verdict(found)}", *_faults(found)])
    if not console().as_json:
        click.echo(f"{len(many)} payloads: {refused} refused, {deviating} deviate from the specification")
    if refused:
        raise Malformed("cli.refused", f"{refused} of {len(many)} payloads are refused", field="source")


def _refusal(found: Inspection, strict: bool) -> OnecodeError | None:
    return found.strict if strict else found.lenient


def _payloads(source: str) -> list[tuple[int, str]] | None:
    """Line numbers and payloads of a text file; None where the source is a payload itself, or a picture."""
    if not os.path.isfile(source):  # Path.is_file raises on a long payload
        return None
    data = read_file(Path(source))
    if b"\0" in data[:1024]:  # as in pictures
        return None
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return None
    found = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not found or len(found) > LINES_MAX:
        raise Malformed("cli.payloads", f"{source} holds no payloads, or more than {LINES_MAX}", field="source")
    return found


def _problem(error: OnecodeError | None) -> dict[str, Any]:
    """A verdict for programs."""
    if error is None:
        return {"accepted": True}
    return {"accepted": False, "code": error.code, "object": error.field, "message": error.message}


def _plain(found: Inspection) -> dict[str, Any]:
    return {
        "payload": found.text,
        "kind": found.kind,
        "strict": _problem(found.strict),
        "lenient": _problem(found.lenient),
        "wallet": _problem(found.lenient or found.wallet),
        "deviations": [{"code": d.code, "object": d.object, "message": d.message} for d in found.deviations],
        "accounts": [{"id": one.id, "guid": one.guid, "scheme": one.scheme} for one in found.accounts],
        "objects": [{"id": item.id, "value": item.value} for item in found.objects],
    }


def _word(error: OnecodeError | None) -> str:
    return "accepted" if error is None else f"refused [{error.code}]"


def _verdict(found: Inspection) -> str:
    schemes = ", ".join(one.scheme or one.guid or one.id for one in found.accounts)
    return f"strict {_word(found.strict)}, lenient {_word(found.lenient)}" + (f": {schemes}" if schemes else "")


def _faults(found: Inspection) -> list[str]:
    if found.lenient is not None:
        return [f"  {found.lenient}"]
    lines = [f"  object {d.object}: {d.message} [{d.code}]" for d in found.deviations]
    return [*lines, f"  a wallet refuses it: {found.wallet}"] if found.wallet is not None else lines


def _lines(found: Inspection) -> list[str]:
    accounts = [(f"account {one.id}", one.scheme or one.guid or "unknown") for one in found.accounts]
    return [
        *pairs(*((item.id, item.value) for item in found.objects)),
        "",
        *pairs(("kind", found.kind), ("strict", _word(found.strict)), ("lenient", _word(found.lenient)), *accounts),
        *(_faults(found) or ["nothing deviates"]),
    ]
