"""An honest node and an honest platform behind HTTP, in process: real map, real headers, the real enclave.

`HostileNode` is the same node with one part changed on its way out. Time is a number that a test sets.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from chain_world import CHAIN_ID, MEASUREMENT, MEMBERS, MERCHANT, NOW_MS, SERVICE, Platform, World
from onecode.code.emv import build_payload
from onecode.code.label import OrderTerms, StaticLabel, build_dynamic, build_static
from onecode.code.tlv import DataObject, join_objects
from onecode.enclave.frames import EnclaveQuery
from onecode.errors import Declined, OnecodeError
from onecode.proof.governance import ENCLAVE_POLICY_KEY, SchemeLeaf, scheme_key
from onecode.proof.leaves import AliasLeaf, EnclaveLeaf, Role, alias_key, enclave_key
from onecode.proof.map import Section
from onecode.proof.trust import TrustBody, certify_anchor, sign_trust_file
from onecode.query.credential import sign_credential
from onecode.query.messages import (
    Answer,
    ClearQuery,
    Credential,
    HeaderView,
    LeafView,
    NetworkView,
    ProvenAlias,
    ProvenEnclave,
    ProvenMerchant,
    Query,
    Result,
)
from onecode.query.requests import DEVICE_KEY_HEADER, verify_device_key
from onecode.query.sealing import open_query, open_result, seal_result
from onecode.query.verify import VerifiedRecord
from onecode.record.envelope import RecordIds, SignedRecord, open_envelope
from onecode.record.payment import parse_terms
from onecode.record.receipt import PaymentRequest, PaymentState, Receipt, SignedReceipt, sign_receipt
from onecode.record.schema import parse_record
from onecode.registry.map import load, prove, section_roots, update
from onecode.schema import parse
from onecode.wallet.config import WalletConfig
from onecode.wallet.pay import verify_order_terms
from onecode.wallet.store import WalletStore
from onecode.wallet.sync import SyncWallet
from onecode.wire import SigningKey, sha256

NODES = ("http://node-0", "http://node-1")
PLATFORM_URL = "http://platform"
ORDER_KEY = SigningKey.from_seed(sha256(b"order key"))
SCHEME = "com.other.scheme"
RETIRED_BUILD = sha256(b"a build that governance took out of the policy")
RETIRED_KEY = sha256(b"query key of an enclave of that build")  # attested by A, and not ended yet
LABEL = StaticLabel(
    merchant_id=MERCHANT, prefix="oc", mcc="5812", currency="978", country="DE", name="Noodle House", city="Berlin"
)
STATIC = build_static(LABEL)


def dynamic_code(amount_minor: int = 1250, expiry_ms: int = NOW_MS + 600_000, key: SigningKey = ORDER_KEY) -> str:
    """A signed order of 12.50 EUR."""
    return build_dynamic(LABEL, OrderTerms(amount_minor, "ORDER-7", expiry_ms), key.sign_bytes, CHAIN_ID)


def foreign(*values: str, scheme: str = SCHEME) -> str:
    """A label of another scheme, one account template a value."""
    accounts = [
        DataObject(f"{27 + index}", join_objects([DataObject("00", scheme), DataObject("01", value)], within="27"))
        for index, value in enumerate(values)
    ]
    tail = [("52", "5812"), ("53", "978"), ("58", "DE"), ("59", "Noodle House"), ("60", "Berlin")]
    head = [DataObject("00", "01"), DataObject("01", "11"), *accounts]
    return build_payload([*head, *(DataObject(name, value) for name, value in tail)])


class Chain(World):
    """The honest world, with aliases, schemes and an attested enclave in its map."""

    def __init__(self) -> None:
        self.aliases: dict[tuple[str, str], bytes] = {}
        self.scheme_from_ms = 0
        self.attested_by: tuple[bytes, ...] = ()
        self.attested_until_ms = NOW_MS + 3_600_000
        self.attested_key = b""
        super().__init__()
        self.trust_header = self.header(2)
        self.attested_by, self.attested_key = (self.a.id,), self.enclave().query_key

    def write(self) -> None:
        super().write()
        leaves = {alias_key(guid, (value,)): merchant for (guid, value), merchant in self.aliases.items()}
        named = {
            key: AliasLeaf(merchant=merchant, platform=self.a.id, height=3).encoded()
            for key, merchant in leaves.items()
        }
        update(self.store, Section.ALIASES, dict(named))
        if self.attested_key:
            named = {enclave_key(self.attested_key, one): self.enclave_leaf() for one in self.attested_by}
            named[enclave_key(RETIRED_KEY, self.a.id)] = self.enclave_leaf(measurement=RETIRED_BUILD)
            update(self.store, Section.ENCLAVES, dict(named))
        scheme = SchemeLeaf(platform=self.a.id, sub_objects=("01",), effective_ms=self.scheme_from_ms)
        update(self.store, Section.GOVERNANCE, {scheme_key(SCHEME): scheme.encoded()})

    def enclave_leaf(self, **changes: Any) -> bytes:
        leaf = EnclaveLeaf(
            node_id="node-1",
            kind="software",
            measurement=MEASUREMENT,
            evidence_hash=bytes(32),
            expires_ms=self.attested_until_ms,
        )
        return dataclasses.replace(leaf, **changes).encoded()

    def proven_enclave(self, query_key: bytes, platform: bytes) -> ProvenEnclave:
        key = enclave_key(query_key, platform)
        leaf = load(self.store, Section.ENCLAVES, key) or b""
        proof = prove(self.store, Section.ENCLAVES, key)
        return ProvenEnclave(query_key=query_key, platform=platform, leaf=leaf, proof=proof)

    def trust_file(
        self,
        header: Any = None,
        root: SigningKey | None = None,
        chain_id: str = CHAIN_ID,
        issued_ms: int = NOW_MS,
    ) -> bytes:
        body = TrustBody(
            chain_id=chain_id,
            header=header or self.trust_header,
            validators=MEMBERS,
            trusting_period_ms=14 * 86_400_000,
            issued_ms=issued_ms,
        )
        anchor = self.a.key(Role.ANCHOR)
        certificate = certify_anchor(chain_id, root or self.a.root, anchor.public, NOW_MS + 86_400_000)
        return sign_trust_file(body, certificate, anchor).encoded()


class Node:
    """An honest node over a chain: what it serves is what the chain says at the time it is asked."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.enclave = chain.ready_enclave()
        self.asked = 0

    def proven_alias(self, guid: str, values: tuple[str, ...]) -> ProvenAlias:
        store, key = self.chain.store, alias_key(guid, values)
        return ProvenAlias(leaf=load(store, Section.ALIASES, key), proof=prove(store, Section.ALIASES, key))

    def network(self) -> NetworkView:
        chain = self.chain
        header, store = chain.header(), chain.store
        return NetworkView(
            header=header,
            validators=MEMBERS,
            roots=section_roots(store),
            enclaves=tuple(chain.proven_enclave(chain.attested_key, one) for one in chain.attested_by),
            platforms=chain.proven_platforms(),
            policy=load(store, Section.GOVERNANCE, ENCLAVE_POLICY_KEY) or b"",
            policy_proof=prove(store, Section.GOVERNANCE, ENCLAVE_POLICY_KEY),
        )

    def leaf(self, key: bytes) -> LeafView:
        header, store = self.chain.header(), self.chain.store
        return LeafView(
            header=header,
            validators=MEMBERS,
            roots=section_roots(store),
            section=Section.GOVERNANCE,
            key=key,
            leaf=load(store, Section.GOVERNANCE, key),
            proof=prove(store, Section.GOVERNANCE, key),
        )

    def answer(self, query: Query) -> Answer:
        chain = self.chain
        clear = parse(ClearQuery, query.clear)
        update_message = chain.header_update()
        self.enclave.accept_header(update_message, NOW_MS)
        header, roots = update_message.header, section_roots(chain.store)
        aliases = None
        merchant_id: bytes | None = clear.merchant
        if clear.aliases is not None:
            aliases = tuple(self.proven_alias(alias.guid, alias.values) for alias in clear.aliases)
            found = [parse(AliasLeaf, alias.leaf).merchant for alias in aliases if alias.leaf is not None]
            merchant_id = found[0] if found else None
        merchant = self.merchant(merchant_id) if merchant_id is not None else None
        envelopes = tuple(chain.records[platform][1] for platform in sorted(chain.records))
        asked = EnclaveQuery(
            query=query.encoded(),
            height=chain.height,
            aliases=aliases,
            merchant=merchant,
            envelopes=envelopes if merchant is not None and merchant.links is not None else (),
        )
        lacks = clear.have_height != chain.height
        known = clear.have_platforms_root == roots.root(Section.PLATFORMS)
        return Answer(
            height=chain.height,
            header=header if lacks else None,
            validators=MEMBERS if lacks else None,
            roots=roots,
            aliases=aliases,
            merchant=merchant,
            platforms=None if known else chain.proven_platforms(),
            sealed=self.enclave.answer(asked, NOW_MS),
        )

    def merchant(self, merchant: bytes) -> ProvenMerchant:
        return self.chain.proven_merchant(merchant)

    # --- over HTTP ----------------------------------------------------------------------------------------------------

    def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked += not path.startswith("/v1/headers/") and "governance" not in path  # but for comparisons
        try:
            if path == "/v1/network":
                return httpx.Response(200, content=self.network().encoded())
            if path.startswith("/v1/headers/"):
                named = path.rsplit("/", 1)[1]
                height = self.chain.height if named == "latest" else int(named)
                if height > self.chain.height:
                    raise Declined("node.header_absent", "this node has no header of that height", status=404)
                view = HeaderView(header=self.chain.header(height), validators=MEMBERS)
                return httpx.Response(200, content=view.encoded())
            if path.startswith("/v1/leaves/governance/"):
                return httpx.Response(200, content=self.leaf(bytes.fromhex(path.rsplit("/", 1)[1])).encoded())
            return httpx.Response(200, content=self.answer_bytes(parse(Query, request.content)))
        except OnecodeError as error:
            return httpx.Response(error.status, json=error.problem())

    def answer_bytes(self, query: Query) -> bytes:
        return self.answer(query).encoded()


class HostileNode(Node):
    """A node that changes one part of what an honest one says. It even holds its enclave's key (`forge`)."""

    def __init__(
        self,
        chain: Chain,
        *,
        view: Callable[[HostileNode, NetworkView], NetworkView] | None = None,
        alter: Callable[[HostileNode, Answer, Query], Answer] | None = None,
        forge: Callable[[HostileNode, Result], Result] | None = None,
        reply: Callable[[HostileNode, httpx.Request], httpx.Response | None] | None = None,
    ) -> None:
        super().__init__(chain)
        self._view, self._alter, self._forge, self._reply = view, alter, forge, reply

    def network(self) -> NetworkView:
        honest = super().network()
        return self._view(self, honest) if self._view else honest

    def answer(self, query: Query) -> Answer:
        answer = super().answer(query)
        if self._forge:
            secret, _, clear_hash = open_query(query, CHAIN_ID, self.enclave._query_key)
            opened = self.opened(answer, secret.reply_key, clear_hash)
            sealed = seal_result(CHAIN_ID, self._forge(self, opened), secret.reply_key, clear_hash, 8192, b"f" * 12)
            answer = dataclasses.replace(answer, sealed=sealed)
        return self._alter(self, answer, query) if self._alter else answer

    @staticmethod
    def opened(answer: Answer, reply_key: bytes, clear_hash: bytes) -> Result:
        return open_result(CHAIN_ID, answer.sealed, reply_key, clear_hash)

    def handle(self, request: httpx.Request) -> httpx.Response:
        changed = self._reply(self, request) if self._reply else None
        return changed if changed is not None else super().handle(request)


@dataclasses.dataclass
class PaymentPlatform:
    """Platform A's API as far as a wallet uses it. `change` alters a receipt before it is signed."""

    platform: Platform
    chain: Chain
    change: dict[str, Any] = dataclasses.field(default_factory=dict)
    sign_with: SigningKey | None = None
    lose_replies: int = 0
    trust_file: bytes = b""
    device: bytes | None = None
    payments: dict[str, tuple[bytes, SignedReceipt]] = dataclasses.field(default_factory=dict)
    sent: int = 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/trust-file":
            return httpx.Response(200, content=self.trust_file)
        if path.startswith("/v1/devices"):
            if path == "/v1/devices":
                self.device = bytes.fromhex(json.loads(request.content)["device"])
                proof, seen = request.headers[DEVICE_KEY_HEADER], request.url.raw_path.decode("ascii")
                proven = verify_device_key(CHAIN_ID, proof, request.method, seen, request.content, NOW_MS)
                assert proven == self.device
            credential = Credential(
                platform=self.platform.id,
                device=self.device or self.platform.device.public,
                account=b"account-1",
                valid_from_ms=NOW_MS - 1000,
                valid_until_ms=NOW_MS + 86_000_000,
            )
            raw = sign_credential(CHAIN_ID, credential, self.platform.key(Role.DEVICE))
            return httpx.Response(200, json={"credential": raw.hex(), "account": b"account-1".hex()})
        self.sent += 1
        key = request.headers["idempotency-key"]
        asked = parse(PaymentRequest, request.content)
        if key in self.payments and self.payments[key][0] != request.content:
            problem = {"title": "Declined", "status": 409, "code": "payment.key_reused", "detail": "another order"}
            return httpx.Response(409, json=problem)
        if key not in self.payments:
            self.payments[key] = (request.content, self.receipt(asked))
        if self.lose_replies:
            self.lose_replies -= 1
            raise httpx.ReadTimeout("lost", request=request)
        signed = self.payments[key][1]
        return httpx.Response(201, json={"payment_id": "p-1", "state": "posted", "receipt": signed.encoded().hex()})

    def receipt(self, asked: PaymentRequest) -> SignedReceipt:
        signed = parse(SignedRecord, self.signed_records[asked.platform])
        record = parse_record(signed.record)
        charge = verify_order_terms(parse_terms(record.terms), asked.order)
        receipt = Receipt(
            payment_id="p-1",
            platform=self.platform.id,
            merchant=asked.merchant,
            record_platform=asked.platform,
            version=asked.version,
            commitment=asked.commitment,
            order=asked.order,
            fee_minor=charge.fee_minor,
            total_minor=charge.total_minor,
            state=PaymentState.POSTED,
            time_ms=NOW_MS,
            account=b"account-1",
            header_hash=bytes(32),
            display_name=record.display_name,
        )
        key = self.sign_with or self.platform.key(Role.RECEIPT)
        return sign_receipt(CHAIN_ID, dataclasses.replace(receipt, **self.change), key)

    @property
    def signed_records(self) -> dict[bytes, bytes]:
        return {platform: self.opened(platform) for platform in self.chain.records}

    def opened(self, platform: bytes) -> bytes:
        link, envelope = self.chain.records[platform]
        owner = next(p for p in (self.chain.a, self.chain.b, self.chain.c) if p.id == platform)
        ids = RecordIds(merchant=MERCHANT, platform=platform, service=SERVICE, version=link.version, epoch=link.epoch)
        return open_envelope(CHAIN_ID, ids, envelope, AESGCMSIV(owner.epoch_keys[1]))


class Lab:
    """A wallet of platform A, its platform, and the nodes that a test gives it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.chain = Chain()
        self.platform = PaymentPlatform(self.chain.a, self.chain)
        self.now_ms = NOW_MS
        self.wallets: list[SyncWallet] = []

    def wallet(self, *nodes: Node, **changes: Any) -> SyncWallet:
        """A wallet that is enrolled; without nodes it asks an honest one."""
        served = dict(zip(NODES, nodes or (Node(self.chain),), strict=False))

        def route(request: httpx.Request) -> httpx.Response:
            base = f"{request.url.scheme}://{request.url.host}"
            return self.platform.handle(request) if base == PLATFORM_URL else served[base].handle(request)

        config = WalletConfig(
            chain_id=CHAIN_ID,
            platform=self.chain.a.id,
            platform_root=self.chain.a.root.public,
            platform_url=PLATFORM_URL,
            node_urls=tuple(served),
            trust_file=self.chain.trust_file(),
            partners=(self.chain.b.id,),
            retry_pause_ms=1,
        )
        store = WalletStore(self.directory)
        store.load_device(self.chain.a.device.seed)
        if store.load_credential() is None:
            store.save_credential(self.chain.a.credential())
        http = httpx.AsyncClient(transport=httpx.MockTransport(route))
        wallet = SyncWallet(dataclasses.replace(config, **changes), self.directory, http=http, now=lambda: self.now_ms)
        self.wallets.append(wallet)
        return wallet

    def close(self) -> None:
        for wallet in self.wallets:
            wallet.close()


def same_record(found: VerifiedRecord, chain: Chain, platform: Platform) -> bool:
    """Whether a verified record is the one that the chain lists for `platform`."""
    return found.link == chain.records[platform.id][0] and found.record.platform == platform.id
