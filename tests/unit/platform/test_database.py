"""What must hold for money holds in the database itself, whatever the code above it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from onecode.errors import Declined, Malformed, Misconfigured
from onecode.platform.books import Account, AccountKind, Charge, charge_transfers, funding_transfers, transfer
from onecode.platform.database import FILE, Database, open_database
from onecode.platform.ledger import load_balances, load_trial_balance, post_journal

CHARGE = Charge(b"payer", b"merchant", "EUR", 500, 20, 3, 5)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = open_database(tmp_path)
    with made.write() as session:
        post_journal(session, "funding", funding_transfers(b"payer", {"EUR": 1_000, "JPY": 5}), 1)
        post_journal(session, "payment", charge_transfers(CHARGE), 2)
    return made


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transfers SET amount_minor = 1",
        "DELETE FROM transfers",
        "UPDATE journals SET key = 'other'",
        "DELETE FROM journals",
        "DELETE FROM ledger_accounts",
        "UPDATE ledger_accounts SET currency = 'USD'",
        "UPDATE ledger_accounts SET debits_minor = 10000 WHERE kind = 1",
        "INSERT INTO transfers (journal, debit, credit, amount_minor) VALUES (1, 1, 1, 5)",
        "INSERT INTO transfers (journal, debit, credit, amount_minor) VALUES (1, 1, 2, 0)",
        "INSERT INTO transfers (journal, debit, credit, amount_minor) VALUES (1, 1, 2, -5)",
        "INSERT INTO transfers (journal, debit, credit, amount_minor) VALUES (99, 1, 2, 5)",
        "INSERT INTO transfers (journal, debit, credit, amount_minor) SELECT 1, a.id, b.id, 1 FROM ledger_accounts a, "
        "ledger_accounts b WHERE a.kind = 6 AND a.currency = 'EUR' AND b.kind = 1 AND b.currency = 'JPY'",
        "INSERT INTO transfers (journal, debit, credit, amount_minor) SELECT 1, a.id, b.id, 478 FROM ledger_accounts a,"
        " ledger_accounts b WHERE a.kind = 1 AND a.currency = 'EUR' AND b.kind = 2",
        "INSERT INTO journals (key, time_ms) VALUES ('payment', 3)",
    ],
)
def test_the_database_refuses_what_would_break_the_books(database: Database, statement: str) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text(statement))
    with database.read() as session:
        trial = load_trial_balance(session)
        assert load_balances(session, AccountKind.PAYER, b"payer") == {"EUR": 477, "JPY": 5}
    assert trial.totals_minor == {"EUR": 0, "JPY": 0}


def test_a_declined_journal_leaves_nothing(database: Database) -> None:
    with pytest.raises(Declined, match=r"books\.balance"), database.write() as session:
        post_journal(session, "more", charge_transfers(CHARGE), 3)
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM journals")) == 2


def test_a_balance_that_is_not_the_sum_of_its_transfers_is_found(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE ledger_accounts SET credits_minor = credits_minor + 1 WHERE kind = 2"))
    with pytest.raises(Misconfigured, match=r"books\.broken"), database.read() as session:
        load_trial_balance(session)


def test_commits_are_synced_and_survive(database: Database, tmp_path: Path) -> None:
    with database.read() as session:
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
    with pytest.raises(Misconfigured, match=r"database\.locked"):
        open_database(tmp_path)
    database.close()
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    again = open_database(tmp_path)
    with again.read() as session:
        assert load_balances(session, AccountKind.PAYER, b"payer") == {"EUR": 477, "JPY": 5}
    again.close()


def test_a_reader_sees_one_state_while_another_writes(database: Database) -> None:
    with database.read() as session:
        before = load_balances(session, AccountKind.PAYER, b"payer")
        with database.write() as writer:
            post_journal(writer, "more", funding_transfers(b"payer", {"EUR": 1}), 3)
        assert load_balances(session, AccountKind.PAYER, b"payer") == before


def test_a_database_of_another_schema_is_refused(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        session.execute(text("PRAGMA user_version = 99"))
    database.close()
    with pytest.raises(Misconfigured, match=r"database\.version"):
        open_database(tmp_path)


def test_transfers_are_between_two_accounts_of_one_currency() -> None:
    euro = Account(AccountKind.PAYER, b"a", "EUR")
    for credit, amount in (
        (euro, 1),
        (Account(AccountKind.FEES, b"", "JPY"), 1),
        (Account(AccountKind.FEES, b"", "EUR"), 0),
    ):
        with pytest.raises(Malformed):
            transfer(euro, credit, amount)
