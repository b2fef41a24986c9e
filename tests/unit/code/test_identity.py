from __future__ import annotations

import hashlib

import pytest

from onecode.code import identity
from onecode.errors import Malformed

CONTROLLER, RECOVERY, ROOT = bytes(range(32)), b"\x22" * 32, b"\x33" * 32


def test_ids_are_the_hashes_that_the_specification_names() -> None:
    recovery = hashlib.sha256(b"onecode/recovery/1\0" + RECOVERY).digest()
    merchant = hashlib.sha256(b"onecode/merchant-id/1\0" + CONTROLLER + recovery).digest()[:20]
    assert identity.recovery_hash(RECOVERY) == recovery
    assert identity.merchant_id(CONTROLLER, recovery) == merchant
    assert identity.platform_id(ROOT) == hashlib.sha256(b"onecode/platform-id/1\0" + ROOT).digest()[:20]


@pytest.mark.parametrize("wrong", [b"", b"\0" * 31, b"\0" * 33])
def test_inputs_of_another_size_are_refused(wrong: bytes) -> None:
    for call in (
        lambda: identity.merchant_id(wrong, RECOVERY),
        lambda: identity.merchant_id(CONTROLLER, wrong),
        lambda: identity.recovery_hash(wrong),
        lambda: identity.platform_id(wrong),
        lambda: identity.merchant_text(wrong, "oc"),
    ):
        with pytest.raises(Malformed) as refused:
            call()
        assert refused.value.code == "code.id_size"


def test_text_forms() -> None:
    number = bytes(range(20))
    merchant, platform = identity.merchant_text(number, "oc"), identity.platform_text(number, "oc")
    assert merchant.startswith("oc1") and len(merchant) == 41
    assert platform.startswith("ocp1") and len(platform) == 42
    assert identity.parse_merchant_text(merchant.upper(), "oc") == number
    assert identity.parse_platform_text(platform, "oc") == number


def test_the_two_kinds_and_the_networks_are_told_apart() -> None:
    number = bytes(20)
    for text, parse, prefix in (
        (identity.platform_text(number, "oc"), identity.parse_merchant_text, "oc"),
        (identity.merchant_text(number, "oc"), identity.parse_platform_text, "oc"),
        (identity.merchant_text(number, "ocs"), identity.parse_merchant_text, "oc"),
        (identity.merchant_text(number, "oc"), identity.parse_merchant_text, "ocs"),
    ):
        with pytest.raises(Malformed) as refused:
            parse(text, prefix)
        assert refused.value.code == "code.id_prefix"


def test_an_id_of_another_length_is_refused() -> None:
    from onecode.code import bech32m

    for size in (15, 25):
        with pytest.raises(Malformed) as refused:
            identity.parse_merchant_text(bech32m.encode("oc", bytes(size)), "oc")
        assert refused.value.code == "code.id_text"


def test_prefixes() -> None:
    assert identity.prefix_of("solo-demo") == "ocs"
    assert identity.prefix_of("onecode-1") == identity.prefix_of("solo") == "oc"
