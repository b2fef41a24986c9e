"""The books in the database: journals of transfers, posted once each, and the trial balance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from onecode.errors import Declined, Misconfigured
from onecode.platform.books import Account, AccountKind, Transfer
from onecode.platform.schema import Journal, LedgerAccount, TransferRow


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """balances: by account, ascending; totals_minor: by currency, each zero."""

    balances: tuple[tuple[Account, int], ...]
    totals_minor: dict[str, int]


def _account_id(session: Session, account: Account) -> int:
    values = {"kind": int(account.kind), "owner": account.owner, "currency": account.currency}
    session.execute(insert_or(LedgerAccount).values(**values, debits_minor=0, credits_minor=0).on_conflict_do_nothing())
    return session.execute(
        select(LedgerAccount.id).where(
            LedgerAccount.kind == values["kind"],
            LedgerAccount.owner == account.owner,
            LedgerAccount.currency == account.currency,
        )
    ).scalar_one()


def post_journal(session: Session, key: str, transfers: Iterable[Transfer], time_ms: int) -> bool:
    """Post a journal in the session's transaction; False, and nothing posted, if this key was posted before.

    Raises `Declined` if a payer's balance would fall below zero; the caller's transaction must then end.
    """
    if session.scalar(select(Journal.id).where(Journal.key == key)) is not None:
        return False
    journal = session.execute(insert(Journal).values(key=key, time_ms=time_ms).returning(Journal.id)).scalar_one()
    for one in transfers:
        row = {
            "journal": journal,
            "debit": _account_id(session, one.debit),
            "credit": _account_id(session, one.credit),
            "amount_minor": one.amount_minor,
        }
        try:
            session.execute(insert(TransferRow).values(**row))
        except IntegrityError as error:
            if "payer_not_negative" in str(error.orig):
                raise Declined("books.balance", "the account's balance is too low", field="amount_minor") from None
            raise
    return True


def journal_transfers(session: Session, key: str) -> tuple[Transfer, ...]:
    """The transfers of a journal, as they were posted."""
    debit, credit = aliased(LedgerAccount), aliased(LedgerAccount)
    rows = session.execute(
        select(debit, credit, TransferRow.amount_minor)
        .join(Journal, Journal.id == TransferRow.journal)
        .join(debit, debit.id == TransferRow.debit)
        .join(credit, credit.id == TransferRow.credit)
        .where(Journal.key == key)
        .order_by(TransferRow.id)
    )
    return tuple(Transfer(_account(out), _account(into), amount) for out, into, amount in rows)


def load_balances(session: Session, kind: AccountKind, owner: bytes) -> dict[str, int]:
    """Balances in minor units by currency."""
    rows = session.scalars(
        select(LedgerAccount)
        .where(LedgerAccount.kind == int(kind), LedgerAccount.owner == owner)
        .order_by(LedgerAccount.currency)
    )
    return {row.currency: row.credits_minor - row.debits_minor for row in rows}


def load_trial_balance(session: Session) -> TrialBalance:
    """Every account's balance, added up anew from all transfers; raises `Misconfigured` if the kept ones differ."""
    moved: dict[int, int] = {}
    for side, sign in ((TransferRow.debit, -1), (TransferRow.credit, 1)):
        for account, amount in session.execute(select(side, func.sum(TransferRow.amount_minor)).group_by(side)):
            moved[account] = moved.get(account, 0) + sign * amount
    rows = session.scalars(
        select(LedgerAccount).order_by(LedgerAccount.kind, LedgerAccount.owner, LedgerAccount.currency)
    )
    balances: list[tuple[Account, int]] = []
    totals: dict[str, int] = {}
    for row in rows:
        balance = row.credits_minor - row.debits_minor
        if balance != moved.get(row.id, 0):
            raise Misconfigured("books.broken", "a kept balance is not the sum of its transfers: stop and look")
        balances.append((_account(row), balance))
        totals[row.currency] = totals.get(row.currency, 0) + balance
    return TrialBalance(tuple(balances), totals)


def _account(row: LedgerAccount) -> Account:
    return Account(AccountKind(row.kind), row.owner, row.currency)
