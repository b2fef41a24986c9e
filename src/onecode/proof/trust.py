"""Trust files: where a wallet, an enclave or a key service starts. A header, signed by a platform's anchor key.

The anchor key is certified by the platform's root key for at most 90 days; whoever reads the file pins that root. So a
trust file never asks to be believed for its content alone.
"""

from __future__ import annotations

from onecode.errors import Untrusted
from onecode.proof.header import SignedHeader, ValidatorSet, header_hash
from onecode.proof.leaves import KEY, TIME_MS
from onecode.proof.light import Trust, VerifiedHeader, trusted_state, verify_header
from onecode.schema import Bytes, Message, Nested, Text, Uint, item, parse
from onecode.wire import Domain, SigningKey, encode, verify_signature

TRUST_FILE_BYTES_MAX = 1 << 18
TRUSTING_PERIOD_MS_MAX = 14 * 24 * 3600 * 1000
ANCHOR_MS_MAX = 90 * 24 * 3600 * 1000
SOLO_PREFIX = "solo-"


class TrustBody(Message):
    chain_id: str = item(1, Text(50))
    header: SignedHeader = item(2, Nested(SignedHeader))
    validators: ValidatorSet = item(3, Nested(ValidatorSet))
    trusting_period_ms: int = item(4, Uint((1 << 53) - 1))
    issued_ms: int = item(5, TIME_MS)


class TrustFile(Message):
    body: bytes = item(1, Bytes(1, TRUST_FILE_BYTES_MAX))
    root: bytes = item(2, KEY)
    anchor: bytes = item(3, KEY)
    anchor_not_after_ms: int = item(4, TIME_MS)
    certificate: bytes = item(5, Bytes(64))  # root key over anchor key and its end
    signature: bytes = item(6, Bytes(64))  # anchor key over the body


class AnchorCertificate(Message):
    """The root key's word, made offline, that an anchor key may sign trust files until `anchor_not_after_ms`."""

    root: bytes = item(1, KEY)
    anchor: bytes = item(2, KEY)
    anchor_not_after_ms: int = item(3, TIME_MS)
    certificate: bytes = item(4, Bytes(64))


def _certified(anchor: bytes, anchor_not_after_ms: int) -> bytes:
    return encode(["anchor", anchor, anchor_not_after_ms])


def certify_anchor(chain_id: str, root: SigningKey, anchor: bytes, anchor_not_after_ms: int) -> AnchorCertificate:
    """A certificate for the public key `anchor`; its readers accept at most 90 days."""
    signature = root.sign(Domain.TRUST_FILE, chain_id, _certified(anchor, anchor_not_after_ms))
    return AnchorCertificate(
        root=root.public, anchor=anchor, anchor_not_after_ms=anchor_not_after_ms, certificate=signature
    )


def verify_anchor(chain_id: str, given: AnchorCertificate | TrustFile, at_ms: int) -> None:
    """That the root certified the anchor key, for at most 90 days, and that this had not ended at `at_ms`.

    Does NOT check whose the root is.
    """
    certified = _certified(given.anchor, given.anchor_not_after_ms)
    verify_signature(given.root, given.certificate, Domain.TRUST_FILE, chain_id, certified, field="certificate")
    if not at_ms < given.anchor_not_after_ms <= at_ms + ANCHOR_MS_MAX:
        raise Untrusted("trust.anchor_expired", "the anchor key's certificate has ended or is too long", field="anchor")


def sign_trust_file(body: TrustBody, certificate: AnchorCertificate, anchor: SigningKey) -> TrustFile:
    """A trust file signed by the anchor key that `certificate` is for."""
    raw = body.encoded()
    return TrustFile(
        body=raw,
        root=certificate.root,
        anchor=certificate.anchor,
        anchor_not_after_ms=certificate.anchor_not_after_ms,
        certificate=certificate.certificate,
        signature=anchor.sign(Domain.TRUST_FILE, body.chain_id, raw),
    )


def verify_trust_file(
    data: bytes, pinned_root: bytes, chain_id: str, now_ms: int, *, allow_solo: bool
) -> tuple[Trust, VerifiedHeader]:
    """What to verify headers against, from an untrusted file.

    1. The file is by the pinned root. 2. It is for this chain; a `solo-` chain only where configured. 3. The root
    certified the anchor key, for at most 90 days, and it has not ended. 4. The anchor signed the body. 5. The header
    has the commit of its own validators and is within the trusting period (`verify_header`, steps 1 to 11).
    Does not check that the header is newer than one the reader has verified: the reader keeps the newer.
    """
    file = parse(TrustFile, data, size_max=TRUST_FILE_BYTES_MAX, path="trust_file")
    if file.root != pinned_root:  # 1
        raise Untrusted("trust.root", "the trust file is signed under another root than the pinned one", field="root")
    body = parse(TrustBody, file.body, path="trust_file.body")
    if body.chain_id != chain_id:  # 2
        raise Untrusted("trust.chain", "the trust file is for another chain", field="chain_id")
    if chain_id.startswith(SOLO_PREFIX) and not allow_solo:
        raise Untrusted(
            "trust.solo",
            "a solo chain is one organisation's word: allow it with --allow-solo, or `allow_solo` in a configuration",
            field="chain_id",
        )
    verify_anchor(chain_id, file, now_ms)  # 3
    verify_signature(file.anchor, file.signature, Domain.TRUST_FILE, chain_id, file.body, field="signature")  # 4
    if body.trusting_period_ms > TRUSTING_PERIOD_MS_MAX:
        raise Untrusted(
            "trust.period", "the trust file's trusting period is longer than 14 days", field="trusting_period_ms"
        )
    trust = Trust(trusted_state(body.header.header, body.validators), body.trusting_period_ms)
    header = verify_header(body.header, body.validators, trust, now_ms)  # 5
    return trust, header


def trust_anchor_hash(trust: Trust) -> bytes:
    """Hash of the header that everything is verified from; bound into an enclave's evidence."""
    return header_hash(trust.state.header)
