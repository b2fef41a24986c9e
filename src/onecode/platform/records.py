"""Which record a payment is by, and what it comes to: everything is checked against the chain before money moves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecode.errors import Declined, Unreachable, Untrusted
from onecode.platform.books import AccountKind, Charge
from onecode.platform.chain import MerchantView
from onecode.platform.context import Platform
from onecode.platform.orders import price_order, verify_code_order
from onecode.platform.schema import Payment, RecordRow, RecordState
from onecode.proof.leaves import Link
from onecode.query.evidence import Superseded
from onecode.query.verify import VerifiedRecord, VerifiedState, verify_record
from onecode.record.envelope import SignedRecord
from onecode.record.payment import SERVICE_PAY, parse_terms
from onecode.record.receipt import PaymentRequest
from onecode.record.schema import Record, parse_record
from onecode.registry.narrowing import Narrowing
from onecode.schema import parse

PROOF_RETRY_MS = 500


@dataclass(frozen=True, slots=True)
class Accepted:
    """A payment that may be booked. reference: of a signed order. superseded: the record that was named, where the
    grace for a rotation applies."""

    view: MerchantView
    verified: VerifiedRecord
    charge: Charge
    reference: str | None
    superseded: Superseded | None


def proven_state(platform: Platform, request: PaymentRequest) -> tuple[MerchantView, VerifiedState]:
    """Entry, links and platforms under a fresh header, the merchant not frozen; `Declined` where there is nothing, and
    where a decided block, whose proof is on its way, has taken it (`require_not_narrowed`)."""
    if request.service != SERVICE_PAY:
        raise Declined("payment.service", "this platform pays for the service `pay` only", field="service")
    view = platform.chain.fetch_merchant(request.merchant, request.service)
    if view.state is None:
        raise view.absence or Declined("payment.link", "the merchant has no live record here", field="merchant")
    require_not_narrowed(view.narrowing, request)
    return view, view.state


def require_not_narrowed(narrowing: Narrowing | None, request: PaymentRequest) -> None:
    """Raise where a block that is decided, but not proven yet, took away what the proven state still shows.

    What is certain is refused as it will be once it is proven: the merchant was frozen, the record's link ended. What
    only the proof can tell is `Unreachable`, to be asked again: the platform's leaf has changed, or, for a signed
    order, the merchant's order keys have. Nothing is ever allowed by it.
    """
    if narrowing is None:
        return
    decided = f"in block {narrowing.height}, whose proof is on its way"
    if narrowing.frozen:
        raise Declined("merchant.frozen", f"the merchant was frozen {decided}; do not pay", field="merchant")
    if request.platform in narrowing.ended:
        raise Declined("payment.link", f"the merchant's record ended {decided}", field="merchant")
    if request.platform in narrowing.changed or (narrowing.order_keys and request.order.code is not None):
        raise Unreachable(
            "payment.proof_awaited",
            f"the platform or the merchant's order keys changed {decided}: send it again",
            retry_after_ms=PROOF_RETRY_MS,
        )


def accept_own(platform: Platform, request: PaymentRequest, payer: bytes, payer_kind: AccountKind) -> Accepted:
    """A payment by this platform's own record, for a payer of its own or for a partner's (`payer` is then its id).

    3. Merchant entry, links and platforms are proven by the platform's own node under a fresh header, and the merchant
    is not frozen. 4. The platform is active and its link live; a partner is in the link's audience; version and
    commitment are the link's, or those of the version before under the grace for a rotation. 5. The platform's own
    copy is exactly the record that the link commits to, and within its validity window. 6. The order fits its terms
    (`price_order`). 7. A dynamic code says the same.
    Does NOT check that the code's reference is unused, nor that no withdrawal was asked for: `require_bookable`.
    """
    view, state = proven_state(platform, request)  # 3
    link = state.link_of(platform.id)  # 4
    if link is None:
        raise Declined("payment.link", "the merchant has no live record here", field="merchant")
    if not state.platforms[platform.id].active_at(state.header.signed_ms):
        raise Declined("payment.suspended", "this platform is suspended and takes no payments")
    if payer_kind == AccountKind.CLEARING and not link.readable_by(payer):
        raise Declined("payment.audience", "the record is not for payers of this platform", field="platform")
    superseded = None
    if link.version == request.version:
        require_link(link, request)
        verified = _own_record(platform, state, link)  # 5
    else:
        verified = _own_record(platform, state, link)
        superseded = _superseded(platform, verified.record, link, request)
    charge, reference = price_request(  # 6, 7
        platform, request, view, verified, payer, payer_kind, platform.config.merchant_fee_hundredths_percent
    )
    return Accepted(view, verified, charge, reference, superseded)


def require_link(link: Link, request: PaymentRequest) -> None:
    """Raise unless the request names exactly the record of the link. A link that is listed is live."""
    if link.version != request.version:
        raise Declined(
            "payment.version", "the record has another version now: look the merchant up again", field="version"
        )
    if link.commitment != request.commitment:
        raise Declined("payment.commitment", "the record is not the one on the chain: do not pay", field="commitment")


def _own_record(platform: Platform, state: VerifiedState, link: Link) -> VerifiedRecord:
    """Step 5."""
    with platform.database.read() as session:
        row = session.get(RecordRow, (state.merchant, state.service, link.version))
    if row is None or row.commitment != link.commitment:
        raise Declined("payment.record", "the record on the chain is not one that this platform made: do not pay")
    try:
        return verify_record(state, platform.config.chain_id, link, row.signed_record, platform.clock_ms())
    except Untrusted as error:  # the platform's fault, not the payer's; a revoked record key, for example
        raise Declined("payment.record", f"the record cannot be paid now: {error.message} [{error.code}]") from error


def _superseded(platform: Platform, current: Record, link: Link, request: PaymentRequest) -> Superseded:
    """The grace for a rotation: the version before, replaced less than `rotation_grace_ms` ago by one that says the
    same. A record whose content changed is no rotation, and a withdrawal leaves no link to be graced by."""
    with platform.database.read() as session:
        row = session.get(RecordRow, (request.merchant, request.service, request.version))
    if row is None or request.version + 1 != link.version:
        require_link(link, request)
    elif row.commitment == request.commitment and row.state in (RecordState.SUPERSEDED, RecordState.LIVE):
        age_ms = 0 if row.superseded_ms is None else platform.clock_ms() - row.superseded_ms
        signed = parse(SignedRecord, row.signed_record, path="record")
        named = dataclasses.replace(parse_record(signed.record), version=current.version)
        if age_ms < platform.config.rotation_grace_ms and named == current:
            return Superseded(epoch=row.epoch, signed_record=row.signed_record)
    raise Declined("payment.version", "the record has another version now: look the merchant up again", field="version")


def price_request(
    platform: Platform,
    request: PaymentRequest,
    view: MerchantView,
    verified: VerifiedRecord,
    payer: bytes,
    payer_kind: AccountKind,
    kept_hundredths_percent: int,
) -> tuple[Charge, str | None]:
    """Steps 6 and 7: what is booked, and the reference of a signed order."""
    charge, _ = price_order(
        request.order,
        parse_terms(verified.record.terms),
        payer=payer,
        merchant=request.merchant,
        merchant_fee_hundredths_percent=kept_hundredths_percent,
        payment_minor_max=platform.config.payment_minor_max,
    )
    charge = dataclasses.replace(charge, payer_kind=payer_kind)
    if request.order.code is None:
        return charge, None
    order = verify_code_order(
        request.order,
        request.order.code,
        request.merchant,
        verified.state.entry,
        platform.config.chain_id,
        view.header.signed_ms,
        platform.clock_ms(),
    )
    return charge, order.reference


def require_bookable(session: Session, merchant: bytes, reference: str | None, own: Link | None) -> None:
    """Raise where a withdrawal of the platform's own record was asked for, or a signed order was paid before here.

    Another platform cannot know of a paid order (docs/threat-model.md).
    """
    if own is not None:
        row = session.get(RecordRow, (merchant, SERVICE_PAY, own.version))
        if row is None or row.state not in (RecordState.PUBLISHING, RecordState.LIVE, RecordState.FAILED):
            raise Declined("payment.link", "the merchant has no live record here", field="merchant")
    if reference is not None:
        used = select(Payment.payment_id).where(Payment.merchant == merchant, Payment.order_reference == reference)
        if session.scalar(used) is not None:
            raise Declined(
                "payment.reference_used", "this order has been paid; ask for a new code", field="order.reference"
            )
