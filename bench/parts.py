"""Where each microsecond of an answer goes: its parts alone, in one process, without sockets.

Each part is repeated with what a real query gives it, over many merchants; a figure is processor time, the least
disturbed of some short rounds. The parts of one side add up to less than its whole: repeated alone, a part finds its
code and tables in the processor's caches, which in a whole answer the cryptography has just filled with its own.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.attested import HEADER_AGE_MS_MAX, grant_keys
from bench.figures import Figure, show
from bench.load import request_bytes
from bench.queries import pending, run_of, verify_answer
from bench.state import State
from bench.timing import ROUNDS, http_exchange, per_call_us
from bench.world import CHAIN_ID, PLATFORMS, VENDOR, key
from onecode.attest.software import SoftwareAttester
from onecode.enclave.core import Enclave, EnclaveSettings
from onecode.enclave.frames import EnclaveQuery, FrameKind, HeaderUpdate, pack, unpack
from onecode.enclave.serving import control_handler
from onecode.host.clock import now_ms
from onecode.node.link import frame_bytes
from onecode.node.store import open_reader
from onecode.node.view import Found, answer_bytes, enclave_query_bytes, find, header_update_bytes
from onecode.proof.leaves import LinkList, MerchantEntry, PlatformLeaf, links_bytes_hash
from onecode.proof.light import Trust, trusted_state
from onecode.proof.map import Section, verify_presence
from onecode.query.credential import parse_credential, verify_credential
from onecode.query.messages import (
    Answer,
    ClearQuery,
    MatchMode,
    Opened,
    ProvenPlatform,
    Query,
    Result,
    SecretQuery,
    SignedSecret,
)
from onecode.query.sealing import open_query, reply_bytes, seal_result, verify_device
from onecode.query.verify import readable_links, verify_platforms, verify_state, verify_target
from onecode.record.envelope import ENVELOPE_OVERHEAD_BYTES, RecordIds, open_envelope, verify_commitment
from onecode.record.payment import SERVICE_PAY
from onecode.registry.map import load, prove
from onecode.registry.store import Table, envelope_key, link_key
from onecode.schema import parse
from onecode.wallet.resolve import Pending
from onecode.wire import decode, encode, sha256

CASES = 300


@dataclass(slots=True)
class Case:
    """One query with everything that comes of it on its way."""

    pending: Pending
    body: bytes
    query: Query
    clear: ClearQuery
    found: Found
    asked_bytes: bytes
    asked: EnclaveQuery
    secret: SecretQuery
    signed: SignedSecret
    clear_hash: bytes
    issuer: PlatformLeaf
    opened: bytes = b""
    sealed: bytes = b""
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Part:
    side: str
    name: str
    us: float


def open_enclave(state: State) -> Enclave:
    """An enclave in this process that knows the newest header and holds all keys."""
    anchor = Trust(trusted_state(state.anchor.signed.header, state.anchor.validators))
    settings = EnclaveSettings(CHAIN_ID, "bench", anchor, HEADER_AGE_MS_MAX)
    enclave = Enclave(settings, SoftwareAttester(key(VENDOR), state.ground.measurement), secrets.token_bytes, now_ms())
    update = header_update_bytes(state.head, with_platforms=True)
    enclave.accept_header(parse(HeaderUpdate, update), now_ms())
    grant_keys(control_handler(enclave, ()), state.ground, state.header_at)
    return enclave


class Parts:
    """One state's parts. Private members of the enclave are looked at here, so that its own code is what is timed."""

    def __init__(self, state: State) -> None:
        self._store = open_reader(state.store)
        self._head = state.head
        self._enclave = open_enclave(state)
        self._run = run_of(state.head, state.count, self._enclave.query_key, MatchMode.NODE, 0, b"parts")
        self._known = self._enclave._known[self._head.height]
        self._cases = [self._case(number) for number in range(CASES)]
        self.parts: list[Part] = []

    def _case(self, number: int) -> Case:
        asking = pending(self._run, number)
        query, body = asking.query, asking.query.encoded()
        clear = parse(ClearQuery, query.clear)
        with self._store.snapshot() as reader:
            found = find(reader, clear)
        asked_bytes = enclave_query_bytes(body, self._head, found)
        secret, signed, clear_hash = open_query(query, CHAIN_ID, self._enclave._query_key)
        _, credential = parse_credential(secret.credential)
        leaf = self._known.platforms[credential.platform]
        asked = parse(EnclaveQuery, asked_bytes)
        return Case(asking, body, query, clear, found, asked_bytes, asked, secret, signed, clear_hash, leaf)

    def _time(self, side: str, name: str, act: Callable[[Case], object], cases: Sequence[Case] | None = None) -> None:
        self.parts.append(Part(side, name, per_call_us(act, cases or self._cases)))

    def measure(self) -> None:
        self._whole_answers()
        self._worker()
        self._enclave_query()
        self._enclave_state()
        self._enclave_record()
        self._wallet()
        self._store.close()

    def _whole_answers(self) -> None:
        """Each query answered once, which also fills in what later parts need: none is answered twice."""
        rounds = []
        for first in range(0, ROUNDS * CASES, CASES):
            cases = [self._case(number) for number in range(first, first + CASES)] if first else self._cases
            start = time.thread_time()
            for case in cases:
                case.sealed = self._enclave.answer(parse(EnclaveQuery, case.asked_bytes), now_ms())
            rounds.append(1e6 * (time.thread_time() - start) / CASES)
        self.parts.append(Part("enclave", "WHOLE answer, credential new", min(rounds)))
        for case in self._cases:
            case.answer = answer_bytes(case.clear, self._head, case.found, case.sealed)
            case.opened = verify_answer(case.pending, case.answer).target.signed.encoded()

    # --- the worker

    def _worker(self) -> None:
        head, store = self._head, self._store

        def question(case: Case) -> bytes:
            query = parse(Query, case.body)
            clear = parse(ClearQuery, query.clear)
            with store.snapshot() as reader:
                found = find(reader, clear)
            frame_bytes(1, FrameKind.QUERY, enclave_query_bytes(case.body, head, found))
            return answer_bytes(clear, head, found, case.sealed)

        def reading(act: Callable[[Any, Case], object]) -> Callable[[Case], object]:
            def run(case: Case) -> None:
                with store.snapshot() as reader:
                    act(reader, case)

            return run

        def merchant(case: Case) -> bytes:
            return case.clear.merchant or b""

        def envelopes(reader: Any, case: Case) -> None:
            for platform in case.found.listed:
                reader.get(Table.ENVELOPES, envelope_key(merchant(case), platform, SERVICE_PAY))

        side = "worker"
        self._time(side, "WHOLE but HTTP and the hop", question)
        exchange = http_exchange(len(self._cases[0].answer))
        requests = {id(case): request_bytes("/v1/query", case.body) for case in self._cases}
        self._time(side, "HTTP in and out, no socket", lambda case: exchange(requests[id(case)]))
        self._time(side, "decode Query", lambda case: parse(Query, case.body))
        self._time(side, "decode ClearQuery", lambda case: parse(ClearQuery, case.query.clear))
        self._time(side, "snapshot", reading(lambda reader, case: None))
        self._time(side, "map proof", reading(lambda reader, case: prove(reader, Section.MERCHANTS, merchant(case))))
        self._time(side, "get entry", reading(lambda reader, case: load(reader, Section.MERCHANTS, merchant(case))))
        links = reading(lambda reader, case: reader.get(Table.LINKS, link_key(merchant(case), SERVICE_PAY)))
        self._time(side, "get links", links)
        links_bytes = {id(case): decode(case.found.merchant or b"")[4] for case in self._cases}
        self._time(side, "decode links for their platforms", lambda case: decode(links_bytes[id(case)]))
        self._time(side, "get 2 envelopes", reading(envelopes))
        proven = {id(case): decode(case.found.merchant or b"") for case in self._cases}
        self._time(side, "encode ProvenMerchant", lambda case: encode(proven[id(case)]))
        self._time(side, "encode EnclaveQuery", lambda case: enclave_query_bytes(case.body, head, case.found))
        self._time(side, "frame out and in", lambda case: unpack(frame_bytes(1, FrameKind.QUERY, case.asked_bytes)))
        self._time(side, "encode Answer", lambda case: answer_bytes(case.clear, head, case.found, case.sealed))

    # --- the enclave

    def _enclave_query(self) -> None:
        enclave, side = self._enclave, "enclave"
        frames = {id(case): frame_bytes(1, FrameKind.QUERY, case.asked_bytes) for case in self._cases}
        hop = per_call_us(lambda case: (unpack(frames[id(case)]), pack(1, FrameKind.OK, case.sealed)), self._cases)
        self.parts.append(Part(side, "frame in and out", hop))
        self._time(side, "decode EnclaveQuery", lambda case: parse(EnclaveQuery, case.asked_bytes))
        self._time(side, "decode Query and ClearQuery", lambda case: _decode_query(case.asked.query))
        query_key = enclave._query_key
        self._time(side, "HPKE open, decode SecretQuery", lambda case: open_query(case.query, CHAIN_ID, query_key))

        encoded = {id(case): (case.signed.encoded(), case.signed.body) for case in self._cases}
        self._time(side, "  of that, decode both", lambda case: _decode_secret(*encoded[id(case)]))
        now = now_ms()

        def credential(case: Case) -> object:
            _, claimed = parse_credential(case.secret.credential)
            return verify_credential(CHAIN_ID, case.secret.credential, case.issuer, claimed.platform, now)

        self._time(side, "new credential", credential)
        self._time(side, "  of that, decode it (done twice)", lambda case: parse_credential(case.secret.credential))
        for case in self._cases:
            enclave._credential(case.secret.credential, self._known, case.secret.time_ms)

        def cached(case: Case) -> object:
            return enclave._credential(case.secret.credential, self._known, case.secret.time_ms)

        self._time(side, "cached credential", cached)
        device = {id(case): parse_credential(case.secret.credential)[1].device for case in self._cases}

        def signature(case: Case) -> None:
            verify_device(CHAIN_ID, device[id(case)], case.clear.query_key, case.signed, case.clear_hash)

        self._time(side, "the device's signature", signature)
        counter = iter(range(1 << 40))

        def replay(case: Case) -> None:
            enclave._seen.add(b"%048d" % next(counter), now)

        def buckets(case: Case) -> None:
            name, platform = b"%032d" % next(counter), PLATFORMS[next(counter) % len(PLATFORMS)].id
            later = now + next(counter)  # so that an issuer's bucket fills again
            enclave._buckets.admit(name, platform, later)
            enclave._buckets.count_hits(name, 1, later)

        self._time(side, "query id against replay", replay)
        self._time(side, "rate buckets", buckets)

    def _enclave_state(self) -> None:
        known, side = self._known, "enclave"
        merchants = {id(case): decode(case.found.merchant or b"") for case in self._cases}

        def state(case: Case) -> Any:
            return verify_state(case.clear, known.header, known.roots, None, case.asked.merchant, known.platforms)

        def proof(case: Case) -> None:
            given = case.asked.merchant
            if given is not None:
                verify_presence(known.roots, Section.MERCHANTS, given.merchant, given.entry or b"", given.proof)

        def hashed(case: Case) -> bytes:
            return links_bytes_hash(CHAIN_ID, case.clear.merchant or b"", SERVICE_PAY, merchants[id(case)][4])

        self._time(side, "merchant's state verified", state)
        self._time(side, "  of that, map proof", proof)
        self._time(side, "  of that, decode entry", lambda case: parse(MerchantEntry, merchants[id(case)][2]))
        self._time(side, "  of that, decode links", lambda case: parse(LinkList, merchants[id(case)][4]))
        self._time(side, "  of that, hash of the links", hashed)
        states = {id(case): state(case) for case in self._cases}
        own = {id(case): parse_credential(case.secret.credential)[1].platform for case in self._cases}

        def target(case: Case) -> None:
            verify_target(states[id(case)], case.secret.accepted, own[id(case)])
            readable_links(states[id(case)], case.secret.accepted, own[id(case)])

        self._time(side, "target by public data", target)

    def _enclave_record(self) -> None:
        side, now = "enclave", now_ms()

        def chosen(case: Case) -> tuple[Any, RecordIds, bytes, Any]:
            state = verify_state(
                case.clear, self._known.header, self._known.roots, None, case.asked.merchant, self._known.platforms
            )
            _, credential = parse_credential(case.secret.credential)
            link = verify_target(state, case.secret.accepted, credential.platform)
            ids = RecordIds(
                merchant=state.merchant, platform=link.platform, service=SERVICE_PAY, version=1, epoch=link.epoch
            )
            place = [one.platform for one in state.links].index(link.platform)
            return link, ids, case.asked.envelopes[place], self._enclave._leases.take(link.platform, link.epoch, now)

        ready = {id(case): chosen(case) for case in self._cases}

        def opened(case: Case) -> bytes:
            link, ids, envelope, cipher = ready[id(case)]
            if sha256(envelope) != link.envelope_hash:
                raise RuntimeError("another envelope")
            return open_envelope(CHAIN_ID, ids, envelope, cipher)

        def lease(case: Case) -> None:
            self._enclave._leases.take(ready[id(case)][0].platform, 1, now)

        def sealed(case: Case) -> bytes:
            result = Result(
                query_id=case.secret.query_id,
                opened=(Opened(platform=ready[id(case)][0].platform, signed_record=case.opened),),
            )
            size = reply_bytes([len(envelope) - ENVELOPE_OVERHEAD_BYTES for envelope in case.asked.envelopes])
            return seal_result(CHAIN_ID, result, case.secret.reply_key, case.clear_hash, size, secrets.token_bytes(12))

        def commitment(case: Case) -> None:
            verify_commitment(CHAIN_ID, ready[id(case)][1], case.opened, ready[id(case)][0].commitment)

        self._time(side, "lease, one opening", lease)
        self._time(side, "envelope: hash, open", opened)
        self._time(side, "commitment", commitment)
        self._time(side, "encode and seal the result", sealed)

    # --- the wallet

    def _wallet(self) -> None:
        side, run = "wallet", self._run
        numbers = {id(case): number for number, case in enumerate(self._cases)}
        name = "build, sign and seal a query (with a new credential)"
        self._time(side, name, lambda case: pending(run, numbers[id(case)]))
        self._time(side, "WHOLE verification of an answer", lambda case: verify_answer(case.pending, case.answer))
        self._time(side, "  of that, decode Answer", lambda case: parse(Answer, case.answer))
        head = self._head
        proven = [parse(ProvenPlatform, platform) for platform in head.platforms.values()]
        proofs = per_call_us(lambda _: verify_platforms(proven, head.section_roots, {}), [0])
        self.parts.append(Part(side, "8 platforms proven, once for each platforms root", proofs))

    def sizes(self) -> list[tuple[str, int]]:
        """Bytes of what travels."""
        case, head = self._cases[0], self._head
        first = parse(ClearQuery, case.query.clear)
        bare = ClearQuery(
            protocol=first.protocol,
            chain_id=first.chain_id,
            merchant=first.merchant,
            service=first.service,
            query_key=first.query_key,
        )
        return [
            ("query", len(case.body)),
            ("to the enclave", len(case.asked_bytes)),
            ("sealed result", len(case.sealed)),
            ("answer, header and platforms known", len(case.answer)),
            ("answer, nothing known", len(answer_bytes(bare, head, case.found, case.sealed))),
            ("envelope", len(case.asked.envelopes[0])),
            ("links list", len((case.asked.merchant and case.asked.merchant.links) or b"")),
            ("merchant's entry", len((case.asked.merchant and case.asked.merchant.entry) or b"")),
        ]


def _decode_query(raw: bytes) -> ClearQuery:
    return parse(ClearQuery, parse(Query, raw).clear)


def _decode_secret(signed: bytes, body: bytes) -> SecretQuery:
    parse(SignedSecret, signed)
    return parse(SecretQuery, body)


def measure_parts(state: State) -> list[Figure]:
    """Measure and print the parts over one state."""
    parts = Parts(state)
    parts.measure()
    for side in ("worker", "enclave", "wallet"):
        rows = [[part.name, f"{part.us:.1f}"] for part in parts.parts if part.side == side]
        show(f"Parts of one answer: {side}, {state.count:,} merchants", [side, "µs"], rows)
    show("What travels", ["what", "bytes"], [[name, f"{size:,}"] for name, size in parts.sizes()])
    found = [Figure(f"part: {part.side}: {part.name.strip()}", round(part.us, 1), "µs") for part in parts.parts]
    return found + [Figure(f"size: {name}", float(size), "bytes") for name, size in parts.sizes()]
