"""Rules of platforms: what a platform says about itself, by its root key or its transaction key."""

from __future__ import annotations

import dataclasses

from onecode.proof.governance import DAY_MS
from onecode.proof.leaves import PLATFORM_KEYS_MAX, KeyState, PlatformKey, PlatformLeaf, PlatformStatus, Role
from onecode.registry.context import Context
from onecode.registry.events import PlatformChanged
from onecode.registry.results import Result
from onecode.registry.transactions import (
    PlatformEndpoints,
    PlatformEpoch,
    PlatformKeys,
    PlatformNodes,
    PlatformRoot,
    PlatformSuspend,
)

ANCHOR_KEY_MS_MAX = 90 * DAY_MS


def set_keys(context: Context, payload: PlatformKeys) -> Result:
    """`platform.keys`, by the root: the given keys one after the other; one that fails fails all."""
    leaf = _own_leaf(context)
    keys = {key.key: key for key in leaf.keys}
    for given in payload.keys:
        new = _next_key(leaf.root, keys.get(given.key), given, context.height, context.time_ms)
        if isinstance(new, Result):
            return new
        keys[given.key] = new
    kept = _with_room(list(keys.values()))
    if kept is None:
        return Result.KEYS_FULL
    return _change(context, keys=kept)


def set_root(context: Context, payload: PlatformRoot) -> Result:
    """`platform.root`, by the old root: the id stays."""
    leaf = _own_leaf(context)
    if payload.root == leaf.root or any(key.key == payload.root for key in leaf.keys):
        return Result.KEY_REUSED
    if not context.possessed(payload.root, payload.possession):
        return Result.POSSESSION
    return _change(context, root=payload.root)


def suspend(context: Context, _payload: PlatformSuspend) -> Result:
    """`platform.suspend` of itself, at once; only governance restores it."""
    if _own_leaf(context).status == PlatformStatus.SUSPENDED:
        return Result.ALREADY_SUSPENDED
    return _change(context, status=PlatformStatus.SUSPENDED)


def set_endpoints(context: Context, payload: PlatformEndpoints) -> Result:
    """`platform.endpoints`: both addresses anew; one that is not given is none."""
    if not _own_leaf(context).active_at(context.time_ms):
        return Result.PLATFORM_INACTIVE
    return _change(context, url=payload.url, key_service_url=payload.key_service_url)


def set_nodes(context: Context, payload: PlatformNodes) -> Result:
    """`platform.nodes`: the whole list anew."""
    if not _own_leaf(context).active_at(context.time_ms):
        return Result.PLATFORM_INACTIVE
    if len({node.node_id for node in payload.nodes}) != len(payload.nodes):
        return Result.NODES_TWICE
    return _change(context, nodes=payload.nodes)


def raise_epoch(context: Context, payload: PlatformEpoch) -> Result:
    """`platform.epoch`: raises `epoch_min`; a suspended platform may, it only narrows."""
    if payload.epoch_min <= _own_leaf(context).epoch_min:
        return Result.EPOCH_NOT_RAISED
    return _change(context, epoch_min=payload.epoch_min)


def first_keys(
    root: bytes, given: tuple[PlatformKey, ...], height: int, time_ms: int
) -> tuple[PlatformKey, ...] | Result:
    """The keys of a platform that is admitted: each role has an active one."""
    keys: dict[bytes, PlatformKey] = {}
    for key in given:
        new = _next_key(root, keys.get(key.key), key, height, time_ms)
        if isinstance(new, Result):
            return new
        keys[key.key] = new
    if {key.role for key in keys.values() if key.state == KeyState.ACTIVE} != set(Role):
        return Result.ADMISSION_KEYS
    return _in_order(list(keys.values()))


def _next_key(
    root: bytes, old: PlatformKey | None, given: PlatformKey, height: int, time_ms: int
) -> PlatformKey | Result:
    """The key that is kept: `given` added where there was none, or `old` in a later state, or an anchor key certified
    anew. Its height and time are the block's."""
    if given.key == root or (old is not None and old.role != given.role):
        return Result.KEY_REUSED
    if given.state != KeyState.ACTIVE:
        if old is None or given.state <= old.state:
            return Result.KEY_STATE
        return dataclasses.replace(old, state=given.state, height=height, since_ms=time_ms)
    if old is not None and (old.state != KeyState.ACTIVE or given.role != Role.ANCHOR):
        return Result.KEY_STATE
    if given.role == Role.ANCHOR:
        if given.not_after_ms is None or not time_ms < given.not_after_ms <= time_ms + ANCHOR_KEY_MS_MAX:
            return Result.KEY_EXPIRY
    elif given.not_after_ms is not None:
        return Result.KEY_EXPIRY
    return dataclasses.replace(given, height=height, since_ms=time_ms)


def _with_room(keys: list[PlatformKey]) -> tuple[PlatformKey, ...] | None:
    """At most 64 keys: those revoked longest ago leave first (unknown and revoked are refused alike)."""
    over = len(keys) - PLATFORM_KEYS_MAX
    if over > 0:
        revoked = [key for key in keys if key.state == KeyState.REVOKED]
        if len(revoked) < over:
            return None
        gone = {key.key for key in sorted(revoked, key=lambda key: (key.height, key.key))[:over]}
        keys = [key for key in keys if key.key not in gone]
    return _in_order(keys)


def _in_order(keys: list[PlatformKey]) -> tuple[PlatformKey, ...]:
    return tuple(sorted(keys, key=lambda key: (key.role, key.key)))


def _own_leaf(context: Context) -> PlatformLeaf:
    leaf = context.state.platform(context.signer)
    if leaf is None:
        raise RuntimeError("admission lets no platform pass that has no leaf")
    return leaf


def _change(context: Context, **changes: object) -> Result:
    leaf = dataclasses.replace(_own_leaf(context), **changes)  # type: ignore[arg-type]
    context.state.put_platform(context.signer, leaf)
    context.events.append(PlatformChanged(context.signer))
    return Result.OK
