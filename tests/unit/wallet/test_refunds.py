"""Refunds that a wallet is told of: each lie is caught by the check that is for it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from chain_world import NOW_MS, Platform
from onecode.errors import Malformed, Untrusted
from onecode.proof.leaves import KeyState, Role
from onecode.record.receipt import (
    Order,
    PaymentState,
    Receipt,
    Refund,
    SignedRefund,
    sign_receipt,
    sign_refund,
)
from onecode.schema import parse
from onecode.wallet.config import WalletConfig
from onecode.wallet.own_platform import OwnPlatform
from onecode.wallet.pay import VerifiedReceipt
from onecode.wallet.refunds import verify_refunds
from onecode.wallet.store import WalletStore
from vectors.proof_chain import CHAIN_ID

OWN = Platform("own")
RECEIPT = Receipt(
    payment_id="p-1",
    platform=OWN.id,
    merchant=b"m" * 20,
    record_platform=OWN.id,
    version=1,
    commitment=bytes(32),
    order=Order(amount_minor=1_000, currency="EUR", tip_minor=100),
    fee_minor=10,
    total_minor=1_110,
    state=PaymentState.POSTED,
    time_ms=NOW_MS,
    account=b"account-1",
    header_hash=bytes(32),
    display_name="Shop",
)


def paid() -> VerifiedReceipt:
    verified: Callable[..., VerifiedReceipt] = VerifiedReceipt  # as the wallet keeps it
    return verified(RECEIPT, sign_receipt(CHAIN_ID, RECEIPT, OWN.key(Role.RECEIPT)), "key")


def refund(number: int = 1, **changes: object) -> Refund:
    one = Refund(
        refund_id=f"r-{number}",
        payment_id="p-1",
        platform=OWN.id,
        merchant=RECEIPT.merchant,
        record_platform=OWN.id,
        currency="EUR",
        amount_minor=400,
        tip_minor=0,
        fee_minor=4,
        total_minor=404,
        refunded_minor=404 * number,
        time_ms=NOW_MS,
        account=b"account-1",
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def signed(*given: Refund, role: Role = Role.RECEIPT) -> list[bytes]:
    return [sign_refund(CHAIN_ID, one, OWN.key(role)).encoded() for one in given]


def test_honest_refunds_are_believed() -> None:
    found = verify_refunds(CHAIN_ID, signed(refund(1), refund(2)), paid(), OWN.leaf(), NOW_MS)
    assert [one.refund.refunded_minor for one in found] == [404, 808]
    assert verify_refunds(CHAIN_ID, [], paid(), OWN.leaf(), NOW_MS) == ()


LIES: dict[str, tuple[list[Refund], str]] = {
    "another payment": ([refund(payment_id="p-2")], "refund.other"),
    "another account": ([refund(account=b"account-2")], "refund.other"),
    "another platform": ([refund(platform=bytes(20))], "refund.other"),
    "another merchant": ([refund(merchant=bytes(20))], "refund.other"),
    "another record": ([refund(record_platform=bytes(20))], "refund.other"),
    "another currency": ([refund(currency="JPY")], "refund.other"),
    "parts that do not add up": ([refund(total_minor=400)], "refund.total"),
    "a sum that is not one": ([refund(refunded_minor=405)], "refund.sum"),
    "the same refund twice": ([refund(1), refund(1)], "refund.sum"),
    "one left out before": ([refund(2)], "refund.sum"),
    "more than was paid": ([refund(1), refund(2), refund(3)], "refund.sum"),
    "the future": ([refund(time_ms=NOW_MS + 60_000)], "refund.time"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_caught(name: str) -> None:
    given, expected = LIES[name]
    with pytest.raises(Untrusted) as caught:
        verify_refunds(CHAIN_ID, signed(*given), paid(), OWN.leaf(), NOW_MS)
    assert caught.value.code == expected


def test_only_an_active_receipt_key_of_the_own_platform_counts() -> None:
    with pytest.raises(Untrusted, match=r"platform\.key_unknown"):
        verify_refunds(CHAIN_ID, signed(refund(), role=Role.RECORD), paid(), OWN.leaf(), NOW_MS)
    leaf = OWN.leaf()
    keys = tuple(dataclasses.replace(key, state=KeyState.REVOKED) for key in leaf.keys)
    with pytest.raises(Untrusted, match=r"platform\.key_state"):
        verify_refunds(CHAIN_ID, signed(refund()), paid(), dataclasses.replace(leaf, keys=keys), NOW_MS)
    (raw,) = signed(refund())
    one = parse(SignedRefund, raw)
    forged = dataclasses.replace(one, signature=bytes(64)).encoded()
    with pytest.raises(Untrusted, match=r"signature\.bad"):
        verify_refunds(CHAIN_ID, [forged], paid(), leaf, NOW_MS)


@pytest.mark.parametrize("said", [b"[" * 100_000, b"{}", b"[1]", b"no json"])
def test_what_is_no_list_of_refunds_is_malformed(tmp_path: Path, said: bytes) -> None:
    async def asked() -> list[bytes]:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=said))
        config = WalletConfig(CHAIN_ID, OWN.id, bytes(32), "http://platform", ("http://node",), b"")
        async with httpx.AsyncClient(transport=transport) as http:
            own = OwnPlatform(config, WalletStore(tmp_path), OWN.device, http, lambda: NOW_MS)
            return await own.fetch_refunds(OWN.credential(), "p-1")

    with pytest.raises(Malformed, match=r"http\.json"):
        asyncio.run(asked())
