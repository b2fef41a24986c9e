"""A merchant's own directory: what it signs, and the counts it keeps."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from onecode.errors import Misconfigured
from onecode.network.merchant import Merchant, build_unlink, create_merchant, load_merchant
from onecode.registry.transactions import Kind, MerchantUnlink, SignerKind, parse_transaction

PLATFORM = b"p" * 20


@pytest.fixture
def merchant(tmp_path: Path) -> Merchant:
    count = itertools.count(1)
    return create_merchant(tmp_path / "shop", "solo-x", lambda size: bytes([next(count)]) * size)


def test_what_was_made_is_loaded(merchant: Merchant) -> None:
    assert load_merchant(merchant.directory) == merchant
    assert merchant.text.startswith("ocs1")


def test_the_recovery_key_may_be_moved_away(merchant: Merchant) -> None:
    (merchant.directory / "recovery.key").unlink()
    assert load_merchant(merchant.directory).id == merchant.id


def test_an_unlink_is_signed_by_the_controller_with_the_next_nonce(merchant: Merchant) -> None:
    transaction, body, payload = parse_transaction(build_unlink(merchant, PLATFORM, "pay", 1_000))
    assert (body.kind, body.signer, body.nonce) == (Kind.MERCHANT_UNLINK, merchant.id, 1)
    assert payload == MerchantUnlink(platform=PLATFORM, service="pay")
    assert [one.kind for one in transaction.signatures] == [SignerKind.CONTROLLER]


def test_a_damaged_file_is_refused(merchant: Merchant) -> None:
    (merchant.directory / "merchant.json").write_text('{"version": 2}', "utf-8")
    with pytest.raises(Misconfigured, match="not what"):
        load_merchant(merchant.directory)
