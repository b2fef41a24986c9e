"""The enclave: believes nothing from its host, opens only what the asking wallet may read.

Pure but for the entropy of HPKE and the functions given: time and random bytes are arguments. Integrity of an answer
never rests on this room, only confidentiality does (docs/threat-model.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onecode.attest.evidence import Attester, Bindings, report_data
from onecode.attest.release import EnclaveTerms, SealedGrant, open_grant
from onecode.enclave.buckets import Buckets
from onecode.enclave.frames import (
    EnclaveQuery,
    EnclaveStatus,
    EvidenceReply,
    EvidenceRequest,
    HeaderUpdate,
    HeldGrant,
    PlatformsPart,
)
from onecode.enclave.leases import Leases
from onecode.enclave.replay import SeenQueries
from onecode.errors import Declined, Malformed, OnecodeError, Untrusted
from onecode.proof.governance import ENCLAVE_POLICY_KEY
from onecode.proof.header import header_hash
from onecode.proof.leaves import KeyState, Link, PlatformLeaf, Role
from onecode.proof.light import Trust, TrustedState, VerifiedHeader, require_fresh, trusted_state, verify_header
from onecode.proof.map import Section, SectionRoots, verify_absence, verify_presence, verify_roots
from onecode.query.credential import parse_credential, verify_parsed
from onecode.query.messages import (
    PROTOCOL,
    ClearQuery,
    Credential,
    HeaderView,
    MatchMode,
    Opened,
    ProvenPlatform,
    Query,
    Result,
    SecretQuery,
    SignedSecret,
)
from onecode.query.sealing import open_query, reply_bytes, seal_result, verify_device
from onecode.query.verify import VerifiedState, readable_links, verify_platforms, verify_state, verify_target
from onecode.record.envelope import ENVELOPE_OVERHEAD_BYTES, RecordIds, open_envelope, verify_commitment
from onecode.schema import parse
from onecode.wire import sha256

HEADERS_KEPT = 64
PLATFORMS_MAX = 1_000
CREDENTIALS_KEPT = 100_000
ROOTS_AHEAD_MAX = 2  # platforms roots of which parts are kept until their header comes


@dataclass(frozen=True, slots=True)
class EnclaveSettings:
    """What the enclave was started with. `anchor` is where it begins to trust; see `proof/trust.py`."""

    chain_id: str
    node_id: str
    anchor: Trust
    header_age_ms_max: int = 30_000
    query_window_ms: int = 60_000

    def terms(self) -> EnclaveTerms:
        return EnclaveTerms(
            chain_id=self.chain_id,
            anchor_hash=self.anchor.state.header_hash,
            header_age_ms_max=self.header_age_ms_max,
            query_window_ms=self.query_window_ms,
            trusting_period_ms=self.anchor.trusting_period_ms,
        )


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request to a key service that has no grant yet, and the header it binds."""

    bindings: Bindings
    release: X25519PrivateKey
    bound: TrustedState


@dataclass(frozen=True, slots=True)
class _Known:
    """One verified header with what was proven under it."""

    header: VerifiedHeader
    roots: SectionRoots
    platforms: Mapping[bytes, PlatformLeaf]


class Enclave:
    """State of one enclave. `random_bytes(n)` gives entropy; every method takes the time."""

    def __init__(
        self, settings: EnclaveSettings, attester: Attester, random_bytes: Callable[[int], bytes], started_ms: int
    ) -> None:
        self._settings = settings
        self._attester = attester
        self._random = random_bytes
        self._started_ms = started_ms
        self._query_key = X25519PrivateKey.from_private_bytes(random_bytes(32))
        self.query_key = self._query_key.public_key().public_bytes_raw()
        self._trust = settings.anchor
        self._known: dict[int, _Known] = {}
        self._ahead: dict[bytes, dict[bytes, ProvenPlatform]] = {}  # by platforms root: parts without a header yet
        self._height = 0
        self._policy_hash = bytes(32)
        self._pending: dict[bytes, _Pending] = {}
        self._leases = Leases()
        self._buckets = Buckets()
        self._seen = SeenQueries(2 * settings.query_window_ms)
        self._credentials: dict[tuple[bytes, bytes], Credential] = {}

    # --- what the host tells ------------------------------------------------------------------------------------------

    def accept_platforms(self, part: PlatformsPart) -> None:
        """Keep some platforms until the header comes under which they are proven. The host can waste no more than the
        room of two networks' platforms."""
        if part.root not in self._ahead:
            while len(self._ahead) >= ROOTS_AHEAD_MAX:
                del self._ahead[next(iter(self._ahead))]
            self._ahead[part.root] = {}
        ahead = self._ahead[part.root]
        ahead.update((given.platform, given) for given in part.platforms)
        if len(ahead) > PLATFORMS_MAX:
            del self._ahead[part.root]
            raise Malformed("enclave.platforms_many", "a network has at most 1,000 platforms", field="platforms")

    def accept_header(self, update: HeaderUpdate, now_ms: int) -> None:
        """Follow the chain to a newer header.

        1. It verifies from the newest header verified so far (never from an older one) and is fresh. 2. The section
        roots are under it. 3. The platforms are those proven under the same platforms root, or are given (now, and in
        parts before), all proven.
        4. The enclave policy is proven, present or absent.
        """
        seen = self._known.get(update.header.header.height)
        if seen is not None and seen.header.header_hash == header_hash(update.header.header):
            return
        header = verify_header(update.header, update.validators, self._trust, now_ms)  # 1
        require_fresh(header, now_ms, self._settings.header_age_ms_max)
        verify_roots(update.roots, header.header.app_hash)  # 2
        newest = self._known.get(self._height)
        root = update.roots.root(Section.PLATFORMS)
        if newest is not None and newest.roots.root(Section.PLATFORMS) == root:  # 3
            platforms = newest.platforms
        elif update.platforms is not None:
            ahead = self._ahead.pop(root, {})
            platforms = verify_platforms((*ahead.values(), *update.platforms), update.roots, {})
        else:
            raise Malformed("enclave.platforms_missing", "the platforms changed: send them all", field="platforms")
        if update.policy:  # 4
            verify_presence(update.roots, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, update.policy, update.policy_proof)
        else:
            verify_absence(update.roots, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, update.policy_proof)
        self._policy_hash = sha256(update.policy)
        self._rely_on(header)
        self._height = header.header.height
        self._known[self._height] = _Known(header, update.roots, platforms)
        while len(self._known) > HEADERS_KEPT:
            self._known.pop(next(iter(self._known)))

    def accept_between(self, view: HeaderView, now_ms: int) -> None:
        """Go on to a header that lies on the way to a newer one, of whatever age.

        It verifies as in step 1 of `accept_header`, from the newest header verified so far and above it. Nothing is
        answered under it and no evidence binds it: it is only what the next header is verified from. Nothing is kept
        but this one, so the host gains no room by it.
        """
        if view.header.header.height <= self._trust.state.header.height:
            raise Untrusted("header.not_higher", "the header is not above the trusted one", field="header.height")
        self._rely_on(verify_header(view.header, view.validators, self._trust, now_ms))

    def _rely_on(self, header: VerifiedHeader) -> None:
        self._trust = dataclasses.replace(self._trust, state=trusted_state(header.header, header.validators))

    def status(self) -> EnclaveStatus:
        newest = self._known.get(self._height)
        return EnclaveStatus(
            query_key=self.query_key,
            kind=self._attester.kind,
            measurement=self._attester.measurement,
            node_id=self._settings.node_id,
            height=self._height,
            platforms_root=newest.roots.root(Section.PLATFORMS) if newest else b"",
            leases=self._leases.listed(),
            trusted_height=self._trust.state.header.height,
        )

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _platform(self, platform: bytes) -> PlatformLeaf:
        newest = self._known.get(self._height)
        leaf = newest.platforms.get(platform) if newest else None
        if leaf is None:
            raise Untrusted("platform.unknown", "the chain lists no such platform", field="platform")
        return leaf

    def make_evidence(self, request: EvidenceRequest, now_ms: int) -> EvidenceReply:
        """Evidence for one platform's key service, whose key must be proven on chain.

        It binds the newest header under which queries are answered, never one between.
        """
        self._platform(request.platform).require_key(Role.KEY_SERVICE, request.key_service_key, now_ms)
        bound = self._known[self._height].header
        release = X25519PrivateKey.from_private_bytes(self._random(32))
        terms = self._settings.terms()
        bindings = Bindings(
            header_hash=bound.header_hash,
            config_hash=sha256(terms.encoded()),
            node_id=self._settings.node_id,
            nonce=request.nonce,
            release_key=release.public_key().public_bytes_raw(),
            query_key=self.query_key,
            key_service_key=request.key_service_key,
            policy_hash=self._policy_hash,
            started_ms=self._started_ms,
        )
        evidence = self._attester.evidence(report_data(self._settings.chain_id, bindings))
        self._pending[request.platform] = _Pending(bindings, release, bound)
        return EvidenceReply(bindings=bindings, evidence=evidence, height=self._height, terms=terms)

    def accept_grant(self, given: SealedGrant, now_ms: int) -> HeldGrant:
        """Take a platform's epoch keys, if they answer the request that this enclave made last to its key service.

        Returns what the other workers have to `hold` too. `Untrusted` if the grant is not by that key service.
        """
        pending = self._pending.get(given.platform)
        if pending is None:
            raise Untrusted("grant.unasked", "no evidence was asked for this platform", field="platform")
        self._platform(given.platform).require_key(Role.KEY_SERVICE, given.key, now_ms)
        grant = open_grant(self._settings.chain_id, given, pending.bindings, pending.release)
        self._leases.require_valid(grant, now_ms)
        self._leases.allow(grant, self._random)
        held = HeldGrant(grant=grant, header=pending.bound.header, validators=pending.bound.validators)
        self.hold(held)
        del self._pending[given.platform]
        return held

    def hold(self, held: HeldGrant) -> None:
        """Use the keys of a grant that was accepted for evidence which bound `held.header`.

        The key service vouches for that header, not for the anchor, which the host chose: so before a key is used,
        headers below it, which may be of a chain of the host's own, are forgotten. A worker that the host led along
        another way, so that it does not have this very header, forgets them all and begins at it.
        """
        bound = trusted_state(held.header, held.validators)
        known = self._known.get(bound.header.height)
        if known is not None and known.header.header_hash == bound.header_hash:
            self._known = {height: one for height, one in self._known.items() if height >= bound.header.height}
        else:
            self._known, self._height, self._trust = {}, 0, dataclasses.replace(self._trust, state=bound)
        self._leases.hold(held.grant)

    # --- queries ------------------------------------------------------------------------------------------------------

    def answer(self, asked: EnclaveQuery, now_ms: int) -> bytes:
        """The sealed result for one query. Refusals after the seal is open are sealed too; before, they are raised.

        1. The query is of this chain, protocol and enclave, and opens. 2. It is inside its time window. 3. Its header
        was verified here and is no older than allowed at the time the device signed. 4. The credential's platform is
        proven and active, the credential good. 5. The device signed this query. 6. The device and its platform have
        tokens left. 7. It was not answered before. 8. The merchant's state verifies as for a wallet (steps 13 to 19).
        9. The envelopes are those of the links. Then only links that the query accepts and the wallet's platform may
        read are opened, each counted.
        """
        query = parse(Query, asked.query, path="query")
        clear = parse(ClearQuery, query.clear, path="query.clear")
        if clear.chain_id != self._settings.chain_id:  # 1
            raise Untrusted("query.chain", "the query is for another chain", field="chain_id")
        if clear.protocol != PROTOCOL:
            raise Malformed("query.protocol", f"protocol {clear.protocol} is not spoken; use {PROTOCOL}")
        if clear.query_key != self.query_key:
            raise Malformed("query.enclave_unknown", "the query is sealed to another enclave; fetch the network view")
        secret, signed, clear_hash = open_query(query, clear.chain_id, self._query_key)
        try:
            opened = self._opened(asked, clear, secret, signed, clear_hash, now_ms)
            result = Result(query_id=secret.query_id, opened=opened)
        except OnecodeError as error:
            result = Result(
                query_id=secret.query_id,
                opened=(),
                refusal=error.code,
                branch=error.branch,
                detail=error.message[:200],
                retry_after_ms=error.retry_after_ms,
            )
        size = reply_bytes([max(0, len(envelope) - ENVELOPE_OVERHEAD_BYTES) for envelope in asked.envelopes])
        return seal_result(clear.chain_id, result, secret.reply_key, clear_hash, size, self._random(12))

    def _opened(
        self,
        asked: EnclaveQuery,
        clear: ClearQuery,
        secret: SecretQuery,
        signed: SignedSecret,
        clear_hash: bytes,
        now_ms: int,
    ) -> tuple[Opened, ...]:
        if secret.session is not None:
            raise Malformed("query.session", "sessions are not offered; leave the field out", field="session")
        if abs(now_ms - secret.time_ms) > self._settings.query_window_ms:  # 2
            raise Untrusted("query.time", "the query was signed too long ago or in the future", field="time_ms")
        known = self._known.get(asked.height)
        if known is None:  # 3
            raise Untrusted("enclave.header_unknown", "the node gave its enclave no such header", field="height")
        require_fresh(known.header, secret.time_ms, self._settings.header_age_ms_max)
        credential = self._credential(secret.credential, known, secret.time_ms)  # 4
        verify_device(clear.chain_id, credential.device, clear.query_key, signed, clear_hash)  # 5
        self._buckets.admit(credential.device, credential.platform, now_ms)  # 6
        self._seen.add(secret.query_id + credential.device, now_ms)  # 7: only what may be answered takes room
        try:
            state = verify_state(  # 8
                clear, known.header, known.roots, asked.aliases, asked.merchant, known.platforms
            )
            target = verify_target(state, secret.accepted, credential.platform)
        except Declined:
            self._buckets.count_miss(credential.device, now_ms)
            raise
        if len(asked.envelopes) != len(state.links):  # 9
            raise Untrusted("envelope.count", "the node gave another number of envelopes than the chain lists")
        readable = readable_links(state, secret.accepted, credential.platform)
        chosen = [target] if secret.mode == MatchMode.NODE else readable
        self._buckets.count_hits(credential.device, len(chosen), now_ms)
        for link, envelope in zip(state.links, asked.envelopes, strict=True):  # all: which one is opened stays hidden
            if sha256(envelope) != link.envelope_hash:
                raise Untrusted("envelope.hash", "an envelope is not the one that its link names", field="envelope")
        envelopes = dict(zip((link.platform for link in state.links), asked.envelopes, strict=True))
        found = []
        for link in chosen:
            try:
                found.append(self._open(state, link, envelopes[link.platform], now_ms))
            except OnecodeError:
                if link is target:
                    raise  # a partner's bad envelope must not keep the wallet from its own platform's record
        return tuple(opened for opened in found if opened is not None)

    def _credential(self, raw: bytes, known: _Known, now_ms: int) -> Credential:
        """The verified credential; verified once under each platforms root, its end checked every time.

        One by a retired key is verified each time: such a key ends by time alone, while the root stays the same.
        """
        key = (sha256(raw), known.roots.root(Section.PLATFORMS))
        cached = self._credentials.get(key)
        if cached is not None and cached.valid_from_ms <= now_ms < cached.valid_until_ms:
            return cached
        signed, claimed = parse_credential(raw)
        leaf = known.platforms.get(claimed.platform)
        if leaf is None:
            raise Untrusted(
                "credential.platform_unknown", "the credential's platform is not on chain", field="platform"
            )
        credential = verify_parsed(self._settings.chain_id, signed, claimed, leaf, claimed.platform, now_ms)
        issuer = leaf.key(Role.DEVICE, signed.key)
        if issuer is not None and issuer.state == KeyState.ACTIVE:
            if len(self._credentials) >= CREDENTIALS_KEPT:
                self._credentials.clear()
            self._credentials[key] = credential
        return credential

    def _open(self, state: VerifiedState, link: Link, envelope: bytes, now_ms: int) -> Opened | None:
        """The signed record of one link, or None without a running lease for its key: the wallet then sees a live link
        without a record and asks another node."""
        cipher = self._leases.take(link.platform, link.epoch, now_ms)
        if cipher is None:
            return None
        ids = RecordIds(
            merchant=state.merchant,
            platform=link.platform,
            service=state.service,
            version=link.version,
            epoch=link.epoch,
        )
        opened = open_envelope(self._settings.chain_id, ids, envelope, cipher)
        verify_commitment(self._settings.chain_id, ids, opened, link.commitment)
        return Opened(platform=link.platform, signed_record=opened)
