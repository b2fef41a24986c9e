"""What the database itself refuses, whatever the code does: rules for the tables of `schema.py`, as triggers."""

from __future__ import annotations


def _frozen(table: str) -> list[str]:
    return [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} are only added to'); END"
        for verb in ("UPDATE", "DELETE")
    ]


RULES: tuple[str, ...] = (
    """
    CREATE TRIGGER transfers_one_currency BEFORE INSERT ON transfers
    WHEN (SELECT currency FROM ledger_accounts WHERE id = NEW.debit)
      IS NOT (SELECT currency FROM ledger_accounts WHERE id = NEW.credit)
    BEGIN SELECT RAISE(ABORT, 'a transfer is of one currency'); END
    """,
    """
    CREATE TRIGGER transfers_balances AFTER INSERT ON transfers BEGIN
      UPDATE ledger_accounts SET debits_minor = debits_minor + NEW.amount_minor WHERE id = NEW.debit;
      UPDATE ledger_accounts SET credits_minor = credits_minor + NEW.amount_minor WHERE id = NEW.credit;
    END
    """,
    *_frozen("transfers"),
    *_frozen("journals"),
    *_frozen("evidence"),
    *_frozen("partner_words"),
    *_frozen("refunds"),
    *_frozen("receipts"),
    *_frozen("header_hashes"),
    *_frozen("witnessed"),
    *_frozen("checkpoint_forks"),
    "CREATE TRIGGER checkpoints_stay BEFORE DELETE ON checkpoints BEGIN SELECT RAISE(ABORT, 'checkpoints stay'); END",
    "CREATE TRIGGER checkpoints_sealed BEFORE UPDATE ON checkpoints "
    "WHEN OLD.hash IS NOT NULL OR NEW.last_receipt <> OLD.last_receipt OR NEW.until_ms <> OLD.until_ms "
    "OR NEW.from_ms <> OLD.from_ms OR NEW.serial <> OLD.serial "
    "BEGIN SELECT RAISE(ABORT, 'a checkpoint is not changed'); END",
    """
    CREATE TRIGGER refunds_within_payment BEFORE INSERT ON refunds
    WHEN EXISTS (
      SELECT 1 FROM payments AS p WHERE p.payment_id = NEW.payment_id AND (
        p.state <> 2
        OR NEW.amount_minor + (SELECT coalesce(sum(amount_minor), 0) FROM refunds AS r
                               WHERE r.payment_id = p.payment_id) > p.amount_minor
        OR NEW.tip_minor + (SELECT coalesce(sum(tip_minor), 0) FROM refunds AS r
                            WHERE r.payment_id = p.payment_id) > p.tip_minor
        OR NEW.fee_minor + (SELECT coalesce(sum(fee_minor), 0) FROM refunds AS r
                            WHERE r.payment_id = p.payment_id) > p.fee_minor
        OR NEW.kept_minor + (SELECT coalesce(sum(kept_minor), 0) FROM refunds AS r
                             WHERE r.payment_id = p.payment_id) > p.kept_minor))
    BEGIN SELECT RAISE(ABORT, 'no more goes back than was paid'); END
    """,
    "CREATE TRIGGER ledger_accounts_stay BEFORE DELETE ON ledger_accounts "
    "BEGIN SELECT RAISE(ABORT, 'ledger accounts stay'); END",
    "CREATE TRIGGER ledger_accounts_keep_name BEFORE UPDATE OF id, kind, owner, currency ON ledger_accounts "
    "BEGIN SELECT RAISE(ABORT, 'a ledger account keeps its name'); END",
)
