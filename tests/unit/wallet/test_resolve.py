"""Building a query. What its answer establishes: the answer vectors and the simulator."""

from __future__ import annotations

import pytest

from chain_world import CHAIN_ID, MERCHANT, NOW_MS, World
from onecode.errors import Misconfigured
from onecode.query.messages import MatchMode
from onecode.wallet.network import VerifiedNetwork
from onecode.wallet.resolve import Payer, Pending, build_pending


def pending(entropy: bytes) -> Pending:
    world = World()
    header, query_key = world.verified(), world.enclave().query_key
    own = world.leaves[world.a.id]
    network = VerifiedNetwork(header, query_key, world.leaves, b"p" * 32, own)
    payer = Payer(CHAIN_ID, world.a.id, world.a.credential(), world.a.device, (world.b.id, world.a.id))
    return build_pending(MERCHANT, payer, network, header, MatchMode.NODE, entropy, NOW_MS)


def test_query_id_and_reply_key_are_all_of_the_entropy() -> None:
    made = pending(bytes(range(48)))
    assert made.secret.query_id == bytes(range(16))
    assert made.secret.reply_key == bytes(range(16, 48))
    assert len(made.secret.accepted) == 2  # the own platform first, each once
    assert (made.clear.have_height, made.clear.have_platforms_root) == (10, b"p" * 32)


@pytest.mark.parametrize("size", [0, 47, 49])
def test_other_entropy_is_refused(size: int) -> None:
    with pytest.raises(Misconfigured) as caught:
        pending(bytes(size))
    assert caught.value.code == "wallet.entropy"
