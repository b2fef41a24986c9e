"""What is said of a payload: both readings, the wallet's, every account with its scheme."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onecode.code.emv import with_crc
from onecode.code.inspection import inspect_payload
from onecode.code.label import OrderTerms, StaticLabel, add_identity, build_dynamic, build_static
from onecode.code.schemes import accounts_in, scheme_name
from onecode.code.tlv import DataObject, split_objects
from onecode.errors import Untrusted
from onecode.wire import SigningKey

PREFIXES = ("oc", "ocs")
LABEL = StaticLabel(b"m" * 20, "ocs", "5812", "156", "CN", "Noodles", "Shanghai")
STATIC = build_static(LABEL)
OLD = with_crc("00020101021126180006x.bank0104SHOP" + STATIC[STATIC.index("5204") : -8].replace("6008Shanghai", ""))


def test_our_own_code_is_accepted_by_all() -> None:
    found = inspect_payload(STATIC, PREFIXES)
    assert (found.strict, found.lenient, found.wallet, found.deviations) == (None, None, None, ())
    assert (found.kind, found.prefix) == ("static", "ocs")
    assert [(one.id, one.guid, one.scheme) for one in found.accounts] == [("26", "org.onecode", "Onecode")]


def test_a_dynamic_code_is_named_so() -> None:
    key = SigningKey.from_seed(b"k" * 32)
    payload = build_dynamic(LABEL, OrderTerms(100, "r", 1_700_000_000_000), key.sign_bytes, "solo-x")
    assert inspect_payload(payload, PREFIXES).kind == "dynamic"


def test_an_old_label_deviates_and_is_foreign() -> None:
    found = inspect_payload(OLD, PREFIXES)
    assert found.strict is not None and found.strict.code == "code.missing"
    assert [(one.code, one.object) for one in found.deviations] == [("code.missing", "60")]
    assert (found.lenient, found.wallet, found.kind) == (None, None, "foreign")
    assert [(one.guid, one.scheme) for one in found.accounts] == [("x.bank", None)]


def test_an_amount_without_signature_is_the_wallets_to_refuse() -> None:
    found = inspect_payload(with_crc(STATIC[:-8] + "540510.00"), PREFIXES)
    assert (found.strict, found.lenient, found.kind) == (None, None, None)
    assert found.wallet is not None and found.wallet.code == "code.amount_unsigned"


@pytest.mark.parametrize(("text", "code"), [("", "code.crc"), (STATIC[:-1] + "Z", "code.crc"), ("\ud800", "code.text")])
def test_what_no_reading_takes(text: str, code: str) -> None:
    found = inspect_payload(text, PREFIXES)
    assert found.lenient is not None and found.lenient.code == code
    assert found.strict is found.lenient and found.wallet is found.lenient
    assert (found.objects, found.accounts, found.kind) == ((), (), None)


def test_accounts_of_the_card_networks_are_named_by_their_ids() -> None:
    names = [one.scheme for one in accounts_in([DataObject(f"{number:02d}", "4") for number in range(2, 18)])]
    assert names[0] == "Visa" and names[2] == "Mastercard" and names[13] == "UnionPay"
    assert accounts_in([DataObject("26", "broken"), DataObject("52", "5812")])[0].guid is None


def test_identifiers_are_named_whatever_their_case() -> None:
    assert scheme_name("BR.GOV.BCB.PIX") == scheme_name("br.gov.bcb.pix") == "Pix (BR)"
    assert scheme_name("x.bank") is None


def test_adding_our_identity_leaves_every_other_object_as_it_is(shared: Path) -> None:
    """Every published label that has no amount and is read as foreign: object by object, byte for byte."""
    entries = json.loads((shared / "vectors" / "emv" / "payloads.json").read_text("utf-8"))
    done = refused = 0
    for entry in entries:
        found = inspect_payload(entry["payload"], PREFIXES)
        if found.kind != "foreign":
            continue
        if DataObject("01", "12") in found.objects:  # an order of another scheme, for one payment
            with pytest.raises(Untrusted):
                add_identity(entry["payload"], b"m" * 20, "oc")
            refused += 1
            continue
        upgraded = add_identity(entry["payload"], b"m" * 20, "oc")
        before, after = split_objects(entry["payload"])[:-1], split_objects(upgraded)[:-1]
        (ours,) = [item for item in after if item not in before]
        assert [item for item in after if item is not ours] == list(before), entry["name"]
        assert "26" <= ours.id <= "51" and ours.id not in {item.id for item in before}
        assert inspect_payload(upgraded, PREFIXES).kind == "static", entry["name"]
        kept = inspect_payload(upgraded, PREFIXES).deviations
        assert set(kept) - set(found.deviations) <= {one for one in kept if one.code == "code.size"}
        done += 1
    assert done > 20 and refused > 0
