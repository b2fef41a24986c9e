"""How a network is founded without anybody's private key leaving its organisation: what is sent around, its checks.

Each organisation makes a `JoinRequest`; anybody puts the requests into a `Ceremony`; everybody computes the same
genesis from it and signs the genesis' hash. Nothing here reads a clock or a file. Steps: docs/operations.md.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from onecode.code.identity import platform_id
from onecode.errors import Declined, Malformed, Untrusted
from onecode.proof.governance import Admission, Measurement, Parameters, ValidatorLeaf
from onecode.proof.leaves import HASH, ID, KEY, SERVICE, TIME_MS, PlatformNode, Role
from onecode.registry.genesis import Genesis, begin
from onecode.registry.state import Committed, State
from onecode.registry.store import MemoryStore
from onecode.schema import Bytes, ListOf, Message, Nested, Text, Uint, item, parse
from onecode.wire import CHAIN_ID_CHARS_MAX, Domain, SigningKey, encode, sha256, verify_signature

ORGANISATIONS_MAX = 100
PEERS_MAX = 8
ADDRESS_CHARS_MAX = 200
PEER = re.compile(r"([0-9a-f]{40})@([A-Za-z0-9.-]{1,190}|\[[0-9a-f:.]{2,45}\]):([1-9][0-9]{0,4})")


class NodeBody(Message):
    """One node with its validator key. `peers`: where other engines reach it, `id@host:port`: itself or its sentries.
    simulated_vendor: public key of the SIMULATED vendor of its enclave, where it has such a one."""

    chain_id: str = item(1, Text(CHAIN_ID_CHARS_MAX))
    platform: bytes = item(2, ID)
    validator: bytes = item(3, KEY)
    node: bytes = item(4, KEY)  # the engine's node key; its id is the start of the key's SHA-256
    peers: tuple[str, ...] = item(5, ListOf(Text(ADDRESS_CHARS_MAX + 50), PEERS_MAX, min=1))
    url: str = item(6, Text(ADDRESS_CHARS_MAX))  # of its API
    simulated_vendor: bytes | None = item(7, KEY, default=None)


class NodeRequest(Message):
    """A node's keys, each of which signed for itself."""

    body: bytes = item(1, Bytes(1, 8_192))
    validator_signature: bytes = item(2, Bytes(64))
    node_signature: bytes = item(3, Bytes(64))


class JoinBody(Message):
    """An organisation: how it is admitted as a platform, and its first node."""

    chain_id: str = item(1, Text(CHAIN_ID_CHARS_MAX))
    admission: Admission = item(2, Nested(Admission))
    node: NodeRequest = item(3, Nested(NodeRequest))


class JoinRequest(Message):
    """All of an organisation that others need, signed by its root key. Nothing in it is secret."""

    body: bytes = item(1, Bytes(1, 32_768))
    signature: bytes = item(2, Bytes(64))


class Ceremony(Message):
    """All that the genesis is made of. Requests are ascending by platform id; each validator has `power`."""

    chain_id: str = item(1, Text(CHAIN_ID_CHARS_MAX))
    time_ms: int = item(2, TIME_MS)
    parameters: Parameters = item(3, Nested(Parameters))
    power: int = item(4, Uint(1 << 20))
    services: tuple[str, ...] = item(5, ListOf(SERVICE, 256, min=1))
    measurements: tuple[Measurement, ...] = item(6, ListOf(Nested(Measurement), 64))
    requests: tuple[JoinRequest, ...] = item(7, ListOf(Nested(JoinRequest), ORGANISATIONS_MAX, min=1))


class GenesisSignature(Message):
    """An organisation's word that it computed this genesis from the ceremony, by its governance key or its root key."""

    chain_id: str = item(1, Text(CHAIN_ID_CHARS_MAX))
    genesis_hash: bytes = item(2, HASH)
    platform: bytes = item(3, ID)
    key: bytes = item(4, KEY)
    signature: bytes = item(5, Bytes(64))


@dataclass(frozen=True, slots=True)
class VerifiedNode:
    """A node whose keys signed for themselves. node_id: the engine's, hex."""

    body: NodeBody
    node_id: str


@dataclass(frozen=True, slots=True)
class VerifiedJoin:
    """A request that its root key and its node's keys signed. `platform`: the organisation's id."""

    platform: bytes
    admission: Admission
    node: VerifiedNode
    chain_id: str


@dataclass(frozen=True, slots=True)
class VerifiedCeremony:
    """A ceremony whose parts fit together. genesis_hash: SHA-256 of the encoded genesis, as nodes give it too."""

    genesis: Genesis
    genesis_hash: bytes
    organisations: tuple[VerifiedJoin, ...]


# --- made by one organisation ----------------------------------------------------------------------------------------


def node_id_of(node_key: bytes) -> str:
    """How other engines name the one with this public node key."""
    return sha256(node_key)[:20].hex()


def _signed(what: str, body: bytes) -> bytes:
    return encode([what, body])


def sign_node(body: NodeBody, validator: SigningKey, node: SigningKey) -> NodeRequest:
    """The request of a node, signed by both of its keys."""
    raw, chain_id = body.encoded(), body.chain_id
    return NodeRequest(
        body=raw,
        validator_signature=validator.sign(Domain.CEREMONY, chain_id, _signed("validator", raw)),
        node_signature=node.sign(Domain.CEREMONY, chain_id, _signed("node", raw)),
    )


def sign_join(body: JoinBody, root: SigningKey) -> JoinRequest:
    """The organisation's request, signed by its root key."""
    raw = body.encoded()
    return JoinRequest(body=raw, signature=root.sign(Domain.CEREMONY, body.chain_id, _signed("join", raw)))


def sign_genesis(ceremony: VerifiedCeremony, platform: bytes, key: SigningKey) -> GenesisSignature:
    """The organisation's word for the genesis' hash."""
    chain_id, hashed = ceremony.genesis.chain_id, ceremony.genesis_hash
    signature = key.sign(Domain.CEREMONY, chain_id, _signed("genesis", hashed))
    return GenesisSignature(
        chain_id=chain_id, genesis_hash=hashed, platform=platform, key=key.public, signature=signature
    )


# --- checked by everybody --------------------------------------------------------------------------------------------


def require_peer(text: str, field: str) -> None:
    """Raise `Malformed` unless `text` is `id@host:port`."""
    found = PEER.fullmatch(text)
    if found is None or int(found[3]) > 65_535:
        raise Malformed(
            "ceremony.peer", f"{text!r} is not ID@HOST:PORT with the 40 hex digits of a node id", field=field
        )


def require_url(text: str, field: str) -> None:
    """Raise `Malformed` unless `text` is an http or https address without query and user."""
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.username or parts.query or parts.fragment:
        raise Malformed("ceremony.url", f"{text!r} is no http or https address", field=field)


def verify_node(request: NodeRequest, chain_id: str) -> VerifiedNode:
    """A node's request, established.

    1. It is for this chain. 2. Addresses are addresses. 3. The validator key and the node key differ, and each signed
    the body. Does NOT check that the platform which it names wants it: a join request or a proposal says that.
    """
    body = parse(NodeBody, request.body, path="node")
    if body.chain_id != chain_id:  # 1
        raise Untrusted(
            "ceremony.chain", f"the node is for the chain {body.chain_id}, not {chain_id}", field="chain_id"
        )
    for index, peer in enumerate(body.peers):  # 2
        require_peer(peer, f"node.peers[{index}]")
    require_url(body.url, "node.url")
    if body.validator == body.node:  # 3
        raise Untrusted(
            "ceremony.key_reused", "validator and node have the same key; make them anew", field="node.node"
        )
    for key, signature, what in (
        (body.validator, request.validator_signature, "validator"),
        (body.node, request.node_signature, "node"),
    ):
        signed = _signed(what, request.body)
        verify_signature(key, signature, Domain.CEREMONY, chain_id, signed, field=f"node.{what}_signature")
    return VerifiedNode(body, node_id_of(body.node))


def verify_join(request: JoinRequest, chain_id: str | None = None) -> VerifiedJoin:
    """An organisation's request, established.

    1. It is for this chain, where one is named. 2. Its root key signed it. 3. Its node holds (`verify_node`), names the
    platform, and is named in the admission, as are the nodes by which others reach it. 4. No key stands twice.
    5. Addresses are addresses.
    Does NOT check who is behind the root key: the organisations compare its platform id by voice or in person.
    """
    body = parse(JoinBody, request.body, path="join")
    if chain_id is not None and body.chain_id != chain_id:  # 1
        raise Untrusted(
            "ceremony.chain", f"the request is for the chain {body.chain_id}, not {chain_id}", field="chain_id"
        )
    root, admission = body.admission.root, body.admission
    signed = _signed("join", request.body)
    verify_signature(root, request.signature, Domain.CEREMONY, body.chain_id, signed, field="signature")  # 2
    node, platform = verify_node(body.node, body.chain_id), platform_id(root)  # 3
    if node.body.platform != platform:
        raise Untrusted("ceremony.platform", "the node names another platform; make the request anew", field="node")
    if PlatformNode(node_id=node.node_id, url=node.body.url) not in admission.nodes:
        raise Untrusted("ceremony.node", "the admission does not name the node; make the request anew", field="node")
    listed = {one.node_id for one in admission.nodes}
    if any(peer.partition("@")[0] not in listed for peer in node.body.peers):
        raise Untrusted(
            "ceremony.node", "others are to connect to a node that the admission does not name", field="node.peers"
        )
    keys = [root, node.body.validator, node.body.node, *(one.key for one in admission.keys)]  # 4
    if len(set(keys)) != len(keys):
        raise Untrusted("ceremony.key_reused", "one key stands twice in the request; make the keys anew", field="keys")
    for field, url in (("url", admission.url), ("key_service_url", admission.key_service_url)):  # 5
        if url is not None:
            require_url(url, f"admission.{field}")
    return VerifiedJoin(platform, admission, node, body.chain_id)


def collect(requests: Sequence[tuple[str, JoinRequest]], terms: Ceremony) -> Ceremony:
    """The ceremony of named requests, in whatever order, under the other terms of `terms`. The name (a file's) is what
    errors say. Raises what `verify_join` does, and `Declined` where two requests conflict."""
    found: list[tuple[str, VerifiedJoin, JoinRequest]] = []
    for name, request in requests:
        try:
            join = verify_join(request, terms.chain_id)
            _require_begins(terms, (join,))
        except (Malformed, Untrusted) as error:
            raise _in_file(error, name) from None
        found.append((name, join, request))
    _require_distinct([(name, join) for name, join, _ in found])
    found.sort(key=lambda one: one[1].platform)
    ceremony = replace(terms, requests=tuple(request for *_, request in found))
    return parse(Ceremony, ceremony.encoded(), path="ceremony")


def verify_ceremony(ceremony: Ceremony) -> VerifiedCeremony:
    """The genesis of a ceremony, whoever put it together.

    1. Each request holds (`verify_join`) for the ceremony's chain. 2. They are ascending by platform id, and none
    stands in another's way: no name, key, node or address twice. 3. The registry begins with the genesis.
    Does NOT check that all who should take part do: each organisation reads the list.
    """
    joins = tuple(verify_join(request, ceremony.chain_id) for request in ceremony.requests)  # 1
    if any(a.platform > b.platform for a, b in itertools.pairwise(joins)):  # 2
        raise Malformed("ceremony.order", "the requests are not ascending by platform id: collect them anew")
    _require_distinct([(join.admission.name, join) for join in joins])
    genesis = _require_begins(ceremony, joins)  # 3
    return VerifiedCeremony(genesis, sha256(genesis.encoded()), joins)


def verify_signatures(ceremony: VerifiedCeremony, signatures: Sequence[GenesisSignature]) -> None:
    """Raise `Untrusted` unless every organisation of the ceremony signed its genesis.

    1. Each signature is for this genesis. 2. By an organisation of the ceremony, with a governance key or the root key
    of its request. 3. None is missing.
    """
    organisations = {join.platform: join for join in ceremony.organisations}
    chain_id = ceremony.genesis.chain_id
    for given in signatures:
        if (given.chain_id, given.genesis_hash) != (chain_id, ceremony.genesis_hash):  # 1
            raise Untrusted("ceremony.other_genesis", "a signature is for another genesis: compare the hashes aloud")
        join = organisations.get(given.platform)  # 2
        if join is None:
            raise Untrusted("ceremony.stranger", "a signature is by an organisation that is not in the ceremony")
        if given.key not in _may_sign(join.admission):
            name = join.admission.name
            raise Untrusted(
                "ceremony.signer", f"{name} signed with neither its governance nor its root key", field="key"
            )
        verify_word(given)
    missing = set(organisations) - {given.platform for given in signatures}  # 3
    if missing:
        names = ", ".join(sorted(organisations[platform].admission.name for platform in missing))
        raise Untrusted("ceremony.unsigned", f"the genesis lacks the signature of {names}", field="signatures")


def verify_word(given: GenesisSignature) -> None:
    """Raise `Untrusted` unless the key that is named in it signed it. Does NOT check whose key that is."""
    signed = _signed("genesis", given.genesis_hash)
    verify_signature(given.key, given.signature, Domain.CEREMONY, given.chain_id, signed, field="signature")


def _may_sign(admission: Admission) -> set[bytes]:
    return {admission.root, *(one.key for one in admission.keys if one.role == Role.GOVERNANCE)}


def _in_file(error: Malformed | Untrusted, name: str) -> Malformed | Untrusted:
    """The same error, naming the file too."""
    return type(error)(error.code, f"{name}: {error.message}", field=error.field)


def _require_distinct(joins: Sequence[tuple[str, VerifiedJoin]]) -> None:
    """Raise `Declined` where two requests have something in common that only one can have; names both."""
    seen: dict[tuple[str, object], int] = {}
    for index, (name, join) in enumerate(joins):
        for what, value in _unique(join):
            other = seen.setdefault((what, value), index)
            if other != index:
                message = (
                    f"{joins[other][0]} and {name} have the same {what}: one must change it and send a new request"
                )
                raise Declined("ceremony.conflict", message, field=what)


def _unique(join: VerifiedJoin) -> list[tuple[str, object]]:
    admission, node = join.admission, join.node.body
    found: list[tuple[str, object]] = [("platform id", join.platform), ("name", admission.name.casefold())]
    found += [("key", key) for key in (admission.root, node.validator, node.node)]
    found += [("key", one.key) for one in admission.keys]
    found += [("node id", one.node_id) for one in admission.nodes]
    found += [("engine address", peer.partition("@")[2].lower()) for peer in node.peers]
    urls = {one.url for one in admission.nodes} | {node.url, admission.url, admission.key_service_url} - {None}
    return found + [("address", str(url).rstrip("/").lower()) for url in urls]


def _require_begins(terms: Ceremony, joins: Sequence[VerifiedJoin]) -> Genesis:
    """The genesis, after the registry began with it in memory."""
    validators = [
        ValidatorLeaf(key=join.node.body.validator, power=terms.power, platform=join.platform) for join in joins
    ]
    genesis = Genesis(
        chain_id=terms.chain_id,
        time_ms=terms.time_ms,
        parameters=terms.parameters,
        platforms=tuple(join.admission for join in joins),
        validators=tuple(sorted(validators, key=lambda one: one.key)),
        services=terms.services,
        measurements=terms.measurements,
    )
    begin(State(Committed(MemoryStore(), genesis.chain_id)), genesis)
    return genesis
