"""The one error tree: five branches, one HTTP mapping, one exit code each.

Every refusal in Onecode is one of the five branches below, with a stable machine code. The code is the literal first
argument at the place that raises; `docs/errors.md` is generated from those places, so there is no second list to keep.
A message names the field and the fix and never repeats a record's plaintext.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar


class OnecodeError(Exception):
    """Base of the tree; raise one of the five branches, never this class.

    code: stable, lower case, dotted, e.g. "wire.not_canonical". A code belongs to one branch only.
    message: one sentence for a person: what is wrong and what to do.
    field: the path of the offending field, e.g. "record.accounts[2].currency", or None.
    status: HTTP status if it differs from the branch's default; must be one of the branch's `statuses`.
    retry_after_ms: hint for `Unreachable`.
    """

    branch: ClassVar[str] = ""
    statuses: ClassVar[tuple[int, ...]] = ()
    exit_code: ClassVar[int] = 70

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        status: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.status = status if status in self.statuses else self.statuses[0]
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        where = f" (field {self.field})" if self.field else ""
        return f"{self.message}{where} [{self.code}]"

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 body of this error (`application/problem+json`)."""
        body: dict[str, Any] = {
            "type": f"urn:onecode:error:{self.code}",
            "title": self.branch,
            "status": self.status,
            "detail": self.message,
            "code": self.code,
        }
        if self.field is not None:
            body["field"] = self.field
        if self.retry_after_ms is not None:
            body["retry_after_ms"] = self.retry_after_ms
        return body


class Malformed(OnecodeError):
    """It does not parse, or breaks a limit of size or shape."""

    branch = "Malformed"
    statuses = (400, 404, 405, 413, 415)
    exit_code = 2


class Untrusted(OnecodeError):
    """It parses, but what it claims is not established."""

    branch = "Untrusted"
    statuses = (401, 403)
    exit_code = 3


class Declined(OnecodeError):
    """The honest answer is no."""

    branch = "Declined"
    statuses = (409, 404)
    exit_code = 4


class Unreachable(OnecodeError):
    """No answer could be had. The only branch that is worth retrying."""

    branch = "Unreachable"
    statuses = (503, 408, 429)
    exit_code = 5


class Misconfigured(OnecodeError):
    """This installation is set up wrongly; its operator must act."""

    branch = "Misconfigured"
    statuses = (500,)
    exit_code = 6


DETAIL_CHARS_MAX = 300
_CODE = re.compile(r"[a-z0-9_.-]{1,64}")
BRANCHES: tuple[type[OnecodeError], ...] = (Malformed, Untrusted, Declined, Unreachable, Misconfigured)


def printable(text: str) -> str:
    """Somebody else's words, fit for a terminal or a log: no controls, no direction marks, at most 300 characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:DETAIL_CHARS_MAX])


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in somebody else's bytes, or None; nested too deep for the parser is no object either."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def answer_error(status: int, data: bytes) -> OnecodeError:
    """The error in a server's answer that is no success."""
    body = json_object(data)
    if body is not None and "code" in body:
        return from_problem(body)
    return Unreachable("http.status", f"the server answered with status {status} and gave no reason")


def from_problem(body: dict[str, Any]) -> OnecodeError:
    """The error that a server described in an RFC 9457 body; an unknown title is `Unreachable`."""
    kinds = {kind.branch: kind for kind in BRANCHES}
    kind = kinds.get(str(body.get("title", "")), Unreachable)
    status, retry = body.get("status"), body.get("retry_after_ms")
    field, code = body.get("field"), str(body.get("code", ""))
    return kind(
        code if _CODE.fullmatch(code) else "http.unknown",
        printable(str(body.get("detail", "the server gave no reason"))),
        field=printable(str(field)) if field is not None else None,
        status=status if isinstance(status, int) else None,
        retry_after_ms=retry if isinstance(retry, int) else None,
    )
