"""Rules of merchants: what the controller key and the recovery key, which outranks it, may do."""

from __future__ import annotations

import dataclasses

from onecode.code.identity import recovery_hash
from onecode.proof.leaves import MerchantEntry, PendingRecovery
from onecode.registry.context import Context
from onecode.registry.events import (
    MerchantOrderKeysSet,
    MerchantRecoverCancelled,
    MerchantRecoverStarted,
    MerchantRecoveryKeySet,
    MerchantRotated,
    MerchantUnlinked,
)
from onecode.registry.results import Result
from onecode.registry.rules_records import end_link, find_link
from onecode.registry.transactions import (
    MerchantOrderkeys,
    MerchantRecover,
    MerchantRecoverCancel,
    MerchantRecoverykey,
    MerchantRotate,
    MerchantUnlink,
    SignerKind,
)


def controller_code(context: Context) -> Result:
    """`RECOVERY_PENDING` for the controller while a recovery is pending; the recovery key is never refused here."""
    if context.signer_kind == SignerKind.CONTROLLER and context.own_entry().recovery is not None:
        return Result.RECOVERY_PENDING
    return Result.OK


def unlink(context: Context, payload: MerchantUnlink) -> Result:
    """`merchant.unlink`: deletes a platform's link, raises its floor and the consent serial."""
    if code := controller_code(context):
        return code
    entry = context.own_entry()
    found = find_link(context, context.signer, entry, payload.service, payload.platform)
    if found is None:
        return Result.LINK_UNKNOWN
    service, link = found
    entry = dataclasses.replace(entry, consent_serial=entry.consent_serial + 1)
    end_link(context, context.signer, entry, service, link)
    context.events.append(MerchantUnlinked(context.signer, payload.platform, payload.service, link.version))
    return Result.OK


def set_order_keys(context: Context, payload: MerchantOrderkeys) -> Result:
    """`merchant.orderkeys`: the whole list anew."""
    if code := controller_code(context):
        return code
    context.change_entry(order_keys=payload.order_keys)
    context.events.append(MerchantOrderKeysSet(context.signer))
    return Result.OK


def rotate(context: Context, payload: MerchantRotate) -> Result:
    """`merchant.rotate`: a new controller at once; raises the consent serial."""
    if code := controller_code(context) or _new_controller_code(context, payload.controller, payload.possession):
        return code
    context.change_entry(controller=payload.controller, consent_serial=context.own_entry().consent_serial + 1)
    context.events.append(MerchantRotated(context.signer))
    return Result.OK


def recover(context: Context, payload: MerchantRecover) -> Result:
    """`merchant.recover`: a new controller after the delay. Another one in its place begins the delay anew."""
    if code := _new_controller_code(context, payload.controller, payload.possession):
        return code
    effective_ms = context.time_ms + context.state.parameters().recovery_delay_ms
    context.change_entry(recovery=PendingRecovery(controller=payload.controller, effective_ms=effective_ms))
    platforms = linked_platforms(context, context.signer, context.own_entry())
    context.events.append(MerchantRecoverStarted(context.signer, effective_ms, platforms))
    return Result.OK


def cancel_recover(context: Context, _payload: MerchantRecoverCancel) -> Result:
    """`merchant.recover` taken back before its effect, by the recovery key alone."""
    if context.own_entry().recovery is None:
        return Result.NOTHING_PENDING
    context.change_entry(recovery=None)
    context.events.append(MerchantRecoverCancelled(context.signer))
    return Result.OK


def set_recovery_key(context: Context, payload: MerchantRecoverykey) -> Result:
    """`merchant.recoverykey`, by both keys: a new recovery hash at once; drops a pending recovery."""
    entry = context.own_entry()
    if payload.recovery_hash in (entry.recovery_hash, recovery_hash(entry.controller)):
        return Result.KEYS_NOT_DISTINCT
    context.change_entry(recovery_hash=payload.recovery_hash, recovery=None)
    context.events.append(MerchantRecoveryKeySet(context.signer))
    return Result.OK


def linked_platforms(context: Context, merchant: bytes, entry: MerchantEntry) -> tuple[bytes, ...]:
    """Platforms with a live link to the merchant for any service, ascending."""
    lists = (context.state.links(merchant, service, service.service) for service in entry.services)
    return tuple(sorted({link.platform for links in lists for link in links.links}))


def _new_controller_code(context: Context, key: bytes, possession: bytes) -> Result:
    entry = context.own_entry()
    if key == entry.controller or recovery_hash(key) == entry.recovery_hash:
        return Result.KEYS_NOT_DISTINCT
    return Result.OK if context.possessed(key, possession) else Result.POSSESSION
