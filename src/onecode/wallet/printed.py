"""What is printed in a code beside what the record says. The record wins; each difference has its own machine code."""

from __future__ import annotations

from dataclasses import dataclass

from onecode.code.currency import BY_NUMERIC
from onecode.code.reading import Code, ForeignCode
from onecode.record.payment import PaymentTerms
from onecode.record.schema import Record

PRINTED_NAME_CHARS_MAX = 25  # EMVCo object 59

NAME_DIFFERS = "differs.name"
MCC_DIFFERS = "differs.mcc"
COUNTRY_DIFFERS = "differs.country"
CURRENCY_DIFFERS = "differs.currency"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the code prints and the record says otherwise. `recorded` is what holds."""

    code: str
    printed: str
    recorded: str


def find_differences(code: Code | ForeignCode, record: Record, terms: PaymentTerms) -> tuple[Difference, ...]:
    """Where the code and the record differ in name, MCC, country or currency; what the code lacks does not differ.

    A printed name may be cut to the 25 characters that a code has room for, and be in capitals. The currency differs
    if the record has no account in it.
    """
    found = []
    if code.name is not None and not _same_name(code.name, record):
        found.append(Difference(NAME_DIFFERS, code.name, record.display_name))
    if code.mcc not in (None, "0000", record.mcc):  # 0000: the label's issuer did not know it
        found.append(Difference(MCC_DIFFERS, code.mcc or "", record.mcc))
    if code.country not in (None, record.country):
        found.append(Difference(COUNTRY_DIFFERS, code.country or "", record.country))
    if code.currency is not None:
        known = BY_NUMERIC.get(code.currency)
        printed = known.alpha if known else code.currency
        accounts = list(dict.fromkeys(account.currency for account in terms.accounts))
        if printed not in accounts:
            found.append(Difference(CURRENCY_DIFFERS, printed, " ".join(accounts)))
    return tuple(found)


def _same_name(printed: str, record: Record) -> bool:
    name = " ".join(printed.split()).casefold()
    recorded = " ".join(record.display_name.split()).casefold()
    return name in (recorded, recorded[:PRINTED_NAME_CHARS_MAX].rstrip())
