"""The genesis does not depend on the order of requests, and no bit of a request can be changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecode.errors import OnecodeError
from onecode.network.armour import armour, parse_armoured
from onecode.network.ceremony import Ceremony, JoinRequest, collect, verify_ceremony, verify_join
from onecode.schema import parse
from unit.network.founders import FOUR, TERMS, founded, named

REQUEST = FOUR[0].request().encoded()


@settings(max_examples=24)
@given(st.permutations(range(4)))
def test_the_same_requests_in_any_order_give_the_same_bytes(order: list[int]) -> None:
    requests = named()
    ceremony = collect([requests[index] for index in order], TERMS)
    assert ceremony.encoded() == founded().encoded()
    again = parse_armoured(armour(ceremony), Ceremony)
    assert verify_ceremony(again).genesis_hash == verify_ceremony(founded()).genesis_hash


@settings(max_examples=300)
@given(st.integers(0, 8 * len(REQUEST) - 1))
def test_no_bit_of_a_request_can_be_changed(bit: int) -> None:
    changed = bytearray(REQUEST)
    changed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(OnecodeError):
        verify_join(parse(JoinRequest, bytes(changed)))


@given(st.binary(max_size=400))
def test_whatever_is_sent_is_refused_by_an_error_of_the_tree(data: bytes) -> None:
    with pytest.raises(OnecodeError):
        verify_ceremony(parse_armoured(data, Ceremony))
