"""Rules of freezes: a few platforms, or governance, stop payments to a merchant for a while."""

from __future__ import annotations

import dataclasses

from onecode.proof.leaves import MerchantEntry
from onecode.proof.map import Section
from onecode.registry import counters
from onecode.registry.context import Context
from onecode.registry.counters import FreezeLeaf, FreezeVote
from onecode.registry.events import MerchantFreezeAsked, MerchantFrozen
from onecode.registry.results import Result
from onecode.registry.rules_merchants import linked_platforms
from onecode.registry.transactions import MerchantFreeze


def freeze(context: Context, payload: MerchantFreeze) -> Result:
    """`merchant.freeze`: a vote of this platform; the k-th in force freezes, if one of the voters is linked."""
    state, time_ms, parameters = context.state, context.time_ms, context.state.parameters()
    if not state.platform_active(context.signer, time_ms):
        return Result.PLATFORM_INACTIVE
    entry = state.merchant(payload.merchant, time_ms)
    if entry is None:
        return Result.MERCHANT_UNKNOWN
    if entry.frozen_from_ms is not None and time_ms < entry.frozen_from_ms + parameters.freeze_pause_ms:
        return Result.FREEZE_PAUSE
    key = counters.freeze_key(payload.merchant)
    leaf = state.get(Section.COUNTERS, key, FreezeLeaf) or FreezeLeaf(votes=())
    votes = tuple(vote for vote in leaf.votes if time_ms < vote.expires_ms)
    if any(vote.platform == context.signer for vote in votes):
        return Result.FREEZE_VOTED
    if not counters.count_day(state, counters.freezes_key(context.signer), time_ms, parameters.freezes_a_day):
        return Result.FREEZES_A_DAY
    own = FreezeVote(platform=context.signer, expires_ms=time_ms + parameters.freeze_ms)
    votes = tuple(sorted((*votes, own), key=lambda vote: vote.platform))
    context.events.append(MerchantFreezeAsked(payload.merchant, context.signer))
    voters = [vote.platform for vote in votes if state.platform_active(vote.platform, time_ms)]
    linked = linked_platforms(context, payload.merchant, entry)
    if len(voters) < parameters.freeze_platforms or not any(voter in linked for voter in voters):
        state.put(Section.COUNTERS, key, FreezeLeaf(votes=votes))
        return Result.OK
    if leaf.votes:
        state.delete(Section.COUNTERS, key)
    freeze_merchant(context, payload.merchant, entry)
    return Result.OK


def freeze_merchant(context: Context, merchant: bytes, entry: MerchantEntry) -> None:
    """Freeze from now for the time that genesis set."""
    until_ms = context.time_ms + context.state.parameters().freeze_ms
    frozen = dataclasses.replace(entry, frozen_from_ms=context.time_ms, frozen_until_ms=until_ms)
    context.state.put_merchant(merchant, frozen)
    context.events.append(MerchantFrozen(merchant, until_ms))
