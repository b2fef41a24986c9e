"""Answer cases, steps 13 to 19: roots, aliases, merchant, links, platforms, target."""

from __future__ import annotations

import dataclasses

from chain_world import CHAIN_ID, MERCHANT, NOW_MS, SERVICE
from onecode.errors import Declined, Malformed, Untrusted
from onecode.proof.leaves import Link, LinkList, PlatformStatus, ServiceEntry, links_hash
from onecode.proof.map import Section, key_hash
from onecode.query.messages import Answer
from onecode.registry.map import prove
from onecode.wire import encode, sha256
from vectors.answer_kit import case
from vectors.answer_scene import LABELS, OTHER, Draft, assemble, fields_of, with_merchant

ABSENT = tuple(sha256(f"absent {number}".encode())[:20] for number in range(64))


def with_links(d: Draft, links: list[Link], **changes: object) -> Answer:
    d.ask()
    return d.answer(
        merchant=dataclasses.replace(d.merchant(), links=LinkList(links=tuple(links)).encoded()),
        **changes,
    )


def partners_result(d: Draft) -> dict[str, bytes]:
    """The sealed record of the partner B."""
    return {"sealed": d.seal(d.result(d.opened(d.scene.b)))}


# --- 13: section roots ------------------------------------------------------------------------------------------------


@case("13-roots-altered", Untrusted, "map.app_hash")
def roots_altered(d: Draft) -> Answer:
    """one bit of the root of a section that the answer does not use"""
    answer = d.answer()
    roots = answer.roots.roots[:-1] + bytes((answer.roots.roots[-1] ^ 1,))
    return dataclasses.replace(answer, roots=dataclasses.replace(answer.roots, roots=roots))


@case("13-roots-of-another-state", Untrusted, "map.app_hash")
def other_state(d: Draft) -> Answer:
    """an answer that is sound under the next state, in which the own platform's record is gone"""
    d.ask()
    del d.scene.records[d.scene.a.id]
    return d.answer(d.result(d.opened(d.scene.b)))


# --- 14: aliases and the merchant asked for ---------------------------------------------------------------------------


@case("14-ok-aliases")
def aliases(d: Draft) -> Answer:
    """two labels, both bound to the merchant"""
    d.subject, d.scene.aliases = LABELS, dict.fromkeys(LABELS, MERCHANT)
    return d.answer()


@case("14-ok-one-alias-unbound")
def one_alias(d: Draft) -> Answer:
    """two labels, the second not bound"""
    d.subject, d.scene.aliases = LABELS, {LABELS[0]: MERCHANT}
    return d.answer()


@case("14-alias-withheld", Untrusted, "alias.withheld", without=None)
def alias_withheld(d: Draft) -> Answer:
    """two labels asked, that name different merchants; the second is left out"""
    d.subject, d.scene.aliases = LABELS, {LABELS[0]: MERCHANT, LABELS[1]: OTHER}
    answer = d.answer()
    return dataclasses.replace(answer, aliases=(answer.aliases or ())[:1])


@case("14-aliases-swapped", Untrusted, "map.other_same_key", without="map.root")
def aliases_swapped(d: Draft) -> Answer:
    """the proofs of two labels in the other order; one is bound and one is not"""
    d.subject, d.scene.aliases = LABELS, {LABELS[0]: MERCHANT}
    answer = d.answer()
    return dataclasses.replace(answer, aliases=tuple(reversed(answer.aliases or ())))


@case("14-alias-shown-as-unbound", Untrusted, "map.root")
def alias_hidden(d: Draft) -> Answer:
    """two labels that differ; the second is said to be unbound"""
    d.subject, d.scene.aliases = LABELS, {LABELS[0]: MERCHANT, LABELS[1]: OTHER}
    answer = d.answer()
    first, second = answer.aliases or ()
    return dataclasses.replace(answer, aliases=(first, dataclasses.replace(second, leaf=None)))


@case("14-alias-leaf-altered", Untrusted, "map.root")
def alias_leaf(d: Draft) -> Answer:
    """a label of another merchant, its leaf rewritten to name this one"""
    d.subject, d.scene.aliases = LABELS[:1], {LABELS[0]: OTHER}
    d.ask()
    mine = dataclasses.replace(d.alias(LABELS[0]))
    leaf = (mine.leaf or b"").replace(OTHER, MERCHANT)
    return d.answer(aliases=(dataclasses.replace(mine, leaf=leaf),), merchant=d.merchant(MERCHANT))


@case("14-alias-of-another-scheme", Untrusted, "map.root")
def other_alias(d: Draft) -> Answer:
    """the proof of another label, which is bound"""
    d.subject, d.scene.aliases = LABELS[:1], {LABELS[1]: MERCHANT}
    d.ask()
    return d.answer(aliases=(d.alias(LABELS[1]),), merchant=d.merchant())


@case("14-aliases-conflict", Declined, "alias.conflict", without=None)
def conflict(d: Draft) -> Answer:
    """proven: two labels that name different merchants"""
    d.subject, d.scene.aliases = LABELS, {LABELS[0]: MERCHANT, LABELS[1]: OTHER}
    return d.answer()


@case("14-alias-absent", Declined, "alias.absent", without="answer.other_merchant")
def alias_absent(d: Draft) -> Answer:
    """proven: no label is bound"""
    d.subject = LABELS
    return d.answer()


@case("14-other-merchant-than-the-alias-names", Untrusted, "answer.other_merchant", without="map.root")
def alias_and_merchant(d: Draft) -> Answer:
    """the label names one merchant, the answer is about another"""
    d.subject, d.scene.aliases = LABELS[:1], {LABELS[0]: OTHER}
    d.ask()
    return d.answer(merchant=d.merchant())


@case("14-other-merchant", Untrusted, "answer.other_merchant", without="map.root")
def other_merchant(d: Draft) -> Answer:
    """everything of another merchant: entry, links, record"""
    d.ask()
    return d.answer(d.result(d.opened(d.scene.a, d.scene.other_signed)), merchant=d.merchant(OTHER))


@case("14-other-merchant-id", Untrusted, "answer.other_merchant")
def other_merchant_id(d: Draft) -> Answer:
    """the honest answer with another merchant id in it"""
    return with_merchant(d.answer(), merchant=OTHER)


@case("14-merchant-left-out", Untrusted, "answer.other_merchant", without=None)
def no_merchant(d: Draft) -> Answer:
    """no merchant for a query by merchant id"""
    return dataclasses.replace(d.answer(), merchant=None)


# --- 15: the merchant entry; here the steps of a map proof ------------------------------------------------------------


@case("15-merchant-absent", Declined, "merchant.absent", without=None)
def merchant_absent(d: Draft) -> Answer:
    """proven: there is no such merchant"""
    d.subject = ABSENT[0]
    return d.answer()


@case("15-entry-altered", Untrusted, "map.root")
def entry_altered(d: Draft) -> Answer:
    """an entry with a links list of the node's own making"""
    d.ask()
    links = LinkList(links=(d.scene.records[d.scene.b.id][0],))
    listed = ServiceEntry(service=SERVICE, links_hash=links_hash(CHAIN_ID, MERCHANT, SERVICE, links))
    entry = dataclasses.replace(d.scene.entry(), services=(listed,))
    given = dataclasses.replace(d.merchant(), entry=entry.encoded(), links=links.encoded())
    return d.answer(merchant=given, **partners_result(d))


@case("15-entry-of-another-merchant", Untrusted, "map.root", without="links.hash")
def entry_swapped(d: Draft) -> Answer:
    """entry, links and proof of another merchant under the id that was asked for"""
    d.ask()
    return d.answer(merchant=dataclasses.replace(d.merchant(OTHER), merchant=MERCHANT))


@case("15-proof-of-another-section", Untrusted, "map.root")
def other_section(d: Draft) -> Answer:
    """the path of the same key among the platforms"""
    d.ask()
    path = prove(d.scene.store, Section.PLATFORMS, MERCHANT)
    return with_merchant(d.answer(), proof=dataclasses.replace(path, other=None))


@case("15-proof-mask-spare-bit", Untrusted, "map.mask")
def mask_spare(d: Draft) -> Answer:
    """a bit of the mask below the path"""
    d.ask()
    path = d.path()
    mask = path.mask[:-1] + bytes((path.mask[-1] | 1,))
    return with_merchant(d.answer(), proof=dataclasses.replace(path, mask=mask))


@case("15-proof-mask-too-long", Untrusted, "map.mask", without="map.root")
def mask_long(d: Draft) -> Answer:
    """a mask with a byte too many"""
    d.ask()
    path = d.path()
    return with_merchant(d.answer(), proof=dataclasses.replace(path, mask=path.mask + b"\0"))


@case("15-proof-sibling-too-many", Untrusted, "map.siblings")
def siblings_more(d: Draft) -> Answer:
    """one sibling more than the mask tells of"""
    d.ask()
    path = d.path()
    return with_merchant(d.answer(), proof=dataclasses.replace(path, siblings=sha256(b"") + path.siblings))


@case("15-proof-sibling-missing", Untrusted, "map.siblings", without="map.root")
def siblings_less(d: Draft) -> Answer:
    """one sibling less"""
    d.ask()
    path = d.path()
    return with_merchant(d.answer(), proof=dataclasses.replace(path, siblings=path.siblings[32:]))


@case("15-proof-empty-sibling-spelt-out", Untrusted, "map.sibling_empty")
def sibling_empty(d: Draft) -> Answer:
    """a sibling that is empty stands in the list, with its bit in the mask"""
    d.ask()
    path = d.path()
    bits = [path.mask[level // 8] >> 7 - level % 8 & 1 for level in range(path.depth)]
    level = bits.index(0)
    mask = bytearray(path.mask)
    mask[level // 8] |= 0x80 >> level % 8
    at = 32 * sum(bits[:level])
    siblings = path.siblings[:at] + bytes(32) + path.siblings[at:]
    return with_merchant(d.answer(), proof=dataclasses.replace(path, mask=bytes(mask), siblings=siblings))


@case("15-proof-other-leaf-for-presence", Untrusted, "map.other_leaf")
def other_leaf(d: Draft) -> Answer:
    """a proof of presence with a second leaf"""
    d.ask()
    return with_merchant(d.answer(), proof=dataclasses.replace(d.path(), other=bytes(64)))


@case("15-absence-of-what-is-there", Untrusted, "map.root", without="merchant.absent")
def absence_empty(d: Draft) -> Answer:
    """the merchant's slot is called empty"""
    return with_merchant(d.answer(), entry=None, links=None)


@case("15-absence-by-the-own-leaf", Untrusted, "map.other_same_key", without="merchant.absent")
def absence_own(d: Draft) -> Answer:
    """the merchant's own leaf as the other one"""
    d.ask()
    other = key_hash(Section.MERCHANTS, MERCHANT) + sha256(d.merchant().entry or b"")
    path = dataclasses.replace(d.path(), other=other)
    return with_merchant(d.answer(), entry=None, links=None, proof=path)


@case("15-absence-by-a-leaf-off-the-path", Untrusted, "map.other_off_path", without="map.root")
def absence_stray(d: Draft) -> Answer:
    """another merchant's leaf and path"""
    d.ask()
    other = key_hash(Section.MERCHANTS, OTHER) + sha256(d.merchant(OTHER).entry or b"")
    path = dataclasses.replace(d.path(OTHER), other=other)
    return with_merchant(d.answer(), entry=None, links=None, proof=path)


@case("15-absence-of-another-merchant", Untrusted, "map.other_off_path", without="map.root")
def absence_swapped(d: Draft) -> Answer:
    """the sound proof that another merchant is absent"""
    d.ask()
    paths = (d.path(merchant) for merchant in ABSENT)
    path = next(
        path for path in paths if path.other is not None and path.other[:32] != key_hash(Section.MERCHANTS, MERCHANT)
    )
    return with_merchant(d.answer(), entry=None, links=None, proof=path)


@case("15-entry-with-an-unknown-critical-field", Malformed, "wire.field_unknown")
def entry_unknown(d: Draft) -> Answer:
    """the chain holds an entry with a field that this reader does not know"""
    d.scene.raw_entry = lambda raw: bytes((raw[0] + 1,)) + raw[1:] + encode(20) + encode(True)
    return d.answer()


@case("15-entry-in-another-encoding", Malformed, "wire.not_canonical")
def entry_encoding(d: Draft) -> Answer:
    """the chain holds an entry whose nonce takes two bytes where one does"""
    d.scene.raw_entry = lambda raw: raw.replace(b"\x04\x00\x05\x00", b"\x04\x18\x00\x05\x00", 1)
    return d.answer()


# --- 16: freeze -------------------------------------------------------------------------------------------------------


@case("16-merchant-frozen", Declined, "merchant.frozen")
def frozen(d: Draft) -> Answer:
    """frozen until a millisecond after the header was signed"""
    d.scene.entry_changes = {"frozen_from_ms": NOW_MS - 9000, "frozen_until_ms": NOW_MS - 2000 + 1}
    return d.answer()


@case("16-ok-thawed")
def thawed(d: Draft) -> Answer:
    """frozen until the millisecond in which the header was signed"""
    d.scene.entry_changes = {"frozen_from_ms": NOW_MS - 9000, "frozen_until_ms": NOW_MS - 2000}
    return d.answer()


# --- 17: links --------------------------------------------------------------------------------------------------------


@case("17-service-absent", Declined, "service.absent", without=None)
def service_absent(d: Draft) -> Answer:
    """proven: the merchant has no record for another service"""
    d.service = "loyalty"
    return d.answer()


@case("17-links-withheld", Untrusted, "links.withheld", without=None)
def links_withheld(d: Draft) -> Answer:
    """no links list"""
    return with_merchant(d.answer(), links=None)


@case("17-links-one-dropped", Untrusted, "links.hash")
def link_dropped(d: Draft) -> Answer:
    """the own platform's link is left out and the partner's record opened"""
    return with_links(
        d, [link for link in d.scene.links().links if link.platform != d.scene.a.id], **partners_result(d)
    )


@case("17-links-one-added", Untrusted, "links.hash")
def link_added(d: Draft) -> Answer:
    """the own platform withdrew; its old link is put back"""
    old = d.scene.records.pop(d.scene.a.id)[0]
    return with_links(d, sorted([*d.scene.links().links, old], key=lambda link: link.platform))


@case("17-links-one-twice", Untrusted, "links.hash")
def link_twice(d: Draft) -> Answer:
    """one link stands twice"""
    links = list(d.scene.links().links)
    return with_links(d, [links[0], *links])


@case("17-links-reordered", Untrusted, "links.hash")
def links_reordered(d: Draft) -> Answer:
    """the links in another order"""
    return with_links(d, list(reversed(d.scene.links().links)))


@case("17-links-none", Untrusted, "links.hash", without="platform.absent")
def links_none(d: Draft) -> Answer:
    """an empty list"""
    return with_links(d, [])


@case("17-link-version-altered", Untrusted, "links.hash", without="record.commitment")
def link_version(d: Draft) -> Answer:
    """the version of the own link"""
    return altered_link(d, version=2)


@case("17-link-epoch-altered", Untrusted, "links.hash", without="record.commitment")
def link_epoch(d: Draft) -> Answer:
    """the epoch of the own link"""
    return altered_link(d, epoch=2)


@case("17-link-height-altered", Untrusted, "links.hash")
def link_height(d: Draft) -> Answer:
    """the publication height of the own link, which decides which record keys verify it"""
    return altered_link(d, height=1)


@case("17-link-envelope-altered", Untrusted, "links.hash")
def link_envelope(d: Draft) -> Answer:
    """the envelope's hash in the own link"""
    return altered_link(d, envelope_hash=sha256(b"another envelope"))


@case("17-link-commitment-altered", Untrusted, "links.hash", without="record.commitment")
def link_commitment(d: Draft) -> Answer:
    """the commitment in the own link"""
    return altered_link(d, commitment=sha256(b"another record"))


@case("17-link-audience-altered", Untrusted, "links.hash", without="record.audience")
def link_audience(d: Draft) -> Answer:
    """a link whose audience leaves the wallet out, opened to it"""
    del d.scene.records[d.scene.a.id]
    b = d.scene.b
    d.scene.publish(b)
    honest, _ = d.scene.records[b.id]
    d.ask()
    forged = dataclasses.replace(honest, audience=(d.scene.a.id,))
    links = [forged if link.platform == b.id else link for link in d.scene.links().links]
    return with_links(d, links, **partners_result(d))


def altered_link(d: Draft, **changes: object) -> Answer:
    links = d.scene.links().links
    own = d.scene.a.id
    return with_links(
        d,
        [dataclasses.replace(link, **changes) if link.platform == own else link for link in links],  # type: ignore[arg-type]
    )


@case("17-links-of-another-merchant", Untrusted, "links.hash", without="record.commitment")
def links_swapped(d: Draft) -> Answer:
    """the sound list of another merchant"""
    return with_links(d, list(d.scene.other_links().links))


def listed_for(d: Draft, chain_id: str, merchant: bytes, service: str) -> Answer:
    """The chain's entry commits to the same links in another context."""
    listed = links_hash(chain_id, merchant, service, d.scene.links())
    d.scene.entry_changes = {"services": (ServiceEntry(service=SERVICE, links_hash=listed),)}
    return d.answer()


@case("17-links-of-another-chain", Untrusted, "links.hash")
def links_chain(d: Draft) -> Answer:
    """the same links, committed to for another network"""
    return listed_for(d, "onecode-other", MERCHANT, SERVICE)


@case("17-links-of-another-service", Untrusted, "links.hash")
def links_service(d: Draft) -> Answer:
    """the same links, committed to for another service"""
    return listed_for(d, CHAIN_ID, MERCHANT, "loyalty")


@case("17-links-committed-for-another-merchant", Untrusted, "links.hash")
def links_merchant(d: Draft) -> Answer:
    """the same links, committed to for another merchant"""
    return listed_for(d, CHAIN_ID, OTHER, SERVICE)


@case("17-links-other-encoding", Malformed, "wire.not_canonical", without="links.hash")
def links_encoding(d: Draft) -> Answer:
    """the same list, its length in two bytes where one does"""
    d.ask()
    raw = d.merchant().links or b""
    return with_merchant(d.answer(), links=raw.replace(b"\xa1\x01\x83", b"\xa1\x01\x98\x03", 1))


@case("17-links-trailing-byte", Malformed, "wire.trailing", without="links.hash")
def links_trailing(d: Draft) -> Answer:
    """the same list and a zero byte"""
    d.ask()
    return with_merchant(d.answer(), links=(d.merchant().links or b"") + b"\0")


@case("17-links-unknown-field", Malformed, "wire.field_unknown", without="links.hash")
def links_unknown(d: Draft) -> Answer:
    """the same list and a field 2"""
    d.ask()
    fields = fields_of(d.scene.links())
    return with_merchant(d.answer(), links=assemble([*fields, (2, encode(True))]))


# --- 18: platforms ----------------------------------------------------------------------------------------------------


@case("18-ok-platforms-changed")
def platforms_changed(d: Draft) -> Answer:
    """another platforms root than the wallet knows: all leaves come with the answer"""
    d.ask()
    d.scene.leaves[d.scene.c.id] = d.scene.c.leaf(name="C, renamed")
    d.scene.height += 1
    return d.answer()


@case("18-platform-withheld", Untrusted, "platform.withheld")
def platform_withheld(d: Draft) -> Answer:
    """the platforms changed, and the leaf of one that is listed is left out"""
    d.ask()
    d.scene.leaves[d.scene.b.id] = d.scene.b.leaf(name="B, renamed")
    d.scene.height += 1
    answer = d.answer()
    given = tuple(one for one in answer.platforms or () if one.platform != d.scene.c.id)
    return dataclasses.replace(answer, platforms=given)


@case("18-suspended-platform-shown-as-active", Untrusted, "map.root")
def platform_suspended(d: Draft) -> Answer:
    """the own platform was suspended since; its old leaf comes with the answer"""
    d.ask()
    d.scene.leaves[d.scene.a.id] = d.scene.a.leaf(status=PlatformStatus.SUSPENDED)
    d.scene.height += 1
    answer = d.answer()
    old = d.scene.a.leaf().encoded()
    given = tuple(
        dataclasses.replace(one, leaf=old) if one.platform == d.scene.a.id else one for one in answer.platforms or ()
    )
    return dataclasses.replace(answer, platforms=given)


@case("18-platform-leaf-swapped", Untrusted, "map.root", without="platform.key_unknown")
def platform_swapped(d: Draft) -> Answer:
    """the leaf of one platform with the proof of another"""
    leaf = d.scene.b.leaf().encoded()
    d.ask()
    return d.answer(platforms=(d.platform(d.scene.a, leaf=leaf),))


@case("18-platform-proof-of-another-section", Untrusted, "map.root")
def platform_section(d: Draft) -> Answer:
    """the path of the same key among the merchants"""
    d.ask()
    path = dataclasses.replace(prove(d.scene.store, Section.MERCHANTS, d.scene.a.id), other=None)
    return d.answer(platforms=(d.platform(d.scene.a, proof=path),))


@case("18-old-platforms-after-a-change", Untrusted, "platform.withheld", without=None)
def platforms_old(d: Draft) -> Answer:
    """the platforms changed, and the answer brings none: what the wallet knew does not count"""
    d.ask()
    d.scene.leaves[d.scene.a.id] = d.scene.a.leaf(status=PlatformStatus.SUSPENDED)
    d.scene.height += 1
    return d.answer(platforms=None)


# --- 19: the target ---------------------------------------------------------------------------------------------------


@case("19-platform-absent", Declined, "platform.absent", without=None)
def nobody(d: Draft) -> Answer:
    """proven: only a platform that the wallet does not accept serves the merchant"""
    for platform in (d.scene.a, d.scene.b):
        del d.scene.records[platform.id]
    return d.answer(d.result(d.opened(d.scene.c)))


@case("19-audience-without-the-wallet", Declined, "platform.absent", without=None)
def not_readable(d: Draft) -> Answer:
    """proven: the accepted partner's record is for its own wallets"""
    del d.scene.records[d.scene.a.id]
    d.scene.publish(d.scene.b)
    return d.answer(d.result(d.opened(d.scene.b)))


@case("19-own-platform-suspended", Declined, "platform.absent", without=None)
def suspended(d: Draft) -> Answer:
    """proven: the only accepted platform is suspended"""
    d.scene.leaves[d.scene.a.id] = d.scene.a.leaf(status=PlatformStatus.SUSPENDED)
    del d.scene.records[d.scene.b.id]
    return d.answer()


@case("19-own-platform-not-yet-active", Declined, "platform.absent", without=None)
def not_yet(d: Draft) -> Answer:
    """proven: its admission takes effect a millisecond after the header was signed"""
    d.scene.leaves[d.scene.a.id] = d.scene.a.leaf(active_from_ms=NOW_MS - 2000 + 1)
    del d.scene.records[d.scene.b.id]
    return d.answer()


@case("19-ok-partner-where-the-own-is-suspended")
def partner(d: Draft) -> Answer:
    """the partner is the target once the own platform is suspended"""
    d.scene.leaves[d.scene.a.id] = d.scene.a.leaf(status=PlatformStatus.SUSPENDED)
    return d.answer(d.result(d.opened(d.scene.b)))
