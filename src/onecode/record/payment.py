"""The terms of the service `pay`: acquiring accounts, tip and fee policy. The only part of a record about money."""

from __future__ import annotations

from enum import IntEnum

from onecode.errors import Malformed
from onecode.schema import Choice, ListOf, Message, Nested, Text, Uint, item, parse

SERVICE_PAY = "pay"
_AMOUNT = Uint((1 << 53) - 1)


class TipMode(IntEnum):
    """As EMVCo object 55; NONE where the shop takes neither tip nor fee."""

    NONE = 0
    PROMPT = 1
    FIXED = 2
    PERCENTAGE = 3


def percentage_minor(amount_minor: int, hundredths_percent: int) -> int:
    """A percentage (3 % is 300) of an amount, rounded half up in minor units."""
    return (amount_minor * hundredths_percent + 5_000) // 10_000


class AcquiringAccount(Message):
    """Where the money of one currency goes. `store_labels` empty: any store of the merchant."""

    merchant_number: str = item(1, Text(35))  # the acquirer's merchant id
    settlement_reference: str = item(2, Text(35))
    currency: str = item(3, Text(3, 3))  # ISO 4217 alpha
    amount_min_minor: int | None = item(4, _AMOUNT, default=None)
    amount_max_minor: int | None = item(5, _AMOUNT, default=None)
    store_labels: tuple[str, ...] = item(6, ListOf(Text(25), 32))


class PaymentTerms(Message, extensible=True):
    accounts: tuple[AcquiringAccount, ...] = item(1, ListOf(Nested(AcquiringAccount), 16, min=1))
    tip_mode: TipMode = item(2, Choice(TipMode))
    fee_fixed_minor: int | None = item(3, _AMOUNT, default=None)
    fee_hundredths_percent: int | None = item(4, Uint(9999), default=None)  # 3 % is 300

    def fee_minor(self, amount_minor: int) -> int:
        """The fee on an amount without tip, in minor units; a percentage rounds half up."""
        if self.tip_mode == TipMode.PERCENTAGE:
            return percentage_minor(amount_minor, self.fee_hundredths_percent or 0)
        return self.fee_fixed_minor or 0 if self.tip_mode == TipMode.FIXED else 0

    def account_for(self, currency: str, store_label: str | None = None) -> AcquiringAccount | None:
        """The account of a currency, one that names the store before one for any store."""
        fits = [a for a in self.accounts if a.currency == currency]
        named = [a for a in fits if store_label is not None and store_label in a.store_labels]
        general = [a for a in fits if not a.store_labels]
        return next(iter(named or general), None)


def parse_terms(data: bytes) -> PaymentTerms:
    """Payment terms of untrusted bytes; the tip fields must fit the mode."""
    terms = parse(PaymentTerms, data, path="record.terms")
    if (terms.fee_fixed_minor is not None) != (terms.tip_mode == TipMode.FIXED):
        raise Malformed("record.tip", "a fixed fee belongs to tip mode `fixed`", field="record.terms.fee_fixed_minor")
    if (terms.fee_hundredths_percent is not None) != (terms.tip_mode == TipMode.PERCENTAGE):
        raise Malformed(
            "record.tip", "a percentage belongs to tip mode `percentage`", field="record.terms.fee_hundredths_percent"
        )
    return terms
