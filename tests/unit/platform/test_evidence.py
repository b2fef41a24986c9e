"""A payment's evidence, checked offline: an honest file passes from either side of its header, forged ones do not.

Each forger changes one thing and signs again whatever it has the key for, so that the named check alone stands in its
way. What a forger with the platform's own receipt key can do is part of it: only the chain is out of its reach.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onecode.errors import Declined, Malformed, OnecodeError, Untrusted
from onecode.host.clock import now_ms
from onecode.network.client import NodeClient
from onecode.network.evidence import add_trace
from onecode.platform.process import save_header
from onecode.proof.header import CommitVote, ValidatorSet
from onecode.proof.leaves import LinkList, MerchantEntry, PlatformLeaf, PlatformStatus
from onecode.proof.light import Trust
from onecode.proof.map import SectionRoots
from onecode.proof.trust import verify_trust_file
from onecode.query.evidence import EvidenceFile, Superseded, VerifiedEvidence, parse_evidence, verify_evidence
from onecode.query.messages import MemberView
from onecode.record.envelope import SignedRecord, sign_record
from onecode.record.receipt import (
    PaymentRequest,
    PaymentState,
    Receipt,
    SignedReceipt,
    sign_receipt,
    verify_receipt,
)
from onecode.record.schema import parse_record
from onecode.schema import parse
from unit.platform.world import CHAIN_ID, Keys, Node, Payer, Server, new_key

pytestmark = pytest.mark.clock


@dataclasses.dataclass
class Case:
    """One payment by a dynamic code, its evidence, and what a checker may hold."""

    server: Server
    file: EvidenceFile
    before: Trust
    after: Trust
    keys: list[Keys]

    def check(self, file: EvidenceFile, trust: Trust | None = None) -> VerifiedEvidence:
        return verify_evidence(parse_evidence(file.encoded()), trust or self.before, now_ms())

    def receipt(self) -> Receipt:
        return verify_receipt(CHAIN_ID, parse(SignedReceipt, self.file.receipt))

    def request(self) -> PaymentRequest:
        return parse(PaymentRequest, self.file.request)

    def view(self) -> MemberView:
        return parse(MemberView, self.file.view)

    def signed(self, **changes: Any) -> bytes:
        """The receipt changed, and signed again by the platform."""
        receipt = dataclasses.replace(self.receipt(), **changes)
        return sign_receipt(CHAIN_ID, receipt, self.server.platform.keys.receipt).encoded()

    def with_request(self, receipt_too: bool = True, **changes: Any) -> EvidenceFile:
        """Request and receipt changed together."""
        request = dataclasses.replace(self.request(), **changes)
        named = {"platform": "record_platform"}
        said = {named.get(name, name): value for name, value in changes.items()}
        receipt = self.signed(**said) if receipt_too else self.file.receipt
        return dataclasses.replace(self.file, request=request.encoded(), receipt=receipt)

    def with_view(self, **changes: Any) -> EvidenceFile:
        return dataclasses.replace(self.file, view=dataclasses.replace(self.view(), **changes).encoded())


def trust_of(server: Server, keys: Keys) -> Trust:
    raw = server.http.get("/v1/trust-file").content
    return verify_trust_file(raw, keys.admission.root, CHAIN_ID, now_ms(), allow_solo=True)[0]


def export(server: Server, payment: str) -> EvidenceFile:
    raw = server.operator("GET", f"/v1/payments/{payment}/evidence", headers={"accept": "application/cbor"})
    assert raw.headers["content-type"] == "application/cbor"
    return parse_evidence(raw.content)


def advance(server: Server, node: Node) -> None:
    """A block more."""
    height = node.newest().header.header.height
    server.live_merchant()
    assert node.newest().header.header.height > height


@pytest.fixture(scope="module")
def case(node: Node, keys: list[Keys], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    server = Server(keys[0].config(tmp_path_factory.mktemp("evidence"), node.url))
    try:
        payer, merchant = Payer(server), server.live_merchant()
        merchant.set_order_key(node)
        before = trust_of(server, keys[0])
        advance(server, node)
        said = {"amount_minor": 2_000, "reference": "INV-1", "code": merchant.code(2_000, "INV-1"), "tip_minor": 10}
        paid = payer.pay(payer.request(merchant, **said))
        assert paid.status_code == 201, paid.text
        advance(server, node)
        advance(server, node)
        yield Case(server, export(server, paid.json()["payment_id"]), before, trust_of(server, keys[0]), keys)
    finally:
        server.stop()


def test_an_honest_file_passes_from_an_earlier_checkpoint_and_says_who_says_so(case: Case) -> None:
    found = case.check(case.file)
    assert (found.receipt, found.request, found.is_solo) == (case.receipt(), case.request(), True)
    assert found.record.record.display_name == "Café Exemple"
    assert found.order is not None and found.order.reference == "INV-1"
    assert found.partner is None


def test_it_passes_from_a_later_checkpoint_through_the_trace(case: Case, node: Node) -> None:
    file = add_trace(NodeClient(node.url), case.file, case.after.state.header.height)
    assert len(file.trace) == case.after.state.header.height - case.view().header.header.height > 0
    assert case.check(file, case.after).header.header == case.view().header.header
    for trace, expected in (
        ((), "evidence.trace_end"),
        (file.trace[:-1], "evidence.trace_end"),
        (file.trace[1:], "evidence.trace"),
        ((*file.trace, file.trace[-1]), "evidence.trace"),
        ((dataclasses.replace(file.trace[0], data_hash=bytes(32)), *file.trace[1:]), None),
    ):
        with pytest.raises(Untrusted) as caught:
            case.check(dataclasses.replace(file, trace=trace), case.after)
        assert expected in (None, caught.value.code)
    more = dataclasses.replace(case.view().validators.validators[0], public_key=new_key().public)
    others = dataclasses.replace(case.with_view(validators=ValidatorSet(validators=(more,))), trace=file.trace)
    with pytest.raises(Untrusted, match=r"evidence\.validators"):
        case.check(others, case.after)


def test_it_passes_at_the_checkpoint_itself(case: Case, node: Node) -> None:
    from onecode.proof.light import trusted_state

    view = case.view()
    trust = Trust(trusted_state(view.header.header, view.validators))
    assert case.check(case.file, trust).receipt == case.receipt()


def test_what_became_of_the_payment_later_changes_nothing(case: Case, node: Node) -> None:
    save_header(case.server.platform.database, node.newest())
    payment = case.receipt().payment_id
    assert case.server.operator("POST", f"/v1/payments/{payment}/void").json()["state"] == "voided"
    assert export(case.server, payment) == case.file


def _without_voter(case: Case) -> EvidenceFile:
    view = case.view()
    votes = tuple(
        dataclasses.replace(vote, signature=bytes(64)) if isinstance(vote, CommitVote) else vote
        for vote in view.header.commit.votes
    )
    commit = dataclasses.replace(view.header.commit, votes=votes)
    return case.with_view(header=dataclasses.replace(view.header, commit=commit))


def _of_header(case: Case, **changes: Any) -> EvidenceFile:
    view = case.view()
    header = dataclasses.replace(view.header.header, **changes)
    return case.with_view(header=dataclasses.replace(view.header, header=header))


def _of_merchant(case: Case, **changes: Any) -> EvidenceFile:
    return case.with_view(merchant=dataclasses.replace(case.view().merchant, **changes))


def _other_entry(case: Case) -> EvidenceFile:
    entry = parse(MerchantEntry, case.view().merchant.entry or b"")
    return _of_merchant(case, entry=dataclasses.replace(entry, order_keys=(new_key().public,)).encoded())


def _other_links(case: Case) -> EvidenceFile:
    links = parse(LinkList, case.view().merchant.links or b"")
    changed = tuple(dataclasses.replace(link, commitment=bytes(32)) for link in links.links)
    return _of_merchant(case, links=LinkList(links=changed).encoded())


def _other_platform(case: Case) -> EvidenceFile:
    first, *rest = case.view().platforms
    leaf = dataclasses.replace(parse(PlatformLeaf, first.leaf), status=PlatformStatus.SUSPENDED)
    return case.with_view(platforms=(dataclasses.replace(first, leaf=leaf.encoded()), *rest))


def _own_platform_withheld(case: Case) -> EvidenceFile:
    own = case.server.platform.id
    return case.with_view(platforms=tuple(one for one in case.view().platforms if one.platform != own))


def _receipt_by(key_name: str) -> Callable[[Case], EvidenceFile]:
    def forge(case: Case) -> EvidenceFile:
        key = getattr(case.server.platform.keys, key_name)
        return dataclasses.replace(case.file, receipt=sign_receipt(CHAIN_ID, case.receipt(), key).encoded())

    return forge


def _receipt(**changes: Any) -> Callable[[Case], EvidenceFile]:
    return lambda case: dataclasses.replace(case.file, receipt=case.signed(**changes))


def _receipt_of_another_platform(case: Case) -> EvidenceFile:
    from onecode.proof.leaves import Role

    other = case.keys[1]
    receipt = dataclasses.replace(case.receipt(), platform=other.id, state=PaymentState.PENDING)
    return dataclasses.replace(case.file, receipt=sign_receipt(CHAIN_ID, receipt, other.key(Role.RECEIPT)).encoded())


def _ordered(**changes: Any) -> Callable[[Case], EvidenceFile]:
    def forge(case: Case) -> EvidenceFile:
        order = dataclasses.replace(case.request().order, **changes)
        return case.with_request(order=order)

    return forge


def _ordered_with_total(case: Case) -> EvidenceFile:
    order = dataclasses.replace(case.request().order, amount_minor=1_000)
    request = dataclasses.replace(case.request(), order=order)
    receipt = case.signed(order=order, total_minor=1_010)
    return dataclasses.replace(case.file, request=request.encoded(), receipt=receipt)


def _other_code(case: Case) -> EvidenceFile:
    from unit.platform.world import Merchant

    return _ordered(code=Merchant().code(2_000, "INV-1"))(case)


def _unsigned_code(case: Case) -> EvidenceFile:
    from unit.platform.world import Merchant

    thief = Merchant()
    thief.id = case.request().merchant
    return _ordered(code=thief.code(2_000, "INV-1"))(case)


def _record(**changes: Any) -> Callable[[Case], EvidenceFile]:
    """A record of another content, properly signed by the platform's record key."""

    def forge(case: Case) -> EvidenceFile:
        signed = parse(SignedRecord, case.file.signed_record)
        record = dataclasses.replace(parse_record(signed.record), **changes)
        again = sign_record(CHAIN_ID, record, signed.salt, case.server.platform.keys.record)
        return dataclasses.replace(case.file, signed_record=again.encoded())

    return forge


def _record_signature(case: Case) -> EvidenceFile:
    signed = dataclasses.replace(parse(SignedRecord, case.file.signed_record), signature=bytes(64))
    return dataclasses.replace(case.file, signed_record=signed.encoded())


def _record_key(case: Case) -> EvidenceFile:
    signed = parse(SignedRecord, case.file.signed_record)
    again = sign_record(CHAIN_ID, parse_record(signed.record), signed.salt, new_key())
    return dataclasses.replace(case.file, signed_record=again.encoded())


def _superseded(case: Case) -> EvidenceFile:
    return dataclasses.replace(case.file, superseded=Superseded(epoch=1, signed_record=case.file.signed_record))


def _partner_receipt(case: Case) -> EvidenceFile:
    return dataclasses.replace(case.file, partner_receipt=case.file.receipt)


FORGED: dict[str, tuple[Callable[[Case], EvidenceFile], str]] = {
    "another chain id": (lambda case: dataclasses.replace(case.file, chain_id="solo-other"), "evidence.chain"),
    "header of another chain": (lambda case: _of_header(case, chain_id="solo-other"), "evidence.chain"),
    "header changed": (lambda case: _of_header(case, app_hash=bytes(32)), "header.commit_block"),
    "vote's signature": (_without_voter, "header.signature"),
    "section roots": (
        lambda case: case.with_view(roots=SectionRoots(roots=bytes(192))),
        "map.app_hash",
    ),
    "merchant entry": (_other_entry, "map.root"),
    "entry withheld": (lambda case: _of_merchant(case, entry=None), "map.root"),
    "another merchant": (lambda case: _of_merchant(case, merchant=bytes(20)), "answer.other_merchant"),
    "links withheld": (lambda case: _of_merchant(case, links=None), "links.withheld"),
    "links changed": (_other_links, "links.hash"),
    "platform changed": (_other_platform, "map.root"),
    "platform withheld": (_own_platform_withheld, "platform.withheld"),
    "receipt by the record key": (_receipt_by("record"), "platform.key_unknown"),
    "receipt by the device key": (_receipt_by("device"), "platform.key_unknown"),
    "receipt of a platform outside the audience": (_receipt_of_another_platform, "evidence.audience"),
    "receipt of a platform that is none": (_receipt(platform=bytes(20)), "evidence.platform"),
    "receipt for another merchant": (_receipt(merchant=bytes(20)), "evidence.request"),
    "receipt for another version": (_receipt(version=2), "evidence.request"),
    "receipt that was voided": (_receipt(state=PaymentState.VOIDED), "evidence.receipt_state"),
    "receipt that was pending": (_receipt(state=PaymentState.PENDING), "evidence.receipt_state"),
    "receipt under another header": (_receipt(header_hash=bytes(32)), "evidence.receipt_header"),
    "receipt long after the header": (
        lambda case: _receipt(time_ms=case.receipt().time_ms + 61_000)(case),
        "evidence.receipt_time",
    ),
    "receipt before the header": (
        lambda case: _receipt(time_ms=case.receipt().time_ms - 60_000)(case),
        "evidence.receipt_time",
    ),
    "receipt with a fee": (_receipt(fee_minor=1), "evidence.total"),
    "receipt with another total": (_receipt(total_minor=1), "evidence.total"),
    "request alone changed": (lambda case: case.with_request(False, version=9), "evidence.request"),
    "record of a platform without a link": (
        lambda case: dataclasses.replace(
            case.with_request(platform=case.keys[1].id),
            receipt=case.signed(record_platform=case.keys[1].id, state=PaymentState.PENDING),
        ),
        "evidence.link",
    ),
    "another version": (lambda case: case.with_request(version=7), "evidence.named"),
    "another commitment": (lambda case: case.with_request(commitment=bytes(32)), "evidence.named"),
    "record of another name": (_record(display_name="Thief"), "record.commitment"),
    "record of another city": (_record(city="Paris"), "record.commitment"),
    "record's signature": (_record_signature, "signature.bad"),
    "record by another key": (_record_key, "platform.key_unknown"),
    "superseded record that is the live one": (_superseded, "evidence.superseded"),
    "order with another tip": (_ordered(tip_minor=11), "evidence.total"),
    "order without its code, another amount": (_ordered(code=None, amount_minor=1), "evidence.total"),
    "order over another amount, honest total": (_ordered_with_total, "evidence.code_order"),
    "order with another reference": (_ordered(reference="INV-2"), "evidence.code_order"),
    "order with another store": (_ordered(store_label="left"), "evidence.code_order"),
    "another merchant's code": (_other_code, "evidence.code_merchant"),
    "code by another order key": (_unsigned_code, "code.order_signature"),
    "partner's receipt that is none": (_partner_receipt, "evidence.partner"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_evidence_is_refused_where_it_was_forged(case: Case, name: str) -> None:
    forge, expected = FORGED[name]
    with pytest.raises(Untrusted) as caught:
        case.check(forge(case))
    assert caught.value.code == expected


def test_an_order_outside_the_terms_is_declined(case: Case) -> None:
    with pytest.raises(Declined, match=r"payment\.account"):
        case.check(_ordered(currency="JPY")(case))


def test_other_bytes_are_no_evidence(case: Case) -> None:
    raw = case.file.encoded()
    for bad in (b"", raw[:-1], raw + b"\0", b"\x00" + raw):
        with pytest.raises(Malformed):
            parse_evidence(bad)
    with pytest.raises(Malformed, match=r"evidence\.format"):
        parse_evidence(dataclasses.replace(case.file, format=2).encoded())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_single_byte_can_be_changed(case: Case, data: st.DataObject) -> None:
    raw = bytearray(case.file.encoded())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        found = verify_evidence(parse_evidence(bytes(raw)), case.before, now_ms())
    except OnecodeError:
        return
    honest = case.check(case.file)  # votes beyond those that decide are not read
    assert (found.receipt, found.record.record, found.request) == (honest.receipt, honest.record.record, honest.request)


# --- the grace for a rotation


def rotate(server: Server, merchant: Any, **changes: Any) -> None:
    if changes:
        changed = merchant.agreement(server.platform.id, **changes)
        assert server.operator("POST", "/v1/merchants", json=changed).status_code == 200
    assert server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/publish").status_code == 200


def test_a_version_that_a_rotation_replaced_is_paid_for_a_while(
    node: Node, keys: list[Keys], tmp_path: Any, case: Case
) -> None:
    ahead = [0]
    config = keys[0].config(tmp_path, node.url, rotation_grace_ms=20_000)
    server = Server(config, lambda: now_ms() + ahead[0])
    try:
        payer, merchant = Payer(server), server.live_merchant()
        old = payer.request(merchant)
        rotate(server, merchant)
        paid = payer.pay(old)
        assert paid.status_code == 201, paid.text
        receipt = verify_receipt(CHAIN_ID, parse(SignedReceipt, bytes.fromhex(paid.json()["receipt"])))
        assert (receipt.version, receipt.commitment) == (1, old.commitment)
        file = export(server, paid.json()["payment_id"])
        assert file.superseded is not None
        assert case.check(file).record.link.version == 2
        refused = payer.pay(dataclasses.replace(old, commitment=bytes(32)))
        assert refused.json()["code"] == "payment.version"
        _forge_the_older_record(case, server, file)
        ahead[0] = 21_000
        late = payer.send("POST", "/v1/payments", old.encoded(), "late", at_ms=now_ms() + ahead[0])
        assert late.json()["code"] == "payment.version", late.text
        ahead[0] = 0
        rotate(server, merchant)
        assert payer.pay(old).json()["code"] == "payment.version"  # two versions behind
    finally:
        server.stop()


def _forge_the_older_record(case: Case, server: Server, file: EvidenceFile) -> None:
    """The older record says something else; or is not what was named; or is missing."""
    from onecode.record.envelope import RecordIds, commitment

    assert file.superseded is not None
    signed = parse(SignedRecord, file.superseded.signed_record)
    record = dataclasses.replace(parse_record(signed.record), display_name="Thief")
    other = sign_record(CHAIN_ID, record, signed.salt, server.platform.keys.record)
    given = dataclasses.replace(file, superseded=dataclasses.replace(file.superseded, signed_record=other.encoded()))
    request = parse(PaymentRequest, file.request)
    ids = RecordIds(merchant=request.merchant, platform=request.platform, service="pay", version=1, epoch=1)
    ids = dataclasses.replace(ids, epoch=file.superseded.epoch)
    named = commitment(CHAIN_ID, ids, other.salt, other.record)
    receipt = verify_receipt(CHAIN_ID, parse(SignedReceipt, file.receipt))
    again = sign_receipt(CHAIN_ID, dataclasses.replace(receipt, commitment=named), server.platform.keys.receipt)
    lied = dataclasses.replace(
        given, request=dataclasses.replace(request, commitment=named).encoded(), receipt=again.encoded()
    )
    cases = [(given, "evidence.superseded"), (lied, "evidence.rotation")]
    cases.append((dataclasses.replace(file, superseded=None), "evidence.named"))
    for forged, expected in cases:
        with pytest.raises(Untrusted) as caught:
            case.check(forged)
        assert caught.value.code == expected


def test_no_grace_for_another_content_nor_after_a_withdrawal(server: Server, payer: Payer) -> None:
    merchant = server.live_merchant()
    old = payer.request(merchant)
    rotate(server, merchant, display_name="Other Name")
    assert payer.pay(old).json()["code"] == "payment.version"
    current = payer.request(merchant)
    assert server.operator("POST", f"/v1/merchants/{merchant.id.hex()}/withdraw").status_code == 200
    rotate(server, merchant)  # published anew, with the same content
    assert payer.pay(current).json()["code"] == "payment.version"
    assert payer.pay(payer.request(merchant)).status_code == 201


def test_every_step_of_evidence_has_a_forger(root: Any) -> None:
    """Each code that the verifier raises by itself is expected by a test here."""
    import ast
    import inspect

    from onecode.query import evidence

    tree = ast.parse(inspect.getsource(evidence))
    raised = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Untrusted"
        and isinstance(node.args[0], ast.Constant)
    }
    expected = {code for _, code in FORGED.values()}
    elsewhere = {"evidence.trace", "evidence.trace_end", "evidence.rotation", "evidence.validators"}
    elsewhere |= {"evidence.no_checkpoint", "evidence.checkpoint_platform"}  # test_checkpoints.py
    unreachable = {"evidence.suspended"}  # a platform that is suspended signs no receipt of its own
    assert raised <= set(itertools.chain(expected, elsewhere, unreachable))
