"""Refunds under any sequence: never more than was paid, books that balance, and all of it back in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onecode.errors import Declined, Malformed
from onecode.platform.books import (
    Account,
    AccountKind,
    Books,
    Charge,
    Parts,
    charge_transfers,
    funding_transfers,
    refund_parts,
    refund_transfers,
)

MERCHANT, PAYER = b"m" * 20, b"payer"
AMOUNTS = st.integers(1, 10**9)
PAID = st.builds(Parts, AMOUNTS, st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**9))
NOTHING = Parts(0, 0, 0, 0)


def plus(one: Parts, other: Parts) -> Parts:
    return Parts(
        one.amount_minor + other.amount_minor,
        one.tip_minor + other.tip_minor,
        one.fee_minor + other.fee_minor,
        one.kept_minor + other.kept_minor,
    )


def within(one: Parts, other: Parts) -> bool:
    return (
        0 <= one.amount_minor <= other.amount_minor
        and 0 <= one.tip_minor <= other.tip_minor
        and 0 <= one.fee_minor <= other.fee_minor
        and 0 <= one.kept_minor <= other.kept_minor
    )


@given(PAID, st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), max_size=12))
def test_refunds_stay_within_the_payment_and_end_with_all_of_it(paid: Parts, asked: list[tuple[int, int]]) -> None:
    books, payer = Books(), Account(AccountKind.PAYER, PAYER, "EUR")
    charge = Charge(PAYER, MERCHANT, "EUR", paid.amount_minor, paid.tip_minor, paid.fee_minor, paid.kept_minor)
    books.post("funding", funding_transfers(PAYER, {"EUR": charge.total_minor}))
    start = dict(books.balances)
    books.post("payment", charge_transfers(charge))
    before = NOTHING
    rest = (paid.amount_minor, paid.tip_minor)
    for number, (amount, tip) in enumerate([*asked, (-1, -1)]):
        wanted = (rest[0] - before.amount_minor, rest[1] - before.tip_minor) if amount < 0 else (amount, tip)
        try:
            parts = refund_parts(paid, before, *wanted)
        except Malformed:
            assert wanted == (0, 0)
            continue
        except Declined:
            assert before.amount_minor + wanted[0] > paid.amount_minor or before.tip_minor + wanted[1] > paid.tip_minor
            continue
        assert within(parts, paid) and within(plus(before, parts), paid)
        assert books.post(f"refund/{number}", refund_transfers(payer, MERCHANT, parts))
        before = plus(before, parts)
        assert set(books.totals_minor().values()) == {0}
        assert books.balance_minor(payer) == before.total_minor
    assert before == paid
    assert {account: value for account, value in books.balances.items() if value} == {
        account: value for account, value in start.items() if value
    }


@given(PAID, st.data())
def test_the_order_of_parts_changes_no_sum(paid: Parts, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, paid.amount_minor), max_size=5)))
    before = NOTHING
    for cut in cuts:
        if cut > before.amount_minor:
            before = plus(before, refund_parts(paid, before, cut - before.amount_minor, 0))
            at_once = refund_parts(paid, NOTHING, cut, 0)
            assert (before.fee_minor, before.kept_minor) == (at_once.fee_minor, at_once.kept_minor)
