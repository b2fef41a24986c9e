"""A partner's record, as the enclave of the platform's own node opens it: the platform asks as a wallet of its own.

The platform makes a fresh device for each question; its own bucket in the enclave bounds how much it asks. A record is
kept by its commitment, so that the next payment by it needs no question, only the proof that its link is still live.
"""

from __future__ import annotations

from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.platform.context import Platform
from onecode.platform.schema import PartnerRecord
from onecode.proof.leaves import Link
from onecode.query.credential import sign_credential
from onecode.query.messages import PROTOCOL, Answer, ClearQuery, Credential, MatchMode, SecretQuery
from onecode.query.sealing import build_query, open_result
from onecode.query.verify import VerifiedRecord, VerifiedState, verify_record, verify_records
from onecode.schema import parse
from onecode.wire import SigningKey, sha256

CREDENTIAL_MS = 300_000
CREDENTIAL_SKEW_MS = 60_000
ACCOUNT = b"platform"  # the account of the platform's own questions; no payer's, those have 16 bytes


def fetch_partner_record(platform: Platform, state: VerifiedState, link: Link) -> VerifiedRecord:
    """The record of a partner's proven, live link, verified; `Unreachable` where no enclave opens it now."""
    with platform.database.read() as session:
        kept = session.get(PartnerRecord, link.commitment)
    chain_id, now_ms = platform.config.chain_id, platform.clock_ms()
    if kept is not None:
        try:
            return verify_record(state, chain_id, link, kept.signed_record, now_ms)
        except Untrusted as error:  # the partner's fault; a revoked record key, for example
            raise _unpayable(error) from error
    verified = _ask(platform, state, link)
    with platform.database.write() as session:
        session.merge(PartnerRecord(commitment=link.commitment, signed_record=verified.signed.encoded()))
    return verified


def _unpayable(error: OnecodeError) -> Declined:
    return Declined("partner.record", f"the partner's record cannot be paid now: {error.message} [{error.code}]")


def _ask(platform: Platform, state: VerifiedState, link: Link) -> VerifiedRecord:
    """Ask the own node's enclave. Entry, links and platforms were proven before: of the answer only what is sealed
    is used, and that is verified against them (docs/spec/verification.md, steps 20 to 24)."""
    chain_id, now_ms = platform.config.chain_id, platform.clock_ms()
    query_key, height = platform.chain.fetch_enclave()
    device = SigningKey.from_seed(platform.entropy(32))
    credential = Credential(
        platform=platform.id,
        device=device.public,
        account=ACCOUNT,
        valid_from_ms=now_ms - CREDENTIAL_SKEW_MS,
        valid_until_ms=now_ms + CREDENTIAL_MS,
    )
    clear = ClearQuery(
        protocol=PROTOCOL,
        chain_id=chain_id,
        merchant=state.merchant,
        service=state.service,
        query_key=query_key,
        have_height=height,
    )
    secret = SecretQuery(
        query_id=platform.entropy(16),
        credential=sign_credential(chain_id, credential, platform.keys.device),
        accepted=(link.platform,),
        mode=MatchMode.NODE,
        time_ms=now_ms,
        reply_key=platform.entropy(32),
    )
    query = build_query(clear, secret, device)
    raw = platform.chain.ask(query.encoded())
    try:
        answer = parse(Answer, raw, path="node")
        result = open_result(chain_id, answer.sealed, secret.reply_key, sha256(query.clear))
        return verify_records(
            state, chain_id, result, secret.query_id, secret.mode, secret.accepted, platform.id, now_ms
        )[0]
    except (Untrusted, Malformed, Declined) as error:
        if error.code == "record.expired":
            raise
        raise Unreachable(
            "partner.unopened", f"the partner's record cannot be had now: {error.message} [{error.code}]"
        ) from error
