"""Rules of aliases: labels of other schemes that name a merchant."""

from __future__ import annotations

import dataclasses

from onecode.proof.governance import SchemeLeaf, scheme_key
from onecode.proof.leaves import ALIASES_MAX, AliasLeaf, alias_key
from onecode.proof.map import Section
from onecode.registry.consents import consent_code
from onecode.registry.context import Context
from onecode.registry.events import AliasBound, AliasReleased
from onecode.registry.results import Result
from onecode.registry.rules_merchants import controller_code
from onecode.registry.transactions import AliasBind, AliasRelease, Purpose


def bind(context: Context, payload: AliasBind) -> Result:
    """`alias.bind`, by the platform that speaks for the scheme, with the merchant's consent."""
    state = context.state
    if not state.platform_active(context.signer, context.time_ms):
        return Result.PLATFORM_INACTIVE
    scheme = state.get(Section.GOVERNANCE, scheme_key(payload.guid), SchemeLeaf)
    if scheme is None or context.time_ms < scheme.effective_ms:
        return Result.SCHEME_UNASSIGNED
    if scheme.platform != context.signer:
        return Result.SCHEME_PLATFORM
    if len(payload.values) != len(scheme.sub_objects):
        return Result.ALIAS_SHAPE
    alias = alias_key(payload.guid, payload.values)
    if state.get(Section.ALIASES, alias, AliasLeaf) is not None:
        return Result.ALIAS_BOUND
    entry = state.merchant(payload.merchant, context.time_ms)
    if entry is None:
        return Result.MERCHANT_UNKNOWN
    if entry.alias_count >= ALIASES_MAX:
        return Result.ALIASES_FULL
    if code := consent_code(
        context, payload.consent, purpose=Purpose.ALIAS, merchant=payload.merchant, entry=entry, alias=alias
    ):
        return code
    state.put(
        Section.ALIASES, alias, AliasLeaf(merchant=payload.merchant, platform=context.signer, height=context.height)
    )
    state.put_merchant(payload.merchant, dataclasses.replace(entry, alias_count=entry.alias_count + 1))
    context.events.append(AliasBound(payload.merchant, context.signer, alias))
    return Result.OK


def release(context: Context, payload: AliasRelease) -> Result:
    """`alias.release`; raises the consent serial, else the old consent could bind the alias again."""
    if code := controller_code(context):
        return code
    alias = alias_key(payload.guid, payload.values)
    leaf = context.state.get(Section.ALIASES, alias, AliasLeaf)
    if leaf is None or leaf.merchant != context.signer:
        return Result.ALIAS_UNKNOWN
    entry = context.own_entry()
    context.state.delete(Section.ALIASES, alias)
    context.change_entry(alias_count=entry.alias_count - 1, consent_serial=entry.consent_serial + 1)
    context.events.append(AliasReleased(context.signer, alias))
    return Result.OK
