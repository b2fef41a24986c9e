"""The made-up chain and the drafts that the answer vectors are made of: same keys, times and bytes on every run.

A `Draft` is one question of a wallet of platform A and the answer to it. Every part of the answer can be replaced, the
sealed result too: whoever makes these answers holds every enclave's and every platform's keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from chain_world import CHAIN_ID, MEMBERS, MERCHANT, NOW_MS, SERVICE, Platform, World, make_record
from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.leaves import AliasLeaf, Link, LinkList, MerchantEntry, Role, ServiceEntry, alias_key, links_hash
from onecode.proof.map import PathProof, Section, key_hash
from onecode.query.messages import (
    Alias,
    Answer,
    ClearQuery,
    MatchMode,
    Opened,
    ProvenAlias,
    ProvenMerchant,
    ProvenPlatform,
    Result,
)
from onecode.query.sealing import reply_bytes, seal_result
from onecode.record.envelope import RecordIds, SignedRecord, commitment, seal_envelope, sign_record
from onecode.record.schema import Record
from onecode.registry.map import load, prove, section_roots, update
from onecode.schema import to_value
from onecode.wire import Domain, encode, frame, sha256

OTHER = sha256(b"another merchant")[:20]
SCHEME = "com.other.scheme"
LABELS = tuple(Alias(guid=SCHEME, values=(value,)) for value in ("SHOP-1", "SHOP-2"))
QUERY_ID, REPLY_KEY = sha256(b"query id")[:16], sha256(b"reply key")
ENCLAVE_KEY = sha256(b"query key of an enclave")
SHARED_BITS = 11


def _near(merchant: bytes) -> bytes:
    """An id that lies close to `merchant` in the tree, so that the path to it has empty siblings."""
    goal = int.from_bytes(key_hash(Section.MERCHANTS, merchant)[:4], "big")
    ids = (sha256(f"neighbour {number}".encode())[:20] for number in range(1 << 16))
    return next(
        found
        for found in ids
        if (int.from_bytes(key_hash(Section.MERCHANTS, found)[:4], "big") ^ goal) >> 32 - SHARED_BITS == 0
    )


NEIGHBOURS = (_near(MERCHANT), *(sha256(f"merchant {number}".encode())[:20] for number in range(12)))


class Scene(World):
    """Three platforms that serve the merchant: A for its own wallets, B for those of A too, C for its own."""

    def __init__(self) -> None:
        self.signed: dict[bytes, SignedRecord] = {}
        self.aliases: dict[Alias, bytes] = {}
        self.raw_entry: Callable[[bytes], bytes] = bytes
        super().__init__()
        self.leaves[self.c.id] = self.c.leaf()
        self.publish(self.b, make_record(self.b.id, audience=(self.a.id,)))
        self.publish(self.c)
        self.other_signed = sign_record(
            CHAIN_ID, make_record(self.a.id, merchant=OTHER), sha256(b"salt"), self.a.key(Role.RECORD)
        )

    def publish(
        self, platform: Platform, record: Record | None = None, signed: SignedRecord | None = None, **link_changes: Any
    ) -> SignedRecord:
        """List a record. The commitment is to what is given, whatever the record says of itself."""
        record = record or make_record(platform.id)
        signed = signed or sign_record(CHAIN_ID, record, sha256(b"salt" + platform.id), platform.key(Role.RECORD))
        link = self.link(platform, MERCHANT, signed, audience=record.audience, version=record.version)
        link = dataclasses.replace(link, **link_changes)
        if "commitment" not in link_changes:
            made = self.link(platform, MERCHANT, signed, version=link.version, epoch=link.epoch)
            link = dataclasses.replace(link, commitment=made.commitment)
        self.signed[platform.id], self.records[platform.id] = signed, (link, b"")
        return signed

    @staticmethod
    def link(platform: Platform, merchant: bytes, signed: SignedRecord, **changes: Any) -> Link:
        link = Link(
            platform=platform.id,
            version=1,
            epoch=1,
            audience=(),
            height=5,
            envelope_hash=bytes(32),
            commitment=bytes(32),
        )
        link = dataclasses.replace(link, **changes)
        ids = RecordIds(
            merchant=merchant, platform=platform.id, service=SERVICE, version=link.version, epoch=link.epoch
        )
        envelope = seal_envelope(CHAIN_ID, ids, signed, platform.epoch_keys[1], bytes(12))
        return dataclasses.replace(
            link,
            envelope_hash=sha256(envelope),
            commitment=commitment(CHAIN_ID, ids, signed.salt, signed.record),
        )

    def other_links(self) -> LinkList:
        """Of the merchant OTHER: platform A alone."""
        return LinkList(links=(self.link(self.a, OTHER, self.other_signed),))

    def other_entry(self) -> MerchantEntry:
        listed = links_hash(CHAIN_ID, OTHER, SERVICE, self.other_links())
        services = (ServiceEntry(service=SERVICE, links_hash=listed),)
        return dataclasses.replace(self.entry(), services=services)

    def write(self) -> None:
        super().write()
        if not hasattr(self, "other_signed"):
            return
        entries: dict[bytes, bytes | None] = {merchant: self.other_entry().encoded() for merchant in NEIGHBOURS}
        entries |= {OTHER: self.other_entry().encoded(), MERCHANT: self.raw_entry(self.entry().encoded())}
        update(self.store, Section.MERCHANTS, entries)
        bound = {
            alias_key(alias.guid, alias.values): AliasLeaf(merchant=merchant, platform=self.a.id, height=3).encoded()
            for alias, merchant in self.aliases.items()
        }
        update(self.store, Section.ALIASES, dict(bound))


@dataclasses.dataclass
class Draft:
    """One question and its answer. Set what differs, then call `answer`; `ask` fixes what the wallet knows before."""

    scene: Scene = dataclasses.field(default_factory=Scene)
    subject: bytes | tuple[Alias, ...] = MERCHANT
    mode: MatchMode = MatchMode.NODE
    service: str = SERVICE
    code: str | None = None
    now_ms: int = NOW_MS
    trust_header: Any = None
    trust_validators: ValidatorSet = MEMBERS
    trusting_period_ms: int = 14 * 86_400_000
    verified: list[tuple[SignedHeader, ValidatorSet, int]] = dataclasses.field(default_factory=list)
    asked: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def accepted(self) -> tuple[bytes, ...]:
        return (self.scene.a.id, self.scene.b.id)

    def ask(self, header: SignedHeader | None = None, validators: ValidatorSet = MEMBERS, now_ms: int = 0) -> Draft:
        """The wallet verifies the newest header, knows all platforms under it, and asks."""
        if not self.asked:
            scene = self.scene
            header = header or scene.header()
            self.trust_header = self.trust_header or scene.header(2).header
            self.verified.append((header, validators, now_ms or self.now_ms))
            roots = section_roots(scene.store)
            self.asked = {
                "height": header.header.height,
                "platforms_root": roots.root(Section.PLATFORMS),
                "platforms": {platform: leaf.encoded() for platform, leaf in scene.leaves.items()},
                "clear": ClearQuery(
                    protocol=1,
                    chain_id=CHAIN_ID,
                    merchant=self.subject if isinstance(self.subject, bytes) else None,
                    aliases=None if isinstance(self.subject, bytes) else self.subject,
                    service=self.service,
                    query_key=ENCLAVE_KEY,
                    have_height=header.header.height,
                    have_platforms_root=roots.root(Section.PLATFORMS),
                ).encoded(),
            }
        return self

    # --- what the enclave seals ---------------------------------------------------------------------------------------

    def opened(self, platform: Platform, signed: SignedRecord | bytes | None = None) -> Opened:
        signed = signed if signed is not None else self.scene.signed[platform.id]
        raw = signed if isinstance(signed, bytes) else signed.encoded()
        return Opened(platform=platform.id, signed_record=raw)

    def result(self, *opened: Opened, **changes: Any) -> Result:
        return dataclasses.replace(Result(query_id=QUERY_ID, opened=opened), **changes)

    def seal(
        self, result: Result, *, chain_id: str = CHAIN_ID, reply_key: bytes = REPLY_KEY, clear: bytes | None = None
    ) -> bytes:
        clear_hash = sha256(clear or self.ask().asked["clear"])
        return seal_result(chain_id, result, reply_key, clear_hash, reply_bytes([768]), bytes(12))

    # --- what the node adds -------------------------------------------------------------------------------------------

    def alias(self, alias: Alias) -> ProvenAlias:
        key = alias_key(alias.guid, alias.values)
        store = self.scene.store
        return ProvenAlias(leaf=load(store, Section.ALIASES, key), proof=prove(store, Section.ALIASES, key))

    def merchant(self, merchant: bytes = MERCHANT) -> ProvenMerchant:
        links = self.scene.other_links() if merchant == OTHER else self.scene.links()
        return dataclasses.replace(
            self.scene.proven_merchant(merchant),
            links=links.encoded() if load(self.scene.store, Section.MERCHANTS, merchant) else None,
        )

    def path(self, merchant: bytes = MERCHANT) -> PathProof:
        return prove(self.scene.store, Section.MERCHANTS, merchant)

    def platform(self, platform: Platform, **changes: Any) -> ProvenPlatform:
        found = next(given for given in self.scene.proven_platforms() if given.platform == platform.id)
        return dataclasses.replace(found, **changes)

    def answer(self, result: Result | None = None, **changes: Any) -> Answer:
        """The honest answer under what the scene says now, but for `changes`."""
        self.ask()
        scene = self.scene
        scene.write()
        roots = section_roots(scene.store)
        aliases, merchant = None, self.subject
        if not isinstance(merchant, bytes):
            aliases = tuple(self.alias(alias) for alias in merchant)
            merchant = next((scene.aliases[alias] for alias in merchant if alias in scene.aliases), MERCHANT)
        lacks = scene.height != self.asked["height"]
        known = roots.root(Section.PLATFORMS) == self.asked["platforms_root"]
        changes.setdefault("header", scene.header() if lacks else None)
        changes.setdefault("validators", MEMBERS if lacks else None)
        changes.setdefault("merchant", self.merchant(merchant))
        changes.setdefault("platforms", None if known else scene.proven_platforms())
        answer = Answer(
            height=scene.height,
            roots=roots,
            aliases=aliases,
            sealed=changes.pop("sealed", None) or self.seal(result or self.result(self.opened(scene.a))),
        )
        return dataclasses.replace(answer, **changes)

    def later(self, signed: SignedHeader, validators: ValidatorSet = MEMBERS, **changes: Any) -> Answer:
        """An answer under `signed`, which the wallet does not have."""
        height = signed.header.height
        return self.answer(height=height, header=signed, validators=validators, **changes)


def with_merchant(answer: Answer, **changes: Any) -> Answer:
    if answer.merchant is None:
        raise ValueError("the answer has no merchant")
    return dataclasses.replace(answer, merchant=dataclasses.replace(answer.merchant, **changes))


def reseal(draft: Draft, sealed: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """`sealed` with its plaintext changed, padding included."""
    cipher, associated = AESGCMSIV(REPLY_KEY), frame(Domain.REPLY, CHAIN_ID, sha256(draft.ask().asked["clear"]))
    return sealed[:12] + cipher.encrypt(
        sealed[:12], change(cipher.decrypt(sealed[:12], sealed[12:], associated)), associated
    )


def assemble(fields: list[tuple[int, bytes]]) -> bytes:
    """A CBOR map of numbered fields that are encoded already, in the order given."""
    return bytes((0xA0 | len(fields),)) + b"".join(encode(number) + value for number, value in fields)


def fields_of(message: Any) -> list[tuple[int, bytes]]:
    return [(number, encode(value)) for number, value in to_value(message).items()]
