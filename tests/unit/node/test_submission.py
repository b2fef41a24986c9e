"""What HTTP says of a transaction that came into no block."""

from __future__ import annotations

import pytest

from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.node.submission import Submitted, refused
from onecode.registry.results import Result


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (Result.MALFORMED, Malformed, "does not parse"),
        (Result.SIGNER_UNKNOWN, Untrusted, "a merchant is known from its first published record on"),
        (Result.KEY_REFUSED, Untrusted, "not an active key"),
        (Result.QUOTA, Unreachable, "send it again"),
        (Result.VERSION, Declined, "not exactly the next one"),
    ],
)
def test_a_refusal_says_what_to_do(code: Result, kind: type[OnecodeError], words: str) -> None:
    error = refused(Submitted(hash=bytes(32), code=int(code), items=()))
    assert isinstance(error, kind)
    assert words in error.message
