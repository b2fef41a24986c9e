"""Makes tests/vectors/credential/*.json and tests/vectors/envelope/*.json and judges them. Deterministic.

What the sealed parts of query and chain hold: a device's credential, checked by enclave and platform, and an envelope,
opened by an enclave. docs/spec/vectors.md describes the fields.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chain_world import CHAIN_ID, DAY_MS, MERCHANT, NOW_MS, SERVICE, Platform, make_record
from onecode.errors import OnecodeError
from onecode.proof.leaves import KeyState, PlatformLeaf, PlatformStatus, Role
from onecode.query.credential import parse_credential, verify_credential
from onecode.query.messages import Credential, SignedCredential
from onecode.record.envelope import (
    RecordIds,
    SignedRecord,
    commitment,
    open_envelope,
    seal_envelope,
    sign_record,
    verify_commitment,
    verify_signed_record,
)
from onecode.schema import from_plain, parse, to_plain
from onecode.wire import Domain, SigningKey, encode, frame, sha256

HERE = Path(__file__).resolve().parent
Case = dict[str, Any]
A, B = Platform("A"), Platform("B")
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
NEUTRAL = b"\x01" + bytes(31)


# --- credentials ------------------------------------------------------------------------------------------------------


def credential_case(
    what: str,
    step: int,
    code: str | None,
    raw: bytes,
    *,
    without: str | None = "ok",
    leaf: PlatformLeaf | None = None,
    platform: Platform = A,
) -> Case:
    return {
        "what": what,
        "step": step,
        "expect": {"code": code, "without": without} if code else {"code": "ok"},
        "now_ms": NOW_MS,
        "chain_id": CHAIN_ID,
        "platform": platform.id.hex(),
        "leaf": (leaf or platform.leaf()).encoded().hex(),
        "credential": raw.hex(),
    }


def body(**changes: Any) -> Credential:
    _, honest = parse_credential(A.credential())
    return dataclasses.replace(honest, **changes)


def signed(
    raw: bytes, key: SigningKey | None = None, domain: Domain = Domain.CREDENTIAL, chain_id: str = CHAIN_ID
) -> SignedCredential:
    key = key or A.key(Role.DEVICE)
    return SignedCredential(body=raw, key=key.public, signature=key.sign(domain, chain_id, raw))


def keys(**changes: Any) -> PlatformLeaf:
    given = A.leaf().keys
    return A.leaf(keys=tuple(dataclasses.replace(key, **changes) if key.role == Role.DEVICE else key for key in given))


def encoding_cases() -> Iterator[tuple[str, Case]]:
    honest = A.credential()
    yield "00-ok", credential_case("a sound credential", 0, None, honest)
    yield (
        "00-trailing-byte",
        credential_case("a zero byte more", 0, "wire.trailing", honest + b"\0"),
    )
    yield (
        "00-truncated",
        credential_case("the last byte is missing", 0, "wire.truncated", honest[:-1], without=None),
    )
    plain = body().encoded()
    wide = plain.replace(b"\x01\x54", b"\x01\x58\x14", 1)
    yield (
        "00-body-other-encoding",
        credential_case("a signed body in another encoding", 0, "wire.not_canonical", signed(wide).encoded()),
    )
    more = bytes((plain[0] + 1,)) + plain[1:] + encode(64) + encode(True)
    yield (
        "00-body-unknown-field",
        credential_case("a signed body with a field 64", 0, "wire.field_unknown", signed(more).encoded()),
    )


def credential_cases() -> Iterator[tuple[str, Case]]:
    yield from encoding_cases()
    foreign = signed(body().encoded(), B.key(Role.DEVICE)).encoded()
    yield (
        "01-of-another-platform",
        credential_case("signed by B, it names A, and is shown as of B", 1, "credential.platform", foreign, platform=B),
    )
    for name, what, changes, code, without in (
        ("02-ok-24-hours", "exactly 24 h", {"valid_until_ms": NOW_MS - 1000 + DAY_MS}, None, None),
        ("02-window-too-long", "24 h and a millisecond", {"valid_until_ms": NOW_MS - 999 + DAY_MS}, "window", "ok"),
        ("02-window-empty", "it ends as it begins", {"valid_until_ms": NOW_MS - 1000}, "window", "credential.expired"),
        ("02-expired", "it ends this very millisecond", {"valid_until_ms": NOW_MS}, "expired", "ok"),
        ("02-ok-last-millisecond", "it ends in the next millisecond", {"valid_until_ms": NOW_MS + 1}, None, None),
        ("02-not-yet-valid", "it begins in the next millisecond", {"valid_from_ms": NOW_MS + 1}, "expired", "ok"),
        ("02-ok-first-millisecond", "it begins this very millisecond", {"valid_from_ms": NOW_MS}, None, None),
    ):
        raw = signed(body(**changes).encoded()).encoded()
        yield name, credential_case(what, 2, f"credential.{code}" if code else None, raw, without=without)
    honest = A.credential()
    for name, what, leaf, code in (
        ("03-platform-suspended", "suspended", A.leaf(status=PlatformStatus.SUSPENDED), "credential.suspended"),
        (
            "03-platform-not-yet-active",
            "admitted from now + 1 ms",
            A.leaf(active_from_ms=NOW_MS + 1),
            "credential.suspended",
        ),
        ("03-ok-active-from-now", "active from this millisecond", A.leaf(active_from_ms=NOW_MS), None),
        ("04-key-revoked", "the device key was revoked", keys(state=KeyState.REVOKED), "platform.key_state"),
        (
            "04-key-retired-24-hours-ago",
            "the device key was retired 24 h and 1 ms ago",
            keys(state=KeyState.RETIRED, since_ms=NOW_MS - DAY_MS - 1),
            "platform.key_state",
        ),
        ("04-ok-key-just-retired", "24 h ago", keys(state=KeyState.RETIRED, since_ms=NOW_MS - DAY_MS), None),
        ("04-key-expired", "the key's own end has passed", keys(not_after_ms=NOW_MS - 1), "platform.key_expired"),
    ):
        yield name, credential_case(what, int(name[:2]), code, honest, leaf=leaf)
    for name, what, key in (
        ("04-key-of-another-platform", "signed with B's device key", B.key(Role.DEVICE)),
        ("04-key-of-another-role", "signed with A's record key", A.key(Role.RECORD)),
        ("04-key-of-the-device-itself", "signed with the device's own key", A.device),
    ):
        yield name, credential_case(what, 4, "platform.key_unknown", signed(body().encoded(), key).encoded())
    yield from signature_cases()


def signature_cases() -> Iterator[tuple[str, Case]]:
    good = signed(body().encoded())
    forged = signed(body().encoded(), B.key(Role.DEVICE)).signature
    s = int.from_bytes(good.signature[32:], "little") + ED25519_ORDER
    for name, what, signature in (
        ("05-signature-by-another-key", "the platform's key is named, another one signed", forged),
        (
            "05-signature-for-another-chain",
            "signed for another network",
            signed(good.body, chain_id="onecode-other").signature,
        ),
        (
            "05-signature-in-another-domain",
            "signed as something else",
            signed(good.body, domain=Domain.QUERY).signature,
        ),
        ("05-signature-s-not-canonical", "s + L", good.signature[:32] + s.to_bytes(32, "little")),
        ("05-signature-of-another-credential", "of another account", signed(body(account=b"x").encoded()).signature),
    ):
        raw = dataclasses.replace(good, signature=signature).encoded()
        yield name, credential_case(what, 5, "signature.bad", raw)
    small = dataclasses.replace(good, key=NEUTRAL, signature=NEUTRAL + bytes(32)).encoded()
    yield (
        "05-signature-under-a-small-order-key",
        credential_case("the neutral point as a device key", 5, "signature.bad", small, leaf=keys(key=NEUTRAL)),
    )


def verify_credential_case(case: Case) -> None:
    leaf = parse(PlatformLeaf, unhex(case["leaf"]))
    verify_credential(case["chain_id"], unhex(case["credential"]), leaf, unhex(case["platform"]), case["now_ms"])


# --- envelopes --------------------------------------------------------------------------------------------------------

IDS = RecordIds(merchant=MERCHANT, platform=A.id, service=SERVICE, version=1, epoch=1)
SIGNED = sign_record(CHAIN_ID, make_record(A.id), sha256(b"salt"), A.key(Role.RECORD))
COMMITMENT = commitment(CHAIN_ID, IDS, SIGNED.salt, SIGNED.record)
NONCE = bytes(12)
ENVELOPE = seal_envelope(CHAIN_ID, IDS, SIGNED, A.epoch_keys[1], NONCE)


def envelope_case(
    what: str,
    code: str | None,
    *,
    envelope: bytes = ENVELOPE,
    ids: RecordIds = IDS,
    chain_id: str = CHAIN_ID,
    epoch_key: bytes = A.epoch_keys[1],
    committed: bytes = COMMITMENT,
    without: str | None = "ok",
) -> Case:
    return {
        "what": what,
        "expect": {"code": code, "without": without} if code else {"code": "ok"},
        "chain_id": chain_id,
        "ids": to_plain(ids),
        "epoch_key": epoch_key.hex(),
        "envelope": envelope.hex(),
        "commitment": committed.hex(),
    }


def resealed(change: Callable[[bytes], bytes]) -> bytes:
    """The envelope with its plaintext changed, padding included."""
    cipher, associated = AESGCMSIV(A.epoch_keys[1]), frame(Domain.ENVELOPE, CHAIN_ID, IDS.encoded())
    return NONCE + cipher.encrypt(NONCE, change(cipher.decrypt(NONCE, ENVELOPE[12:], associated)), associated)


def moved(name: str, what: str, **changes: Any) -> tuple[str, Case]:
    """A sound envelope where the chain says another id; the commitment is to the record under that id."""
    ids = dataclasses.replace(IDS, **changes)
    committed = commitment(CHAIN_ID, ids, SIGNED.salt, SIGNED.record)
    return name, envelope_case(what, "envelope.seal", ids=ids, committed=committed, without=None)


def with_record(record_changes: dict[str, Any], **signed_changes: Any) -> tuple[bytes, bytes]:
    """Envelope and commitment of another record."""
    record = dataclasses.replace(make_record(A.id), **record_changes)
    made = sign_record(CHAIN_ID, record, sha256(b"salt"), A.key(Role.RECORD))
    made = dataclasses.replace(made, **signed_changes)
    return (
        seal_envelope(CHAIN_ID, IDS, made, A.epoch_keys[1], NONCE),
        commitment(CHAIN_ID, IDS, made.salt, made.record),
    )


def envelope_cases() -> Iterator[tuple[str, Case]]:
    yield "ok", envelope_case("a sound envelope", None)
    yield moved("of-another-merchant", "the envelope is another merchant's", merchant=sha256(b"other")[:20])
    yield moved("of-another-platform", "the envelope is another platform's", platform=B.id)
    yield moved("of-another-service", "the envelope is for another service", service="loyalty")
    yield moved("of-another-version", "the envelope is of another version", version=2)
    yield moved("of-another-epoch", "the envelope is of another epoch", epoch=2)
    other = commitment("onecode-other", IDS, SIGNED.salt, SIGNED.record)
    yield (
        "of-another-chain",
        envelope_case("another network", "envelope.seal", chain_id="onecode-other", committed=other, without=None),
    )
    key = sha256(b"another epoch key")
    yield "key-of-another-epoch", envelope_case("another key", "envelope.seal", epoch_key=key, without=None)
    for name, what, envelope in (
        ("byte-altered", "one bit of the ciphertext", ENVELOPE[:40] + bytes((ENVELOPE[40] ^ 1,)) + ENVELOPE[41:]),
        ("nonce-altered", "one bit of the nonce", bytes((1,)) + ENVELOPE[1:]),
        ("truncated", "the last byte is missing", ENVELOPE[:-1]),
        ("extended", "a byte more", ENVELOPE + b"\0"),
        ("shorter-than-a-nonce", "eleven bytes", ENVELOPE[:11]),
    ):
        yield name, envelope_case(what, "envelope.seal", envelope=envelope, without=None)
    yield from plaintext_cases()


def plaintext_cases() -> Iterator[tuple[str, Case]]:
    size = len(SIGNED.encoded())
    for name, what, change, code, without in (
        ("padding-not-zero", "a bit in the padding", lambda plain: plain[:-1] + b"\x01", "envelope.padding", "ok"),
        (
            "padded-length-too-long",
            "a length beyond the plaintext",
            lambda plain: len(plain).to_bytes(4, "big") + plain[4:],
            "envelope.padding",
            "wire.trailing",
        ),
        (
            "signed-record-trailing-byte",
            "a zero byte after the signed record",
            lambda plain: (size + 1).to_bytes(4, "big") + plain[4:],
            "wire.trailing",
            "ok",
        ),
    ):
        yield name, envelope_case(what, code, envelope=resealed(change), without=without)
    thief, _ = with_record({"display_name": "A thief's shop"})
    yield "another-record", envelope_case("a record that is not committed to", "record.commitment", envelope=thief)
    salted, _ = with_record({}, salt=sha256(b"another salt"))
    yield "another-salt", envelope_case("the record with another salt", "record.commitment", envelope=salted)
    forged = sign_record(CHAIN_ID, make_record(A.id), sha256(b"salt"), B.key(Role.RECORD)).signature
    envelope, committed = with_record({}, signature=forged)
    yield (
        "signature-by-another-key",
        envelope_case("another key signed", "signature.bad", envelope=envelope, committed=committed),
    )
    for field, value in (
        ("merchant", sha256(b"other")[:20]),
        ("platform", B.id),
        ("service", "loyalty"),
        ("version", 2),
    ):
        envelope, committed = with_record({field: value})
        yield (
            f"record-names-another-{field}",
            envelope_case(f"another {field}", "record.ids", envelope=envelope, committed=committed),
        )


def verify_envelope_case(case: Case) -> None:
    ids = from_plain(RecordIds, case["ids"])
    opened = open_envelope(case["chain_id"], ids, unhex(case["envelope"]), AESGCMSIV(unhex(case["epoch_key"])))
    found: SignedRecord = verify_commitment(case["chain_id"], ids, opened, unhex(case["commitment"]))
    verify_signed_record(case["chain_id"], ids, found)


# --- both -------------------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Callable[[], Iterator[tuple[str, Case]]], Callable[[Case], None]]] = {
    "credential": (credential_cases, verify_credential_case),
    "envelope": (envelope_cases, verify_envelope_case),
}


def cases() -> dict[str, Case]:
    """Every case by "kind/name"."""
    return {f"{kind}/{name}": case for kind, (made, _) in KINDS.items() for name, case in made()}


def verdict(kind: str, case: Case) -> str:
    """ "ok" or the code of the error."""
    try:
        KINDS[kind][1](case)
    except OnecodeError as error:
        return error.code
    return "ok"


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def text(case: Case) -> str:
    return json.dumps(case, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    for full, made_case in cases().items():
        path = HERE / f"{full}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(made_case), encoding="ascii")
        got = verdict(path.parent.name, made_case)
        if got != made_case["expect"]["code"]:
            print("WRONG", full, made_case["expect"], got)
