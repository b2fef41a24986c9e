"""What one snapshot of the store says, with its proofs: the answers of the node API in their encoded parts.

A `Head` is everything that is the same for all questions at one height, encoded once. Reading is synchronous and short,
so that a snapshot is never held while anything waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onecode.errors import Declined, Malformed, Misconfigured, Unreachable
from onecode.node.blocks import STATE_KEY, load_header, load_proven
from onecode.proof.governance import ENCLAVE_POLICY_KEY, PLATFORMS_KEY, PlatformsLeaf
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.leaves import AliasLeaf, PlatformLeaf, alias_key, enclave_key
from onecode.proof.map import PathProof, Section, SectionRoots
from onecode.query.messages import ClearQuery, HeaderView
from onecode.registry.map import load, prove, section_roots
from onecode.registry.store import Reader, Table, envelope_key, link_key
from onecode.schema import parse
from onecode.wire import decode, encode


def raw_map(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """A CBOR map of values that are encoded already; keys ascending, below 24."""
    return bytes((0xA0 | len(parts),)) + b"".join(b"%c%s" % part for part in parts)


def raw_list(items: Sequence[bytes]) -> bytes:
    """A CBOR array of values that are encoded already."""
    count = len(items)
    if count < 24:
        return bytes((0x80 | count,)) + b"".join(items)
    return (bytes((0x98, count)) if count < 256 else b"\x99" + count.to_bytes(2, "big")) + b"".join(items)


def _proof_value(proof: PathProof) -> dict[int, object]:
    value: dict[int, object] = {1: proof.depth, 2: proof.mask, 3: proof.siblings}
    if proof.other is not None:
        value[4] = proof.other
    return value


@dataclass(frozen=True, slots=True)
class Head:
    """The newest provable state. `height` is that of the signed header, which proves the state after the block before.

    header, validators, roots: as they are encoded in an answer. platforms: each leaf with its proof, encoded, by id.
    """

    height: int
    signed: SignedHeader
    validator_set: ValidatorSet
    section_roots: SectionRoots
    header: bytes
    validators: bytes
    roots: bytes
    platforms_root: bytes
    platforms: dict[bytes, bytes]
    leaves: dict[bytes, PlatformLeaf]
    policy: bytes  # the enclave policy and its proof, each as an encoded value
    policy_proof: bytes

    @property
    def public(self) -> list[tuple[int, bytes]]:
        """The first three fields of every view."""
        return [(1, self.header), (2, self.validators), (3, self.roots)]


@dataclass(frozen=True, slots=True)
class Found:
    """What the chain says to one question. `aliases` and `merchant` are encoded as an answer and an enclave query have
    them; `listed` are the platforms of the links."""

    aliases: bytes | None
    merchant: bytes | None
    listed: tuple[bytes, ...]
    envelopes: tuple[bytes, ...]


def state_mark(reader: Reader) -> bytes:
    """Tells two states apart: a head is good for as long as this does not change."""
    return reader.get(Table.META, STATE_KEY) or b""


def load_head(reader: Reader, before: Head | None = None) -> Head:
    """The head of this snapshot; what did not change since `before` is taken from there."""
    proven = load_proven(reader)
    if proven is None:
        raise Unreachable("node.not_ready", "the node has no proven state yet: ask again soon", retry_after_ms=1_000)
    signed, validators, roots = proven.signed, proven.validators, section_roots(reader)
    platforms_root = roots.root(Section.PLATFORMS)
    if before is not None and before.platforms_root == platforms_root:
        platforms, leaves = before.platforms, before.leaves
    else:
        platforms, leaves = _load_platforms(reader)
    policy = load(reader, Section.GOVERNANCE, ENCLAVE_POLICY_KEY) or b""
    policy_proof = encode(_proof_value(prove(reader, Section.GOVERNANCE, ENCLAVE_POLICY_KEY)))
    return Head(
        height=signed.header.height,
        signed=signed,
        validator_set=validators,
        section_roots=roots,
        header=signed.encoded(),
        validators=validators.encoded(),
        roots=roots.encoded(),
        platforms_root=platforms_root,
        platforms=platforms,
        leaves=leaves,
        policy=encode(policy),
        policy_proof=policy_proof,
    )


def _load_platforms(reader: Reader) -> tuple[dict[bytes, bytes], dict[bytes, PlatformLeaf]]:
    listed = load(reader, Section.GOVERNANCE, PLATFORMS_KEY)
    ids = parse(PlatformsLeaf, listed).platforms if listed else ()
    proven: dict[bytes, bytes] = {}
    leaves: dict[bytes, PlatformLeaf] = {}
    for platform in ids:
        leaf = load(reader, Section.PLATFORMS, platform)
        if leaf is None:
            raise Misconfigured("node.platform_missing", "a listed platform has no leaf: restore the node's store")
        proof = _proof_value(prove(reader, Section.PLATFORMS, platform))
        proven[platform] = encode({1: platform, 2: leaf, 3: proof})
        leaves[platform] = parse(PlatformLeaf, leaf)
    return proven, leaves


# --- one question ----------------------------------------------------------------------------------------------------


def find(reader: Reader, clear: ClearQuery) -> Found:
    """What the chain says to a query: aliases if asked, the merchant's entry, links, and the envelopes."""
    if clear.aliases is None:
        if clear.merchant is None:
            raise Malformed("query.subject", "a query names a merchant or aliases", field="merchant")
        return find_merchant(reader, clear.merchant, clear.service)
    if clear.merchant is not None:
        raise Malformed("query.subject", "a query names a merchant or aliases, not both", field="merchant")
    merchant: bytes | None = None
    proven: list[bytes] = []
    for alias in clear.aliases:
        key = alias_key(alias.guid, alias.values)
        leaf = load(reader, Section.ALIASES, key)
        proof = _proof_value(prove(reader, Section.ALIASES, key))
        proven.append(encode({2: proof} if leaf is None else {1: leaf, 2: proof}))
        if leaf is not None and merchant is None:  # where they differ, enclave and wallet refuse
            merchant = parse(AliasLeaf, leaf).merchant
    if merchant is None:
        return Found(raw_list(proven), None, (), ())
    found = find_merchant(reader, merchant, clear.service)
    return Found(raw_list(proven), found.merchant, found.listed, found.envelopes)


def find_merchant(reader: Reader, merchant: bytes, service: str) -> Found:
    """The merchant's entry or its absence, its links for the service, and their envelopes in the links' order."""
    entry = load(reader, Section.MERCHANTS, merchant)
    value: dict[int, object] = {1: merchant, 3: _proof_value(prove(reader, Section.MERCHANTS, merchant))}
    if entry is None:
        return Found(None, encode(value), (), ())
    value[2] = entry
    links = reader.get(Table.LINKS, link_key(merchant, service))
    if links is None:
        return Found(None, encode(value), (), ())
    value[4] = links
    listed = listed_platforms(reader, merchant, service)
    envelopes = []
    for platform in listed:
        envelope = reader.get(Table.ENVELOPES, envelope_key(merchant, platform, service))
        if envelope is None:
            raise Misconfigured("node.envelope_missing", "a listed record has no envelope: restore the node's store")
        envelopes.append(envelope)
    return Found(None, encode(value), listed, tuple(envelopes))


def listed_platforms(reader: Reader, merchant: bytes, service: str) -> tuple[bytes, ...]:
    """The platforms of the merchant's links for the service."""
    links = reader.get(Table.LINKS, link_key(merchant, service))
    return () if links is None else tuple(link[1] for link in decode(links)[1])  # LinkList.links, Link.platform


def enclave_query_bytes(query: bytes, head: Head, found: Found) -> bytes:
    """An encoded `EnclaveQuery`."""
    parts = [(1, encode(query)), (2, encode(head.height))]
    if found.aliases is not None:
        parts.append((3, found.aliases))
    if found.merchant is not None:
        parts.append((4, found.merchant))
    parts.append((5, encode(found.envelopes)))
    return raw_map(parts)


def answer_bytes(clear: ClearQuery, head: Head, found: Found, sealed: bytes) -> bytes:
    """An encoded `Answer`: header and validators unless the wallet has that height, platforms unless it knows them."""
    parts = [(1, encode(head.height))]
    if clear.have_height != head.height:
        parts += [(2, head.header), (3, head.validators)]
    parts.append((4, head.roots))
    if found.aliases is not None:
        parts.append((5, found.aliases))
    if found.merchant is not None:
        parts.append((6, found.merchant))
    if clear.have_platforms_root != head.platforms_root and found.merchant is not None:
        parts.append((7, raw_list([head.platforms[platform] for platform in found.listed])))
    parts.append((8, encode(sealed)))
    return raw_map(parts)


def platform_parts(head: Head, part_bytes_max: int) -> list[list[bytes]]:
    """All platforms with their proofs, encoded, in lists of at most so many bytes; at least one list."""
    parts: list[list[bytes]] = [[]]
    size = 0
    for platform in head.platforms.values():
        size += len(platform)
        if size > part_bytes_max and parts[-1]:
            parts.append([])
            size = len(platform)
        parts[-1].append(platform)
    return parts


def platforms_part_bytes(head: Head, part: Sequence[bytes]) -> bytes:
    """An encoded `PlatformsPart` for the enclave."""
    return raw_map([(1, encode(head.platforms_root)), (2, raw_list(part))])


def header_update_bytes(head: Head, *, with_platforms: bool, part: Sequence[bytes] | None = None) -> bytes:
    """An encoded `HeaderUpdate` for the enclave: with all platforms, or with the last `part` of them."""
    count = 6 if with_platforms else 5
    given = list(head.platforms.values()) if part is None else part
    platforms = b"\x04" + raw_list(given) if with_platforms else b""
    return b"%c\x01%s\x02%s\x03%s%s\x05%s\x06%s" % (
        0xA0 | count,
        head.header,
        head.validators,
        head.roots,
        platforms,
        head.policy,
        head.policy_proof,
    )


# --- views -----------------------------------------------------------------------------------------------------------


def network_view_bytes(reader: Reader, head: Head, query_key: bytes | None) -> bytes:
    """An encoded `NetworkView`; the enclave is in it as each platform attested it on chain."""
    enclaves = []
    for platform in head.platforms if query_key else ():
        key = enclave_key(query_key or b"", platform)
        leaf = load(reader, Section.ENCLAVES, key)
        if leaf is not None:
            proof = _proof_value(prove(reader, Section.ENCLAVES, key))
            enclaves.append(encode({1: query_key, 2: platform, 3: leaf, 4: proof}))
    return raw_map(
        [
            *head.public,
            (4, raw_list(enclaves)),
            (5, raw_list(list(head.platforms.values()))),
            (6, head.policy),
            (7, head.policy_proof),
        ]
    )


def header_view_bytes(reader: Reader, height: int) -> bytes:
    """An encoded `HeaderView`; `Declined` for a height that is not there."""
    stored = load_header(reader, height)
    if stored is None:
        raise Declined(
            "node.header_absent", "no header of that height is here: ask an archive node", field="height", status=404
        )
    return HeaderView(header=stored.signed, validators=stored.validators).encoded()


def leaf_view_bytes(reader: Reader, head: Head, section: Section, key: bytes) -> bytes:
    """An encoded `LeafView`: the leaf, or its absence."""
    parts = [*head.public, (4, encode(int(section))), (5, encode(key))]
    leaf = load(reader, section, key)
    if leaf is not None:
        parts.append((6, encode(leaf)))
    parts.append((7, encode(_proof_value(prove(reader, section, key)))))
    return raw_map(parts)


def member_view_bytes(reader: Reader, head: Head, merchant: bytes, service: str) -> bytes:
    """An encoded `MemberView`."""
    found = find_merchant(reader, merchant, service)
    proven = found.merchant or b""
    platforms = raw_list(list(head.platforms.values()))
    return raw_map([*head.public, (4, proven), (5, platforms), (6, encode(found.envelopes))])
