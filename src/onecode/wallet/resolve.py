"""From a merchant to the record that may be paid: the query a wallet sends, and what it believes of the answer.

Trusted code: no I/O; time and entropy are arguments. Steps are those of docs/spec/verification.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from onecode.code.order import VerifiedOrder, verify_order
from onecode.code.reading import Code, ForeignCode
from onecode.errors import Declined, Misconfigured, Unreachable, Untrusted
from onecode.proof.light import VerifiedHeader, require_fresh
from onecode.proof.map import Section, verify_roots
from onecode.query.follow import Follower
from onecode.query.messages import (
    PROTOCOL,
    Alias,
    Answer,
    ClearQuery,
    MatchMode,
    Query,
    Result,
    SecretQuery,
)
from onecode.query.sealing import build_query, open_result
from onecode.query.verify import VerifiedRecord, verify_platforms, verify_records, verify_state, verify_target
from onecode.record.payment import SERVICE_PAY, PaymentTerms, parse_terms
from onecode.schema import parse
from onecode.wallet.network import VerifiedNetwork
from onecode.wallet.printed import Difference, find_differences
from onecode.wire import SigningKey, sha256

QUERY_ENTROPY_BYTES = 48  # query id and reply key
HEADER_AGE_MS_MAX = 30_000


@dataclass(frozen=True, slots=True)
class Payer:
    """Who asks. partners: platforms whose records the wallet accepts when its own has none, in order of preference."""

    chain_id: str
    platform: bytes
    credential: bytes
    device: SigningKey
    partners: tuple[bytes, ...] = ()

    @property
    def accepted(self) -> tuple[bytes, ...]:
        """Accepted platforms, the own one first."""
        return tuple(dict.fromkeys((self.platform, *self.partners)))


@dataclass(frozen=True, slots=True)
class Pending:
    """A query on its way, with what its answer is checked against."""

    query: Query
    clear: ClearQuery
    secret: SecretQuery = field(repr=False)
    payer: Payer
    network: VerifiedNetwork = field(repr=False)
    newest: VerifiedHeader = field(repr=False)
    code: Code | ForeignCode | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a wallet may pay and must show.

    target: the record that fits, the only one to pay. others: further records it may read (mode `wallet`), best first.
    differences: where the code prints something else than the record says; the record holds.
    code: what was scanned. order: of a dynamic code, verified. header_age_ms: how old the chain's word is.
    """

    target: VerifiedRecord
    others: tuple[VerifiedRecord, ...]
    terms: PaymentTerms
    differences: tuple[Difference, ...]
    code: Code | ForeignCode | None
    order: VerifiedOrder | None
    header_age_ms: int


def build_pending(
    subject: bytes | Sequence[Alias],
    payer: Payer,
    network: VerifiedNetwork,
    newest: VerifiedHeader,
    mode: MatchMode,
    entropy: bytes,
    now_ms: int,
    *,
    code: Code | ForeignCode | None = None,
) -> Pending:
    """The sealed, signed query for a merchant id or the aliases of a label; `entropy` is 48 fresh random bytes.

    `newest` is the newest header that the wallet has verified: no answer may go behind it. `code` is what was scanned,
    if it was: the answer is compared with it.
    """
    if len(entropy) != QUERY_ENTROPY_BYTES:
        raise Misconfigured("wallet.entropy", f"a query takes {QUERY_ENTROPY_BYTES} random bytes", field="entropy")
    clear = ClearQuery(
        protocol=PROTOCOL,
        chain_id=payer.chain_id,
        merchant=subject if isinstance(subject, bytes) else None,
        aliases=None if isinstance(subject, bytes) else tuple(subject),
        service=SERVICE_PAY,
        query_key=network.query_key,
        have_height=newest.header.height,
        have_platforms_root=network.platforms_root,
    )
    secret = SecretQuery(
        query_id=entropy[:16],
        credential=payer.credential,
        accepted=payer.accepted,
        mode=mode,
        time_ms=now_ms,
        reply_key=entropy[16:],
    )
    return Pending(build_query(clear, secret, payer.device), clear, secret, payer, network, newest, code)


def _verify_answer_header(
    pending: Pending, answer: Answer, headers: Follower, now_ms: int, header_age_ms_max: int
) -> VerifiedHeader:
    """Steps 1 to 12, or step 12 alone for the header that the query named as the wallet's own."""
    own = pending.newest
    if answer.height < own.header.height:
        raise Unreachable("node.behind", "the node is behind the wallet's newest header; ask another node")
    if answer.header is not None and answer.validators is not None:
        if answer.header.header.height != answer.height:
            raise Untrusted("answer.height", "the answer's header is of another height than the answer", field="height")
        return headers.verify_next(answer.header, answer.validators, now_ms)
    if answer.height != own.header.height:
        raise Untrusted("answer.header_withheld", "the answer lacks a header that the wallet does not have")
    require_fresh(own, now_ms, header_age_ms_max)
    return own


def _require_proven_refusal(result: Result, query_id: bytes) -> None:
    """Refuse a "no" that stands on the enclave's word alone: the chain has just proven the contrary."""
    if result.query_id == query_id and result.refusal is not None and result.branch == Declined.branch:
        raise Untrusted(
            "result.declined_unproven", "the enclave declines what the chain proves; ask another node", field="refusal"
        )


def _match(records: Sequence[VerifiedRecord], accepted: Sequence[bytes]) -> VerifiedRecord:
    """The wallet's own matching: by the platform id that is recorded in the record, in its order of preference."""
    for platform in accepted:
        for found in records:
            if found.record.platform == platform:
                return found
    raise Unreachable("record.unmatched", "no opened record is of an accepted platform; ask another node")


def resolve_answer(
    pending: Pending,
    answer_bytes: bytes,
    headers: Follower,
    now_ms: int,
    header_age_ms_max: int = HEADER_AGE_MS_MAX,
) -> Resolution:
    """What `answer_bytes` establish about the merchant asked for: all of steps 1 to 24, in order, or an error.

    1 to 12: the header, or the wallet's own for this height, fresh. 13 to 18: roots, aliases, merchant, links,
    platforms. 19: the target, by public data; so every proven absence is `Declined` before the sealed part is read.
    20 to 24: the sealed result and its records. Then the wallet matches by itself, compares the printed code with the
    record and, for a dynamic code, verifies the order with the merchant's proven order keys.
    Does not check that the platform will take the payment: limits and currency are for `wallet/pay.py`.
    """
    answer = parse(Answer, answer_bytes, path="answer")
    header = _verify_answer_header(pending, answer, headers, now_ms, header_age_ms_max)  # steps 1 to 12
    verify_roots(answer.roots, header.header.app_hash)  # step 13, before anything is proven under the roots
    network, secret, payer = pending.network, pending.secret, pending.payer
    same = answer.roots.root(Section.PLATFORMS) == network.platforms_root
    platforms = verify_platforms(answer.platforms, answer.roots, network.platforms if same else {})
    state = verify_state(pending.clear, header, answer.roots, answer.aliases, answer.merchant, platforms)  # 13 to 18
    verify_target(state, secret.accepted, payer.platform)  # step 19
    result = open_result(payer.chain_id, answer.sealed, secret.reply_key, sha256(pending.query.clear))
    _require_proven_refusal(result, secret.query_id)
    records = verify_records(  # steps 20 to 24
        state, payer.chain_id, result, secret.query_id, secret.mode, secret.accepted, payer.platform, now_ms
    )
    target = _match(records, secret.accepted)
    terms = parse_terms(target.record.terms)
    code, order = pending.code, None
    if isinstance(code, Code) and code.order is not None:
        order = verify_order(code, state.entry.order_keys_at(header.signed_ms), payer.chain_id, now_ms)
    return Resolution(
        target=target,
        others=tuple(record for record in records if record is not target),
        terms=terms,
        differences=find_differences(code, target.record, terms) if code is not None else (),
        code=code,
        order=order,
        header_age_ms=max(0, now_ms - header.signed_ms),
    )
