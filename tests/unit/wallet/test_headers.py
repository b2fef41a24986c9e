"""Where a wallet begins to trust: never older than what it has verified, never beside a fork."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from onecode.errors import Unreachable, Untrusted
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.light import Trust, trusted_state
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.bridge import HOPS_MAX
from onecode.query.messages import HeaderView
from onecode.wallet.headers import SavedHeader, TrustSettings, bridge, open_headers, verify_renewal
from onecode.wire import SigningKey, sha256
from vectors.proof_chain import CHAIN_ID, MEMBERS, NOW_MS, SIX, TRUSTED, key, make_header, signed_by, validator_set

ROOT = SigningKey.from_seed(sha256(b"root"))
ANCHOR = SigningKey.from_seed(sha256(b"anchor"))
DAY_MS = 86_400_000
SETTINGS = TrustSettings(ROOT.public, CHAIN_ID)
SAVED = SavedHeader(chain_id=CHAIN_ID, header=TRUSTED, validators=MEMBERS, trusting_period_ms=14 * DAY_MS)
OWN = Trust(trusted_state(TRUSTED, MEMBERS))


def trust_file(height: int, root: SigningKey = ROOT, members: ValidatorSet = MEMBERS, **changes: Any) -> bytes:
    names = SIX if members is MEMBERS else ["x", "y"]
    body = TrustBody(
        chain_id=CHAIN_ID,
        header=signed_by(make_header(height, members, **changes), names),
        validators=members,
        trusting_period_ms=14 * DAY_MS,
        issued_ms=NOW_MS,
    )
    certificate = certify_anchor(CHAIN_ID, root, ANCHOR.public, NOW_MS + DAY_MS)
    return sign_trust_file(body, certificate, ANCHOR).encoded()


def start(saved: SavedHeader | None, data: bytes, now_ms: int = NOW_MS) -> int:
    return open_headers(saved, data, SETTINGS, now_ms).trust.state.header.height


def test_a_first_start_is_from_the_trust_file() -> None:
    assert start(None, trust_file(8)) == 8


def test_a_later_start_is_from_the_own_header() -> None:
    assert start(SAVED, trust_file(8)) == TRUSTED.height


def test_a_newer_trust_file_is_taken() -> None:
    assert start(SAVED, trust_file(20)) == 20


def test_an_expired_trust_file_is_no_harm_beside_a_good_own_header() -> None:
    later_ms = NOW_MS + 2 * DAY_MS
    assert start(SAVED, trust_file(8), later_ms) == TRUSTED.height
    with pytest.raises(Untrusted) as caught:
        start(None, trust_file(8), later_ms)
    assert caught.value.code == "trust.anchor_expired"


def test_an_own_header_past_its_period_gives_way_to_the_trust_file() -> None:
    short = dataclasses.replace(SAVED, trusting_period_ms=1)
    assert start(short, trust_file(20)) == 20


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (trust_file(10, app_version=9), "trust.fork"),
        (trust_file(8), "trust.older"),
        (trust_file(20, root=key("another platform")), "trust.root"),
        (trust_file(11, members=validator_set(["x", "y"])), "header.next_validators"),
    ],
    ids=["fork", "older", "other root", "validators not announced"],
)
def test_a_renewal_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(Untrusted) as caught:
        verify_renewal(OWN, data, SETTINGS, NOW_MS)
    assert caught.value.code == code


def test_a_fork_is_refused_at_the_start_too() -> None:
    with pytest.raises(Untrusted) as caught:
        start(SAVED, trust_file(10, app_version=9))
    assert caught.value.code == "trust.fork"


def test_a_directory_of_another_chain_is_refused() -> None:
    with pytest.raises(Untrusted) as caught:
        start(dataclasses.replace(SAVED, chain_id="onecode-other"), trust_file(8))
    assert caught.value.code == "header.saved_chain"


# --- headers between --------------------------------------------------------------------------------------------------


def rotating(height: int) -> HeaderView:
    """A chain whose six validators lose one and gain one at each height."""

    def names(at: int) -> list[int | str]:
        return list(range(at - 10, at - 4))

    header = make_header(height, validator_set(names(height)), validator_set(names(height + 1)))
    return HeaderView(header=signed_by(header, names(height)), validators=validator_set(names(height)))


def rotating_trust(height: int = 10) -> Trust:
    first = rotating(height)
    return Trust(trusted_state(first.header.header, first.validators))


def test_headers_between_are_fetched_where_validators_changed() -> None:
    fetched: list[int] = []

    async def fetch(height: int) -> HeaderView:
        fetched.append(height)
        return rotating(height)

    path = asyncio.run(bridge(rotating_trust(), rotating(40), fetch, NOW_MS))
    assert 36 <= path[-1].header.header.height < 40
    assert fetched[0] == 25
    assert len(fetched) <= HOPS_MAX


def test_a_node_that_sends_another_height_is_refused() -> None:
    async def fetch(height: int) -> HeaderView:
        return rotating(height + 1)

    with pytest.raises(Untrusted) as caught:
        asyncio.run(bridge(rotating_trust(), rotating(40), fetch, NOW_MS))
    assert caught.value.code == "header.other_height"


def test_hops_are_bounded() -> None:
    async def fetch(height: int) -> HeaderView:
        return rotating(height)

    with pytest.raises(Unreachable) as caught:
        asyncio.run(bridge(rotating_trust(1), rotating(203), fetch, NOW_MS + 200_000))
    assert caught.value.code == "header.too_far"


def test_a_forged_header_between_is_refused() -> None:
    async def fetch(height: int) -> HeaderView:
        honest = rotating(height)
        header = dataclasses.replace(honest.header.header, app_hash=bytes(32))
        forged = SignedHeader(header=header, commit=honest.header.commit)
        return dataclasses.replace(honest, header=forged)

    with pytest.raises(Untrusted) as caught:
        asyncio.run(bridge(rotating_trust(), rotating(40), fetch, NOW_MS))
    assert caught.value.code == "header.commit_block"
