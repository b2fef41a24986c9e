"""Double entry, pure: which accounts there are and which transfers a business event makes.

A transfer moves a positive amount of one currency from one account (debited) to another (credited), so every journal
sums to zero in every currency by its form. Balances are credits minus debits: what the platform owes is positive, so
what it was given from outside is negative. `platform/ledger.py` keeps the same rules in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from onecode.errors import Declined, Malformed

AMOUNT_MINOR_MAX = (1 << 53) - 1


class AccountKind(IntEnum):
    """What an account is for, and who owns it (`owner`; empty for the platform itself)."""

    PAYER = 1  # owed to a payer: the wallet's balance; never below zero
    MERCHANT = 2  # owed to a merchant: amounts and the merchant's own fees
    TIPS = 3  # owed to a merchant for its staff
    FEES = 4  # the platform's income
    CLEARING = 5  # owed to a partner platform
    SANDBOX = 6  # where simulated money comes from


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """owner: payer's account, merchant id or partner's platform id; currency: ISO 4217, three letters."""

    kind: AccountKind
    owner: bytes
    currency: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount_minor` (above 0) out of `debit`, into `credit`."""

    debit: Account
    credit: Account
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Charge:
    """A payment's parts in minor units of `currency`. fee: the merchant's own, on top of the amount, paid by the payer;
    platform_fee: what the platform keeps of the merchant's money. payer: the account's owner; of the kind `CLEARING`
    where another platform pays for its payer."""

    payer: bytes
    merchant: bytes
    currency: str
    amount_minor: int
    tip_minor: int
    fee_minor: int
    platform_fee_minor: int
    payer_kind: AccountKind = AccountKind.PAYER

    @property
    def total_minor(self) -> int:
        """What the payer pays."""
        return self.amount_minor + self.tip_minor + self.fee_minor


@dataclass(frozen=True, slots=True)
class Parts:
    """What was paid, or given back, in minor units. kept: of the merchant's money, by the platform."""

    amount_minor: int
    tip_minor: int
    fee_minor: int
    kept_minor: int

    @property
    def total_minor(self) -> int:
        """What the payer paid, or gets."""
        return self.amount_minor + self.tip_minor + self.fee_minor


def transfer(debit: Account, credit: Account, amount_minor: int) -> Transfer:
    """A transfer that keeps the rules; raises `Malformed`."""
    if debit.currency != credit.currency or debit == credit:
        raise Malformed("books.accounts", "a transfer is between two accounts of one currency", field="currency")
    if not 0 < amount_minor <= AMOUNT_MINOR_MAX:
        raise Malformed("books.amount", "a transfer moves a positive amount", field="amount_minor")
    return Transfer(debit, credit, amount_minor)


def charge_transfers(charge: Charge) -> tuple[Transfer, ...]:
    """A payment to a merchant of this platform, by a payer of its own or by a partner."""
    payer = Account(charge.payer_kind, charge.payer, charge.currency)
    merchant = Account(AccountKind.MERCHANT, charge.merchant, charge.currency)
    tips = Account(AccountKind.TIPS, charge.merchant, charge.currency)
    fees = Account(AccountKind.FEES, b"", charge.currency)
    parts = (
        (payer, merchant, charge.amount_minor + charge.fee_minor),
        (payer, tips, charge.tip_minor),
        (merchant, fees, charge.platform_fee_minor),
    )
    return tuple(transfer(debit, credit, amount) for debit, credit, amount in parts if amount)


def clearing_transfers(charge: Charge, partner: bytes) -> tuple[Transfer, ...]:
    """A payment by a partner's record: the partner is owed all of it, and pays the merchant."""
    payer = Account(charge.payer_kind, charge.payer, charge.currency)
    return (transfer(payer, Account(AccountKind.CLEARING, partner, charge.currency), charge.total_minor),)


def refund_parts(paid: Parts, before: Parts, amount_minor: int, tip_minor: int) -> Parts:
    """What goes back for `amount_minor` of the amount and `tip_minor` of the tip, after the refunds in `before`.

    1. Something goes back. 2. Amount and tip together with `before` are at most what was paid. 3. Of the merchant's fee
    and of what the platform kept goes back the share of the amount refunded so far, rounded down, less what went back
    before: all of it with the last of the amount.
    """
    if amount_minor < 0 or tip_minor < 0 or amount_minor + tip_minor < 1:  # 1
        raise Malformed("refund.empty", "a refund gives back a positive amount or tip", field="amount_minor")
    amount, tip = before.amount_minor + amount_minor, before.tip_minor + tip_minor
    if amount > paid.amount_minor:  # 2
        raise Declined("refund.too_much", "no more goes back than was paid", field="amount_minor")
    if tip > paid.tip_minor:
        raise Declined("refund.too_much", "no more goes back than was paid", field="tip_minor")
    fee, kept = (whole * amount // paid.amount_minor for whole in (paid.fee_minor, paid.kept_minor))  # 3
    return Parts(amount_minor, tip_minor, fee - before.fee_minor, kept - before.kept_minor)


def refund_transfers(payer: Account, merchant: bytes, parts: Parts) -> tuple[Transfer, ...]:
    """A refund by the merchant's own platform. The merchant's account may fall below zero: it then owes."""
    own = Account(AccountKind.MERCHANT, merchant, payer.currency)
    moves = (
        (own, payer, parts.amount_minor + parts.fee_minor),
        (Account(AccountKind.TIPS, merchant, payer.currency), payer, parts.tip_minor),
        (Account(AccountKind.FEES, b"", payer.currency), own, parts.kept_minor),
    )
    return tuple(transfer(debit, credit, amount) for debit, credit, amount in moves if amount)


def funding_transfers(payer: bytes, opening_minor: Mapping[str, int]) -> tuple[Transfer, ...]:
    """Simulated money for a sandbox account, by currency."""
    return tuple(
        transfer(Account(AccountKind.SANDBOX, b"", currency), Account(AccountKind.PAYER, payer, currency), amount)
        for currency, amount in sorted(opening_minor.items())
    )


def reversed_transfers(transfers: Iterable[Transfer]) -> tuple[Transfer, ...]:
    """What takes a journal back."""
    return tuple(transfer(one.credit, one.debit, one.amount_minor) for one in transfers)


class Books:
    """Balances in memory by the same rules as the database's: the reference that tests hold the ledger to."""

    def __init__(self) -> None:
        self.balances: dict[Account, int] = {}
        self._journals: dict[str, tuple[Transfer, ...]] = {}

    def balance_minor(self, account: Account) -> int:
        """Credits minus debits."""
        return self.balances.get(account, 0)

    def post(self, key: str, transfers: Iterable[Transfer]) -> bool:
        """Post a journal whole or not at all; False, and nothing posted, if this key was posted before.

        Raises `Declined` if a payer's balance would fall below zero.
        """
        journal = tuple(transfers)
        if key in self._journals:
            return False
        after = dict(self.balances)
        for one in journal:
            after[one.debit] = after.get(one.debit, 0) - one.amount_minor
            after[one.credit] = after.get(one.credit, 0) + one.amount_minor
            if one.debit.kind == AccountKind.PAYER and after[one.debit] < 0:
                raise Declined("books.balance", "the account's balance is too low", field="amount_minor")
        self.balances, self._journals[key] = after, journal
        return True

    def totals_minor(self) -> dict[str, int]:
        """The sum of all balances by currency: always zero."""
        totals: dict[str, int] = {}
        for account, balance in self.balances.items():
            totals[account.currency] = totals.get(account.currency, 0) + balance
        return totals
