"""What an organisation believes of its own node's chain: headers that follow from what it trusted before."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from onecode.errors import Untrusted
from onecode.network.beginning import _require_follows
from onecode.network.client import NodeClient
from onecode.proof.light import Trust, trusted_state
from onecode.query.messages import HeaderView
from vectors.bisection_cases import chain
from vectors.proof_chain import NOW_MS

CHAIN = chain({1: ["a", "b"], 6: ["c", "d"], 11: ["c", "d"]})
TRUST = Trust(trusted_state(CHAIN[1].header.header, CHAIN[1].validators))


@dataclass(frozen=True)
class Node(NodeClient):
    """Headers of the chain, or the same one whatever is asked for."""

    always: HeaderView | None = None

    def header(self, height: int) -> bytes:
        return (self.always or CHAIN[height]).encoded()


def test_a_header_follows_though_all_validators_have_changed() -> None:
    _require_follows(TRUST, CHAIN[11], Node("http://node"), NOW_MS)
    _require_follows(TRUST, CHAIN[1], Node("http://node"), NOW_MS)


def test_a_node_that_gives_another_height_than_was_asked_for_is_refused() -> None:
    with pytest.raises(Untrusted) as raised:
        _require_follows(TRUST, CHAIN[11], Node("http://node", always=CHAIN[11]), NOW_MS)
    assert raised.value.code == "header.other_height"
