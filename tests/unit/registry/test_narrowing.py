"""What a decided block takes from a merchant: every event that narrows, nothing else, and its way through a header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecode.errors import Malformed
from onecode.registry import events
from onecode.registry.events import Event, event_to_plain
from onecode.registry.narrowing import Narrowing, narrowing_header, narrowing_of, parse_narrowing

MERCHANT, OTHER = b"m" * 20, b"o" * 20
ONE, TWO, THREE = b"1" * 20, b"2" * 20, b"3" * 20


def narrowed(*happened: Event, service: str = "pay") -> Narrowing | None:
    return narrowing_of(9, map(event_to_plain, happened), MERCHANT, service, (ONE, TWO))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (events.RecordWithdrawn(ONE, MERCHANT, "pay", 1), {"ended": (ONE,)}),
        (events.MerchantUnlinked(MERCHANT, TWO, "pay", 1), {"ended": (TWO,)}),
        (events.MerchantFrozen(MERCHANT, 5), {"frozen": True}),
        (events.MerchantOrderKeysSet(MERCHANT), {"order_keys": True}),
        (events.PlatformChanged(ONE), {"changed": (ONE,)}),
    ],
)
def test_what_narrows(event: Event, expected: dict[str, object]) -> None:
    nothing = {"ended": (), "changed": (), "frozen": False, "order_keys": False}
    assert narrowed(event) == Narrowing(height=9, **(nothing | expected))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [
        events.RecordWithdrawn(ONE, OTHER, "pay", 1),
        events.RecordWithdrawn(ONE, MERCHANT, "other", 1),
        events.MerchantUnlinked(MERCHANT, THREE, "pay", 1),  # no link in the proven state
        events.MerchantFrozen(OTHER, 5),
        events.MerchantOrderKeysSet(OTHER),
        events.PlatformChanged(THREE),
        events.RecordPublished(ONE, MERCHANT, "pay", 2, 1, False),
        events.MerchantBorn(MERCHANT),
        events.MerchantFreezeAsked(MERCHANT, ONE),
        events.MerchantRecoverStarted(MERCHANT, 5, (ONE,)),
        events.EnclaveRevoked(ONE, bytes(32)),
    ],
)
def test_what_does_not(event: Event) -> None:
    assert narrowed(event) is None


def test_all_of_a_block_counts() -> None:
    found = narrowed(
        events.MerchantUnlinked(MERCHANT, TWO, "pay", 1),
        events.MerchantFrozen(MERCHANT, 5),
        events.RecordWithdrawn(ONE, MERCHANT, "pay", 1),
        events.PlatformChanged(TWO),
    )
    assert found == Narrowing(height=9, ended=(ONE, TWO), changed=(TWO,), frozen=True, order_keys=False)
    assert parse_narrowing(narrowing_header(found)) == found


@given(st.text(max_size=40) | st.binary(max_size=40).map(bytes.hex) | st.just("00" * 5000))
def test_another_header_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_narrowing(text)
