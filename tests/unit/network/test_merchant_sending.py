"""A merchant's nonce survives lost answers and kills: whatever happened, the next command knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from onecode.errors import Declined, OnecodeError, Unreachable
from onecode.network import merchant_sending
from onecode.network.client import NodeClient, Submitted
from onecode.network.merchant import Merchant, build_unlink, create_merchant, load_merchant
from onecode.network.merchant_keys import build_orderkeys, build_rotate, make_next_key
from onecode.network.merchant_sending import Effect, settle_pending, submit_signed
from onecode.registry.results import Result
from onecode.registry.transactions import MerchantRotate, parse_transaction
from onecode.wire import sha256

PLATFORM = b"p" * 20


class Chain(NodeClient):
    """Stands for a node: takes the next nonce of the controller of the day, once, and may lose its answer."""

    def __init__(self, controller: bytes) -> None:
        super().__init__("http://chain")
        object.__setattr__(self, "controller", controller)
        object.__setattr__(self, "codes", {})
        object.__setattr__(self, "nonce", 0)
        object.__setattr__(self, "trouble", None)
        object.__setattr__(self, "result", Result.OK)

    def submit(self, transaction: bytes, wait: str = "proven") -> Submitted:
        if self.trouble == "before":  # type: ignore[attr-defined]
            raise Unreachable("http.timeout", "lost on the way there")
        signed, body, payload = parse_transaction(transaction)
        if signed.signatures[0].key != self.controller or body.nonce != self.nonce + 1:  # type: ignore[attr-defined]
            raise Declined("transaction.declined", "key or nonce")
        object.__setattr__(self, "nonce", body.nonce)
        if isinstance(payload, MerchantRotate):
            object.__setattr__(self, "controller", payload.controller)
        self.codes[sha256(transaction)] = int(self.result)  # type: ignore[attr-defined]
        if self.trouble == "after":  # type: ignore[attr-defined]
            raise Unreachable("http.timeout", "lost on the way back")
        return Submitted("", 7, int(self.result), "", ())  # type: ignore[attr-defined]

    def look_up(self, transaction_hash: bytes) -> int | None:
        found: int | None = self.codes.get(transaction_hash)  # type: ignore[attr-defined]
        return found


@pytest.fixture
def merchant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Merchant:
    monkeypatch.setattr(merchant_sending, "POOL_WAIT_S", 0)
    return create_merchant(tmp_path / "shop", "solo-test", _entropy())


def _entropy() -> Callable[[int], bytes]:
    numbers: Iterator[int] = count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def unlink(merchant: Merchant) -> bytes:
    return build_unlink(merchant, PLATFORM, "pay", 1_000)


def orderkeys(merchant: Merchant) -> bytes:
    return build_orderkeys(merchant, (b"o" * 32,), 1_000)


@pytest.mark.parametrize(
    ("result", "nonce", "serial"), [(Result.OK, 1, 1), (Result.LINK_UNKNOWN, 1, 0), (Result.NONCE, 0, 0)]
)
def test_what_a_transaction_used_is_counted(merchant: Merchant, result: Result, nonce: int, serial: int) -> None:
    chain = Chain(merchant.controller.public)
    object.__setattr__(chain, "result", result)
    after, submitted = submit_signed(merchant, chain, unlink, Effect.SERIAL)
    assert (after.nonce, after.consent_serial, submitted.code) == (nonce, serial, int(result))
    assert load_merchant(merchant.directory) == after
    assert not (merchant.directory / "pending.json").exists()


@pytest.mark.parametrize("trouble", ["before", "after"])
def test_a_lost_answer_locks_nobody_out(merchant: Merchant, trouble: str) -> None:
    chain = Chain(merchant.controller.public)
    object.__setattr__(chain, "trouble", trouble)
    with pytest.raises(Unreachable):
        submit_signed(merchant, chain, unlink, Effect.SERIAL)
    object.__setattr__(chain, "trouble", None)
    after, submitted = submit_signed(load_merchant(merchant.directory), chain, orderkeys, Effect.NONE)
    assert submitted.code == 0
    assert (after.nonce, after.consent_serial, chain.nonce) == (2, 1, 2)  # type: ignore[attr-defined]


def test_what_the_node_takes_not_is_forgotten(merchant: Merchant) -> None:
    chain = Chain(b"another controller".ljust(32))
    with pytest.raises(Declined):
        submit_signed(merchant, chain, unlink, Effect.SERIAL)
    assert settle_pending(load_merchant(merchant.directory), chain) == merchant


def test_a_pending_one_that_ran_out_is_forgotten(merchant: Merchant) -> None:
    chain = Chain(merchant.controller.public)
    object.__setattr__(chain, "trouble", "before")
    with pytest.raises(Unreachable):
        submit_signed(merchant, chain, unlink, Effect.SERIAL)
    other = Chain(b"another controller".ljust(32))
    assert settle_pending(load_merchant(merchant.directory), other) == merchant
    assert not (merchant.directory / "pending.json").exists()


class Cut(Exception):
    """Stands for a kill -9: nothing after it runs."""


def rotate_cut_at(merchant: Merchant, chain: Chain, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rotate and be cut at the `step`-th write; whether it was."""
    written = count()

    def cut(original: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **kwargs: object) -> object:
            if next(written) == step:
                raise Cut
            return original(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patched:
        for module, name in (
            ("merchant_sending", "save_private"),
            ("merchant_sending", "save_merchant"),
            ("merchant_sending", "take_next_controller"),
            ("merchant_keys", "save_private"),
        ):
            place = f"onecode.network.{module}.{name}"
            original = pytest.importorskip(f"onecode.network.{module}").__dict__[name]
            patched.setattr(place, cut(original))
        try:
            following = make_next_key(merchant, lambda size: b"n" * size)
            submit_signed(merchant, chain, lambda one: build_rotate(one, following, 1_000), Effect.ROTATE)
        except Cut:
            return True
    return False


def test_a_rotation_cut_at_any_write_is_finished_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merchant_sending, "POOL_WAIT_S", 0)
    for step in range(20):
        merchant = create_merchant(tmp_path / str(step), "solo-test", _entropy())
        before, chain = merchant.controller.public, Chain(merchant.controller.public)
        was_cut = rotate_cut_at(merchant, chain, step, monkeypatch)
        after = settle_pending(load_merchant(merchant.directory), chain)
        assert after.controller.public == chain.controller, step  # type: ignore[attr-defined]
        assert submit_signed(after, chain, unlink, Effect.SERIAL)[1].code == 0
        kept = [path.read_text() for path in merchant.directory.glob("controller*.key")]
        assert any(merchant.controller.seed.hex() in text for text in kept), "the old key is gone"
        if not was_cut:
            assert step > 3
            assert after.controller.public != before
            return
    raise AssertionError("never ran to the end")


def test_a_damaged_pending_file_is_told(merchant: Merchant) -> None:
    (merchant.directory / "pending.json").write_text(json.dumps({"transaction": "zz"}))
    (merchant.directory / "pending.json").chmod(0o600)
    with pytest.raises(OnecodeError) as caught:
        settle_pending(merchant, Chain(b"c" * 32))
    assert caught.value.code == "merchant.pending"
