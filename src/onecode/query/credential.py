"""Device credentials: a platform's word, for at most 24 hours, that a device is a wallet of it."""

from __future__ import annotations

from onecode.errors import Untrusted
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.query.messages import CREDENTIAL_MS_MAX, Credential, SignedCredential
from onecode.schema import parse
from onecode.wire import Domain, SigningKey, verify_signature


def sign_credential(chain_id: str, credential: Credential, key: SigningKey) -> bytes:
    """The encoded `SignedCredential`, by one of the platform's device keys."""
    body = credential.encoded()
    signature = key.sign(Domain.CREDENTIAL, chain_id, body)
    return SignedCredential(body=body, key=key.public, signature=signature).encoded()


def parse_credential(raw: bytes) -> tuple[SignedCredential, Credential]:
    """Both layers of a credential, unverified."""
    signed = parse(SignedCredential, raw, path="credential")
    return signed, parse(Credential, signed.body, path="credential.body")


def verify_credential(chain_id: str, raw: bytes, platform: PlatformLeaf, platform_id: bytes, now_ms: int) -> Credential:
    """The credential in `raw`, verified as `verify_parsed` does."""
    return verify_parsed(chain_id, *parse_credential(raw), platform, platform_id, now_ms)


def verify_parsed(
    chain_id: str,
    signed: SignedCredential,
    credential: Credential,
    platform: PlatformLeaf,
    platform_id: bytes,
    now_ms: int,
) -> Credential:
    """The credential, which is what `signed` holds, issued by `platform`, whose leaf the caller has proven.

    1. It names this platform. 2. The window is at most 24 h and `now_ms` is inside it. 3. The platform is active.
    4. The key is a device key of the platform that still verifies. 5. The signature holds.
    Does not check that the caller holds the device key (see `verify_device`).
    """
    if credential.platform != platform_id:  # 1
        raise Untrusted("credential.platform", "the credential is of another platform", field="credential")
    window_ms = credential.valid_until_ms - credential.valid_from_ms
    if not 0 < window_ms <= CREDENTIAL_MS_MAX:  # 2
        raise Untrusted("credential.window", "a credential is valid for at most 24 hours", field="credential")
    if not credential.valid_from_ms <= now_ms < credential.valid_until_ms:
        raise Untrusted("credential.expired", "the credential is not valid now; renew it", field="credential")
    if not platform.active_at(now_ms):  # 3
        raise Untrusted("credential.suspended", "the credential's platform is not active", field="credential")
    platform.require_key(Role.DEVICE, signed.key, now_ms)  # 4
    verify_signature(  # 5
        signed.key, signed.signature, Domain.CREDENTIAL, chain_id, signed.body, field="credential.signature"
    )
    return credential
