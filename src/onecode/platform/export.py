"""A payment's evidence as one file, with its place in a checkpoint; a trace is added by whoever has a trust file."""

from __future__ import annotations

from onecode.errors import Declined
from onecode.platform.checkpoints import load_place
from onecode.platform.context import Platform
from onecode.platform.schema import Evidence, PartnerWord, Payment
from onecode.query.evidence import EVIDENCE_BYTES_MAX, EVIDENCE_FORMAT, EvidenceFile, Superseded
from onecode.query.messages import MemberView
from onecode.schema import parse


def build_evidence(platform: Platform, payment_id: str, until: int | None = None) -> EvidenceFile:
    """What was kept of a payment that was accepted; the receipt is the first one.

    until: serial of the checkpoint that a checker will name, where it is later than the one that counts the receipt.
    There is no place in a checkpoint while the payment's period is not over. Of a payment that a partner made by this
    platform's record, the receipt is the one to that partner.
    """
    with platform.database.read() as session:
        payment, row = session.get(Payment, payment_id), session.get(Evidence, payment_id)
        if payment is None or row is None:
            raise Declined("payment.unknown", "there is no such payment", status=404)
        word = session.get(PartnerWord, payment_id)
        is_answered = word is not None and payment.record_platform != platform.id
        height = parse(MemberView, row.view, size_max=EVIDENCE_BYTES_MAX, path="view").header.header.height
        return EvidenceFile(
            format=EVIDENCE_FORMAT,
            chain_id=platform.config.chain_id,
            request=row.request,
            view=row.view,
            signed_record=row.signed_record,
            receipt=row.receipt,
            superseded=parse(Superseded, row.superseded) if row.superseded is not None else None,
            partner_receipt=word.body if word is not None and is_answered else None,
            trace=(),
            place=load_place(session, payment_id, row.receipt, height, until),
        )
