"""Bech32m against the vectors of BIP-350."""

from __future__ import annotations

import pytest

from onecode.code import bech32m
from onecode.errors import Malformed

VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11" + "l" * 82 + "ludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
INVALID = [
    "\x201xj0phk",
    "\x7f1g6xzxy",
    "\x801vctc34",
    "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4",
    "qyrz8wqd2c9m",
    "1qyrz8wqd2c9m",
    "y1b0jsk6g",
    "lt1igcx5c0",
    "in1muywd",
    "mm1crxm3i",
    "au1s5cgom",
    "M1VUXWEZ",
    "16plkw9",
    "1p2gdwpf",
]


@pytest.mark.parametrize("text", VALID)
def test_a_valid_string_is_taken(text: str) -> None:
    prefix, values = bech32m.decode(text)
    assert text.lower().startswith(prefix + "1")
    assert len(prefix) + 1 + len(values) + bech32m.CHECK_CHARS == len(text)


@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_string_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        bech32m.decode(text)
    assert refused.value.code == "code.id_text"


def test_bech32_without_the_m_is_refused() -> None:
    with pytest.raises(Malformed):
        bech32m.decode("a12uel5l")  # valid under BIP-173, whose constant is 1


def test_encoding_gives_the_published_text() -> None:
    values = bytes.fromhex("ffbbcdeb38bdab49ca307b9ac5a928398a418820")  # 31, 30, ... 0 in five bits each
    assert bech32m.encode("abcdef", values) == "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx"
