"""A wallet's directory survives what happens to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from onecode.errors import Misconfigured
from onecode.wallet.store import EVIDENCE_FILES_MAX, KeptPayment, WalletStore


def test_the_device_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    store = WalletStore(tmp_path / "w")
    made = store.load_device(b"1" * 32)
    assert WalletStore(tmp_path / "w").load_device(b"2" * 32) == made
    assert (tmp_path / "w" / "device.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "w").stat().st_mode & 0o777 == 0o700


def test_a_device_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    store = WalletStore(tmp_path)
    store.load_device(b"1" * 32)
    (tmp_path / "device.key").chmod(0o644)
    with pytest.raises(Misconfigured) as caught:
        store.load_device(b"1" * 32)
    assert caught.value.code == "wallet.key_mode"


def test_a_damaged_device_key_is_refused(tmp_path: Path) -> None:
    store = WalletStore(tmp_path)
    store.load_device(b"1" * 32)
    (tmp_path / "device.key").write_text("31" * 31)
    with pytest.raises(Misconfigured) as caught:
        store.load_device(b"1" * 32)
    assert caught.value.code == "wallet.key_file"


def test_a_payment_line_that_a_crash_cut_short_hides_no_other(tmp_path: Path) -> None:
    store = WalletStore(tmp_path)
    store.save_payment(KeptPayment("one", b"request", None))
    with (tmp_path / "payments.jsonl").open("ab") as file:
        file.write(b'\n{"idempotency_key": "tw')
    store.save_payment(KeptPayment("three", b"request", None))
    store.save_payment(KeptPayment("one", b"request", b"receipt"))
    found = [(kept.idempotency_key, kept.receipt) for kept in store.load_payments()]
    assert found == [("one", b"receipt"), ("three", None)]


def test_evidence_does_not_fill_the_disk(tmp_path: Path) -> None:
    store = WalletStore(tmp_path)
    for number in range(EVIDENCE_FILES_MAX + 1):
        store.keep_evidence(f"{number}.cbor", b"x")
    assert len(list((tmp_path / "evidence").iterdir())) == EVIDENCE_FILES_MAX
