"""What can be said of a payload: both readings, every broken rule, the accounts, and what a wallet makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onecode.code.emv import Deviation, parse_payload
from onecode.code.reading import Code, ForeignCode, parse_code
from onecode.code.schemes import Account, accounts_in
from onecode.code.tlv import DataObject
from onecode.errors import Malformed, OnecodeError, Untrusted

KIND_STATIC, KIND_DYNAMIC, KIND_FOREIGN = "static", "dynamic", "foreign"


@dataclass(frozen=True, slots=True)
class Inspection:
    """One payload. lenient, strict, wallet: what that reader refuses it with, None where it accepts.

    deviations: every broken rule of MPM, none where `lenient` already refuses. kind and prefix (of the network): as our
    own reader takes the code, None where it refuses (`wallet`).
    """

    text: str
    lenient: OnecodeError | None
    strict: OnecodeError | None
    wallet: OnecodeError | None
    deviations: tuple[Deviation, ...]
    objects: tuple[DataObject, ...]
    accounts: tuple[Account, ...]
    kind: str | None
    code: Code | ForeignCode | None
    prefix: str | None


def inspect_payload(text: str, prefixes: Sequence[str]) -> Inspection:
    """Everything about a payload; raises nothing. prefixes: of the networks whose ids are ours, the first preferred."""
    try:
        payload = parse_payload(text, lenient=True)
    except Malformed as refusal:
        return Inspection(text, refusal, refusal, refusal, (), (), (), None, None, None)
    strict: OnecodeError | None = None
    try:
        parse_payload(text)
    except Malformed as refusal:
        strict = refusal
    wallet: OnecodeError | None = None
    code, prefix = None, None
    try:
        prefix, code = read_any(text, prefixes)
    except (Malformed, Untrusted) as refusal:
        wallet = refusal
    return Inspection(
        text=text,
        lenient=None,
        strict=strict,
        wallet=wallet,
        deviations=payload.deviations,
        objects=payload.objects,
        accounts=accounts_in(payload.objects),
        kind=None if code is None else kind_of(code),
        code=code,
        prefix=prefix,
    )


def kind_of(code: Code | ForeignCode) -> str:
    """ "static", "dynamic" or "foreign"."""
    if isinstance(code, ForeignCode):
        return KIND_FOREIGN
    return KIND_STATIC if code.order is None else KIND_DYNAMIC


def read_any(text: str, prefixes: Sequence[str]) -> tuple[str, Code | ForeignCode]:
    """The code, whichever of the networks it is of, with that one's prefix; for tools that show and do not pay."""
    for prefix in prefixes[:-1]:
        try:
            return prefix, parse_code(text, prefix=prefix)
        except Malformed as error:
            if error.code != "code.id_prefix":
                raise
    return prefixes[-1], parse_code(text, prefix=prefixes[-1])
