"""Answer cases, steps 20 to 24 and what a wallet does after them: seal, result, record, order, differences."""

from __future__ import annotations

import dataclasses
from typing import Any

from chain_world import CHAIN_ID, DAY_MS, MERCHANT, NOW_MS, Platform, make_record
from onecode.code.label import OrderTerms, StaticLabel, build_dynamic, build_static
from onecode.errors import Declined, Malformed, Unreachable, Untrusted
from onecode.proof.leaves import KeyState, PendingRecovery, Role
from onecode.query.messages import Answer, MatchMode
from onecode.record.envelope import SignedRecord, sign_record
from onecode.record.payment import AcquiringAccount, PaymentTerms, TipMode
from onecode.record.schema import Record
from onecode.wire import Domain, SigningKey, encode, sha256
from vectors.answer_kit import case
from vectors.answer_scene import ENCLAVE_KEY, OTHER, QUERY_ID, Draft, assemble, fields_of, reseal

ORDER_KEY = SigningKey.from_seed(sha256(b"order key"))
THIEF = SigningKey.from_seed(sha256(b"a thief"))
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
LABEL = StaticLabel(
    merchant_id=MERCHANT, prefix="oc", mcc="5812", currency="978", country="DE", name="Noodle House", city="Berlin"
)


# --- the seal ---------------------------------------------------------------------------------------------------------


@case("20-sealed-with-another-reply-key", Untrusted, "reply.seal", without=None)
def other_key(d: Draft) -> Answer:
    """the result is sealed with the reply key of another query"""
    return d.answer(sealed=d.seal(d.result(d.opened(d.scene.a)), reply_key=sha256(b"another reply key")))


@case("20-sealed-for-another-clear-part", Untrusted, "reply.seal", without=None)
def other_clear(d: Draft) -> Answer:
    """the result is sealed for a query about another merchant"""
    d.ask()
    clear = d.asked["clear"].replace(MERCHANT, OTHER)
    return d.answer(sealed=d.seal(d.result(d.opened(d.scene.a)), clear=clear))


@case("20-sealed-for-another-enclave", Untrusted, "reply.seal", without=None)
def other_enclave(d: Draft) -> Answer:
    """the result is sealed for a query to another enclave"""
    d.ask()
    clear = d.asked["clear"].replace(ENCLAVE_KEY, sha256(b"key of the host"))
    return d.answer(sealed=d.seal(d.result(d.opened(d.scene.a)), clear=clear))


@case("20-sealed-for-another-chain", Untrusted, "reply.seal", without=None)
def other_chain(d: Draft) -> Answer:
    """the result is sealed for another network"""
    return d.answer(sealed=d.seal(d.result(d.opened(d.scene.a)), chain_id="onecode-other"))


@case("20-sealed-byte-altered", Untrusted, "reply.seal", without=None)
def seal_altered(d: Draft) -> Answer:
    """one bit of the tag"""
    sealed = d.seal(d.result(d.opened(d.scene.a)))
    return d.answer(sealed=sealed[:-1] + bytes((sealed[-1] ^ 1,)))


@case("20-sealed-truncated", Untrusted, "reply.seal", without=None)
def seal_cut(d: Draft) -> Answer:
    """shorter than a nonce"""
    return d.answer(sealed=d.seal(d.result(d.opened(d.scene.a)))[:11])


@case("20-padding-not-zero", Malformed, "envelope.padding")
def padding(d: Draft) -> Answer:
    """one bit set in the last byte of the padding"""
    sealed = d.seal(d.result(d.opened(d.scene.a)))
    return d.answer(sealed=reseal(d, sealed, lambda plain: plain[:-1] + b"\x01"))


@case("20-padded-length-too-long", Malformed, "envelope.padding", without="wire.trailing")
def padding_length(d: Draft) -> Answer:
    """a length beyond the plaintext"""
    sealed = d.seal(d.result(d.opened(d.scene.a)))
    return d.answer(sealed=reseal(d, sealed, lambda plain: len(plain).to_bytes(4, "big") + plain[4:]))


@case("20-result-trailing-byte", Malformed, "wire.trailing")
def result_trailing(d: Draft) -> Answer:
    """a zero byte after the result, counted in the length"""
    sealed = d.seal(d.result(d.opened(d.scene.a)))
    return d.answer(
        sealed=reseal(d, sealed, lambda plain: (int.from_bytes(plain[:4], "big") + 1).to_bytes(4, "big") + plain[4:])
    )


# --- 20: the result ---------------------------------------------------------------------------------------------------


@case("20-result-of-another-query", Untrusted, "result.other_query")
def other_query(d: Draft) -> Answer:
    """another query id"""
    return d.answer(d.result(d.opened(d.scene.a), query_id=sha256(QUERY_ID)[:16]))


@case("20-declined-without-proof", Untrusted, "result.declined_unproven", without="merchant.absent")
def declined(d: Draft) -> Answer:
    """the enclave says that there is no merchant, under a proof that there is"""
    return d.answer(d.result(refusal="merchant.absent", branch="Declined", detail="no"))


@case("20-declined-for-another-query", Untrusted, "result.other_query", without="merchant.absent")
def declined_other(d: Draft) -> Answer:
    """a "no" in the answer to another query"""
    return d.answer(d.result(query_id=bytes(16), refusal="merchant.absent", branch="Declined", detail="no"))


@case("20-ok-branch-without-refusal")
def branch_alone(d: Draft) -> Answer:
    """a branch without a code is no refusal"""
    return d.answer(d.result(d.opened(d.scene.a), branch="Declined"))


@case("20-refusal-rate", Unreachable, "query.rate", without="record.unopened")
def rate(d: Draft) -> Answer:
    """the enclave's buckets are empty"""
    return d.answer(d.result(refusal="query.rate", branch="Unreachable", detail="wait", retry_after_ms=1000))


@case("20-refusal-beside-a-record", Untrusted, "query.replayed")
def refusal_and_record(d: Draft) -> Answer:
    """a refusal counts, whatever is opened beside it"""
    opened = d.opened(d.scene.a)
    return d.answer(d.result(opened, refusal="query.replayed", branch="Untrusted", detail="again"))


@case("20-refusal-of-an-unknown-branch", Unreachable, "made.up", without="record.unopened")
def unknown_branch(d: Draft) -> Answer:
    """a refusal that is of no branch of the tree says only that there is no answer"""
    return d.answer(d.result(refusal="made.up", branch="Accepted", detail="?"))


# --- 21: what is opened -----------------------------------------------------------------------------------------------


@case("21-worse-partner-beside-the-target", Untrusted, "result.other_record")
def partner_beside(d: Draft) -> Answer:
    """mode node: the partner's record beside the own platform's"""
    return d.answer(d.result(d.opened(d.scene.a), d.opened(d.scene.b)))


@case("21-worse-partner-instead", Untrusted, "result.other_record", without="record.unopened")
def partner_instead(d: Draft) -> Answer:
    """mode node: the partner's record in place of the own platform's"""
    return d.answer(d.result(d.opened(d.scene.b)))


@case("21-record-outside-the-audience", Untrusted, "result.other_record")
def outside(d: Draft) -> Answer:
    """mode wallet: a record for another platform's own wallets"""
    d.mode = MatchMode.WALLET
    return d.answer(d.result(d.opened(d.scene.a), d.opened(d.scene.c)))


@case("21-one-record-twice", Untrusted, "result.other_record")
def twice(d: Draft) -> Answer:
    """the target's record twice"""
    return d.answer(d.result(*[d.opened(d.scene.a)] * 2))


@case("21-target-not-opened", Unreachable, "record.unopened", without=None)
def unopened(d: Draft) -> Answer:
    """a live link without a plaintext"""
    return d.answer(d.result())


@case("21-partner-alone", Unreachable, "record.unopened", without=None)
def partner_alone(d: Draft) -> Answer:
    """mode wallet: the partner's record, the own platform's left closed"""
    d.mode = MatchMode.WALLET
    return d.answer(d.result(d.opened(d.scene.b)))


@case("21-ok-partner-left-closed")
def partner_closed(d: Draft) -> Answer:
    """mode wallet: the target alone is opened; what else the wallet may read is not owed"""
    d.mode = MatchMode.WALLET
    return d.answer()


# --- 22: the commitment -----------------------------------------------------------------------------------------------


def signed_by_key(record: Record, key: SigningKey, salt: bytes, chain_id: str = CHAIN_ID) -> SignedRecord:
    return sign_record(chain_id, record, salt, key)


@case("22-altered-record-with-a-stolen-record-key", Untrusted, "record.commitment")
def stolen_key(d: Draft) -> Answer:
    """another settlement account in a record that the platform's own key signed"""
    a = d.scene.a
    account = AcquiringAccount(merchant_number="THIEF-1", settlement_reference="thief", currency="EUR", store_labels=())
    record = make_record(a.id, terms=PaymentTerms(accounts=(account,), tip_mode=TipMode.NONE).encoded())
    signed = signed_by_key(record, a.key(Role.RECORD), d.scene.signed[a.id].salt)
    return d.answer(d.result(d.opened(a, signed)))


@case("22-salt-altered", Untrusted, "record.commitment")
def salt(d: Draft) -> Answer:
    """the record as it is, with another salt"""
    a = d.scene.a
    return d.answer(d.result(d.opened(a, dataclasses.replace(d.scene.signed[a.id], salt=sha256(b"another salt")))))


@case("22-record-of-another-platform", Untrusted, "record.commitment", without="platform.key_unknown")
def other_platform(d: Draft) -> Answer:
    """the partner's record under the own platform's id"""
    return d.answer(d.result(d.opened(d.scene.a, d.scene.signed[d.scene.b.id])))


@case("22-record-of-another-merchant", Untrusted, "record.commitment", without="record.ids")
def other_merchant(d: Draft) -> Answer:
    """the own platform's record of another merchant"""
    return d.answer(d.result(d.opened(d.scene.a, d.scene.other_signed)))


@case("22-record-of-the-version-before", Untrusted, "record.commitment", without="record.ids")
def old_version(d: Draft) -> Answer:
    """the record of version 1 where the link is of version 2"""
    a, old = d.scene.a, d.scene.signed[d.scene.a.id]
    d.scene.publish(a, make_record(a.id, version=2))
    return d.answer(d.result(d.opened(a, old)))


@case("22-commitment-for-another-epoch", Untrusted, "record.commitment")
def other_epoch(d: Draft) -> Answer:
    """the link's commitment is to the same record under another epoch"""
    a, link = d.scene.a, d.scene.records[d.scene.a.id][0]
    d.scene.publish(a, epoch=2, commitment=link.commitment)
    return d.answer()


@case("22-signed-record-trailing-byte", Malformed, "wire.trailing")
def signed_trailing(d: Draft) -> Answer:
    """a zero byte after the signed record"""
    return d.answer(d.result(d.opened(d.scene.a, d.scene.signed[d.scene.a.id].encoded() + b"\0")))


@case("22-signed-record-other-encoding", Malformed, "wire.not_canonical")
def signed_encoding(d: Draft) -> Answer:
    """the salt's length in three bytes where two do"""
    raw = d.scene.signed[d.scene.a.id].encoded()
    return d.answer(d.result(d.opened(d.scene.a, raw.replace(b"\x01\x58\x20", b"\x01\x59\x00\x20", 1))))


@case("22-signed-record-unknown-field", Malformed, "wire.field_unknown")
def signed_unknown(d: Draft) -> Answer:
    """a field 5 beside the signature"""
    fields = fields_of(d.scene.signed[d.scene.a.id])
    return d.answer(d.result(d.opened(d.scene.a, assemble([*fields, (5, encode(True))]))))


# --- 23: signature, key, ids. The chain commits to what is opened: a platform lies, or a transaction key was stolen ---


def published(d: Draft, signed: SignedRecord, record: Record | None = None, **link: Any) -> Answer:
    d.scene.publish(d.scene.a, record, signed, **link)
    return d.answer()


def record_keys(platform: Platform, **changes: Any) -> Any:
    keys = platform.leaf().keys
    return platform.leaf(
        keys=tuple(dataclasses.replace(key, **changes) if key.role == Role.RECORD else key for key in keys)
    )


@case("23-record-key-of-another-platform", Untrusted, "platform.key_unknown")
def key_of_another(d: Draft) -> Answer:
    """signed with the partner's record key"""
    a, b = d.scene.a, d.scene.b
    return published(d, signed_by_key(make_record(a.id), b.key(Role.RECORD), sha256(b"salt")))


@case("23-record-key-of-another-role", Untrusted, "platform.key_unknown")
def key_of_another_role(d: Draft) -> Answer:
    """signed with the platform's own transaction key"""
    a = d.scene.a
    return published(d, signed_by_key(make_record(a.id), a.key(Role.TRANSACTION), sha256(b"salt")))


@case("23-record-key-revoked", Untrusted, "platform.key_state")
def key_revoked(d: Draft) -> Answer:
    """the record key was revoked"""
    d.scene.leaves[d.scene.a.id] = record_keys(d.scene.a, state=KeyState.REVOKED)
    return d.answer()


@case("23-record-key-retired-at-publication", Untrusted, "platform.key_state")
def key_retired(d: Draft) -> Answer:
    """the link is of the very height at which the key was retired"""
    d.scene.leaves[d.scene.a.id] = record_keys(d.scene.a, state=KeyState.RETIRED, height=5)
    return d.answer()


@case("23-ok-record-key-retired-after-publication")
def key_retired_later(d: Draft) -> Answer:
    """the link is of the height before the key was retired"""
    d.scene.leaves[d.scene.a.id] = record_keys(d.scene.a, state=KeyState.RETIRED, height=6)
    return d.answer()


@case("23-record-key-expired", Untrusted, "platform.key_expired")
def key_expired(d: Draft) -> Answer:
    """the key ended a millisecond before the header was signed"""
    d.scene.leaves[d.scene.a.id] = record_keys(d.scene.a, not_after_ms=NOW_MS - 2001)
    return d.answer()


@case("23-signature-by-another-key", Untrusted, "signature.bad")
def signed_by_thief(d: Draft) -> Answer:
    """the platform's key is named, another one signed"""
    a = d.scene.a
    forged = signed_by_key(make_record(a.id), THIEF, sha256(b"salt"))
    return published(d, dataclasses.replace(forged, record_key=a.key(Role.RECORD).public))


@case("23-signature-for-another-chain", Untrusted, "signature.bad")
def signed_for_chain(d: Draft) -> Answer:
    """the platform signed this record for another network"""
    a = d.scene.a
    return published(d, signed_by_key(make_record(a.id), a.key(Role.RECORD), sha256(b"salt"), "onecode-other"))


@case("23-signature-in-another-domain", Untrusted, "signature.bad")
def signed_in_domain(d: Draft) -> Answer:
    """the platform's key signed these bytes as something else"""
    a = d.scene.a
    honest = d.scene.signed[a.id]
    other = a.key(Role.RECORD).sign(Domain.RECEIPT, CHAIN_ID, honest.record)
    return published(d, dataclasses.replace(honest, signature=other))


@case("23-signature-s-not-canonical", Untrusted, "signature.bad")
def malleable(d: Draft) -> Answer:
    """s + L in place of s"""
    honest = d.scene.signed[d.scene.a.id]
    s = int.from_bytes(honest.signature[32:], "little") + ED25519_ORDER
    return published(d, dataclasses.replace(honest, signature=honest.signature[:32] + s.to_bytes(32, "little")))


@case("23-signature-under-a-small-order-key", Untrusted, "signature.bad")
def small_order(d: Draft) -> Answer:
    """the platform lists the neutral point as a record key: under a wider rule any text would be signed by it"""
    neutral = b"\x01" + bytes(31)
    d.scene.leaves[d.scene.a.id] = record_keys(d.scene.a, key=neutral)
    honest = d.scene.signed[d.scene.a.id]
    return published(d, dataclasses.replace(honest, record_key=neutral, signature=neutral + bytes(32)))


def named(d: Draft, **changes: Any) -> Answer:
    """The own platform signs and commits to a record that names something else."""
    a = d.scene.a
    record = dataclasses.replace(make_record(a.id), **changes)
    return published(d, signed_by_key(record, a.key(Role.RECORD), sha256(b"salt")), version=1)


@case("23-record-names-another-merchant", Untrusted, "record.ids")
def names_merchant(d: Draft) -> Answer:
    """the record is of another merchant"""
    return named(d, merchant=OTHER)


@case("23-record-names-another-platform", Untrusted, "record.ids", without="record.unmatched")
def names_platform(d: Draft) -> Answer:
    """the record is of a platform that the wallet does not accept"""
    return named(d, platform=d.scene.c.id)


@case("23-record-names-another-service", Untrusted, "record.ids")
def names_service(d: Draft) -> Answer:
    """the record is for another service"""
    return named(d, service="loyalty")


@case("23-record-names-another-version", Untrusted, "record.ids")
def names_version(d: Draft) -> Answer:
    """the record is of another version"""
    return named(d, version=2)


@case("23-record-schema-unknown", Malformed, "record.schema")
def schema(d: Draft) -> Answer:
    """a record of schema 2"""
    return named(d, schema=2)


@case("23-record-mcc-not-digits", Malformed, "record.mcc")
def mcc(d: Draft) -> Answer:
    """a merchant category code with a letter"""
    return named(d, mcc="58A2")


@case("23-record-country-not-capital", Malformed, "record.country")
def country(d: Draft) -> Answer:
    """a country in small letters"""
    return named(d, country="de")


@case("23-record-window-backwards", Malformed, "record.validity", without="record.expired")
def backwards(d: Draft) -> Answer:
    """a validity window that ends before it begins"""
    return named(d, valid_from_ms=NOW_MS + 1, valid_until_ms=NOW_MS - 1)


def raw_record(d: Draft, body: bytes) -> Answer:
    a = d.scene.a
    signature = a.key(Role.RECORD).sign(Domain.RECORD, CHAIN_ID, body)
    signed = SignedRecord(salt=sha256(b"salt"), record=body, record_key=a.key(Role.RECORD).public, signature=signature)
    return published(d, signed)


@case("23-record-unknown-critical-field", Malformed, "wire.field_unknown")
def critical(d: Draft) -> Answer:
    """a signed record with a field 20"""
    raw = make_record(d.scene.a.id).encoded()
    return raw_record(d, bytes((raw[0] + 1,)) + raw[1:] + encode(20) + encode(True))


@case("23-ok-record-extension")
def record_extension(d: Draft) -> Answer:
    """a signed record with a field 64 is read as if it had none"""
    raw = make_record(d.scene.a.id).encoded()
    return raw_record(d, bytes((raw[0] + 1,)) + raw[1:] + encode(64) + encode(True))


@case("23-record-other-encoding", Malformed, "wire.not_canonical")
def record_encoding(d: Draft) -> Answer:
    """a signed record whose schema takes two bytes where one does"""
    raw = make_record(d.scene.a.id).encoded()
    return raw_record(d, raw.replace(b"\x01\x01\x02", b"\x01\x18\x01\x02", 1))


@case("23-record-audience-unsorted", Malformed, "wire.field", without="record.audience")
def unsorted(d: Draft) -> Answer:
    """the partners in a signed record are not in ascending order"""
    first, second = sorted([d.scene.b.id, d.scene.c.id])
    a = d.scene.a
    raw = make_record(a.id, audience=(second, first)).encoded()
    signature = a.key(Role.RECORD).sign(Domain.RECORD, CHAIN_ID, raw)
    key = a.key(Role.RECORD).public
    signed = SignedRecord(salt=sha256(b"salt"), record=raw, record_key=key, signature=signature)
    return published(d, signed, audience=(first, second))


# --- 24: audience and window ------------------------------------------------------------------------------------------


@case("24-audience-wider-in-the-link", Untrusted, "record.audience")
def audience_wider(d: Draft) -> Answer:
    """the record is for its own platform, the link names a partner"""
    return published(d, d.scene.signed[d.scene.a.id], audience=(d.scene.b.id,))


@case("24-audience-wider-in-the-record", Untrusted, "record.audience")
def audience_narrower(d: Draft) -> Answer:
    """the record names a partner, the link none"""
    a = d.scene.a
    signed = signed_by_key(make_record(a.id, audience=(d.scene.b.id,)), a.key(Role.RECORD), sha256(b"salt"))
    return published(d, signed)


@case("24-record-expired", Declined, "record.expired")
def expired(d: Draft) -> Answer:
    """the window ended this very millisecond"""
    return named(d, valid_until_ms=NOW_MS)


@case("24-ok-last-millisecond")
def last_moment(d: Draft) -> Answer:
    """the window ends in the next millisecond"""
    return named(d, valid_until_ms=NOW_MS + 1)


@case("24-record-not-yet-valid", Declined, "record.expired")
def not_yet(d: Draft) -> Answer:
    """the window begins in the next millisecond"""
    return named(d, valid_from_ms=NOW_MS + 1, valid_until_ms=NOW_MS + DAY_MS)


@case("24-ok-first-millisecond")
def first_moment(d: Draft) -> Answer:
    """the window begins this very millisecond"""
    return named(d, valid_from_ms=NOW_MS, valid_until_ms=NOW_MS + DAY_MS)


@case("24-ok-partners-expired-record-left-out")
def partner_expired(d: Draft) -> Answer:
    """mode wallet: the partner's record has expired; the own one is paid and the partner's not offered"""
    d.mode = MatchMode.WALLET
    d.scene.publish(d.scene.b, make_record(d.scene.b.id, audience=(d.scene.a.id,), valid_until_ms=NOW_MS))
    return d.answer(d.result(d.opened(d.scene.a), d.opened(d.scene.b)))


# --- after 24: terms, order, differences ------------------------------------------------------------------------------


@case("25-terms-fee-without-its-mode", Malformed, "record.tip")
def terms(d: Draft) -> Answer:
    """a fixed fee where the terms take none"""
    account = AcquiringAccount(merchant_number="M", settlement_reference="s", currency="EUR", store_labels=())
    return named(d, terms=PaymentTerms(accounts=(account,), tip_mode=TipMode.NONE, fee_fixed_minor=100).encoded())


def dynamic(d: Draft, key: SigningKey = ORDER_KEY, chain_id: str = CHAIN_ID, ahead_ms: int = 600_000) -> Answer:
    order = OrderTerms(1250, "ORDER-7", NOW_MS + ahead_ms)
    d.code = build_dynamic(LABEL, order, key.sign_bytes, chain_id)
    d.scene.entry_changes.setdefault("order_keys", (ORDER_KEY.public,))
    return d.answer()


@case("25-ok-order")
def order(d: Draft) -> Answer:
    """a dynamic code by an order key of the merchant"""
    return dynamic(d)


@case("25-order-by-another-key", Untrusted, "code.order_signature")
def order_key(d: Draft) -> Answer:
    """a dynamic code that no order key of the merchant signed"""
    return dynamic(d, THIEF)


@case("25-order-for-another-chain", Untrusted, "code.order_signature")
def order_chain(d: Draft) -> Answer:
    """the merchant's key signed the code for another network"""
    return dynamic(d, chain_id="onecode-other")


@case("25-order-while-a-recovery-is-pending", Untrusted, "code.order_signature")
def order_recovery(d: Draft) -> Answer:
    """no order key counts once a recovery has begun"""
    d.scene.entry_changes["recovery"] = PendingRecovery(controller=THIEF.public, effective_ms=NOW_MS + DAY_MS)
    return dynamic(d)


@case("25-order-expired", Declined, "code.order_expired")
def order_expired(d: Draft) -> Answer:
    """the code ends this very millisecond"""
    return dynamic(d, ahead_ms=0)


@case("25-order-expiry-too-far", Declined, "code.order_expiry_far")
def order_far(d: Draft) -> Answer:
    """the code ends in an hour, five seconds and a millisecond"""
    return dynamic(d, ahead_ms=3_605_001)


@case("25-ok-differences-are-told")
def differences(d: Draft) -> Answer:
    """the printed code says another name, category, country and currency; the record holds"""
    label = dataclasses.replace(LABEL, name="Golden Palace", mcc="5999", country="FR", currency="840")
    d.code = build_static(label)
    return d.answer()
