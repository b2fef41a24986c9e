"""What wallet and enclave check of an answer, in the steps that docs/spec/verification.md numbers.

Steps 1 to 12 (the header is signed by the chain's validators, and fresh) are `proof/light.py`'s; here are 13 to 24. The
enclave runs 13 to 19 on what its host hands it, exactly as a wallet does on what a node sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from onecode.errors import BRANCHES, Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.governance import ENCLAVE_POLICY_KEY, EnclavePolicy
from onecode.proof.leaves import (
    AliasLeaf,
    EnclaveLeaf,
    Link,
    LinkList,
    MerchantEntry,
    PlatformLeaf,
    Role,
    alias_key,
    enclave_key,
    links_bytes_hash,
)
from onecode.proof.light import VerifiedHeader
from onecode.proof.map import PathProof, Section, SectionRoots, verify_absence, verify_presence, verify_roots
from onecode.query.messages import (
    ClearQuery,
    MatchMode,
    NetworkView,
    ProvenAlias,
    ProvenEnclave,
    ProvenMerchant,
    ProvenPlatform,
    Result,
)
from onecode.record.envelope import RecordIds, SignedRecord, verify_commitment, verify_signed_record
from onecode.record.schema import Record
from onecode.schema import parse


@dataclass(frozen=True, slots=True)
class VerifiedState:
    """What the chain says of one merchant and service at one header. `platforms` has every listed platform."""

    header: VerifiedHeader
    merchant: bytes
    entry: MerchantEntry
    service: str
    links: tuple[Link, ...]
    platforms: Mapping[bytes, PlatformLeaf]

    def link_of(self, platform: bytes) -> Link | None:
        return next((link for link in self.links if link.platform == platform), None)


@dataclass(frozen=True, slots=True)
class VerifiedRecord:
    """A record that may be paid: committed to by a live link under a fresh signed header, signed by its platform."""

    state: VerifiedState
    link: Link
    record: Record
    signed: SignedRecord


def verify_platforms(
    proven: Sequence[ProvenPlatform] | None, roots: SectionRoots, known: Mapping[bytes, PlatformLeaf]
) -> dict[bytes, PlatformLeaf]:
    """Step 18's proofs: `known` (leaves already proven under the same platforms root) and the given ones together."""
    platforms = dict(known)
    for given in proven or ():
        verify_presence(roots, Section.PLATFORMS, given.platform, given.leaf, given.proof)
        platforms[given.platform] = parse(PlatformLeaf, given.leaf, path="platform")
    return platforms


def verify_policy(roots: SectionRoots, policy: bytes, proof: PathProof) -> EnclavePolicy:
    """The enclave policy, proven present, or (empty bytes) absent: then it allows nothing."""
    if not policy:
        verify_absence(roots, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, proof)
        return EnclavePolicy(measurements=(), serial=0)
    verify_presence(roots, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, policy, proof)
    return parse(EnclavePolicy, policy, path="policy")


def verify_enclave(
    given: ProvenEnclave, roots: SectionRoots, platform: bytes, policy: EnclavePolicy, header_ms: int, now_ms: int
) -> EnclaveLeaf:
    """The leaf of an enclave that may be asked by wallets of `platform`.

    1. The leaf is proven. 2. It is what `platform`'s own key service says, and has not ended at `now_ms`. 3. `policy`
    allows its kind and measurement at `header_ms`, the verified time of the header that proves both: a build that
    governance removed is not asked until its attestation ends.
    """
    verify_presence(roots, Section.ENCLAVES, enclave_key(given.query_key, given.platform), given.leaf, given.proof)  # 1
    leaf = parse(EnclaveLeaf, given.leaf, path="enclave")
    if given.platform != platform or now_ms >= leaf.expires_ms:  # 2
        raise Untrusted("enclave.not_attested", "the platform's key service has not attested this enclave")
    if not policy.allows(leaf.kind, leaf.measurement, header_ms):  # 3
        raise Untrusted("enclave.policy_refused", "the network's enclave policy does not allow this build")
    return leaf


def find_query_key(view: NetworkView, platform: bytes, header_ms: int, now_ms: int) -> bytes | None:
    """The query key of the first enclave in a view that wallets of `platform` may ask, or None.

    Enclaves that are not attested or not allowed are passed over; a false proof of one, or of the policy, raises.
    Does NOT check the view's header and roots.
    """
    policy = verify_policy(view.roots, view.policy, view.policy_proof)
    for given in view.enclaves:
        try:
            verify_enclave(given, view.roots, platform, policy, header_ms, now_ms)
        except Untrusted as error:
            if error.code not in ("enclave.not_attested", "enclave.policy_refused"):
                raise
        else:
            return given.query_key
    return None


def _verify_aliases(clear: ClearQuery, proven: Sequence[ProvenAlias] | None, roots: SectionRoots) -> bytes | None:
    """Step 14: the one merchant that the query's aliases name, or None if none of them is bound."""
    asked = clear.aliases or ()
    given = proven or ()
    if len(given) != len(asked):
        raise Untrusted("alias.withheld", "the answer proves another number of aliases than was asked", field="aliases")
    named: set[bytes] = set()
    for alias, proof in zip(asked, given, strict=True):
        key = alias_key(alias.guid, alias.values)
        if proof.leaf is None:
            verify_absence(roots, Section.ALIASES, key, proof.proof)
        else:
            verify_presence(roots, Section.ALIASES, key, proof.leaf, proof.proof)
            named.add(parse(AliasLeaf, proof.leaf, path="alias").merchant)
    if len(named) > 1:
        raise Declined("alias.conflict", "the label's aliases name different merchants; do not pay", field="aliases")
    return named.pop() if named else None


def verify_state(
    clear: ClearQuery,
    header: VerifiedHeader,
    roots: SectionRoots,
    aliases: Sequence[ProvenAlias] | None,
    merchant: ProvenMerchant | None,
    platforms: Mapping[bytes, PlatformLeaf],
) -> VerifiedState:
    """Steps 13 to 18: what the chain says of the merchant asked for.

    13. The section roots hash to the header's app hash. 14. Aliases are proven, name one merchant, and it is the one in
    the answer; without aliases the merchant is the one asked for. 15. The merchant entry is proven present (proven
    absence is `Declined`). 16. It is not frozen at the header's time. 17. The links list is the one the entry commits
    to. 18. Every listed platform's leaf is in `platforms` (proven by `verify_platforms`).
    Does not check the header's signatures or age (steps 1 to 12).
    """
    verify_roots(roots, header.header.app_hash)  # step 13
    if clear.aliases is not None:  # step 14
        asked = _verify_aliases(clear, aliases, roots)
        if asked is None:
            raise Declined("alias.absent", "proven: no alias of this label is bound to a merchant", field="aliases")
    elif clear.merchant is not None:
        asked = clear.merchant
    else:
        raise Malformed("query.subject", "a query names a merchant or aliases", field="merchant")
    if merchant is None or merchant.merchant != asked:
        raise Untrusted("answer.other_merchant", "the answer is about another merchant", field="merchant")
    if merchant.entry is None:  # step 15
        verify_absence(roots, Section.MERCHANTS, asked, merchant.proof)
        raise Declined("merchant.absent", "proven: no platform has published this merchant", field="merchant")
    verify_presence(roots, Section.MERCHANTS, asked, merchant.entry, merchant.proof)
    entry = parse(MerchantEntry, merchant.entry, path="merchant")
    if entry.frozen_at(header.signed_ms):  # step 16
        raise Declined("merchant.frozen", "the merchant is frozen; do not pay", field="merchant")
    links = _verify_links(clear, asked, entry, merchant.links)  # step 17
    for link in links:  # step 18
        if link.platform not in platforms:
            raise Untrusted("platform.withheld", "the answer lacks the proof of a listed platform", field="platforms")
    return VerifiedState(header, asked, entry, clear.service, links, platforms)


def _verify_links(clear: ClearQuery, merchant: bytes, entry: MerchantEntry, raw: bytes | None) -> tuple[Link, ...]:
    """Step 17: the whole links list, or the proven word that there is none."""
    listed = entry.service(clear.service)
    if listed is None:
        raise Declined("service.absent", f"proven: the merchant has no record for {clear.service!r}", field="service")
    if raw is None:
        raise Untrusted("links.withheld", "the answer lacks the links list that the entry commits to", field="links")
    links = parse(LinkList, raw, path="links")
    if links_bytes_hash(clear.chain_id, merchant, clear.service, raw) != listed.links_hash:
        raise Untrusted("links.hash", "the links list is not the one that the merchant entry commits to", field="links")
    return links.links


def readable_links(state: VerifiedState, accepted: Sequence[bytes], own: bytes) -> list[Link]:
    """Links of active platforms that the wallet accepts and may read, in its order of preference."""
    time_ms = state.header.signed_ms
    found = (state.link_of(platform) for platform in dict.fromkeys(accepted))
    return [
        link
        for link in found
        if link is not None and link.readable_by(own) and state.platforms[link.platform].active_at(time_ms)
    ]


def verify_target(state: VerifiedState, accepted: Sequence[bytes], own: bytes) -> Link:
    """Step 19: the link that fits the wallet. By public data alone, so no node can pass a worse partner off as it."""
    links = readable_links(state, accepted, own)
    if not links:
        raise Declined("platform.absent", "proven: no platform that this wallet accepts serves the merchant")
    return links[0]


def raise_refusal(result: Result) -> None:
    """Raise the error that the enclave sealed, if it did."""
    if result.refusal is None:
        return
    kinds: dict[str, type[OnecodeError]] = {kind.branch: kind for kind in BRANCHES}
    kind = kinds.get(result.branch or "", Unreachable)
    raise kind(result.refusal, result.detail or "the enclave refused", retry_after_ms=result.retry_after_ms)


def verify_records(
    state: VerifiedState,
    chain_id: str,
    result: Result,
    query_id: bytes,
    mode: MatchMode,
    accepted: Sequence[bytes],
    own: bytes,
    now_ms: int,
) -> tuple[VerifiedRecord, ...]:
    """Steps 20 to 24: the opened records that this wallet may use, best first; the first is the target's.

    20. The result answers this query and is no refusal. 21. It opens the target, and nothing that the wallet did not
    accept or may not read; in mode `node` nothing but the target. 22 to 24: `verify_record`, for each.
    The target must pass; another record that does not is left out. A live target without a plaintext is `Unreachable`:
    ask another node.
    """
    if result.query_id != query_id:  # step 20
        raise Untrusted("result.other_query", "the sealed result answers another query", field="query_id")
    raise_refusal(result)
    target = verify_target(state, accepted, own)
    opened = {given.platform: given.signed_record for given in result.opened}
    allowed = [target] if mode == MatchMode.NODE else readable_links(state, accepted, own)
    if len(opened) != len(result.opened) or not set(opened) <= {link.platform for link in allowed}:  # step 21
        raise Untrusted("result.other_record", "the result opens a record that was not to be opened", field="opened")
    if target.platform not in opened:
        raise Unreachable("record.unopened", "the node's enclave could not open a live record; ask another node")
    records = [verify_record(state, chain_id, target, opened[target.platform], now_ms)]
    for link in allowed:
        if link.platform in opened and link is not target:
            with suppress(OnecodeError):  # a partner's bad record is not offered; it must not keep the target from pay
                records.append(verify_record(state, chain_id, link, opened[link.platform], now_ms))
    return tuple(records)


def verify_record(state: VerifiedState, chain_id: str, link: Link, opened: bytes, now_ms: int) -> VerifiedRecord:
    """Steps 22 to 24 for one opened record: nothing but this is ever paid.

    22. The link commits to exactly this record and salt. 23. Its platform signed it with a record key that verifies a
    link of this height, and the record names the same ids. 24. Its audience is the link's, and now is inside its
    validity window.
    """
    ids = RecordIds(
        merchant=state.merchant,
        platform=link.platform,
        service=state.service,
        version=link.version,
        epoch=link.epoch,
    )
    signed = verify_commitment(chain_id, ids, opened, link.commitment)  # step 22
    platform = state.platforms[link.platform]
    platform.require_key(Role.RECORD, signed.record_key, state.header.signed_ms, link_height=link.height)  # step 23
    record = verify_signed_record(chain_id, ids, signed)
    if record.audience != link.audience:  # step 24
        raise Untrusted("record.audience", "the record names another audience than its link", field="record.audience")
    if not record.valid_from_ms <= now_ms < record.valid_until_ms:
        raise Declined("record.expired", "the record is outside its validity window", field="record.valid_until_ms")
    return VerifiedRecord(state, link, record, signed)
