"""Rules of records: a platform publishes and withdraws its links, in batches with a result for each item."""

from __future__ import annotations

from onecode.code.identity import merchant_id, recovery_hash
from onecode.proof.leaves import LINKS_MAX, SERVICES_MAX, Link, LinkList, MerchantEntry, PlatformLeaf, ServiceEntry
from onecode.registry import counters
from onecode.registry.consents import consent_code
from onecode.registry.context import Context
from onecode.registry.events import MerchantBorn, RecordPublished, RecordWithdrawn
from onecode.registry.results import Result
from onecode.registry.transactions import Birth, Publication, Purpose, RecordPublish, RecordWithdraw, Withdrawal
from onecode.wire import sha256


def publish(context: Context, payload: RecordPublish) -> Result:
    """`record.publish`: the platform is active (`PLATFORM_INACTIVE`), then each item by itself."""
    platform = context.state.platform(context.signer)
    if platform is None or not platform.active_at(context.time_ms):
        return Result.PLATFORM_INACTIVE
    services = context.state.services().services_at(context.time_ms)
    for item in payload.items:
        context.item_codes.append(_publish(context, platform, services, item))
    return _batch_code(context)


def withdraw(context: Context, payload: RecordWithdraw) -> Result:
    """`record.withdraw`: each item by itself. A suspended platform may: it only narrows."""
    for item in payload.items:
        context.item_codes.append(_withdraw(context, item))
    return _batch_code(context)


def _batch_code(context: Context) -> Result:
    return Result.OK if Result.OK in context.item_codes else Result.ITEMS_FAILED


def _publish(context: Context, platform: PlatformLeaf, services: tuple[str, ...], item: Publication) -> Result:
    """One publication; every check comes before the first write."""
    state = context.state
    if item.service not in services:
        return Result.SERVICE_UNKNOWN
    if item.epoch < platform.epoch_min:
        return Result.EPOCH_TOO_OLD
    if any(state.platform(partner) is None for partner in item.audience):
        return Result.AUDIENCE_UNKNOWN
    if item.birth is not None and merchant_id(item.birth.controller, item.birth.recovery_hash) != item.merchant:
        return Result.BIRTH_MISMATCH
    found = state.merchant(item.merchant, context.time_ms)
    if found is None and item.birth is None:
        return Result.MERCHANT_UNKNOWN
    if found is None and item.birth is not None and recovery_hash(item.birth.controller) == item.birth.recovery_hash:
        return Result.KEYS_NOT_DISTINCT
    entry = found or _born(item.birth)
    service = entry.service(item.service)
    links = state.links(item.merchant, service, item.service).links
    own = next((link for link in links if link.platform == context.signer), None)
    if own is not None:
        if item.version != own.version + 1:
            return Result.VERSION
    elif code := _new_link_code(context, item, entry, service, len(links)):
        return code
    link = Link(
        platform=context.signer,
        version=item.version,
        epoch=item.epoch,
        audience=item.audience,
        height=context.height,
        envelope_hash=sha256(item.envelope),
        commitment=item.commitment,
    )
    _put_link(context, item.merchant, entry, item.service, links, link)
    state.put_envelope(item.merchant, context.signer, item.service, item.envelope)
    if found is None:
        context.events.append(MerchantBorn(item.merchant))
    context.events.append(
        RecordPublished(context.signer, item.merchant, item.service, item.version, item.epoch, own is None)
    )
    return Result.OK


def _born(birth: Birth | None) -> MerchantEntry:
    if birth is None:
        raise RuntimeError("a merchant without an entry is published with its birth keys")
    return MerchantEntry(
        controller=birth.controller,
        recovery_hash=birth.recovery_hash,
        order_keys=(),
        nonce=0,
        consent_serial=0,
        services=(),
        alias_count=0,
    )


def _new_link_code(
    context: Context, item: Publication, entry: MerchantEntry, service: ServiceEntry | None, links: int
) -> Result:
    """What a publication needs that has no live link yet."""
    if entry.frozen_at(context.time_ms):
        return Result.MERCHANT_FROZEN
    floor = 0  # of a new service, where no link can have ended
    if service is not None:
        floor = counters.version_floor(context.state, item.merchant, context.signer, item.service)
    if item.version != floor + 1:
        return Result.VERSION
    if links >= LINKS_MAX:
        return Result.LINKS_FULL
    if service is None and len(entry.services) >= SERVICES_MAX:
        return Result.SERVICES_FULL
    if item.consent is None:
        return Result.CONSENT_MISSING
    return consent_code(
        context,
        item.consent,
        purpose=Purpose.PUBLISH,
        merchant=item.merchant,
        entry=entry,
        service=item.service,
    )


def _put_link(
    context: Context, merchant: bytes, entry: MerchantEntry, name: str, links: tuple[Link, ...], link: Link
) -> None:
    """Write the list with `link` in its place, ascending by platform, and the entry that commits to it."""
    others = [other for other in links if other.platform != link.platform]
    ordered = LinkList(links=tuple(sorted([*others, link], key=lambda one: one.platform)))
    hashed = context.state.put_links(merchant, name, ordered)
    put_service(context, merchant, entry, ServiceEntry(service=name, links_hash=hashed))


def put_service(context: Context, merchant: bytes, entry: MerchantEntry, service: ServiceEntry) -> None:
    """Write `entry` with `service` in its place, ascending by name."""
    others = [other for other in entry.services if other.service != service.service]
    services = tuple(sorted([*others, service], key=lambda one: one.service))
    context.state.put_merchant(merchant, entry.having(services=services))


def end_link(context: Context, merchant: bytes, entry: MerchantEntry, service: ServiceEntry, link: Link) -> None:
    """Delete a link and its envelope, and raise its platform's floor to its version."""
    name, state = service.service, context.state
    rest = tuple(one for one in state.links(merchant, service, name).links if one.platform != link.platform)
    hashed = state.put_links(merchant, name, LinkList(links=rest))
    state.put_envelope(merchant, link.platform, name, None)
    counters.raise_floor(state, merchant, link.platform, name, link.version)
    put_service(context, merchant, entry, ServiceEntry(service=name, links_hash=hashed))


def find_link(
    context: Context, merchant: bytes, entry: MerchantEntry, name: str, platform: bytes
) -> tuple[ServiceEntry, Link] | None:
    """The live link of `platform` for a service, with the service's entry."""
    service = entry.service(name)
    if service is None:
        return None
    for link in context.state.links(merchant, service, name).links:
        if link.platform == platform:
            return service, link
    return None


def _withdraw(context: Context, item: Withdrawal) -> Result:
    entry = context.state.merchant(item.merchant, context.time_ms)
    if entry is None:
        return Result.MERCHANT_UNKNOWN
    found = find_link(context, item.merchant, entry, item.service, context.signer)
    if found is None:
        return Result.LINK_UNKNOWN
    service, link = found
    if item.version != link.version:
        return Result.VERSION
    end_link(context, item.merchant, entry, service, link)
    context.events.append(RecordWithdrawn(context.signer, item.merchant, item.service, item.version))
    return Result.OK
