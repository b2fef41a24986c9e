"""Trust files in and out: where the platform's own light client starts, and what its wallets start from."""

from __future__ import annotations

from onecode.errors import Misconfigured, Untrusted
from onecode.host.files import FILE_BYTES_MAX, load_private
from onecode.platform.config import PlatformConfig
from onecode.platform.keyring import Keyring
from onecode.proof.governance import DAY_MS
from onecode.proof.light import Trust, trusted_state
from onecode.proof.trust import AnchorCertificate, TrustBody, TrustFile, sign_trust_file, verify_trust_file
from onecode.query.messages import HeaderView
from onecode.schema import parse
from onecode.wire import SigningKey

TRUSTING_PERIOD_MS = 14 * DAY_MS


def build_trust_file(view: HeaderView, certificate: AnchorCertificate, anchor: SigningKey, now_ms: int) -> TrustFile:
    """A trust file for a header that the caller has verified, or believes because the chain begins with it."""
    body = TrustBody(
        chain_id=view.header.header.chain_id,
        header=view.header,
        validators=view.validators,
        trusting_period_ms=TRUSTING_PERIOD_MS,
        issued_ms=now_ms,
    )
    return sign_trust_file(body, certificate, anchor)


def load_certificate(config: PlatformConfig, keys: Keyring) -> AnchorCertificate:
    """The anchor key's certificate by the root; raises `Misconfigured` if it is for other keys."""
    raw = load_private(config.anchor_certificate_file)
    certificate = parse(AnchorCertificate, raw, path="anchor_certificate")
    if certificate.root != config.root_public_key or certificate.anchor != keys.anchor.public:
        raise Misconfigured(
            "trust.certificate",
            "the anchor certificate is for another root or anchor key",
            field="anchor_certificate_file",
        )
    return certificate


def load_trust(config: PlatformConfig, stored: HeaderView | None, now_ms: int) -> Trust:
    """Where the light client starts: the trust file's header, or the newer one that it verified in an earlier run.

    A trust file that is no longer valid matters only while no header is stored. Two headers of one height that differ
    are refused, whichever is right.
    """
    try:
        data = config.trust_file.read_bytes()[: FILE_BYTES_MAX + 1]
    except OSError as error:
        raise Misconfigured(
            "trust.unreadable", f"{config.trust_file} cannot be read: {error.strerror}", field="trust_file"
        ) from None
    kept = Trust(trusted_state(stored.header.header, stored.validators)) if stored is not None else None
    try:
        trust, _ = verify_trust_file(
            data, config.root_public_key, config.chain_id, now_ms, allow_solo=config.allow_solo
        )
    except Untrusted as error:
        if kept is None or error.code not in ("trust.anchor_expired", "header.trust_expired"):
            raise
        return kept
    if kept is None or kept.state.header.height < trust.state.header.height:
        return trust
    if kept.state.header.height == trust.state.header.height and kept.state.header_hash != trust.state.header_hash:
        raise Misconfigured("trust.conflict", "trust file and database hold different headers of one height")
    return kept
