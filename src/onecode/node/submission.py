"""Transactions on their way to the writer: messages between a node's processes, and what HTTP says of the result."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.leaves import HASH
from onecode.registry.results import Result
from onecode.registry.transactions import BATCH_MAX, TRANSACTION_BYTES_MAX
from onecode.schema import Bool, Bytes, Choice, ListOf, Message, Uint, item

SUBMIT = 16  # frame kind: Submission -> Submitted
_RESULTS = {int(result): result for result in Result}
_UNKNOWN_FIX = "a merchant is known from its first published record on, a platform from its admission"


class Wait(IntEnum):
    """Until when an answer waits: until the transaction is in a block that is decided for good, or until the next
    header proves that. `solo` proves what it decides in the same step."""

    NONE = 0
    DECIDED = 1
    PROVEN = 2


class Submission(Message):
    transaction: bytes = item(1, Bytes(1, TRANSACTION_BYTES_MAX))
    wait: Wait = item(2, Choice(Wait))


class Submitted(Message):
    """What became of a transaction: decided at `height`, `proven` where the next header is there; refused before any
    block (`code` alone); or, where nobody waited, neither."""

    hash: bytes = item(1, HASH)
    height: int | None = item(2, Uint(), default=None)
    code: int | None = item(3, Uint(), default=None)
    items: tuple[int, ...] = item(4, ListOf(Uint(), BATCH_MAX))
    proven: bool = item(5, Bool(), default=False)


def result_name(code: int) -> str:
    """A result's name as the API gives it, e.g. "consent-missing"."""
    result = _RESULTS.get(code)
    return f"result-{code}" if result is None else result.name.lower().replace("_", "-")


def submitted_plain(submitted: Submitted) -> dict[str, Any]:
    """The JSON body of a transaction that was taken."""
    code = submitted.code
    return {
        "hash": submitted.hash.hex(),
        "height": submitted.height,
        "code": code,
        "name": None if code is None else result_name(code),
        "items": items_plain(submitted.items),
        "proven": submitted.proven,
    }


def items_plain(items: Sequence[int]) -> list[dict[str, Any]]:
    """Codes and names of a batch's items, in the batch's order."""
    return [{"code": one, "name": result_name(one)} for one in items]


def refused(submitted: Submitted) -> OnecodeError | None:
    """The error of a transaction that came into no block; None where it did, or nobody waited."""
    if submitted.height is not None or not submitted.code:
        return None
    code = submitted.code
    result = _RESULTS.get(code)
    text = f"{'refused' if result is None else result.meaning} ({result_name(code)})"
    if code == Result.SIGNER_UNKNOWN:
        text += f": {_UNKNOWN_FIX}"
    if code == Result.MALFORMED:
        return Malformed("transaction.malformed", text)
    if code in (Result.SIGNERS, Result.SIGNATURE, Result.SIGNER_UNKNOWN, Result.KEY_REFUSED):
        return Untrusted("transaction.untrusted", text)
    if code == Result.QUOTA:
        return Unreachable("transaction.quota", text, status=429, retry_after_ms=1_000)
    return Declined("transaction.declined", text)
