"""A payment's evidence: why its money went where it went, checked by anybody, offline, against what they trust.

That is the header of a trust file under a root that the checker pins, or, years later, a platform's checkpoint that the
checker names by its hash. The file itself is believed in nothing. Steps and codes: docs/spec/verification.md,
"Evidence".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from onecode.code.identity import prefix_of
from onecode.code.order import VerifiedOrder, verify_order
from onecode.code.reading import Code, parse_code
from onecode.errors import Malformed, Untrusted
from onecode.proof.checkpoint import (
    CheckpointPlace,
    VerifiedCheckpoint,
    verify_checkpoint,
    verify_header_in_checkpoint,
    verify_named,
    verify_receipt_in_checkpoint,
)
from onecode.proof.header import Header, header_hash, validators_hash
from onecode.proof.leaves import Link, PlatformLeaf, Role
from onecode.proof.light import Trust, VerifiedHeader, verify_commit, verify_header
from onecode.proof.map import verify_roots
from onecode.proof.trust import SOLO_PREFIX
from onecode.query.messages import PROTOCOL, ClearQuery, MemberView
from onecode.query.verify import VerifiedRecord, verify_platforms, verify_record, verify_state
from onecode.record.envelope import RecordIds, SignedRecord, commitment, verify_signed_record
from onecode.record.payment import parse_terms
from onecode.record.receipt import PaymentRequest, PaymentState, Receipt, SignedReceipt, verify_receipt, verify_terms
from onecode.record.schema import Record
from onecode.schema import Bytes, ListOf, Message, Nested, Text, Uint, item, parse

EVIDENCE_FORMAT = 1
EVIDENCE_BYTES_MAX = 16 << 20
TRACE_HEADERS_MAX = 20_000  # two days of heartbeats
RECEIPT_AGE_MS_MAX = 60_000  # a header of at most 30 s, and 30 s for the request
SKEW_MS = 5_000


class Superseded(Message):
    """The record that a payer named while a rotation replaced it by the next version, which says the same."""

    epoch: int = item(1, Uint())
    signed_record: bytes = item(2, Bytes(1, 8192))  # encoded SignedRecord


class EvidenceFile(Message):
    """Everything that shows one payment. `trace`: the headers after the view's, up to that of a trust file that is
    later; empty where the trust file is earlier, or of the same header. `place`: in the platform's checkpoint."""

    format: int = item(1, Uint(255))
    chain_id: str = item(2, Text(50))
    request: bytes = item(3, Bytes(1, 4096))  # encoded PaymentRequest
    view: bytes = item(4, Bytes(1, 4 << 20))  # encoded MemberView
    signed_record: bytes = item(5, Bytes(1, 8192))  # encoded SignedRecord
    receipt: bytes = item(6, Bytes(1, 4096))  # encoded SignedReceipt, the first one
    superseded: Superseded | None = item(7, Nested(Superseded), default=None)
    partner_receipt: bytes | None = item(8, Bytes(1, 4096), default=None)  # encoded SignedReceipt of the partner
    trace: tuple[Header, ...] = item(9, ListOf(Nested(Header), TRACE_HEADERS_MAX))
    place: CheckpointPlace | None = item(10, Nested(CheckpointPlace), default=None)


@dataclass(frozen=True, slots=True)
class NamedCheckpoint:
    """The checkpoint that a checker believes, by its hash, for the chain with this id."""

    chain_id: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class VerifiedEvidence:
    """What a file of evidence establishes. record: that was live when the platform took the payment; receipt: that the
    platform signed then; partner: the word of the record's platform, where that is another. is_solo: the chain is one
    organisation's word, and so is all of this. checkpoint: in which header and receipt stand, where one was named."""

    header: VerifiedHeader
    record: VerifiedRecord
    request: PaymentRequest
    receipt: Receipt
    partner: Receipt | None
    order: VerifiedOrder | None
    is_solo: bool
    checkpoint: VerifiedCheckpoint | None = None


def parse_evidence(data: bytes) -> EvidenceFile:
    """A file of evidence of untrusted bytes; another format is refused as such."""
    file = parse(EvidenceFile, data, size_max=EVIDENCE_BYTES_MAX, path="evidence")
    if file.format != EVIDENCE_FORMAT:
        raise Malformed("evidence.format", f"evidence of format {file.format} is not known here", field="format")
    return file


def verify_evidence(file: EvidenceFile, trust: Trust | NamedCheckpoint, now_ms: int) -> VerifiedEvidence:
    """That the payment went where the chain and the record said at that time.

    1. The file is of the chain that is trusted. 2. Its header is that of the trust, or follows from it by the
    validators' votes, or the trust's header commits to it through the trace, or the named checkpoint does, through the
    checkpoint in the file; its own commit holds. 3. Roots, platforms,
    merchant and links are proven under it, the merchant not frozen (answer, steps 13 to 18). 4. The platform that
    signed the receipt is active, and the key is a receipt key of it. 5. The receipt is for exactly the request. 6. It
    was signed when the header was fresh, and names that header. 7. The record's platform is active, its link live and
    for payers of the receipt's platform. 8. The link commits to exactly the record given, signed by its platform,
    within its validity window (answer, steps 22 to 24). 9. The request names the link's version and commitment; or the
    version before, whose record is given, is what the request's commitment commits to, and says the same. 10. The
    order fits the record's terms, and fee and total are theirs. 11. A dynamic code was signed by an order key of the
    merchant, for this order. 12. The partner's receipt, where there is one, is for the same payment. 13. Under a named
    checkpoint: the checkpoint is that of the receipt's platform and commits to exactly this signed receipt.
    With a named checkpoint `now_ms` is not used: no key of that time has to be good today.
    Does NOT check that the money moved, what became of the payment later (void, refund), nor that the record was that
    of the payer's choice.
    """
    checkpoint = None
    if isinstance(trust, NamedCheckpoint):
        header, view, checkpoint = _verify_header_named(file, trust)  # 1, 2
    else:
        header, view = _verify_header(file, trust, now_ms)  # 1, 2
    request = parse(PaymentRequest, file.request, path="evidence.request")
    verify_roots(view.roots, header.header.app_hash)  # before anything is proven under the roots
    platforms = verify_platforms(view.platforms, view.roots, {})
    clear = ClearQuery(
        protocol=PROTOCOL,
        chain_id=file.chain_id,
        merchant=request.merchant,
        service=request.service,
        query_key=bytes(32),
    )
    state = verify_state(clear, header, view.roots, None, view.merchant, platforms)  # 3
    receipt = _verify_receipt(file, platforms, header)  # 4
    _require_same(receipt, request)  # 5
    if receipt.header_hash != header.header_hash:  # 6
        raise Untrusted("evidence.receipt_header", "the receipt names another header", field="receipt.header_hash")
    if not -SKEW_MS <= receipt.time_ms - header.signed_ms <= RECEIPT_AGE_MS_MAX:
        raise Untrusted("evidence.receipt_time", "the header was not fresh at the receipt's time", field="receipt")
    link = state.link_of(request.platform)  # 7
    if link is None:
        raise Untrusted("evidence.link", "the chain had no live record of that platform then", field="view.merchant")
    if not platforms[link.platform].active_at(header.signed_ms):
        raise Untrusted("evidence.suspended", "the record's platform was not active then", field="view.platforms")
    if not link.readable_by(receipt.platform):
        raise Untrusted("evidence.audience", "the record was not for payers of the receipt's platform", field="view")
    record = verify_record(state, file.chain_id, link, file.signed_record, receipt.time_ms)  # 8
    _require_named(file, request, link, record, platforms[link.platform])  # 9
    _, fee_minor = verify_terms(parse_terms(record.record.terms), request.order)  # 10
    total_minor = request.order.amount_minor + request.order.tip_minor + fee_minor
    if (receipt.fee_minor, receipt.total_minor) != (fee_minor, total_minor):
        raise Untrusted("evidence.total", "fee or total are not those of the record's terms", field="receipt")
    order = _verify_code(file, request, record, receipt)  # 11
    partner = _verify_partner(file, platforms[link.platform], receipt)  # 12
    if checkpoint is not None:  # 13
        _require_counted(file, checkpoint, receipt)
    is_solo = file.chain_id.startswith(SOLO_PREFIX)
    return VerifiedEvidence(header, record, request, receipt, partner, order, is_solo, checkpoint)


def _verify_header(file: EvidenceFile, trust: Trust, now_ms: int) -> tuple[VerifiedHeader, MemberView]:
    """Steps 1 and 2, from a trust file's header."""
    trusted = trust.state
    view = _view_of(file, trusted.header.chain_id)  # 1
    header = view.header.header
    if header.height >= trusted.header.height:  # 2
        return verify_header(view.header, view.validators, trust, now_ms), view
    expected = header_hash(header)
    for index, later in enumerate(file.trace):
        if later.height != header.height + 1 + index or later.last_block_id.hash != expected:
            raise Untrusted("evidence.trace", "a header of the trace does not follow", field=f"trace[{index}]")
        expected = header_hash(later)
    if not file.trace or expected != trusted.header_hash:
        raise Untrusted("evidence.trace_end", "the trace does not end at the header of the trust file", field="trace")
    return _verify_own_commit(view), view


def _view_of(file: EvidenceFile, chain_id: str) -> MemberView:
    """Step 1."""
    view = parse(MemberView, file.view, size_max=EVIDENCE_BYTES_MAX, path="evidence.view")
    if not file.chain_id == view.header.header.chain_id == chain_id:
        raise Untrusted("evidence.chain", "the evidence is of another chain than what is trusted", field="chain_id")
    return view


def _verify_header_named(
    file: EvidenceFile, named: NamedCheckpoint
) -> tuple[VerifiedHeader, MemberView, VerifiedCheckpoint]:
    """Steps 1 and 2, from a checkpoint that the checker names."""
    view = _view_of(file, named.chain_id)  # 1
    if file.place is None:  # 2
        raise Untrusted(
            "evidence.no_checkpoint",
            "the evidence names no checkpoint: its platform adds one when the payment's period is over",
            field="place",
        )
    checkpoint = verify_checkpoint(file.place.checkpoint, named.chain_id)
    verify_named(checkpoint, file.place.later, named.hash)
    verify_header_in_checkpoint(view.header.header, checkpoint.body, file.place.header_aunts)
    return _verify_own_commit(view), view, checkpoint


def _verify_own_commit(view: MemberView) -> VerifiedHeader:
    """The header with the votes of its own validators: it is established by other means, these give its time."""
    header = view.header.header
    if validators_hash(view.validators) != header.validators_hash:
        raise Untrusted("evidence.validators", "the validators are not those of the header", field="view.validators")
    hashed = header_hash(header)
    commit = verify_commit(view.header, hashed, view.validators)
    return VerifiedHeader(header, hashed, view.validators, commit.signed_ms)


def _require_counted(file: EvidenceFile, checkpoint: VerifiedCheckpoint, receipt: Receipt) -> None:
    """Step 13."""
    if checkpoint.body.platform != receipt.platform or file.place is None:
        raise Untrusted(
            "evidence.checkpoint_platform", "the checkpoint is of another platform than the receipt", field="place"
        )
    place = file.place
    verify_receipt_in_checkpoint(file.receipt, checkpoint.body, place.receipt_index, place.receipt_aunts)


def _verify_receipt(file: EvidenceFile, platforms: dict[bytes, PlatformLeaf], header: VerifiedHeader) -> Receipt:
    """Step 4."""
    signed = parse(SignedReceipt, file.receipt, path="evidence.receipt")
    receipt = verify_receipt(file.chain_id, signed)
    leaf = platforms.get(receipt.platform)
    if leaf is None or not leaf.active_at(header.signed_ms):
        raise Untrusted("evidence.platform", "the receipt's platform is not proven as active", field="receipt.platform")
    leaf.require_key(Role.RECEIPT, signed.key, header.signed_ms)
    return receipt


def _require_same(receipt: Receipt, request: PaymentRequest) -> None:
    """Step 5."""
    said = (receipt.merchant, receipt.record_platform, receipt.version, receipt.commitment, receipt.order)
    if said != (request.merchant, request.platform, request.version, request.commitment, request.order):
        raise Untrusted("evidence.request", "the receipt is for another request", field="request")
    wanted = PaymentState.POSTED if receipt.platform == receipt.record_platform else PaymentState.PENDING
    if receipt.state != wanted:
        raise Untrusted("evidence.receipt_state", "the receipt is not the first of its payment", field="receipt.state")


def _require_named(
    file: EvidenceFile, request: PaymentRequest, link: Link, record: VerifiedRecord, leaf: PlatformLeaf
) -> None:
    """Step 9."""
    if file.superseded is None:
        if (request.version, request.commitment) != (link.version, link.commitment):
            raise Untrusted("evidence.named", "the request names another record than the link", field="request.version")
        return
    ids = RecordIds(
        merchant=request.merchant,
        platform=link.platform,
        service=request.service,
        version=request.version,
        epoch=file.superseded.epoch,
    )
    old = parse(SignedRecord, file.superseded.signed_record, path="evidence.superseded")
    if (
        request.version + 1 != link.version
        or commitment(file.chain_id, ids, old.salt, old.record) != request.commitment
    ):
        raise Untrusted("evidence.superseded", "the older record is not the one that was named", field="superseded")
    leaf.require_key(Role.RECORD, old.record_key, record.state.header.signed_ms, link_height=link.height)
    named: Record = verify_signed_record(file.chain_id, ids, old)
    if dataclasses.replace(named, version=link.version) != record.record:
        raise Untrusted(
            "evidence.rotation", "the older record says something else than the live one", field="superseded"
        )


def _verify_code(
    file: EvidenceFile, request: PaymentRequest, record: VerifiedRecord, receipt: Receipt
) -> VerifiedOrder | None:
    """Step 11."""
    order = request.order
    if order.code is None:
        return None
    code = parse_code(order.code, prefix=prefix_of(file.chain_id))
    if not isinstance(code, Code) or code.merchant_id != request.merchant:
        raise Untrusted("evidence.code_merchant", "the code is not this merchant's", field="request.order.code")
    signed_ms = record.state.header.signed_ms
    keys = record.state.entry.settled_at(signed_ms).order_keys_at(signed_ms)
    verified = verify_order(code, keys, file.chain_id, receipt.time_ms)
    said = (
        verified.amount_minor,
        verified.currency.alpha,
        verified.reference,
        verified.store_label,
        verified.terminal_label,
    )
    if said != (order.amount_minor, order.currency, order.reference, order.store_label, order.terminal_label):
        raise Untrusted("evidence.code_order", "the code's signature is for another order", field="request.order")
    return verified


def _verify_partner(file: EvidenceFile, leaf: PlatformLeaf, receipt: Receipt) -> Receipt | None:
    """Step 12."""
    if file.partner_receipt is None:
        return None
    signed = parse(SignedReceipt, file.partner_receipt, path="evidence.partner_receipt")
    partner = verify_receipt(file.chain_id, signed)
    leaf.require_key(Role.RECEIPT, signed.key, partner.time_ms)
    said = (partner.platform, partner.account, partner.payment_id, partner.order, partner.total_minor)
    if said != (receipt.record_platform, receipt.platform, receipt.payment_id, receipt.order, receipt.total_minor):
        raise Untrusted("evidence.partner", "the partner's receipt is about another payment", field="partner_receipt")
    return partner
