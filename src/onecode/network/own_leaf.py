"""What an organisation changes in its own platform's leaf: its nodes, its addresses, its keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from onecode.errors import Declined, Misconfigured
from onecode.host.files import save_private
from onecode.host.keyring import SEED_BYTES, load_key, save_key
from onecode.network.client import NodeClient, Submitted
from onecode.network.governance import TRANSACTION_VALID_MS
from onecode.network.organisation import Organisation, OrganisationPlaces
from onecode.network.proposals import load_leaf
from onecode.platform.genesis import ANCHOR_CERTIFICATE_FILE, ANCHOR_DAYS
from onecode.proof.governance import DAY_MS
from onecode.proof.leaves import KeyState, PlatformKey, PlatformLeaf, PlatformNode, Role
from onecode.proof.map import Section
from onecode.proof.trust import certify_anchor
from onecode.registry.transactions import Kind, PlatformKeys, PlatformNodes, SignerKind, build_transaction
from onecode.schema import Message
from onecode.wire import SigningKey


def own_leaf(organisation: Organisation, node: NodeClient) -> PlatformLeaf:
    """The platform's leaf as the node has it."""
    leaf = load_leaf(node, Section.PLATFORMS, organisation.platform, PlatformLeaf)
    if leaf is None:
        raise Declined("organisation.not_admitted", f"{organisation.name} is not on chain: propose it", status=404)
    return leaf


def add_node(
    places: OrganisationPlaces, organisation: Organisation, node: NodeClient, new: PlatformNode, now_ms: int
) -> Submitted:
    """List one more node, or another address of one; engines of the network then take its connections."""
    kept = tuple(one for one in own_leaf(organisation, node).nodes if one.node_id != new.node_id)
    return _set_nodes(places, organisation, node, (*kept, new), now_ms)


def remove_node(
    places: OrganisationPlaces, organisation: Organisation, node: NodeClient, node_id: str, now_ms: int
) -> Submitted:
    """Take a node off the list: engines refuse its next connection."""
    listed = own_leaf(organisation, node).nodes
    kept = tuple(one for one in listed if one.node_id != node_id)
    if len(kept) == len(listed):
        raise Declined(
            "organisation.node_unknown", f"{organisation.name} has no node {node_id} on chain", field="node_id"
        )
    return _set_nodes(places, organisation, node, kept, now_ms)


def _set_nodes(
    places: OrganisationPlaces,
    organisation: Organisation,
    node: NodeClient,
    nodes: tuple[PlatformNode, ...],
    now_ms: int,
) -> Submitted:
    key = load_key(places.role_key(Role.TRANSACTION))
    return _submit(
        organisation, node, Kind.PLATFORM_NODES, PlatformNodes(nodes=nodes), SignerKind.PLATFORM, key, now_ms
    )


def rotate_key(
    places: OrganisationPlaces,
    organisation: Organisation,
    node: NodeClient,
    role: Role,
    root_file: Path | None,
    entropy: Callable[[int], bytes],
    now_ms: int,
) -> SigningKey:
    """A new key of a role in the old one's place: the root adds it on chain and retires the old one.

    The new key waits beside the old one until the chain has it, so a command that was cut off is given again. An anchor
    key is certified for 89 days.
    """
    path = places.role_key(role)
    waiting = path.with_name(path.name + ".next")
    if not waiting.exists():
        save_key(waiting, SigningKey.from_seed(entropy(SEED_BYTES)))
    new, old, root = load_key(waiting), load_key(path), load_key(root_file or places.root_key)
    leaf = own_leaf(organisation, node)
    if root.public != leaf.root:
        raise Misconfigured("organisation.root", "that is not this organisation's root key", field="root_key")
    not_after_ms = now_ms + ANCHOR_DAYS * DAY_MS if role == Role.ANCHOR else None
    keys = []
    if role == Role.ANCHOR or leaf.key(role, new.public) is None:
        keys.append(_key(role, new, KeyState.ACTIVE, not_after_ms))
    known = leaf.key(role, old.public)
    if known is not None and known.state == KeyState.ACTIVE:
        keys.append(_key(role, old, KeyState.RETIRED, None))
    if keys:
        payload = PlatformKeys(keys=tuple(keys))
        _submit(organisation, node, Kind.PLATFORM_KEYS, payload, SignerKind.ROOT, root, now_ms)
    if role == Role.ANCHOR and not_after_ms is not None:
        certificate = certify_anchor(organisation.chain_id, root, new.public, not_after_ms)
        save_private(places.keys / ANCHOR_CERTIFICATE_FILE, certificate.encoded(), replace=True)
    os.replace(waiting, path)
    return new


def _key(role: Role, key: SigningKey, state: KeyState, not_after_ms: int | None) -> PlatformKey:
    """Height and time are the registry's to set."""
    return PlatformKey(role=role, key=key.public, state=state, height=0, since_ms=0, not_after_ms=not_after_ms)


def _submit(
    organisation: Organisation,
    node: NodeClient,
    kind: Kind,
    payload: Message,
    signer: SignerKind,
    key: SigningKey,
    now_ms: int,
) -> Submitted:
    transaction = build_transaction(
        organisation.chain_id,
        kind,
        payload,
        signer=organisation.platform,
        signer_kind=signer,
        key=key,
        nonce=now_ms,  # a key's nonces only rise, so the clock serves
        valid_until_ms=now_ms + TRANSACTION_VALID_MS,
    )
    submitted = node.submit(transaction)
    if submitted.code:
        raise Declined("organisation.refused", f"the registry refused {kind.name.lower()}: {submitted.name}")
    return submitted
