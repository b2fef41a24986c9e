"""The books under any sequence of events: they balance, no payer falls below zero, nothing is posted twice, and the
database keeps exactly the balances of the model in memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from onecode.errors import Declined
from onecode.platform.books import (
    AMOUNT_MINOR_MAX,
    AccountKind,
    Books,
    Charge,
    charge_transfers,
    funding_transfers,
    reversed_transfers,
)
from onecode.platform.database import open_memory
from onecode.platform.ledger import journal_transfers, load_balances, load_trial_balance, post_journal
from onecode.record.payment import percentage_minor

PAYERS = st.sampled_from([b"payer-a", b"payer-b"])
MERCHANTS = st.sampled_from([b"m" * 20, b"n" * 20])
CURRENCIES = st.sampled_from(["EUR", "JPY"])
AMOUNTS = st.integers(1, 2_000)
PARTS = st.integers(0, 300)


class BooksMachine(RuleBasedStateMachine):
    """Funding, paying and taking back, with keys that come twice."""

    @initialize()
    def start(self) -> None:
        self.books, self.database = Books(), open_memory()
        self.posted: dict[str, Any] = {}

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()

    def post(self, key: str, transfers: Any) -> bool | None:
        """The same in both; None where both decline."""

        def tried(action: Any) -> bool | None:
            try:
                return bool(action())
            except Declined as error:
                assert error.code == "books.balance"
                return None

        def in_database() -> bool:
            with self.database.write() as session:
                return post_journal(session, key, transfers, 1)

        model = tried(lambda: self.books.post(key, transfers))
        assert tried(in_database) is model
        if model:
            self.posted[key] = transfers
        return model

    @rule(payer=PAYERS, currency=CURRENCIES, amount=AMOUNTS, number=st.integers(0, 3))
    def fund(self, payer: bytes, currency: str, amount: int, number: int) -> None:
        self.post(f"funding/{number}", funding_transfers(payer, {currency: amount}))

    @rule(
        payer=PAYERS,
        merchant=MERCHANTS,
        currency=CURRENCIES,
        amount=AMOUNTS,
        tip=PARTS,
        fee=PARTS,
        kept=PARTS,
        number=st.integers(0, 5),
    )
    def pay(
        self, payer: bytes, merchant: bytes, currency: str, amount: int, tip: int, fee: int, kept: int, number: int
    ) -> None:
        charge = Charge(payer, merchant, currency, amount, tip, fee, kept)
        key = f"payment/{number}"
        balance = {
            one.owner: value
            for one, value in self.books.balances.items()
            if one.kind == AccountKind.PAYER and one.currency == currency
        }
        done = self.post(key, charge_transfers(charge))
        if done:
            after = self.books.balances
            now = {
                one.owner: value
                for one, value in after.items()
                if one.kind == AccountKind.PAYER and one.currency == currency
            }
            assert balance.get(payer, 0) - now[payer] == charge.total_minor

    @rule(number=st.integers(0, 5))
    def void(self, number: int) -> None:
        key = f"payment/{number}"
        if key in self.posted:
            with self.database.read() as session:
                stored = journal_transfers(session, key)
            assert stored == self.posted[key]
            self.post(f"void/{number}", reversed_transfers(stored))

    @invariant()
    def they_balance_and_agree(self) -> None:
        if not hasattr(self, "database"):
            return
        assert set(self.books.totals_minor().values()) <= {0}
        with self.database.read() as session:
            trial = load_trial_balance(session)
            assert set(trial.totals_minor.values()) <= {0}
            assert {account: value for account, value in trial.balances if value} == {
                account: value for account, value in self.books.balances.items() if value
            }
            for payer in (b"payer-a", b"payer-b"):
                assert all(value >= 0 for value in load_balances(session, AccountKind.PAYER, payer).values())


TestBooks = BooksMachine.TestCase
TestBooks.settings = settings(max_examples=30, stateful_step_count=25)


@given(st.integers(0, AMOUNT_MINOR_MAX), st.integers(0, 9_999))
def test_a_percentage_is_the_nearest_minor_unit_halves_up(amount: int, hundredths: int) -> None:
    exact_times_10000 = amount * hundredths
    fee = percentage_minor(amount, hundredths)
    assert fee * 10_000 - 5_000 <= exact_times_10000 < fee * 10_000 + 5_000


@pytest.mark.parametrize(("amount", "hundredths", "fee"), [(50, 100, 1), (49, 100, 0), (1_020, 250, 26), (1, 9_999, 1)])
def test_percentages(amount: int, hundredths: int, fee: int) -> None:
    assert percentage_minor(amount, hundredths) == fee
